"""Training in environments outside of JAX: acting and learning are compiled, and a loop of Python lies between them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.envs import Wrappers
from purejaxrl_a3c.host.vector import HostEnv, make
from purejaxrl_a3c.loops import acting, iteration, rollout
from purejaxrl_a3c.loops.exploration import lasting_noise
from purejaxrl_a3c.loops.iteration import Parts, State
from purejaxrl_a3c.loops.on_policy import finish, start_learning
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build
from purejaxrl_a3c.types import ClockedRule, Key, Metrics, Params, Trajectory, UpdateRule


class Acts(NamedTuple):
    """What is drawn once a rollout."""

    params: Params  # that act, leaves [W, ...]
    noise: Any  # leaves [T, W, B, ...]
    level: Any  # of exploration, leaves [W, B]


class Programs(NamedTuple):
    """The compiled parts of an iteration."""

    begin: Callable[[Key, State], Acts]
    """(key of the run, state) -> `Acts` of the next iteration."""
    act: Callable[..., Any]
    """(params, level, noise [W, B], carry, obs [W, B, ...], first) -> (carry, action, the environment's action,
    log-probability)."""
    learn: Callable[..., tuple[State, Metrics, Acts]]
    """(key of the run, state, `Acts`, rows [T, W, B], carries after each step, end observation, end carry) -> (state,
    metrics, `Acts` of the next iteration)."""


def train(
    config: AlgorithmConfig,
    key: Key,
    env: HostEnv | None = None,
    on_iteration: Callable[[State, Metrics], None] | None = None,
) -> Result:
    """A run of an on-policy algorithm in environments outside of JAX.

    The algorithm is the same as in `make_train`: the network, the objective, the update rule and its schedule of
    workers, whose staleness is simulated here as there. With the same observations it learns the same parameters. The
    environments of all workers step together. Their states are not part of the result, so a run cannot be resumed; it
    repeats if the environments do.

    Args:
        config: the ``Config`` of an on-policy algorithm whose ``env_id`` begins with ``gym/`` or ``ale/``.
        key: consumed; also the environments' seed is made of it.
        env: environments of one's own, as many as ``config`` has; None: those of ``env_id``. They are not closed.
        on_iteration: called after every iteration with the state and the metrics of that iteration.

    Returns:
        A `Result`; the metrics are arrays of NumPy ``[I]``.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    algorithm = build(config)
    parts = check_parts(config, algorithm.parts)
    count = parts.layout.workers * parts.layout.envs
    own = make(config.env.env_id, count) if env is None else env  # type: ignore[attr-defined]
    try:
        check_env(parts, own, count)
        reports = []
        for state, metrics in iterations(parts, own, randomness.as_key(key)):
            reports.append(jax.device_get(metrics))
            if on_iteration is not None:
                on_iteration(state, metrics)
    finally:
        if env is None:
            own.close()
    return Result(state, jax.tree.map(lambda *rows: np.stack(rows), *reports))


def iterations(parts: Parts, env: HostEnv, key: Key) -> Any:
    """The states and the metrics of a run, one after the other."""
    programs = compile_parts(parts)
    key_init, key_run = jax.random.split(key)
    key_network, key_env, key_rule, key_bonus = jax.random.split(key_init, 4)
    shape = parts.layout.workers, parts.layout.envs
    obs = env.reset(int(jax.random.randint(key_env, (), 0, 2**31 - 1))).reshape(*shape, *env.observation_shape)
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape)), parts.network.carry())
    actor_state = rollout.ActorState((), jnp.asarray(obs), jnp.ones(shape, bool), carry)
    params = parts.network.init(key_network)
    state = start_learning(key_rule, key_bonus, parts, params, actor_state)
    first = np.ones(shape, bool)
    acts = programs.begin(key_run, state)
    for _ in range(parts.layout.iterations):
        rows, carries, obs, first, carry = collect(parts, programs, env, acts, obs, first, carry)
        state, metrics, acts = programs.learn(key_run, state, acts, rows, carries, obs, carry)
        yield state, metrics


def collect(
    parts: Parts, programs: Programs, env: HostEnv, acts: Acts, obs: np.ndarray, first: np.ndarray, carry: Any
) -> Any:
    """A rollout of all environments.

    Returns:
        ``(rows, carries, obs, first, carry)``: the fields of a `Trajectory` by name, arrays of NumPy
        ``[T, W, B, ...]``, the carry after each step, and where the next rollout starts.
    """
    shape = first.shape
    noise = jax.device_get(acts.noise)
    steps: list[dict[str, np.ndarray]] = []
    carries: list[Any] = []
    for t in range(parts.layout.rollout_length):
        noise_now = jax.tree.map(lambda x, t=t: x[t], noise)
        carry, *found = programs.act(acts.params, acts.level, noise_now, carry, obs, first)
        action, native, log_prob = (np.asarray(x) for x in found)
        answer = env.step(native.reshape(env.num_envs, *native.shape[2:]))
        answered = {name: x.reshape(*shape, *x.shape[1:]) for name, x in answer._asdict().items()}
        row = {"obs": obs, "first": first, "action": action, "log_prob": log_prob}
        steps.append(row | {name: x for name, x in answered.items() if name != "obs"})
        carries.append(carry)
        obs, first = answered["obs"], answered["terminated"] | answered["truncated"]
    rows = {name: np.stack([row[name] for row in steps]) for name in steps[0]}
    return rows, carries, obs, first, carry


def compile_parts(parts: Parts) -> Programs:
    """The `Programs` of an algorithm; they are compiled when they are first called."""
    network, layout, rule = parts.network, parts.layout, parts.rule
    assert isinstance(rule, UpdateRule)
    workers = layout.own_workers()

    def begin(key: Key, state: State) -> Acts:
        key_act = iteration.keys_of(jax.random.fold_in(key, state.iteration)).act
        index = randomness.components(layout.numbers(workers), layout.rollout_length)
        noise, _ = rollout.draw(network, key_act, index)
        noise = lasting_noise(parts.exploration, noise, axis=2)
        level = acting.levels(parts.acting, state.iteration, workers)
        return Acts(rule.actor(state.learner), jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), noise), level)

    def act(params: Params, level: Any, noise: Any, carry: Any, obs: jax.Array, first: jax.Array) -> Any:
        def one(params: Params, level: Any, noise: Any, carry: Any, obs: jax.Array, first: jax.Array) -> Any:
            carry, outputs = network.step(params, carry, obs, first)
            policy = parts.exploration.behave(outputs.policy, level)
            action = policy.sample(noise)
            return carry, action, policy.to_env_action(action), policy.log_prob(action)

        return jax.vmap(jax.vmap(one, (None, 0, 0, 0, 0, 0)))(params, level, noise, carry, obs, first)

    def learn(
        key: Key, state: State, acts: Acts, rows: dict[str, Any], carries: list[Any], end_obs: Any, carry: Any
    ) -> tuple[State, Metrics, Acts]:
        rows = {name: jnp.moveaxis(x, 0, 2) for name, x in rows.items()}
        after = jax.tree.map(lambda *steps: jnp.stack(steps, axis=2), *carries)
        trajectories = Trajectory(**rows, carry=state.actor_state.carry, next_carry=after, end_obs=end_obs)
        first = rows["terminated"][:, :, -1] | rows["truncated"][:, :, -1]
        actor_state = rollout.ActorState((), end_obs, first, carry)
        keys = iteration.keys_of(jax.random.fold_in(key, state.iteration))
        done = iteration.learn_from(keys, parts, rule, state, acts.params, acts.level, actor_state, trajectories)
        state, metrics = finish(parts, state, done)
        return state, metrics, begin(key, state)

    return Programs(jax.jit(begin), jax.jit(act), jax.jit(learn))


def check_parts(config: Any, parts: Any) -> Parts:
    """The parts of an algorithm that can be trained here.

    Raises:
        InputError: for an algorithm or a setting that cannot be used here.
    """
    if not isinstance(parts, Parts):
        reject("config", config, "the Config of an on-policy algorithm, without a bonus")
    if parts.bonus is not None:
        reject("config", config, "without a bonus, for environments outside of JAX")
    if isinstance(parts.rule, ClockedRule):
        reject("schedule", "clock", "random or round_robin, for environments outside of JAX")
    if parts.layout.group_size:
        reject("group_size", parts.layout.group_size, "0: environments outside of JAX cannot begin the same episode")
    wrappers = getattr(config.env, "wrappers", Wrappers())
    for name, default in vars(Wrappers()).items():
        if getattr(wrappers, name) != default:
            reject(name, getattr(wrappers, name), f"{default!r}, for environments outside of JAX")
    return parts


def check_env(parts: Parts, env: HostEnv, count: int) -> None:
    """Check that these are as many environments as the run has, with the observations and actions that it expects.

    Raises:
        InputError: naming what differs.
    """
    if env.num_envs != count:
        reject("env", f"{env.num_envs} environments", f"{count} environments, as the config says")
    for name in ("observation_shape", "action_space"):
        if getattr(env, name) != getattr(parts.env, name):
            reject("env", f"{name} {getattr(env, name)}", f"of {name} {getattr(parts.env, name)}")

"""Evaluation over whole episodes."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import envs
from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.config import check, flat, is_concrete, parts, replace, with_array_floats
from purejaxrl_a3c.loops import acting, rollout
from purejaxrl_a3c.loops.opponents import as_player
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build
from purejaxrl_a3c.types import Algorithm, Env, Key, Noise, State, TimeStep


def evaluate(
    config: AlgorithmConfig,
    state: State | Result,
    key: Key,
    episodes: int = 128,
    deterministic: bool = False,
    max_steps: int = 200_000,
    opponent: State | Result | str | None = None,
) -> jax.Array:
    """Undiscounted returns of whole episodes under the policy of ``state``.

    Every episode starts afresh in an environment of its own and is counted once, when it ends, so short episodes are
    not counted more often than long ones. Returns are of the environment's own rewards, before any wrapper changed
    them. Statistics that normalise observations stay as they were at the end of training. The function can be mapped
    over ``state`` and ``key``, and over arrays in ``config``.

    Args:
        config: the ``Config`` that ``state`` was trained with. Its environment may differ in parameters and time limit.
        state: a `Result`, or its ``state``.
        key: consumed.
        episodes: ``N``, an int >= 1.
        deterministic: take the most probable action instead of a sampled one.
        max_steps: steps of an episode after which the evaluation gives up; a deterministic policy may never end one.
        opponent: in a game for two, the name of an opponent, or another trained state of the same ``config``, whose
            actions are sampled; None: the opponent of ``config``, and random after self-play.

    Returns:
        float32 ``[N]``. NaN if a parameter of the policy is not finite and, where the function is traced, for an
        episode that did not end.

    Raises:
        InputError: if ``state`` is not one of ``config``, or an episode has not ended after ``max_steps``.
    """
    check_count("episodes", episodes)
    check_count("max_steps", max_steps)
    check(config)
    state = state.state if isinstance(state, Result) else state
    config, opponent = _with_opponent(config, opponent)
    found = _evaluate(
        with_array_floats(config), state, randomness.as_key(key), episodes, deterministic, max_steps, opponent
    )
    if is_concrete(found.ended) and not np.all(found.ended):
        unfinished = f"{int(np.sum(~np.asarray(found.ended)))} of {episodes} episodes"
        accepted = f"set, or max_steps larger: {unfinished} had not ended after {max_steps:,} steps"
        reject("time_limit", flat(config)["time_limit"], accepted)
    return found.returns


class Episodes(NamedTuple):
    """Episodes that were played to their end."""

    returns: jax.Array  # float32 [N]; NaN where the episode did not end
    lengths: jax.Array  # int32 [N], frames
    ended: jax.Array  # bool [N]


@functools.partial(jax.jit, static_argnames=("episodes", "deterministic", "max_steps"))
def _evaluate(
    config: Any, state: State, key: Key, episodes: int, deterministic: bool, max_steps: int, opponent: State | None
) -> Episodes:
    algorithm = build(config)
    check_state(algorithm, state)
    if opponent is not None:
        check_state(algorithm, opponent)
        algorithm = against(algorithm, opponent)
    found = run_episodes(algorithm, state, key, episodes, deterministic, max_steps)
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner.params)]).all()
    return found._replace(returns=jnp.where(finite, found.returns, jnp.nan))


def _with_opponent(config: Any, opponent: State | Result | str | None) -> tuple[Any, State | None]:
    """The config of an evaluation against this opponent, and the state of the opponent if it is a trained one."""
    if isinstance(opponent, str) and opponent == "pool":
        reject("opponent", opponent, "random, lookahead or a trained agent: a pool is there only while an agent trains")
    if opponent is None or isinstance(opponent, str):
        return (config if opponent is None else replace(config, opponent=opponent)), None
    if build(config).env.duel is None:
        reject("opponent", "a trained state", "None: this environment is not a game for two")
    # A trained opponent sees what one of the pool sees: the game without wrappers around observations.
    envs.make(replace(parts(config)["env"], opponent="pool"), 1.0)
    return config, opponent.state if isinstance(opponent, Result) else opponent


def against(algorithm: Algorithm, opponent: State) -> Algorithm:
    """``algorithm`` whose evaluation is against the policy of another state, which may have no memory."""
    duel, policy = algorithm.env.duel, algorithm.policy(opponent)
    assert duel is not None
    if jax.tree.leaves(algorithm.network.carry()):
        reject("core", "a recurrent one", "feed_forward, for an agent that plays as an opponent")
    env = duel.against(as_player(algorithm.network._replace(step=lambda params, *seen: policy(*seen)), None))

    def eval_env(state: State) -> Env:
        assert env.freeze is not None
        return env.freeze(jax.tree.map(lambda x: x[0, 0], state.actor_state.env))

    return algorithm._replace(eval_env=eval_env)


def run_episodes(
    algorithm: Algorithm, state: State, key: Key, episodes: int, deterministic: bool, max_steps: int = 200_000
) -> Episodes:
    """One episode in each of ``N`` environments; arguments as of `evaluate`."""
    env, network, policy = algorithm.eval_env(state), algorithm.network, algorithm.policy(state)
    key_start, key_run = jax.random.split(key)

    def act(actor_state: rollout.ActorState, noise: Noise, keys: Key) -> tuple[rollout.ActorState, TimeStep]:
        carry, outputs = policy(actor_state.carry, actor_state.obs, actor_state.first)
        action = outputs.policy.mode() if deterministic else outputs.policy.sample(noise)
        env_state, timestep = env.step(keys, actor_state.env, outputs.policy.to_env_action(action))
        last = timestep.terminated | timestep.truncated
        return rollout.ActorState(env_state, timestep.obs, last, carry), timestep

    def tick(loop: Any) -> Any:
        time, actor_state, running, returns, lengths = loop
        index = jnp.arange(episodes, dtype=jnp.int32)
        noise, keys = rollout.draw(network, jax.random.fold_in(key_run, time), index)
        actor_state, timestep = jax.vmap(act)(actor_state, noise, keys)
        returns = jnp.where(running, timestep.episode_return, returns)
        lengths = jnp.where(running, timestep.episode_length, lengths)
        return time + 1, actor_state, running & ~actor_state.first, returns, lengths

    actor_state = jax.vmap(lambda key: rollout.start(env, network, key))(jax.random.split(key_start, episodes))
    returns, lengths = jnp.zeros(episodes, jnp.float32), jnp.zeros(episodes, jnp.int32)
    loop = jnp.int32(0), actor_state, jnp.ones(episodes, bool), returns, lengths
    loop = jax.lax.while_loop(lambda loop: loop[2].any() & (loop[0] < max_steps), tick, loop)
    _, _, running, returns, lengths = loop
    return Episodes(jnp.where(running, jnp.nan, returns), lengths, ~running)


def in_environment(config: AlgorithmConfig, state: State | Result, env_id: str | Env) -> tuple[Any, State]:
    """What `evaluate` takes for another environment than that of training, with the same observations and actions.

    Args:
        config: the ``Config`` that ``state`` was trained with.
        state: a `Result`, or its ``state``.
        env_id: the other environment, with its default parameters and arguments, and which draws none.

    Returns:
        ``(config, state)``.

    Raises:
        InputError: if the networks of both differ.
    """
    state = state.state if isinstance(state, Result) else state
    other = replace(config, env_id=env_id, env_params={}, env_kwargs={}, randomize={}, curriculum_frames=0)
    before, here = build(config).env, build(other).env
    for name in ("observation_shape", "action_space"):
        there, asked = getattr(before, name), getattr(here, name)
        if there != asked:
            reject("env_id", env_id, f"an environment with the {name} {there}, as in training, not {asked}")
    # What is left of the environment in the state are statistics of observations, which stay as they were.
    origin = dict(state.origin.settings) | {"env_id": env_id}
    return other, state._replace(origin=dataclasses.replace(state.origin, settings=tuple(origin.items())))


def check_state(algorithm: Algorithm, state: Any) -> None:
    """Check that ``state`` is one of ``algorithm``, by the settings that it was made with and its arrays' shapes.

    Raises:
        InputError: naming the first setting or array that differs.
    """

    def start(key: Key) -> State:
        # As `init`, but also where environments cannot step.
        outside = algorithm.outside
        return outside.start(key, acting.start(key, outside.acting, None), None)

    expected = jax.eval_shape(start, jax.random.key(0))
    if type(state) is not type(expected):
        reject("state", type(state).__name__, "a Result of this config, or its state")
    for name, (here, there) in expected.origin.differences(state.origin).items():
        reject(name, here, f"{there!r}, with which the state was trained")
    wanted, given = (jax.tree_util.tree_leaves_with_path(one.learner.params) for one in (expected, state))
    if [path for path, _ in wanted] != [path for path, _ in given]:
        reject("state", "learner.params", "as this config makes them; there are other arrays")
    shapes = [(x.shape, np.shape(y)) for (_, x), (_, y) in zip(wanted, given, strict=True)]
    if shapes and all(len(y) == len(x) + 1 and y[1:] == x for x, y in shapes):
        reject("state", f"a batch of {shapes[0][1][0]} states", "a single one; to evaluate several, vmap over them")
    for (path, _), (want, have) in zip(wanted, shapes, strict=True):
        if want != have:
            name = "learner.params" + jax.tree_util.keystr(path)
            reject("state", f"{name} of shape {have}", f"of shape {want}, as this config makes it")

"""The parts of an iteration that are compiled, for environments that step between them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.envs.observations import Shape
from purejaxrl_a3c.host.vector import HostEnv, of_arrays
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.loops.acting import Acting, levels
from purejaxrl_a3c.loops.exploration import lasting_noise
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.types import Key, Params, TimeStep, Told, Trajectory


class Draws(NamedTuple):
    """What is drawn once a rollout."""

    noise: Any  # leaves [T, W, B, ...]
    level: Any  # of exploration, leaves [W, B]


class Place(NamedTuple):
    """Where environments are between two rollouts."""

    obs: Any  # [W, B, ...], as the agent sees it
    first: Any  # bool [W, B]
    carry: Any  # leaves [W, B, ...]
    wrappers: Any  # their state, leaves [W, B, ...]


class Rollouts(NamedTuple):
    """What a rollout of all environments leaves: arrays of NumPy or, in a program, of JAX."""

    rows: dict[str, Any]  # fields of a `Trajectory` by name, [T, W, B, ...]
    carries: list[Any]  # after each step, leaves [W, B, ...]
    end_obs: Any  # [W, B, ...]: where the next rollout starts
    first: Any  # bool [W, B]: whether an episode starts there
    wrappers: Any = ()  # their state there, leaves [W, B, ...]


def draw(outside: Outside, key: Key, number: jax.Array, workers: jax.Array) -> Draws:
    """The `Draws` of these workers, int32 ``[W]``, for iteration ``number`` of the run with this key."""
    return draw_at(outside.acting, outside.key_act(jax.random.fold_in(key, number)), number, workers, workers)


def draw_at(acting: Acting, key: Key, number: jax.Array, workers: jax.Array, drawn_as: jax.Array) -> Draws:
    """The `Draws` of a rollout.

    Args:
        acting: what acts.
        key: consumed.
        number: of the iteration, int32 ``[]``.
        workers: who acts, int32 ``[W]``.
        drawn_as: the numbers of workers by which random numbers are drawn, int32 ``[W]``.
    """
    index = randomness.components(acting.layout.numbers(drawn_as), acting.layout.rollout_length)
    noise, _ = rollout.draw(acting.network, key, index)
    noise = lasting_noise(acting.exploration, noise, axis=2)
    return Draws(jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), noise), levels(acting, number, workers))


def act(acting: Acting, params: Params, draws: Draws, step: jax.Array, carry: Any, obs: Any, first: Any) -> Any:
    """One step of every environment.

    Args:
        acting: what acts.
        params: leaves ``[W, ...]``.
        draws: of the rollout.
        step: of the rollout, int32 ``[]``.
        carry: leaves ``[W, B, ...]``.
        obs: ``[W, B, ...]``.
        first: bool ``[W, B]``.

    Returns:
        ``(carry, action, the action for the environment, log-probability)``, each ``[W, B, ...]``. The second action is
        None if it is the same.
    """

    def one(params: Params, level: Any, noise: Any, carry: Any, obs: Any, first: jax.Array) -> Any:
        carry, outputs = acting.network.step(params, carry, obs, first)
        policy = acting.exploration.behave(outputs.policy, level)
        action = policy.sample(noise)
        native = policy.to_env_action(action)
        return carry, action, None if native is action else native, policy.log_prob(action)

    noise = jax.tree.map(lambda x: x[step], draws.noise)
    return jax.vmap(jax.vmap(one, (None, 0, 0, 0, 0, 0)))(params, draws.level, noise, carry, obs, first)


def show(told: Told) -> Callable[[Any, TimeStep], tuple[Any, TimeStep]]:
    """``later`` of ``told``, for environments ``[W, B]``."""
    return jax.vmap(jax.vmap(told.later))


def collect(
    act: Callable[[int, Any, Any, np.ndarray], Any],
    env: HostEnv,
    length: int,
    place: Place,
    show: Callable[[Any, TimeStep], tuple[Any, TimeStep]] | None,
) -> Rollouts:
    """A rollout of all environments.

    Args:
        act: (step, carry, obs, first) -> as of `act`.
        env: the ``W * B`` environments.
        length: of the rollout, ``T``.
        place: where it starts.
        show: as of `show`; None: there are no wrappers.

    Raises:
        ValueError: for an observation of another shape.
    """
    obs, first, carry, wrappers = place
    shape = first.shape

    def in_places(x: np.ndarray) -> np.ndarray:
        return x.reshape(*shape, *x.shape[1:])

    rows: dict[str, Any] = {}  # new arrays for every rollout: those of the last one may still be read
    carries: list[Any] = []
    for t in range(length):
        carry, chosen, taken, chances = act(t, carry, obs, first)
        action, log_prob = np.asarray(chosen), np.asarray(chances)
        native = action if taken is None else np.asarray(taken)
        answer = env.step(native.reshape(env.num_envs, *native.shape[2:]))
        if one_of(answer.obs) != env.observation_shape:
            raise ValueError(f"an observation has shape {one_of(answer.obs)}, not {env.observation_shape}")
        answered = {name: of_arrays(in_places, x) for name, x in answer._asdict().items()}
        if show is not None:
            wrappers, shown = show(wrappers, TimeStep(**answered))
            answered = jax.tree.map(np.asarray, shown._asdict())
        next_obs = answered.pop("obs")
        row = {"obs": obs, "first": first, "action": action, "log_prob": log_prob, **answered}
        if t == 0:
            rows = jax.tree.map(lambda x: np.empty((length, *x.shape), x.dtype), row)
        for name, x in row.items():
            if isinstance(x, np.ndarray):  # a walk over a tree takes as long as a step of a small environment
                rows[name][t] = x
            else:
                jax.tree.map(lambda all_steps, one, t=t: all_steps.__setitem__(t, one), rows[name], x)
        carries.append(carry)
        obs, first = next_obs, answered["terminated"] | answered["truncated"]
    return Rollouts(rows, carries, obs, first, wrappers)


def one_of(obs: Any) -> Shape:
    """The `Shape` of one of the observations in leaves ``[N, ...]``."""
    return of_arrays(lambda x: x.shape[1:], obs)


def end_of(rollouts: Rollouts) -> Place:
    """Where a rollout ended."""
    return Place(rollouts.end_obs, rollouts.first, rollouts.carries[-1], rollouts.wrappers)


def to_actor_state(place: Place) -> rollout.ActorState:
    """The part of a state that says where environments are."""
    return rollout.ActorState(place.wrappers, place.obs, place.first, place.carry)


def to_trajectories(rollouts: Rollouts, carry: Any) -> Trajectory:
    """`Rollouts`, which began with these carries, as a `Trajectory` ``[W, B, T]``."""
    rows = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), rollouts.rows)
    after = jax.tree.map(lambda *steps: jnp.stack(steps, axis=2), *rollouts.carries)
    return Trajectory(**rows, carry=carry, next_carry=after, end_obs=rollouts.end_obs)


def start_place(acting: Acting, obs: Any) -> Place:
    """Where environments are whose episodes begin with these observations ``[W, B, ...]``."""
    told, wrappers, first = acting.env.told, (), jnp.ones(jax.tree.leaves(obs)[0].shape[:2], bool)
    if told is not None:
        wrappers, obs = jax.vmap(jax.vmap(told.start))(obs)
    return Place(obs, first, start_carry(acting, first.shape), wrappers)


def start_carry(acting: Acting, shape: tuple[int, ...]) -> Any:
    """The carries of environments whose episodes begin, leaves ``[*shape, ...]``."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape)), acting.network.carry())


def compile_show(told: Told | None, wrappers: Any, obs: Any) -> Any:
    """`show`, compiled for wrappers with a state of these types and for such observations; None without wrappers."""
    return None if told is None else jax.jit(show(told)).lower(wrappers, types_of_answer(obs)).compile()


def types_of_answer(obs: Any) -> TimeStep:
    """Shapes and dtypes of what environments answer that have such observations ``[W, B, ...]``."""
    shape = jax.tree.leaves(obs)[0].shape[:2]
    number, flag, count = (jax.ShapeDtypeStruct(shape, dtype) for dtype in (jnp.float32, bool, jnp.int32))
    types: Any = obs, number, flag, flag, obs, number, count
    return TimeStep(*types)


def types_of_rollouts(length: int, answer: Any, obs: Any, first: Any, wrappers: Any) -> Rollouts:
    """Shapes and dtypes of `Rollouts`.

    Args:
        length: of the rollout, ``T``.
        answer: shapes and dtypes of what `act` returns.
        obs: of all environments, ``[W, B, ...]``.
        first: bool ``[W, B]``.
        wrappers: their state, leaves ``[W, B, ...]``.
    """
    carry, action, _, log_prob = answer
    fields = {
        "obs": obs,
        "first": first,
        "action": action,
        "log_prob": log_prob,
        "reward": jax.ShapeDtypeStruct(first.shape, np.float32),
        "terminated": first,
        "truncated": first,
        "final_obs": obs,
        "episode_return": jax.ShapeDtypeStruct(first.shape, np.float32),
        "episode_length": jax.ShapeDtypeStruct(first.shape, np.int32),
    }
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct((length, *x.shape), x.dtype), fields)
    return Rollouts(rows, [carry] * length, obs, first, wrappers)

"""Acting: what both loops do with environments, a network and exploration."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.envs import normalize
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.loops.exploration import Exploration, lasting_noise
from purejaxrl_a3c.loops.layout import EnvLayout
from purejaxrl_a3c.loops.opponents import Pool, as_player, shared_out
from purejaxrl_a3c.types import (
    Carry,
    Env,
    EnvState,
    Key,
    Network,
    Observation,
    Outputs,
    Params,
    Pretrained,
    Trajectory,
)


class Acting(NamedTuple):
    """What acts, and in which environments."""

    env: Env
    network: Network
    exploration: Exploration
    layout: EnvLayout


def start(key: Key, acting: Acting, pretrained: Pretrained | None) -> rollout.ActorState:
    """The environments of this device at the start of a run, leaves ``[W, B, ...]``."""
    layout = acting.layout
    actor_state = _fresh(key, acting, layout.numbers(layout.own_workers()))
    if pretrained is None or pretrained.observations is None:
        return actor_state
    return actor_state._replace(env=normalize.set_statistics(actor_state.env, pretrained.observations))


def _fresh(key: Key, acting: Acting, numbers: jax.Array) -> rollout.ActorState:
    """Environments at the start of an episode, the same one where ``numbers``, int32 ``[L, B]``, are the same."""
    keys = randomness.keys_at(key, numbers)
    return jax.vmap(jax.vmap(lambda key: rollout.start(acting.env, acting.network, key)))(keys)


def levels(acting: Acting, iteration: jax.Array, workers: jax.Array) -> Any:
    """How much the environments of these workers, int32 ``[L]``, explore in an iteration: leaves ``[L, B]``."""
    # Counted in floats, as an int32 could overflow.
    frames = iteration.astype(jnp.float32) * acting.layout.frames
    return acting.exploration.level(frames, acting.layout.numbers(workers))


def mean_level(acting: Acting, iteration: jax.Array) -> Any:
    """The mean of the exploration of all environments, on all devices: leaves ``[]``."""
    everywhere = acting.layout._replace(axis_name=None)
    level = levels(acting._replace(layout=everywhere), iteration, everywhere.own_workers())
    return jax.tree.map(jnp.mean, level)


def collect(
    key: Key,
    acting: Acting,
    params: Params,
    actor_state: rollout.ActorState,
    numbers: jax.Array,
    level: Any,
    opponents: Any = (),
) -> tuple[rollout.ActorState, Trajectory]:
    """Rollouts of ``L`` workers.

    Args:
        key: consumed.
        acting: what acts.
        params: the parameters of each worker, leaves ``[L, ...]``.
        actor_state: leaves ``[L, B, ...]``.
        numbers: int32 ``[L]``, by which each worker's random numbers are drawn.
        level: how much each environment explores, leaves ``[L, B]``, see `levels`.
        opponents: the `Pool` of self-play; () without.

    Returns:
        ``(actor_state, trajectories [L, B, T])``.
    """
    if acting.layout.group_size:
        key, key_start = jax.random.split(key)
        actor_state = _fresh(key_start, acting, acting.layout.numbers(numbers) // acting.layout.group_size)
    index = randomness.components(acting.layout.numbers(numbers), acting.layout.rollout_length)
    noise, keys = rollout.draw(acting.network, key, index)
    noise = lasting_noise(acting.exploration, noise, axis=2)

    def act(
        opponent: Params, params: Params, actor_state: rollout.ActorState, noise: Any, keys: Key, level: Any
    ) -> Any:
        def behave(policy: Any) -> Any:
            return acting.exploration.behave(policy, level)

        env = acting.env
        if opponent is not None:
            assert env.duel is not None
            env = env.duel.against(as_player(acting.network, opponent, behave))
        return rollout.unroll(env, acting.network, params, actor_state, noise, keys, behave)

    if isinstance(opponents, Pool):
        return shared_out(act, opponents)(params, actor_state, noise, keys, level)
    return jax.vmap(jax.vmap(partial(act, None), (None, 0, 0, 0, 0)))(params, actor_state, noise, keys, level)


def exploring_policy(
    acting: Acting, params: Params, iteration: jax.Array
) -> Callable[[Carry, Observation, jax.Array], tuple[Carry, Outputs]]:
    """The function of `Algorithm.policy` for ``params``, which explores as the run does on average."""
    level = mean_level(acting, iteration)

    def act(carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, Outputs]:
        carry, outputs = acting.network.step(params, carry, obs, first)
        return carry, outputs._replace(policy=acting.exploration.behave(outputs.policy, level))

    return act


def one_copy(actor_state: rollout.ActorState) -> EnvState:
    """The state of one copy of the environment; all have the same statistics."""
    return jax.tree.map(lambda x: x[0, 0], actor_state.env)


def eval_env(acting: Acting, actor_state: rollout.ActorState) -> Env:
    """The environment for evaluation, with the statistics of ``actor_state``."""
    assert acting.env.freeze is not None
    return acting.env.freeze(one_copy(actor_state))

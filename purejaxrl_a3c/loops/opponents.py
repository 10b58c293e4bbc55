"""Self-play: earlier versions of the policy, which play against the present one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import envs
from purejaxrl_a3c.checks import check_divides, reject
from purejaxrl_a3c.types import Action, EnvState, Key, Network, Observation, Params, Player, Scalars


class Pool(NamedTuple):
    """Earlier versions of the policy, ``K`` of them."""

    params: Params  # leaves [K, ...]
    taken: jax.Array  # int32 [K]: iterations that were done when each was taken


class Opponents(NamedTuple):
    """The pool of a run as pure functions."""

    init: Callable[[Params], Any]
    """params at the start of the run -> pool."""
    update: Callable[[Any, Params, jax.Array], Any]
    """(pool, params, iterations done, int32 []) -> pool: now and then the oldest version is replaced."""
    report: Callable[[Any, jax.Array], Scalars]
    """(pool, iterations done) -> scalars to report."""


def no_opponents() -> Opponents:
    """There is no pool; its state is ``()``."""
    return Opponents(lambda params: (), lambda pool, params, iteration: pool, lambda pool, iteration: {})


def make_opponents(config: envs.Opponents, network: Network, envs_per_worker: int) -> Opponents:
    """The pool that ``config`` describes.

    At the start all versions are the untrained policy. A version stays for ``pool_size * snapshot_every`` iterations,
    so this bounds the staleness of the opponents, as `updates.Asynchrony` does that of gradients.

    Args:
        config: the settings.
        network: of the policy.
        envs_per_worker: environments of a worker on this device, which play against all versions, as many against each.

    Raises:
        InputError: if the network has a memory, or the versions cannot share out the environments.
    """
    if config.opponent != "pool":
        return no_opponents()
    if jax.tree.leaves(network.carry()):
        reject("core", "a recurrent one", "feed_forward in self-play")
    check_divides("pool_size", config.pool_size, "the environments of a worker, on each device", envs_per_worker)
    size, every = config.pool_size, config.snapshot_every

    def init(params: Params) -> Pool:
        copies = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape)), params)
        return Pool(copies, jnp.zeros(size, jnp.int32))

    def update(pool: Pool, params: Params, iteration: jax.Array) -> Pool:
        oldest = jnp.where(iteration % every == 0, (iteration // every - 1) % size, size)
        replaced = jax.tree.map(lambda old, new: old.at[oldest].set(new, mode="drop"), pool.params, params)
        return Pool(replaced, pool.taken.at[oldest].set(iteration, mode="drop"))

    def report(pool: Pool, iteration: jax.Array) -> Scalars:
        return {"opponent_age": jnp.mean((iteration - pool.taken).astype(jnp.float32))}

    return Opponents(init, update, report)


def as_player(network: Network, params: Params, behave: Callable[[Any], Any] = lambda policy: policy) -> Player:
    """A policy without memory as a player, who samples its actions.

    Args:
        network: of the policy.
        params: its parameters.
        behave: policy to the policy that acts, see `Exploration`.
    """

    def play(key: Key, state: EnvState, obs: Observation) -> Action:
        del state
        _, outputs = network.step(params, (), obs, jnp.bool_(False))
        policy = behave(outputs.policy)
        noise = jax.tree.map(lambda x: x[0], network.noise(key, jnp.zeros(1, jnp.int32)))
        action: Action = policy.to_env_action(policy.sample(noise))
        return action

    return play


def shared_out(act: Callable[..., Any], pool: Pool) -> Callable[..., Any]:
    """``act`` for the environments of some workers, against all versions of the pool.

    Args:
        act: (params of an opponent, params, leaves of one environment ...) -> what is left, of one environment.
        pool: the versions, ``K``.

    Returns:
        (params of workers ``[L, ...]``, leaves ``[L, B, ...]`` ...) -> the same ``[L, B, ...]``. Environment ``b``
        plays against version ``b // (B / K)``.
    """
    count = pool.taken.size

    def all_workers(params: Params, *envs: Any) -> Any:
        grouped = jax.tree.map(lambda x: x.reshape(x.shape[0], count, -1, *x.shape[2:]), envs)
        each = (0,) * len(envs)
        of_group = jax.vmap(act, (None, None, *each))
        of_worker = jax.vmap(of_group, (0, None, *each))
        done = jax.vmap(of_worker, (None, 0, *each))(pool.params, params, *grouped)
        return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), done)

    return all_workers

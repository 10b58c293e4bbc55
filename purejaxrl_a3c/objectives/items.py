"""The items that minibatches are drawn from."""

from typing import TypeVar

import jax
import jax.numpy as jnp

from purejaxrl_a3c.types import Network, Observation, Outputs, Params

Items = TypeVar("Items")  # a tree of arrays


def split_steps(network: Network, items: Items) -> Items:
    """What a minibatch may separate: leaves ``[B, T, ...]`` to ``[M, ...]``.

    A recurrent network needs every step of an environment in order, so its items are whole rollouts, ``[B, T, ...]``
    with ``M = B``. Those of a feed-forward network are single steps, ``[M, 1, ...]`` with ``M = B T``.
    """
    if jax.tree.leaves(network.carry()):
        return items
    return jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[2:]), items)


def outputs_at(network: Network, params: Params, obs: Observation) -> Outputs:
    """The outputs ``[M]`` for single observations ``[M, ...]``, by a network without memory."""
    steps = jax.tree.map(lambda x: x[:, None], obs)
    size = jax.tree.leaves(obs)[0].shape[0]
    _, outputs = network.unroll(params, (), steps, jnp.zeros((size, 1), bool))
    return jax.tree.map(lambda x: x[:, 0], outputs)

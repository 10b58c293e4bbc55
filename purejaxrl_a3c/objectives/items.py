"""The items that minibatches are drawn from."""

from typing import TypeVar

import jax

from purejaxrl_a3c.types import Network

Items = TypeVar("Items")  # a tree of arrays


def split_steps(network: Network, items: Items) -> Items:
    """What a minibatch may separate: leaves ``[B, T, ...]`` to ``[M, ...]``.

    A recurrent network needs every step of an environment in order, so its items are whole rollouts, ``[B, T, ...]``
    with ``M = B``. Those of a feed-forward network are single steps, ``[M, 1, ...]`` with ``M = B T``.
    """
    if jax.tree.leaves(network.carry()):
        return items
    return jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[2:]), items)

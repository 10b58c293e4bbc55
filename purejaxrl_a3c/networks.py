"""Policies and value functions: flax modules, wrapped as a `Network` of pure functions."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c.distributions import Categorical
from purejaxrl_a3c.types import Network, Outputs

ACTIVATIONS = {"elu": nn.elu, "gelu": nn.gelu, "relu": nn.relu, "silu": nn.silu, "tanh": nn.tanh}


def orthogonal(scale):
    """Orthogonal initializer (Saxe et al. 2014, arXiv 1312.6120) that is safe to ``vmap``.

    An orthogonal matrix comes from a QR factorisation, and a *batched* QR, which is what `jax.vmap` over seeds
    makes of it, can wait for ever on jaxlib 0.10 with two cores: each thread of the pool that runs the batch
    waits for tasks that need a thread of that same pool. Mapped one after the other, every QR has batch 1,
    which runs in the calling thread. This is the package's only call into LAPACK, and must stay so.

    Args:
        scale: factor on the orthogonal matrix.

    Returns:
        A flax initializer ``(key, shape, dtype) -> matrix [shape]``.
    """

    def init(key, shape, dtype=jnp.float32):
        @jax.custom_batching.sequential_vmap
        def draw(key):
            return nn.initializers.orthogonal(scale)(key, shape, dtype)

        return draw(key)

    return init


class MLP(nn.Module):
    """Fully connected layers, each followed by the activation: ``[..., features] -> [..., hidden_sizes[-1]]``."""

    hidden_sizes: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, x):
        """Apply the layers to ``x [..., features]``."""
        for size in self.hidden_sizes:
            # sqrt(2), 0.01 and 1 as in Andrychowicz et al. 2021 (arXiv 2006.05990) and OpenAI Baselines.
            x = nn.Dense(size, kernel_init=orthogonal(2**0.5))(x)
            x = ACTIVATIONS[self.activation](x)
        return x


class ActorCritic(nn.Module):
    """A categorical policy and a value function, with one torso between them or one each.

    Attributes:
        observation_rank: number of axes of one observation; they are flattened.
        num_actions: ``A``.
        hidden_sizes: widths of the torso's layers.
        activation: a key of `ACTIVATIONS`.
        shared_torso: whether policy and value read the same features (as in the A3C paper).
    """

    observation_rank: int
    num_actions: int
    hidden_sizes: tuple[int, ...]
    activation: str
    shared_torso: bool

    @nn.compact
    def __call__(self, obs):
        """Outputs for ``obs [..., *observation_shape]``."""
        batch_shape = obs.shape[: obs.ndim - self.observation_rank]
        x = obs.reshape(*batch_shape, -1).astype(jnp.float32)
        torso = functools.partial(MLP, self.hidden_sizes, self.activation)
        policy_features = torso(name="torso" if self.shared_torso else "policy_torso")(x)
        value_features = policy_features if self.shared_torso else torso(name="value_torso")(x)
        logits = nn.Dense(self.num_actions, kernel_init=orthogonal(0.01), name="policy_head")(policy_features)
        value = nn.Dense(1, kernel_init=orthogonal(1.0), name="value_head")(value_features)
        return Outputs(Categorical(logits), jnp.squeeze(value, -1))


def feed_forward(module, observation_shape):
    """The `Network` of a flax module ``obs [..., *observation_shape] -> Outputs [...]`` without memory.

    The rollouts of all environments are one call of the module, not a scan over time.
    """

    def init(key):
        return module.init(key, jnp.zeros(observation_shape))

    def step(params, carry, obs, first):
        del first
        return carry, module.apply(params, obs)

    def unroll(params, carry, obs, first):
        # One axis of rows: XLA's CPU backend takes twice as long over the gradient of a product with two.
        rows = obs.reshape(first.size, *observation_shape)
        outputs = module.apply(params, rows)
        return carry, jax.tree.map(lambda x: x.reshape(*first.shape, *x.shape[1:]), outputs)

    return Network(init, lambda: (), Categorical.noise, step, unroll)


def make(config, env):
    """The network that ``config`` describes, for the observations and actions of ``env``.

    Args:
        config: any object with ``hidden_sizes``, ``activation`` and ``shared_torso``.
        env: an `Env` with a discrete action space.

    Returns:
        A `Network`.
    """
    module = ActorCritic(
        observation_rank=len(env.observation_shape),
        num_actions=env.action_space.n,
        hidden_sizes=config.hidden_sizes,
        activation=config.activation,
        shared_torso=config.shared_torso,
    )
    return feed_forward(module, env.observation_shape)

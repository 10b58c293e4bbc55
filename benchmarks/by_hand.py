"""The updates of SAC and DQN written by hand: what the arithmetic alone takes, without checks, reports or flax.

`benchmarks.replay_parts` times these beside the package's own. Each is the smallest program that does the same work on
a batch that stays the same: the gradients, Adam, and the target network. `products` is less than an update: only its
products of 256 x 256 x 256, one after the other.
"""

import itertools

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree


def mlp(params, x):
    """Two hidden layers of relu."""
    for kernel, bias in params[:-1]:
        x = jax.nn.relu(x @ kernel + bias)
    kernel, bias = params[-1]
    return x @ kernel + bias


def init_mlp(key, sizes):
    """Parameters of layers of these sizes."""
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = itertools.pairwise(sizes)
    return [
        (jax.random.normal(k, pair) / pair[0] ** 0.5, jnp.zeros(pair[1])) for k, pair in zip(keys, pairs, strict=True)
    ]


def adam(params, moments, gradient, rate):
    """A step of Adam on trees; ``moments`` are both means and the powers of their decays."""
    mean, square, powers = moments
    powers = powers * jnp.array([0.9, 0.999])
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
    square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, gradient)

    def move(x, m, s):
        return x - rate * (m / (1 - powers[0])) / (jnp.sqrt(s / (1 - powers[1])) + 1e-8)

    return jax.tree.map(move, params, mean, square), (mean, square, powers)


def no_moments(params):
    """Adam's state at the start."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return zeros, zeros, jnp.ones(2)


def sac(batch_size=256, width=256):
    """SAC on Pendulum as ``(start, loop body)``: ``start(key) -> carry``, ``body(key, carry) -> carry``."""

    def start(key):
        keys = jax.random.split(key, 6)
        critics = [init_mlp(k, (4, width, width, 1)) for k in keys[:2]]
        params = {"policy": init_mlp(keys[2], (3, width, width, 2)), "critics": critics, "temperature": jnp.float32(0)}
        obs, next_obs = jax.random.normal(keys[3], (2, batch_size, 3))
        batch = obs, jax.random.uniform(keys[4], (batch_size, 1)), jnp.ones(batch_size), next_obs
        return params, critics, no_moments(params), batch

    def sample(policy, obs, noise):
        mean, log_scale = jnp.split(mlp(policy, obs), 2, axis=-1)
        log_scale = jnp.clip(log_scale, -20, 2)
        action = mean + jnp.exp(log_scale) * noise
        squash = 2 * (jnp.log(2.0) - action - jax.nn.softplus(-2 * action))
        log_prob = -0.5 * (noise**2 + jnp.log(2 * jnp.pi)) - log_scale - squash
        return jnp.tanh(action), log_prob.sum(-1)

    def values(critics, obs, action):
        return jnp.stack([mlp(critic, jnp.concatenate([obs, action], -1))[:, 0] for critic in critics])

    def body(key, carry):
        params, target, moments, batch = carry
        obs, action, reward, next_obs = batch
        now, later = jax.random.normal(key, (2, batch_size, 1))
        alpha = jnp.exp(params["temperature"])
        next_action, next_log_prob = sample(params["policy"], next_obs, later)
        goal = reward + 0.99 * (values(target, next_obs, next_action).min(0) - alpha * next_log_prob)

        def critic_loss(critics):
            return 0.5 * jnp.square(values(critics, obs, action) - goal).sum(0).mean()

        def policy_loss(policy):
            chosen, log_prob = sample(policy, obs, now)
            return (alpha * log_prob - values(params["critics"], obs, chosen).min(0)).mean(), log_prob.mean()

        policy_gradient, log_prob = jax.grad(policy_loss, has_aux=True)(params["policy"])
        gradient = {
            "policy": policy_gradient,
            "critics": jax.grad(critic_loss)(params["critics"]),
            "temperature": 1 - log_prob,
        }
        params, moments = adam(params, moments, gradient, 1e-3)
        target = jax.tree.map(lambda slow, fast: 0.995 * slow + 0.005 * fast, target, params["critics"])
        return params, target, moments, batch

    return start, body


def dqn(batch_size=100, width=64, count=5):
    """Five updates of double DQN on CartPole, on vectors of parameters; as `sac`."""
    _, unravel = ravel_pytree(init_mlp(jax.random.key(0), (4, width, width, 2)))

    def start(key):
        keys = jax.random.split(key, 4)
        params = ravel_pytree(init_mlp(keys[0], (4, width, width, 2)))[0]
        obs, next_obs = jax.random.normal(keys[1], (2, batch_size, 4))
        batch = obs, jax.random.randint(keys[2], (batch_size,), 0, 2), jnp.ones(batch_size), next_obs
        return params, params, no_moments(params), jnp.int32(0), batch

    def update(_, carry):
        params, target, moments, updates, batch = carry
        obs, action, reward, next_obs = batch
        best = mlp(unravel(params), next_obs).argmax(-1)
        goal = reward + 0.99 * jnp.take_along_axis(mlp(unravel(target), next_obs), best[:, None], 1)[:, 0]

        def loss(tree):
            q = mlp(tree, obs)
            return 0.5 * jnp.square(jnp.where(action == 0, q[:, 0], q[:, 1]) - goal).mean()

        gradient = ravel_pytree(jax.grad(loss)(unravel(params)))[0]
        params, moments = adam(params, moments, gradient, 1e-3)
        target = jnp.where(updates % 100 == 0, params, target)
        return params, target, moments, updates + 1, batch

    def body(key, carry):
        del key
        return jax.lax.fori_loop(0, count, update, carry)

    return start, body


def products(count=16, size=256):
    """Only the products of an update of SAC: ``count`` of ``size x size``, each with the result of the one before."""

    def start(key):
        return tuple(jax.random.normal(key, (2, size, size)) / size**0.5)

    def body(key, carry):
        del key
        return jax.lax.fori_loop(0, count, lambda i, carry: (carry[0] @ carry[1], carry[1]), carry)

    return start, body

"""Evaluation over whole episodes."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks, envs
from purejaxrl_a3c.loops import rollout


def evaluate(config, state, key, episodes=128, deterministic=False):
    """Undiscounted returns of whole episodes under the policy of ``state``.

    Every episode starts afresh in an environment of its own and is counted once, when it ends, so that short
    episodes do not crowd out long ones. Returns are of the environment's own rewards, whatever wrappers made of them;
    statistics that normalise observations stay as the training left them. It can be ``vmap``ped over ``state`` and
    ``key``, and over what is traced in ``config``.

    Args:
        config: the ``Config`` that ``state`` was trained with.
        state: ``Result.state``.
        key: consumed.
        episodes: ``N``, an int >= 1.
        deterministic: take the distribution's ``mode`` instead of a sample.

    Returns:
        float32 ``[N]``.

    Raises:
        InputError: if ``episodes`` is not an int of at least 1.
    """
    checks.check_count("episodes", episodes)
    config = _without_learning(config)
    # A config with arrays in it is no key of a cache: then the caller's `jit`, if any, is the only one.
    run = _evaluate if _has_arrays(config) else _evaluate_cached
    return run(config, state, key, episodes, deterministic)


def _evaluate(config, state, key, episodes, deterministic):
    returns, _ = run_episodes(config.build(), state, key, episodes, deterministic)
    return returns


_evaluate_cached = jax.jit(_evaluate, static_argnames=("config", "episodes", "deterministic"))


def run_episodes(algorithm, state, key, episodes, deterministic):
    """Returns, float32 ``[N]``, and lengths in frames, int32 ``[N]``, of one episode in each of ``N`` environments."""
    env, network, policy = algorithm.test_env(state), algorithm.network, algorithm.policy(state)
    key_start, key_run = jax.random.split(key)

    def act(position, noise, keys):
        carry, outputs = policy(position.carry, position.obs, position.first)
        action = outputs.policy.mode() if deterministic else outputs.policy.sample(noise)
        env_state, timestep = env.step(keys, position.env, outputs.policy.executed(action))
        last = timestep.terminated | timestep.truncated
        return rollout.Position(env_state, timestep.obs, last, carry), timestep

    def tick(loop):
        time, position, running, returns, lengths = loop
        noise, keys = rollout.draw(network, jax.random.fold_in(key_run, time), jnp.arange(episodes))
        position, timestep = jax.vmap(act)(position, noise, keys)
        returns = jnp.where(running, timestep.episode_return, returns)
        lengths = jnp.where(running, timestep.episode_length, lengths)
        return time + 1, position, running & ~position.first, returns, lengths

    position = jax.vmap(lambda key: rollout.start(env, network, key))(jax.random.split(key_start, episodes))
    loop = (
        jnp.int32(0),
        position,
        jnp.ones(episodes, bool),
        jnp.zeros(episodes),
        jnp.zeros(episodes, jnp.int32),
    )
    _, _, _, returns, lengths = jax.lax.while_loop(lambda loop: loop[2].any(), tick, loop)
    return returns, lengths


def _without_learning(config):
    """The config without what matters to learning only, which may be arrays: one program serves all."""
    changes = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type in (float, tuple[float, ...]):
            changes[field.name] = field.default
        elif dataclasses.is_dataclass(value) and not isinstance(value, envs.Wrappers | nn.Module):
            changes[field.name] = _without_learning(value)
    return dataclasses.replace(config, **changes)


def _has_arrays(config):
    values = (config if isinstance(config, dict) else vars(config)).values()
    nested = [value for value in values if isinstance(value, dict) or dataclasses.is_dataclass(value)]
    return any(isinstance(value, jax.Array) for value in values) or any(map(_has_arrays, nested))

"""Evaluation over whole episodes in environments outside of JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.host.actors import ActorsResult
from purejaxrl_a3c.host.compiled import check_outside
from purejaxrl_a3c.host.programs import start_carry
from purejaxrl_a3c.host.results import AsyncResult
from purejaxrl_a3c.host.vector import HostEnv, HostStep, make_as_told
from purejaxrl_a3c.loops import acting
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build
from purejaxrl_a3c.types import Key, State, TimeStep


def evaluate(
    config: AlgorithmConfig,
    state: State | Result | AsyncResult | ActorsResult,
    key: Key,
    episodes: int = 16,
    deterministic: bool = False,
    max_steps: int = 200_000,
    env: HostEnv | None = None,
) -> np.ndarray:
    """Undiscounted returns of whole episodes under the policy of ``state``, each in an environment of its own.

    Args:
        config: the ``Config`` that ``state`` was trained with.
        state: what `host.train`, `host.train_async` or `host.train_actors` returned, or its ``state``.
        key: consumed.
        episodes: ``N``, an int >= 1.
        deterministic: take the most probable action instead of a sampled one.
        max_steps: steps of an episode after which the evaluation gives up.
        env: ``N`` environments of one's own; None: those of ``config``. They are not closed.

    Returns:
        float32 ``[N]``. NaN if a parameter of the policy is not finite.

    Raises:
        InputError: if ``state`` is not one of ``config``, an episode has not ended after ``max_steps``, or a setting is
            not accepted.
    """
    check_count("episodes", episodes)
    check_count("max_steps", max_steps)
    state = state.state if isinstance(state, Result | AsyncResult | ActorsResult) else state
    algorithm = build(config)
    network, policy = algorithm.network, algorithm.policy
    outside = check_state(config, state, made=env is None)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner.params)):
        return np.full(episodes, np.nan, np.float32)

    @jax.jit
    def act(state: State, key: Key, carry: Any, obs: Any, first: jax.Array) -> Any:
        def one(noise: Any, carry: Any, obs: Any, first: jax.Array) -> Any:
            carry, outputs = policy(state)(carry, obs, first)
            action = outputs.policy.mode() if deterministic else outputs.policy.sample(noise)
            return carry, outputs.policy.to_env_action(action)

        noise = network.noise(key, jnp.arange(episodes, dtype=jnp.int32))
        return jax.vmap(one)(noise, carry, obs, first)

    start, later = as_seen(outside, state)
    own = make_as_told(config, episodes) if env is None else env
    try:
        if own.num_envs != episodes:
            reject("env", f"{own.num_envs} environments", f"{episodes} environments, one for each episode")
        key_env, key_act = jax.random.split(randomness.as_key(key))
        obs = own.reset(int(jax.random.randint(key_env, (), 0, 2**31 - 1)))
        wrappers, obs = start(obs)
        carry = start_carry(outside.acting, (episodes,))
        first, running, returns = np.ones(episodes, bool), np.ones(episodes, bool), np.zeros(episodes, np.float32)
        for t in range(max_steps):
            carry, action = act(state, jax.random.fold_in(key_act, t), carry, obs, first)
            answer = own.step(np.asarray(action))
            returns = np.where(running, answer.episode_return, returns)
            wrappers, obs = later(wrappers, answer)
            first = answer.terminated | answer.truncated
            running = running & ~first
            if not running.any():
                return returns
    finally:
        if env is None:
            own.close()
    return reject("max_steps", max_steps, f"larger: {running.sum()} of {episodes} episodes had not ended")


def check_state(config: AlgorithmConfig, state: Any, made: bool = True) -> Outside:
    """What is left of the algorithm of ``config`` without its environments, for a state that was trained with it.

    Raises:
        InputError: naming the first setting that differs, or that cannot be used here.
    """
    outside = check_outside(config, made, queue=True)
    for name, (here, there) in outside.origin.differences(state.origin).items():
        reject(name, here, f"{there!r}, with which the state was trained")
    return outside


def as_seen(outside: Outside, state: Any) -> tuple[Callable[[Any], Any], Callable[[Any, HostStep], Any]]:
    """What the wrappers show an agent under the statistics of ``state``.

    Returns:
        ``(start, later)``: first observations ``[N, ...]`` -> (the wrappers' state, what the agent sees); (that state,
        an answer) -> the same.
    """
    told = outside.acting.env.told
    if told is None:
        return lambda obs: ((), obs), lambda wrappers, answer: (wrappers, answer.obs)
    frozen = told.freeze(acting.one_copy(state.actor_state))
    show = jax.jit(jax.vmap(frozen.later))

    def later(wrappers: Any, answer: HostStep) -> Any:
        wrappers, shown = show(wrappers, TimeStep(**answer._asdict()))
        return wrappers, shown.obs

    return jax.jit(jax.vmap(frozen.start)), later

"""A trained agent in one environment outside of JAX, with pictures."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.config import parts
from purejaxrl_a3c.envs.pictures import reject_undrawn, without_screen
from purejaxrl_a3c.envs.suites import gymnasium as suite
from purejaxrl_a3c.host.evaluation import as_seen, check_state
from purejaxrl_a3c.host.programs import start_carry
from purejaxrl_a3c.host.vector import HostEnv, HostStep, from_gymnasium
from purejaxrl_a3c.run.train import AlgorithmConfig, build
from purejaxrl_a3c.types import Action, Key, Outputs, State


class Step(NamedTuple):
    """What an agent did at one moment; all of NumPy."""

    env: Any  # state of the environment before the action; outside of JAX a picture, or None if there is none
    obs: Any  # the environment's observation then, before any wrapper
    outputs: Outputs
    action: Action
    episode_return: Any  # with the action's reward
    last: Any  # whether the action ended the episode


def play(config: AlgorithmConfig, state: State, key: Key, deterministic: bool) -> Iterator[Step]:
    """The steps of the agent, without end.

    Raises:
        InputError: if ``state`` is not one of ``config``, or the environment cannot be drawn.
    """
    algorithm, outside = build(config), check_state(config, state)

    @jax.jit
    def act(key: Key, carry: Any, obs: Any, first: jax.Array) -> tuple[Any, Outputs, Action]:
        def one(noise: Any, carry: Any, obs: Any, first: jax.Array) -> Any:
            carry, outputs = algorithm.policy(state)(carry, obs, first)
            action = outputs.policy.mode() if deterministic else outputs.policy.sample(noise)
            return carry, outputs, outputs.policy.to_env_action(action)

        return jax.vmap(one)(algorithm.network.noise(key, jnp.zeros(1, jnp.int32)), carry, obs, first)

    start, later = as_seen(outside, state)
    env, draw = make_drawn(config)
    key_env, key_act = jax.random.split(key)
    try:
        bare = env.reset(int(jax.random.randint(key_env, (), 0, 2**31 - 1)))
        wrappers, obs = start(bare)
        carry, first, time = start_carry(outside.acting, (1,)), np.ones(1, bool), 0
        while True:
            picture = draw()
            carry, outputs, action = act(jax.random.fold_in(key_act, time), carry, obs, first)
            answer = env.step(np.asarray(action))
            first, time = answer.terminated | answer.truncated, time + 1
            outputs, action = jax.tree.map(lambda x: x[0], jax.device_get((outputs, action)))
            yield Step(picture, jax.tree.map(lambda x: x[0], bare), outputs, action, answer.episode_return[0], first[0])
            bare = answer.obs
            wrappers, obs = later(wrappers, answer)
    finally:
        env.close()


def make_drawn(config: Any) -> tuple[HostEnv, Callable[[], np.ndarray | None]]:
    """One environment of ``config``, and what draws it as it is now, uint8 ``[H, W, 3]``; None if it has no pictures.

    Raises:
        InputError: if the environment cannot be drawn here.
    """
    setting = parts(config)["env"]
    env_id, wrappers = str(setting.env_id), setting.wrappers
    without_screen()
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    options = env_id, 1, wrappers.time_limit, wrappers.sticky_actions or 0.0, setting.env_kwargs
    if env_id.startswith("ale/"):
        return _with_twin(from_gymnasium(suite.make_vector(*options), env_id), suite.make_vector(*options, drawn=True))
    vector = suite.make_vector(*options, drawn=True)

    def draw() -> np.ndarray | None:
        if vector.envs[0].render_mode is None:
            return None
        try:
            picture = vector.envs[0].render()
        except Exception as error:  # such as a machine without a screen, for which every library has its own error
            reject_undrawn(env_id, error)
        return None if picture is None else np.asarray(picture, np.uint8)

    return from_gymnasium(vector, env_id), draw


def _with_twin(env: HostEnv, twin: Any) -> tuple[HostEnv, Callable[[], np.ndarray | None]]:
    """Atari's environment beside one in colour, which has the same seed and takes the same actions."""
    shown: list[np.ndarray] = []

    def reset(seed: int) -> np.ndarray:
        shown[:] = [twin.reset(seed=seed)[0]]
        return env.reset(seed)

    def step(action: np.ndarray) -> HostStep:
        shown[:] = [twin.step(action)[0]]
        return env.step(action)

    def close() -> None:
        env.close()
        twin.close()

    return env._replace(reset=reset, step=step, close=close), lambda: np.array(shown[0]).reshape(210, 160, 3)

"""Pictures of gymnax environments."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from purejaxrl_a3c.envs.pictures import grid_picture, reject_undrawn, without_screen

_AGENT, _GOAL = (214, 90, 49), (70, 150, 90)


def make_render(env: Any, params: Any) -> Callable[[Sequence[Any]], Iterator[np.ndarray]] | None:
    """What draws states of ``env``; None for one whose observations are pictures enough.

    Classic control is drawn by Gymnasium, and mazes from above.
    """
    name = getattr(env, "name", "")
    if name in ("Acrobot-v1", "CartPole-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0"):
        return lambda states: _classic_control(name, params, states)
    if name in ("FourRooms-misc", "MetaMaze-misc"):
        return lambda states: _maze(env, states)
    return None


def _classic_control(name: str, params: Any, states: Sequence[Any]) -> Iterator[np.ndarray]:
    import gymnasium
    from gymnasium.error import DependencyNotInstalled
    from gymnax.visualize.vis_gym import get_gym_state, set_gym_params

    without_screen()
    env: Any = gymnasium.make(name, render_mode="rgb_array").unwrapped
    try:
        env.reset()
        set_gym_params(env, name, params)
        for state in states:
            env.state = get_gym_state(state, name)
            if name == "Pendulum-v1":
                env.last_u = np.asarray(state.last_u, np.float64)
            picture = env.render()
            yield picture.reshape(picture.shape[0] // 2, 2, picture.shape[1] // 2, 2, 3).mean((1, 3)).astype(np.uint8)
    except DependencyNotInstalled as error:
        reject_undrawn(name, error)
    finally:
        env.close()


def _maze(env: Any, states: Sequence[Any]) -> Iterator[np.ndarray]:
    walls = jax.device_get(env.occupied_map)
    for state in states:
        yield grid_picture(walls, [(state.goal, _GOAL), (state.pos, _AGENT)])

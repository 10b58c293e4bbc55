"""Environments of Gymnasium and of the Arcade Learning Environment, which step outside of JAX, as agents see them.

An `Env` of this suite has the shapes and the actions of the environment, so that networks and algorithms can be made
for it. It cannot step: `purejaxrl_a3c.host` does that.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.observations import MASK, Shape, map_shape
from purejaxrl_a3c.types import ActionSpace, Env

PREFIXES = ("gym", "ale", "vizdoom")
"""How names of these environments begin: ``gym/CartPole-v1``, ``ale/Pong``, ``vizdoom/VizdoomBasic-v1``."""
_SET_ELSEWHERE = {
    "autoreset_mode",
    "batch_size",
    "id",
    "max_episode_steps",
    "max_num_frames_per_episode",
    "num_envs",
    "render_mode",
    "repeat_action_probability",
    "reward_clipping",
}
"""Arguments of Gymnasium's and of the Arcade Learning Environment's that are not for ``env_kwargs``."""
_SHRINK = 4  # pixels of ViZDoom's screen, in each direction, that become one


class Interface(NamedTuple):
    """Observations and actions of an environment, for an agent."""

    observation_shape: Shape
    observation_dtype: Any  # of each array: uint8 for images, bool for a mask, else float32
    observe: Callable[[Any], Any]
    """Its observations ``[N, ...]`` -> those that agents see, ``[N, *observation_shape]``."""
    action_space: ActionSpace
    to_native: Callable[[np.ndarray], np.ndarray]
    """Actions ``[N, ...]`` of ``action_space`` -> those that it takes."""


def make(env_id: str, name: str, env_kwargs: dict[str, Any] | None = None) -> Env:
    """The environment called ``name``, of which only shapes and actions can be used: its observations are zeros.

    Args:
        env_id: the whole name, ``gym/NAME``, ``ale/NAME`` or ``vizdoom/NAME``.
        name: as `gymnasium.make` knows it, or the name of a game.
        env_kwargs: see `make_vector`.

    Raises:
        InputError: if the package is not installed, the name is not known, the environment does not take these
            arguments, or an agent cannot see or act there.
    """
    env = make_vector(env_id, 1, env_kwargs=env_kwargs)
    try:
        interface = interface_of(env_id, env.single_observation_space, env.single_action_space)
    finally:
        env.close()

    def reset(key: Any) -> tuple[Any, jax.Array]:
        del key
        return (), map_shape(jnp.zeros, interface.observation_shape, interface.observation_dtype)

    def step(key: Any, state: Any, action: Any) -> NoReturn:
        del key, state, action
        checks.reject("env_id", env_id, "an environment of JAX; purejaxrl_a3c.host.train trains in this one")

    return Env(reset, step, interface.observation_shape, interface.action_space)


def make_vector(
    env_id: str,
    num_envs: int,
    time_limit: int = 0,
    sticky_actions: float = 0.0,
    env_kwargs: dict[str, Any] | None = None,
    drawn: bool = False,
) -> Any:
    """A `gymnasium.vector.VectorEnv` of ``num_envs`` copies; the step that ends an episode resets its environment.

    The copies of ``gym/NAME`` step one after the other in this process. ``ale/NAME`` is `AtariVectorEnv` with its own
    defaults, those of Mnih et al. 2015, but for rewards, which are not clipped: an action lasts 4 frames, of which the
    last 2 are merged, 4 grey images of 84 x 84 are stacked, and an episode begins with up to 30 idle frames. An action
    in ``vizdoom/NAME`` lasts 4 frames, too, and of its screen of 240 x 320 the agent sees grey means of 4 x 4 pixels,
    60 x 80 x 1, and nothing of its other variables. Where ``gym/NAME`` says in the ``info`` of a reset which actions
    are legal, as ``action_mask``, that mask is a part of the observation.

    Args:
        env_id: ``gym/NAME``, ``ale/NAME`` or ``vizdoom/NAME``. A package that registers its environments when it is
            imported goes before the name: ``gym/highway_env:highway-v0``.
        num_envs: number of copies.
        time_limit: steps after which an episode is truncated; 0: the environment's own limit.
        sticky_actions: probability that the action before is taken instead; in ``ale``, at each of the 4 frames.
        env_kwargs: arguments for `gymnasium.make`, or for `AtariVectorEnv`, by name.
        drawn: whether the environments are to be looked at. Those of ``ale`` then show whole frames in colour, uint8
            ``[1, 210, 160, 3]``; the others can ``render``.

    Raises:
        InputError: if the package is not installed, does not know the name, or the environment does not take these
            arguments.
    """
    given = env_kwargs or {}
    if taken := sorted(given.keys() & _SET_ELSEWHERE):
        accepted = "left out: num_envs, time_limit, sticky_actions and clip_rewards say what it would"
        checks.reject(f"env_kwargs {taken[0]}", given[taken[0]], accepted)
    try:
        import gymnasium  # noqa: F401

        if env_id.startswith("ale/"):
            import ale_py  # noqa: F401
        if env_id.startswith("vizdoom/"):
            import vizdoom.gymnasium_wrapper  # noqa: F401, it registers its environments
    except ImportError as error:
        checks.reject_missing_suite(env_id, error)
    make_copies = _atari if env_id.startswith("ale/") else _one_by_one
    return make_copies(env_id, num_envs, time_limit, sticky_actions, given, drawn)


def _atari(
    env_id: str, num_envs: int, time_limit: int, sticky_actions: float, given: dict[str, Any], drawn: bool
) -> Any:
    """`make_vector` of ``ale/NAME``."""
    from ale_py import ALEInterface, LoggerMode, roms
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    ALEInterface.setLoggerMode(LoggerMode.Error)
    game = _snake_case(env_id.partition("/")[2])
    checks.check_known(env_id, game, roms.get_all_rom_ids())
    skip: Any = given.get("frameskip", 4)
    limit: Any = {"max_num_frames_per_episode": skip * time_limit} if time_limit else {}
    colour: Any = {"grayscale": False, "img_height": 210, "img_width": 160, "stack_num": 1} if drawn else {}

    def make_games(**given: Any) -> Any:
        return AtariVectorEnv(
            game,
            num_envs,
            autoreset_mode=AutoresetMode.SAME_STEP,
            reward_clipping=False,
            repeat_action_probability=sticky_actions,
            **(given | limit | colour),
        )

    return checks.make_with(env_id, make_games, given)


def _one_by_one(
    env_id: str, num_envs: int, time_limit: int, sticky_actions: float, given: dict[str, Any], drawn: bool
) -> Any:
    """`make_vector` of the others, which step one after the other."""
    import gymnasium
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    if sticky_actions == 1:
        checks.reject("sticky_actions", sticky_actions, "less than 1, in environments of Gymnasium")
    suite, _, name = env_id.partition("/")
    frames: Any = {"frame_skip": 4} if suite == "vizdoom" else {}
    make_one: Any = partial(gymnasium.make, name, max_episode_steps=time_limit or None, **frames)

    def one() -> Any:
        try:
            env = make_one(render_mode="rgb_array", **given) if drawn else checks.make_with(env_id, make_one, given)
        except TypeError:  # its class takes no such argument, and has no pictures
            if not drawn:
                raise
            env = make_one(**given)
        env = _grey_screen(env) if suite == "vizdoom" else _with_mask(env)
        return gymnasium.wrappers.StickyAction(env, sticky_actions) if sticky_actions else env

    try:
        # Without a copy of every observation: who steps this makes one.
        return SyncVectorEnv([one] * num_envs, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
    except gymnasium.error.Error as error:
        checks.reject("env_id", env_id, f"gym/ and a name that Gymnasium can make ({error})")


def _grey_screen(env: Any) -> Any:
    """ViZDoom's screen alone, grey and smaller."""
    from gymnasium.spaces import Box
    from gymnasium.wrappers import TransformObservation

    height, width, _ = env.observation_space["screen"].shape
    shape = height // _SHRINK, width // _SHRINK

    def shrink(obs: dict[str, np.ndarray]) -> np.ndarray:
        blocks = obs["screen"].reshape(shape[0], _SHRINK, shape[1], _SHRINK * 3)
        return blocks.mean((1, 3)).astype(np.uint8)[..., None]

    return TransformObservation(env, shrink, Box(0, 255, (*shape, 1), np.uint8))


def _with_mask(env: Any) -> Any:
    """The environment with the ``action_mask`` of its ``info`` in its observations; as it is if there is none."""
    from gymnasium import Wrapper, spaces

    mask = env.reset(seed=0)[1].get(MASK)
    if mask is None:
        return env
    inside = isinstance(env.observation_space, spaces.Dict)

    def show(obs: Any, info: dict[str, Any]) -> dict[str, Any]:
        return {**(obs if inside else {"observation": obs}), MASK: np.asarray(info[MASK], np.int8)}

    class Masked(Wrapper):
        """Shows the mask."""

        def __init__(self) -> None:
            super().__init__(env)
            seen = env.observation_space.spaces if inside else {"observation": env.observation_space}
            self.observation_space = spaces.Dict({**seen, MASK: spaces.MultiBinary(np.shape(mask))})

        def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
            obs, info = env.reset(**options)
            return show(obs, info), info

        def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
            obs, reward, terminated, truncated, info = env.step(action)
            return show(obs, info), reward, terminated, truncated, info

    return Masked()


def _snake_case(name: str) -> str:
    """``SpaceInvaders`` as the name of a ROM: ``space_invaders``."""
    return "".join("_" + letter.lower() if letter.isupper() and i else letter.lower() for i, letter in enumerate(name))


def interface_of(env_id: str, observations: Any, actions: Any) -> Interface:
    """The `Interface` of an environment with these spaces of Gymnasium.

    Integers become one-hot vectors. Images of bytes whose first axis is the channels, as those of the Arcade Learning
    Environment, get them last. Spaces of several parts become dicts, in which ``action_mask`` is a mask; the parts of a
    tuple are called ``0``, ``1`` and so on.

    Raises:
        InputError: for a space that agents cannot see or act in.
    """
    from gymnasium import spaces as theirs

    shape, dtype, observe = _observations(env_id, theirs, observations)
    if isinstance(actions, theirs.Discrete):
        return Interface(shape, dtype, observe, spaces.Discrete(int(actions.n)), lambda a: a + actions.start)
    if isinstance(actions, theirs.MultiDiscrete) and len(actions.shape) == 1:
        sizes = tuple(int(n) for n in actions.nvec)
        return Interface(shape, dtype, observe, spaces.MultiDiscrete(sizes), lambda a: a + actions.start)
    if isinstance(actions, theirs.Box) and np.issubdtype(actions.dtype, np.floating):
        bounded = np.isfinite(actions.low) & np.isfinite(actions.high)
        space = spaces.continuous(bounded.reshape(-1))
        return Interface(shape, dtype, observe, space, _to_bounds(actions.low, actions.high, bounded, actions.dtype))
    checks.reject("env_id", env_id, f"an environment with discrete or continuous actions, not {actions}")


def _observations(env_id: str, theirs: Any, space: Any) -> tuple[Shape, Any, Callable[[Any], Any]]:
    """Shape and dtype of what agents see, and the function that makes it of observations ``[N, ...]``."""
    if isinstance(space, theirs.Dict):
        return _parts(env_id, theirs, {name: (name, part) for name, part in space.spaces.items()})
    if isinstance(space, theirs.Tuple):
        return _parts(env_id, theirs, {str(i): (i, part) for i, part in enumerate(space.spaces)})
    if isinstance(space, theirs.Discrete):
        one_hot = np.eye(int(space.n), dtype=np.float32)
        return (int(space.n),), np.float32, lambda obs: one_hot[np.asarray(obs) - space.start]
    if isinstance(space, theirs.MultiDiscrete) and len(space.shape) == 1:
        tables = [np.eye(int(n), dtype=np.float32) for n in space.nvec]

        def each(obs: Any) -> np.ndarray:
            columns = np.asarray(obs) - space.start
            return np.concatenate([table[columns[:, i]] for i, table in enumerate(tables)], axis=1)

        return (int(space.nvec.sum()),), np.float32, each
    if isinstance(space, theirs.MultiBinary):
        return space.shape, np.float32, lambda obs: np.asarray(obs, np.float32)
    if not isinstance(space, theirs.Box):
        checks.reject("env_id", env_id, f"an environment whose observations are arrays of numbers, not {space}")
    if space.dtype != np.uint8:
        return space.shape, np.float32, lambda obs: np.asarray(obs, np.float32)
    if len(space.shape) == 3 and space.shape[0] < min(space.shape[1:]):
        return (*space.shape[1:], space.shape[0]), np.uint8, lambda obs: np.moveaxis(np.asarray(obs), 1, -1)
    return space.shape, np.uint8, np.asarray


def _parts(env_id: str, theirs: Any, parts: dict[str, tuple[Any, Any]]) -> tuple[Shape, Any, Callable[[Any], Any]]:
    """As `_observations`, for parts by name: each with the key that an observation has it under, and its space."""
    views = {name: _observations(env_id, theirs, space) for name, (_, space) in parts.items() if name != MASK}
    if MASK in parts:
        views[MASK] = parts[MASK][1].shape, np.bool_, lambda mask: np.asarray(mask).astype(bool)
    return (
        {name: view[0] for name, view in views.items()},
        {name: view[1] for name, view in views.items()},
        lambda obs: {name: view[2](obs[parts[name][0]]) for name, view in views.items()},
    )


def _to_bounds(low: Any, high: Any, bounded: Any, dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
    """`spaces.to_bounds` in NumPy, for actions ``[N, D]``."""
    least, span = np.where(bounded, low, 0), np.where(bounded, high, 0) - np.where(bounded, low, 0)

    def to_native(action: np.ndarray) -> np.ndarray:
        action = action.reshape(-1, *low.shape)
        inside = least + span * (np.clip(action, -1, 1) + 1) / 2
        return np.where(bounded, inside, np.clip(action, low, high)).clip(low, high).astype(dtype)

    return to_native

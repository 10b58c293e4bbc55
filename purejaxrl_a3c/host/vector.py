"""Many copies of an environment that step outside of JAX, on arrays of NumPy."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from purejaxrl_a3c import checks, envs
from purejaxrl_a3c.config import parts
from purejaxrl_a3c.envs.observations import Shape
from purejaxrl_a3c.envs.suites import gymnasium as suite
from purejaxrl_a3c.types import ActionSpace


class HostStep(NamedTuple):
    """The answer of ``N`` environments to one action each; `TimeStep` says what the fields are."""

    obs: Any  # leaves [N, ...]: of a new episode where the step ended one
    reward: np.ndarray  # float32 [N]
    terminated: np.ndarray  # bool [N]
    truncated: np.ndarray  # bool [N], never where terminated is true
    final_obs: Any  # leaves [N, ...]: the true successor, before any reset
    episode_return: np.ndarray  # float32 [N]: undiscounted, up to and with this step
    episode_length: np.ndarray  # int32 [N]: steps, up to and with this one


class HostEnv(NamedTuple):
    """``N`` copies of an environment. They change when they step, so they are used by one run at a time."""

    num_envs: int
    observation_shape: Shape
    action_space: ActionSpace
    reset: Callable[[int], Any]
    """seed -> first observations, leaves ``[N, ...]``; all episodes begin anew."""
    step: Callable[[np.ndarray], HostStep]
    """actions ``[N, ...]`` -> `HostStep`. An environment whose episode ends is reset in the same step. What is not
    finite is a ValueError."""
    close: Callable[[], None]
    observation_dtype: Any = np.float32
    """Of an observation; a dict of them for a dict of arrays."""


def make(
    env_id: str,
    num_envs: int,
    time_limit: int = 0,
    sticky_actions: float | None = None,
    env_kwargs: dict[str, Any] | None = None,
) -> HostEnv:
    """The environment that is called ``env_id``.

    Args:
        env_id: ``gym/NAME``, with a name that `gymnasium.make` knows, or ``ale/NAME``, with that of a game.
        num_envs: number of copies.
        time_limit: steps after which an episode is truncated; 0: the environment's own limit.
        sticky_actions: probability that the action before is taken again, in ``ale`` at each of the 4 frames of a step;
            None: no repeats.
        env_kwargs: arguments for `gymnasium.make`, or in ``ale`` for its vector of environments, by name.

    Raises:
        InputError: if there is no such environment, the package is not installed, the environment does not take these
            arguments, or an agent cannot see or act there.
    """
    checks.check_count("num_envs", num_envs)
    if not isinstance(env_id, str) or env_id.partition("/")[0] not in suite.PREFIXES:
        accepted = f"a name that begins with {', '.join(suite.PREFIXES)} and a slash; make_train takes the others"
        checks.reject("env_id", env_id, accepted)
    return from_gymnasium(suite.make_vector(env_id, num_envs, time_limit, sticky_actions or 0.0, env_kwargs), env_id)


def make_as_told(config: Any, num_envs: int) -> HostEnv:
    """The environment of a ``Config``, as it is below the wrappers that change what an agent sees of it."""
    env: envs.Config = parts(config)["env"]
    return make(str(env.env_id), num_envs, env.wrappers.time_limit, env.wrappers.sticky_actions, env.env_kwargs)


def from_gymnasium(env: Any, env_id: str = "this environment") -> HostEnv:
    """A `gymnasium.vector.VectorEnv` as `HostEnv`.

    It must reset an environment in the step that ends its episode (`AutoresetMode.SAME_STEP`), or leave that to this
    function (`AutoresetMode.DISABLED`). With Gymnasium's default, `AutoresetMode.NEXT_STEP`, every episode is followed
    by a step in which the action is ignored; learning from such steps would be wrong, and they cannot be left out.

    Args:
        env: the environments.
        env_id: what errors call them.

    Raises:
        InputError: for another way of resetting, or if an agent cannot see or act there.
    """
    mode = getattr(env.metadata.get("autoreset_mode"), "name", None)
    if mode not in ("SAME_STEP", "DISABLED"):
        checks.reject("autoreset_mode", mode, "SAME_STEP or DISABLED, which is an argument of Gymnasium's vectors")
    view = suite.interface_of(env_id, env.single_observation_space, env.single_action_space)
    count = int(env.num_envs)
    returns, lengths = np.zeros(count, np.float32), np.zeros(count, np.int32)

    def observe(obs: Any) -> Any:
        # A copy: an environment may write into its own.
        return of_arrays(np.array, view.observe(obs), view.observation_dtype)

    answer = _one_by_one(env, observe) if _steps_one_by_one(env, mode) else _together(env, mode, observe)

    def reset(seed: int) -> Any:
        returns[:], lengths[:] = 0, 0
        return observe(env.reset(seed=seed)[0])

    def step(action: np.ndarray) -> HostStep:
        obs, final_obs, reward, terminated, last = answer(view.to_native(action))
        check_finite("a reward", reward)
        of_arrays(partial(check_finite, "an observation"), final_obs)
        if obs is not final_obs:
            of_arrays(partial(check_finite, "an observation"), obs)
        returns[:] += reward
        lengths[:] += 1
        found = HostStep(obs, reward, terminated, last & ~terminated, final_obs, returns.copy(), lengths.copy())
        returns[last], lengths[last] = 0, 0
        return found

    return HostEnv(count, view.observation_shape, view.action_space, reset, step, env.close, view.observation_dtype)


class _Answer(NamedTuple):
    """What environments answer to actions, before it is checked."""

    obs: Any
    final_obs: Any
    reward: np.ndarray
    terminated: np.ndarray
    last: np.ndarray  # bool [N]: whether the episode ended, in either way


def _together(env: Any, mode: str, observe: Callable[[Any], Any]) -> Callable[[np.ndarray], _Answer]:
    """Native actions -> `_Answer`, by the step of a `gymnasium.vector.VectorEnv` that resets as ``mode`` says."""

    def answer(action: np.ndarray) -> _Answer:
        obs, reward, terminated, truncated, info = env.step(action)
        terminated = np.asarray(terminated, bool)
        last = terminated | np.asarray(truncated, bool)
        final_obs = obs = observe(obs)
        if last.any():
            if mode == "DISABLED":
                begun, _ = env.reset(options={"reset_mask": last})
                obs = _with_rows(obs, last, of_arrays(lambda x: x[last], observe(begun)))
            else:
                ended = [info["final_obs"][i] for i in np.flatnonzero(last)]
                final_obs = _with_rows(obs, last, observe(_stacked(env.single_observation_space, ended)))
        return _Answer(obs, final_obs, np.asarray(reward, np.float32), terminated, last)

    return answer


def _one_by_one(env: Any, observe: Callable[[Any], Any]) -> Callable[[np.ndarray], _Answer]:
    """Native actions -> `_Answer`, by a step of each environment of a `gymnasium.vector.SyncVectorEnv`.

    Its own step also merges the ``info`` of all, which nobody reads here and which takes long in small environments.
    """
    envs, space = env.envs, env.single_observation_space

    def answer(action: np.ndarray) -> _Answer:
        # Gymnasium takes longer to check an integer of NumPy than one of Python: a tenth of a step of CartPole.
        actions = action.tolist() if action.ndim == 1 and action.dtype.kind == "i" else action
        steps = [one.step(its_action) for one, its_action in zip(envs, actions, strict=True)]
        rows, reward, is_terminated, is_truncated, _ = zip(*steps, strict=True)
        terminated = np.array(is_terminated, bool)
        last = terminated | np.array(is_truncated, bool)
        final_obs = obs = observe(_stacked(space, rows))
        if last.any():
            begun = [envs[i].reset()[0] for i in np.flatnonzero(last)]
            obs = _with_rows(obs, last, observe(_stacked(space, begun)))
        return _Answer(obs, final_obs, np.array(reward, np.float32).reshape(-1), terminated, last)

    return answer


def _steps_one_by_one(env: Any, mode: str) -> bool:
    from gymnasium.vector import SyncVectorEnv

    return mode == "SAME_STEP" and type(env) is SyncVectorEnv  # a subclass may do more


def _stacked(space: Any, rows: Sequence[Any]) -> Any:
    """Observations from ``space`` as leaves ``[N, ...]``."""
    if isinstance(rows[0], np.ndarray):
        return np.array(rows)
    from gymnasium.vector.utils import concatenate, create_empty_array

    return concatenate(space, rows, create_empty_array(space, len(rows)))


def _with_rows(obs: Any, chosen: np.ndarray, rows: Any) -> Any:
    """Observations whose ``chosen`` rows are these ones; the others are copied."""

    def put(x: np.ndarray, new: np.ndarray) -> np.ndarray:
        x = x.copy()
        x[chosen] = new
        return x

    return of_arrays(put, obs, rows)


def of_arrays(function: Callable[..., Any], obs: Any, *others: Any) -> Any:
    """As `jax.tree.map`, which for a single array takes as long as a step of a small environment."""
    return function(obs, *others) if isinstance(obs, np.ndarray) else jax.tree.map(function, obs, *others)


def check_finite(what: str, values: np.ndarray) -> None:
    """Check what environments returned, ``[N, ...]``; ``what`` says of each what it is.

    Raises:
        ValueError: naming the first environment whose values are not all finite.
    """
    # A sum is not finite if one of its terms is not, and takes a tenth of the time of a look at each.
    if values.dtype != np.uint8 and not np.isfinite(values.sum(dtype=np.float64)):
        finite = np.isfinite(values.reshape(len(values), -1)).all(1)
        if not finite.all():
            raise ValueError(f"environment {np.argmin(finite)} returned {what} that is not finite")

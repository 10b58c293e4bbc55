"""Environments behind the one `Env` type."""

import dataclasses
from collections.abc import Callable

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import wrappers
from purejaxrl_a3c.envs.suites import brax, craftax, gymnax, jumanji, navix, pgx, playground
from purejaxrl_a3c.types import Env

SUITES: dict[str, Callable[[str, str], Env]] = {
    "brax": brax.make,
    "craftax": craftax.make,
    "jumanji": jumanji.make,
    "navix": navix.make,
    "pgx": pgx.make,
    "playground": playground.make,
}
"""Prefix of an ``env_id`` to the function that makes that suite's environments; without a prefix it is gymnax."""


@dataclasses.dataclass(frozen=True)
class Wrappers:
    """What is put around an environment, in the order of the fields. Floats may be traced."""

    time_limit: int = 0
    """Truncate episodes after so many frames of the environment itself; 0: as it comes."""
    sticky_actions: float = 0.0
    """Probability of taking the previous action again (0.25 in Machado et al. 2018, 0.1 in MinAtar); 0: never."""
    action_repeat: int = 1
    """Take every action so many times and add up the rewards; all of it counts as one frame of the run."""
    observe: tuple[int, ...] = ()
    """Show the agent only these entries of an observation's last axis; empty: all."""
    flatten: bool = False
    """Show observations as vectors."""
    frame_stack: int = 1
    """Show so many of the last observations, side by side on the last axis."""
    clip_rewards: float = 0.0
    """Clip what the agent learns from to +- this; 0: do not."""
    stagger_resets: int = 0
    """Cut every copy's first episode after a random number of frames, at most so many, to put copies out of phase."""
    normalize_observations: bool = False
    """Subtract the running mean, divide by the running standard deviation."""
    scale_rewards: bool = False
    """Divide by the running standard deviation of the discounted return."""


def make(config):
    """The environment that ``config`` describes, with the statistics of its episodes recorded.

    Args:
        config: any object with ``env_id``, ``env_params``, ``wrappers`` and ``gamma``.

    Returns:
        An `Env` that resets itself and reports the return and length of its episodes, as they are before any wrapper.

    Raises:
        InputError: for an unknown name, or a wrapper that does not fit the environment.
    """
    env = wrappers.record_episodes(make_episodic(config.env_id, config.env_params))
    w = config.wrappers
    if w.time_limit:
        env = wrappers.time_limit(env, w.time_limit)
    if _is_on(w.sticky_actions):
        env = wrappers.sticky_actions(env, w.sticky_actions)
    if w.action_repeat > 1:
        env = wrappers.repeat_action(env, w.action_repeat)
    if w.observe:
        last = env.observation_shape[-1]
        if not all(isinstance(i, int) and 0 <= i < last for i in w.observe):
            checks.reject("observe", w.observe, f"a tuple of ints in 0 .. {last - 1}, for {config.env_id}")
        env = wrappers.observe(env, w.observe)
    if w.flatten:
        env = wrappers.flatten(env)
    if w.frame_stack > 1:
        env = wrappers.stack_frames(env, w.frame_stack)
    if _is_on(w.clip_rewards):
        env = wrappers.clip_rewards(env, w.clip_rewards)
    env = wrappers.auto_reset(env, w.stagger_resets)
    if w.normalize_observations:
        env = wrappers.normalize_observations(env)
    if w.scale_rewards:
        env = wrappers.scale_rewards(env, config.gamma)
    return env


def make_episodic(env_id, env_params=None):
    """The bare environment named ``env_id``, which does not reset itself.

    Args:
        env_id: a gymnax name, or ``suite/name`` with a suite in `SUITES`.
        env_params: values for the environment's parameters by name; gymnax only.

    Raises:
        InputError: for an unknown name, or a suite that is not installed.
    """
    suite, _, name = env_id.partition("/") if isinstance(env_id, str) else ("", "", "")
    if not name:
        return gymnax.make(env_id, env_params)
    if suite not in SUITES:
        checks.reject("env_id", env_id, f"a gymnax name, or one that begins with {', '.join(SUITES)} and a slash")
    if env_params:
        checks.reject("env_params", env_params, "empty: only gymnax environments take parameters")
    return SUITES[suite](env_id, name)


def _is_on(value):
    """Whether a float asks for its wrapper; one that is traced may have any value, so it does."""
    return not checks.is_concrete(value) or float(value) != 0

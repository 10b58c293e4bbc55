"""Makes the environment that a config describes: by name, or from an `Env` object, with wrappers around it."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.envs import normalize, own, spaces, wrappers
from purejaxrl_a3c.envs.config import Config, Wrappers
from purejaxrl_a3c.envs.curriculum import curriculum
from purejaxrl_a3c.envs.observations import split_mask
from purejaxrl_a3c.envs.randomize import Family, Range, check_ranges, randomized
from purejaxrl_a3c.envs.suites import brax, craftax, gymnasium, gymnax, jumanji, navix, pgx, playground
from purejaxrl_a3c.envs.told import make_told
from purejaxrl_a3c.envs.typed import wrong_types
from purejaxrl_a3c.types import Duel, Env


class MakeFamily(Protocol):
    """Makes the environments of one suite."""

    def __call__(self, env_id: str, name: str, env_kwargs: dict[str, Any]) -> Family:
        """The episodic environments that the suite calls ``name``; ``env_id`` is ``suite/name``, for errors."""
        ...


def _without_parameters(make_one: Callable[[str, str, dict[str, Any]], Env]) -> MakeFamily:
    def make(env_id: str, name: str, env_kwargs: dict[str, Any]) -> Family:
        env = make_one(env_id, name, env_kwargs)
        return Family(member=lambda values: env)

    return make


def _without_arguments(make_one: Callable[[str, str], Env]) -> MakeFamily:
    def make(env_id: str, name: str, env_kwargs: dict[str, Any]) -> Env:
        if env_kwargs:
            reject("env_kwargs", env_kwargs, f"empty: the environments of {env_id.partition('/')[0]} take none")
        return make_one(env_id, name)

    return _without_parameters(make)


SUITES: dict[str, MakeFamily] = {
    "brax": brax.family,
    "craftax": _without_arguments(craftax.make),
    "jumanji": _without_parameters(jumanji.make),
    "navix": _without_parameters(navix.make),
    "pgx": _without_arguments(pgx.make),
    "playground": playground.family,
} | dict.fromkeys(gymnasium.PREFIXES, _without_parameters(gymnasium.make))
"""The suites by the prefix of their ``env_id``; a name without a prefix is gymnax's."""

AROUND_STEPS = ("time_limit", "sticky_actions", "action_repeat", "stagger_resets")
"""The wrappers that change what an environment does. The others change what the agent sees of it."""
_MOST_CURRICULUM_FRAMES = 2**30  # of which the next iteration's still fit into an int32


def make(config: Config, gamma: float | jax.Array) -> Env:
    """The environment that ``config`` describes.

    Args:
        config: its settings. An `Env` object in it is wrapped like any other environment if it is episodic. If it
            resets itself (its ``freeze`` is not None), it is used as it is.
        gamma: discount factor a step; ``scale_rewards`` needs it.

    Returns:
        An `Env` that resets itself. Its time steps report the return and the length of the episode as they are before
        any wrapper.

    Raises:
        InputError: for an unknown name, or for a wrapper or a parameter that does not fit the environment.
    """
    if isinstance(config.env_id, Env) and config.env_id.freeze is not None:
        _check_self_resetting(config)
        return config.env_id if config.env_id.told is None else config.env_id._replace(told=None)

    def resetting(env: Env, w: Wrappers) -> Env:
        return wrappers.auto_reset(wrap_episodic(env, w, config.env_id), w.stagger_resets)

    def normalized(env: Env, w: Wrappers) -> Env:
        env = normalize.normalize_observations(env) if w.normalize_observations else env
        return normalize.scale_rewards(env, gamma) if w.scale_rewards else env

    _check_curriculum(config)
    at = _by_width(config.env_id, config.env_params, config.env_kwargs, config.randomize)
    bare, w = at(1.0), config.wrappers
    duel = _wrapped_duel(bare, config, lambda env: normalized(resetting(env, w), w))
    if duel is not None and config.opponents.opponent in duel.players:
        return duel.against(duel.players[config.opponents.opponent])._replace(duel=duel)
    shown = dataclasses.replace(w, **{name: getattr(Wrappers(), name) for name in AROUND_STEPS})
    told = make_told(bare, lambda env: normalized(resetting(env, shown), shown)) if changed(shown) else None
    env = resetting(bare, w)
    if config.curriculum_frames:
        env = curriculum(lambda width: resetting(at(width), w), config.curriculum_frames)
    return normalized(env, w)._replace(told=told, duel=duel)


def _wrapped_duel(bare: Env, config: Config, wrap: Callable[[Env], Env]) -> Duel | None:
    """The `Duel` of the wrapped environment, in which an opponent sees the bare one.

    Raises:
        InputError: if an opponent is asked for and there is none, or it could not see what the agent sees.
    """
    asked = config.opponents.opponent
    if bare.duel is None:
        if asked != "random":
            reject("opponent", asked, "random: this environment is not a game for two")
        return None
    if asked != "pool" and asked not in bare.duel.players:
        reject("opponent", asked, f"one of {', '.join(bare.duel.players)}, pool in this game")
    if asked == "pool":
        for name in ("observe", "flatten", "frame_stack", "normalize_observations"):
            if name in changed(config.wrappers):
                default = getattr(Wrappers(), name)
                reject(name, getattr(config.wrappers, name), f"{default!r} in self-play, where the opponent has none")
    against = bare.duel.against
    return bare.duel._replace(against=lambda player: wrap(against(player)))


def changed(w: Wrappers) -> dict[str, Any]:
    """The settings that are not the defaults, by name."""
    values = {field.name: (getattr(w, field.name), field.default) for field in dataclasses.fields(Wrappers)}
    # A traced value has none that could be compared.
    return {name: x for name, (x, default) in values.items() if isinstance(x, jax.Array | np.ndarray) or x != default}


def make_episodic(
    env_id: str | Env,
    env_params: dict[str, Any] | None = None,
    randomize: dict[str, Range] | None = None,
    env_kwargs: dict[str, Any] | None = None,
) -> Env:
    """The bare environment, which does not reset itself.

    Args:
        env_id: a gymnax name, ``suite/name`` with a suite in `SUITES`, ``module:function`` of one's own, or an episodic
            `Env` object.
        env_params: values for the environment's parameters by name; gymnax only.
        randomize: ranges of parameters by name, from which every reset draws; gymnax, brax and playground only.
        env_kwargs: arguments for what makes the environment, by name; not for an `Env` object, craftax and pgx.

    Raises:
        InputError: for an unknown name, a suite that is not installed, or parameters or arguments that the environment
            lacks.
    """
    return _by_width(env_id, env_params or {}, env_kwargs or {}, randomize or {})(1.0)


def _by_width(
    env_id: str | Env, env_params: dict[str, Any], env_kwargs: dict[str, Any], randomize: dict[str, Range]
) -> Callable[[float | jax.Array], Env]:
    """Width of the ranges, in [0, 1] -> the bare environment."""
    family = _make_family(env_id, env_params, env_kwargs)
    check_ranges(env_id if isinstance(env_id, str) else "this Env", family, randomize, env_params)
    return partial(randomized, family, randomize)


def _make_family(env_id: str | Env, env_params: dict[str, Any], env_kwargs: dict[str, Any]) -> Family:
    """The bare environments; arguments and errors are those of `make_episodic`."""
    if isinstance(env_id, Env):
        _check_no_params(env_params)
        _check_no_arguments(env_kwargs)
        return _checked(Family(member=lambda values: env_id))
    if own.is_own(env_id):
        return _checked(own.make_own(env_id, env_params, env_kwargs))
    suite, _, name = env_id.partition("/") if isinstance(env_id, str) else ("", "", "")
    if not name:
        return gymnax.family(env_id, env_params, env_kwargs)
    if suite not in SUITES:
        suites = f"one that begins with {', '.join(SUITES)} and a slash"
        reject("env_id", env_id, f"a gymnax name, {suites}, or module:function")
    _check_no_params(env_params)
    return SUITES[suite](env_id, name, env_kwargs)


def _checked(family: Family) -> Family:
    """Environments of the user's own, whose rewards may be numbers of Python."""
    _check_env(wrappers.as_arrays(family.member({})))
    return family._replace(member=lambda values: wrappers.as_arrays(family.member(values)))


def wrap_episodic(env: Env, w: Wrappers, env_id: str | Env) -> Env:
    """``env`` in the wrappers that forget everything when an episode ends."""
    _, mask = split_mask(env.observation_shape)
    for name in ("sticky_actions", "action_repeat") if mask is not None else ():
        if name in changed(w):
            default = getattr(Wrappers(), name)
            reject(name, getattr(w, name), f"{default!r} with an action_mask: an action may not be legal a second time")
    env = wrappers.record_episodes(env)
    if w.time_limit:
        env = wrappers.time_limit(env, w.time_limit)
    if w.sticky_actions is not None:
        env = wrappers.sticky_actions(env, w.sticky_actions)
    if w.action_repeat > 1:
        env = wrappers.repeat_action(env, w.action_repeat)
    if w.observe:
        seen, _ = split_mask(env.observation_shape)
        last = seen[-1:] if isinstance(seen, tuple) else ()  # if there is no axis, `wrappers.observe` rejects it
        if last and max(w.observe) >= last[0]:
            of = env_id if isinstance(env_id, str) else "this Env"
            reject("observe", w.observe, f"a tuple of ints in 0 .. {last[0] - 1}, for {of}")
        env = wrappers.observe(env, w.observe)
    if w.flatten:
        env = wrappers.flatten(env)
    if w.frame_stack > 1:
        env = wrappers.stack_frames(env, w.frame_stack)
    if w.clip_rewards is not None:
        env = wrappers.clip_rewards(env, w.clip_rewards)
    return env


def _check_no_params(env_params: dict[str, Any]) -> None:
    if env_params:
        reject("env_params", env_params, "empty: only the environments of gymnax take parameters; others, env_kwargs")


def _check_no_arguments(env_kwargs: dict[str, Any]) -> None:
    if env_kwargs:
        reject("env_kwargs", env_kwargs, "empty for an Env object, which has been made already")


def _check_curriculum(config: Config) -> None:
    """Check that there are ranges to widen, and that the frames can be counted in an int32."""
    frames = config.curriculum_frames
    if frames and not config.randomize:
        reject("curriculum_frames", frames, "0 without randomize, whose ranges it widens")
    if frames > _MOST_CURRICULUM_FRAMES:
        reject("curriculum_frames", frames, f"at most {_MOST_CURRICULUM_FRAMES:,}")


def _check_self_resetting(config: Config) -> None:
    """Check that an `Env` object which resets itself needs nothing that only an episodic one can be given."""
    env: Any = config.env_id
    _check_no_params(config.env_params)
    _check_no_arguments(config.env_kwargs)
    _check_curriculum(config)
    if config.randomize:
        reject("randomize", config.randomize, "empty for an Env that resets itself, whose resets cannot be changed")
    if config.opponents.opponent != "random":
        reject("opponent", config.opponents.opponent, "random for an Env that resets itself: its opponent is its own")
    for name, value in changed(config.wrappers).items():
        default = getattr(Wrappers(), name)
        reject(name, value, f"{default!r} for an Env that resets itself: it cannot be wrapped again")
    timestep = _check_env(env)
    if timestep.episode_return is None or timestep.episode_length is None:
        accepted = "an Env that reports episode_return and episode_length: see envs.wrappers.record_episodes"
        reject("env_id", env, accepted)


def _check_env(env: Env) -> Any:
    """Check an `Env` object of the user's own, without compiling anything.

    Returns:
        Shapes and types of its time steps.
    """
    if not isinstance(env.action_space, spaces.Discrete | spaces.MultiDiscrete | spaces.Continuous):
        reject("env_id", env.action_space, "an Env whose action_space is one of those in envs.spaces")
    if (wrong := wrong_types(env)) is not None:
        reject("env_id", "this Env", f"one that returns what agents expect: {wrong}")
    key = jax.random.key(0)
    state = jax.eval_shape(env.reset, key)[0]
    keys = key if env.freeze is None else jax.random.split(key)
    return jax.eval_shape(env.step, keys, state, jax.eval_shape(env.action_space.sample, key))[1]

"""What can be wrong with an environment of one's own, found by trying it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import host
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.envs import spaces, wrappers
from purejaxrl_a3c.envs.make import make_episodic
from purejaxrl_a3c.envs.observations import random_action, split_mask
from purejaxrl_a3c.envs.typed import wrong_types
from purejaxrl_a3c.host.programs import one_of
from purejaxrl_a3c.types import ActionSpace, Env

STEPS = 2000
"""Random steps in which episodes are looked for."""


class Check(NamedTuple):
    """What was tried, and what came of it."""

    name: str
    wrong: str = ""  # empty: nothing
    note: str = ""


def check_env(env_id: str | Env, env_kwargs: dict[str, Any] | None = None) -> Iterator[Check]:
    """Try an environment of JAX. A check that is not met ends it where the later ones would fail with it.

    Args:
        env_id: as a run takes it; an episodic `Env`, or the name of one.
        env_kwargs: arguments for what makes it.
    """
    try:
        env = make_episodic(env_id, env_kwargs=env_kwargs)
    except InputError as error:
        yield Check("it can be made", str(error))
        return
    except Exception as error:  # whatever the function of the user raises
        yield Check("it can be made", f"{type(error).__name__}: {error}")
        return
    yield Check("it can be made", note=f"observations {env.observation_shape}, actions {env.action_space}")
    for name, check in _CHECKS.items():
        try:
            answer = check(env)
        except Exception as error:
            yield Check(name, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            return
        if answer is None or answer.startswith("note: "):
            yield Check(name, note=(answer or "").removeprefix("note: "))
        else:
            yield Check(name, answer)
            return


_KEY = 0


def check_outside_env(env_id: str, env_kwargs: dict[str, Any] | None = None) -> Iterator[Check]:
    """Try an environment outside of JAX, ``gym/NAME`` and so on, which is made with these arguments."""
    try:
        env = host.make(env_id, 2, env_kwargs=env_kwargs)
    except Exception as error:
        yield Check("it can be made", str(error))
        return
    yield Check("it can be made", note=f"observations {env.observation_shape}, actions {env.action_space}")
    name, ended = "random steps", 0
    try:
        obs = env.reset(_KEY)
        act = jax.jit(jax.vmap(lambda key, obs: random_action(key, env.action_space, obs)))
        for number in range(STEPS // 2):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(_KEY), number))
            answer = env.step(np.asarray(act(keys, obs)))
            obs = answer.obs
            if one_of(obs) != env.observation_shape:
                yield Check(name, f"an observation of {one_of(obs)} instead of {env.observation_shape}")
                return
            _, mask = split_mask(obs)
            if mask is not None and not _some_of_each(env.action_space, jnp.asarray(mask)).all():
                yield Check(name, f"no action is legal, first after step {number + 1}")
                return
            ended += int((answer.terminated | answer.truncated).sum())
    except Exception as error:  # of the user's code, or of `HostEnv` about what it returned
        yield Check(name, f"{type(error).__name__}: {error}")
        return
    finally:
        env.close()
    hint = "" if ended else "; time_limit truncates episodes that may last for ever"
    yield Check(name, note=f"{ended} episodes ended in {STEPS}{hint}")


def _all(tree: Any) -> jax.Array:
    return jnp.stack(jax.tree.leaves(tree)).all()


def _some_of_each(action_space: ActionSpace, mask: jax.Array) -> jax.Array:
    """Whether there is a legal action for every choice, bool ``[...]`` for a mask ``[..., A]``."""
    sizes = action_space.sizes if isinstance(action_space, spaces.MultiDiscrete) else (mask.shape[-1],)
    parts = jnp.split(mask, np.cumsum(sizes)[:-1].tolist(), axis=-1)
    return jnp.stack([part.any(-1) for part in parts]).all(0)


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _storable(env: Env) -> str | None:
    for path, x in _leaves(jax.eval_shape(env.reset, jax.random.key(_KEY))[0]):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return f"the state's {jax.tree_util.keystr(path) or 'array'} is a typed key: keep jax.random.key_data(key)"
    return None


def _one_step(env: Env, number: int = 0) -> Any:
    key_reset, key_action, key_step = jax.random.split(jax.random.key(number), 3)
    state, obs = env.reset(key_reset)
    return obs, env.step(key_step, state, random_action(key_action, env.action_space, obs))


def _purity(env: Env) -> str | None:
    """The same twice, with other steps in between."""
    first = _one_step(env)
    for number in range(1, 4):
        _one_step(env, number)
    return _difference(first, _one_step(env), 0.0, "called again with the same arguments")


def _compiled(env: Env) -> str | None:
    return _difference(_one_step(env), jax.jit(lambda: _one_step(env))(), 1e-4, "under jit")


def _mapped(env: Env) -> str | None:
    def act(number: jax.Array) -> Any:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(_KEY), number), 3)
        state, obs = env.reset(keys[0])
        return obs, env.step(keys[2], state, random_action(keys[1], env.action_space, obs))

    numbers = jnp.arange(4)
    mapped = jax.jit(jax.vmap(act))(numbers)
    for i in range(4):
        alone = jax.jit(act)(numbers[i])
        found = _difference(alone, jax.tree.map(lambda x, i=i: x[i], mapped), 1e-4, f"under vmap, in copy {i}")
        if found:
            return found
    return None


def _difference(expected: Any, found: Any, tolerance: float, where: str) -> str | None:
    for (path, x), (_, y) in zip(_leaves(expected), _leaves(found), strict=True):
        if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        if not np.allclose(np.asarray(x, np.float64), np.asarray(y, np.float64), tolerance, tolerance, equal_nan=True):
            return f"{where}, {jax.tree_util.keystr(path)} differs"
    return None


def _episodes(env: Env) -> str | None:
    """Many random steps, with resets."""
    resetting = wrappers.auto_reset(wrappers.record_episodes(env))

    def step(carry: Any, key: jax.Array) -> Any:
        state, obs = carry
        key_action, key_step, key_reset = jax.random.split(key, 3)
        keys, action = jnp.stack([key_step, key_reset]), random_action(key_action, env.action_space, obs)
        _, bare = env.step(key_step, state.env.env, action)
        state, timestep = resetting.step(keys, state, action)
        _, again = env.reset(key_reset)
        last = timestep.terminated | timestep.truncated
        numbers = timestep.reward, jax.tree.map(lambda x: x.astype(jnp.float32), timestep.final_obs)
        finite = _all(jax.tree.map(lambda x: jnp.isfinite(x).all(), numbers))
        restarted = ~last | _all(jax.tree.map(lambda x, y: jnp.all(x == y), timestep.obs, again))
        _, mask = split_mask(timestep.obs)
        legal = jnp.bool_(True) if mask is None else _some_of_each(env.action_space, mask)
        lengths = jnp.where(last, timestep.episode_length, 0)
        return (state, timestep.obs), (finite, bare.terminated & bare.truncated, restarted, legal, last, lengths)

    @jax.jit
    def run() -> Any:
        key_reset, key_run = jax.random.split(jax.random.key(_KEY))
        return jax.lax.scan(step, resetting.reset(key_reset), jax.random.split(key_run, STEPS))[1]

    finite, both, restarted, legal, last, lengths = (np.asarray(x) for x in run())
    if not finite.all():
        return f"a reward or an observation is not finite, first at step {np.argmin(finite) + 1}"
    if both.any():
        return f"a step is both terminated and truncated, first step {np.argmax(both) + 1}"
    if not restarted.all():
        return "after an episode the next one does not begin as reset says"
    if not legal.all():
        return f"no action is legal, first after step {np.argmin(legal) + 1}"
    if not last.any():
        return f"note: none ended in {STEPS} random steps; time_limit truncates episodes that may last for ever"
    ended = lengths[last]
    return f"note: {len(ended)} in {STEPS} random steps, {ended.min()} to {ended.max()} steps long"


_CHECKS: dict[str, Callable[[Env], str | None]] = {
    "shapes and dtypes": wrong_types,
    "states can be written to files": _storable,
    "reset and step are pure": _purity,
    "they compute the same under jit": _compiled,
    "they compute the same under vmap": _mapped,
    "episodes end, restart and stay finite": _episodes,
}

"""Domain randomisation: every episode draws parameters of its environment.

An agent that was trained in many variants of a simulator acts well in all of them, and perhaps in the real world, which
is then one more variant (Tobin et al. 2017, arXiv 1703.06907, for pictures; Peng et al. 2018, arXiv 1710.06537, for
dynamics). The drawn values are part of the state of the environment, so an episode keeps them until its end.
"""

import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep

Range = tuple[float, float]
"""The lower and the upper bound of a uniform distribution; both may be drawn."""
_LARGEST_INT = 2**24  # the largest of the whole numbers that float32 holds without gaps
_DRAWN: set[tuple[str, frozenset[str]]] = set()
"""Names of environments and of parameters that passed `_not_drawn`: tracing a physics engine takes seconds."""


class Family(NamedTuple):
    """An environment for every value of its parameters."""

    member: Callable[[Mapping[str, Any]], Env]
    """Values of some parameters by name, which may be traced -> the episodic environment with them."""
    parameters: Mapping[str, float] = {}
    """Their defaults by name. That of a whole number is an int, and that of a switch is a bool."""
    problem: Callable[[str, float], str | None] = lambda name, value: None
    """(name, value) -> what the value must be instead; None if it is accepted."""


class RandomizedState(NamedTuple):
    """State of `randomized`."""

    env: EnvState
    values: dict[str, jax.Array]  # float32, int32 or bool []: the parameters of this episode


def randomized(family: Family, ranges: Mapping[str, Range], width: float | jax.Array = 1.0) -> Env:
    """The episodic environment whose every reset draws parameters; see `draw`.

    Args:
        family: the environments to draw from.
        ranges: the distributions, by name of parameter. Without any it is the family's default, as it is.
        width: in [0, 1], as of `draw`.
    """
    default = family.member({})
    if not ranges:
        return default

    def reset(key: Key) -> tuple[RandomizedState, Observation]:
        key_values, key_env = jax.random.split(key)
        values = draw(key_values, family.parameters, ranges, width)
        state, obs = family.member(values).reset(key_env)
        return RandomizedState(state, values), obs

    def step(key: Key, state: RandomizedState, action: Action) -> tuple[RandomizedState, TimeStep]:
        inner, timestep = family.member(state.values).step(key, state.env, action)
        return state._replace(env=inner), timestep

    def render(states: Sequence[RandomizedState]) -> Iterator[Any]:
        """Pictures show the parameters of each episode, such as the length of a pole."""
        for values, some in itertools.groupby(states, lambda one: {name: x.item() for name, x in one.values.items()}):
            drawn = family.member(values).render
            assert drawn is not None
            yield from drawn([one.env for one in some])

    return default._replace(reset=reset, step=step, render=None if default.render is None else render)


def draw(
    key: Key, defaults: Mapping[str, float], ranges: Mapping[str, Range], width: float | jax.Array = 1.0
) -> dict[str, jax.Array]:
    """Parameters of one episode: independent, each uniform in its range.

    Args:
        key: consumed.
        defaults: by name; a parameter whose default is an int or a bool is drawn from the whole numbers.
        ranges: by name.
        width: the part of each range, in [0, 1], that is drawn from: 0 is the default alone, or the bound next to it
            if it lies outside of the range, and 1 is the whole range. Both ends move linearly in between.

    Returns:
        Float32, int32 or bool ``[]`` by name.
    """
    names = sorted(ranges)  # equal dicts may have other orders
    uniform = jax.random.uniform(key, (len(names),), jnp.float32)

    def value(name: str, uniform: jax.Array) -> jax.Array:
        (low, high), default = ranges[name], defaults[name]
        start = min(max(default, low), high)
        below, above = width * jnp.float32(start - low), width * jnp.float32(high - start)
        if not isinstance(default, int):
            return jnp.clip(start - below + uniform * (below + above), low, high)
        first, last = start - jnp.floor(below), start + jnp.floor(above)
        drawn = jnp.minimum(first + jnp.floor(uniform * (last - first + 1)), last)
        return drawn.astype(jnp.bool_ if isinstance(default, bool) else jnp.int32)

    return {name: value(name, uniform[i]) for i, name in enumerate(names)}


def check_ranges(env_id: str, family: Family, ranges: Mapping[str, Range], fixed: Mapping[str, Any]) -> None:
    """Check that parameters of an environment can be drawn, and that it makes a difference.

    Args:
        env_id: what errors call the environment.
        family: its `Family`.
        ranges: the setting ``randomize``.
        fixed: the setting ``env_params``.

    Raises:
        InputError: naming the parameter.
    """
    for name, (low, high) in ranges.items():
        _check_name(env_id, family, name)
        field = f"randomize {name}"
        if name in fixed:
            reject(field, (low, high), f"left out, or env_params {name}, which is {fixed[name]!r}")
        if low > high:
            reject(field, (low, high), "a lower and an upper bound, in this order")
        for bound in (low, high):
            if problem := family.problem(name, bound):
                reject(field, bound, problem)
        if isinstance(family.parameters[name], int) and max(abs(low), abs(high)) > _LARGEST_INT:
            reject(field, (low, high), f"whole numbers of at most {_LARGEST_INT:,}")
    checked = env_id, frozenset(ranges)
    if ranges and checked not in _DRAWN and _not_drawn(family, [*ranges]):
        for name, given in ranges.items():
            if problem := _not_drawn(family, [name]):
                reject(f"randomize {name}", given, f"{problem} in {env_id}")
    _DRAWN.add(checked)


def _check_name(env_id: str, family: Family, name: str) -> None:
    if not family.parameters:
        reject("randomize", name, f"left out: {env_id} has no parameters; those of gymnax, brax and playground do")
    if name not in family.parameters:
        containing = [one for one in family.parameters if name in one]  # such as link.inertia.mass of mass
        nearest = [*containing, *difflib.get_close_matches(name, family.parameters, n=3, cutoff=0.0)]
        reject("randomize", name, f"a parameter of {env_id}; nearest: {', '.join(dict.fromkeys(nearest))}")


def _not_drawn(family: Family, names: list[str]) -> str | None:
    """What one of these parameters must be instead; None if each can be traced and changes what the agent sees."""
    key = jax.random.key(0)

    def play(values: dict[str, jax.Array]) -> Any:
        env = family.member(values)
        state, obs = env.reset(key)
        action = env.action_space.sample(key)
        return obs, jax.lax.scan(lambda state, _: env.step(key, state, action), state, None, 2)[1]

    values = {name: jax.ShapeDtypeStruct((), _dtype(family.parameters[name])) for name in names}
    try:
        program = jax.make_jaxpr(play)(values).jaxpr
    except (TypeError, IndexError) as error:  # JAX's errors of a number that must be known when the program is traced
        reason = str(error).partition("\n")[0]
        return f"a parameter that may change while the program runs; this one is fixed when it is traced ({reason})"
    # What remains of the program without all that no observation, reward or end of an episode depends on.
    _, used = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    return None if all(used) else "a parameter that observations, rewards or ends of episodes depend on"


def _dtype(default: float) -> Any:
    if isinstance(default, bool):
        return jnp.bool_
    return jnp.int32 if isinstance(default, int) else jnp.float32

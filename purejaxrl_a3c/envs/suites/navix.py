"""navix environments, which are MiniGrid's written in JAX, as `Env`."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep


def make(env_id: str, name: str, env_kwargs: dict[str, Any] | None = None) -> Env:
    """The navix environment called ``name``, with the settings of ``navix.make``.

    The agent sees the whole grid in symbols, int8 ``[height, width, 3]``: navix has them as uint8, which networks take
    for the pixels of an image. An episode is truncated after the time limit that the environment has in navix: 100
    steps in navix 0.7, and MiniGrid's own limit in navix 4.

    Args:
        env_id: the whole name, for errors.
        name: a name in ``navix.registry()``, such as ``Navix-Empty-5x5-v0``.
        env_kwargs: arguments of the environment's class, such as ``max_steps``.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if navix is not installed or has no environment of that name.
    """
    # Importing and constructing compute with arrays, which must not become part of a trace around this call.
    with jax.ensure_compile_time_eval():
        try:
            import navix
        except ImportError as error:
            checks.reject_missing_suite(env_id, error)
        known = navix.registry()
        checks.check_known(env_id, name, known)
        grid = checks.make_with(env_id, partial(navix.make, name), env_kwargs or {})
        action_space = spaces.Discrete(int(grid.action_space.n))

    def see(observation: jax.Array) -> Observation:
        return observation.astype(jnp.int8)

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state = grid.reset(jax.random.key_data(key))  # the state keeps the key, and must hold plain arrays
        # The cache is an image of the empty grid: symbols do not need it, and it is 95% of a state.
        state = state.replace(state=state.state.replace(cache=None))
        return state, see(state.observation)

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        # navix writes into the dicts of the state that it is given, so it gets copies of them. Its public ``step``
        # computes the start of another episode at every step, in case this one is over.
        state = grid._step(jax.tree.map(lambda x: x, state), action)
        obs = see(state.observation)
        return state, TimeStep(obs, state.reward, state.is_termination(), state.is_truncation(), final_obs=obs)

    obs = jax.eval_shape(reset, jax.random.key(0))[1]

    def render(states: Sequence[Any]) -> Iterator[np.ndarray]:
        # With the cache, which is left out of states.
        first = grid.reset(jax.random.key_data(jax.random.key(0)))
        draw = jax.jit(lambda state: navix.observations.rgb(state.state.replace(cache=first.state.cache)))
        return (np.asarray(draw(state)) for state in states)

    return Env(reset, step, obs.shape, action_space, from_native=see, render=render)

"""The single-player games of pgx as `Env`."""

from typing import Any

import jax

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.observations import shape_of, with_mask
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep


def make(env_id: str, name: str) -> Env:
    """The pgx game called ``name``, for one player.

    The observation is a dict with the board and an ``action_mask``, because an illegal action ends the game with a
    reward of -1. In MinAtar every action is legal, and the observation is the board alone. pgx has no time limits, and
    some games of MinAtar may go on for ever; see ``time_limit`` of `envs.Wrappers`.

    Args:
        env_id: the whole name, for errors.
        name: a name in ``pgx.available_envs()``, such as ``minatar-breakout``.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if pgx is not installed or has no game of that name, or if more than one plays it.
    """
    # Importing and constructing compute with arrays, which must not become part of a trace around this call.
    with jax.ensure_compile_time_eval():
        try:
            import pgx
        except ImportError as error:
            checks.reject_missing_suite(env_id, error)
        known = pgx.available_envs()
        checks.check_known(env_id, name, known)
        game = pgx.make(name)
        if game.num_players != 1:
            checks.reject("env_id", env_id, f"a game for one player, such as pgx/2048; this is for {game.num_players}")

    def observe(state: Any) -> Observation:
        return with_mask(state.observation, None if name.startswith("minatar-") else state.legal_action_mask)

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state = game.init(key)
        return state, observe(state)

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        state = game.step(state, action, key)
        timestep = TimeStep(
            obs=observe(state),
            reward=state.rewards[0],
            terminated=state.terminated,
            truncated=state.truncated & ~state.terminated,
            final_obs=observe(state),
        )
        return state, timestep

    state, obs = jax.eval_shape(reset, jax.random.key(0))
    return Env(reset, step, shape_of(obs), action_space=spaces.Discrete(len(state.legal_action_mask)))

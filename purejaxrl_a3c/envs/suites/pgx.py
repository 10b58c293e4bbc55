"""The games of pgx as `Env`, for one player, and for two of whom one is the agent."""

from typing import Any

import jax

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.games import Game, from_game
from purejaxrl_a3c.envs.observations import shape_of, with_mask
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep


def make(env_id: str, name: str) -> Env:
    """The pgx game called ``name``.

    The observation is a dict with the board, as the player whose turn it is sees it, and an ``action_mask``, because an
    illegal action ends the game with a loss. In MinAtar every action is legal, and the observation is the board alone.
    Its games have sticky actions with a probability of 0.1 inside, to which ``sticky_actions`` of `envs.Wrappers` would
    be added. Freeway is truncated after 2501 steps, where pgx says that it terminates, although nothing but an unseen
    clock ends it. The others have no time limit, and some may go on for ever; see ``time_limit`` of `envs.Wrappers`.

    A game for two is one of the agent against an opponent, see `games.from_game`. The agent begins about half of them.

    Args:
        env_id: the whole name, for errors.
        name: a name in ``pgx.available_envs()``, such as ``minatar-breakout`` or ``connect_four``.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if pgx is not installed or has no game of that name, or if more than two play it.
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
        if game.num_players > 2:
            checks.reject("env_id", env_id, f"a game for one or two players; this is for {game.num_players}")
    if game.num_players == 2:
        return from_game(_rules(game))
    return _solitaire(game, masked=not name.startswith("minatar-"), timed=name == "minatar-freeway")


def _solitaire(game: Any, masked: bool, timed: bool) -> Env:
    """The game for one, with a mask or without; ``timed``: it ends with its time limit and by nothing else."""

    def observe(state: Any) -> Observation:
        return with_mask(state.observation, state.legal_action_mask if masked else None)

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state = game.init(key)
        return state, observe(state)

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        state = game.step(state, action, key)
        obs = observe(state)
        timestep = TimeStep(
            obs=obs,
            reward=state.rewards[0],
            terminated=state.terminated & (not timed),
            truncated=state.terminated if timed else state.truncated & ~state.terminated,
            final_obs=obs,
        )
        return state, timestep

    obs = jax.eval_shape(reset, jax.random.key(0))[1]
    return Env(reset, step, shape_of(obs), action_space=spaces.Discrete(game.num_actions))


def _rules(game: Any) -> Game:
    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, jax.Array]:
        state = game.step(state, action, key)
        return state, state.rewards

    return Game(
        init=game.init,
        step=step,
        turn=lambda state: state.current_player,
        terminated=lambda state: state.terminated,
        truncated=lambda state: state.truncated,
        observe=lambda state: with_mask(state.observation, state.legal_action_mask),
        action_space=spaces.Discrete(game.num_actions),
    )

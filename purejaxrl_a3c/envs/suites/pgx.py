"""The games of pgx as `Env`, for one player, and for two of whom one is the agent."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.observations import random_action, shape_of, with_mask
from purejaxrl_a3c.types import Action, Duel, Env, EnvState, Key, Observation, Player, TimeStep

_AGENT = 0  # pgx's number of the player that learns


def make(env_id: str, name: str) -> Env:
    """The pgx game called ``name``.

    The observation is a dict with the board, as the player whose turn it is sees it, and an ``action_mask``, because an
    illegal action ends the game with a loss. In MinAtar every action is legal, and the observation is the board alone.
    pgx has no time limits, and some games of MinAtar may go on for ever; see ``time_limit`` of `envs.Wrappers`.

    In a game for two, a step is a move of the agent and what the opponent answers. The opponent takes random legal
    actions; ``duel`` has others. The agent begins about half of the games.

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
    if game.num_players == 1:
        return _solitaire(game, masked=not name.startswith("minatar-"))
    space = spaces.Discrete(game.num_actions)

    def random(key: Key, state: EnvState, obs: Observation) -> Action:
        return random_action(key, space, obs)

    players: dict[str, Player] = {"random": random, "lookahead": partial(_look_ahead, game, space)}
    duel = Duel(partial(_against, game, space), players)
    return duel.against(random)._replace(duel=duel)


def _solitaire(game: Any, masked: bool) -> Env:
    def observe(state: Any) -> Observation:
        return with_mask(state.observation, state.legal_action_mask if masked else None)

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state = game.init(key)
        return state, observe(state)

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        state = game.step(state, action, key)
        return state, _timestep(state, state.rewards[0], observe(state))

    obs = jax.eval_shape(reset, jax.random.key(0))[1]
    return Env(reset, step, shape_of(obs), action_space=spaces.Discrete(game.num_actions))


def _against(game: Any, space: spaces.Discrete, opponent: Player) -> Env:
    """The game for two with this opponent."""

    def reply(key: Key, state: Any) -> Any:
        """The state and the agent's reward after all moves of the opponent until the agent has its turn."""

        def move(loop: Any) -> Any:
            state, reward, key = loop
            key, key_choose, key_step = jax.random.split(key, 3)
            state = game.step(state, opponent(key_choose, state, _seen(state)), key_step)
            return state, reward + state.rewards[_AGENT], key

        start = state, jnp.float32(0), key
        state, reward, _ = jax.lax.while_loop(lambda loop: _has_turn(loop[0], 1 - _AGENT), move, start)
        return state, reward

    def reset(key: Key) -> tuple[EnvState, Observation]:
        key_game, key_reply = jax.random.split(key)
        state, _ = reply(key_reply, game.init(key_game))
        return state, _seen(state)

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        key_step, key_reply = jax.random.split(key)
        state = game.step(state, action, key_step)
        own = state.rewards[_AGENT]
        state, its = reply(key_reply, state)
        return state, _timestep(state, own + its, _seen(state))

    obs = jax.eval_shape(reset, jax.random.key(0))[1]
    return Env(reset, step, shape_of(obs), action_space=space)


def _seen(state: Any) -> Observation:
    return with_mask(state.observation, state.legal_action_mask)


def _timestep(state: Any, reward: jax.Array, obs: Observation) -> TimeStep:
    return TimeStep(
        obs=obs,
        reward=reward,
        terminated=state.terminated,
        truncated=state.truncated & ~state.terminated,
        final_obs=obs,
    )


def _has_turn(state: Any, player: int) -> jax.Array:
    return (state.current_player == player) & ~state.terminated & ~state.truncated


def _look_ahead(game: Any, space: spaces.Discrete, key: Key, state: Any, obs: Observation) -> Action:
    """A move that wins at once if there is one, otherwise a random legal one that does not lose at once."""
    key_step, key_choose = jax.random.split(key)
    actions = jnp.arange(space.n, dtype=jnp.int32)
    legal = state.legal_action_mask
    reward = jax.vmap(lambda action: game.step(state, action, key_step).rewards[state.current_player])(actions)
    wins, fair = legal & (reward > 0), legal & (reward >= 0)
    chosen = jnp.where(wins.any(), wins, jnp.where(fair.any(), fair, legal))
    return random_action(key_choose, space, with_mask(state.observation, chosen))

"""Games for two as environments of one of the players."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.observations import random_action, shape_of, split_mask, with_mask
from purejaxrl_a3c.types import Action, ActionSpace, Duel, Env, EnvState, Key, Observation, Player, TimeStep

AGENT = 0
"""Number of the player that learns; the opponent is the other one of 0 and 1."""


class Game(NamedTuple):
    """The rules of a game for two as pure functions."""

    init: Callable[[Key], EnvState]
    """key -> state at the start of a game."""
    step: Callable[[Key, EnvState, Action], tuple[EnvState, jax.Array]]
    """(key, state, action of whose turn it is) -> (state, rewards of both players, float32 [2])."""
    turn: Callable[[EnvState], jax.Array]
    """state -> number of the player whose turn it is, 0 or 1. A player may have several turns one after the other."""
    terminated: Callable[[EnvState], jax.Array]
    """state -> whether the game is over, bool []."""
    truncated: Callable[[EnvState], jax.Array]
    """state -> whether the game was cut off, bool []."""
    observe: Callable[[EnvState], Observation]
    """state -> the game as the player sees it whose turn it is; with an ``action_mask`` if some actions are not legal.
    """
    action_space: ActionSpace


def from_game(game: Game) -> Env:
    """A game for two as an episodic `Env`: a step is a move of the agent and all that the opponent answers.

    The agent is player 0, so ``init`` must let both begin equally often. The opponent takes random legal actions;
    ``duel`` has the same game against others, of which ``lookahead`` wins at once where it can.
    """

    def random(key: Key, state: EnvState, obs: Observation) -> Action:
        return random_action(key, game.action_space, obs)

    players: dict[str, Player] = {"random": random}
    if isinstance(game.action_space, spaces.Discrete):
        players["lookahead"] = partial(_look_ahead, game, game.action_space.n)
    duel = Duel(partial(_against, game), players)
    return duel.against(random)._replace(duel=duel)


def _against(game: Game, opponent: Player) -> Env:
    """The game with this opponent."""

    def is_over(state: EnvState) -> jax.Array:
        return game.terminated(state) | game.truncated(state)

    def reply(key: Key, state: EnvState) -> tuple[EnvState, jax.Array]:
        """The state when the agent has its turn again, and its rewards until then."""

        def move(loop: Any) -> Any:
            state, reward, key = loop
            key, key_choose, key_step = jax.random.split(key, 3)
            state, rewards = game.step(key_step, state, opponent(key_choose, state, game.observe(state)))
            return state, reward + rewards[AGENT], key

        def has_turn(loop: Any) -> jax.Array:
            return (game.turn(loop[0]) != AGENT) & ~is_over(loop[0])

        state, reward, _ = jax.lax.while_loop(has_turn, move, (state, jnp.float32(0), key))
        return state, reward

    def reset(key: Key) -> tuple[EnvState, Observation]:
        key_game, key_reply = jax.random.split(key)
        state, _ = reply(key_reply, game.init(key_game))
        return state, game.observe(state)

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        key_step, key_reply = jax.random.split(key)
        state, rewards = game.step(key_step, state, action)
        state, later = reply(key_reply, state)
        obs, terminated = game.observe(state), game.terminated(state)
        timestep = TimeStep(
            obs=obs,
            reward=rewards[AGENT] + later,
            terminated=terminated,
            truncated=game.truncated(state) & ~terminated,
            final_obs=obs,
        )
        return state, timestep

    obs = jax.eval_shape(reset, jax.random.key(0))[1]
    return Env(reset, step, shape_of(obs), game.action_space)


def _look_ahead(game: Game, num_actions: int, key: Key, state: EnvState, obs: Observation) -> Action:
    """An action with the largest reward in this step among the legal ones; a random one of several."""
    key_step, key_choose = jax.random.split(key)
    seen, legal = split_mask(obs)
    actions = jnp.arange(num_actions, dtype=jnp.int32)
    legal = jnp.ones(num_actions, bool) if legal is None else legal
    reward = jax.vmap(lambda action: game.step(key_step, state, action)[1][game.turn(state)])(actions)
    reward = jnp.where(legal, reward, -jnp.inf)
    return random_action(key_choose, game.action_space, with_mask(seen, reward >= reward.max()))

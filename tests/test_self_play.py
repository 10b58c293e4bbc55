"""Games for two: whose turn it is, who plays against whom, and which versions of the policy are in the pool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import a2c, a3c, dqn, envs, evaluate, make_train, ppo, replace
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.envs import spaces, wrappers
from purejaxrl_a3c.loops.opponents import Pool, make_opponents, shared_out
from purejaxrl_a3c.networks import make as make_network
from purejaxrl_a3c.run.env_checks import check_env

STICKS = 7


def nim():
    """Players take 1, 2 or 3 of the sticks in turn, and who takes the last one wins. Player 0 begins in half the games.

    Who has to take from 4 loses against perfect play, so the first player wins by leaving 4.
    """

    def init(key):
        return jnp.int32(STICKS), jax.random.bernoulli(key).astype(jnp.int32)

    def step(key, state, action):
        del key
        sticks, turn = state
        left = sticks - 1 - action
        won = jnp.where(jnp.arange(2) == turn, 1.0, -1.0)
        lost = -won  # whoever takes more than there are
        rewards = jnp.where(left == 0, won, jnp.where(left < 0, lost, 0.0))
        return (jnp.maximum(left, 0), 1 - turn), rewards

    def observe(state):
        left = jnp.maximum(state[0], 1)  # something is legal after the end, too
        return {"observation": jax.nn.one_hot(state[0], STICKS + 1), "action_mask": jnp.arange(3) < left}

    game = envs.Game(
        init=init,
        step=step,
        turn=lambda state: state[1],
        terminated=lambda state: state[0] == 0,
        truncated=lambda state: jnp.bool_(False),
        observe=observe,
        action_space=spaces.Discrete(3),
    )
    return envs.from_game(game)


CONFIG = replace(
    ppo.Config(),
    env_id=nim(),
    opponent="pool",
    num_envs=16,
    rollout_length=16,
    hidden_sizes=(32,),
    learning_rate=2e-3,
    total_frames=256 * 235,
    snapshot_every=5,
)


@pytest.fixture(scope="module")
def trained():
    return jax.jit(make_train(CONFIG))(jax.random.key(0))


def always(number):
    """A player that always takes as many, or what is left."""
    return lambda key, state, obs: jnp.minimum(number, state[0]) - 1


def test_a_step_is_a_move_and_its_answer():
    env = nim().duel.against(always(2))
    starts = [env.reset(jax.random.key(i)) for i in range(20)]
    sticks = [int(state[0]) for state, _ in starts]
    assert set(sticks) == {7, 5}  # the opponent has begun some of the games
    for state, obs in starts:
        assert state[1] == 0
        np.testing.assert_array_equal(obs["observation"], np.eye(STICKS + 1)[state[0]])
    state = starts[sticks.index(7)][0]
    played = []
    for action in (0, 1, 1):  # 7 - 1 - 2 = 4, 4 - 2 - 2 = 0
        state, timestep = env.step(jax.random.key(0), state, jnp.int32(action))
        played.append((int(state[0]), float(timestep.reward), bool(timestep.terminated)))
        if timestep.terminated:
            break
    assert played == [(4, 0.0, False), (0, -1.0, True)]
    _, timestep = env.step(jax.random.key(0), (jnp.int32(2), jnp.int32(0)), jnp.int32(1))
    assert (timestep.reward, timestep.terminated) == (1.0, True)  # no answer after the agent's last move


def test_a_player_may_have_several_turns():
    """Of 7 sticks the opponent takes one whenever the number that is left is odd."""
    rules = envs.Game(
        init=lambda key: jnp.int32(STICKS),
        step=lambda key, state, action: (state - 1 - action, jnp.stack([1.0, -1.0]) * (state - 1 - action == 0)),
        turn=lambda state: ((state % 2 == 1) | (state > 5)).astype(jnp.int32),
        terminated=lambda state: state == 0,
        truncated=lambda state: jnp.bool_(False),
        observe=lambda state: state[None] * 1.0,
        action_space=spaces.Discrete(1),
    )
    env = envs.from_game(rules)
    state, obs = env.reset(jax.random.key(0))
    assert state == 4  # 7, 6 and 5 were the opponent's
    assert obs == 4
    state, _ = env.step(jax.random.key(0), state, jnp.int32(0))
    assert state == 2


def test_the_named_opponents_take_legal_actions_and_win_where_they_can():
    players = nim().duel.players
    for name, player in players.items():
        for sticks in range(1, STICKS + 1):
            state = jnp.int32(sticks), jnp.int32(1)
            obs = {"observation": jnp.zeros(STICKS + 1), "action_mask": jnp.arange(3) < sticks}
            keys = jax.random.split(jax.random.key(0), 100)
            found = set(np.asarray(jax.vmap(lambda key, p=player, s=state, o=obs: p(key, s, o))(keys)).tolist())
            legal = set(range(min(3, sticks)))
            assert found == ({sticks - 1} if name == "lookahead" and sticks <= 3 else legal)


def test_an_agent_learns_to_win_from_its_own_earlier_versions(trained):
    """A perfect player gets 8 / 9 against random moves and 2 / 3 against lookahead: who begins against it may win."""
    assert evaluate(CONFIG, trained, jax.random.key(1), 512, deterministic=True).mean() > 0.75
    assert evaluate(CONFIG, trained, jax.random.key(1), 512, deterministic=True, opponent="lookahead").mean() > 0.5
    # It wins all games that it begins against itself, and loses the others.
    assert abs(evaluate(CONFIG, trained, jax.random.key(1), 512, opponent=trained).mean()) < 0.15
    begun = jax.jit(make_train(replace(CONFIG, total_frames=256, learning_rate=0.0)))(jax.random.key(1))
    assert evaluate(CONFIG, trained, jax.random.key(1), 512, opponent=begun).mean() > 0.7


def test_the_oldest_version_is_replaced_now_and_then(trained):
    size, every = 4, 5
    pool = trained.state.opponents
    assert sorted(pool.taken.tolist()) == [220, 225, 230, 235]
    ages = trained.metrics.losses["opponent_age"]
    assert ages[0] == 0
    assert ages.max() < size * every
    newest = jax.tree.map(lambda x: x[int(pool.taken.argmax())], pool.params)
    jax.tree.map(np.testing.assert_array_equal, newest, trained.state.learner.params)  # taken after the last iteration


def test_every_environment_plays_against_its_own_version():
    pool = Pool(jnp.array([10.0, 20.0, 30.0]), jnp.zeros(3, jnp.int32))
    act = shared_out(lambda opponent, params, x: opponent + params + x, pool)
    found = act(jnp.array([100.0, 200.0]), jnp.arange(12.0).reshape(2, 6))
    np.testing.assert_array_equal(found[0], 100 + np.array([10, 11, 22, 23, 34, 35]))
    np.testing.assert_array_equal(found[1], 200 + np.array([16, 17, 28, 29, 40, 41]))


@pytest.mark.parametrize("schedule", ["random", "clock"])
def test_workers_of_a3c_play_against_the_pool_too(schedule):
    config = replace(a3c.Config(), env_id=nim(), opponent="pool", num_workers=4, envs_per_worker=4, total_frames=4_000)
    config = replace(config, schedule=schedule, hidden_sizes=(8,), pool_size=2, snapshot_every=3)
    result = jax.jit(make_train(config))(jax.random.key(0))
    assert np.isfinite(result.metrics.losses["policy_loss"]).all()
    assert result.state.opponents.taken.max() > 0


def test_a_pool_of_the_newest_version_alone_is_the_present_policy():
    config = replace(CONFIG, pool_size=1, snapshot_every=1, total_frames=256 * 4)
    state = jax.jit(make_train(config))(jax.random.key(0)).state
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[0], y), state.opponents.params, state.learner.params)


def test_doctor_accepts_a_game():
    assert not any(check.wrong for check in check_env(nim()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(CONFIG, env_id="CartPole-v1"), "opponent: 'pool' .* random: this environment is not a game for two"),
        (replace(CONFIG, core="gru"), "core: .* feed_forward in self-play"),
        (replace(CONFIG, pool_size=5), "pool_size: 5 .* a divisor of 16, the environments of a worker"),
        (replace(CONFIG, env_id=wrappers.auto_reset(wrappers.record_episodes(nim()))), "opponent: 'pool' .* its own"),
        (replace(CONFIG, group_size=2), "opponent: 'pool' .* random or lookahead with a group_size"),
        (replace(CONFIG, flatten=True), "flatten: True .* False in self-play"),
        (replace(dqn.Config(), env_id=nim(), opponent="pool"), "opponent: 'pool' .* random or lookahead, where"),
    ],
)
def test_what_cannot_be_played_is_refused(config, message):
    with pytest.raises(InputError, match=message):
        make_train(config)


def test_an_opponent_must_be_there_and_fit():
    config = replace(a2c.Config(), hidden_sizes=(8,), total_frames=500)
    result = jax.jit(make_train(config))(jax.random.key(0))
    with pytest.raises(InputError, match=r"opponent: .* None: this environment is not a game for two"):
        evaluate(config, result, jax.random.key(1), opponent=result)
    with pytest.raises(InputError, match=r"opponent: 'lookahead' .* not a game for two"):
        evaluate(config, result, jax.random.key(1), opponent="lookahead")
    normalized = replace(CONFIG, opponent="random", normalize_observations=True, total_frames=256)
    result = jax.jit(make_train(normalized))(jax.random.key(0))
    assert evaluate(normalized, result, jax.random.key(1), 8).shape == (8,)
    with pytest.raises(InputError, match=r"normalize_observations: True .* in self-play"):
        evaluate(normalized, result, jax.random.key(1), 8, opponent=result)
    with pytest.raises(InputError, match=r"opponent: 'pool' .* random, lookahead or a trained agent"):
        evaluate(normalized, result, jax.random.key(1), 8, opponent="pool")
    network = make_network(CONFIG.network, envs.make(CONFIG.env, 0.99))
    assert make_opponents(envs.Opponents(), network, 7).init(None) == ()

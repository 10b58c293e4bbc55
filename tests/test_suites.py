"""The suites of environments that are optional: what is not installed is skipped."""

import importlib
import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import a2c, make_train, pqn, replace
from purejaxrl_a3c.envs import spaces, wrappers
from purejaxrl_a3c.envs.observations import random_action, shape_of

# Prefix of an env_id, which is the name of the extra too: the package, an environment that is cheap, and steps.
SUITES = {
    "brax": ("brax", "inverted_pendulum", 20),
    "playground": ("mujoco_playground", "PendulumSwingup", 20),
    "pgx": ("pgx", "minatar-breakout", 50),
    "navix": ("navix", "Navix-Empty-5x5-v0", 50),
    "jumanji": ("jumanji", "Snake-v1", 50),
    "craftax": ("craftax", "Craftax-Classic-Symbolic-v1", 5),
}


def make(env_id):
    suite, name = env_id.split("/")
    return importlib.import_module(f"purejaxrl_a3c.envs.suites.{suite}").make(env_id, name)


def need(suite):
    package = SUITES[suite][0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}: pip install 'purejaxrl-a3c[{suite}]'")


@pytest.fixture(params=SUITES)
def suite(request):
    need(request.param)
    return request.param


@pytest.fixture(autouse=True)
def _rank_promotion():
    with jax.numpy_rank_promotion("allow"):  # not for our code: some of the suites rely on it
        yield


def types(tree):
    return [(leaf.shape, jnp.dtype(leaf.dtype).name) for leaf in jax.tree.leaves(tree)]


def structure(tree):
    return jax.tree.structure(tree)


def run(function, *args):
    """``function`` compiled with little optimisation: what is compiled here runs for a moment and once."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(*args)


def play(env, steps, action=None, seed=0):
    """Time steps ``[T]`` of one copy of an episodic environment, past its end if it has one there."""
    key_reset, key_steps = jax.random.split(jax.random.key(seed))

    def tick(loop, key):
        state, obs = loop
        key_action, key_step = jax.random.split(key)
        chosen = random_action(key_action, env.action_space, obs) if action is None else action
        state, timestep = env.step(key_step, state, chosen)
        return (state, timestep.obs), timestep

    return run(lambda: jax.lax.scan(tick, env.reset(key_reset), jax.random.split(key_steps, steps))[1])


def test_an_environment_can_be_scanned_and_reports_strict_types(suite):
    _, name, steps = SUITES[suite]
    episodic = make(f"{suite}/{name}")
    key = jax.random.key(0)
    state, obs = jax.eval_shape(episodic.reset, key)
    next_state, timestep = jax.eval_shape(episodic.step, key, state, jax.eval_shape(episodic.action_space.sample, key))
    assert structure(state) == structure(next_state)
    assert types((state, obs)) == types((next_state, timestep.obs))
    assert types(timestep.final_obs) == types(obs)
    assert shape_of(obs) == episodic.observation_shape
    assert types(timestep.reward) == [((), "float32")]
    assert types(timestep.terminated) == types(timestep.truncated) == [((), "bool")]
    assert not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))

    env = wrappers.auto_reset(wrappers.record_episodes(episodic))

    def tick(state, key):
        key_action, key_step = jax.random.split(key)
        return env.step(jax.random.split(key_step), state, env.action_space.sample(key_action))

    def live(key):
        state, _ = env.reset(key)
        return jax.lax.scan(tick, state, jax.random.split(key, steps))[1]

    timesteps = run(jax.vmap(live), jax.random.split(key, 2))
    assert jax.tree.map(lambda x: x.shape[2:], timesteps.obs) == episodic.observation_shape
    assert all(np.isfinite(np.asarray(x, np.float32)).all() for x in jax.tree.leaves(timesteps.final_obs))
    assert np.isfinite(timesteps.reward).all()
    assert not (timesteps.terminated & timesteps.truncated).any()
    last = timesteps.terminated | timesteps.truncated
    pairs = zip(*map(jax.tree.leaves, (timesteps.obs, timesteps.final_obs)), strict=True)
    same = np.all([(x == y).reshape(2, steps, -1).all(axis=-1) for x, y in pairs], axis=0)
    assert same[~last].all()
    np.testing.assert_array_equal(timesteps.episode_length[:, 0], 1)
    if suite in ("brax", "pgx", "jumanji"):  # where random actions end episodes this soon
        assert timesteps.terminated.any()
        assert not same[last].all()


def test_a_step_leaves_the_state_that_it_is_given_alone(suite):
    env = make(f"{suite}/{SUITES[suite][1]}")
    key = jax.random.key(0)

    def check():
        state, _ = env.reset(key)
        before = jax.tree.leaves(state)
        env.step(key, state, env.action_space.sample(key))
        assert all(one is other for one, other in zip(before, jax.tree.leaves(state), strict=True))

    jax.eval_shape(check)


def test_an_environment_can_be_made_inside_of_a_trace(suite):
    def start(key):
        return make(f"{suite}/{SUITES[suite][1]}").reset(key)[1]

    keys = jax.random.split(jax.random.key(0))
    assert jax.tree.leaves(jax.eval_shape(jax.vmap(start), keys))[0].shape[0] == 2
    assert shape_of(jax.eval_shape(start, keys[0])) == make(f"{suite}/{SUITES[suite][1]}").observation_shape


def test_an_unknown_name_is_answered_with_the_nearest_ones(suite):
    name = SUITES[suite][1]
    with pytest.raises(ValueError, match=rf"env_id: '{suite}/{name[:-1]}' is not accepted; .* nearest: .*{name}"):
        make(f"{suite}/{name[:-1]}")


@pytest.mark.parametrize("prefix", SUITES)
def test_a_suite_that_is_missing_is_named_with_what_installs_it(prefix, monkeypatch):
    package, name, _ = SUITES[prefix]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"env_id: '{prefix}/{name}' .*pip install '[a-z]*{prefix}[<>]"):
        make(f"{prefix}/{name}")


# Time limits, and what else is a suite's own.


def test_brax_terminates_where_brax_does_and_its_time_limit_truncates(monkeypatch):
    need("brax")
    from purejaxrl_a3c.envs.suites import brax as brax_suite

    falling = play(make("brax/inverted_pendulum"), 30, action=jnp.ones(1))
    assert falling.terminated.any()
    assert not falling.truncated.any()
    np.testing.assert_array_equal(falling.terminated, np.abs(falling.final_obs[:, 1]) > 0.2)
    monkeypatch.setattr(brax_suite, "EPISODE_LENGTH", 3)
    cut = play(make("brax/inverted_pendulum"), 30, action=jnp.ones(1))
    np.testing.assert_array_equal(cut.terminated, falling.terminated)
    np.testing.assert_array_equal(cut.truncated, (np.arange(30) >= 2) & ~cut.terminated)
    np.testing.assert_array_equal(cut.final_obs, falling.final_obs)  # the limit changes nothing but the flag


def test_brax_clips_actions():
    need("brax")
    env = make("brax/inverted_pendulum")
    key = jax.random.key(0)
    show = jax.vmap(lambda action: env.step(key, env.reset(key)[0], action)[1].obs)
    obs = run(show, jnp.array([[1.0], [5.0], [0.5]]))
    np.testing.assert_array_equal(obs[0], obs[1])
    assert (obs[0] != obs[2]).any()


def test_brax_says_so_where_it_needs_what_jax_no_longer_has(monkeypatch):
    need("brax")
    from brax import envs

    def outdated(self, state, action):
        raise TypeError("clip() got an unexpected keyword argument 'a_min'")  # as of brax's Swimmer

    monkeypatch.setattr(envs._envs["inverted_pendulum"], "step", outdated)
    with pytest.raises(ValueError, match=rf"'brax/inverted_pendulum' is not accepted; .*jax {jax.__version__}.*a_min"):
        make("brax/inverted_pendulum")


def test_playground_is_truncated_after_its_episode_length(monkeypatch):
    need("playground")
    from mujoco_playground import registry

    config = registry.get_default_config("PendulumSwingup")
    free = play(make("playground/PendulumSwingup"), 3, action=jnp.ones(1))
    assert not (free.terminated | free.truncated).any()
    config.episode_length = 3
    monkeypatch.setattr(registry, "get_default_config", lambda name: config)
    cut = play(make("playground/PendulumSwingup"), 3, action=jnp.ones(1))
    np.testing.assert_array_equal(cut.truncated, [False, False, True])
    assert not cut.terminated.any()
    np.testing.assert_array_equal(cut.final_obs, free.final_obs)


def test_playground_says_so_where_it_cannot_fetch_its_models(monkeypatch):
    need("playground")
    from mujoco_playground import registry

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(registry, "load", no_network)
    with pytest.raises(ValueError, match=r"'playground/Go1Getup' is not accepted; .*no network"):
        make("playground/Go1Getup")


def test_playground_shows_the_state_of_an_observation_with_several_parts(monkeypatch):
    need("playground")
    from mujoco_playground import registry

    load = registry.load

    def load_with_parts(name, config):
        env = load(name, config=config)
        reset, step = env.reset, env.step

        def in_parts(state):
            return state.replace(obs={"privileged_state": jnp.zeros(9), "state": state.obs})

        env.reset = lambda rng: in_parts(reset(rng))
        env.step = lambda state, action: in_parts(step(state, action))
        return env

    plain = play(make("playground/PendulumSwingup"), 3)
    monkeypatch.setattr(registry, "load", load_with_parts)
    np.testing.assert_array_equal(play(make("playground/PendulumSwingup"), 3).final_obs, plain.final_obs)


def test_pgx_rejects_games_for_more_than_two_players():
    need("pgx")
    with pytest.raises(ValueError, match=r"'pgx/sparrow_mahjong' is not accepted; .*one or two.*this is for 3"):
        make("pgx/sparrow_mahjong")


def test_pgx_ends_a_game_with_its_own_rewards_and_no_truncation():
    need("pgx")
    timesteps = play(make("pgx/2048"), 600)
    end = int(np.argmax(timesteps.terminated))
    assert timesteps.terminated[end:].all()
    assert (timesteps.reward >= 0).all()  # nothing illegal was tried
    assert not timesteps.reward[end + 1 :].any()
    assert not timesteps.truncated.any()
    env = make("pgx/2048")
    states, obs = run(jax.vmap(env.reset), jax.random.split(jax.random.key(0), 100))
    first = int(np.argmin(obs["action_mask"].all(1)))  # a board on which not all actions are legal
    state, mask = jax.tree.map(lambda x: x[first], (states, obs["action_mask"]))
    _, timestep = env.step(jax.random.key(0), state, jnp.argmin(mask).astype(jnp.int32))
    assert (timestep.reward, timestep.terminated) == (-1.0, True)


@pytest.mark.parametrize("config", [replace(a2c.Config(), num_envs=64), pqn.Config()])
def test_masked_policies_never_take_an_illegal_action_in_100_000_steps(config):
    """Pgx would end the game with a reward of -1, of which there is a million here."""
    need("pgx")
    game = make("pgx/2048")

    def step(key, state, action):
        state, timestep = game.step(key, state, action)
        return state, timestep._replace(reward=jnp.where(timestep.reward < 0, -1e9, timestep.reward))

    config = replace(config, env_id=game._replace(step=step), total_frames=120_000)
    metrics = jax.jit(make_train(config))(jax.random.key(0)).metrics
    assert metrics.frames[-1] > 100_000
    assert metrics.episodes.sum() > 100
    assert (metrics.episode_return[metrics.episodes > 0] > 0).all()


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four"])
def test_pgx_games_for_two_go_on_with_the_answer_of_the_opponent(name):
    """The same moves through pgx itself: both players' boards, results and turns."""
    need("pgx")
    import pgx

    game, env = pgx.make(name), make(f"pgx/{name}")
    step, act = jax.jit(game.step), jax.jit(env.duel.against(lambda key, state, obs: _lowest(obs)).step)
    state, obs = env.duel.against(lambda key, state, obs: _lowest(obs)).reset(jax.random.key(3))
    theirs = state
    assert theirs.current_player == 0
    for _ in range(30):
        state, timestep = act(jax.random.key(0), state, _highest(obs))
        theirs = step(theirs, _highest({"action_mask": theirs.legal_action_mask}), jax.random.key(0))
        reward = theirs.rewards[0]
        if not theirs.terminated:
            assert theirs.current_player == 1
            theirs = step(theirs, _lowest({"action_mask": theirs.legal_action_mask}), jax.random.key(0))
            reward += theirs.rewards[0]
        np.testing.assert_array_equal(timestep.obs["observation"], theirs.observation)
        np.testing.assert_array_equal(timestep.obs["action_mask"], theirs.legal_action_mask)
        assert (timestep.reward, timestep.terminated) == (reward, theirs.terminated)
        obs = timestep.obs
        if timestep.terminated:
            break
    assert timestep.terminated
    assert abs(timestep.reward) <= 1


def _lowest(obs):
    return jnp.argmax(obs["action_mask"]).astype(jnp.int32)


def _highest(obs):
    mask = obs["action_mask"]
    return (mask.size - 1 - jnp.argmax(mask[::-1])).astype(jnp.int32)


def test_pgx_looks_one_move_ahead():
    """Against random moves in tic-tac-toe it wins far more often than it loses."""
    need("pgx")
    env = make("pgx/tic_tac_toe")

    def game(key):
        def tick(loop, key):
            state, obs, total, done = loop
            key_choose, key_step = jax.random.split(key)
            state, timestep = env.step(key_step, state, env.duel.players["lookahead"](key_choose, state, obs))
            return (state, timestep.obs, total + jnp.where(done, 0, timestep.reward), done | timestep.terminated), None

        start = *env.reset(key), jnp.float32(0), jnp.bool_(False)
        return jax.lax.scan(tick, start, jax.random.split(key, 5))[0][2:]

    total, done = run(jax.vmap(game), jax.random.split(jax.random.key(0), 400))
    assert done.all()
    assert np.mean(total) > 0.3  # two random players are even


def test_navix_is_truncated_after_100_steps_and_terminates_at_the_goal():
    need("navix")
    env = make("navix/Navix-Empty-5x5-v0")
    turning = play(env, 100, action=jnp.int32(0))
    np.testing.assert_array_equal(np.flatnonzero(turning.truncated), [99])
    assert not turning.terminated.any()
    np.testing.assert_array_equal(turning.final_obs[99], turning.final_obs[95])  # facing where it did a turn before
    state = env.reset(jax.random.key(0))[0]
    for action in (2, 2, 1, 2, 2):  # forward twice, turn right, forward twice
        state, timestep = env.step(jax.random.key(0), state, action)
    assert timestep.terminated
    assert not timestep.truncated
    assert timestep.reward == 1.0


def test_navix_is_truncated_after_the_time_limit_of_the_environment():
    """100 steps everywhere in navix 0.7, MiniGrid's own limit in navix 4."""
    need("navix")
    import navix

    limit = navix.make("Navix-Empty-6x6-v0").max_steps
    turning = play(make("navix/Navix-Empty-6x6-v0"), limit, action=jnp.int32(0))
    np.testing.assert_array_equal(np.flatnonzero(turning.truncated), [limit - 1])


def test_craftax_tells_its_time_limit_from_death():
    need("craftax")
    env = make("craftax/Craftax-Classic-Symbolic-v1")
    health = jnp.array([9, 9, 9, -9, -9])  # the last two die at this step, one of them at the time limit
    time = jnp.array([0, 9998, 9999, 0, 9999])  # before the step; the limit is 10,000

    def step(health, time):
        state, _ = env.reset(jax.random.key(0))
        return env.step(jax.random.key(1), state.replace(player_health=health, timestep=time), jnp.int32(0))[1]

    timesteps = run(jax.vmap(step), health, time)
    np.testing.assert_array_equal(timesteps.terminated, [False, False, False, True, True])
    np.testing.assert_array_equal(timesteps.truncated, [False, False, True, False, False])


@pytest.mark.parametrize(("discount", "truncated"), [(0.0, False), (1.0, True)])
def test_jumanji_tells_the_ends_of_episodes_apart_by_their_discount(discount, truncated, monkeypatch):
    need("jumanji")
    import jumanji
    from jumanji import types as jumanji_types

    env = jumanji.make("Snake-v1")
    original = env.step

    def step(state, action):
        state, timestep = original(state, action)
        last = jumanji_types.truncation(timestep.reward, timestep.observation, discount=jnp.float32(discount))
        last = last.replace(extras=timestep.extras)
        return state, jax.tree.map(lambda a, b: jnp.where(state.step_count >= 3, a, b), last, timestep)

    env.step = step
    monkeypatch.setattr(jumanji, "make", lambda name: env)
    timesteps = play(make("jumanji/Snake-v1"), 3, seed=1)
    np.testing.assert_array_equal(timesteps.truncated, [False, False, truncated])
    np.testing.assert_array_equal(timesteps.terminated, [False, False, not truncated])
    assert timesteps.final_obs["step_count"][2] == 3  # the successor's step count


def test_jumanji_observations_are_named_arrays_with_a_mask():
    need("jumanji")
    board, snake = make("jumanji/Game2048-v1"), make("jumanji/Snake-v1")
    assert board.observation_shape == {"observation": (4, 4), "action_mask": (4,)}
    assert snake.observation_shape == {"grid": (12, 12, 5), "step_count": (), "action_mask": (4,)}
    assert snake.action_space == spaces.Discrete(4)
    maze = make("jumanji/Maze-v0").reset(jax.random.key(0))[1]
    assert maze["agent_position"]["row"].sum() == 1  # one-hot
    assert maze["walls"].shape == (10, 10)


def test_jumanji_choices_with_a_mask_of_all_together_are_one_choice():
    """The action is that of jumanji, in the order of its mask, and a legal one is never punished."""
    need("jumanji")
    env = make("jumanji/Tetris-v0")
    assert env.action_space == spaces.Discrete(4 * 10)
    assert env.observation_shape["action_mask"] == (40,)
    np.testing.assert_array_equal(env.to_native(jnp.int32(23)), [2, 3])
    each = make("jumanji/Cleaner-v0")
    assert each.action_space == spaces.MultiDiscrete((4, 4, 4))
    assert each.observation_shape["action_mask"] == (12,)


@pytest.mark.parametrize(
    ("name", "accepted"), [("LevelBasedForaging-v0", "one agent"), ("MultiCVRP-v0", "discrete actions")]
)
def test_jumanji_rejects_what_one_agent_with_discrete_actions_cannot_play(name, accepted):
    need("jumanji")
    with pytest.raises(ValueError, match=rf"'jumanji/{name}' is not accepted; .*{accepted}"):
        make(f"jumanji/{name}")

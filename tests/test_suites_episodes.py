"""Episodes of every suite, step by step: what we report against what the suite's own library says.

A list of actions is played twice with the same keys: in the environment that `envs.make` makes, and in the library
itself, in a plain loop that resets, repeats actions, counts frames and adds up rewards.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_suites import need, run

from purejaxrl_a3c import envs
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.networks.bodies import as_float
from purejaxrl_a3c.types import TimeStep


@pytest.fixture(autouse=True)
def _rank_promotion():
    with jax.numpy_rank_promotion("allow"):  # not for our code: some of the suites rely on it
        yield


class Library(NamedTuple):
    """An environment of a suite, without any of our code. It does not reset itself."""

    reset: Callable[..., Any]
    """key -> (state, observation)."""
    step: Callable[..., Any]
    """(key, state, action) -> (state, (observation, reward, terminated, truncated)), as the library says."""


class Episodes(NamedTuple):
    """What came of a list of actions."""

    first: Any  # the observation before them
    steps: TimeStep  # [T]


def keys_of(steps, seed=0):
    """The key of the first reset, and one key for each step."""
    keys = jax.random.split(jax.random.key(seed), 1 + steps)
    return keys[0], keys[1:]


def ours(env_id, actions, env_params=None, **wrappers):
    env = envs.make(replace(envs.Config(env_id=env_id, env_params=env_params or {}), **wrappers), gamma=0.99)

    def play(key, keys, actions):
        state, obs = env.reset(key)
        return obs, jax.lax.scan(lambda state, x: env.step(jax.random.split(x[0]), state, x[1]), state, (keys, actions))

    first, (_, steps) = run(play, *keys_of(len(actions)), jnp.asarray(actions))
    return jax.tree.map(np.asarray, Episodes(first, steps))


def theirs(library, actions, action_repeat=1, time_limit=None, sticky_actions=None):
    """The same by hand. If ``sticky_actions`` is 1, all actions of an episode are its first one."""
    assert sticky_actions in (None, 1.0)
    key, keys = keys_of(len(actions))
    reset, step = quickly(library.reset), quickly(library.step)
    state, first = reset(jax.random.split(key)[0])  # the second of these keys is for staggered resets
    rows: list[TimeStep] = []
    executed, total, length = None, np.float32(0), 0
    for step_keys, action in zip(keys, actions, strict=True):
        key_step, key_reset = jax.random.split(step_keys)
        reward, ended = np.float32(0), False
        for key_frame in [key_step] if action_repeat == 1 else jax.random.split(key_step, action_repeat):
            if not ended:
                executed = action if executed is None or sticky_actions is None else executed
                key_frame = key_frame if sticky_actions is None else jax.random.split(key_frame)[1]
                state, (obs, paid, terminated, truncated) = step(key_frame, state, executed)
                reward, total, length = reward + np.float32(paid), total + np.float32(paid), length + 1
                terminated, truncated = bool(terminated), bool(truncated) or length == time_limit
                ended = terminated or truncated
        answer: Any = (reward, terminated, truncated and not terminated, obs, total, length)
        if ended:
            state, obs = reset(key_reset)
            executed, total, length = None, np.float32(0), 0
        rows.append(TimeStep(obs, *answer))
    return Episodes(jax.tree.map(np.asarray, first), jax.tree.map(lambda *x: np.stack(x), *rows))


def quickly(function):
    """As `run`, for a function that is called many times."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def assert_same(found, expected):
    """Flags, lengths and dtypes exactly; other numbers up to the rounding of two programs."""
    for name in ("terminated", "truncated", "episode_length"):
        np.testing.assert_array_equal(getattr(found.steps, name), getattr(expected.steps, name), err_msg=name)
    for name in ("reward", "episode_return"):
        one, other = getattr(found.steps, name), getattr(expected.steps, name)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=name)
    seen, known = ({"first": x.first, "final_obs": x.steps.final_obs, "obs": x.steps.obs} for x in (found, expected))

    def compare(one, other):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)

    jax.tree.map(compare, seen, known)


SOMEWHERE = None  # which step it is depends on random numbers


def assert_ends(steps, terminated, truncated):
    """Episodes end at these steps, and only there the next episode's first observation stands in for the last one."""
    for name, expected in (("terminated", terminated), ("truncated", truncated)):
        found = np.flatnonzero(getattr(steps, name)).tolist()
        assert found if expected is SOMEWHERE else found == expected, name
    pairs = zip(jax.tree.leaves(steps.obs), jax.tree.leaves(steps.final_obs), strict=True)
    differs = np.any([(one != other).reshape(len(one), -1).any(-1) for one, other in pairs], axis=0)
    last = steps.terminated | steps.truncated
    assert not differs[~last].any()
    assert differs.any() == last.any()


# gymnax


def gymnax_library(name, params):
    env, defaults = gymnax.make(name)
    params = defaults.replace(**params)
    act = {"Pendulum-v1": lambda action: 2 * action.clip(-1, 1)}.get(name, lambda action: action)
    see = {"FrozenLake-misc": lambda obs: jax.nn.one_hot(obs, 16)}.get(name, lambda obs: obs)

    def reset(key):
        obs, state = env.reset_env(key, params)
        return state, see(obs)

    def step(key, state, action):
        obs, state, reward, terminated, _ = env.step_env(key, state, act(action), params)
        return state, (see(obs), reward, terminated, env.is_truncated(state, params))

    return Library(reset, step)


TO_THE_GOAL = [0] + 8 * [1] + 5 * [2]  # of FourRooms: up, right and down
GYMNAX: dict[str, Any] = {
    # name, parameters, actions, steps that terminate, steps that are truncated
    "a fall": ("CartPole-v1", {"max_steps_in_episode": 14}, 12 * [1] + 14 * [0, 1], SOMEWHERE, SOMEWHERE),
    "time alone": ("MountainCar-v0", {"max_steps_in_episode": 7}, 15 * [1], [], [6, 13]),
    "a scaled action": ("Pendulum-v1", {}, np.linspace(-2, 2, 5)[:, None], [], []),
    "a goal": ("FourRooms-misc", {"fail_prob": 0, "max_steps_in_episode": 14}, TO_THE_GOAL + 15 * [0], [13], [27]),
    "a cell": ("FrozenLake-misc", {"max_steps_in_episode": 5}, 6 * [0, 1, 2, 1], SOMEWHERE, SOMEWHERE),
    "both at once": ("Catch-bsuite", {"max_steps_in_episode": 9}, 20 * [1], [8, 17], []),
    "one step sooner": ("Catch-bsuite", {"max_steps_in_episode": 8}, 20 * [1], [], [7, 15]),
    "a game": ("Breakout-MinAtar", {"max_steps_in_episode": 16}, 20 * [0] + 20 * [1], SOMEWHERE, []),
}


@pytest.mark.parametrize("case", GYMNAX)
def test_gymnax_ends_its_episodes_and_pays_as_we_say(case):
    name, params, actions, terminated, truncated = GYMNAX[case]
    found = ours(name, actions, env_params=params)
    assert_same(found, theirs(gymnax_library(name, params), actions))
    assert_ends(found.steps, terminated, truncated)


@pytest.mark.parametrize(
    ("around", "lengths"),
    [
        ({"action_repeat": 3}, [3, 6, 8]),
        ({"action_repeat": 2, "time_limit": 5}, [2, 4, 5]),
        ({"sticky_actions": 1.0}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_gymnax_counts_its_limit_in_frames_of_its_own(around, lengths):
    """Nothing is lost or counted twice where an episode ends in the middle of a repeated action."""
    params = {"max_steps_in_episode": 8}
    actions = np.tile([2, 1, 0, 0, 1], 4)
    found = ours("Catch-bsuite", actions, env_params=params, **around)
    assert_same(found, theirs(gymnax_library("Catch-bsuite", params), actions, **around))
    np.testing.assert_array_equal(found.steps.episode_length, np.resize(lengths, 20))
    np.testing.assert_array_equal(found.steps.truncated, np.resize(lengths, 20) == lengths[-1])


def test_gymnax_says_the_same_in_its_own_step_which_resets_itself():
    env, params = gymnax.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=14)
    actions = 12 * [1] + 14 * [0, 1]
    step, (start, keys) = quickly(env.step), keys_of(len(actions))
    first, state = env.reset(jax.random.split(start)[0], params)
    rows = []
    for key, action in zip(keys, actions, strict=True):
        obs, state, reward, terminated, truncated, info = step(key, state, action, params)
        rows.append(TimeStep(obs, reward, terminated, truncated & ~terminated, info["final_observation"]))
    steps = jax.tree.map(lambda *x: np.stack(x), *rows)
    found = ours("CartPole-v1", actions, env_params={"max_steps_in_episode": 14})
    recorded = {name: getattr(found.steps, name) for name in ("episode_return", "episode_length")}
    assert_same(found, Episodes(np.asarray(first), steps._replace(**recorded)))


# brax


def mujoco_library(env):
    """An environment in brax's own wrapper for time limits, which Playground uses too."""

    def reset(key):
        state = env.reset(jax.random.key_data(key))
        return state, state.obs

    def step(key, state, action):
        state = env.step(jax.tree.map(lambda x: x, state), jnp.asarray(action, jnp.float32))
        truncated = state.info["truncation"].astype(bool)
        return state, (state.obs, state.reward, state.done.astype(bool) & ~truncated, truncated)

    return Library(reset, step)


def test_brax_ends_its_episodes_and_pays_as_we_say(monkeypatch):
    """Its limit of 16 frames cuts an action of 3 frames short."""
    need("brax")
    from brax.envs import get_environment
    from brax.envs.wrappers.training import EpisodeWrapper

    from purejaxrl_a3c.envs.suites import brax as adapter

    monkeypatch.setattr(adapter, "EPISODE_LENGTH", 16)
    actions = 6 * [[1.0]] + 18 * [[0.0]]  # it falls over, and then stands
    found = ours("brax/inverted_pendulum", actions, action_repeat=3)
    env = EpisodeWrapper(get_environment("inverted_pendulum"), episode_length=16, action_repeat=1)
    assert_same(found, theirs(mujoco_library(env), actions, action_repeat=3))
    assert_ends(found.steps, SOMEWHERE, SOMEWHERE)
    assert found.steps.episode_length.max() == found.steps.episode_return.max() == 16


# MuJoCo Playground


def test_playground_ends_its_episodes_and_pays_as_we_say(monkeypatch):
    """Its environments of the DeepMind Control Suite terminate only where the physics diverges.

    It then shows and pays NaN, of which we make 0.
    """
    need("playground")
    from brax.envs.wrappers.training import EpisodeWrapper
    from mujoco_playground import registry

    config = registry.get_default_config("CartpoleBalance")
    config.update(impl="jax", episode_length=5)
    monkeypatch.setattr(registry, "get_default_config", lambda name: config)
    actions = np.full((9, 1), 1.0, np.float32)
    actions[3] = np.nan
    env = EpisodeWrapper(registry.load("CartpoleBalance", config=config), episode_length=5, action_repeat=1)
    library = mujoco_library(env)

    def step(key, state, action):
        state, (obs, reward, *ends) = library.step(key, state, action)
        return state, (jnp.nan_to_num(obs), jnp.nan_to_num(reward), *ends)

    found = ours("playground/CartpoleBalance", actions)
    assert_same(found, theirs(library._replace(step=step), actions))
    assert_ends(found.steps, [3], [8])
    assert found.steps.reward[3] == 0


# navix

FORWARD, LEFT, RIGHT, NOTHING = 2, 0, 1, 6
TO_THE_CORNER = [FORWARD, FORWARD, RIGHT, FORWARD, FORWARD]


@functools.cache
def navix_library(limit):
    import navix

    env = navix.make("Navix-Empty-5x5-v0", max_steps=limit)

    def reset(key):
        start = env.reset(jax.random.key_data(key))
        return start, start.observation.astype(jnp.int8)

    def step(key, before, action):
        after = env.step(jax.tree.map(lambda x: x, before), action)
        ends = (after.step_type == kind for kind in (navix.StepType.TERMINATION, navix.StepType.TRUNCATION))
        return after, (after.observation.astype(jnp.int8), after.reward, *ends)

    return Library(reset, step)


NAVIX: dict[str, Any] = {
    # actions, wrappers, steps that terminate, steps that are truncated, and how many frames these episodes lasted
    "frames": (TO_THE_CORNER + 7 * [LEFT] + 2 * [NOTHING] + TO_THE_CORNER, {}, [4, 18], [11], [5, 7, 7]),
    # Left three times is right once. The third forward of three changes nothing.
    "repeated": ([FORWARD, LEFT, FORWARD, LEFT, LEFT, LEFT], {"action_repeat": 3}, [], [2, 5], [7, 7]),
    "repeated too often": ([FORWARD, LEFT, FORWARD], {"action_repeat": 3}, [2], [], [8]),
}


@pytest.mark.parametrize("case", NAVIX)
def test_navix_ends_its_episodes_and_pays_as_we_say(case, monkeypatch):
    need("navix")
    import navix

    actions, around, terminated, truncated, lengths = NAVIX[case]
    limit = 9 if case == "repeated too often" else 7
    monkeypatch.setattr(navix, "make", functools.partial(navix.make, max_steps=limit))
    found = ours("navix/Navix-Empty-5x5-v0", actions, **around)
    assert_same(found, theirs(navix_library(limit), actions, **around))
    assert_ends(found.steps, terminated, truncated)
    assert found.steps.episode_length[sorted(terminated + truncated)].tolist() == lengths
    np.testing.assert_array_equal(found.steps.reward, np.isin(np.arange(len(actions)), terminated))


def test_networks_see_the_symbols_of_navix_as_they_are():
    """Bytes are the pixels of an image, which networks scale to [0, 1]."""
    need("navix")
    import navix

    key = jax.random.key_data(jax.random.key(0))
    symbols = run(lambda: navix.make("Navix-Empty-5x5-v0").reset(key).observation)
    obs = envs.make_episodic("navix/Navix-Empty-5x5-v0").from_native(symbols)
    np.testing.assert_array_equal(as_float(obs), symbols)
    assert symbols[1, 1, 0] == navix.entities.EntityIds.PLAYER == 10


# Craftax


@pytest.fixture
def craftax(monkeypatch):
    """Craftax-Classic with a limit of 6 steps, in a world made once, in which a player soon starves or survives."""
    need("craftax")
    from craftax import craftax_env

    env = craftax_env.make_craftax_env_from_name("Craftax-Classic-Symbolic-v1", auto_reset=False)
    params = env.default_params.replace(max_timesteps=6)
    world = run(env.reset_env, jnp.zeros(2, jnp.uint32), params)[1]
    empty = {f"player_{name}": jnp.int32(0) for name in ("food", "drink", "energy")}

    def reset_env(self, key, params):
        kind = key[1] % 3
        health = jnp.array([1, 1, 2])[kind]
        recover = jnp.array([-13.0, -10.0, -13.0])[kind]  # below -15, which takes 3 or 6 steps, costs a point of health
        state = world.replace(player_health=health, player_recover=recover, state_rng=key, **empty)
        return self.get_obs(state), state

    monkeypatch.setattr(type(env), "default_params", params)
    monkeypatch.setattr(type(env), "reset_env", reset_env)
    return env, params


def test_craftax_ends_its_episodes_and_pays_as_we_say(craftax):
    env, params = craftax

    def reset(key):
        return env.reset_env(jax.random.key_data(key), params)[::-1]

    def step(key, state, action):
        obs, state, reward, done, _ = env.step_env(jax.random.key_data(key), state, action, params)
        dead = state.player_health <= 0
        return state, (obs, reward, done & dead, done & ~dead)

    actions = np.arange(30) % 5  # nothing, and the four directions
    found = ours("craftax/Craftax-Classic-Symbolic-v1", actions)
    assert_same(found, theirs(Library(reset, step), actions))
    assert_ends(found.steps, SOMEWHERE, SOMEWHERE)
    assert set(found.steps.episode_length[found.steps.terminated]) == {3, 6}
    assert set(found.steps.episode_length[found.steps.truncated]) == {6}


# jumanji and pgx, which tell the legal actions too


@functools.cache
def jumanji_library():
    from jumanji.environments import Snake

    env = Snake(num_rows=4, num_cols=4, time_limit=6)

    def see(observation):
        # The step count has 6 values, and none is left for that of the last observation.
        return observation._asdict() | {"step_count": jnp.eye(7, 6)[observation.step_count]}

    def reset(key):
        state, timestep = env.reset(jax.random.key_data(key))
        return state, see(timestep.observation)

    def step(key, state, action):
        state, timestep = env.step(state, action)
        ends = [timestep.last() & (timestep.discount == discount) for discount in (0, 1)]
        return state, (see(timestep.observation), timestep.reward, *ends)

    return env, Library(reset, step)


@pytest.mark.parametrize("around", [{}, {"time_limit": 4}])
def test_jumanji_ends_its_episodes_and_pays_as_we_say(around, monkeypatch):
    """Snake's own limit terminates, and its observation tells the time; ours truncates."""
    need("jumanji")
    import jumanji

    env, library = jumanji_library()
    monkeypatch.setattr(jumanji, "make", lambda name: env)
    actions = np.random.default_rng(0).integers(4, size=80)
    found = ours("jumanji/Snake-v1", actions, **around)
    assert_same(found, theirs(library, actions, **around))
    assert_ends(found.steps, SOMEWHERE, SOMEWHERE if around else [])
    lengths = found.steps.episode_length[found.steps.terminated | found.steps.truncated]
    assert lengths.max() == around.get("time_limit", 6)
    assert found.steps.reward.any()


@functools.cache
def pgx_library(name):
    import pgx

    env = pgx.make(name)

    def reset(key):
        state = env.init(key)
        return state, see(state)

    def see(state):
        if name.startswith("minatar"):
            return state.observation
        return {"observation": state.observation, "action_mask": state.legal_action_mask}

    def step(key, state, action):
        state = env.step(state, action, key)
        ends = (False, state.terminated) if name == "minatar-freeway" else (state.terminated, state.truncated)
        return state, (see(state), state.rewards[0], *ends)

    return Library(reset, step)


PGX: dict[str, Any] = {
    # name, actions, wrappers, steps that terminate, steps that are truncated
    "a game of MinAtar": ("minatar-breakout", 24 * [0] + 20 * [1], {}, SOMEWHERE, []),
    "a game cut off": ("minatar-breakout", 12 * [0], {"action_repeat": 2, "time_limit": 5}, [], [2, 5, 8, 11]),
    "an illegal action": ("2048", 40 * [0], {}, SOMEWHERE, []),
    "a game that its clock ends": ("minatar-freeway", 2510 * [0], {}, [], [2500]),
}


@pytest.mark.parametrize("case", PGX)
def test_pgx_ends_its_episodes_and_pays_as_we_say(case):
    need("pgx")
    name, actions, around, terminated, truncated = PGX[case]
    found = ours(f"pgx/{name}", actions, **around)
    assert_same(found, theirs(pgx_library(name), actions, **around))
    assert_ends(found.steps, terminated, truncated)
    if name == "2048":
        np.testing.assert_array_equal(found.steps.reward[found.steps.terminated], -1)

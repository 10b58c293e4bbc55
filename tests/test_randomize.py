"""Domain randomisation and its curriculum."""

import importlib.util
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
from flax import struct

from purejaxrl_a3c import InputError, a2c, envs, evaluate, make_train, ppo, replace, watch
from purejaxrl_a3c.config import from_json, to_json
from purejaxrl_a3c.envs import spaces, wrappers
from purejaxrl_a3c.envs.curriculum import curriculum
from purejaxrl_a3c.envs.randomize import Family, RandomizedState, draw, randomized
from purejaxrl_a3c.envs.suites import physics
from purejaxrl_a3c.run import checkpoint, chunks
from purejaxrl_a3c.run.arguments import parse_train
from purejaxrl_a3c.run.evaluate import in_environment
from purejaxrl_a3c.run.folder import record
from purejaxrl_a3c.types import Env, TimeStep

KEY = jax.random.key(0)
# An observation of the diary begins with ``offset``, and an episode has ``length`` steps, rounded up.
DIARY = envs.Config(env_id="Diary-probe", env_params={"spread": 0.0}, randomize={"offset": (1, 3), "length": (1, 6)})
CONFIG = replace(a2c.Config(), env=DIARY, num_envs=4, rollout_length=5, hidden_sizes=(8,), total_frames=100)


def values_in(state: Any) -> dict[str, jax.Array]:
    """The parameters of the episode, somewhere inside of the state of an environment."""

    def is_randomized(x: Any) -> bool:
        return isinstance(x, RandomizedState)

    return next(x.values for x in jax.tree.leaves(state, is_leaf=is_randomized) if is_randomized(x))


def live(env: Env, key: jax.Array, steps: int) -> tuple[dict[str, jax.Array], TimeStep]:
    """Parameters of the episode before each step, and the time steps, both ``[T]``."""

    def tick(state: Any, key: jax.Array) -> Any:
        key_action, key_step = jax.random.split(key)
        after, timestep = env.step(jax.random.split(key_step), state, env.action_space.sample(key_action))
        return after, (values_in(state), timestep)

    return jax.lax.scan(tick, env.reset(key)[0], jax.random.split(key, steps))[1]


# What is drawn.


def test_numbers_are_uniform_between_their_bounds_and_independent_of_each_other():
    ranges = {"b": (-1.0, 3.0), "a": (0.25, 0.75)}
    found = jax.vmap(lambda key: draw(key, {"a": 0.5, "b": 7.0}, ranges))(jax.random.split(KEY, 4000))
    for name, (low, high) in ranges.items():
        ranks = (np.sort(found[name]) - low) / (high - low)
        np.testing.assert_allclose(ranks, (np.arange(4000) + 0.5) / 4000, atol=0.03)  # 3 deviations of Kolmogorov's
    assert abs(np.corrcoef(found["a"], found["b"])[0, 1]) < 0.06


def test_whole_numbers_and_switches_are_drawn_with_both_bounds_equally_often():
    ranges = {"count": (-2.0, 4.0), "switch": (0, 1)}
    found = jax.vmap(lambda key: draw(key, {"count": 3, "switch": True}, ranges))(jax.random.split(KEY, 7000))
    assert (found["count"].dtype, found["switch"].dtype) == (jnp.int32, jnp.bool_)
    numbers, often = np.unique(found["count"], return_counts=True)
    np.testing.assert_array_equal(numbers, range(-2, 5))
    np.testing.assert_allclose(often, 1000, atol=120)
    np.testing.assert_allclose(found["switch"].mean(), 0.5, atol=0.03)


def test_the_order_of_the_ranges_does_not_matter():
    defaults, ranges = {"a": 0.0, "b": 0.0}, {"a": (0.0, 1.0), "b": (5.0, 6.0)}
    assert draw(KEY, defaults, ranges) == draw(KEY, defaults, dict(reversed(ranges.items())))


@pytest.mark.parametrize(
    ("default", "low", "high"), [(5.0, 1.0, 7.0), (0.0, 1.0, 3.0), (9.0, 1.0, 3.0), (5, 0, 10), (2, 4, 8), (3, 3, 3)]
)
@pytest.mark.parametrize("width", [0.0, 0.3, 0.5, 1.0])
def test_a_range_widens_linearly_around_the_default_or_the_bound_next_to_it(default, low, high, width):
    found = jax.vmap(lambda key: draw(key, {"x": default}, {"x": (low, high)}, jnp.float32(width))["x"])(
        jax.random.split(KEY, 500)
    )
    start = min(max(default, low), high)
    first, last = start - width * (start - low), start + width * (high - start)
    if isinstance(default, int):
        np.testing.assert_array_equal(np.unique(found), range(int(np.ceil(first)), int(np.floor(last)) + 1))
    else:
        assert found.min() >= first - 1e-6
        assert found.max() <= last + 1e-6
        np.testing.assert_allclose([found.min(), found.max()], [first, last], atol=0.05)


@pytest.fixture
def falling_suite(monkeypatch):
    """Settings of an environment with a physics model, in the place of those of brax."""
    simulator = Falling()
    monkeypatch.setitem(
        envs.SUITES, "brax", lambda env_id, name, env_kwargs: physics.family(simulator, "model", falling)
    )
    ranges = {"body.mass": (0.5, 2.0), "gravity": (0.0, 1.0)}
    return envs.Config(env_id="brax/falling", randomize=ranges, wrappers=envs.Wrappers(time_limit=3))


# Episodes.


def test_an_episode_keeps_its_parameters_and_the_next_one_and_another_copy_have_their_own():
    env = envs.make(replace(DIARY, normalize_observations=False), 1.0)
    values, steps = jax.jit(jax.vmap(lambda key: live(env, key, 40)))(jax.random.split(KEY, 3))
    np.testing.assert_allclose(steps.final_obs[..., 0], values["offset"], rtol=1e-6)  # the environment uses them
    np.testing.assert_allclose(steps.obs[:, :-1, 0], values["offset"][:, 1:], rtol=1e-6)  # in resets, too
    np.testing.assert_array_equal(steps.terminated, steps.final_obs[..., 2] >= values["length"])
    for copy in range(3):
        ends = np.flatnonzero(steps.terminated[copy])
        assert len(ends) > 4
        episodes = np.split(np.asarray(values["offset"][copy]), ends + 1)
        assert all((one == one[0]).all() for one in episodes if len(one))
        first = [one[0] for one in episodes if len(one)]
        assert len(set(first)) == len(first)
    assert len(np.unique(values["offset"][:, 0])) == 3


def test_a_time_limit_that_is_drawn_truncates():
    env = envs.make(envs.Config(env_id="Forever-probe", randomize={"max_steps_in_episode": (2, 4)}), 1.0)
    values, steps = jax.jit(lambda: live(env, KEY, 60))()
    last = np.flatnonzero(steps.truncated)
    assert not steps.terminated.any()
    np.testing.assert_array_equal(steps.episode_length[last], values["max_steps_in_episode"][last])
    np.testing.assert_array_equal(np.unique(steps.episode_length[last]), [2, 3, 4])


def test_the_steps_are_those_of_gymnax_with_these_parameters():
    import gymnax

    theirs, params = gymnax.make("Pendulum-v1")
    env = envs.make_episodic("Pendulum-v1", {"g": 4.0}, {"m": (0.5, 2), "max_torque": (1, 3), "dt": (0.01, 0.1)})
    state, _ = env.reset(KEY)
    state = state._replace(env=state.env.replace(theta=jnp.float32(0.4), theta_dot=jnp.float32(-1)))
    after, timestep = env.step(KEY, state, jnp.array([0.5]))
    values = {name: float(x) for name, x in state.values.items()}
    action = jnp.array([0.5 * values["max_torque"]])
    obs, expected, reward, _, _ = theirs.step_env(KEY, state.env, action, params.replace(g=4.0, **values))
    np.testing.assert_allclose(timestep.obs, obs, rtol=1e-5)
    np.testing.assert_allclose(timestep.reward, reward, rtol=1e-5)
    np.testing.assert_allclose(after.env.theta_dot, expected.theta_dot, rtol=1e-5)
    assert after.values == state.values


def test_a_range_of_the_default_alone_is_the_environment_itself():
    plain, drawn = (envs.make_episodic("CartPole-v1", None, ranges) for ranges in (None, {"gravity": (9.8, 9.8)}))
    expected, _ = plain.reset(jax.random.split(KEY)[1])
    state, _ = drawn.reset(KEY)
    for action in (1, 0, 1):
        expected, wanted = plain.step(KEY, expected, jnp.int32(action))
        state, found = drawn.step(KEY, state, jnp.int32(action))
        jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_without_ranges_there_is_nothing_around_the_environment():
    family = Family(member=lambda values: envs.make_episodic("CartPole-v1"), parameters={"gravity": 9.8})
    assert randomized(family, {}).reset.__module__ == "purejaxrl_a3c.envs.suites.gymnax"
    state = jax.eval_shape(envs.make(envs.Config(), 1.0).reset, KEY)[0]
    assert type(state.env.env).__name__ == "EnvState"  # inside of auto_reset and record_episodes


# Runs.


def test_a_run_goes_on_from_a_checkpoint_as_if_never_interrupted(tmp_path, falling_suite):
    """The name of a field of a physics model has dots, and is one in the checkpoint."""
    config = replace(CONFIG, env=falling_suite, curriculum_frames=60, normalize_observations=True)
    run = chunks.compile_run(config)
    whole, _ = run.advance(KEY, run.init(KEY), 4)
    half, _ = run.advance(KEY, run.init(KEY), 2)
    assert (np.asarray(values_in(half.actor_state.env)["body.mass"]) != 1).all()
    checkpoint.write(tmp_path, half, record("a2c", config, {"seed": 0}))
    read = checkpoint.read_state(checkpoint.find(tmp_path), run.state)
    resumed, _ = run.advance(KEY, read, 2)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


def test_the_environments_of_a_group_begin_with_the_same_parameters():
    config = replace(ppo.Config(), env=DIARY, num_envs=4, rollout_length=2, group_size=2, num_minibatches=1)
    algorithm = replace(config, hidden_sizes=(8,), total_frames=8, randomize={"offset": (1, 3)}).build()
    state, _ = jax.jit(algorithm.step)(KEY, algorithm.init(KEY))
    offsets = values_in(state.actor_state.env)["offset"][0]
    assert (offsets[0], offsets[2]) == (offsets[1], offsets[3])
    assert offsets[0] != offsets[2]


def test_runs_map_over_another_parameter_of_the_environment():
    ranged = {"env_params": {}, "randomize": {"offset": (1, 3)}}

    def train(spread):
        return make_train(replace(CONFIG, **ranged | {"env_params": {"spread": spread}}))(KEY)

    both = jax.jit(jax.vmap(train))(jnp.array([0.0, 2.0]))
    alone = jax.jit(train)(jnp.float32(2.0))
    np.testing.assert_allclose(both.state.actor_state.obs[1], alone.state.actor_state.obs, rtol=1e-5)
    assert (both.state.actor_state.obs[0] != both.state.actor_state.obs[1]).any()


# Curriculum.


def told_width(width: float | jax.Array, stagger: int = 0) -> Env:
    """An environment that resets itself; its state is the width that it was reset with, its episodes have two steps."""

    def step(key, state, action):
        width, time = state
        obs, end = jnp.array([width, time]), time + 1 >= 2
        return (width, time + 1), TimeStep(obs, jnp.float32(0), end, jnp.bool_(False), obs)

    env = Env(lambda key: ((jnp.float32(width), jnp.int32(0)), jnp.zeros(2)), step, (2,), spaces.Discrete(2))
    return wrappers.auto_reset(env, stagger)


def test_the_width_is_the_part_of_the_frames_of_all_copies_that_are_done_and_moves_between_rollouts():
    env = curriculum(told_width, frames=20)
    states = jax.vmap(jax.vmap(lambda key: env.reset(key)[0]))(jax.random.split(KEY, (2, 3)))
    keys = jax.random.split(KEY)
    widths = []
    for _ in range(4):  # rollouts of 2 steps, after which all episodes begin anew
        for _ in range(2):
            states, _ = jax.vmap(jax.vmap(lambda state: env.step(keys, state, jnp.int32(0))))(states)
        widths.append(np.asarray(states.env.env[0]))
        states = env.refresh(states, None)
    for width, expected in zip(widths, [0, 0.6, 1, 1], strict=True):  # 12 frames a rollout, and at most 20
        np.testing.assert_allclose(width, np.full((2, 3), expected), rtol=1e-6)
    np.testing.assert_array_equal(states.frames, np.full((2, 3), 20))


def test_devices_count_the_frames_of_all():
    env = curriculum(told_width, frames=100)
    state = env.reset(KEY)[0]._replace(new_frames=jnp.int32(3))
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, 1, 2, *x.shape)), state)  # 4 devices with 2 copies each
    refreshed = jax.vmap(lambda one: env.refresh(one, "devices"), axis_name="devices")(states)
    np.testing.assert_array_equal(refreshed.frames, np.full((4, 1, 2), 24))


def test_an_evaluation_has_the_full_width_and_is_not_staggered():
    env = curriculum(lambda width: told_width(width, stagger=1), frames=20)
    state, _ = env.reset(KEY)
    assert state.env.env[0] == 0
    assert env.freeze is not None
    frozen = env.freeze(state)
    begun, _ = frozen.reset(KEY)
    assert begun.env[0] == 1
    assert begun.remaining == -1


def test_the_ranges_of_a_run_widen_with_its_frames():
    algorithm = replace(CONFIG, randomize={"offset": (-10, 10), "length": (1, 1)}, curriculum_frames=80).build()
    step = jax.jit(algorithm.step)
    state = algorithm.init(KEY)
    np.testing.assert_array_equal(values_in(state.actor_state.env)["offset"], np.zeros((1, 4)))
    largest = []
    for key in jax.random.split(KEY, 8):  # 20 frames each, every one of which is an episode
        state, _ = step(key, state)
        largest.append(float(np.abs(values_in(state.actor_state.env)["offset"]).max()))
    assert largest[0] == 0
    assert 0 < largest[1] <= 2.5
    assert 0 < largest[2] <= 5
    assert 2.5 < max(largest[4:]) <= 10


# Evaluations and pictures.


def test_an_evaluation_draws_from_its_own_ranges_in_full_or_from_none():
    config = replace(CONFIG, env=envs.Config(env_id="Forever-probe"), num_envs=4)
    config = replace(config, randomize={"max_steps_in_episode": (2, 5)}, curriculum_frames=10**6, total_frames=20)
    state = make_train(config)(KEY).state
    assert set(np.asarray(evaluate(config, state, KEY, episodes=40))) == {2, 3, 4, 5}  # 1 is paid a step
    other = replace(config, randomize={"max_steps_in_episode": (9, 9)})
    assert set(np.asarray(evaluate(other, state, KEY, episodes=40))) == {9}
    default = replace(config, randomize={}, curriculum_frames=0)
    assert set(np.asarray(evaluate(default, state, KEY, episodes=40))) == {7}
    assert set(np.asarray(evaluate(*in_environment(config, state, "Forever-probe"), KEY, episodes=40))) == {7}


def test_an_agent_is_watched_in_environments_of_which_each_is_drawn_with_its_own_parameters(monkeypatch):
    from purejaxrl_a3c.envs.suites import gymnax

    def render(params):
        return lambda states: (np.full((1, 1, 3), params.offset, np.uint8) for _ in states)

    monkeypatch.setattr(gymnax, "make_render", lambda env, params: render(params))
    config = replace(CONFIG, total_frames=20, randomize={"offset": (10, 200), "length": (2, 2)}, curriculum_frames=20)
    recording = watch(config, make_train(config)(KEY).state, KEY, episodes=3, max_frames=20)
    shades = recording.frames[:, 0, 0, 0].tolist()
    assert shades[::2] == shades[1::2]
    assert len(set(shades)) == 3


# Physics.


@struct.dataclass
class Body:
    mass: jax.Array
    scars: jax.Array


@struct.dataclass
class Model:
    gravity: jax.Array
    body: Body
    wind: jax.Array
    count: jax.Array


class Falling:
    """A simulator as those of brax and Playground are, which chooses one of its methods when it is made."""

    def __init__(self):
        self.model = Model(
            jnp.array([0.0, -10.0]), Body(jnp.array([1.0, 2.0]), jnp.ones(1)), jnp.zeros(2), jnp.arange(2)
        )
        self.rule = self.push

    def push(self, action):
        return action / self.model.body.mass + self.model.gravity + self.model.wind

    def step(self, speed, action):
        return speed + self.rule(action)


def falling(simulator):
    def step(key, state, action):
        state = simulator.step(state, action)
        return state, TimeStep(state, state[0], jnp.bool_(False), jnp.bool_(False), state)

    return Env(lambda key: (jnp.zeros(2), jnp.zeros(2)), step, (2,), spaces.Continuous(2))


def test_factors_scale_fields_of_a_model_that_bound_methods_read_too():
    simulator = Falling()
    family = physics.family(simulator, "model", falling)
    assert dict(family.parameters) == dict.fromkeys(("gravity", "body.mass", "body.scars", "wind"), 1.0)
    env = jax.jit(lambda factors: family.member(factors).step(KEY, jnp.zeros(2), jnp.array([3.0, 3.0]))[0])
    np.testing.assert_allclose(env({"body.mass": 3.0, "gravity": 0.5}), [1.0, 0.5 - 5.0], rtol=1e-6)
    np.testing.assert_allclose(family.member({}).step(KEY, jnp.zeros(2), jnp.array([3.0, 3.0]))[0], [3.0, 1.5 - 10])
    assert simulator.model.body.mass[0] == 1.0


@pytest.mark.parametrize(
    ("name", "bounds", "message"),
    [
        ("wind", (0.5, 1), "randomize wind: 0.5 .* zero everywhere"),
        ("body.mass", (-1, 1), "randomize body.mass: -1 .* a factor >= 0"),
        ("body.scars", (0.5, 1), "randomize body.scars: .* depend on in brax/falling"),
        ("mass", (0.5, 1), "randomize: 'mass' .* brax/falling; nearest: body.mass"),
        ("count", (0, 1), "randomize: 'count' .* nearest"),
    ],
)
@pytest.mark.usefixtures("falling_suite")
def test_a_field_that_cannot_be_scaled_or_changes_nothing_is_refused(name, bounds, message):
    with pytest.raises(InputError, match=message):
        envs.make_episodic("brax/falling", None, {name: bounds})


@pytest.mark.usefixtures("falling_suite")
def test_an_environment_that_draws_can_be_made_inside_of_a_trace():
    ranges = {"gravity": (0.0, 2.0)}
    values = jax.jit(lambda: envs.make_episodic("brax/falling", None, ranges).reset(KEY)[0].values)()
    expected = envs.make_episodic("brax/falling", None, ranges).reset(KEY)[0].values
    np.testing.assert_allclose(values["gravity"], expected["gravity"], rtol=1e-6)


SIMULATORS = {
    "brax/inverted_pendulum": ("brax", {"link.inertia.mass": (0.5, 2.0), "gravity": (0.5, 2.0)}, "sys", "body_mass"),
    "playground/CartpoleBalance": (
        "mujoco_playground",
        {"body_mass": (0.5, 2.0), "opt.gravity": (0.5, 2.0)},
        "_mjx_model",
        "geom_friction",
    ),
}


@pytest.mark.parametrize("env_id", SIMULATORS)
def test_the_steps_are_those_of_the_simulator_with_a_scaled_model(env_id):
    package, ranges, attribute, unused = SIMULATORS[env_id]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    name = env_id.partition("/")[2]
    if package == "brax":
        from brax import envs as library

        theirs: Any = library.get_environment(name)
    else:
        from mujoco_playground import registry

        config = registry.get_default_config(name)
        config.impl = "jax"
        theirs = registry.load(name, config=config)
    key, action = jax.random.key(3), jnp.array([0.3])

    def ours():
        env = envs.make_episodic(env_id, None, ranges)
        state, _ = env.reset(key)
        return state.values, env.step(key, state, action)[1].obs

    def expected(values):
        model = getattr(theirs, attribute)
        for field, factor in values.items():
            model = model.tree_replace({field: factor * read(model, field)})
        try:  # as the wrappers of the libraries do it
            before = getattr(theirs, attribute)
            setattr(theirs, attribute, model)
            state = theirs.reset(jax.random.key_data(jax.random.split(key)[1]))
            return theirs.step(state, action).obs
        finally:
            setattr(theirs, attribute, before)

    def read(model, field):
        for part in field.split("."):
            model = getattr(model, part)
        return model

    with jax.numpy_rank_promotion("allow"):
        values, obs = jax.jit(ours)()
        assert all(abs(x - 1) > 0.01 for x in values.values())
        wanted, default = jax.jit(expected)(values), jax.jit(expected)({})
        np.testing.assert_allclose(obs, wanted, rtol=1e-4, atol=1e-6)
        assert not np.allclose(obs, default, rtol=1e-4, atol=1e-6)
        with pytest.raises(InputError, match=f"randomize {unused}: .* depend on"):
            envs.make_episodic(env_id, None, {**ranges, unused: (0.5, 1.0)})


# What is refused.


@pytest.mark.parametrize(
    ("env_id", "ranges", "message"),
    [
        ("CartPole-v1", {"gravty": (1, 2)}, "randomize: 'gravty' .* CartPole-v1; nearest: gravity"),
        ("CartPole-v1", {"gravity": (2, 1)}, r"randomize gravity: \(2, 1\) .* lower and an upper bound"),
        ("CartPole-v1", {"masspole": (1, 2)}, "randomize masspole: .* left out, or env_params masspole, which is 0.2"),
        ("CartPole-v1", {"max_steps_in_episode": (0, 9)}, "randomize max_steps_in_episode: 0 .* a whole number >= 1"),
        ("CartPole-v1", {"max_steps_in_episode": (1, 9.5)}, "randomize max_steps_in_episode: 9.5 .* a whole number"),
        ("CartPole-v1", {"max_steps_in_episode": (1, 1e9)}, "of at most 16,777,216"),
        ("Asterix-MinAtar", {"ramping": (0, 2)}, "randomize ramping: 2 .* 0 or 1"),
        ("Acrobot-v1", {"available_torque": (0, 1)}, "randomize available_torque: .* several numbers"),
        ("Static-probe", {"size": (2, 3)}, r"randomize size: \(2, 3\) .* fixed when it is traced"),
        ("Static-probe", {"unused": (2, 3)}, r"randomize unused: \(2, 3\) .* depend on in Static-probe"),
        ("gym/CartPole-v1", {"gravity": (1, 2)}, "randomize: 'gravity' .* left out: gym/CartPole-v1 has no parameters"),
    ],
)
def test_ranges_that_cannot_be_drawn_are_refused(env_id, ranges, message):
    register_static()
    if env_id.startswith("gym/"):
        pytest.importorskip("gymnasium")
    params = {"masspole": 0.2} if env_id == "CartPole-v1" else {}
    with pytest.raises(InputError, match=message):
        envs.make(envs.Config(env_id=env_id, env_params=params, randomize=ranges), 1.0)


@struct.dataclass
class StaticParams(probes.environment.EnvParams):
    size: int = 3
    unused: float = 2.0
    max_steps_in_episode: int = 5


class Static(probes.Copy):
    """Its observation has as many numbers as a parameter says."""

    @property
    def default_params(self):
        return StaticParams()

    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return obs + jnp.zeros(params.size), state


def register_static():
    import gymnax

    if "Static-probe" not in gymnax.registered_envs:
        gymnax.register("Static-probe", Static)


@pytest.mark.parametrize(
    "value", [3, (1, 2), [1.0, 2.0, 3.0], (1.0,), ("1", "2"), (1.0, float("nan")), (1.0, float("inf")), (True, 2.0)]
)
def test_a_range_that_is_no_pair_of_numbers_is_refused(value):
    ranges = value if value == (1, 2) else {"gravity": value}
    with pytest.raises(InputError, match=r"randomize( gravity)?: .* must be (two finite|a dict of pairs)"):
        make_train(replace(a2c.Config(), randomize=ranges))


def test_bounds_cannot_be_arrays():
    with pytest.raises(InputError, match=r"randomize gravity: .* two finite numbers of Python"):
        make_train(replace(a2c.Config(), randomize={"gravity": (jnp.float32(1), 2.0)}))


def test_a_curriculum_without_ranges_or_with_groups_or_too_long_is_refused():
    with pytest.raises(InputError, match=r"curriculum_frames: 10 .* 0 without randomize"):
        replace(a2c.Config(), curriculum_frames=10).build()
    with pytest.raises(InputError, match=r"curriculum_frames: 2147483648 .* at most 1,073,741,824"):
        replace(CONFIG, curriculum_frames=2**31).build()
    grouped = replace(ppo.Config(), env=DIARY, group_size=4, curriculum_frames=10)
    with pytest.raises(InputError, match=r"curriculum_frames: 10 .* 0 with a group_size"):
        grouped.build()


@pytest.mark.parametrize("resets_itself", [False, True])
def test_an_env_object_has_no_parameters(resets_itself):
    env = envs.make_episodic("CartPole-v1")
    env = wrappers.auto_reset(wrappers.record_episodes(env)) if resets_itself else env
    with pytest.raises(InputError, match=r"randomize: .* (has no parameters|an Env that resets itself)"):
        envs.make(envs.Config(env_id=env, randomize={"gravity": (1, 2)}), 1.0)


# Settings.


def test_ranges_survive_json_and_the_command_line():
    config = replace(ppo.Config(), randomize={"gravity": [5, 15], "length": (0.25, np.float32(1))})
    assert config.env.randomize == {"gravity": (5, 15), "length": (0.25, 1.0)}
    assert from_json(ppo.Config, json.loads(json.dumps(to_json(config)))) == config
    command = "train ppo --randomize gravity 5 15 length 0.25 1.0 --curriculum-frames 1000"
    assert parse_train(command.split()).config == replace(config, curriculum_frames=1000)


def test_ranges_belong_to_the_structure_of_a_config():
    config = replace(CONFIG, env_params={"spread": jnp.float32(1)})
    assert len(jax.tree.leaves(config)) == 1
    structure: Any = jax.tree.structure
    assert structure(config) != structure(replace(config, randomize={"offset": (1, 4)}))
    assert hash(structure(config)) == hash(structure(replace(config)))
    assert jax.tree.map(lambda x: x, config) == config

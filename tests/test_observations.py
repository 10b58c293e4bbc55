"""Observations of several arrays: what networks, wrappers, buffers and environments outside of JAX make of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import (
    a2c,
    dqn,
    envs,
    evaluate,
    host,
    make_act,
    make_train,
    networks,
    ppo,
    r2d2,
    replace,
    rnd,
    td3,
)
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.envs import spaces, wrappers
from purejaxrl_a3c.envs.observations import joined, map_seen, shape_of, split_mask, total_size, with_mask
from purejaxrl_a3c.envs.pictures import draw_observations
from purejaxrl_a3c.networks.config import BodyConfig
from purejaxrl_a3c.types import Env, TimeStep

LENGTH = 6


def parts(continuous=False) -> Env:
    """Whether to say 1 depends on a pixel of a picture and on a number beside it, both drawn anew at every step."""

    def observe(key):
        key_pixel, key_number = jax.random.split(key)
        pixel, number = jax.random.bernoulli(key_pixel), jax.random.bernoulli(key_number)
        picture = jnp.full((4, 4, 2), 7, jnp.uint8).at[1, 2, 0].set(jnp.where(pixel, 255, 0))
        return (pixel, number), {"inner": {"number": 1.0 * number, "nothing": jnp.zeros(3)}, "picture": picture}

    def reset(key):
        bits, obs = observe(key)
        return (bits, jnp.int32(0)), obs

    def step(key, state, action):
        (pixel, number), time = state
        said = action[0] > 0 if continuous else action == 1
        bits, obs = observe(key)
        reward = 1.0 * (said == (pixel ^ number))
        return (bits, time + 1), TimeStep(obs, reward, jnp.bool_(False), time + 1 >= LENGTH, obs)

    shape = {"inner": {"number": (), "nothing": (3,)}, "picture": (4, 4, 2)}
    return Env(reset, step, shape, spaces.Continuous(1) if continuous else spaces.Discrete(2))


SMALL: dict[str, Any] = {
    "env_id": parts(),
    "num_envs": 8,
    "rollout_length": 8,
    "hidden_sizes": (16,),
    "total_frames": 1024,
}
REPLAY = SMALL | {"learning_starts": 128, "replay_size": 512, "batch_size": 16, "updates_per_iteration": 1}
CONFIGS: dict[str, Any] = {
    "a2c": replace(a2c.Config(), normalize_observations=True, **SMALL),
    "ppo": replace(ppo.Config(), torso="minatar", core="lstm", num_cells=8, frame_stack=1, **SMALL),
    "rnd": replace(rnd.Config(), warm_up=1, **SMALL),
    "dqn": replace(dqn.Config(), torso="minatar", **REPLAY),
    "r2d2": replace(r2d2.Config(), num_cells=8, sequence_length=8, burn_in=2, **REPLAY),
    "td3": replace(td3.Config(), **REPLAY | {"env_id": parts(continuous=True)}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_algorithm_trains_acts_and_is_evaluated(name):
    config = CONFIGS[name]
    train = jax.jit(make_train(config), compiler_options={"xla_backend_optimization_level": 0})
    result = train(jax.random.key(0))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((result.metrics.losses, result.state.learner.params)))
    if name in ("ppo", "td3"):
        assert evaluate(config, result, jax.random.key(1), episodes=4).shape == (4,)
    obs = parts().reset(jax.random.key(2))[1]
    action, _ = make_act(config, result)(obs)
    several, _ = make_act(config, result)(jax.tree.map(lambda x: jnp.stack([x, x, x]), obs))
    np.testing.assert_allclose(several, np.stack([action] * 3), atol=1e-5)


def test_what_is_known_from_both_parts_is_learned():
    """The picture alone, or the number alone, gives 3 of 6."""
    config = replace(CONFIGS["ppo"], core="feed_forward", hidden_sizes=(32, 32), activation="relu", gamma=0.0)
    config = replace(config, total_frames=60_000, learning_rate=2e-3)
    result = jax.jit(make_train(config))(jax.random.key(0))
    assert evaluate(config, result, jax.random.key(1), episodes=64, deterministic=True).mean() > 5.9


def test_a_torso_of_several_arrays_is_convolutions_beside_numbers():
    obs = parts().reset(jax.random.key(0))[1]
    shape = shape_of(obs)
    torso: Any = networks.make_torso(BodyConfig(torso="minatar", hidden_sizes=(5,)), shape)
    scaled = networks.bodies.as_float(obs)
    params = torso.init(jax.random.key(1), scaled)
    convolution: Any = networks.make_torso(BodyConfig(torso="minatar", hidden_sizes=()), (4, 4, 2))
    own = {"params": params["params"]["parts_2"]}
    side_by_side = jnp.concatenate(
        [obs["inner"]["nothing"], scaled["inner"]["number"][None], convolution.apply(own, scaled["picture"])]
    )
    dense = params["params"]["layers"]["Dense_0"]
    np.testing.assert_allclose(
        torso.apply(params, scaled), np.tanh(side_by_side @ dense["kernel"] + dense["bias"]), rtol=1e-5
    )
    rows = jax.tree.map(lambda x: jnp.stack([x] * 6).reshape(2, 3, *x.shape), scaled)
    np.testing.assert_allclose(torso.apply(params, rows)[1, 2], torso.apply(params, scaled), rtol=1e-5)


def test_bytes_are_pixels_and_other_numbers_are_not():
    floats = networks.bodies.as_float(
        {"picture": jnp.uint8([255, 51]), "number": jnp.int32(7), "flag": jnp.bool_(True)}
    )
    np.testing.assert_allclose(floats["picture"], [1, 0.2])
    assert floats["number"] == 7
    assert floats["flag"] == 1


def masked() -> Env:
    """``observation`` counts steps; ``action_mask`` forbids the action that was taken last."""

    def obs(time, last):
        return {"grid": jnp.stack([time, 10 * time]) * 1.0, "action_mask": jnp.arange(3) != last}

    def reset(key):
        del key
        return jnp.int32(0), obs(jnp.int32(0), -1)

    def step(key, state, action):
        del key
        seen = obs(state + 1, action)
        return state + 1, TimeStep(seen, jnp.float32(0), state + 1 >= 5, jnp.bool_(False), seen)

    return Env(reset, step, {"grid": (2,), "action_mask": (3,)}, spaces.Discrete(3))


def rows(env, actions):
    state, obs = env.reset(jax.random.key(0))
    seen = [obs]
    for number, action in enumerate(actions):
        state, timestep = env.step(jax.random.key(number), state, jnp.int32(action))
        assert shape_of(timestep.obs) == shape_of(timestep.final_obs) == env.observation_shape
        seen.append(timestep.obs)
    return jax.tree.map(lambda *x: np.stack(x), *seen)


def test_frames_are_stacked_and_masks_are_not():
    found = rows(wrappers.stack_frames(masked(), 2), [0, 1])
    np.testing.assert_array_equal(found["grid"], [[0, 0, 0, 0], [0, 0, 1, 10], [1, 10, 2, 20]])
    np.testing.assert_array_equal(found["action_mask"], [[1, 1, 1], [0, 1, 1], [1, 0, 1]])


def test_observations_are_flattened_into_one_vector_beside_the_mask():
    found = rows(wrappers.flatten(masked()), [2])
    np.testing.assert_array_equal(found["observation"], [[0, 0], [1, 10]])
    np.testing.assert_array_equal(found["action_mask"], [[1, 1, 1], [1, 1, 0]])
    flat = wrappers.flatten(parts())
    obs = flat.reset(jax.random.key(0))[1]
    assert obs.shape == flat.observation_shape == (1 + 3 + 32,)
    assert obs.dtype == jnp.float32


def test_entries_are_chosen_of_one_array_only():
    found = rows(wrappers.observe(masked(), (1,)), [2])
    np.testing.assert_array_equal(found["observation"], [[0], [10]])
    with pytest.raises(
        InputError, match=r"observe: \(0,\) .* empty, for observations of several arrays: inner, picture"
    ):
        wrappers.observe(parts(), (0,))
    with pytest.raises(InputError, match=r"frame_stack: 2 .* flatten True"):
        wrappers.stack_frames(parts(), 2)


def test_every_array_is_normalized_by_its_own_statistics():
    config = envs.Config(env_id=masked(), wrappers=envs.Wrappers(normalize_observations=True))
    env = envs.make(config, 0.99)
    keys = jax.random.split(jax.random.key(0), 6).reshape(2, 3)
    states, first = jax.vmap(jax.vmap(env.reset))(keys)
    np.testing.assert_array_equal(first["grid"], np.zeros((2, 3, 2)))
    step = jax.vmap(jax.vmap(lambda state: env.step(jax.random.split(jax.random.key(1)), state, jnp.int32(0))))
    states, timestep = step(states)
    np.testing.assert_allclose(timestep.obs["grid"][0, 0], [1, 10])  # not merged yet, so the deviation is 1
    states = env.refresh(states, None)
    _, timestep = step(states)
    # Of the numbers 0 and 1 the mean is 1/2 and the deviation 1/2; the other entry is ten times as large.
    np.testing.assert_allclose(timestep.obs["grid"][0, 0], [3, 3], rtol=1e-4)
    np.testing.assert_array_equal(timestep.obs["action_mask"][0, 0], [0, 1, 1])


def test_parts_of_observations_are_found_and_put_together():
    obs = {"a": 1, "action_mask": 2}
    assert split_mask(obs) == (1, 2)
    assert split_mask({"a": 1, "b": 3, "action_mask": 2}) == ({"a": 1, "b": 3}, 2)
    assert split_mask({"a": 1}) == ({"a": 1}, None)
    assert split_mask((4,)) == ((4,), None)
    assert with_mask((4,), (2,)) == {"observation": (4,), "action_mask": (2,)}
    assert with_mask((4,), None) == (4,)
    assert map_seen(lambda x: x + 1, obs) == {"a": 2, "action_mask": 2}
    assert total_size({"a": (2, 3), "b": ()}) == 7
    np.testing.assert_array_equal(joined({"b": jnp.ones(1), "a": jnp.zeros((2, 2))}), [0, 0, 0, 0, 1])


def test_of_several_arrays_the_picture_is_drawn():
    obs = jax.tree.map(np.asarray, parts().reset(jax.random.key(0))[1])
    (drawn,) = draw_observations([obs])
    assert drawn.shape == (4, 4, 3)


def test_an_observation_must_be_an_array_or_a_dict():
    env = parts()

    def as_tuple(key):
        state, obs = env.reset(key)
        return state, tuple(obs.values())

    with pytest.raises(InputError, match="must be an array or a dict of arrays"):
        make_train(replace(CONFIGS["a2c"], env_id=env._replace(reset=as_tuple)))
    with pytest.raises(InputError, match=r"but observation_shape is \(3,\)"):
        make_train(replace(CONFIGS["a2c"], env_id=env._replace(observation_shape=(3,))))


@pytest.fixture
def box():
    """An environment of Gymnasium with spaces inside of spaces; its episodes have 3 steps."""
    gymnasium: Any = pytest.importorskip("gymnasium")
    theirs = gymnasium.spaces

    class Box(gymnasium.Env):
        observation_space = theirs.Dict(
            {
                "position": theirs.Box(-1, 1, (2,), np.float64),
                "picture": theirs.Box(0, 255, (1, 5, 6), np.uint8),
                "pair": theirs.Tuple((theirs.Discrete(3, start=1), theirs.MultiBinary(2))),
                "kinds": theirs.MultiDiscrete([2, 3]),
                "action_mask": theirs.MultiBinary(2),
            }
        )
        action_space = theirs.Discrete(2)

        def _obs(self):
            return {
                "position": np.array([self.time, -self.time]) / 10,
                "picture": np.full((1, 5, 6), self.time, np.uint8),
                "pair": (1 + self.time % 3, np.array([1, 0], np.int8)),
                "kinds": np.array([self.time % 2, 2]),
                "action_mask": np.array([self.time % 2 == 0, True], np.int8),
            }

        def reset(self, *, seed=None, options=None):
            self.time = 0
            return self._obs(), {}

        def step(self, action):
            assert action == 1 or self.time % 2 == 0
            self.time += 1
            return self._obs(), 1.0, False, self.time == 3, {}

    gymnasium.register("Box-probe-v0", Box, disable_env_checker=True)
    yield "gym/Box-probe-v0"
    del gymnasium.registry["Box-probe-v0"]


def test_spaces_of_gymnasium_become_dicts(box):
    env = host.make(box, 2)
    assert env.observation_shape == {
        "position": (2,),
        "picture": (5, 6, 1),
        "pair": {"0": (3,), "1": (2,)},
        "kinds": (5,),
        "action_mask": (2,),
    }
    obs = env.reset(0)
    assert obs["action_mask"].dtype == bool
    assert obs["picture"].dtype == np.uint8
    for time in range(1, 4):
        answer = env.step(np.array([1, 1]))
        shown, ended = answer.obs, answer.final_obs
        np.testing.assert_allclose(ended["position"][1], [time / 10, -time / 10], rtol=1e-6)
        np.testing.assert_array_equal(ended["pair"]["0"][0], np.eye(3)[time % 3])
        np.testing.assert_array_equal(ended["kinds"][0], [time % 2 == 0, time % 2, 0, 0, 1])
        now = time % 3  # after the third step a new episode has begun
        np.testing.assert_array_equal(shown["picture"], np.full((2, 5, 6, 1), now))
        np.testing.assert_array_equal(shown["action_mask"], [[now % 2 == 0, True]] * 2)
        np.testing.assert_array_equal(answer.truncated, [time == 3] * 2)
    env.close()


@pytest.mark.parametrize("name", ["a2c", "dqn"])
def test_an_agent_learns_and_is_evaluated_in_spaces_of_gymnasium(box, name):
    config = replace(CONFIGS[name], env_id=box, total_frames=256)
    result = host.train(config, jax.random.key(0))
    assert np.isfinite(result.metrics.losses["value_loss"]).all()
    np.testing.assert_array_equal(host.evaluate(config, result, jax.random.key(1), episodes=4), [3, 3, 3, 3])


@pytest.fixture
def doors():
    """An environment of Gymnasium that says in its info which actions are legal, and takes no other."""
    gymnasium: Any = pytest.importorskip("gymnasium")

    class Doors(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 3, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(4)

        def _now(self):
            opened = np.zeros(4, np.int8)
            opened[[self.time, self.time - 1]] = 1
            return np.array([self.time], np.float32), {"action_mask": opened}

        def reset(self, *, seed=None, options=None):
            self.time = 0
            return self._now()

        def step(self, action):
            assert self._now()[1]["action_mask"][action]
            self.time += 1
            obs, info = self._now()
            return obs, 1.0, False, self.time == 3, info

    gymnasium.register("Doors-probe-v0", Doors, disable_env_checker=True)
    yield "gym/Doors-probe-v0"
    del gymnasium.registry["Doors-probe-v0"]


def test_a_mask_in_the_info_of_gymnasium_joins_the_observation(doors):
    env = host.make(doors, 1)
    assert env.observation_shape == {"observation": (1,), "action_mask": (4,)}
    opened = [env.reset(0)["action_mask"][0]]
    answers = [env.step(np.array([time])) for time in range(3)]
    opened += [answer.final_obs["action_mask"][0] for answer in answers]
    np.testing.assert_array_equal(opened, np.eye(4) + np.roll(np.eye(4), -1, axis=1) > 0)
    np.testing.assert_array_equal(answers[-1].obs["action_mask"][0], opened[0])
    with pytest.raises(InputError, match=r"sticky_actions: 0.25 .* None with an action_mask"):
        host.train(replace(CONFIGS["a2c"], env_id=doors, sticky_actions=0.25), jax.random.key(0))


@pytest.mark.parametrize("name", ["a2c", "dqn"])
def test_an_agent_obeys_the_mask_in_the_info_of_gymnasium(doors, name):
    config = replace(CONFIGS[name], env_id=doors, total_frames=256, torso="mlp")
    result = host.train(config, jax.random.key(0))  # an illegal action would raise
    np.testing.assert_array_equal(host.evaluate(config, result, jax.random.key(1), episodes=4), [3, 3, 3, 3])

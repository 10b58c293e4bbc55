"""Configs: nested by idea, flat in use, pytrees, and lenient about how a value is written."""

import dataclasses
import inspect
import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxrl_a3c import InputError, a2c, a3c, averaging, envs, impala, make_train, ppo, replace, rnd
from purejaxrl_a3c.config import flat, from_json, parts, to_json, with_array_floats
from purejaxrl_a3c.run.algorithms import ALGORITHMS
from purejaxrl_a3c.run.flags import docstrings
from purejaxrl_a3c.updates import Asynchrony, Service
from purejaxrl_a3c.updates.optimizers import Adam, RMSProp

SMALL = replace(a2c.Config(), num_envs=2, rollout_length=2, total_frames=8, hidden_sizes=(4,))
KEY = jax.random.key(0)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_setting_is_documented_in_plain_words(name):
    for config in (ALGORITHMS[name], *parts(ALGORITHMS[name]).values()):
        texts = docstrings(type(config))
        for field in dataclasses.fields(config):
            if field.name not in parts(ALGORITHMS[name]):
                assert re.fullmatch(r"[A-Z][^`*]*\.", texts[field.name]), field.name


def test_no_two_configs_declare_the_same_setting():
    kinds = {type(part) for config in ALGORITHMS.values() for part in (config, *parts(config).values())}
    declared: dict[str, set[str]] = {}
    for kind in kinds:
        for field in dataclasses.fields(kind):
            if not hasattr(getattr(kind(), field.name), "__dataclass_fields__"):
                declared.setdefault(field.name, set()).add(inspect.getfile(kind))
    assert {name: files for name, files in declared.items() if len(files) > 1} == {}


def test_replace_finds_a_setting_wherever_it_lives():
    config = replace(a3c.Config(), env_id="Acrobot-v1", frame_stack=2, service_cv=0.5, core="gru", gamma=0.9)
    assert config.env.env_id == "Acrobot-v1"
    assert config.env.wrappers.frame_stack == 2
    assert config.asynchrony.service.service_cv == 0.5
    assert config.network.body.core == "gru"
    assert config.objective.gamma == 0.9
    assert replace(config, env_id="CartPole-v1", frame_stack=1, service_cv=0.3, core="feed_forward", gamma=0.99) == (
        a3c.Config()
    )


def test_a_part_and_settings_of_it_can_be_replaced_together():
    config = replace(a3c.Config(), adam_epsilon=1e-3, optimizer=Adam(), learning_rate=1e-2)
    assert config.optimizer == Adam(learning_rate=1e-2, adam_epsilon=1e-3)
    assert parts(replace(rnd.Config(), agent=a2c.Config(), num_envs=3))["rollouts"].num_envs == 3


@pytest.mark.parametrize("name", ["learning_rat", "worker", "rmsprop_epsilon"])
def test_an_unknown_name_is_answered_with_the_nearest(name):
    with pytest.raises(InputError, match=rf"^{name}: 1 is not accepted; it must be .* field of ppo.Config; nearest: "):
        replace(ppo.Config(), **{name: 1})


@pytest.mark.parametrize(
    ("field", "written", "stored"),
    [
        ("total_frames", 5e5, 500_000),
        ("total_frames", np.int64(8), 8),
        ("total_frames", 1e10, 10_000_000_000),
        ("hidden_sizes", [64, 32], (64, 32)),
        ("hidden_sizes", [64.0], (64,)),
        ("slowness", [1, 2], (1, 2)),
        ("learning_rate", np.float64(0.5), 0.5),
        ("learning_rate", np.array(0.5), 0.5),
    ],
)
def test_a_value_may_be_written_in_another_way_where_nothing_is_lost(field, written, stored):
    value = flat(replace(a3c.Config(), **{field: written}))[field]
    assert value == stored
    assert type(value) is type(stored)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_settings_survive_json(name):
    config = ALGORITHMS[name]
    assert from_json(type(config), json.loads(json.dumps(to_json(config)))) == config
    changed = replace(config, env_params={"gravity": 5.0}, randomize={"length": (0.5, 1.0)}, observe=(0, 2))
    changed = replace(changed, env_kwargs={"backend": "positional", "is_slippery": False, "size": 3, "scale": 0.5})
    changed = replace(changed, hidden_sizes=(8,), max_gradient_norm=np.inf)
    changed = replace(changed, optimizer=RMSProp() if isinstance(parts(changed)["optimizer"], Adam) else Adam())
    changed = replace(changed, learning_rate=0.1, max_gradient_norm=np.inf)
    assert from_json(type(config), json.loads(json.dumps(to_json(changed)))) == changed


@pytest.mark.parametrize(
    "change", [lambda x: x | {"new": 1}, lambda x: {"gamma": 0.9}, lambda x: 3, lambda x: x | {"optimizer": "SGD"}]
)
def test_the_settings_of_another_program_are_refused(change):
    values = to_json(a3c.Config())
    with pytest.raises(InputError, match=r"config: .*the settings of a3c\.Config|optimizer: 'SGD'"):
        from_json(a3c.Config, change(values))


def test_an_object_that_json_cannot_hold_is_refused_when_it_is_read():
    values = to_json(replace(a3c.Config(), torso=nn.Dense(4)))
    assert values["torso"] == "<Dense>"
    with pytest.raises(InputError, match=r"torso: '<Dense>' .* given again"):
        from_json(a3c.Config, values)


def test_a_config_with_arrays_maps_like_a_replacement_inside_of_the_mapped_function():
    rates = jnp.array([1e-3, 1e-2])

    def train(config):
        return make_train(config)(KEY).state.learner.params

    outside = jax.jit(jax.vmap(train))(replace(SMALL, learning_rate=rates))
    inside = jax.jit(jax.vmap(lambda rate: train(replace(SMALL, learning_rate=rate))))(rates)
    jax.tree.map(np.testing.assert_array_equal, outside, inside)
    assert any((leaf[0] != leaf[1]).any() for leaf in jax.tree.leaves(outside))


def test_arrays_among_the_numbers_of_dicts_and_tuples_are_leaves_too():
    config = replace(SMALL, env_params={"gravity": jnp.array([9.8, 5.0]), "masspole": 0.1})
    assert [leaf.shape for leaf in jax.tree.leaves(config)] == [(2,)]
    assert jax.tree.unflatten(jax.tree.structure(config), [9.8]).env.env_params == {"gravity": 9.8, "masspole": 0.1}
    service = Service(slowness=(1.0, jnp.float32(2.0)))
    assert jax.tree.map(lambda x: x + 1, service).slowness == (1.0, 3.0)


def test_one_program_serves_all_floats():
    traces = []

    @jax.jit
    def frames(config):
        traces.append(1)
        return config.objective.gamma * 2

    for gamma in (0.9, 0.5):
        assert frames(with_array_floats(replace(SMALL, gamma=gamma))) == pytest.approx(2 * gamma)
    assert len(traces) == 1


def test_a_network_an_optimizer_and_an_environment_may_be_objects():
    env = envs.make_episodic("Catch-bsuite")
    config = replace(SMALL, env_id=env, torso=nn.Sequential([lambda x: x.reshape(*x.shape[:-2], -1), nn.Dense(4)]))
    result = jax.jit(make_train(replace(config, optimizer=optax.adam(1e-3))))(KEY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.state.learner.params))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"env_id": "CartPole-v1"}, "config: {'env_id': 'CartPole-v1'} .* the Config of an algorithm"),
        (a3c.Config, r"config: 'a3c.Config' is not accepted; it must be an instance, a3c.Config\(\)"),
        (a3c, "config: .* the Config of an algorithm"),
        (envs.Config(), "config: .* the Config of an algorithm"),
        (None, "config: None .* the Config of an algorithm"),
    ],
)
def test_something_that_is_no_config_is_named(config, message):
    with pytest.raises(InputError, match=message):
        make_train(config)


def test_messages_are_short():
    with pytest.raises(InputError) as error:
        replace(rnd.Config(), agent=envs.Config()).build()
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_workers": 100_000_000}, "num_workers"),
        ({"rollout_length": 10_000_000}, "rollout_length"),
        ({"total_frames": 10}, "total_frames"),
    ],
)
def test_a_run_that_is_too_short_for_an_iteration_blames_what_was_changed(changes, field):
    with pytest.raises(InputError, match=rf"^{field}: "):
        make_train(replace(a3c.Config(), **changes))


@pytest.mark.parametrize("name", ["a2c", "averaging", "impala"])
def test_more_frames_than_32_bits_count_are_accepted(name):
    config = replace(ALGORITHMS[name], total_frames=1e11)
    types = jax.eval_shape(make_train(config), KEY)
    assert types.metrics.frames.dtype == jnp.float32
    assert types.metrics.frames.shape[0] == 1e11 // config.build().frames_per_step


def test_defaults_differ_where_the_papers_do():
    assert impala.Config().optimizer == RMSProp(learning_rate=6e-4)
    assert impala.Config().asynchrony == Asynchrony(reads="lagged", lag=1.0)
    assert averaging.Config().rollouts.total_frames == 500_000
    assert ppo.Config().objective.gae_lambda == 0.95

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import a2c, a3c, averaging, envs, impala, make_train, ppo, reinforce, updates
from purejaxrl_a3c.config import flat, replace

BAD: list[tuple[str, Any, str]] = [
    ("env_id", "CartPole", "nearest: CartPole-v1"),
    ("env_id", "atari/pong", "a gymnax name, one that begins with"),
    ("torso", "cnn", "one of mlp, minatar, nips, nature, impala or a flax module (an instance)"),
    ("torso", "nature", "mlp, for observations of shape (4,)"),
    ("core", "rnn", "one of feed_forward, lstm, gru, min_gru, lru, transformer"),
    ("core", None, "one of feed_forward, lstm, gru, min_gru, lru, transformer"),
    ("num_cells", 0, "an int >= 1"),
    ("memory_window", 0, "an int >= 1"),
    ("num_transformer_layers", 0, "an int >= 1"),
    ("num_attention_heads", 0, "an int >= 1"),
    ("layer_norm", "yes", "a bool"),
    ("wrappers", {}, "an envs.Wrappers"),
    ("env_params", 9.8, "a dict of numbers by name"),
    ("randomize", 9.8, "a dict of pairs of numbers by name"),
    ("curriculum_frames", -1, "an int >= 0"),
    ("rollout_length", 0, "an int >= 1"),
    ("rollout_length", 2.5, "an int >= 1"),
    ("total_frames", 0, "an int >= 1"),
    ("total_frames", 79, "at least 80, the frames of one iteration"),
    ("gamma", 1.01, "in [0, 1]"),
    ("gamma", -0.1, "in [0, 1]"),
    ("gamma", float("nan"), "finite"),
    ("gae_lambda", 2.0, "in [0, 1]"),
    ("rmsprop_decay", -1.0, "in [0, 1]"),
    ("learning_rate", -1e-3, ">= 0"),
    ("entropy_coefficient", -1.0, ">= 0"),
    ("value_coefficient", -1.0, ">= 0"),
    ("max_gradient_norm", 0.0, "> 0, or inf for no limit"),
    ("rmsprop_epsilon", 0.0, "> 0"),
    ("hidden_sizes", (64, 0), "a tuple of ints >= 1"),
    ("hidden_sizes", [64, 0.5], "a tuple of ints >= 1"),
    ("hidden_sizes", 64, "a tuple of ints >= 1"),
    ("activation", "softplus", "one of elu, gelu, relu, silu, tanh"),
    ("activation", ["tanh"], "one of elu, gelu, relu, silu, tanh"),
    ("env_id", None, "a string or an Env"),
    ("rollout_length", True, "an int >= 1"),
    ("rollout_length", "5", "an int >= 1"),
    ("gamma", "0.9", "a number"),
    ("gamma", None, "a number"),
    ("gamma", True, "a number"),
    ("gamma", [0.9], "a number"),
    ("learning_rate", float("inf"), "finite"),
    ("learning_rate", np.array([1e-3, 1e-2]), "a single number; to try several, vmap over them"),
    ("anneal_learning_rate", "no", "a bool"),
    ("shared_torso", 1, "a bool"),
]
CONFIGS: dict[str, Any] = {
    "a2c": replace(a2c.Config(), num_envs=16, rollout_length=5),
    "a3c": replace(a3c.Config(), num_workers=8, envs_per_worker=2, rollout_length=5),
}
SIZES = [("a2c", "num_envs"), ("a3c", "num_workers"), ("a3c", "envs_per_worker")]
CASES = [(name, *bad) for name in CONFIGS for bad in BAD] + [(*size, 0, "an int >= 1") for size in SIZES]


@pytest.mark.parametrize(("name", "field", "value", "accepted"), CASES)
def test_bad_input_names_the_field_the_value_and_what_is_accepted(monkeypatch, name, field, value, accepted):
    def compile_nothing(*args, **kwargs):
        raise AssertionError("compiled before the input was checked")

    CONFIGS[name].build()  # the constants that gymnax computes when it makes an environment are no program of ours
    monkeypatch.setattr(jax._src.compiler, "compile_or_get_cached", compile_nothing)
    config = replace(CONFIGS[name], **{field: value})
    with pytest.raises(ValueError, match=re.escape(accepted)) as error:
        make_train(config)
    assert str(error.value).startswith(f"{field}: {flat(config).get(field, value)!r} ")


ASYNCHRONY: list[tuple[str, Any, str]] = [
    ("schedule", "fifo", "one of random, round_robin, clock"),
    ("reads", None, "one of newest, lagged, torn_leaves, torn_elements"),
    ("service", "gamma", "a service.Service"),
    ("max_lead", -1, "an int >= 0"),
    ("max_lead", 2.5, "an int >= 0"),
    ("max_lead", 2, "None unless schedule is clock"),
    ("lag", -1.0, ">= 0"),
    ("lag", 1.0, "0 unless reads is lagged"),
    ("lag", 5.0, "at most max_lag, 1"),
    ("max_lag", 0, "an int >= 1"),
]
SERVICE: list[tuple[str, Any, str]] = [
    ("service_law", "uniform", "one of constant, exponential, gamma, lognormal, measured"),
    ("service_law", "measured", "one of the other laws if measured_times is empty"),
    ("measured_times", (1.0, 2.0), "empty if service_law is gamma"),
    ("num_cores", -1, "an int >= 0"),
    ("num_cores", 2, "0 unless schedule is clock and max_lead is None"),
    ("time_slice", 0.0, "> 0"),
    ("service_cv", 0.0, "> 0"),
    ("slowness", 2.0, "a tuple of numbers"),
    ("slowness", (1.0, 2.0), "one number for each of 8 workers, or empty"),
]


@pytest.mark.parametrize(("field", "value", "accepted"), ASYNCHRONY + SERVICE)
def test_a_bad_asynchrony_names_its_field(field, value, accepted):
    if field in flat(updates.Service()):
        settings = updates.Asynchrony(service=replace(updates.Service(), **{field: value}))
    else:
        settings = replace(updates.Asynchrony(), **{field: value})
    with pytest.raises(ValueError, match=re.escape(accepted)) as error:
        make_train(replace(CONFIGS["a3c"], asynchrony=settings))
    assert str(error.value).startswith(f"{field}: {value!r} ")


def test_a_worker_cannot_be_slower_by_less_than_nothing():
    service = updates.Service(slowness=(1.0, -1.0))
    with pytest.raises(ValueError, match=re.escape("slowness: -1.0 is not accepted; it must be > 0")):
        make_train(replace(a3c.Config(), num_workers=2, asynchrony=updates.Asynchrony(service=service)))


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("correction", "dc", "one of none, staleness, delay, adaptive_delay"),
        ("correction_strength", -1.0, ">= 0"),
        ("momentum", 1.0, "in (-1, 1)"),
        ("asynchrony", "clock", "Asynchrony"),
    ],
)
def test_bad_settings_of_a3c_alone(field, value, accepted):
    with pytest.raises(ValueError, match=re.escape(accepted)) as error:
        make_train(replace(CONFIGS["a3c"], **{field: value}))
    assert str(error.value).startswith(f"{field}: {value!r} ")


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("sync_every", 0, "an int >= 1"),
        ("mix", "gossip", "one of mean, ring"),
        ("outer_learning_rate", -0.1, ">= 0"),
        ("outer_momentum", 1.5, "in [0, 1]"),
    ],
)
def test_bad_settings_of_averaging(field, value, accepted):
    with pytest.raises(ValueError, match=re.escape(accepted)) as error:
        make_train(replace(averaging.Config(), **{field: value}))
    assert str(error.value).startswith(f"{field}: ")


PPO: list[tuple[str, Any, str]] = [
    ("policy_loss", "penalty", "one of clip, kl"),
    ("epochs", 0, "an int >= 1"),
    ("num_minibatches", 0, "an int >= 1"),
    ("num_minibatches", 7, "a divisor of 40, num_envs * rollout_length"),
    ("clip_range", 0.0, "> 0"),
    ("kl_penalty", -1.0, ">= 0"),
    ("kl_penalty_target", 0.0, "> 0"),
    ("target_kl", -0.1, ">= 0"),
    ("clip_values", 0.2, "a bool"),
    ("normalize_advantages", 1, "a bool"),
    ("adam_epsilon", 0.0, "> 0"),
]


@pytest.mark.parametrize(("field", "value", "accepted"), PPO)
def test_bad_settings_of_ppo(field, value, accepted):
    with pytest.raises(ValueError, match=re.escape(accepted)) as error:
        make_train(replace(replace(ppo.Config(), num_envs=8, rollout_length=5), **{field: value}))
    assert str(error.value).startswith(f"{field}: {value!r} ")


@pytest.mark.parametrize("core", ["feed_forward", "gru"])
def test_a_minibatch_of_one_step_has_nothing_to_normalise_over(core):
    config = replace(ppo.Config(), num_envs=8, rollout_length=1, num_minibatches=8, core=core)
    with pytest.raises(ValueError, match="num_minibatches: 8 is not accepted; it must be less than 8"):
        config.build()
    replace(config, normalize_advantages=False).build()


def test_minibatches_of_a_recurrent_network_are_whole_environments():
    config = replace(ppo.Config(), num_envs=8, rollout_length=5, num_minibatches=5)
    config.build()
    with pytest.raises(ValueError, match="num_minibatches: 5 is not accepted; it must be a divisor of 8, num_envs"):
        replace(config, core="gru").build()


IMPALA: list[tuple[str, Any, str]] = [
    ("off_policy", "v-trace", "one of vtrace, one_step, epsilon, none"),
    ("clip_rho", 0.0, "> 0"),
    ("clip_c", -1.0, "> 0"),
    ("asynchrony", None, "Asynchrony"),
    ("num_workers", 0, "an int >= 1"),
]


@pytest.mark.parametrize(("field", "value", "accepted"), IMPALA)
def test_bad_settings_of_impala(field, value, accepted):
    with pytest.raises(ValueError, match=re.escape(accepted)) as error:
        make_train(replace(impala.Config(), **{field: value}))
    assert str(error.value).startswith(f"{field}: {value!r} ")


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("baseline", "mean", "one of value, none"),
        ("longest_episode", 0, "an int >= 1"),
        ("longest_episode", 1001, "at most rollout_length, 1000"),
        ("longest_episode", 499, "at least time_limit, 500"),
    ],
)
def test_bad_settings_of_reinforce(field, value, accepted):
    with pytest.raises(ValueError, match=re.escape(accepted)) as error:
        make_train(replace(reinforce.Config(), time_limit=500, **{field: value}))
    assert str(error.value).startswith(f"{field}: {value!r} ")


BAD_WRAPPERS = [
    ("time_limit", -1, "an int >= 0"),
    ("action_repeat", 0, "an int >= 1"),
    ("frame_stack", 0, "an int >= 1"),
    ("sticky_actions", 1.5, "in [0, 1]"),
    ("sticky_actions", "often", "a number"),
    ("clip_rewards", -1.0, ">= 0"),
    ("observe", 0, "a tuple of ints >= 0"),
    ("observe", (0, 4), "ints in 0 .. 3, for CartPole-v1"),
    ("normalize_observations", 1, "a bool"),
]


@pytest.mark.parametrize(("field", "value", "accepted"), BAD_WRAPPERS)
def test_a_wrapper_that_does_not_fit_is_named_too(field, value, accepted):
    with pytest.raises(ValueError, match=re.escape(accepted)) as error:
        make_train(replace(a2c.Config(), wrappers=envs.Wrappers(**{field: value})))
    assert str(error.value).startswith(f"{field}: {value!r} ")


@pytest.mark.parametrize("name", CONFIGS)
def test_numpy_and_jax_scalars_are_numbers(name):
    floats = {"learning_rate": np.float32(1e-3), "gamma": jnp.float32(0.9), "gae_lambda": 1}
    algorithm = replace(CONFIGS[name], rollout_length=np.int64(5), **floats).build()
    assert algorithm.frames_per_step == 80


def test_a_traced_size_is_an_error_that_says_so():
    def run(num_envs):
        return make_train(replace(CONFIGS["a2c"], num_envs=num_envs))(jax.random.key(0))

    with pytest.raises(ValueError, match=r"num_envs: .* must be an int >= 1"):
        jax.eval_shape(jax.vmap(run), jnp.arange(1, 3))

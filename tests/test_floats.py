"""Every float of every algorithm, traced and concrete, at both ends of what it accepts: the same run."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_contract import CONFIGS, FLOATS, unused_floats

from purejaxrl_a3c import make_train, replace
from purejaxrl_a3c.config import bounds_of, field_types, flat, is_config, is_float

KEY = jax.random.key(0)
# Fields that no config of the battery uses, or that are off in it, with settings that make use of them.
MORE: dict[str, dict[str, Any]] = {
    "clip_range": {},
    "initial_scale": {"env_id": "Pendulum-v1"},
    "kl_penalty": {"policy_loss": "kl"},
    "kl_penalty_target": {"policy_loss": "kl"},
    "lag": {"reads": "lagged", "max_lag": 4},
    "service_cv": {"schedule": "clock", "service_law": "gamma"},
    "correction_strength": {"correction": "delay"},
}


def annotations(config):
    """The annotation of every float setting, by name."""
    found: dict[str, Any] = {}
    for name, annotation in field_types(type(config)).items():
        value = getattr(config, name)
        if is_config(value):
            found |= annotations(value)
        elif is_float(annotation) and name not in (
            "env_params",
            "env_kwargs",
            "randomize",
            "slowness",
            "measured_times",
        ):
            found[name] = annotation
    return found


FIELDS = {
    field: (name, annotation)
    for name, config in reversed(CONFIGS.items())
    for field, annotation in annotations(config).items()
    if field in MORE or field not in unused_floats(config)
}


def extremes(annotation, limit):
    """The smallest and the largest value that a field accepts, or some that are far out."""
    bounds = bounds_of(annotation)
    assert bounds is not None
    inside = 1e-3 if bounds.open else 0.0
    low = bounds.low + inside
    high = math.inf if bounds.infinite else min(bounds.high - inside, limit)
    return low, high


def test_the_battery_uses_every_float():
    assert FIELDS.keys() == FLOATS.keys()


# These were once switched off by a number, or are rounded: they are checked on every change, all others with -m slow.
SPECIAL = {"clip_rewards", "lag", "max_gradient_norm", "momentum", "sticky_actions", "target_kl"}
PARAMS = [pytest.param(field, marks=() if field in SPECIAL else pytest.mark.slow) for field in sorted(FIELDS)]


@pytest.mark.parametrize("field", PARAMS)
def test_a_traced_float_is_the_concrete_one_at_both_ends_of_its_bounds(field):
    name, annotation = FIELDS[field]
    config = replace(CONFIGS[name], **MORE.get(field, {}))
    config = replace(config, total_frames=2 * config.build().frames_per_step)
    values = extremes(annotation, limit=4.0 if field == "lag" else 10.0)

    def losses(value):
        return make_train(replace(config, **{field: value}))(KEY).metrics.losses

    traced = jax.jit(jax.vmap(losses))(jnp.array(values, jnp.float32))
    for i, value in enumerate(values):
        concrete = jax.jit(lambda value=value: losses(value))()
        for key in ("policy_loss", "value_loss", "entropy", "gradient_norm"):
            np.testing.assert_allclose(traced[key][i], concrete[key], rtol=1e-2, atol=1e-4, err_msg=f"{key} at {value}")


def test_a_limit_of_infinity_is_no_limit():
    config = CONFIGS["a2c"]
    unlimited, large = (
        jax.jit(make_train(replace(config, max_gradient_norm=limit)))(KEY).state.learner.params
        for limit in (math.inf, 1e9)
    )
    jax.tree.map(np.testing.assert_array_equal, unlimited, large)
    assert flat(config)["max_gradient_norm"] == 0.5

"""Many runs in blocks: the numbers are those of one vmap, whatever the blocks and devices."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from test_devices import close

from purejaxrl_a3c import InputError, a2c, a3c, devices, make_train, train_many
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.run import many

CONFIG = replace(a2c.Config(), num_envs=2, hidden_sizes=(4,), total_frames=5 * 2 * 3)
KEYS = jax.random.split(jax.random.key(3), 7)


@pytest.fixture(scope="module")
def expected():
    return jax.jit(jax.vmap(make_train(CONFIG)))(KEYS)


@pytest.mark.parametrize(
    ("batch_size", "count"),
    [
        pytest.param(3, 1, id="the last block is not full"),
        pytest.param(1, 1, id="one after the other"),
        pytest.param(None, 1, id="as many as fit"),
        pytest.param(2, 3, id="devices with unequal shares"),
    ],
)
def test_runs_in_blocks_are_those_of_one_vmap(batch_size, count, expected):
    result = train_many(CONFIG, KEYS, batch_size=batch_size, devices=jax.devices()[:count])
    close(result, expected, rtol=1e-4, atol=1e-5)
    assert result.metrics.frames.shape == (7, 3)


def test_raw_keys_are_keys_too(expected):
    result = train_many(CONFIG, jax.random.key_data(KEYS), batch_size=3, devices=jax.devices()[:1])
    assert result.metrics.frames.shape == (7, 3)
    close(result, expected, rtol=1e-4, atol=1e-5)


def _temporary(program, keys):
    """Bytes of the program's temporary arrays."""
    sizes: Any = program.lower(keys).compile().memory_analysis()
    return sizes.temp_size_in_bytes


def test_only_a_block_is_in_memory_at_a_time():
    sizes = []
    for number in (8, 64):
        keys = jax.random.split(jax.random.key(0), number)
        sizes.append(_temporary(many._program(CONFIG, (jax.devices()[0],), 4), keys))
    together = _temporary(jax.jit(jax.vmap(make_train(CONFIG))), keys)
    results = jax.eval_shape(jax.vmap(make_train(CONFIG)), keys)
    # Eight times as many runs need hardly more beside their results, which the loop over blocks collects.
    assert sizes[1] - sizes[0] < sum(x.size * 8 for x in jax.tree.leaves(results))
    assert sizes[1] < together
    # And a block is trained side by side.
    assert _temporary(many._program(CONFIG, (jax.devices()[0],), 1), keys) < sizes[1]


@pytest.mark.parametrize(("runs", "most", "width"), [(10, 4, 4), (9, 4, 3), (8, 4, 4), (3, 4, 3), (2048, 100, 98)])
def test_blocks_are_about_equally_full(runs, most, width):
    assert many.even(runs, most) == width
    assert -(-runs // width) == -(-runs // most)  # no more blocks for it


def test_a_larger_run_has_fewer_beside_it():
    device = jax.devices()[0]
    small, large = (many.fitting(config, device) for config in (a2c.Config(), a3c.Config()))
    assert small > large >= 1


@pytest.mark.parametrize(
    ("named", "keys", "options"),
    [
        ("keys", jax.random.key(0), {}),
        ("keys", KEYS[:0], {}),
        ("keys", jnp.zeros((3, 2, 2), jnp.uint32), {}),
        ("batch_size", KEYS, {"batch_size": 0}),
        ("batch_size", KEYS, {"batch_size": 2.5}),
        ("devices", KEYS, {"devices": []}),
    ],
)
def test_bad_arguments_are_named(named, keys, options):
    with pytest.raises(InputError, match=named):
        train_many(CONFIG, keys, **options)


def test_a_config_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="num_envs"):
        train_many(replace(CONFIG, num_envs=0), KEYS)
    with pytest.raises(InputError, match="config"):
        train_many(object(), KEYS)  # type: ignore[arg-type]
    for train in (train_many, devices.train_on_devices):
        with pytest.raises(InputError, match=r"learning_rate: .* a number"):
            train(replace(CONFIG, learning_rate=jnp.float32(1e-3)), KEYS)

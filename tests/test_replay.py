"""The replay buffer against plain NumPy: what it keeps, what it draws, and what is made of the rows."""

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest

from purejaxrl_a3c import dqn, make_train, replay
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.replay import priorities
from purejaxrl_a3c.replay.packing import pack, unpack
from purejaxrl_a3c.replay.priorities import Places

GAMMA = 0.9
ENVS = 2
PICTURE = (2, 3)
ROWS = ("obs", "action", "reward", "terminated", "truncated", "final_obs", "first")


def play(rollouts, length, envs=ENVS, seed=0):
    """Made-up rollouts, leaves ``[rollouts, T, B, ...]``, in which every episode ends within a few steps.

    The carry before a rollout is (its first row's number, the environment).
    """
    rng, shape = np.random.default_rng(seed), (rollouts * length, envs)
    terminated = rng.random(shape) < 0.15
    truncated = (rng.random(shape) < 0.15) & ~terminated
    first = np.concatenate([np.ones((1, envs), bool), (terminated | truncated)[:-1]])
    rows = replay.Rows(
        obs=rng.random((*shape, *PICTURE)) < 0.5,
        action=rng.integers(0, 4, shape, np.int32),
        reward=rng.normal(size=shape).astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        final_obs=rng.normal(size=(*shape, 3)).astype(np.float32),
        first=first,
    )
    rows = jax.tree.map(lambda x: x.reshape(rollouts, length, *x.shape[1:]), rows)
    number = np.broadcast_to(np.arange(rollouts)[:, None, None] * length, (rollouts, 1, envs))
    return rows._replace(
        carry=(number.astype(np.float32), np.broadcast_to(np.arange(envs, dtype=np.float32), number.shape))
    )


def fill(rollouts, rows, *, unit=1, ahead=0, exponent=None):
    """A buffer, its ring after all of the rollouts, and the log of all steps, leaves ``[steps, B, ...]``."""
    kept = rollouts if unit > 1 else rollouts._replace(carry=())
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[3:], x.dtype), kept)
    size = replay.Size(rows, rollouts.reward.shape[2], unit, ahead)
    buffer = replay.make(example, size, priority_exponent=exponent)
    ring = jax.jit(lambda ring: jax.lax.scan(lambda ring, x: (buffer.add(ring, x), None), ring, kept)[0])(buffer.init())
    log = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollouts)
    return buffer, ring, log


def every_place(items, envs=ENVS):
    item, env = np.meshgrid(np.arange(items), np.arange(envs), indexing="ij")
    return Places(jnp.asarray(item.ravel(), jnp.int32), jnp.asarray(env.ravel(), jnp.int32))


def newest_with(slot, rows, steps):
    """Number of the newest of ``steps`` logged steps that was written into this row of the ring."""
    return max(step for step in range(steps) if step % rows == slot)


def count(draw, items, batches, size):
    """How often each item ``[items, B]`` comes in many batches drawn with independent bits."""
    counts = np.zeros((items, ENVS))
    bits = jax.random.bits(jax.random.key(3), (batches, 2, size))
    places = jax.jit(lambda bits: jax.lax.map(lambda x: draw(x).places, bits))(bits)
    np.add.at(counts, (np.asarray(places.item), np.asarray(places.env)), 1)
    return counts


@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize("rollouts", [4, 23])  # with and without having wrapped, twice and a bit
def test_transitions_are_those_of_a_log(n, rollouts):
    rows, length = 40, 4
    buffer, ring, log = fill(play(rollouts, length), rows)
    steps = rollouts * length
    places = every_place(min(rows, steps))
    got = jax.jit(lambda ring: replay.transitions(buffer.view(ring, places), n, GAMMA))(ring)
    seen = {"terminated": 0, "truncated": 0, "newest": 0, "full": 0}
    for m, (slot, env) in enumerate(zip(*map(np.asarray, places), strict=True)):
        start = newest_with(slot, rows, steps)
        step, total, discount = start, 0.0, 1.0
        while True:
            total += discount * log.reward[step, env]
            discount *= GAMMA
            reason = "terminated" if log.terminated[step, env] else "truncated" if log.truncated[step, env] else None
            reason = reason or ("full" if step + 1 - start == n else "newest" if step + 1 == steps else None)
            if reason:
                break
            step += 1
        seen[reason] += 1
        np.testing.assert_array_equal(got.obs[m], log.obs[start, env])
        assert got.action[m] == log.action[start, env]
        np.testing.assert_allclose(got.reward[m], total, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got.discount[m], 0 if reason == "terminated" else discount, rtol=1e-5)
        np.testing.assert_array_equal(got.next_obs[m], log.final_obs[step, env])
    assert all(seen[reason] for reason in seen if reason != "newest" or n > 1)


@pytest.mark.parametrize(
    ("rollouts", "unit", "ahead"), [(3, 1, 0), (23, 1, 0), (3, 4, 0), (3, 4, 2), (23, 4, 1), (23, 4, 2)]
)
def test_uniform_draws_cover_all_whole_items_evenly_and_no_others(rollouts, unit, ahead):
    rows, length, batches = 40, 4, 400
    buffer, ring, _ = fill(play(rollouts, length), rows, unit=unit, ahead=ahead)
    counts = count(lambda bits: buffer.sample(ring, bits, jnp.float32(1)), rows // unit, batches, 250)
    is_whole = whole_items(rollouts * length, rows, unit, ahead)
    np.testing.assert_array_equal(counts > 0, np.repeat(is_whole[:, None], ENVS, 1))
    expected = batches * 250 / (ENVS * is_whole.sum())
    assert np.abs((counts[is_whole] - expected) / expected**0.5).max() < 4.5
    weight = buffer.sample(ring, jnp.zeros((2, 5), jnp.uint32), jnp.float32(1)).weight
    np.testing.assert_array_equal(weight, 1)


def whole_items(steps, rows, unit, ahead):
    """Which items of the ring begin where all ``ahead`` items that follow are there, and not yet overwritten."""
    is_whole = np.zeros(rows // unit, bool)
    for slot in range(rows // unit):
        starts = [step for step in range(0, steps, unit) if step % rows == slot * unit]
        end = starts[-1] + unit * (1 + ahead) if starts else steps + 1
        is_whole[slot] = end <= steps
    return is_whole


@pytest.mark.parametrize("exponent", [1.0, 0.5])
def test_prioritized_draws_have_their_chances_and_weights(exponent):
    rows, rollouts, batches = 60, 40, 400
    buffer, ring, _ = fill(play(rollouts, 4), rows, exponent=exponent)
    errors = np.random.default_rng(1).exponential(size=(rows, ENVS))
    places = every_place(rows)
    ring = buffer.reprioritise(ring, places, jnp.asarray(errors.ravel(), jnp.float32))
    chance = (errors + 1e-6) ** exponent / ((errors + 1e-6) ** exponent).sum()
    counts = count(lambda bits: buffer.sample(ring, bits, jnp.float32(0.4)), rows, batches, 250)
    deviations = (counts - batches * 250 * chance) / (batches * 250 * chance) ** 0.5
    # One draw from each of 250 shares of the sum: less than independent draws would deviate.
    assert np.abs(deviations).max() < 4.5
    assert 0.1 < deviations.std() < 1.1
    for beta in (0.0, 0.4, 1.0):
        drawn = buffer.sample(ring, jax.random.bits(jax.random.key(0), (2, 64)), jnp.float32(beta))
        weight = (rows * ENVS * chance[np.asarray(drawn.places.item), np.asarray(drawn.places.env)]) ** -beta
        np.testing.assert_allclose(drawn.weight, weight / weight.max(), rtol=1e-3)


def test_the_importance_exponent_rises_to_1_over_the_run(monkeypatch):
    seen = set()
    make = replay.make

    def make_and_watch(*args, **kwargs):
        buffer = make(*args, **kwargs)

        def sample(ring, bits, beta):
            jax.debug.callback(lambda beta: seen.add(round(float(beta), 4)), beta)
            return buffer.sample(ring, bits, beta)

        return buffer._replace(sample=sample)

    monkeypatch.setattr(replay, "make", make_and_watch)
    config = replace(dqn.Config(), env_id="Copy-probe", prioritized=True, importance_exponent=0.4, hidden_sizes=(4,))
    config = replace(config, num_envs=2, rollout_length=5, total_frames=60, learning_starts=10, batch_size=4)
    jax.block_until_ready(jax.jit(make_train(config))(jax.random.key(0)))
    jax.effects_barrier()
    assert sorted(seen) == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


@pytest.mark.parametrize(("unit", "ahead"), [(1, 0), (4, 0), (4, 2)])
def test_new_items_get_the_largest_priority_so_far_and_incomplete_ones_none(unit, ahead):
    rows, length = 40, 4
    rollouts = play(14, length)
    early = jax.tree.map(lambda x: x[:12], rollouts)
    buffer, ring, _ = fill(early, rows, unit=unit, ahead=ahead, exponent=1.0)
    items = rows // unit

    def priority(ring):
        return np.asarray(ring.tree[0]).reshape(ENVS, -1)[:, :items]

    np.testing.assert_array_equal(priority(ring), np.tile(whole_items(48, rows, unit, ahead), (ENVS, 1)))
    drawn = whole_items(48, rows, unit, ahead).nonzero()[0]
    places = Places(jnp.asarray(drawn, jnp.int32), jnp.zeros(len(drawn), jnp.int32))
    for error in (7.0, 0.5):  # the largest error so far counts, not the latest
        ring = buffer.reprioritise(ring, places, jnp.full(len(drawn), error))
    before = priority(ring)
    for i in (12, 13):
        new = jax.tree.map(lambda x, i=i: x[i], rollouts)
        ring = buffer.add(ring, new if unit > 1 else new._replace(carry=()))
    was, now = whole_items(48, rows, unit, ahead), whole_items(56, rows, unit, ahead)
    written = (np.arange(48, 56, unit) % rows) // unit
    fresh = (np.isin(np.arange(items), written) & now) | (now & ~was)
    expected = np.where(now, np.where(fresh, 7.0, before), 0.0)
    np.testing.assert_allclose(priority(ring), expected, rtol=1e-5)
    counts = count(lambda bits: buffer.sample(ring, bits, jnp.float32(1)), items, 20, 100)
    assert (counts[~now] == 0).all()


@pytest.mark.parametrize("rollouts", [5, 23])
def test_sequences_are_those_of_a_log_with_the_carry_of_their_first_row(rollouts):
    rows, length, span = 40, 4, 10  # a sequence needs the two rollouts behind the one that it begins with
    buffer, ring, log = fill(play(rollouts, length), rows, unit=length, ahead=2)
    whole = whole_items(rollouts * length, rows, length, 2)
    places = every_place(rows // length)
    got = jax.jit(lambda ring: replay.sequences(buffer.view(ring, places), span))(ring)
    for m, (item, env) in enumerate(zip(*map(np.asarray, places), strict=True)):
        if whole[item]:
            start = newest_with(item * length, rows, rollouts * length)
            for name in ROWS:
                np.testing.assert_array_equal(getattr(got, name)[m], getattr(log, name)[start : start + span, env])
            assert [float(x[m]) for x in got.carry] == [start, env]
    assert whole.sum() == min(rollouts, 10) - 2
    assert got.first[:, 1:].any()


@pytest.mark.parametrize("shape", [(), (1,), (5,), (32,), (10, 10, 4)])
def test_booleans_are_packed_and_unpacked(shape):
    x = np.random.default_rng(0).random((3, 2, *shape)) < 0.5
    packed = pack(jnp.asarray(x))
    like = jax.ShapeDtypeStruct(shape, bool)
    np.testing.assert_array_equal(unpack(packed, like), x)
    size = int(np.prod(shape))
    assert packed.shape == ((3, 2, -(-size // 32)) if size > 1 else x.shape)
    numbers = jnp.arange(12.0).reshape(3, 2, 2)
    assert pack(numbers) is numbers


@pytest.mark.parametrize("items", [1, 16, 17, 300])
def test_sums_stay_exact_over_thousands_of_changes(items):
    rng, envs, changes, size = np.random.default_rng(0), 3, 1500, 16
    places = rng.integers(0, [items, envs], (changes, size, 2))
    value = rng.exponential(1e3, (changes, size)) * (rng.random((changes, size)) < 0.8)
    expected = np.zeros((envs, items), np.float32)
    for where, x in zip(places, value, strict=True):
        for (item, env), one in zip(where, x, strict=True):
            expected[env, item] = one
        # An item that comes twice comes with the same error.
        x[:] = expected[where[:, 1], where[:, 0]]

    def change(tree, drawing):
        where, x = drawing
        return priorities.set_priorities(tree, Places(where[:, 0], where[:, 1]), x), None

    drawings = jnp.asarray(places, jnp.int32), jnp.asarray(value, jnp.float32)
    tree = jax.jit(lambda tree: jax.lax.scan(change, tree, drawings)[0])(priorities.make_tree(items, envs))
    np.testing.assert_array_equal(tree[0].reshape(envs, -1)[:, :items], expected)
    level = expected.astype(np.float64)
    for sums in tree:
        level = np.pad(level, ((0, 0), (0, -level.shape[1] % 16)))
        np.testing.assert_allclose(sums.reshape(envs, -1), level, rtol=1e-6)
        level = level.reshape(envs, -1, 16).sum(-1)
    np.testing.assert_allclose(priorities.total(tree), expected.astype(np.float64).sum(), rtol=1e-6)


def test_no_share_of_the_sum_leads_to_an_item_without_priority():
    """Not even a share that lies, up to rounding, on the border between two items."""
    rng = np.random.default_rng(0)
    draw = jax.jit(priorities.draw)
    for _ in range(20):
        value = rng.exponential(size=20) * (rng.random(20) < 0.5)
        tree = priorities.make_tree(20, 1)
        tree = priorities.set_priorities(tree, every_place(20, 1), jnp.asarray(value, jnp.float32))
        border = (np.cumsum(value) / value.sum()).astype(np.float32)
        near = border[:, None] * (1 + 6e-8 * np.arange(-20, 21, dtype=np.float32))
        share = jnp.asarray(np.clip(near.ravel(), 0, 1 - 2**-24), jnp.float32)
        places, priority = draw(tree, share)
        assert (np.asarray(priority) > 0).all()
        np.testing.assert_array_equal(priority, value.astype(np.float32)[np.asarray(places.item)])


def test_errors_that_are_not_finite_get_the_largest_priority():
    buffer, ring, _ = fill(play(10, 4), 40, exponent=0.6)
    places = Places(jnp.arange(4, dtype=jnp.int32), jnp.zeros(4, jnp.int32))
    ring = buffer.reprioritise(ring, places, jnp.array([3.0, jnp.nan, jnp.inf, 0.0]))
    np.testing.assert_allclose(ring.top, 3**0.6, rtol=1e-5)
    priority = np.asarray(ring.tree[0]).reshape(ENVS, -1)[0, :4]
    np.testing.assert_allclose(priority, [3**0.6, 1, 1, 1e-6**0.6], rtol=1e-4)
    drawn = buffer.sample(ring, jax.random.bits(jax.random.key(0), (2, 50)), jnp.float32(0.5))
    assert np.isfinite(drawn.weight).all()
    assert len(np.unique(drawn.places.item)) > 10


def test_devices_draw_from_their_own_environments_and_share_the_largest_weight_and_priority():
    rows, rollouts = 40, play(10, 4)
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[3:], x.dtype), rollouts._replace(carry=()))
    buffer = replay.make(example, replay.Size(rows, 1), priority_exponent=1.0, axis_name="device")
    errors = np.random.default_rng(1).exponential(size=(ENVS, rows)).astype(np.float32)

    def on_device(rows_here, error):
        ring = jax.lax.scan(lambda ring, x: (buffer.add(ring, x), None), buffer.init(), rows_here)[0]
        ring = buffer.reprioritise(ring, every_place(rows, 1), error)
        bits = jax.random.bits(jax.random.fold_in(jax.random.key(0), jax.lax.axis_index("device")), (2, 8))
        drawn = buffer.sample(ring, bits, jnp.float32(0.7))
        return ring.top, drawn, buffer.view(ring, drawn.places).read("reward", jnp.zeros((8, 1), jnp.int32))[:, 0]

    split = jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), 2, 0)[:, :, :, None], rollouts._replace(carry=()))
    top, drawn, reward = jax.jit(jax.vmap(on_device, axis_name="device"))(split, jnp.asarray(errors))
    np.testing.assert_allclose(top, errors.max() + 1e-6, rtol=1e-6)
    weight = np.zeros((ENVS, 8))
    for device in range(ENVS):
        item = np.asarray(drawn.places.item[device])
        np.testing.assert_array_equal(reward[device], rollouts.reward.reshape(-1, ENVS)[item, device])
        weight[device] = (rows * errors[device][item] / errors[device].sum()) ** -0.7
    np.testing.assert_allclose(drawn.weight, weight / weight.max(), rtol=1e-3)


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("exponent", [None, 0.6])
def test_memory_beside_the_buffer_does_not_grow_with_it(exponent):
    """Neither the ring nor the tree is copied when its state is donated, also if the weights are used apart."""

    def temporary_bytes(rows):
        example = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[3:], x.dtype), new)
        buffer = replay.make(example, replay.Size(rows, ENVS), priority_exponent=exponent)

        def turn(i, loop):
            ring, total = loop
            ring = buffer.add(ring, jax.tree.map(lambda x: x[0], new))
            drawn = buffer.sample(ring, jax.random.bits(jax.random.key(i), (2, 16)), jnp.float32(0.5))
            batch = replay.transitions(buffer.view(ring, drawn.places), 3, GAMMA)
            ring = buffer.reprioritise(ring, drawn.places, jnp.abs(batch.reward))
            return ring, total + drawn.weight.sum() + batch.next_obs.sum()

        def turns(ring, n):
            return jax.lax.fori_loop(0, n, turn, (ring, jnp.float32(0)))

        types = jax.eval_shape(buffer.init)
        memory = jax.jit(turns, donate_argnums=0).lower(types, 3).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    new = play(1, 4)._replace(carry=())
    rows = 100_000  # a copy of the flags alone would take 0.2 MB
    assert temporary_bytes(rows) < temporary_bytes(1_000) + 10_000

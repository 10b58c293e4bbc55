"""The virtual clock against a plain event loop, and against what theory says of staleness and of time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purejaxrl_a3c.updates import clock

KEY = jax.random.key(0)


def run(service, num_workers, num_batches, **options):
    """``(services, pushes)``: of each worker the tasks' service times, and rows (worker, time, pullers)."""
    most = options.pop("max_pushes", num_workers)
    step = jax.jit(lambda key, now: clock.next_batch(key, now, service, max_pushes=most, remaining=most, **options))
    now = clock.start(KEY, service, num_workers)
    services = [[float(first)] for first in now.remaining]
    pushes = []
    for i in range(num_batches):
        before = np.asarray(now.service)
        now, batch = step(jax.random.fold_in(KEY, i), now)
        pull = np.asarray(batch.pull_after)
        for worker in np.flatnonzero(pull >= 0):
            services[worker].append(float(before[worker]))
        for k in np.flatnonzero(batch.pushed):
            pushes.append((int(batch.pushers[k]), float(batch.time[k]), set(np.flatnonzero(pull == k).tolist())))
    return services, pushes


def event_loop(services, events, max_lead=None):
    """One push at a time: the worker whose task ends first pushes; whoever may, pulls and starts its next task."""
    workers = range(len(services))
    ends = [times[0] for times in services]
    done = [0 for _ in workers]
    pushes = []
    for _ in range(events):
        time = min(ends)
        pusher = ends.index(time)
        done[pusher] += 1
        ends[pusher] = np.inf
        pullers = {i for i in workers if ends[i] == np.inf and (max_lead is None or done[i] - min(done) <= max_lead)}
        for i in pullers:
            # A task that was never drawn, because the run ended before.
            ends[i] = time + services[i][done[i]] if done[i] < len(services[i]) else 1e30
        pushes.append((pusher, time, pullers))
    return pushes


@pytest.mark.parametrize("max_lead", [None, 0, 1, 3])
@pytest.mark.parametrize("law", clock.LAWS)
def test_batches_are_the_event_loop_push_by_push(law, max_lead):
    # Different speeds, of which no two multiples meet, so that nothing hangs on a rounding error.
    slowness = tuple(np.random.default_rng(0).uniform(0.7, 3, 5).tolist())
    service = clock.Service(law, 0.8, slowness)
    services, pushes = run(service, 5, num_batches=150, max_pushes=4, max_lead=max_lead)
    expected = event_loop(services, len(pushes), max_lead)
    assert [(who, pullers) for who, _, pullers in pushes] == [(who, pullers) for who, _, pullers in expected]
    np.testing.assert_allclose([time for _, time, _ in pushes], [time for _, time, _ in expected], rtol=1e-5)
    assert len(pushes) > 200  # and many at once
    if max_lead is not None:
        done = np.zeros(5)
        for who, _, _ in pushes:
            done[who] += 1
            assert done.max() - done.min() <= max_lead + 1


def test_ties_go_to_the_lowest_number():
    _, pushes = run(clock.Service("constant"), 4, num_batches=3)
    assert [who for who, _, _ in pushes] == [0, 1, 2, 3] * 3
    assert [time for _, time, _ in pushes] == [1.0] * 4 + [2.0] * 4 + [3.0] * 4


def test_a_batch_has_at_most_the_remaining_pushes_and_the_others_come_later():
    service = clock.Service("gamma", 0.3)
    now = clock.start(KEY, service, 6)
    after, batch = clock.next_batch(KEY, now, service, max_pushes=6, remaining=2)
    assert batch.pushed.tolist() == [True, True, False, False, False, False]
    assert (batch.pull_after >= 0).sum() == 2
    assert after.now == batch.time[1]
    same, none = clock.next_batch(KEY, now, service, max_pushes=6, remaining=0)
    assert not none.pushed.any()
    np.testing.assert_array_equal(same.remaining, now.remaining)


@pytest.mark.parametrize(("law", "cv"), [("exponential", 1.0), ("gamma", 0.3), ("gamma", 2.0), ("lognormal", 0.7)])
def test_service_times_have_their_mean_and_deviation(law, cv):
    times = clock.service_times(KEY, clock.Service(law, cv, (1.0, 3.0)), (200_000, 2))
    np.testing.assert_allclose(times.mean(0), [1.0, 3.0], rtol=0.03)
    np.testing.assert_allclose(times.std(0), [cv, 3 * cv], rtol=0.06)


def staleness_of(law, cv, num_workers, num_batches):
    service = clock.Service(law, cv)
    batches, staleness = jax.jit(lambda key: clock.simulate(key, service, num_workers, num_batches))(KEY)
    return np.asarray(staleness)[np.asarray(batches.pushed)][20 * num_workers :]


@pytest.mark.parametrize("num_workers", [4, 16])
@pytest.mark.parametrize(
    ("law", "cv", "variances"),
    [
        ("exponential", 1.0, {4: 12.0, 16: 240.0}),  # N (N - 1)
        ("gamma", 0.6, {4: 4.7, 16: 89.0}),
        ("gamma", 0.3, {4: 1.6, 16: 24.0}),
        ("gamma", 0.1, {4: 0.38, 16: 3.8}),
        ("lognormal", 0.3, {}),
        ("constant", 0.0, {4: 0.0, 16: 0.0}),
    ],
)
def test_the_mean_staleness_is_conserved_and_its_variance_is_the_laws(law, cv, variances, num_workers):
    staleness = staleness_of(law, cv, num_workers, 8000)
    assert abs(staleness.mean() - (num_workers - 1)) < 0.02
    if variances:
        np.testing.assert_allclose(staleness.var(), variances[num_workers], rtol=0.06, atol=0.01)


def test_exponential_service_makes_staleness_geometric():
    n = 8
    staleness = staleness_of("exponential", 1.0, n, 20_000)[::37]  # far enough apart to be independent
    edges = [0, 1, 2, 4, 7, 11, 16, 24, np.inf]
    found = np.histogram(staleness, edges)[0]
    expected = np.diff(stats.geom.cdf(np.array(edges) - 1, 1 / n, loc=-1))
    assert found.sum() > 1000
    assert stats.chisquare(found, expected * found.sum()).pvalue > 0.01


def test_lockstep_waits_for_the_slowest():
    n, rounds = 16, 20_000
    times = clock.lockstep_times(KEY, clock.Service("exponential"), n, rounds)
    harmonic = np.sum(1 / np.arange(1, n + 1))
    np.testing.assert_allclose(times[-1] / rounds, harmonic, rtol=0.01)
    # Stale-synchronous parallel with no lead at all is the same thing.
    batches, _ = clock.simulate(KEY, clock.Service("exponential"), n, 20_000, max_lead=0)
    pushed = np.asarray(batches.pushed)
    last = np.asarray(batches.time).max(initial=0, where=pushed)
    np.testing.assert_allclose(last / pushed.sum() * n, harmonic, rtol=0.03)


def test_floats_can_be_mapped_over():
    def spread(cv):
        batches, staleness = clock.simulate(KEY, clock.Service("gamma", cv), 4, 500)
        return jnp.std(staleness, where=batches.pushed)

    one, two = jax.vmap(spread)(jnp.array([0.1, 0.8]))
    assert one < 1 < two


@pytest.mark.parametrize("law", ["gamma", "lognormal", "exponential"])
def test_a_traced_float_is_the_concrete_one_to_the_last_bit(law):
    """A service time that differs in its last bit lets one push overtake another."""
    cv, slowness = 0.4, (1.0, 1.3, 0.7)

    def simulated(cv, slowness):
        return clock.simulate(KEY, clock.Service(law, cv, slowness), 3, 60)

    concrete = jax.jit(lambda: simulated(cv, slowness))()
    traced = jax.jit(lambda cv, slow: simulated(cv, (1.0, slow, 0.7)))(jnp.float32(cv), jnp.float32(1.3))
    jax.tree.map(np.testing.assert_array_equal, traced, concrete)

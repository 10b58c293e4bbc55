"""The virtual clock against a plain event loop, and against what theory says of staleness and of time."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purejaxrl_a3c.updates import clock
from purejaxrl_a3c.updates.service import LAWS, Service, service_times

KEY = jax.random.key(0)
MEASURED = (0.5, 0.61, 0.83, 1.27, 1.9)


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
@pytest.mark.parametrize("law", LAWS)
def test_batches_are_the_event_loop_push_by_push(law, max_lead):
    # Different speeds, of which no two multiples meet, so that nothing hangs on a rounding error.
    slowness = tuple(np.random.default_rng(0).uniform(0.7, 3, 5).tolist())
    service = Service(law, 0.8, measured_times=MEASURED if law == "measured" else (), slowness=slowness)
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


def shared_cores(services, events, num_cores, time_slice):
    """The same with fewer cores than workers: who has computed for a time slice goes to the end of the queue."""
    left = [times[0] for times in services]
    done = [0 for _ in services]
    queue = collections.deque(range(len(services)))
    slices = {queue.popleft(): time_slice for _ in range(min(num_cores, len(services)))}
    now = 0.0
    pushes: list[tuple[int, float, set[int]]] = []
    while len(pushes) < events:
        pusher = min(slices, key=lambda worker: (left[worker], worker))
        passed = min(left[pusher], min(slices.values()))
        pushed = passed == left[pusher]
        now += passed
        for worker in slices:
            left[worker] -= passed
            slices[worker] -= passed
        if pushed:
            pushes.append((pusher, now, {pusher}))
            done[pusher] += 1
            left[pusher] = services[pusher][done[pusher]] if done[pusher] < len(services[pusher]) else 1e30
        else:
            out = min(slices, key=lambda worker: (slices[worker], worker))
            del slices[out]
            queue.append(out)
            slices[queue.popleft()] = time_slice
    return pushes


@pytest.mark.parametrize(("num_cores", "time_slice"), [(1, 0.7), (2, 0.3), (2, 2.9), (3, 40.0), (5, 0.7), (9, 0.7)])
def test_shared_cores_are_the_event_loop_push_by_push(num_cores, time_slice):
    slowness = tuple(np.random.default_rng(0).uniform(0.7, 3, 5).tolist())
    law = Service("gamma", 0.8, slowness=slowness, num_cores=num_cores, time_slice=time_slice)
    services, pushes = run(law, 5, num_batches=100, max_pushes=4)
    expected = shared_cores(services, len(pushes), num_cores, time_slice)
    assert [(who, pullers) for who, _, pullers in pushes] == [(who, pullers) for who, _, pullers in expected]
    np.testing.assert_allclose([time for _, time, _ in pushes], [time for _, time, _ in expected], rtol=1e-4)
    assert len(pushes) > 150


def test_as_many_cores_as_workers_are_a_core_for_each():
    slowness = tuple(np.random.default_rng(0).uniform(0.7, 3, 4).tolist())
    own = run(Service("gamma", 0.5, slowness=slowness), 4, num_batches=60)[1]
    shared = run(Service("gamma", 0.5, slowness=slowness, num_cores=4), 4, num_batches=60)[1]
    assert [who for who, *_ in own[:100]] == [who for who, *_ in shared[:100]]


def test_one_core_lets_a_worker_push_undisturbed_for_its_time_slice():
    law = Service("constant", num_cores=1, time_slice=3.0)
    _, pushes = run(law, 3, num_batches=12)
    assert [who for who, _, _ in pushes[:12]] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0]
    assert [time for _, time, _ in pushes[:12]] == list(range(1, 13))


def test_work_is_conserved_on_shared_cores():
    law = Service("gamma", 0.5, num_cores=2, time_slice=0.4)
    batches, staleness = clock.simulate(KEY, law, 8, 2000)
    pushed = np.asarray(batches.pushed)
    times, late = np.asarray(batches.time)[pushed], np.asarray(staleness)[pushed]
    np.testing.assert_allclose(pushed.sum() / times[-1], 2, rtol=0.03)  # two tasks in a mean service time
    np.testing.assert_allclose(late[100:].mean(), 7, rtol=0.01)


def test_measured_times_are_drawn_as_often_as_they_stand_there():
    times = (2.0, 2.0, 6.0, 10.0)
    drawn = np.asarray(service_times(KEY, Service("measured", measured_times=times), (40_000, 1)))
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_allclose(values, np.array([2, 6, 10]) / 5)
    np.testing.assert_allclose(counts / counts.sum(), [0.5, 0.25, 0.25], atol=0.01)


def test_ties_go_to_the_lowest_number():
    _, pushes = run(Service("constant"), 4, num_batches=3)
    assert [who for who, _, _ in pushes] == [0, 1, 2, 3] * 3
    assert [time for _, time, _ in pushes] == [1.0] * 4 + [2.0] * 4 + [3.0] * 4


def test_a_batch_has_at_most_the_remaining_pushes_and_the_others_come_later():
    service = Service("gamma", 0.3)
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
    times = service_times(KEY, Service(law, cv, (1.0, 3.0)), (200_000, 2))
    np.testing.assert_allclose(times.mean(0), [1.0, 3.0], rtol=0.03)
    np.testing.assert_allclose(times.std(0), [cv, 3 * cv], rtol=0.06)


def staleness_of(law, cv, num_workers, num_batches):
    service = Service(law, cv)
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
    times = clock.lockstep_times(KEY, Service("exponential"), n, rounds)
    harmonic = np.sum(1 / np.arange(1, n + 1))
    np.testing.assert_allclose(times[-1] / rounds, harmonic, rtol=0.01)
    # Stale-synchronous parallel with no lead at all is the same thing.
    batches, _ = clock.simulate(KEY, Service("exponential"), n, 20_000, max_lead=0)
    pushed = np.asarray(batches.pushed)
    last = np.asarray(batches.time).max(initial=0, where=pushed)
    np.testing.assert_allclose(last / pushed.sum() * n, harmonic, rtol=0.03)


def test_floats_can_be_mapped_over():
    def spread(cv):
        batches, staleness = clock.simulate(KEY, Service("gamma", cv), 4, 500)
        return jnp.std(staleness, where=batches.pushed)

    one, two = jax.vmap(spread)(jnp.array([0.1, 0.8]))
    assert one < 1 < two


@pytest.mark.parametrize("law", ["gamma", "lognormal", "exponential"])
def test_a_traced_float_is_the_concrete_one_to_the_last_bit(law):
    """A service time that differs in its last bit lets one push overtake another."""
    cv, slowness = 0.4, (1.0, 1.3, 0.7)

    def simulated(cv, slowness):
        return clock.simulate(KEY, Service(law, cv, slowness), 3, 60)

    concrete = jax.jit(lambda: simulated(cv, slowness))()
    traced = jax.jit(lambda cv, slow: simulated(cv, (1.0, slow, 0.7)))(jnp.float32(cv), jnp.float32(1.3))
    jax.tree.map(np.testing.assert_array_equal, traced, concrete)

"""The queue between actors and a learner against a plain event loop, and against what theory says of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import a3c, make_train, ppo, rnd, updates
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.types import Trajectory
from purejaxrl_a3c.updates import Asynchrony, Queue, Service, queue, queued

W, B, T = 5, 2, 3
SERVICE = Service("gamma", 0.8, slowness=(0.7, 1.3, 1.1, 2.9, 0.9))
PLAIN = Queue(batch_rollouts=3, queue_capacity=4, learner_time=1.3)


def event_loop(settings, times, num_workers, num_events) -> Any:
    """One event at a time, in lists. ``times(event)`` are those of rollouts that start after it."""
    now: Any = 0.0
    version, admitted, learner_end = 0, 0, None
    busy_workers = busy_learner = 0.0
    running: Any = {}  # worker: [end of its part, time of a part, versions]
    waiting: list[Any] = []  # in the queue, in the order of their ends
    held: list[Any] = []
    free = list(range(num_workers))
    log = []

    def seen():
        return version - version % settings.publish_every

    def starts(event):
        nonlocal admitted
        started = []
        while free:
            if settings.admission_bound is not None and admitted >= settings.batch_rollouts * (
                (settings.admission_bound + 1) * settings.publish_every + seen()
            ):
                break
            worker = free.pop(0)
            time = times(event)[worker] / settings.parts_per_rollout
            running[worker] = [now + time, time, [seen()]]
            admitted += 1
            started.append(worker)
        return started

    def enter():
        freed = []
        while held and len(waiting) < settings.queue_capacity:
            waiting.append(held.pop(0))
            freed.append(waiting[-1]["worker"])
        return freed

    starts(0)
    for event in range(1, num_events + 1):
        end, worker = min((part[0], worker) for worker, part in running.items()) if running else (np.inf, None)
        of_learner = learner_end is not None and learner_end <= end
        before, now = now, learner_end if of_learner else end
        busy_workers += len(running) * (now - before)
        busy_learner += (now - before) * (learner_end is not None)
        pulls, freed = [], []
        if of_learner:
            version, learner_end = version + 1, None
        else:
            _, time, versions = running[worker]
            if len(versions) < settings.parts_per_rollout:
                running[worker] = [now + time, time, [*versions, seen()]]
                pulls.append(worker)
            else:
                del running[worker]
                held.append({"worker": worker, "versions": versions, "time": time * len(versions)})
        dropped = []
        if settings.discard_bound is not None:
            dropped = [x for x in waiting + held if version - x["versions"][0] > settings.discard_bound]
            freed += [x["worker"] for x in held if x in dropped]
            waiting, held = [x for x in waiting if x not in dropped], [x for x in held if x not in dropped]
            admitted -= len(dropped)
        freed += enter()
        taken = []
        if learner_end is None and len(waiting) >= settings.batch_rollouts:
            newest = settings.queue_order == "newest"
            for _ in range(settings.batch_rollouts):
                taken.append(waiting.pop(-1 if newest else 0))
            learner_end = now + settings.learner_time
        freed += enter()
        free += sorted(freed)
        pulls += starts(event)
        log.append(
            {
                "time": now,
                "of_learner": of_learner,
                "worker": worker,
                "version": version,
                "taken": taken,
                "pulls": set(pulls),
                "dropped": len(dropped),
                "dropped_time": sum(x["time"] for x in dropped),
                "length": len(waiting),
            }
        )
    return log, busy_workers, busy_learner


SETTINGS: dict[str, Any] = {
    "as it is": {},
    "newest first": {"queue_order": "newest", "queue_capacity": 6},
    "admission": {"admission_bound": 1},
    "in turns": {"admission_bound": 0},
    "discarding": {"discard_bound": 1, "learner_time": 0.4},
    "discarding from a full queue": {"discard_bound": 2, "learner_time": 4.0},
    "both bounds": {"discard_bound": 0, "admission_bound": 1, "learner_time": 0.7},
    "parts": {"parts_per_rollout": 4},
    "published seldom": {"publish_every": 3, "parts_per_rollout": 2, "queue_order": "newest"},
    "periodic": {"publish_every": 3, "admission_bound": 0},
    "a slow learner": {"learner_time": 10.0},
    "a learner that takes no time": {"learner_time": 0.0, "batch_rollouts": 1},
    "all": {"queue_order": "newest", "discard_bound": 3, "admission_bound": 2, "parts_per_rollout": 2},
}


TIES = ("as it is", "parts", "periodic", "all")  # all of which also meet events at the same time


@pytest.mark.parametrize(
    ("case", "law"), [(case, "gamma") for case in SETTINGS] + [(case, "constant") for case in TIES]
)
def test_it_is_the_event_loop_event_by_event(case, law):
    settings, service = replace(PLAIN, **SETTINGS[case]), SERVICE
    if law == "constant":  # all at once, exactly
        settings, service = replace(settings, learner_time=0.5 * (settings.learner_time > 0)), Service("constant")
    service = replace(service, service_law=law)
    events = 400
    state, found = jax.jit(lambda: queue.simulate(settings, service, W, events))()
    found = jax.device_get(found)
    drawn = jax.vmap(lambda event: queue.rollout_times(settings.schedule_seed, service, event, W))(
        np.arange(events + 1)
    )
    log, busy_workers, busy_learner = event_loop(settings, np.asarray(drawn, np.float64).__getitem__, W, events)
    for i, expected in enumerate(log):
        assert found.of_learner[i] == expected["of_learner"], i
        assert expected["of_learner"] or found.worker[i] == expected["worker"], i
        assert found.version[i] == expected["version"]
        assert set(np.flatnonzero(found.pulls[i]).tolist()) == expected["pulls"], i
        assert found.discarded[i] == expected["dropped"]
        assert found.queue_length[i] == expected["length"]
        assert found.takes[i] == bool(expected["taken"])
        if expected["taken"]:
            assert found.taken_workers[i].tolist() == [x["worker"] for x in expected["taken"]]
            assert found.taken_versions[i].tolist() == [x["versions"] for x in expected["taken"]]
            np.testing.assert_allclose(found.taken_time[i], [x["time"] for x in expected["taken"]], rtol=1e-5)
    np.testing.assert_allclose(found.time, [x["time"] for x in log], rtol=2e-5)
    np.testing.assert_allclose(found.discarded_time, [x["dropped_time"] for x in log], rtol=1e-5)
    np.testing.assert_allclose([state.busy_workers, state.busy_learner], [busy_workers, busy_learner], rtol=1e-4)
    assert state.version > 5
    if settings.discard_bound is not None and law != "constant":
        assert found.discarded.sum() > 10


def count_updates(key, objective, params, state, rollouts, back, **told):
    """Learning whose parameter counts the updates, and whose state is the last batch."""
    del key, objective, state, back, told
    # The reward of a step is the parameter that acted: its version.
    mistake = params[0] - rollouts.staleness - rollouts.reward
    return params + 1, rollouts.action, {"mistake": jnp.abs(mistake).max(keepdims=True)}


@pytest.mark.parametrize("case", ["published seldom", "all", "a learner that takes no time"])
def test_a_batch_is_learned_from_as_it_was_acted(case):
    """Each step is as old as it says, and the learner gets the rollouts that the simulation says, part by part."""
    settings = replace(PLAIN, **SETTINGS[case])
    learning = updates.Learning(lambda params: jnp.zeros(batch_shape(settings), jnp.int32), count_updates, draws=True)
    rule: Any = updates.asynchronous_actors(learning, W, Asynchrony("queue", SERVICE, queue=settings))
    steps = trajectory(jnp.float32(0), jnp.int32(0))
    learner = rule.hold(rule.init(jax.random.key(0), jnp.zeros(1, jnp.float32)), None, steps)

    @jax.jit
    def advance(learner, number):
        key = jax.random.key(0)
        learner, batch = rule.next_batch(key, learner, W)
        steps = trajectory(rule.actor(learner, batch)[0, 0], number)
        learner, reported = rule.update(key, learner, None, steps, batch)
        return learner, reported, batch.event

    taken_batches = 0
    parts: dict[int, list[int]] = {}
    rollouts: dict[int, list[int]] = {}
    for number in range(300):
        learner, reported, event = jax.device_get(advance(learner, jnp.int32(number)))
        if not event.of_learner:
            parts.setdefault(int(event.worker), []).append(number)
            if len(parts[int(event.worker)]) == settings.parts_per_rollout:
                rollouts[int(event.place)] = parts.pop(int(event.worker))
        if event.takes:
            taken_batches += 1
            np.testing.assert_array_equal(
                learner.opt_state[:, ::T], np.repeat([rollouts[i] for i in event.taken], B, 0)
            )
            assert reported["mistake"][0] == 0
            assert reported["staleness_max"][0] == (event.version - event.taken_versions).max()
        assert learner.params[0] == taken_batches
    assert taken_batches > 20
    assert learner.staleness.sum() == taken_batches * settings.batch_rollouts * settings.parts_per_rollout


def batch_shape(settings):
    return settings.batch_rollouts * B, settings.parts_per_rollout * T


def trajectory(acted, number):
    """Of one worker, ``[1, B, T]``: its actions are the number of the event, its rewards the parameter that acted."""
    shape = (1, B, T)
    steps = jnp.zeros(shape, jnp.float32)
    return Trajectory(
        obs=steps,
        first=steps > 0,
        action=jnp.full(shape, number),
        log_prob=steps,
        reward=jnp.full(shape, acted),
        terminated=steps > 0,
        truncated=steps > 0,
        final_obs=steps,
        carry=(),
        next_carry=(),
        episode_return=steps,
        episode_length=steps,
        end_obs=jnp.zeros((1, B), jnp.float32),
    )


def test_parts_become_one_rollout_with_the_memory_that_it_began_with():
    """Of 2 rollouts in 3 parts: steps one after the other; the carry of the first part, what follows after the last."""
    parts = jnp.arange(2 * 3, dtype=jnp.int32).reshape(2, 3)
    steps = jax.tree.map(lambda x: jnp.zeros((2, 3, *x.shape[1:]), x.dtype), trajectory(0.0, jnp.int32(0)))
    steps = steps._replace(
        obs=jnp.broadcast_to(parts[:, :, None, None, None], (2, 3, B, T, 4)),
        carry=jnp.broadcast_to(parts[:, :, None, None], (2, 3, B, 7)),
        end_obs=jnp.broadcast_to(parts[:, :, None, None], (2, 3, B, 4)),
    )
    whole = queued.joined(steps, 10 * parts)
    assert whole.obs.shape == (2 * B, 3 * T, 4)
    of_steps = np.repeat(np.repeat(parts, T, axis=1), B, axis=0)  # [2 B, 3 T]
    np.testing.assert_array_equal(whole.obs[:, :, 0], of_steps)
    np.testing.assert_array_equal(whole.staleness, 10 * of_steps)
    np.testing.assert_array_equal(whole.carry[:, 0], np.repeat(parts[:, 0], B))
    np.testing.assert_array_equal(whole.end_obs[:, 0], np.repeat(parts[:, -1], B))


def test_in_turns_nothing_is_stale_and_the_learner_waits_for_the_slowest_of_a_batch():
    """With as many workers as rollouts in a batch: synchronous training, whose time theory gives."""
    settings = Queue(batch_rollouts=4, admission_bound=0, learner_time=0.5)
    state, found = queue.simulate(settings, Service("exponential"), 4, 20_000)
    assert (found.taken_versions[found.takes] == found.version[found.takes][:, None, None]).all()
    slowest = 1 + 1 / 2 + 1 / 3 + 1 / 4
    np.testing.assert_allclose(state.now / state.version, slowest + 0.5, rtol=0.03)
    np.testing.assert_allclose(state.busy_workers / (4 * state.now), 1 / (slowest + 0.5), rtol=0.03)
    np.testing.assert_allclose(state.busy_learner / state.now, 0.5 / (slowest + 0.5), rtol=0.03)


def test_discarding_prefers_short_rollouts_and_without_it_there_is_no_bias():
    """With a learner that is always quick enough, all rollouts are learned from, or those that are soon done."""
    service = Service("exponential")
    settings = Queue(batch_rollouts=4, learner_time=0.1)
    biases = []
    for bound in (None, 2, 0):
        _, found = queue.simulate(replace(settings, discard_bound=bound), service, 16, 20_000)
        biases.append(float(found.taken_time[found.takes].mean()))
    np.testing.assert_allclose(biases[0], 1, rtol=0.05)
    assert np.all(np.diff(biases) < -0.05), biases


def test_one_worker_in_turns_with_the_learner_is_ppo_with_fresh_rollouts():
    sizes = {"num_envs": 4, "rollout_length": 8, "epochs": 1, "num_minibatches": 1, "total_frames": 32 * 20}
    config = replace(ppo.Config(), **sizes)
    taking_turns = Asynchrony("queue", queue=Queue(batch_rollouts=1, admission_bound=0))
    one, other = (
        jax.jit(make_train(replace(config, asynchrony=asynchrony)))(jax.random.key(0))
        for asynchrony in (Asynchrony("clock"), taking_turns)
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        one.state.learner.params,
        other.state.learner.params,
    )
    assert (other.metrics.losses["staleness_max"] == 0).all()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"queue_capacity": 2, "batch_rollouts": 3}, "queue_capacity: 2 is not accepted; it must be at least batch"),
        ({"publish_every": 3, "discard_bound": 1}, "discard_bound: 1 is not accepted; it must be None or at least"),
        ({"queue_order": "random"}, "queue_order"),
    ],
)
def test_settings_that_do_not_go_together_are_errors(settings, field):
    with pytest.raises(InputError, match=field):
        make_train(replace(ppo.Config(), asynchrony=Asynchrony("queue", queue=replace(Queue(), **settings))))


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (replace(ppo.Config(), publish_every=2), "publish_every: 2 is not accepted; it must be 1 unless schedule is q"),
        (replace(ppo.Config(), schedule="queue", reads="lagged"), "reads: 'lagged' is not accepted"),
        (replace(ppo.Config(), schedule="queue", max_lead=1), "max_lead"),
        (replace(a3c.Config(), schedule="queue"), "schedule: 'queue' is not accepted"),
        (replace(ppo.Config(), schedule="queue", num_minibatches=3), "num_minibatches: 3"),
        (rnd.Config(agent=replace(ppo.Config(), schedule="queue")), "schedule: 'queue' is not accepted"),
    ],
)
def test_where_there_is_no_queue_its_settings_are_errors(config, field):
    with pytest.raises(InputError, match=field):
        make_train(config)

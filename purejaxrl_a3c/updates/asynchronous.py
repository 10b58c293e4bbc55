"""A3C's rule: workers push stale gradients one at a time, in an explicit order.

A worker's rollout and gradient depend only on the parameters that it pulled. So workers compute side by side, and
only the pushes are ordered: a scan over the order of arrival applies each worker's gradient through the shared
optimizer state, and the worker pulls what its own push has made. That is not an approximation of asynchronous
training, it is the thing itself under a given order of arrival.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from purejaxrl_a3c import checks
from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.types import Params, UpdateRule
from purejaxrl_a3c.updates import clock as clocks
from purejaxrl_a3c.updates.gradient import gradient_at

ORDERS: dict[str, Callable] = {
    "random": lambda key, num_workers: jax.random.permutation(key, num_workers),
    "round_robin": lambda key, num_workers: jnp.arange(num_workers),
}
"""Orders of arrival in which every worker pushes once a round, by name."""

READS = ("newest", "lagged", "torn_leaves", "torn_elements")
"""What a pull gets to see, see `Asynchrony`."""


@dataclass(frozen=True)
class Asynchrony:
    """Who pushes when, and what a pull gets to see. Floats may be traced."""

    schedule: str = "random"
    """Order of arrival: random or round_robin, once a round each, or clock: when its simulated task is done."""
    service: clocks.Service = field(default_factory=clocks.Service)
    """How long a task takes on the clock."""
    max_lead: int | None = None
    """On the clock: a worker more than so many tasks ahead of the slowest waits (Ho et al. 2013); None: nobody does."""
    reads: str = "newest"
    """What a pull gets: the newest parameters, those of ``lag`` pushes before, or, as a lock-free read would, each
    leaf or each element of one of the newest and the ``max_lag`` versions before it (torn_leaves, torn_elements)."""
    lag: float = 0.0
    """Of lagged reads, in pushes, rounded. With one worker every gradient is exactly so many updates late."""
    max_lag: int = 1
    """Versions kept beside the newest one; the largest ``lag``."""
    device_delay: int = 0
    """Rounds until a push reaches other devices; 0: they wait for it, and the run is that of one device."""


def check_asynchrony(asynchrony, num_workers):
    """Check what one field of an `Asynchrony` means for another.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    slowness, lag = asynchrony.service.slowness, asynchrony.lag
    if slowness and len(slowness) != num_workers:
        checks.reject("slowness", slowness, f"one number for each of {num_workers} workers, or empty")
    if asynchrony.max_lead is not None and asynchrony.schedule != "clock":
        checks.reject("max_lead", asynchrony.max_lead, "None unless schedule is clock")
    if checks.is_concrete(lag) and lag > asynchrony.max_lag:
        checks.reject("lag", lag, f"at most max_lag, {asynchrony.max_lag}")
    if checks.is_concrete(lag) and lag and asynchrony.reads != "lagged":
        checks.reject("lag", lag, "0 unless reads is lagged")
    if asynchrony.device_delay and not (asynchrony.schedule in ORDERS and asynchrony.reads == "newest"):
        accepted = f"0 unless schedule is one of {', '.join(ORDERS)} and reads is newest"
        checks.reject("device_delay", asynchrony.device_delay, accepted)


class Learner(NamedTuple):
    """The shared parameters, the shared statistics, and what each worker last pulled.

    A *version* counts the pushes applied so far. Of the workers' snapshots a device has those of its own workers; all
    else is the same on every device.
    """

    params: Params
    opt_state: Any  # of the parameters raveled into one vector [P]
    version: jax.Array  # int32 []
    snapshots: Params  # every leaf [W, ...]
    pulled_version: jax.Array  # int32 [W]: of the newest element of the snapshot
    missed_here: jax.Array  # int32 [W]: pushes from the worker's own device since it pulled; 0 if there is but one
    recent: jax.Array | None  # float32 [R, P]: version v in row v % R, of the last R; None where nobody looks back
    clock: clocks.Clock | None
    staleness: jax.Array  # int32 [8 W]: how many pushes so far had each staleness; the last one: that or more


class Lanes(NamedTuple):
    """Who acts in a turn of the clock: this device's ``H`` of its workers."""

    turn: clocks.Turn  # of all devices
    workers: jax.Array  # int32 [H]: by their numbers on this device
    number: jax.Array  # int32 [H]: which push of the turn is theirs; L: none
    active: jax.Array  # bool [H]: whether that push takes place
    row: jax.Array  # int32 [L]: of each push of the turn, where its gradient is among those of all devices


def asynchronous(optimizer, num_workers, asynchrony=None, *, lanes=None, gradient_at_newest=False, axis_name=None):
    """Asynchronous advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, algorithm S3).

    Gradients are taken at the worker's snapshot and applied to the newest shared parameters; the worker then pulls.
    The staleness of a push, the pushes applied since its worker pulled, is measured on every push. As long as all
    workers are busy and read the newest parameters, its mean is ``W - 1`` once every worker has pushed, whatever the
    order; in random order once a round it lies between 0 and ``2 W - 2``.

    On several devices every one computes the gradients of its own workers, gets those of all others, and makes the same
    pushes in the same order: the run is that of one device.

    Args:
        optimizer: an optax transformation. It sees parameters and gradients as one vector ``[P]``, so it must
            not treat leaves of the parameters differently. It is told ``staleness`` (int32 []) and ``pulled``
            (``[P]``, the worker's snapshot) if it takes extra arguments, see `corrections`.
        num_workers: ``W``, of all devices.
        asynchrony: an `Asynchrony`; None: as Mnih et al., every worker once a round, in random order.
        lanes: on the clock, how many pushes a turn may have, ``L``; None: half the workers. On one device so many
            rollouts and gradients are computed at once, and of more many would be thrown away; on several each computes
            those of all its workers. It changes no distribution.
        gradient_at_newest: take a worker's gradient when it pushes, at the shared parameters of that moment, as
            IMPALA's learner does; the staleness is then that of the trajectories, for the objective to correct. Pushes
            depend on each other, so the gradients are taken one after the other.
        axis_name: of the devices that share the workers out or, with ``gradient_at_newest``, every worker's
            environments; or None.

    Returns:
        An `UpdateRule`. On the clock an iteration takes several turns, of up to ``L`` workers each.
    """
    asynchrony = asynchrony or Asynchrony()
    check_asynchrony(asynchrony, num_workers)
    optimizer = optax.with_extra_args_support(optimizer)
    if asynchrony.device_delay:
        checks.reject("device_delay", asynchrony.device_delay, "0, except in A3C, see `updates.overlapped`")
    # Where the gradient is taken at the newest parameters, every device needs all workers, and has a part of each.
    mean_over, axis_name = (axis_name, None) if gradient_at_newest else (None, axis_name)
    workers_here = collectives.part("num_workers", num_workers, axis_name)
    on_clock = asynchrony.schedule == "clock"
    lanes = (lanes or (num_workers + 1) // 2) if on_clock else num_workers
    pulls_its_own = asynchrony.reads == "newest" and not (on_clock and asynchrony.max_lead is not None)
    rows = 0 if pulls_its_own else lanes + asynchrony.max_lag + 1

    def numbers_here():
        return collectives.index(axis_name) * workers_here + jnp.arange(workers_here)

    def init(key, params):
        vector = ravel_pytree(params)[0]
        return Learner(
            params=params,
            opt_state=optimizer.init(vector),
            version=jnp.int32(0),
            snapshots=jax.tree.map(lambda x: jnp.broadcast_to(x, (workers_here, *x.shape)), params),
            pulled_version=jnp.zeros(num_workers, jnp.int32),
            missed_here=jnp.zeros(num_workers, jnp.int32),
            # None, not of size 0: jaxlib 0.11.2 crashes on an input of size 0 of a program for several devices.
            recent=jnp.broadcast_to(vector, (rows, *vector.shape)) if rows else None,
            clock=clocks.start(key, asynchrony.service, num_workers) if on_clock else None,
            staleness=jnp.zeros(8 * num_workers, jnp.int32),
        )

    def actor(learner, lanes=None):
        return learner.snapshots if lanes is None else jax.tree.map(lambda x: x[lanes.workers], learner.snapshots)

    def next_turn(key, learner, room):
        clock, turn = clocks.next_turn(
            key, learner.clock, asynchrony.service, lanes=lanes, room=room, max_lead=asynchrony.max_lead
        )
        number = jnp.arange(lanes)
        acting = Lanes(turn, turn.workers, number, turn.active, number)
        if axis_name is not None:
            # Which of the turn's workers are here is not known in advance: all that are here act.
            own = turn.workers[None] == numbers_here()[:, None]
            active = (own & turn.active[None]).any(1)
            number = jnp.where(own.any(1), own.argmax(1), lanes)
            acting = Lanes(turn, jnp.arange(workers_here), number, active, turn.workers)
        return learner._replace(clock=clock), acting

    def vector_at(objective, params, trajectories):
        """The gradient of one worker. One vector, not a tree: a push is then a few kernels, not a few for each leaf."""
        gradient, metrics = gradient_at(objective, params, trajectories, mean_over)
        return ravel_pytree(gradient)[0], metrics

    def push_in_order(learner, gradient_of, pulled, row, workers, active, staleness):
        """Everything that the pushes change one after the other; parameters as vectors."""

        def push(shared, arrival):
            params, opt_state, snapshots, recent = shared
            row, worker, active, staleness, version = arrival
            gradient, reported = gradient_of(params, row)
            step, after = optimizer.update(gradient, opt_state, params, staleness=staleness, pulled=pulled[row])
            after = optax.apply_updates(params, step), after
            if active is not None:
                after = jax.tree.map(lambda new, old: jnp.where(active, new, old), after, (params, opt_state))
            params, opt_state = after
            if pulls_its_own:
                slot = worker - collectives.index(axis_name) * workers_here
                is_here = (slot >= 0) & (slot < workers_here) & (True if active is None else active)
                snapshots = snapshots.at[jnp.where(is_here, slot, workers_here)].set(params, mode="drop")
            else:
                row = version % rows if active is None else jnp.where(active, version % rows, rows)
                recent = recent.at[row].set(params, mode="drop")
            return (params, opt_state, snapshots, recent), reported

        versions = learner.version + 1 + jnp.arange(workers.size)
        shared = learner.params, learner.opt_state, learner.snapshots, learner.recent
        return jax.lax.scan(push, shared, (row, workers, active, staleness, versions))

    def update(key, learner, objective, trajectories, acting=None):
        ravel = jax.vmap(lambda tree: ravel_pytree(tree)[0])
        params, unravel = ravel_pytree(learner.params)
        if acting is None:
            workers, active = ORDERS[asynchrony.schedule](key, num_workers), None
            row, after = workers, jnp.argsort(workers)  # a worker pulls after its own push
        else:
            workers, active, after = acting.turn.workers, acting.turn.active, acting.turn.pull
            row = acting.row

        gradients, metrics = None, {}
        if not gradient_at_newest:
            gradients, metrics = jax.vmap(vector_at, (None, 0, 0))(objective, actor(learner, acting), trajectories)
        computed = gradients, ravel(actor(learner, acting)), metrics
        gradients, pulled, metrics = collectives.gather(computed, axis_name)

        def gradient_of(params, row):
            if not gradient_at_newest:
                return gradients[row], {}
            return vector_at(objective, unravel(params), jax.tree.map(lambda x: x[row], trajectories))

        if acting is not None:
            metrics = jax.tree.map(lambda x: x[row], metrics)

        staleness = learner.version + jnp.arange(workers.size) - learner.pulled_version[workers]
        vectors = learner._replace(params=params, snapshots=ravel(learner.snapshots))
        shared, reported = push_in_order(vectors, gradient_of, pulled, row, workers, active, staleness)
        params, opt_state, snapshots, recent = shared
        versions = learner.version + after + 1
        if not pulls_its_own:
            here = numbers_here()
            seen, versions = _pull(key, asynchrony, recent, versions, here, unravel)
            snapshots = jnp.where((after[here] >= 0)[:, None], seen, snapshots)

        bins = jnp.minimum(staleness, learner.staleness.size - 1)
        pushes = workers.size if active is None else active.sum()
        if active is not None:
            bins = jnp.where(active, bins, learner.staleness.size)
        missed_here, within = learner.missed_here, staleness
        if axis_name is not None:
            missed_here, within, _ = count_within(missed_here, workers, active, after, workers_here)
        learner = Learner(
            params=unravel(params),
            opt_state=opt_state,
            version=learner.version + pushes,
            snapshots=jax.vmap(unravel)(snapshots),
            pulled_version=jnp.where(after >= 0, versions, learner.pulled_version),
            missed_here=missed_here,
            recent=recent,
            clock=learner.clock,
            staleness=learner.staleness.at[bins].add(1, mode="drop"),
        )
        metrics |= reported | {"staleness": staleness, "staleness_within": within}
        return learner, metrics if acting is None else metrics | {"virtual_time": acting.turn.time}

    if on_clock:
        return UpdateRule(init, actor, update, next_turn)
    return UpdateRule(init, actor, update)


def count_within(missed_here, workers, active, after, workers_of_a_device):
    """What pushes from the same device contribute to staleness.

    Args:
        missed_here: int32 ``[W]``, pushes from its own device that each worker has not seen yet.
        workers: int32 ``[L]``, who pushes, in order.
        active: bool ``[L]``, whether it does; None: all do.
        after: int32 ``[W]``, after which of these pushes a worker pulls; -1: it does not.
        workers_of_a_device: an int.

    Returns:
        ``missed_here`` after these pushes, the contribution to each push ``[L]``, and how many of these pushes from the
        same device come before each, ``[L]``.
    """
    device = workers // workers_of_a_device
    order = jnp.arange(workers.size)
    pushed = jnp.ones(workers.size, bool) if active is None else active
    before = (device[:, None] == device[None]) & pushed[None] & (order[None] < order[:, None])
    before = before.sum(1)
    own_device = jnp.arange(after.size) // workers_of_a_device
    unseen = (own_device[:, None] == device[None]) & pushed[None] & (order[None] > after[:, None])
    return jnp.where(after >= 0, 0, missed_here) + unseen.sum(1), missed_here[workers] + before, before


def _pull(key, asynchrony, recent, version, here, unravel):
    """What those workers ``here`` see that pull when ``version [W]`` is the newest, and the versions of all."""
    key = jax.random.fold_in(key, 1)
    w, (rows, p) = version.shape[0], recent.shape
    if asynchrony.reads in ("newest", "lagged"):  # the newest are 0 pushes late
        lag = jnp.clip(jnp.round(asynchrony.lag).astype(jnp.int32), 0, asynchrony.max_lag)
        version = jnp.maximum(version - lag, 0)
        return recent[version[here] % rows], version
    if asynchrony.reads == "torn_elements":
        age = jax.random.randint(key, (w, p), 0, asynchrony.max_lag + 1)
    else:
        sizes = np.array([leaf.size for leaf in jax.tree.leaves(unravel(recent[0]))])
        age = jax.random.randint(key, (w, len(sizes)), 0, asynchrony.max_lag + 1)
        age = jnp.repeat(age, sizes, axis=1, total_repeat_length=p)
    row = jnp.maximum(version[:, None] - age, 0) % rows
    return recent[row[here], jnp.arange(p)[None]], version

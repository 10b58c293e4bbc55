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


class Learner(NamedTuple):
    """The shared parameters, the shared statistics, and what each worker last pulled.

    A *version* counts the pushes applied so far.
    """

    params: Params
    opt_state: Any  # of the parameters raveled into one vector [P]
    version: jax.Array  # int32 []
    snapshots: Params  # every leaf [W, ...]
    pulled_version: jax.Array  # int32 [W]: of the newest element of the snapshot
    recent: jax.Array  # float32 [R, P]: version v in row v % R, of the last R; R is 0 where nobody looks back
    clock: clocks.Clock | None
    staleness: jax.Array  # int32 [8 W]: how many pushes so far had each staleness; the last one: that or more


def asynchronous(optimizer, num_workers, asynchrony=None, *, lanes=None, gradient_at_newest=False):
    """Asynchronous advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, algorithm S3).

    Gradients are taken at the worker's snapshot and applied to the newest shared parameters; the worker then pulls.
    The staleness of a push, the pushes applied since its worker pulled, is measured on every push. As long as all
    workers are busy and read the newest parameters, its mean is ``W - 1`` once every worker has pushed, whatever the
    order; in random order once a round it lies between 0 and ``2 W - 2``.

    Args:
        optimizer: an optax transformation. It sees parameters and gradients as one vector ``[P]``, so it must
            not treat leaves of the parameters differently. It is told ``staleness`` (int32 []) and ``pulled``
            (``[P]``, the worker's snapshot) if it takes extra arguments, see `corrections`.
        num_workers: ``W``.
        asynchrony: an `Asynchrony`; None: as Mnih et al., every worker once a round, in random order.
        lanes: on the clock, how many workers' rollouts and gradients to compute at once, ``L``; None: half of them,
            more of which would often have to be thrown away. It changes no distribution.
        gradient_at_newest: take a worker's gradient when it pushes, at the shared parameters of that moment, as
            IMPALA's learner does; the staleness is then that of the trajectories, for the objective to correct. Pushes
            depend on each other, so the gradients are taken one after the other.

    Returns:
        An `UpdateRule`. On the clock an iteration takes several turns, of up to ``L`` workers each.
    """
    asynchrony = asynchrony or Asynchrony()
    check_asynchrony(asynchrony, num_workers)
    optimizer = optax.with_extra_args_support(optimizer)
    on_clock = asynchrony.schedule == "clock"
    lanes = (lanes or (num_workers + 1) // 2) if on_clock else num_workers
    pulls_its_own = asynchrony.reads == "newest" and not (on_clock and asynchrony.max_lead is not None)
    rows = 0 if pulls_its_own else lanes + asynchrony.max_lag + 1

    def init(key, params):
        vector = ravel_pytree(params)[0]
        return Learner(
            params=params,
            opt_state=optimizer.init(vector),
            version=jnp.int32(0),
            snapshots=jax.tree.map(lambda x: jnp.broadcast_to(x, (num_workers, *x.shape)), params),
            pulled_version=jnp.zeros(num_workers, jnp.int32),
            recent=jnp.broadcast_to(vector, (rows, *vector.shape)),
            clock=clocks.start(key, asynchrony.service, num_workers) if on_clock else None,
            staleness=jnp.zeros(8 * num_workers, jnp.int32),
        )

    def actor(learner, turn=None):
        return learner.snapshots if turn is None else jax.tree.map(lambda x: x[turn.workers], learner.snapshots)

    def next_turn(key, learner, room):
        clock, turn = clocks.next_turn(
            key, learner.clock, asynchrony.service, lanes=lanes, room=room, max_lead=asynchrony.max_lead
        )
        return learner._replace(clock=clock), turn

    def update(key, learner, objective, trajectories, turn=None):
        params, unravel = ravel_pytree(learner.params)

        # One vector instead of a tree: each push is then a few kernels, not a few for every leaf.
        def vector_at(params, rows):
            gradient, metrics = gradient_at(objective, params, rows)
            return ravel_pytree(gradient)[0], metrics

        if not gradient_at_newest:
            gradients, metrics = jax.vmap(vector_at)(actor(learner, turn), trajectories)
        if turn is None:
            workers = lane = ORDERS[asynchrony.schedule](key, num_workers)
            active = None
        else:
            workers, active = turn.workers, turn.active
            lane = jnp.arange(lanes)

        def push(shared, arrival):
            worker, lane, active = arrival
            params, opt_state, version, snapshots, pulled_version, recent = shared
            staleness = version - pulled_version[worker]
            if gradient_at_newest:
                gradient, reported = vector_at(unravel(params), jax.tree.map(lambda x: x[lane], trajectories))
            else:
                gradient, reported = gradients[lane], {}
            step, pushed = optimizer.update(gradient, opt_state, params, staleness=staleness, pulled=snapshots[worker])
            pushed = optax.apply_updates(params, step), pushed, version + 1
            if active is not None:
                pushed = jax.tree.map(lambda new, old: jnp.where(active, new, old), pushed, shared[:3])
                worker = jnp.where(active, worker, num_workers)  # nobody
            params, opt_state, version = pushed
            if pulls_its_own:
                snapshots = snapshots.at[worker].set(params, mode="drop")
                pulled_version = pulled_version.at[worker].set(version, mode="drop")
            else:
                recent = recent.at[version % rows].set(params)
            return (params, opt_state, version, snapshots, pulled_version, recent), reported | {"staleness": staleness}

        snapshots = jax.vmap(lambda tree: ravel_pytree(tree)[0])(learner.snapshots)
        shared = (params, learner.opt_state, learner.version, snapshots, learner.pulled_version, learner.recent)
        shared, reported = jax.lax.scan(push, shared, (workers, lane, active))
        metrics = reported if gradient_at_newest else metrics | reported
        staleness = metrics["staleness"]
        params, opt_state, version, snapshots, pulled_version, recent = shared
        if not pulls_its_own:
            after = jnp.argsort(workers) if turn is None else turn.pull
            pulled = _pull(key, asynchrony, recent, learner.version + after + 1, unravel)
            snapshots = jnp.where((after >= 0)[:, None], pulled.snapshots, snapshots)
            pulled_version = jnp.where(after >= 0, pulled.version, pulled_version)

        bins = jnp.minimum(staleness, learner.staleness.size - 1)
        if active is not None:
            bins = jnp.where(active, bins, learner.staleness.size)
        learner = Learner(
            params=unravel(params),
            opt_state=opt_state,
            version=version,
            snapshots=jax.vmap(unravel)(snapshots),
            pulled_version=pulled_version,
            recent=recent,
            clock=learner.clock,
            staleness=learner.staleness.at[bins].add(1, mode="drop"),
        )
        return learner, metrics if turn is None else metrics | {"virtual_time": turn.time}

    if on_clock:
        return UpdateRule(init, actor, update, next_turn)
    return UpdateRule(init, actor, update)


class _Pulled(NamedTuple):
    snapshots: jax.Array  # [W, P]
    version: jax.Array  # int32 [W]


def _pull(key, asynchrony, recent, version, unravel):
    """What a worker sees that pulls when ``version [W]`` is the newest."""
    key = jax.random.fold_in(key, 1)
    w, (rows, p) = version.shape[0], recent.shape
    if asynchrony.reads in ("newest", "lagged"):  # the newest are 0 pushes late
        lag = jnp.clip(jnp.round(asynchrony.lag).astype(jnp.int32), 0, asynchrony.max_lag)
        version = jnp.maximum(version - lag, 0)
        return _Pulled(recent[version % rows], version)
    if asynchrony.reads == "torn_elements":
        age = jax.random.randint(key, (w, p), 0, asynchrony.max_lag + 1)
    else:
        sizes = np.array([leaf.size for leaf in jax.tree.leaves(unravel(recent[0]))])
        age = jax.random.randint(key, (w, len(sizes)), 0, asynchrony.max_lag + 1)
        age = jnp.repeat(age, sizes, axis=1, total_repeat_length=p)
    row = jnp.maximum(version[:, None] - age, 0) % rows
    return _Pulled(recent[row, jnp.arange(p)[None]], version)

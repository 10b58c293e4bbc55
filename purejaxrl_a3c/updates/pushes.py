"""Pushes in order: what the once-a-round rule and the clocked rule of A3C have in common."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purejaxrl_a3c.backend import collectives, split
from purejaxrl_a3c.types import AxisName, Key, Objective, Params, Scalars, Trajectory
from purejaxrl_a3c.updates import reads
from purejaxrl_a3c.updates.asynchrony import Asynchrony
from purejaxrl_a3c.updates.clock import Clock
from purejaxrl_a3c.updates.gradient import apply_gradient, ravel, vector_gradient_at
from purejaxrl_a3c.updates.staleness import add_to_histogram, count_within


class Learner(NamedTuple):
    """The shared parameters, the shared statistics, and what each worker last pulled.

    A *version* counts the pushes applied so far. Of the workers' snapshots a device has those of its own workers; all
    else is the same on every device.
    """

    params: Params
    opt_state: Any  # of the parameters raveled into one vector [P]
    version: jax.Array  # int32 []
    snapshots: Params  # every leaf [W, ...]
    pulled_version: jax.Array  # int32 [W]: of the newest number in the snapshot
    missed_here: jax.Array  # int32 [W]: pushes from the worker's own device since it pulled; 0 if there is but one
    recent: jax.Array | None  # float32 [R, P]: the last R versions, see `reads`; None if workers pull their own push
    clock: Clock | None
    staleness: jax.Array  # int32 [8 W]: how many pushes so far had each staleness; the last one: that or more


class Setup(NamedTuple):
    """The settings of both rules."""

    optimizer: optax.GradientTransformationExtraArgs
    asynchrony: Asynchrony
    num_workers: int  # W, of all devices
    workers_here: int  # of this device
    max_pushes: int  # L, of one update
    gradient_at_newest: bool
    axis_name: AxisName  # of the devices that share the workers out
    mean_over: AxisName  # of the devices that share every worker's environments out


class Arrivals(NamedTuple):
    """The pushes of one update, in order."""

    workers: jax.Array  # int32 [L]: who pushes
    active: jax.Array | None  # bool [L]: whether that push takes place; None: all do
    row: jax.Array  # int32 [L]: where the push's gradient stands among those of all devices
    pull_after: jax.Array  # int32 [W]: after which of these pushes a worker pulls; -1: it does not


class _Shared(NamedTuple):
    """What pushes change one after the other; parameters as vectors."""

    params: jax.Array  # float32 [P]
    opt_state: Any
    snapshots: jax.Array  # float32 [W, P], of this device's workers
    recent: jax.Array | None


class _Push(NamedTuple):
    """One push of an update, or all of them with a leading axis ``[L]``."""

    worker: jax.Array  # int32 []
    active: jax.Array | None  # bool []
    row: jax.Array  # int32 []
    staleness: jax.Array  # int32 []
    version: jax.Array  # int32 []: that it makes


class _Gradients(NamedTuple):
    """What workers bring to their pushes, on all devices."""

    vectors: jax.Array | None  # float32 [rows, P]; None: each is taken when it is pushed
    pulled: jax.Array  # float32 [rows, P]: the snapshots of these workers
    metrics: Scalars  # [rows]


_GradientOfPush: TypeAlias = Callable[[jax.Array, jax.Array], tuple[jax.Array, Scalars]]
"""(newest parameters [P], row) -> (gradient [P], scalars to report)."""


def start(setup: Setup, params: Params, clock: Clock | None) -> Learner:
    """The `Learner` before the first push: every worker has pulled ``params``."""
    vector = ravel(params)
    num_versions = setup.max_pushes + setup.asynchrony.max_lag + 1
    keeps_versions = not reads.pulls_own_push(setup.asynchrony)
    return Learner(
        params=params,
        opt_state=setup.optimizer.init(vector),
        version=jnp.int32(0),
        snapshots=jax.tree.map(lambda x: jnp.broadcast_to(x, (setup.workers_here, *x.shape)), params),
        pulled_version=jnp.zeros(setup.num_workers, jnp.int32),
        missed_here=jnp.zeros(setup.num_workers, jnp.int32),
        # None, not of size 0: jaxlib 0.11.2 crashes on an input of size 0 of a program for several devices.
        recent=jnp.broadcast_to(vector, (num_versions, *vector.shape)) if keeps_versions else None,
        clock=clock,
        staleness=jnp.zeros(8 * setup.num_workers, jnp.int32),
    )


def split_learner(setup: Setup, learner: Learner) -> Learner:
    """The axis along which devices share each leaf out: of the snapshots that of the workers, see `UpdateRule`."""
    # Where gradients are taken at the newest parameters, every device has all workers, and a part of each.
    axis = -1 if setup.gradient_at_newest else 0
    return split.copied(learner)._replace(snapshots=split.along(axis, learner.snapshots))


def own_workers(setup: Setup) -> jax.Array:
    """The workers of this device, by their numbers among all: int32 ``[W]``."""
    return collectives.index(setup.axis_name) * setup.workers_here + jnp.arange(setup.workers_here, dtype=jnp.int32)


def push_all(
    setup: Setup,
    key: Key,
    learner: Learner,
    objective: Objective,
    acting: Params,
    trajectories: Trajectory,
    arrivals: Arrivals,
) -> tuple[Learner, Scalars, Scalars]:
    """One update: gradients side by side, pushes one after the other, and what workers pull then.

    Args:
        setup: the `Setup`.
        key: of the update; for torn reads.
        learner: the `Learner` before.
        objective: the `Objective`.
        acting: the snapshots of the workers that have acted on this device, every leaf ``[H, ...]``.
        trajectories: theirs, leaves ``[H, B, T, ...]``.
        arrivals: the `Arrivals`.

    Returns:
        The `Learner` after; named vectors to report with an entry a row, see `Arrivals`; and others with an entry a
        push.
    """
    gradients = _take_gradients(setup, objective, acting, trajectories)
    versions = learner.version + jnp.arange(arrivals.workers.size, dtype=jnp.int32)  # before each push
    staleness = versions - learner.pulled_version[arrivals.workers]
    of_push = _gradient_of_push(setup, objective, learner.params, gradients.vectors, trajectories)
    shared, reported = _push_in_order(setup, learner, arrivals, of_push, gradients.pulled, staleness)
    learner = _pull(setup, key, learner, shared, arrivals)

    missed_here, within = learner.missed_here, staleness
    if setup.axis_name is not None:
        missed_here, within, _ = count_within(
            missed_here, arrivals.workers, arrivals.active, arrivals.pull_after, setup.workers_here
        )
    num_pushes = arrivals.workers.size if arrivals.active is None else arrivals.active.sum(dtype=jnp.int32)
    learner = learner._replace(
        version=learner.version + num_pushes,
        missed_here=missed_here,
        staleness=add_to_histogram(learner.staleness, staleness, arrivals.active),
    )
    return learner, gradients.metrics, reported | {"staleness": staleness, "staleness_within": within}


def _take_gradients(setup: Setup, objective: Objective, acting: Params, trajectories: Trajectory) -> _Gradients:
    """The gradients of all devices' workers at their snapshots, unless they are taken when they are pushed."""
    found = _Gradients(None, jax.vmap(ravel)(acting), {})
    if not setup.gradient_at_newest:
        vectors, metrics = jax.vmap(partial(vector_gradient_at, objective))(acting, trajectories)
        found = found._replace(vectors=vectors, metrics=metrics)
    return collectives.gather(found, setup.axis_name)


def _gradient_of_push(
    setup: Setup, objective: Objective, params: Params, vectors: jax.Array | None, trajectories: Trajectory
) -> _GradientOfPush:
    _, unravel = ravel_pytree(params)

    def computed(newest: jax.Array, row: jax.Array) -> tuple[jax.Array, Scalars]:
        del newest
        assert vectors is not None
        return vectors[row], {}

    def at_newest(newest: jax.Array, row: jax.Array) -> tuple[jax.Array, Scalars]:
        rows = jax.tree.map(lambda x: x[row], trajectories)
        return vector_gradient_at(objective, unravel(newest), rows, setup.mean_over)

    return at_newest if vectors is None else computed


def _push_in_order(
    setup: Setup,
    learner: Learner,
    arrivals: Arrivals,
    gradient_of_push: _GradientOfPush,
    pulled: jax.Array,
    staleness: jax.Array,
) -> tuple[_Shared, Scalars]:
    """Apply one gradient after the other.

    Returns:
        What that makes of the parameters, and scalars to report of each push.
    """

    def push(shared: _Shared, one: _Push) -> tuple[_Shared, Scalars]:
        gradient, reported = gradient_of_push(shared.params, one.row)
        told = {"staleness": one.staleness, "pulled": pulled[one.row]}
        params, opt_state = apply_gradient(
            setup.optimizer, gradient, shared.opt_state, shared.params, one.active, **told
        )
        return _store(setup, shared._replace(params=params, opt_state=opt_state), one), reported

    vectors = _Shared(ravel(learner.params), learner.opt_state, jax.vmap(ravel)(learner.snapshots), learner.recent)
    versions = learner.version + 1 + jnp.arange(arrivals.workers.size, dtype=jnp.int32)
    return jax.lax.scan(push, vectors, _Push(arrivals.workers, arrivals.active, arrivals.row, staleness, versions))


def _store(setup: Setup, shared: _Shared, push: _Push) -> _Shared:
    """Keep what a push has made, for its worker's pull or among the last versions."""
    if shared.recent is None:
        slot = push.worker - collectives.index(setup.axis_name) * setup.workers_here
        is_here = (slot >= 0) & (slot < setup.workers_here) & (True if push.active is None else push.active)
        slot = jnp.where(is_here, slot, setup.workers_here)
        return shared._replace(snapshots=shared.snapshots.at[slot].set(shared.params, mode="drop"))
    num_versions = shared.recent.shape[0]
    row = push.version % num_versions
    if push.active is not None:
        row = jnp.where(push.active, row, num_versions)
    return shared._replace(recent=shared.recent.at[row].set(shared.params, mode="drop"))


def _pull(setup: Setup, key: Key, learner: Learner, shared: _Shared, arrivals: Arrivals) -> Learner:
    """The learner with the parameters after the pushes, and what workers pull after theirs."""
    _, unravel = ravel_pytree(learner.params)
    snapshots, pull_after = shared.snapshots, arrivals.pull_after
    seen = learner.version + pull_after + 1
    if shared.recent is not None:
        here = own_workers(setup)
        leaf_sizes = [leaf.size for leaf in jax.tree.leaves(learner.params)]
        pulled, seen = reads.pull(key, setup.asynchrony, shared.recent, seen, here, leaf_sizes)
        snapshots = jnp.where((pull_after[here] >= 0)[:, None], pulled, snapshots)
    return learner._replace(
        params=unravel(shared.params),
        opt_state=shared.opt_state,
        snapshots=jax.vmap(unravel)(snapshots),
        pulled_version=jnp.where(pull_after >= 0, seen, learner.pulled_version),
        recent=shared.recent,
    )

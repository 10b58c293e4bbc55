"""Pushes in order: what the once-a-round rule and the clocked rule of A3C have in common."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c.backend import collectives, split
from purejaxrl_a3c.backend.vectors import ravel, ravel_and_back
from purejaxrl_a3c.types import AxisName, Key, Objective, Params, Scalars, Trajectory
from purejaxrl_a3c.updates import reads
from purejaxrl_a3c.updates.asynchrony import Asynchrony
from purejaxrl_a3c.updates.clock import Clock
from purejaxrl_a3c.updates.gradient import apply_gradient, vector_gradient_at
from purejaxrl_a3c.updates.learning import Learning
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
    learning: Learning | None  # from rollouts at the newest parameters; None: of gradients at the workers' snapshots
    axis_name: AxisName  # of the devices that share the workers out

    def init(self, params: jax.Array) -> Any:
        """The state of the optimizer, or of the learning, for parameters ``[P]``."""
        return self.optimizer.init(params) if self.learning is None else self.learning.init(params)


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
    key: Key | None  # for learning that draws


class _Gradients(NamedTuple):
    """What workers bring to their pushes, on all devices."""

    vectors: jax.Array | None  # float32 [rows, P]; None: they bring rollouts
    pulled: jax.Array  # float32 [rows, P]: the snapshots of these workers
    metrics: Scalars  # [rows]


_Apply: TypeAlias = Callable[[jax.Array, Any, _Push], tuple[jax.Array, Any, Scalars]]
"""(newest parameters [P], state of the optimizer, push) -> (parameters, state, scalars to report)."""


def start(setup: Setup, params: Params, clock: Clock | None) -> Learner:
    """The `Learner` before the first push: every worker has pulled ``params``."""
    vector = ravel(params)
    num_versions = setup.max_pushes + setup.asynchrony.max_lag + 1
    keeps_versions = not reads.pulls_own_push(setup.asynchrony)
    return Learner(
        params=params,
        opt_state=setup.init(vector),
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
    # Where rollouts are learned from at the newest parameters, every device has all workers, and a part of each.
    axis = 0 if setup.learning is None else -1
    return split.copied(learner)._replace(snapshots=split.along(axis, learner.snapshots))


def own_workers(setup: Setup) -> jax.Array:
    """The workers of this device, by their numbers among all: int32 ``[W]``."""
    return collectives.index(setup.axis_name) * setup.workers_here + jnp.arange(setup.workers_here, dtype=jnp.int32)


def split_key(setup: Setup, key: Key, num_pushes: int) -> tuple[Key, Key | None]:
    """A key for the schedule, and ``[L]`` for the pushes if their learning draws."""
    if setup.learning is None or not setup.learning.draws:
        return key, None
    keys = jax.random.split(key, 1 + num_pushes)
    return keys[0], keys[1:]


def push_all(
    setup: Setup,
    key: Key,
    push_keys: Key | None,
    learner: Learner,
    objective: Objective,
    acting: Params,
    trajectories: Trajectory,
    arrivals: Arrivals,
) -> tuple[Learner, Scalars, Scalars]:
    """One update: gradients side by side, pushes one after the other, and what workers pull then.

    Args:
        setup: the `Setup`.
        key: consumed; for torn reads.
        push_keys: from `split_key`.
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
    apply = _make_apply(setup, objective, learner.params, gradients, trajectories)
    shared, reported = _push_in_order(setup, learner, arrivals, apply, staleness, push_keys)
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
    """The gradients of all devices' workers at their snapshots, unless rollouts are learned from."""
    found = _Gradients(None, jax.vmap(ravel)(acting), {})
    if setup.learning is None:
        vectors, metrics = jax.vmap(partial(vector_gradient_at, objective))(acting, trajectories)
        found = found._replace(vectors=vectors, metrics=metrics)
    return collectives.gather(found, setup.axis_name)


def _make_apply(
    setup: Setup, objective: Objective, params: Params, gradients: _Gradients, trajectories: Trajectory
) -> _Apply:
    _, unravel = ravel_and_back(params)

    def gradient(params: jax.Array, opt_state: Any, push: _Push) -> tuple[jax.Array, Any, Scalars]:
        assert gradients.vectors is not None
        told = {"staleness": push.staleness, "pulled": gradients.pulled[push.row]}
        vector = gradients.vectors[push.row]
        return *apply_gradient(setup.optimizer, vector, opt_state, params, push.active, **told), {}

    def rollouts(params: jax.Array, opt_state: Any, push: _Push) -> tuple[jax.Array, Any, Scalars]:
        assert setup.learning is not None
        learn = setup.learning.learn
        told = {"staleness": push.staleness, "pulled": gradients.pulled[push.row]}
        rows = with_staleness(jax.tree.map(lambda x: x[push.row], trajectories), push.staleness)

        def learned() -> tuple[jax.Array, Any, Scalars]:
            new, state, reported = learn(push.key, objective, params, opt_state, rows, unravel, **told)
            return new, state, jax.tree.map(lambda x: x.astype(jnp.float32).mean(), reported)

        if push.active is None:
            return learned()
        reported = jax.eval_shape(learned)[2]
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), reported)
        return jax.lax.cond(push.active, learned, lambda: (params, opt_state, nothing))

    return gradient if setup.learning is None else rollouts


def with_staleness(rollouts: Trajectory, staleness: jax.Array) -> Trajectory:
    """Rollouts ``[B, T]`` whose steps are ``staleness []`` pushes old; what is no `Trajectory` stays as it is."""
    if not isinstance(rollouts, Trajectory):
        return rollouts
    return rollouts._replace(staleness=jnp.broadcast_to(staleness, rollouts.reward.shape))


def _push_in_order(
    setup: Setup,
    learner: Learner,
    arrivals: Arrivals,
    apply: _Apply,
    staleness: jax.Array,
    keys: Key | None,
) -> tuple[_Shared, Scalars]:
    """Make one push after the other.

    Returns:
        What that makes of the parameters, and scalars to report of each push.
    """

    def push(shared: _Shared, one: _Push) -> tuple[_Shared, Scalars]:
        params, opt_state, reported = apply(shared.params, shared.opt_state, one)
        return _store(setup, shared._replace(params=params, opt_state=opt_state), one), reported

    vectors = _Shared(ravel(learner.params), learner.opt_state, jax.vmap(ravel)(learner.snapshots), learner.recent)
    versions = learner.version + 1 + jnp.arange(arrivals.workers.size, dtype=jnp.int32)
    order = _Push(arrivals.workers, arrivals.active, arrivals.row, staleness, versions, keys)
    return jax.lax.scan(push, vectors, order)


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
    _, unravel = ravel_and_back(learner.params)
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

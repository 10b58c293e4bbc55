"""A3C's rule: workers push stale gradients one at a time, in an explicit order.

Between two pushes a worker uses only its own snapshot of the parameters. So workers compute side by side, and only the
pushes are ordered: a scan over the order of arrival applies each worker's gradient through the shared optimizer state,
and the worker pulls what its own push has made. This does not approximate asynchronous training: it is asynchronous
training with a given order of arrival.
"""

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c import checks
from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.types import AxisName, ClockedRule, Key, Objective, Params, Scalars, Trajectory, UpdateRule
from purejaxrl_a3c.updates import pushes
from purejaxrl_a3c.updates.asynchrony import ORDERS, Asynchrony, check_asynchrony
from purejaxrl_a3c.updates.clocked import clocked
from purejaxrl_a3c.updates.learning import Learning
from purejaxrl_a3c.updates.pushes import Arrivals, Learner, Setup
from purejaxrl_a3c.updates.queued import queued


def asynchronous(
    optimizer: optax.GradientTransformation,
    num_workers: int,
    asynchrony: Asynchrony,
    *,
    max_pushes: int | None = None,
    axis_name: AxisName = None,
) -> UpdateRule | ClockedRule:
    """Asynchronous advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, algorithm S3).

    Gradients are taken at the worker's snapshot and applied to the newest shared parameters; the worker then pulls.
    The staleness of a push, the pushes applied since its worker pulled, is measured on every push. As long as all
    workers are busy and read the newest parameters, its mean is ``W - 1`` once every worker has pushed, whatever the
    order; in random order once a round it lies between 0 and ``2 W - 2``.

    Every one of several devices computes the gradients of its own workers, gets those of all others, and makes the same
    pushes in the same order: the run is that of one device.

    Args:
        optimizer: an optax transformation. It sees parameters and gradients as one vector ``[P]``, so it must
            not treat leaves of the parameters differently. It is told ``staleness`` (int32 []) and ``pulled``
            (``[P]``, the worker's snapshot) if it takes extra arguments, see `corrections`.
        num_workers: ``W``, of all devices.
        asynchrony: the schedule and the reads; ``Asynchrony()`` is that of Mnih et al., every worker once a round in
            random order.
        max_pushes: on the clock, how many pushes a batch may have, ``L``, at most ``W``; None: half the workers. One
            device computes so many rollouts and gradients at once, and of more many would be thrown away; several
            devices compute those of all their workers. It changes no distribution.
        axis_name: the axis of the devices that share the workers out, or None.

    Returns:
        On the clock a `ClockedRule`, otherwise an `UpdateRule`.

    Raises:
        InputError: if the settings do not go together.
    """
    if asynchrony.schedule == "queue":
        checks.reject("schedule", asynchrony.schedule, "not queue, where workers only act: PPO's and IMPALA's do")
    workers_here = collectives.part("num_workers", num_workers, axis_name)
    setup = Setup(
        optimizer=optax.with_extra_args_support(optimizer),
        asynchrony=asynchrony,
        num_workers=num_workers,
        workers_here=workers_here,
        max_pushes=_most_pushes(asynchrony, num_workers, max_pushes),
        learning=None,
        axis_name=axis_name,
    )
    return _make_rule(setup)


def asynchronous_actors(
    learning: Learning, num_workers: int, asynchrony: Asynchrony, *, max_pushes: int | None = None
) -> UpdateRule | ClockedRule:
    """Workers that only act: each pushes its rollouts, which a learner learns from at once, at the newest parameters.

    The staleness is that of the rollouts, for the objective to correct; it finds it in ``Trajectory.staleness``. One
    push depends on the one before, so the learner learns from one worker after the other. Schedules, reads and
    staleness are those of `asynchronous`.

    Args:
        learning: how the rollouts of one worker are learned from: `one_step` for IMPALA, `in_passes` for PPO. Several
            devices share every worker's environments out, as the learning is told.
        num_workers: ``W``.
        asynchrony: as of `asynchronous`.
        max_pushes: as of `asynchronous`.

    Returns:
        On the clock a `ClockedRule`, otherwise an `UpdateRule`.

    Raises:
        InputError: if the settings do not go together.
    """
    if asynchrony.schedule == "queue":
        _most_pushes(asynchrony, num_workers, max_pushes)
        return queued(learning, asynchrony.queue, asynchrony.service, num_workers)
    setup = Setup(
        optimizer=optax.with_extra_args_support(optax.identity()),
        asynchrony=asynchrony,
        num_workers=num_workers,
        workers_here=num_workers,
        max_pushes=_most_pushes(asynchrony, num_workers, max_pushes),
        learning=learning,
        axis_name=None,
    )
    return _make_rule(setup)


def _most_pushes(asynchrony: Asynchrony, num_workers: int, max_pushes: int | None) -> int:
    """Pushes of an update; checks the settings."""
    check_asynchrony(asynchrony, num_workers)
    if asynchrony.device_delay:
        checks.reject("device_delay", asynchrony.device_delay, "0, except in A3C, see `updates.overlapped`")
    if max_pushes is not None and not 1 <= max_pushes <= num_workers:
        checks.reject("max_pushes", max_pushes, f"an int from 1 to num_workers, {num_workers}")
    return (max_pushes or (num_workers + 1) // 2) if asynchrony.schedule == "clock" else num_workers


def _make_rule(setup: Setup) -> UpdateRule | ClockedRule:
    return clocked(setup) if setup.asynchrony.schedule == "clock" else _once_a_round(setup)


def _once_a_round(setup: Setup) -> UpdateRule:
    """The rule by which every worker pushes once a round."""

    def init(key: Key, params: Params) -> Learner:
        del key
        return pushes.start(setup, params, clock=None)

    def actor(learner: Learner) -> Params:
        return learner.snapshots

    def update(key: Key, learner: Learner, objective: Objective, trajectories: Trajectory) -> tuple[Learner, Scalars]:
        key, push_keys = pushes.split_key(setup, key, setup.num_workers)
        key_order, key_reads = jax.random.split(key)
        workers = ORDERS[setup.asynchrony.schedule](key_order, setup.num_workers)
        # Rows are workers, and each worker pulls after its own push.
        arrivals = Arrivals(workers, None, row=workers, pull_after=jnp.argsort(workers).astype(jnp.int32))
        learner, metrics, reported = pushes.push_all(
            setup, key_reads, push_keys, learner, objective, actor(learner), trajectories, arrivals
        )
        return learner, metrics | reported

    return UpdateRule(init, actor, update, lambda learner: pushes.split_learner(setup, learner))

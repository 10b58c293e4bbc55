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
from purejaxrl_a3c.updates.pushes import Arrivals, Learner, Setup


def asynchronous(
    optimizer: optax.GradientTransformation,
    num_workers: int,
    asynchrony: Asynchrony,
    *,
    max_pushes: int | None = None,
    gradient_at_newest: bool = False,
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
        gradient_at_newest: take a worker's gradient when it pushes, at the shared parameters of that moment, as
            IMPALA's learner does; the staleness is then that of the trajectories, for the objective to correct. Pushes
            depend on each other, so the gradients are taken one after the other.
        axis_name: the axis of the devices that share the workers out or, with ``gradient_at_newest``, every worker's
            environments; or None.

    Returns:
        On the clock a `ClockedRule`, otherwise an `UpdateRule`.

    Raises:
        InputError: if the settings do not go together.
    """
    check_asynchrony(asynchrony, num_workers)
    if asynchrony.device_delay:
        checks.reject("device_delay", asynchrony.device_delay, "0, except in A3C, see `updates.overlapped`")
    if max_pushes is not None and not 1 <= max_pushes <= num_workers:
        checks.reject("max_pushes", max_pushes, f"an int from 1 to num_workers, {num_workers}")
    on_clock = asynchrony.schedule == "clock"
    # Where the gradient is taken at the newest parameters, every device needs all workers, and has a part of each.
    shared_by_worker = None if gradient_at_newest else axis_name
    setup = Setup(
        optimizer=optax.with_extra_args_support(optimizer),
        asynchrony=asynchrony,
        num_workers=num_workers,
        workers_here=collectives.part("num_workers", num_workers, shared_by_worker),
        max_pushes=(max_pushes or (num_workers + 1) // 2) if on_clock else num_workers,
        gradient_at_newest=gradient_at_newest,
        axis_name=shared_by_worker,
        mean_over=axis_name if gradient_at_newest else None,
    )
    return clocked(setup) if on_clock else _once_a_round(setup)


def _once_a_round(setup: Setup) -> UpdateRule:
    """The rule by which every worker pushes once a round."""

    def init(key: Key, params: Params) -> Learner:
        del key
        return pushes.start(setup, params, clock=None)

    def actor(learner: Learner) -> Params:
        return learner.snapshots

    def update(key: Key, learner: Learner, objective: Objective, trajectories: Trajectory) -> tuple[Learner, Scalars]:
        key_order, key_reads = jax.random.split(key)
        workers = ORDERS[setup.asynchrony.schedule](key_order, setup.num_workers)
        # Rows are workers, and each worker pulls after its own push.
        arrivals = Arrivals(workers, None, row=workers, pull_after=jnp.argsort(workers).astype(jnp.int32))
        learner, metrics, reported = pushes.push_all(
            setup, key_reads, learner, objective, actor(learner), trajectories, arrivals
        )
        return learner, metrics | reported

    return UpdateRule(init, actor, update, lambda learner: pushes.split_learner(setup, learner))

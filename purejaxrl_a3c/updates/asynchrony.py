"""The settings of asynchrony: who pushes when, and which parameters a worker pulls."""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.config import Count, CountOrZero, NonNegative, configuration, flat, is_concrete
from purejaxrl_a3c.types import Key
from purejaxrl_a3c.updates.queue import Queue, check_queue
from purejaxrl_a3c.updates.service import Service, check_service

Schedule: TypeAlias = Literal["random", "round_robin", "clock", "queue"]
"""Names of the orders of arrival."""
Reads: TypeAlias = Literal["newest", "lagged", "torn_leaves", "torn_elements"]
"""Names of what a pull sees."""


@configuration
class Asynchrony:
    """Who pushes when, and which parameters a worker pulls. Floats may be traced."""

    schedule: Schedule = "random"
    """Order in which pushes arrive: every worker once a round in random or round_robin order; by a simulated clock on
    which each task takes a random time; or likewise through a queue to a learner that takes time too, where workers
    only act."""
    service: Service = Service()
    """How long a task takes on the clock; with a queue, a rollout."""
    max_lead: CountOrZero | None = None
    """On the clock, a worker waits while it is more than this many tasks ahead of the slowest one (stale-synchronous
    parallel, Ho et al. 2013); None means that nobody waits."""
    reads: Reads = "newest"
    """Which parameters a pull sees: the newest ones; lagged, those of some pushes before; or a mixture of recent
    versions, as a read without a lock may see: torn_leaves takes each array of the parameters from one of them,
    torn_elements each number."""
    lag: NonNegative = 0.0
    """How many pushes ago lagged reads see, rounded to a whole number. With one worker every gradient is exactly this
    many updates late."""
    max_lag: Count = 1
    """How many versions before the newest one are kept for lagged and torn reads; the largest value of lag."""
    device_delay: CountOrZero = 0
    """How many rounds a push takes to reach other devices; with 0 they wait for it, and the run is that of one
    device."""
    queue: Queue = Queue()


ORDERS: dict[Schedule, Callable[[Key, int], jax.Array]] = {
    "random": lambda key, num_workers: jax.random.permutation(key, jnp.arange(num_workers, dtype=jnp.int32)),
    "round_robin": lambda key, num_workers: jnp.arange(num_workers, dtype=jnp.int32),
}
"""Orders of arrival in which every worker pushes once a round, by name: (key, W) -> workers, int32 ``[W]``."""


class Batch(NamedTuple):
    """What is learned from at once."""

    pushes: int  # of workers
    parts: int  # of each rollout, one push each


def learned_at_once(asynchrony: Asynchrony) -> Batch:
    """What workers that only act make of an update: a push of one of them, or as many as a batch of the queue has."""
    if asynchrony.schedule != "queue":
        return Batch(1, 1)
    parts = asynchrony.queue.parts_per_rollout
    return Batch(asynchrony.queue.batch_rollouts * parts, parts)


def check_asynchrony(asynchrony: Asynchrony, num_workers: int) -> None:
    """Check that the fields of an `Asynchrony` go together.

    Args:
        asynchrony: the settings.
        num_workers: ``W``, of all devices.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    slowness, lag = asynchrony.service.slowness, asynchrony.lag
    if slowness and len(slowness) != num_workers:
        checks.reject("slowness", slowness, f"one number for each of {num_workers} workers, or empty")
    check_service(asynchrony.service)
    if asynchrony.service.num_cores and (asynchrony.schedule != "clock" or asynchrony.max_lead is not None):
        checks.reject("num_cores", asynchrony.service.num_cores, "0 unless schedule is clock and max_lead is None")
    if asynchrony.max_lead is not None and asynchrony.schedule != "clock":
        checks.reject("max_lead", asynchrony.max_lead, "None unless schedule is clock")
    if is_concrete(lag) and lag > asynchrony.max_lag:
        checks.reject("lag", lag, f"at most max_lag, {asynchrony.max_lag}")
    if is_concrete(lag) and lag and asynchrony.reads != "lagged":
        checks.reject("lag", lag, "0 unless reads is lagged")
    if asynchrony.schedule == "queue":
        check_queue(asynchrony.queue)
        if asynchrony.reads != "newest":
            checks.reject("reads", asynchrony.reads, "newest if schedule is queue")
    else:
        for name, default in flat(Queue()).items():
            value = flat(asynchrony.queue)[name]
            if is_concrete(value) and value != default:
                checks.reject(name, value, f"{default} unless schedule is queue")
    if asynchrony.device_delay and not (asynchrony.schedule in ORDERS and asynchrony.reads == "newest"):
        accepted = f"0 unless schedule is one of {', '.join(ORDERS)} and reads is newest"
        checks.reject("device_delay", asynchrony.device_delay, accepted)

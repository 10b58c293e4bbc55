"""How long workers take for their tasks."""

from typing import Literal, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.config import CountOrZero, Positive, configuration
from purejaxrl_a3c.types import Key

ServiceLaw: TypeAlias = Literal["constant", "exponential", "gamma", "lognormal", "measured"]
"""Names of the distributions of service times."""


@configuration
class Service:
    """How long workers take for their tasks, and on how many cores. Floats may be traced."""

    service_law: ServiceLaw = "gamma"
    """Distribution of the time that a task takes on a core of its own; its mean is 1."""
    service_cv: Positive = 0.3
    """Standard deviation of a gamma or lognormal service time, divided by its mean."""
    slowness: tuple[Positive, ...] = ()
    """Factor on the service times of each worker, to make some of them slow; empty means 1 for all."""
    measured_times: tuple[Positive, ...] = ()
    """Times in any unit for the law measured, which draws from them with replacement; their mean becomes 1."""
    num_cores: CountOrZero = 0
    """How many cores the workers share on the clock, each for a time slice before the next one in the queue gets it; 0
    means a core for every worker."""
    time_slice: Positive = 1.0
    """How long a worker keeps a core that others wait for, in mean service times."""


def check_service(service: Service) -> None:
    """Check that the fields go together.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    measured, law = bool(service.measured_times), service.service_law
    if measured and law != "measured":
        checks.reject("measured_times", service.measured_times, f"empty if service_law is {law}")
    if law == "measured" and not measured:
        checks.reject("service_law", law, "one of the other laws if measured_times is empty")


class Law(Protocol):
    """A distribution of service times with mean 1."""

    def __call__(self, key: Key, shape: tuple[int, ...], service: Service) -> jax.Array:
        """Service times, float32 ``shape``; the law's parameters are fields of ``service``."""
        ...


def constant(key: Key, shape: tuple[int, ...], service: Service) -> jax.Array:
    """Every task takes as long as any other."""
    del key, service
    return jnp.ones(shape, jnp.float32)


def exponential(key: Key, shape: tuple[int, ...], service: Service) -> jax.Array:
    """The law without memory; its coefficient of variation is 1."""
    del service
    return jax.random.exponential(key, shape, jnp.float32)


def gamma(key: Key, shape: tuple[int, ...], service: Service) -> jax.Array:
    """The sum of many small exponential times."""
    cv = hidden(service.service_cv)
    return jax.random.gamma(key, cv**-2, shape, jnp.float32) * cv**2


def lognormal(key: Key, shape: tuple[int, ...], service: Service) -> jax.Array:
    """The product of many small factors."""
    cv = hidden(service.service_cv)
    return jnp.exp(jnp.sqrt(jnp.log1p(cv**2)) * jax.random.normal(key, shape, jnp.float32) - 0.5 * jnp.log1p(cv**2))


def measured(key: Key, shape: tuple[int, ...], service: Service) -> jax.Array:
    """Times that were measured, each drawn independently of the others."""
    times = hidden(service.measured_times)
    return (times / times.mean())[jax.random.randint(key, shape, 0, times.size)]


LAWS: dict[ServiceLaw, Law] = {
    "constant": constant,
    "exponential": exponential,
    "gamma": gamma,
    "lognormal": lognormal,
    "measured": measured,
}
"""The distributions of service times by name."""


def service_times(key: Key, service: Service, shape: tuple[int, ...]) -> jax.Array:
    """Service times, float32 ``shape``, whose last axis is the workers."""
    times = LAWS[service.service_law](key, shape, service)
    return times * jnp.broadcast_to(hidden(service.slowness), shape) if service.slowness else times


def hidden(value: float | jax.Array | tuple[float | jax.Array, ...]) -> jax.Array:
    """The numbers as float32, hidden from the compiler.

    It would compute with constants in another way than with the same numbers traced. The times would differ in their
    last bits, and a run in which one push overtakes another is another run.
    """
    return jax.lax.optimization_barrier(jnp.asarray(value, jnp.float32))

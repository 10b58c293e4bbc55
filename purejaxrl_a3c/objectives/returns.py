"""Returns and advantages: V-trace, and the estimators that are special cases of it.

Every function here is written for one environment and ``T`` consecutive steps; ``jax.vmap`` adds a batch.
All functions share these arguments:

- ``value`` [T]: V of the observation acted on;
- ``next_value`` [T]: V of the *true* successor, which at the end of an episode is not the observation
  that follows in the rollout;
- ``reward`` [T];
- ``discount`` [T]: gamma, or 0 where the episode terminated. A truncated step keeps gamma;
- ``last`` [T]: 1 where the episode ended either way, 0 elsewhere. It cuts the trace.

So a terminated step has no bootstrap value, a truncated step bootstraps from its own final observation, and neither
uses rewards of the next episode.
"""

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.types import Targets

_LARGEST_LOG_RATIO = 20.0  # e^20 is 5e8, and its square is far below float32's largest number


def importance_weight(log_ratio: jax.Array) -> jax.Array:
    """The ratio of two probabilities from its logarithm, float32 ``[...]``, at most e^20.

    Without a bound the ratio overflows where the policy has moved far, as densities of several continuous actions can,
    and infinity times an advantage of 0 is NaN. A ratio above the bound has no gradient.
    """
    return jnp.exp(jnp.minimum(log_ratio, _LARGEST_LOG_RATIO))


def vtrace(
    value: jax.Array,
    next_value: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
    last: jax.Array,
    log_rho: jax.Array,
    *,
    gae_lambda: float | jax.Array = 1.0,
    clip_rho: float | jax.Array = 1.0,
    clip_c: float | jax.Array = 1.0,
) -> Targets:
    """V-trace targets and policy-gradient advantages (Espeholt et al. 2018, arXiv 1802.01561, section 4.1).

    With ``rho_t = min(clip_rho, exp(log_rho_t))``, ``c_t = lambda min(clip_c, exp(log_rho_t))`` and
    ``delta_t = rho_t (r_t + discount_t next_value_t - value_t)``::

        v_t - value_t = delta_t + discount_t c_t (1 - last_t) (v_{t+1} - value_{t+1})
        advantage_t   = rho_t (r_t + discount_t q_t - value_t),
        q_t           = next_value_t + lambda (1 - last_t) (v_{t+1} - value_{t+1})

    The last step of the rollout bootstraps from ``next_value[T - 1]``.

    Args:
        value: ``[T]``; the module's docstring explains this argument and the next four.
        next_value: ``[T]``.
        reward: ``[T]``.
        discount: ``[T]``.
        last: ``[T]``.
        log_rho: ``[T]``, log of the target policy's over the behaviour policy's probability of the action.
        gae_lambda: trace decay lambda in [0, 1].
        clip_rho: upper bound of the importance weights of the errors, and of the advantages.
        clip_c: upper bound of the importance weights of the traces.

    Returns:
        ``Targets(value [T], advantage [T])``; no gradient flows through them.
    """
    targets = unweighted_vtrace(
        value, next_value, reward, discount, last, log_rho, gae_lambda=gae_lambda, clip_rho=clip_rho, clip_c=clip_c
    )
    rho = jnp.minimum(clip_rho, importance_weight(log_rho))
    return targets._replace(advantage=jax.lax.stop_gradient(rho) * targets.advantage)


def unweighted_vtrace(
    value: jax.Array,
    next_value: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
    last: jax.Array,
    log_rho: jax.Array,
    *,
    gae_lambda: float | jax.Array = 1.0,
    clip_rho: float | jax.Array = 1.0,
    clip_c: float | jax.Array = 1.0,
) -> Targets:
    """As `vtrace`, with advantages ``r_t + discount_t q_t - value_t`` without their weight ``rho_t``.

    That is what may be normalized: of weighted advantages, those of actions that the policy hardly takes any more are
    about 0, and a shift to mean 0 would make them something else.
    """
    weight = importance_weight(log_rho)
    rho = jnp.minimum(clip_rho, weight)
    going_on = 1.0 - jnp.asarray(last, jnp.float32)
    trace = discount * going_on * gae_lambda * jnp.minimum(clip_c, weight)
    delta = rho * (reward + discount * next_value - value)

    def backward(
        error_after: jax.Array, step: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        delta, trace = step
        error = delta + trace * error_after
        return error, (error, error_after)

    _, (error, error_after) = jax.lax.scan(backward, jnp.zeros_like(value[0]), (delta, trace), reverse=True)
    q = next_value + gae_lambda * going_on * error_after
    return Targets(*jax.lax.stop_gradient((value + error, reward + discount * q - value)))


def gae(
    value: jax.Array,
    next_value: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
    last: jax.Array,
    *,
    gae_lambda: float | jax.Array,
) -> Targets:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438): V-trace with rho = 1.

    ``advantage_t = delta_t + discount_t lambda (1 - last_t) advantage_{t+1}``; the value target is
    ``value + advantage``, the lambda-return. With ``gae_lambda=1`` it is the n-step return to the end of the rollout,
    as in A3C. Arguments and result are those of `vtrace`.
    """
    return vtrace(value, next_value, reward, discount, last, jnp.zeros_like(value), gae_lambda=gae_lambda)


def n_step(
    value: jax.Array,
    next_value: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
    last: jax.Array,
    *,
    n: int,
) -> Targets:
    """The return over ``n`` steps, or fewer where the episode or the rollout ends sooner.

    ``G^1_t = r_t + discount_t next_value_t`` and ``G^k_t = r_t + discount_t G^{k-1}_{t+1}``, except that the end of an
    episode and of the rollout bootstrap: ``G^k_t = G^1_t`` there. With ``n >= T`` it is `gae` with ``gae_lambda=1``.

    Args:
        value: ``[T]``; the module's docstring explains this argument and the next four.
        next_value: ``[T]``.
        reward: ``[T]``.
        discount: ``[T]``.
        last: ``[T]``.
        n: number of rewards in a full return, an int >= 1.

    Returns:
        ``Targets(value [T], advantage [T])``; no gradient flows through them.

    Raises:
        InputError: if ``n`` is not an int of at least 1.
    """
    checks.check_count("n", n)
    stop = jnp.asarray(last, bool).at[-1].set(True)
    one_step = reward + discount * next_value

    def one_more(_: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.where(stop, one_step, reward + discount * jnp.roll(target, -1))

    target = jax.lax.fori_loop(1, min(n, value.shape[0]), one_more, one_step)
    return Targets(*jax.lax.stop_gradient((target, target - value)))

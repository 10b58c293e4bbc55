"""IMPALA's loss: the actor-critic's, corrected for trajectories of older parameters."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.objectives.config import Config
from purejaxrl_a3c.objectives.policy_gradient import OffPolicyEstimator, actor_critic
from purejaxrl_a3c.types import Network, Objective, TargetEstimator, Targets

OffPolicy: TypeAlias = Literal["vtrace", "one_step", "epsilon", "none"]
"""The corrections of `off_policy_gradient`."""

_EPSILON = 1e-6  # section 5.2.2 of the paper


def off_policy_gradient(
    network: Network,
    config: Config,
    estimator: TargetEstimator,
    *,
    off_policy: OffPolicy,
    clip_rho: float | jax.Array,
    clip_c: float | jax.Array,
) -> Objective:
    """IMPALA's loss (Espeholt et al. 2018, arXiv 1802.01561, sections 4.1, 4.2 and 5.2.2), for stale trajectories.

    It is the loss of `policy_gradient`, taken at newer parameters than those that acted, with one of the paper's
    corrections:

    - ``vtrace``: V-trace targets and advantages;
    - ``one_step``: advantages times ``min(clip_rho, rho)`` and uncorrected value targets: V-trace without traces;
    - ``epsilon``: ``log(pi + 1e-6)`` instead of ``log pi``, which bounds its gradient, and no other correction;
    - ``none``: no correction.

    On trajectories that are not stale, and with clips of at least 1, all but ``epsilon`` are `policy_gradient`.

    Args:
        network: the `Network`.
        config: settings of the returns and of the weights in the loss.
        estimator: turns rewards into targets: `extrinsic`, or a bonus's.
        off_policy: name of the correction.
        clip_rho: upper bound of the importance weights of errors and advantages, see `returns.vtrace`.
        clip_c: upper bound of the importance weights of the traces, see `returns.vtrace`.
    """

    def vtrace(log_rho: jax.Array, **block: jax.Array) -> Targets:
        return returns.vtrace(**block, log_rho=log_rho, gae_lambda=config.gae_lambda, clip_rho=clip_rho, clip_c=clip_c)

    def uncorrected(log_rho: jax.Array, **block: jax.Array) -> Targets:
        del log_rho
        return returns.gae(**block, gae_lambda=config.gae_lambda)

    def one_step(log_rho: jax.Array, **block: jax.Array) -> Targets:
        targets = uncorrected(log_rho, **block)
        return targets._replace(advantage=jnp.minimum(clip_rho, returns.importance_weight(log_rho)) * targets.advantage)

    def unbounded(log_prob: jax.Array) -> jax.Array:
        return log_prob

    def bounded(log_prob: jax.Array) -> jax.Array:
        return jnp.logaddexp(log_prob, jnp.log(jnp.float32(_EPSILON)))

    corrections: dict[OffPolicy, tuple[OffPolicyEstimator, Callable[[jax.Array], jax.Array]]] = {
        "vtrace": (vtrace, unbounded),
        "one_step": (one_step, unbounded),
        "epsilon": (uncorrected, bounded),
        "none": (uncorrected, unbounded),
    }
    estimate, bound = corrections[off_policy]
    return actor_critic(network, config, estimator, estimate, bound=bound)

"""IMPALA's loss: the actor-critic's, corrected for trajectories of older parameters."""

import jax.numpy as jnp

from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.objectives.policy_gradient import actor_critic
from purejaxrl_a3c.objectives.targets import extrinsic

OFF_POLICY = ("vtrace", "one_step", "epsilon", "none")
"""The corrections of `off_policy_gradient`."""


def off_policy_gradient(network, config, make_credit=extrinsic):
    """IMPALA's loss (Espeholt et al. 2018, arXiv 1802.01561, sections 4.1, 4.2 and 5.2.2), for stale trajectories.

    As `policy_gradient`, at parameters that are newer than those that acted, with one of the paper's corrections:

    - ``vtrace``: V-trace targets and advantages;
    - ``one_step``: advantages times ``min(clip_rho, rho)``, uncorrected value targets: V-trace without traces;
    - ``epsilon``: ``log(pi + 1e-6)`` instead of ``log pi``, which bounds its gradient; nothing is corrected;
    - ``none``.

    Without staleness, and with clips of at least 1, all but ``epsilon`` are `policy_gradient`.

    Args:
        network: the `Network`.
        config: any object with what `policy_gradient` needs; ``off_policy``, the name of the correction; ``clip_rho``
            and ``clip_c`` as in `returns.vtrace`.
        make_credit: (network, config) -> `Credit`.
    """

    def vtrace(log_rho, **block):
        clips = {"clip_rho": config.clip_rho, "clip_c": config.clip_c}
        return returns.vtrace(**block, log_rho=log_rho, lambda_=config.lambda_, **clips)

    def uncorrected(log_rho, **block):
        del log_rho
        return returns.gae(**block, lambda_=config.lambda_)

    def one_step(log_rho, **block):
        targets = uncorrected(log_rho, **block)
        return targets._replace(advantage=jnp.minimum(config.clip_rho, jnp.exp(log_rho)) * targets.advantage)

    def unchanged(log_prob):
        return log_prob

    def bounded(log_prob):
        return jnp.logaddexp(log_prob, jnp.log(1e-6))

    corrections = {
        "vtrace": (vtrace, unchanged),
        "one_step": (one_step, unchanged),
        "epsilon": (uncorrected, bounded),
        "none": (uncorrected, unchanged),
    }
    return actor_critic(network, config, make_credit, *corrections[config.off_policy])

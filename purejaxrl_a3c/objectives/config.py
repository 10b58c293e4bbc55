"""The settings that all objectives of an actor-critic share."""

from purejaxrl_a3c.config import NonNegative, UnitInterval, configuration


@configuration
class Config:
    """Settings of the returns and of the weights in the loss."""

    gamma: UnitInterval = 0.99
    """Discount factor of the rewards, for each environment step (0.99 in Mnih et al. 2016)."""
    gae_lambda: UnitInterval = 1.0
    """Trace decay lambda of the advantages; 1 gives the n-step return of Mnih et al. 2016."""
    entropy_coefficient: NonNegative = 0.01
    """Weight of the policy's entropy, in nats, in the loss (0.01 in Mnih et al. 2016)."""
    value_coefficient: NonNegative = 0.5
    """Weight of the squared error of the value function in the loss (0.5 in OpenAI Baselines)."""

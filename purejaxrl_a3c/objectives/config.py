"""The settings that several objectives share."""

from purejaxrl_a3c.config import Count, NonNegative, UnitInterval, configuration


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


@configuration
class NStepConfig:
    """Settings of returns that are made of replayed transitions."""

    gamma: UnitInterval = 0.99
    """Discount factor of the rewards, for each environment step (0.99 in Haarnoja et al. 2018)."""
    n_step: Count = 1
    """Rewards in a return, fewer where an episode ends (1 in Haarnoja et al. 2018, 5 in Barth-Maron et al. 2018)."""


@configuration
class QConfig:
    """Settings of Q-learning with a target network."""

    gamma: UnitInterval = 0.99
    """Discount factor of the rewards, for each environment step (0.99 in Mnih et al. 2016)."""
    n_step: Count = 5
    """Rewards in a return, fewer where an episode ends and, without replay, where the rollout ends; 1 gives the
    one-step methods (1 in Mnih et al. 2015, 5 in Mnih et al. 2016 and Kapturowski et al. 2019, 3 in Hessel et al.
    2018)."""
    double: bool = False
    """Let the learned network choose the action whose value the target network gives (van Hasselt et al. 2016); in
    nstep-q the network that acted chooses it."""
    dueling: bool = False
    """Make Q the sum of a value and of advantages (Wang et al. 2016)."""


@configuration
class LambdaConfig:
    """Settings of the lambda-returns of Q-values."""

    gamma: UnitInterval = 0.99
    """Discount factor of the rewards, for each environment step (0.99 in Gallici et al. 2024)."""
    q_lambda: UnitInterval = 0.95
    """Decay lambda of the returns: 0 gives one-step returns, and 1 returns to the end of the rollout (0.95 for CartPole
    in the code of Gallici et al. 2024)."""

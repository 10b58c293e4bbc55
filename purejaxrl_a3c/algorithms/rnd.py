"""RND: any on-policy agent with a bonus for novel observations (random network distillation, Burda et al. 2018).

Numbers in parentheses are those of the paper, arXiv 1810.12894.
"""

from functools import partial

from purejaxrl_a3c import objectives
from purejaxrl_a3c.algorithms import a2c, a3c, averaging, impala, ppo, reinforce
from purejaxrl_a3c.bonuses import random_network_distillation
from purejaxrl_a3c.checks import check_divides, reject
from purejaxrl_a3c.config import Count, CountOrZero, NonNegative, UnitInterval, check, configuration
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus

Agent = ppo.Config | a2c.Config | a3c.Config | impala.Config | averaging.Config | reinforce.Config


@configuration
class Config:
    """Settings of RND: an agent, and the bonus that it gets beside the environment's rewards."""

    # The paper's agent is PPO, with a discount factor of 0.999 for the environment's rewards.
    agent: Agent = ppo.Config(objective=objectives.Config(gamma=0.999, gae_lambda=0.95, value_coefficient=0.25))
    extrinsic_coefficient: NonNegative = 2.0
    """Weight of the advantages of the environment's rewards (2)."""
    intrinsic_coefficient: NonNegative = 1.0
    """Weight of the advantages of the bonus (1)."""
    intrinsic_gamma: UnitInterval = 0.99
    """Discount factor of the bonus, which does not end with the episode (0.99)."""
    predictor_learning_rate: NonNegative = 1e-4
    """Learning rate of the predictor network's Adam (1e-4)."""
    predictor_epochs: Count = 4
    """Passes of the predictor network over each rollout (4)."""
    num_predictor_minibatches: Count = 4
    """Minibatches of each of these passes (4)."""
    num_features: Count = 64
    """Number of outputs of the random network (512, after convolutions)."""
    warm_up: CountOrZero = 10
    """Rollouts of the untrained policy that initialise the statistics of observations before the run. They are not
    counted as frames (50 in the paper's code)."""

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the run, see `make_train`; None: one device.
            make_bonus: must be None: the bonus is RND's own.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        if make_bonus is not None:
            reject("agent", "rnd", "an agent without a bonus of its own")
        algorithm = self.agent.build(axis_name, partial(random_network_distillation, self))
        frames = algorithm.frames_per_step
        check_divides("num_predictor_minibatches", self.num_predictor_minibatches, "the frames of a rollout", frames)
        return algorithm

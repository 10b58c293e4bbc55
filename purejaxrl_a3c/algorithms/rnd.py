"""RND: any actor-critic with a bonus for what is new (random network distillation, Burda et al. 2018)."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from purejaxrl_a3c import checks
from purejaxrl_a3c.algorithms import a2c, a3c, impala, ppo
from purejaxrl_a3c.bonuses.rnd import random_network_distillation

AGENTS = (ppo.Config, a2c.Config, a3c.Config, impala.Config)


@dataclass(frozen=True)
class Config:
    """RND's settings, as in arXiv 1810.12894. Floats may be traced (``vmap`` over them), everything else is static."""

    agent: Any = field(default_factory=lambda: ppo.Config(gamma=0.999))
    """Who explores: settings of ppo, a2c, a3c or impala; their ``gamma`` is for the environment's rewards (0.999).
    On the command line it is ppo."""
    extrinsic_coefficient: float = 2.0
    """Weight of the advantages of the environment's rewards (2)."""
    intrinsic_coefficient: float = 1.0
    """Weight of the advantages of the bonus (1)."""
    intrinsic_gamma: float = 0.99
    """Discount factor a step of the bonus, which does not end with the episode (0.99)."""
    predictor_learning_rate: float = 1e-4
    """Of the predictor's Adam (1e-4)."""
    predictor_epochs: int = 4
    """Of the predictor over each rollout (4)."""
    predictor_minibatches: int = 4
    """In each pass (4)."""
    num_features: int = 64
    """Outputs of the random network (512, of convolutions)."""
    warm_up: int = 10
    """Rollouts of the untrained policy for the statistics of observations, before the run and not counted in its frames
    (50 in the paper's code)."""

    @property
    def env_id(self):
        """The agent's."""
        return self.agent.env_id

    @property
    def total_frames(self):
        """The agent's."""
        return self.agent.total_frames

    def build(self, axis_name=None):
        """The `Algorithm` of these settings.

        Args:
            axis_name: of the devices that share the work out, see `make_train`; None: there is one.

        Raises:
            InputError: naming the field, its value and what is accepted.
        """
        checks.check_fields(self, {})
        if not isinstance(self.agent, AGENTS):
            checks.reject("agent", self.agent, "a Config of ppo, a2c, a3c or impala")
        algorithm = self.agent.build(axis_name, partial(random_network_distillation, self))
        checks.check_divides(
            "predictor_minibatches", self.predictor_minibatches, "the frames of a rollout", algorithm.frames_per_step
        )
        return algorithm

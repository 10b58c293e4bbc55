"""What to minimise. Each function returns an `Objective` over the trajectories of ``B`` environments."""

from purejaxrl_a3c.objectives.off_policy_gradient import OFF_POLICY, off_policy_gradient
from purejaxrl_a3c.objectives.policy_gradient import policy_gradient
from purejaxrl_a3c.objectives.proximal import ppo_clip, ppo_kl
from purejaxrl_a3c.objectives.reinforce import BASELINES, in_a_whole_episode, reinforce
from purejaxrl_a3c.objectives.targets import Credit, bootstrap_values, extrinsic, successor_values

__all__ = [
    "BASELINES",
    "OFF_POLICY",
    "Credit",
    "bootstrap_values",
    "extrinsic",
    "in_a_whole_episode",
    "off_policy_gradient",
    "policy_gradient",
    "ppo_clip",
    "ppo_kl",
    "reinforce",
    "successor_values",
]

"""What to minimise: the losses, each as a function that returns an `Objective`.

A loss takes a `TargetEstimator`, which says which rewards count: `extrinsic` for the environment's, or a bonus's.
"""

from purejaxrl_a3c.objectives.config import Config
from purejaxrl_a3c.objectives.deterministic import (
    CategoricalConfig,
    DeterministicConfig,
    ValueKind,
    categorical_values,
    deterministic_gradients,
    scalar_values,
)
from purejaxrl_a3c.objectives.off_policy_gradient import OffPolicy, off_policy_gradient
from purejaxrl_a3c.objectives.policy_gradient import policy_gradient
from purejaxrl_a3c.objectives.proximal import ppo_clip, ppo_kl
from purejaxrl_a3c.objectives.reinforce import Baseline, in_a_whole_episode, reinforce
from purejaxrl_a3c.objectives.soft import SoftConfig, kind_of, soft_gradients
from purejaxrl_a3c.objectives.targets import bootstrap_values, extrinsic, successor_values
from purejaxrl_a3c.objectives.temporal_difference import chosen, clipped_error_loss, dqn_gradient, q_values

__all__ = [
    "Baseline",
    "CategoricalConfig",
    "Config",
    "DeterministicConfig",
    "OffPolicy",
    "SoftConfig",
    "ValueKind",
    "bootstrap_values",
    "categorical_values",
    "chosen",
    "clipped_error_loss",
    "deterministic_gradients",
    "dqn_gradient",
    "extrinsic",
    "in_a_whole_episode",
    "kind_of",
    "off_policy_gradient",
    "policy_gradient",
    "ppo_clip",
    "ppo_kl",
    "q_values",
    "reinforce",
    "scalar_values",
    "soft_gradients",
    "successor_values",
]

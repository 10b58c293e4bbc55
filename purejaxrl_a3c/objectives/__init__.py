"""What to minimise: the losses, each as a function that returns an `Objective`.

A loss takes a `TargetEstimator`, which says which rewards count and what returns bootstrap from: `extrinsic` for the
environment's rewards and the network's own values, or that of a bonus or a target network.
"""

from purejaxrl_a3c.objectives.config import Config, LambdaConfig, NStepConfig, QConfig
from purejaxrl_a3c.objectives.deterministic import (
    CategoricalConfig,
    DeterministicConfig,
    ValueKind,
    categorical_values,
    deterministic_gradients,
    scalar_values,
)
from purejaxrl_a3c.objectives.groups import GroupConfig
from purejaxrl_a3c.objectives.off_policy_gradient import OffPolicy, off_policy_gradient
from purejaxrl_a3c.objectives.policy_gradient import policy_gradient
from purejaxrl_a3c.objectives.proximal import Settings, ppo_clip, ppo_kl
from purejaxrl_a3c.objectives.q_learning import Bootstrap, double, greedy, next_values, q_learning, sarsa
from purejaxrl_a3c.objectives.recurrent import (
    Rescaling,
    burned_in,
    q_of_sequences,
    r2d2_gradient,
    sequence_targets,
    square_root_rescaling,
    successor_q,
)
from purejaxrl_a3c.objectives.reinforce import Baseline, in_a_whole_episode, reinforce
from purejaxrl_a3c.objectives.soft import SoftConfig, kind_of, soft_gradients
from purejaxrl_a3c.objectives.stale import Clip, StaleConfig
from purejaxrl_a3c.objectives.target_network import follow, no_target_network, target_network
from purejaxrl_a3c.objectives.targets import bootstrap_values, extrinsic, from_next_values, successor_values
from purejaxrl_a3c.objectives.temporal_difference import chosen, clipped_error_loss, dqn_gradient, q_values

__all__ = [
    "Baseline",
    "Bootstrap",
    "CategoricalConfig",
    "Clip",
    "Config",
    "DeterministicConfig",
    "GroupConfig",
    "LambdaConfig",
    "NStepConfig",
    "OffPolicy",
    "QConfig",
    "Rescaling",
    "Settings",
    "SoftConfig",
    "StaleConfig",
    "ValueKind",
    "bootstrap_values",
    "burned_in",
    "categorical_values",
    "chosen",
    "clipped_error_loss",
    "deterministic_gradients",
    "double",
    "dqn_gradient",
    "extrinsic",
    "follow",
    "from_next_values",
    "greedy",
    "in_a_whole_episode",
    "kind_of",
    "next_values",
    "no_target_network",
    "off_policy_gradient",
    "policy_gradient",
    "ppo_clip",
    "ppo_kl",
    "q_learning",
    "q_of_sequences",
    "q_values",
    "r2d2_gradient",
    "reinforce",
    "sarsa",
    "scalar_values",
    "sequence_targets",
    "soft_gradients",
    "square_root_rescaling",
    "successor_q",
    "successor_values",
    "target_network",
]

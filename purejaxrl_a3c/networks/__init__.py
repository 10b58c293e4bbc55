"""Policies and value functions. A network is a torso, a core and heads, and becomes a `Network` of pure functions."""

from purejaxrl_a3c.networks.config import BodyConfig, Config, ScaleConfig, TransformerConfig
from purejaxrl_a3c.networks.critics import Critics, CriticsConfig, make_critics
from purejaxrl_a3c.networks.heads import PolicyHead, action_noise
from purejaxrl_a3c.networks.make import make, make_deterministic_policy, make_policy, make_q, make_torso, with_heads

__all__ = [
    "BodyConfig",
    "Config",
    "Critics",
    "CriticsConfig",
    "PolicyHead",
    "ScaleConfig",
    "TransformerConfig",
    "action_noise",
    "make",
    "make_critics",
    "make_deterministic_policy",
    "make_policy",
    "make_q",
    "make_torso",
    "with_heads",
]

"""Policies and value functions. A network is a torso, a core and heads, and becomes a `Network` of pure functions."""

from purejaxrl_a3c.networks.config import BodyConfig, Config
from purejaxrl_a3c.networks.heads import PolicyHead, action_noise
from purejaxrl_a3c.networks.make import make, make_q, make_torso, with_heads

__all__ = ["BodyConfig", "Config", "PolicyHead", "action_noise", "make", "make_q", "make_torso", "with_heads"]

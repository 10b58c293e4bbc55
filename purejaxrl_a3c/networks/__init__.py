"""Policies and value functions. A network is a torso, a core and heads, and becomes a `Network` of pure functions."""

from purejaxrl_a3c.networks.config import Config
from purejaxrl_a3c.networks.heads import PolicyHead, action_noise
from purejaxrl_a3c.networks.make import make, make_torso

__all__ = ["Config", "PolicyHead", "action_noise", "make", "make_torso"]

"""Policies and value functions: a torso, a core and a head each, as a `Network` of pure functions."""

from purejaxrl_a3c.networks.make import CHOICES, PolicyHead, action_noise, make, make_torso
from purejaxrl_a3c.networks.torsos import Torso

__all__ = ["CHOICES", "PolicyHead", "Torso", "action_noise", "make", "make_torso"]

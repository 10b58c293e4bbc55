"""Configs: frozen dataclasses that nest by idea, are flat in use, and say beside each field which values it accepts.

A config may hold other configs: ``a3c.Config`` has an ``env``, a ``network`` and an ``optimizer``. Field names are
unique within such a nest, so every setting has one flat name, for `replace`, the command line and ``config.json``::

    config = replace(a3c.Config(), env_id="Breakout-MinAtar", torso="minatar", learning_rate=1e-3)

Floats may be arrays; everything else is static. A config is a pytree whose leaves are the arrays among its floats, so
a config that holds arrays passes through `jax.jit` and `jax.vmap`. Python numbers belong to the tree's structure.
"""

from purejaxrl_a3c.config.check import check, is_concrete
from purejaxrl_a3c.config.fields import (
    Bounds,
    Count,
    CountOrZero,
    NonNegative,
    Positive,
    PositiveOrInf,
    UnitInterval,
    bounds_of,
    field_types,
    is_config,
    is_float,
)
from purejaxrl_a3c.config.flat import flat, is_float_setting, parts, replace
from purejaxrl_a3c.config.json import from_json, to_json
from purejaxrl_a3c.config.tree import configuration, with_array_floats

__all__ = [
    "Bounds",
    "Count",
    "CountOrZero",
    "NonNegative",
    "Positive",
    "PositiveOrInf",
    "UnitInterval",
    "bounds_of",
    "check",
    "configuration",
    "field_types",
    "flat",
    "from_json",
    "is_concrete",
    "is_config",
    "is_float",
    "is_float_setting",
    "parts",
    "replace",
    "to_json",
    "with_array_floats",
]

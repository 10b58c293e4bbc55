"""Configs repeat fields, so that each can be read alone and every setting is one flat name: copies must not drift."""

import ast
import dataclasses
import inspect
import itertools
from typing import Any

import pytest

from purejaxrl_a3c import a2c
from purejaxrl_a3c.run.session import ALGORITHMS

# What means the same everywhere, network and environment, is documented and preset in the same words.
SHARED = [field.name for field in dataclasses.fields(a2c.Config)]
SHARED = [*SHARED[: SHARED.index("num_envs")], *SHARED[SHARED.index("torso") :]]


def documented(config_type):
    """{field: (type, default, docstring)} as written in the source."""
    body: Any = ast.parse(inspect.getsource(config_type)).body[0]
    pairs = itertools.pairwise(body.body)
    return {
        ast.unparse(field.target): (ast.unparse(field.annotation), ast.unparse(field.value), text.value.value)
        for field, text in pairs
        if isinstance(field, ast.AnnAssign) and field.value
    }


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_field_is_documented_and_shared_ones_alike(name):
    fields = documented(ALGORITHMS[name])
    assert list(fields) == [field.name for field in dataclasses.fields(ALGORITHMS[name])]
    if "core" in fields:
        theirs = documented(a2c.Config)
        assert {field: fields[field] for field in SHARED} == {field: theirs[field] for field in SHARED}

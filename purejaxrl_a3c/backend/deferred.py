"""Imports that are put off until a module is used."""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any


class Deferred(types.ModuleType):
    """A stand-in for a module; the module is imported when one of its attributes is first asked for."""

    def __getattr__(self, name: str) -> Any:
        """The attribute of the real module."""
        if sys.modules.get(self.__name__) is self:  # the attribute is asked for inside of `deferred`
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Within this context, an import of one of these modules binds a `Deferred`.

    After the context, imports are ordinary again, and a `Deferred` that was bound imports its module on first use.
    Modules that were imported before the context stay as they are.

    Args:
        names: dotted names of modules; a package before the modules in it.
    """
    placed = {name: Deferred(name) for name in names if name not in sys.modules}
    for name, module in placed.items():
        package, _, last = name.rpartition(".")
        if package in placed:
            setattr(placed[package], last, module)
        # Only of packages themselves: find_spec of a module in a package would import the package.
        elif spec := importlib.util.find_spec(name):
            module.__path__ = spec.submodule_search_locations or []  # "from package import ..." looks at it
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

"""Modules that are imported when they are used."""

import contextlib
import importlib.util
import sys
import types


class Deferred(types.ModuleType):
    """Stands for a module, which is imported when one of its attributes is first asked for."""

    def __getattr__(self, name):
        """The module's own."""
        if sys.modules.get(self.__name__) is self:  # asked for while imports are still deferred
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def deferred(*names):
    """While this lasts, importing these modules, or those of a package, binds a `Deferred`.

    Afterwards an import is an import again; whoever holds a `Deferred` gets the module from it. Modules that have been
    imported before stay as they are.

    Args:
        names: of modules, with dots; a package before what it contains.
    """
    placed = {name: Deferred(name) for name in names if name not in sys.modules}
    for name, module in placed.items():
        package, _, last = name.rpartition(".")
        if package in placed:
            setattr(placed[package], last, module)
        elif spec := importlib.util.find_spec(name):  # not of what a package contains: that would import the package
            module.__path__ = spec.submodule_search_locations or []  # "from package import ..." looks at it
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

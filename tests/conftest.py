import functools
import gc
import os
from typing import Any

# Most tests compile much and run little: without most of XLA's optimizations they take two thirds of the time. The
# processes that they start inherit this. Modules about numbers that an optimizer could get wrong ask for `optimized`.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest
from jax._src import compiler
from jax._src.interpreters import mlir
from jax.experimental.compilation_cache import compilation_cache

# Below jax 0.11, XLA's older emitter of fusions compiles in half the time. Processes that tests start get it from this
# variable; here `optimized` needs the newer one for a module, so the option is added wherever JAX asks for the others.
if jax.__version_info__ < (0, 11):
    # One LLVM module a program, not 32: a seventh less to do, and the other core has tests of its own.
    _flags = ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    if _has_presets := jax.__version_info__ >= (0, 10):  # an eighth less
        _flags.append("--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE")
    for _flag in _flags:
        if _flag not in os.environ.get("XLA_FLAGS", ""):
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}"
    _options: Any = compiler.get_compile_options

    def _by_kind(*args, **options):
        is_optimized = not jax.config.values["jax_disable_most_optimizations"]
        overrides: dict[str, Any] = {"xla_cpu_use_fusion_emitters": is_optimized}
        if _has_presets:
            overrides["xla_cpu_opt_preset"] = f"CPU_OPT_PRESET_{'DEFAULT' if is_optimized else 'FAST_COMPILE'}"
        overrides |= options.pop("env_options_overrides", None) or {}
        return _options(*args, **options, env_options_overrides=overrides)

    compiler.get_compile_options = _by_kind

# Every program, also that of a single addition, is lowered in a context of its own, which JAX keeps with the program.
# Making one takes half of the time that a small program takes to lower: with one for all, three modules of such tests
# took 84 to 95 s instead of 105 to 121, and 0.9 GB instead of 3.3. Threads may share it; a program that is lowered
# while another one is (a draw with a fixed key, by an environment) may not.
_new_context: Any = mlir.make_ir_context
_shared_context = functools.cache(_new_context)
mlir.make_ir_context = lambda: _shared_context() if mlir.ir.Context.current is None else _new_context()

# Tracing makes many objects that live long. Looking through them for cycles so often took a twelfth of the time.
gc.set_threshold(200_000, 20, 100)

# Tests of several devices need some; everything else runs on the first.
jax.config.update("jax_num_cpu_devices", 8)

# A silently broadcast [T] against [T, 1] is the classic way to compute a wrong loss.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """``fast_for("a2c")`` on a test of the contract battery: it is slow for every other config."""
    for item in items:
        names = item.get_closest_marker("fast_for")
        if names is not None and item.callspec.params["name"] not in names.args:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def optimized():
    """Compile as users do."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def _session_folder(factory):
    """The temporary folder of all processes that run tests."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture
def no_cache_in_the_home_folder(monkeypatch, tmp_path_factory):
    """Compiled programs of the command line go to a temporary folder, which the tests of one session share."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(_session_folder(tmp_path_factory) / "cache"))
    yield
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()  # otherwise JAX goes on using it

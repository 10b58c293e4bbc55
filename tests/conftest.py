import jax
import pytest

# Tests of several devices need some; everything else runs on the first.
jax.config.update("jax_num_cpu_devices", 8)

# A silently broadcast [T] against [T, 1] is the classic way to compute a wrong loss.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def quick_compilation():
    """Compile without most of XLA's optimizations.

    Modules whose tests compile much and run little take two thirds of the time then. Others stay optimized, as users'
    programs are.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)

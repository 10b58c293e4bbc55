"""Wrong numbers from the compiler itself: why pyproject.toml excludes jax 0.10.0 and 0.10.2.

Each canary is the smallest reproduction. Should one fail on a version that is not excluded, exclude it. The first
passes on jax 0.10.0 too on the x86-64 processor that it was tried on.
"""

import pytest

from purejaxrl_a3c.run.canaries import CANARIES

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.mark.parametrize("name", CANARIES)
def test_the_compiler_computes_what_it_is_told(name):
    assert CANARIES[name]()

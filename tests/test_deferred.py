import subprocess
import sys

import pytest

from purejaxrl_a3c.backend.deferred import Deferred, deferred


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``drawing`` with a module ``drawing.pens``, neither imported."""
    (tmp_path / "drawing").mkdir()
    (tmp_path / "drawing" / "__init__.py").write_text("from drawing import pens\ninks = pens.colors + 1\n")
    (tmp_path / "drawing" / "pens.py").write_text("colors = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("drawing", "drawing.pens"):
        sys.modules.pop(name, None)


def test_a_module_is_imported_when_it_is_used(package):
    with deferred("drawing", "drawing.pens"):
        import drawing
        import drawing.pens as pens
        from drawing import pens as also_pens
    assert isinstance(drawing, Deferred)
    assert pens is also_pens
    assert "drawing" not in sys.modules
    assert "drawing.pens" not in sys.modules
    assert (pens.colors, drawing.inks) == (3, 4)
    import drawing as real

    assert not isinstance(real, Deferred)
    assert real.pens is sys.modules["drawing.pens"]


def test_it_may_be_used_already_while_imports_are_deferred(package):
    with deferred("drawing", "drawing.pens"):
        import drawing

        assert drawing.inks == 4
    assert not isinstance(sys.modules["drawing"], Deferred)


def test_what_is_imported_already_stays(package):
    import drawing as real

    with deferred("drawing", "drawing.pens"):
        import drawing
    assert drawing is real


def test_making_an_environment_imports_nothing_to_draw_with_and_gymnax_can_draw_all_the_same():
    program = """
import sys
from purejaxrl_a3c import a2c
a2c.Config().build()
print([name for name in ("matplotlib", "pandas", "scipy.stats", "seaborn") if name in sys.modules])
import gymnax.environments.misc.pong as pong
print(pong.plt.Figure.__name__, pong.sns.color_palette("tab10")[0][0] > 0)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n") == ["[]", "Figure True", ""]


def test_the_command_line_imports_only_what_every_command_needs():
    heavy = ("gymnasium", "gymnax", "imageio", "IPython", "matplotlib", "orbax", "pandas", "ray", "scipy")
    program = f"""
import sys
import purejaxrl_a3c.run.cli
print([name for name in {heavy} if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"

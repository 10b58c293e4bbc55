"""What the documentation says is true: code runs, commands parse, figures were measured, links lead somewhere."""

import importlib
import importlib.util
import inspect
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

import purejaxrl_a3c
from benchmarks.claims.__main__ import PAGE, page
from purejaxrl_a3c import a3c, make_train, replace
from purejaxrl_a3c.envs import SUITES
from purejaxrl_a3c.run import arguments, checkpoint, sweep_request
from purejaxrl_a3c.run.flags import flags_of
from purejaxrl_a3c.run.folder import record
from purejaxrl_a3c.run.options import Options

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PAGES += sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks").glob("**/*.md") if "results" not in path.parts
)
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("**/*.md"))

MOST_WORDS = 900
"""Of the README."""
SCALED_DOWN = {"500_000": "2_560", "100_000": "2_560", "50_000": "2_560", "episodes=128": "episodes=8"}
"""Texts in the pages' Python to what runs here instead: every line runs, but for few frames."""
TESTED_ALONE = ("README.md", "CONTRIBUTING.md")
"""Pages with tests of their own, which run their Python too."""


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)


def run_blocks(name: str, folder: Path) -> ModuleType:
    """The module that all Python blocks of a page make together, in order."""
    source = "\n".join(blocks(name, "python"))
    for text, smaller in SCALED_DOWN.items():
        source = source.replace(text, smaller)
    path = folder / "documented.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where `inspect` looks for the source of a class
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module


@pytest.mark.parametrize("name", [name for name in PAGES if blocks(name, "python") and name not in TESTED_ALONE])
def test_python_in_a_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = "".join(blocks(name, "python"))
    for folder in re.findall(r'load\("([^"]*)"\)', source):
        config = replace(a3c.Config(), total_frames=640)
        state = make_train(config)(jax.random.key(0)).state
        checkpoint.write(Path(folder), state, record("a3c", config, {"seed": 0}))
    run_blocks(name, tmp_path)


def test_the_readme_shows_what_it_says(tmp_path):
    shown = run_blocks("README.md", tmp_path)
    assert len(shown.returns) == 128
    assert shown.seeds.metrics.frames.shape[0] == 8
    last = [np.asarray(x) for x in jax.tree.leaves(shown.sweep.state.learner.params)]
    assert all(x.shape[0] == 4 for x in last)
    assert any(len(np.unique(x.reshape(4, -1), axis=0)) == 4 for x in last), "each rate trains another agent"


def test_the_algorithm_in_contributing_trains_and_is_ready_for_the_command_line(tmp_path, monkeypatch):
    shown = run_blocks("CONTRIBUTING.md", tmp_path)
    assert np.isfinite(shown.sweep.metrics.losses["policy_loss"]).all()
    monkeypatch.setitem(sys.modules, "documented", shown)
    assert "temperature" in inspect.get_annotations(shown.Config)
    assert flags_of("soft-a2c", shown.Config(), Options()) is not None


@pytest.mark.parametrize("name", PAGES)
def test_commands_in_a_page_parse(name):
    for line in "\n".join(blocks(name, "bash")).splitlines():
        _, found, rest = line.partition("uv run ")
        words = shlex.split(rest if found else line)
        if words[:1] == ["purejaxrl-a3c"]:
            _check_command(words[1:])
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]), line


def _check_command(words: list[str]) -> None:
    if words[0] == "train" and words[-1] == "--help":
        with pytest.raises(SystemExit) as ended:
            arguments.parse_train(words)
        assert ended.value.code == 0
    elif "--resume" in words or "--config" in words:
        at = words.index("--resume" if "--resume" in words else "--config")  # what is named there does not exist here
        arguments.parse_train(words[:at] + words[at + 2 :])
    elif words[0] == "sweep":
        sweep_request.parse(words[1:])
    elif words[0] == "train":
        arguments.parse_train(words)
    elif words[0] == "evaluate":
        arguments.parse_evaluate(words[1:])
    elif words[0] == "export":
        arguments.parse_export(words[1:])
    elif words[0] == "watch":
        arguments.parse_watch(words[1:])
    elif words[0] == "doctor":
        arguments.parse_doctor(words[1:])
    elif words[0] == "compare":
        arguments.parse_compare(words[1:])
    else:
        assert words[0] == "envs"
        assert set(words[1:]) <= set(SUITES)


def test_the_first_commands_of_the_readme_are_the_promised_ones():
    assert blocks("README.md", "bash")[:2] == [
        "pip install uv && uv run purejaxrl-a3c train\n",
        "uv run pytest\n",
    ]


@pytest.mark.parametrize("name", PAGES)
def test_commands_do_not_need_the_program_on_the_path(name):
    assert not re.search(r"^purejaxrl-a3c", "".join(blocks(name, "bash")), re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_modules_named_in_a_page_exist(name):
    for module in re.findall(r"\b(?:python -m )?(benchmarks(?:\.\w+)+)\b", (ROOT / name).read_text()):
        assert importlib.util.find_spec(module) or _is_attribute(module), module


def _is_attribute(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    return hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", PAGES)
def test_files_named_in_a_page_exist(name):
    for file in re.findall(r"`([\w./]+\.py)`", (ROOT / name).read_text()):
        folders = (ROOT, ROOT / "purejaxrl_a3c", (ROOT / name).parent)
        assert file == "purejaxrl_a3c/algorithms/soft_a2c.py" or any((folder / file).exists() for folder in folders), (
            file
        )


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= MOST_WORDS


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_in_the_tables_is_one_that_a_script_wrote(name):
    written = {
        line for path in (ROOT / "benchmarks" / "results").glob("**/*.md") for line in path.read_text().splitlines()
    }
    rows = [line for line in (ROOT / name).read_text().splitlines() if _is_measured(line)]
    assert [row for row in rows if row not in written] == []


@pytest.mark.parametrize(
    "name", ["README.md", "benchmarks/learning.md", "benchmarks/speed.md", "benchmarks/devices.md"]
)
def test_pages_with_results_have_measured_rows(name):
    assert sum(map(_is_measured, (ROOT / name).read_text().splitlines())) >= 8


def _is_measured(line: str) -> bool:
    cells = [cell.strip() for cell in line.split("|")]
    return line.startswith("|") and "`" not in line and any(re.match(r"-?[\d.,]+( \(|$)", cell) for cell in cells[2:])


def test_the_page_of_the_claims_says_what_the_scripts_wrote():
    assert PAGE.read_text() == page()


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_a_file_and_a_heading(name):
    path = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), target
        if heading:
            assert heading in _headings(there), target


def _headings(path: Path) -> list[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_every_public_name_is_documented():
    for name in purejaxrl_a3c.__all__:
        assert name == "__version__" or inspect.getdoc(getattr(purejaxrl_a3c, name)), name


def test_the_citation_names_this_version():
    version = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert version is not None
    assert version[1] == purejaxrl_a3c.__version__

"""The pages about the algorithms say what configs, code and results say."""

import re
from typing import Any

import jax.numpy as jnp
import pytest

from benchmarks import pages
from purejaxrl_a3c import InputError, envs, networks, replace, rnd
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.networks.make import CORES
from purejaxrl_a3c.run.algorithms import ALGORITHMS
from purejaxrl_a3c.types import ActionSpace, Env, TimeStep

SPACES: dict[str, ActionSpace] = {
    "discrete": spaces.Discrete(2),
    "continuous": spaces.Continuous(2),
    "multi-discrete": spaces.MultiDiscrete((2, 3)),
}
NAMES = sorted({"rnd" if name.startswith("rnd-") else name.replace("-", "_") for name in ALGORITHMS})


def env_of(space: ActionSpace) -> Env:
    """An environment with these actions, in which nothing happens."""
    obs, zero, no = jnp.zeros(4), jnp.float32(0), jnp.bool_(False)
    return Env(lambda key: ((), obs), lambda key, state, action: ((), TimeStep(obs, zero, no, no, obs)), (4,), space)


def accepts(config: Any, **changes: Any) -> bool:
    """Whether the algorithm can be built with these settings."""
    try:
        replace(config, **changes).build()
    except InputError:
        return False
    return True


def abilities(name: str) -> dict[str, str]:
    """The table of what an algorithm can do, as it stands on its page."""
    text = (pages.FOLDER / f"{name}.md").read_text()
    section = text.partition("\n## What it can do\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE))


def test_every_algorithm_has_a_page_and_is_in_the_index():
    index = (pages.FOLDER / "README.md").read_text()
    assert sorted(pages.PAGES) == NAMES
    assert sorted(path.stem for path in pages.FOLDER.glob("*.md")) == sorted([*NAMES, "README"])
    assert sorted(re.findall(r"^\| \[.*\]\((\w+)\.md\)", index, re.MULTILINE)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_settings_and_results_of_a_page_are_those_of_now(name):
    text = (pages.FOLDER / f"{name}.md").read_text()
    assert text == pages.page_text(name), "run python -m benchmarks.pages"


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_which_actions_cores_and_bonus_are_accepted(name):
    config, said = pages.PAGES[name], abilities(name)
    kinds = set(re.sub(r" \(.*?\)", "", said["actions"]).split(", "))
    assert kinds == {kind for kind, space in SPACES.items() if accepts(config, env_id=env_of(space))}
    cores = [name for name in CORES if name != "feed_forward"]
    assert re.findall(r"`(\w+)`", said["recurrent cores"]) == [name for name in cores if accepts(config, core=name)]
    assert said["bonus"].startswith("yes") == accepts(rnd.Config(), agent=config)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_promises_environments_outside_of_jax_only_where_they_are_not_refused(name):
    refused = pages.PAGES[name].build().outside.refusal is not None
    assert not (refused and abilities(name)["environments outside of JAX"].startswith("yes"))


def test_a_page_lists_each_setting_where_it_belongs():
    listed = {name: {setting for setting, _, _ in pages.settings_of(name, pages.PAGES[name])} for name in NAMES}
    assert {"learning_rate", "correction", "service_law"} <= listed["a3c"]
    assert not {"env_id", "hidden_sizes", "queue_capacity"} & listed["a3c"]  # the guide's, and IMPALA's
    assert listed["d4pg"] >= {"num_atoms", "n_step"}
    assert "batch_size" not in listed["d4pg"]  # as in TD3
    everywhere = flat(envs.Config()).keys() | flat(networks.BodyConfig()).keys()
    for config in pages.PAGES.values():
        assert flat(config).keys() - everywhere <= set().union(*listed.values())


def test_a_page_without_its_marks_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a2c.md").write_text("<!-- settings -->\n")
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"a2c\.md"):
        pages.page_text("a2c")


def test_results_come_with_their_command_and_an_algorithm_without_any_says_so(tmp_path, monkeypatch):
    assert "`python -m benchmarks.learning rnd --sample`" in pages.measured("rnd")
    monkeypatch.setattr(pages.record, "RESULTS", tmp_path)
    assert pages.measured("rnd") == pages.NOTHING

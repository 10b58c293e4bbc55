"""Environments of one's own: the ways to write one in docs/environments.md, and what `doctor` says of faulty ones."""

import json
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_documentation import blocks

from purejaxrl_a3c import InputError, a2c, envs, evaluate, host, make_train, replace
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.run import cli
from purejaxrl_a3c.run.env_checks import check_env, check_outside_env
from purejaxrl_a3c.types import Env, TimeStep

pytestmark = pytest.mark.usefixtures("no_cache_in_the_home_folder")
WAYS = blocks("docs/environments.md", "python")
QUICK = {"total_frames": 8_000, "num_envs": 16, "rollout_length": 16, "learning_rate": 5e-3, "hidden_sizes": (16,)}


@pytest.fixture
def corridors(request, tmp_path, monkeypatch):
    """A module ``corridors`` in the working folder, written as the page says."""
    (tmp_path / "corridors.py").write_text(WAYS[request.param])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "corridors", raising=False)
    yield tmp_path
    sys.modules.pop("corridors", None)


@pytest.mark.parametrize("corridors", [0, 1], indirect=True, ids=["functions", "gymnax"])
def test_an_environment_of_ones_own_is_checked_and_learned(corridors):
    checks = list(check_env("corridors:make_env"))
    assert [check.wrong for check in checks] == [""] * len(checks)
    assert len(checks) == 7
    config = replace(a2c.Config(), env_id="corridors:make_env", **QUICK)
    result = jax.jit(make_train(config))(jax.random.key(0))
    assert evaluate(config, result, jax.random.key(1), 32, deterministic=True).mean() == 1.0


@pytest.mark.parametrize("corridors", [1], indirect=True)
def test_parameters_of_a_class_of_gymnax_are_settings(corridors):
    config = replace(a2c.Config(), env_id="corridors:make_env", env_params={"length": 4})
    env = envs.make(config.env, 1.0)
    state, _ = env.reset(jax.random.key(0))
    for _ in range(3):
        state, step = env.step(jax.random.split(jax.random.key(1)), state, jnp.int32(1))
        if step.terminated:
            break
    assert step.terminated
    assert step.reward == 1
    with pytest.raises(InputError, match="env_params: 'width'"):
        envs.make(replace(config, env_params={"width": 1}).env, 1.0)


@pytest.mark.parametrize("corridors", [2], indirect=True)
def test_a_class_of_gymnasium_is_checked_and_trained_in(corridors, monkeypatch):
    monkeypatch.syspath_prepend(str(corridors))
    assert not any(check.wrong for check in check_outside_env("gym/corridors:Corridor-v0"))
    config = replace(a2c.Config(), env_id="gym/corridors:Corridor-v0", **QUICK | {"total_frames": 512})
    assert host.train(config, jax.random.key(0)).metrics.frames[-1] == 512


@pytest.mark.parametrize("corridors", [0], indirect=True)
def test_the_command_line_trains_in_it_resumes_and_checks(corridors, capsys):
    small = ["--num-envs", "4", "--rollout-length", "8", "--hidden-sizes", "8", "--evaluation-episodes", "2"]
    run = ["train", "a2c", "--env-id", "corridors:make_env", "--total-frames", "64", *small, "--out", "run"]
    with (corridors / "corridors.py").open("a") as file:
        file.write("\nmake_another = make_env\n")
    cli.main(run)
    cli.main(["train", "--resume", "run", "--total-frames", "96"])
    assert len((corridors / "run" / "metrics.csv").read_text().splitlines()) == 4
    capsys.readouterr()
    cli.main(["evaluate", "run", "--env-id", "corridors:make_another", "--json"])
    assert json.loads(capsys.readouterr().out)["env_id"] == "corridors:make_another"
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "run", "--env-id", "CartPole-v1"])
    assert "observation_shape (10,), as in training" in capsys.readouterr().err
    cli.main(["doctor", "--env", "corridors:make_env"])
    assert "wrong" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "--env", "corridors:nothing"])
    assert ended.value.code == 1
    assert "corridors has no function nothing" in capsys.readouterr().out


def test_doctor_says_what_is_installed_and_that_jax_computes_rightly(capsys):
    cli.main(["doctor"])
    said = capsys.readouterr().out
    assert jax.__version__ in said
    assert said.count("ok  ") == 2


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("no_such_module:make", "No module named 'no_such_module'"),
        ("os.path:nothing", "os.path has no function nothing"),
        ("os.path:getcwd", "getcwd"),
        ("os:getcwd", "not str"),
        (":make", "my_module:make_env"),
        (".os:make", "my_module:make_env"),
    ],
)
def test_what_is_no_environment_of_ones_own_is_said(env_id, message):
    with pytest.raises(InputError, match=message):
        envs.make_episodic(env_id)


def reset(key):
    place = jax.random.randint(key, (), 0, 3)
    return place, jnp.zeros(2) + place


def answer(place, obs=None, reward=0.0, terminated=False, truncated=False):
    obs = jnp.zeros(2) + place if obs is None else obs
    ends = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
    return place, TimeStep(obs, jnp.float32(reward), *ends, final_obs=obs)


def numbers_of_python(key, state, action):
    obs, ends = jnp.zeros(2) + state + 1, state >= 5
    one: Any = 1
    return state + 1, TimeStep(obs, one, ends, one == 0, final_obs=obs)


def test_numbers_of_python_are_as_good_as_arrays():
    env = Env(reset, numbers_of_python, (2,), spaces.Discrete(2))
    checks = list(check_env(env))
    assert not any(check.wrong for check in checks)
    assert "4 to 6 steps long" in checks[-1].note
    config = replace(a2c.Config(), env_id=env, **QUICK | {"total_frames": 512})
    returns = evaluate(config, make_train(config)(jax.random.key(0)), jax.random.key(1), 8)
    assert set(np.asarray(returns).tolist()) <= {4.0, 5.0, 6.0}


def test_a_typed_key_in_the_state_is_found_before_a_run_is_to_be_written(tmp_path, capsys):
    def keep(key):
        return key, jnp.zeros(2)

    def step(key, state, action):
        return key, answer(jnp.int32(0))[1]

    *_, last = check_env(Env(keep, step, (2,), spaces.Discrete(2)))
    assert "jax.random.key_data" in last.wrong


calls: list[int] = []


def impure(key, state, action):
    calls.append(1)
    return answer(state + 1, reward=float(len(calls)))


def depends_on_tracing(key, state, action):
    return answer(state + 1, reward=isinstance(key, jax.core.Tracer))


def never_again(key, state, action):
    return answer(state + 1, reward=jnp.where(state > 20, jnp.nan, 0.0), terminated=False)


FAULTS = {
    "another shape": (lambda key, state, action: answer(state, jnp.zeros(3)), r"obs float32\[3\]"),
    "another dtype": (lambda key, state, action: answer(state + 0.5), "in reset and float32"),
    "not pure": (impure, "called again with the same arguments, .*reward differs"),
    "another under jit": (depends_on_tracing, "under jit, .*reward differs"),
    "NaN": (never_again, "not finite, first at step"),
    "both ends": (lambda key, state, action: answer(state + 1, terminated=True, truncated=True), "both"),
    "an error": (lambda key, state, action: 1 / 0, "ZeroDivisionError"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_doctor_finds(name):
    step, message = FAULTS[name]
    env = Env(reset, step, (2,), spaces.Discrete(2))
    if name == "another shape":
        with pytest.raises(InputError, match=message):
            make_train(replace(a2c.Config(), env_id=env))(jax.random.key(0))
    *_, last = check_env(env)
    assert re.search(message, last.wrong), last


def test_doctor_says_that_episodes_never_end():
    *_, last = check_env(Env(reset, lambda key, state, action: answer(state + 1), (2,), spaces.Discrete(2)))
    assert not last.wrong
    assert "time_limit" in last.note


def test_doctor_finds_a_wrong_number_outside_of_jax(tmp_path, monkeypatch):
    gymnasium: Any = pytest.importorskip("gymnasium")

    class Broken(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.full(1, np.nan, np.float32), 0.0, False, False, {}

    monkeypatch.setitem(gymnasium.registry, "Broken-v0", gymnasium.envs.registration.EnvSpec("Broken-v0", Broken))
    *_, last = check_outside_env("gym/Broken-v0")
    assert "observation that is not finite" in last.wrong

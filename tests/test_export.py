"""Tests of policies for programs without this package."""

import json
import subprocess
import sys
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import InputError, a3c, dqn, load_policy, make_act, make_train, ppo, replace
from purejaxrl_a3c.run import checkpoint
from purejaxrl_a3c.run.cli import main
from purejaxrl_a3c.run.export import export_policy
from purejaxrl_a3c.run.folder import record

pytestmark = pytest.mark.usefixtures("no_cache_in_the_home_folder")

SMALL: dict[str, Any] = {"hidden_sizes": (8, 6), "total_frames": 640}
CONFIGS: dict[str, Any] = {
    "a3c": replace(a3c.Config(), **SMALL),
    "ppo": replace(
        ppo.Config(),
        env_id="Pendulum-v1",
        num_envs=4,
        rollout_length=16,
        core="gru",
        num_cells=5,
        frame_stack=2,
        normalize_observations=True,
        **SMALL,
    ),
    "dqn": replace(dqn.Config(), env_id="Breakout-MinAtar", learning_starts=100, torso="minatar", **SMALL),
}


def write(folder, name, **changes):
    """The folder of a run with a trained policy."""
    config = replace(CONFIGS[name], **changes)
    state = jax.jit(make_train(config))(jax.random.key(0)).state
    checkpoint.write(folder, state, record(name, config, {"seed": 0}))
    return state


@pytest.mark.parametrize("name", CONFIGS)
def test_an_exported_policy_is_the_trained_one(name, tmp_path):
    state = write(tmp_path / "run", name)
    export_policy(tmp_path / "run", tmp_path / "out", ("stablehlo",))
    policy, act = load_policy(tmp_path / "out"), make_act(CONFIGS[name], state)
    shape = json.loads((tmp_path / "out" / "policy.json").read_text())["obs"]["shape"]
    carry = expected_carry = None
    for step in range(3):
        obs = jax.random.normal(jax.random.key(step), (5, *shape)) if name != "dqn" else _image(step, shape)
        first = jnp.arange(5) == step if step else None  # one episode begins anew
        actions, carry = policy(obs, carry, first)
        expected, expected_carry = act(obs, expected_carry, first)
        np.testing.assert_allclose(actions, expected, atol=1e-6)
        for x, y in zip(carry, jax.tree.leaves(expected_carry), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)
    assert policy(obs[:2])[0].shape[0] == 2  # of any number


def _image(seed, shape):
    return jax.random.bernoulli(jax.random.key(seed), 0.3, (5, *shape))


# Trained for one iteration only: what is asked is whether every operation of a core has its counterpart.
SHORT: dict[str, Any] = {"num_envs": 1, "num_minibatches": 1, "epochs": 1, "total_frames": 16}
CORES: dict[str, dict[str, Any]] = {
    "gru": {},
    "min_gru": SHORT,
    "lru": SHORT,
    "transformer": SHORT | {"num_cells": 4, "num_attention_heads": 2, "memory_window": 2},
}


@pytest.mark.parametrize("core", [pytest.param(c, marks=[pytest.mark.slow] * (c in ("min_gru", "lru"))) for c in CORES])
def test_a_model_of_onnx_is_the_trained_policy(core, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    changes = CORES[core] | {"core": core}
    act = make_act(replace(CONFIGS["ppo"], **changes), write(tmp_path / "run", "ppo", **changes))
    path, description = export_policy(tmp_path / "run", tmp_path, ("onnx",))
    told = json.loads(description.read_text())
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options)
    names = [one.name for one in session.get_inputs()]
    assert names[:2] == ["obs", "first"]
    assert [one.name for one in session.get_outputs()] == ["action", *(f"next_{name}" for name in names[2:])]
    expected_carry, carry = None, [np.zeros((5, *one["shape"]), one["dtype"]) for one in told["carry"]]
    for step in range(3):
        obs = jax.random.normal(jax.random.key(step), (5, 3))
        first = np.arange(5) == step if step else np.ones(5, bool)
        actions, *carry = session.run(None, dict(zip(names, [np.asarray(obs), first, *carry], strict=True)))
        expected, expected_carry = act(obs, expected_carry, first)
        np.testing.assert_allclose(actions, expected, atol=1e-6)
        for x, y in zip(carry, jax.tree.leaves(expected_carry), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


def test_a_program_needs_nothing_but_jax(tmp_path):
    state = write(tmp_path / "run", "a3c")
    main(["export", str(tmp_path / "run"), "--out", str(tmp_path)])
    script = textwrap.dedent("""
        import json, sys
        from pathlib import Path
        import jax, jax.numpy as jnp
        from jax import export
        told = json.loads(Path("policy.json").read_text())
        program = export.deserialize(bytearray(Path("policy.stablehlo").read_bytes())).call
        carry = [jnp.zeros((3, *one["shape"]), one["dtype"]) for one in told["carry"]]
        actions, carry = program(jnp.linspace(-1, 1, 12).reshape(3, 4), carry, jnp.ones(3, bool))
        assert not any(name.startswith("purejaxrl") for name in sys.modules)
        print(actions.tolist())
    """)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected, _ = make_act(CONFIGS["a3c"], state)(jnp.linspace(-1, 1, 12).reshape(3, 4))
    assert json.loads(done.stdout) == expected.tolist()


def test_arrays_are_enough_for_numpy(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    state = write(tmp_path / "run", "a3c")
    (path,) = export_policy(tmp_path / "run", tmp_path, ("safetensors",))
    arrays = numpy.load_file(path)
    x = obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    layers = sorted(name for name in arrays if name.startswith("policy_body") and name.endswith("kernel"))
    for kernel in layers:
        x = np.tanh(x @ arrays[kernel] + arrays[kernel.replace("kernel", "bias")])
    (head,) = [name for name in arrays if name.startswith("policy") and name.endswith("kernel") and name not in layers]
    logits = x @ arrays[head] + arrays[head.replace("kernel", "bias")]
    actions, _ = make_act(CONFIGS["a3c"], state)(jnp.asarray(obs))
    assert len(layers) == 2
    np.testing.assert_array_equal(logits.argmax(1), actions)
    with numpy_header(path) as about:
        assert json.loads(about["config"])["hidden_sizes"] == [8, 6]


def numpy_header(path):
    import contextlib

    from safetensors import safe_open

    @contextlib.contextmanager
    def header():
        with safe_open(path, "np") as file:
            yield file.metadata()

    return header()


def test_statistics_of_observations_are_among_the_arrays(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    write(tmp_path / "run", "ppo")
    (path,) = export_policy(tmp_path / "run", tmp_path, ("safetensors",))
    arrays = numpy.load_file(path)
    assert arrays["observations.mean"].shape == (6,)  # two frames of Pendulum
    assert np.abs(arrays["observations.mean"]).sum() > 0


def test_nothing_is_overwritten_and_what_is_not_there_is_said(tmp_path):
    write(tmp_path / "run", "a3c")
    export_policy(tmp_path / "run", tmp_path / "run", ("stablehlo",))
    with pytest.raises(InputError, match=r"out: .*without policy\.stablehlo"):
        export_policy(tmp_path / "run", tmp_path / "run", ("stablehlo",))
    policy = load_policy(tmp_path / "run")
    with pytest.raises(InputError, match=r"obs: \(3,\).*\[N, 4\]"):
        policy(np.zeros(3))
    with pytest.raises(InputError, match="folder: "):
        load_policy(tmp_path)

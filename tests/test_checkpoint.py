"""Checkpoints on disk. That a run goes on from one as if never interrupted is in the contract battery."""

import shutil
from typing import Any

import jax
import numpy as np
import pytest

from purejaxrl_a3c import a2c, a3c, devices
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import from_json, replace, to_json
from purejaxrl_a3c.run import checkpoint
from purejaxrl_a3c.run.chunks import compile_run, run_in_chunks

KEY = jax.random.key(0)
CONFIG = replace(
    a3c.Config(), num_workers=4, envs_per_worker=1, rollout_length=5, hidden_sizes=(4,), total_frames=4 * 5 * 8
)


@pytest.fixture(scope="module")
def run():
    return compile_run(CONFIG)


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """A folder with checkpoints after iterations 4 and 6 of 8, and the states of both and of the end."""
    folder, states = tmp_path_factory.mktemp("run"), {}
    for chunk in run_in_chunks(run, KEY, every=[2]):
        states[int(chunk.state.iteration)] = jax.device_get(chunk.state)
        if chunk.state.iteration in (2, 4, 6):
            checkpoint.write(folder, chunk.state, {"algorithm": "a3c", "seed": 0, "config": to_json(CONFIG)})
    return folder, states


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_equal(a, b, **tolerance: Any):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **({"rtol": 0, "atol": 0} | tolerance)), a, b)


def test_the_last_two_checkpoints_stay_and_the_last_one_is_read(run, written):
    folder, states = written
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["4", "6"]
    before = contents(folder)
    assert_equal(checkpoint.read_state(checkpoint.find(folder), run.state), states[6])
    assert from_json(a3c.Config, checkpoint.read_record(checkpoint.find(folder))["config"]) == CONFIG
    assert contents(folder) == before


def test_a_run_goes_on_on_another_number_of_devices(run, written):
    folder, states = written
    many = compile_run(CONFIG, devices.spread(CONFIG, jax.devices()[:2]))
    state = checkpoint.read_state(checkpoint.find(folder), many.state)
    assert len(state.learner.snapshots["policy_head"]["params"]["logits"]["kernel"].sharding.device_set) == 2
    assert_equal(jax.device_get(state), states[6])
    *_, last = run_in_chunks(many, KEY, state)
    learned = jax.device_get(last.state.learner.params)
    assert_equal(learned, states[8].learner.params, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_that_was_not_finished_is_as_if_it_were_not_there(run, written, tmp_path):
    folder, states = written
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoints" / "6" / "digests.json").unlink()
    assert_equal(checkpoint.read_state(checkpoint.find(tmp_path), run.state), states[4])
    shutil.rmtree(tmp_path / "checkpoints" / "4")
    with pytest.raises(InputError, match=r"^resume: .*a finished checkpoint"):
        checkpoint.read_state(checkpoint.find(tmp_path), run.state)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "removed", "added"])
def test_a_damaged_checkpoint_is_passed_over_and_left_untouched(run, written, tmp_path, damage):
    folder, states = written
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    files = sorted(path for path in (tmp_path / "checkpoints" / "6").rglob("*") if path.is_file())
    largest = max(files, key=lambda path: path.stat().st_size)
    data = largest.read_bytes()
    if damage == "truncated":
        largest.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        largest.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    elif damage == "removed":
        largest.unlink()
    else:
        (largest.parent / "more").write_text("")
    before = contents(tmp_path)
    found = checkpoint.find(tmp_path)
    assert found.iteration == 4
    assert list(found.damaged) == [6]
    assert_equal(checkpoint.read_state(found, run.state), states[4])
    assert contents(tmp_path) == before
    shutil.rmtree(tmp_path / "checkpoints" / "4")
    with pytest.raises(InputError, match=r"^resume: .*as it was written \(checkpoints/6: .* is not as it was written"):
        checkpoint.find(tmp_path)


def test_the_state_of_another_run_is_refused(written):
    folder, _ = written
    other = jax.eval_shape(replace(CONFIG, hidden_sizes=(5,)).build().init, KEY)
    with pytest.raises(InputError, match=r"^resume: .*learner\.opt_state.* is .*\(55,\).* there, .*\(68,\).* here"):
        checkpoint.read_state(checkpoint.find(folder), other)
    other = jax.eval_shape(replace(a2c.Config(), hidden_sizes=(4,)).build().init, KEY)
    with pytest.raises(InputError, match=r"^resume: .* there, .* here"):
        checkpoint.read_state(checkpoint.find(folder), other)

"""Tests of the loggers of the command line."""

import csv
import itertools
import struct
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import InputError
from purejaxrl_a3c.run.cli import main
from purejaxrl_a3c.run.loggers import check_loggers, means
from purejaxrl_a3c.types import Metrics

pytestmark = pytest.mark.usefixtures("no_cache_in_the_home_folder")

RUN = ["train", "a3c", "--env-id", "Catch-bsuite", "--hidden-sizes", "8", "--total-frames", "4000"]
RUN += ["--evaluation-episodes", "3", "--evaluate-every-frames", "2000"]


def events(folder):
    """(step, name, value) of every scalar in TensorBoard's files, which hold a length, the event and checksums."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    for path in folder.glob("events*"):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            yield from ((event.step, value.tag, value.simple_value) for value in event.summary.value)


def test_tensorboard_gets_what_the_metrics_say(tmp_path):
    out = tmp_path / "run"
    main([*RUN, "--logger", "tensorboard", "--out", str(out)])
    with (out / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = list(events(out / "tensorboard"))
    norms = {step: value for step, name, value in found if name == "gradient_norm"}
    # One point is the mean of some rows.
    steps = [0, *norms]
    assert steps[-1] == int(rows[-1]["frames"])
    for before, step in itertools.pairwise(steps):
        some = [float(row["gradient_norm"]) for row in rows if before < int(row["frames"]) <= step]
        np.testing.assert_allclose(norms[step], np.mean(some), rtol=1e-4)
    names = {name for _, name, _ in found}
    assert {"episode_return", "staleness_mean", "evaluation_return_mean"} <= names


def test_weights_and_biases_keeps_a_run_on_this_machine(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    out = tmp_path / "run"
    main([*RUN, "--logger", "wandb", "--out", str(out)])
    (record,) = (out / "wandb").glob("offline-run-*/*.wandb")
    content = record.read_bytes()
    for name in (b"episode_return", b"staleness_mean", b"evaluation_return_mean", b"learning_rate"):
        assert name in content


def test_a_logger_must_be_there():
    with pytest.raises(InputError, match="logger: 'mlflow' is not accepted; it must be one of tensorboard, wandb"):
        check_loggers(["mlflow"])


def test_what_is_not_finite_is_left_out():
    losses = {"loss": np.array([1.0, 3.0]), "nothing": np.array([np.nan, 1.0])}
    arrays = np.array([80, 160]), np.array([0, 2]), np.array([0.0, 5.0]), np.array([0.0, 8.0])
    assert means(Metrics(*arrays, losses)) == {"loss": 2.0, "episode_return": 2.5, "episode_length": 4.0}  # type: ignore[arg-type]
    nothing = Metrics(arrays[0], np.zeros(2, int), np.zeros(2), np.zeros(2), {})  # type: ignore[arg-type]
    assert means(nothing) == {}


def test_means_over_episodes_of_fetched_metrics_stay_in_numpy():
    """There is nothing to compile for a report then; the numbers are those of arrays on a device."""
    episodes, sums = np.array([2, 0, 3], np.int32), np.array([5, 0, 1], np.float32)
    fetched: Any = Metrics(np.arange(3), episodes, sums, 2 * sums, {})  # type: ignore[arg-type]
    for name in ("episode_return", "episode_length"):
        found, on_device = getattr(fetched, name), getattr(jax.tree.map(jnp.asarray, fetched), name)
        assert isinstance(found, np.ndarray)
        assert found.dtype == on_device.dtype == np.float32
        np.testing.assert_array_equal(found, on_device)
        assert np.isnan(found[1])

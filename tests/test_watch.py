"""Tests of moving pictures of trained agents."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from purejaxrl_a3c import InputError, a3c, dqn, host, load, make_train, ppo, replace, watch
from purejaxrl_a3c.envs import spaces, wrappers
from purejaxrl_a3c.envs.pictures import draw_observations, enlarged
from purejaxrl_a3c.run import checkpoint, cli
from purejaxrl_a3c.run import recording as recordings
from purejaxrl_a3c.run.folder import record
from purejaxrl_a3c.run.recording import Moment, Recording, compose
from purejaxrl_a3c.types import Env, TimeStep

pytestmark = pytest.mark.usefixtures("no_cache_in_the_home_folder")
SMALL: dict[str, Any] = {"hidden_sizes": (8,), "total_frames": 640}


def counting(length: int = 7) -> Env:
    """Episodes of ``length`` steps, which show the number of the step; pictures of one pixel as bright as that."""

    def reset(key):
        return jnp.int32(0), jnp.zeros(2)

    def step(key, state, action):
        state = state + 1
        obs, last = jnp.zeros(2) + state, state >= length
        return state, TimeStep(obs, jnp.float32(2), last, jnp.bool_(False), final_obs=obs)

    def render(states):
        return (np.full((1, 1, 3), 10 * state, np.uint8) for state in states)

    return Env(reset, step, (2,), spaces.Discrete(3), render=render)


WRAPPED = {
    "frame_stack": 2,
    "normalize_observations": True,
    "scale_rewards": True,
    "time_limit": 100,
    "sticky_actions": 0.5,
    "clip_rewards": 1.0,
}


@pytest.mark.parametrize("settings", [{}, WRAPPED], ids=["bare", "wrapped"])
def test_every_step_is_drawn_as_the_environment_was_before_it(settings):
    config = replace(a3c.Config(), env_id=counting(), **SMALL, **settings)
    state = make_train(config)(jax.random.key(0)).state
    recording = watch(config, state, jax.random.key(1), episodes=2, max_frames=100)
    assert recording.returns == [14.0, 14.0]  # of the environment's own rewards
    assert len(recording.frames) == 14
    assert recording.frames[:, 0, 0, 0].tolist() == [*range(0, 70, 10)] * 2


def test_without_pictures_the_bare_observations_are_drawn():
    config = replace(a3c.Config(), env_id=counting()._replace(render=None), **SMALL, **WRAPPED)
    state = make_train(config)(jax.random.key(0)).state
    frames = watch(config, state, jax.random.key(1)).frames
    bars = [enlarged(one) for one in draw_observations([np.full(2, float(i)) for i in range(7)])]
    np.testing.assert_array_equal(frames[:, : bars[0].shape[0]], bars)


def test_pictures_are_of_the_states_that_they_know_whatever_is_around():
    """An environment that is wrapped by its author, and one that resets itself."""
    limited = wrappers.time_limit(counting(), 5)
    resetting = wrappers.auto_reset(wrappers.record_episodes(counting(5)))
    for env in (limited, resetting):
        config = replace(a3c.Config(), env_id=env, **SMALL)
        state = make_train(config)(jax.random.key(0)).state
        recording = watch(config, state, jax.random.key(1), episodes=2)
        assert recording.frames[:, 0, 0, 0].tolist() == [*range(0, 50, 10)] * 2


def test_many_actions_are_drawn():
    moment = Moment(np.zeros((10, 300, 3), np.uint8), np.full(500, 0.002), (3,), 1.0, 1.0, 3)
    assert compose([moment]).shape == (1, 10 + recordings._PANEL, 300, 3)


def test_an_environment_of_gymnasium_without_pictures_shows_observations(monkeypatch):
    gymnasium: Any = pytest.importorskip("gymnasium")

    class Plain(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 9, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.time = 0
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.time += 1
            return np.full(2, self.time, np.float32), 1.0, self.time == 4, False, {}

    spec = gymnasium.envs.registration.EnvSpec("Plain-v0", Plain)
    monkeypatch.setitem(gymnasium.registry, "Plain-v0", spec)
    config = replace(a3c.Config(), env_id="gym/Plain-v0", num_workers=2, envs_per_worker=1, **SMALL)
    result = host.train(replace(config, total_frames=40), jax.random.key(0))
    recording = watch(replace(config, total_frames=40), result, jax.random.key(1))
    bars = [enlarged(one) for one in draw_observations([np.full(2, float(i)) for i in range(4)])]
    np.testing.assert_array_equal(recording.frames[:, : bars[0].shape[0]], bars)
    assert recording.returns == [4.0]


def test_an_agent_ends_at_the_frames_that_were_asked_for():
    config = replace(a3c.Config(), env_id=counting(), **SMALL)
    state = make_train(config)(jax.random.key(0)).state
    recording = watch(config, state, jax.random.key(1), max_frames=3)
    assert (len(recording.frames), recording.returns) == (3, [])
    with pytest.raises(InputError, match="max_frames: 0"):
        watch(config, state, jax.random.key(1), max_frames=0)
    with pytest.raises(InputError, match="hidden_sizes: "):
        watch(replace(config, hidden_sizes=(9,)), state, jax.random.key(1))


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        (a3c, {}),
        (ppo, {"env_id": "Pendulum-v1", "num_envs": 4, "rollout_length": 16, "num_minibatches": 1}),
        (dqn, {"env_id": "Breakout-MinAtar", "learning_starts": 100, "torso": "minatar"}),
        (ppo, {"env_id": "FourRooms-misc", "num_envs": 4, "rollout_length": 16, "num_minibatches": 1}),
    ],
)
def test_what_the_agent_wants_is_under_the_picture(algorithm, settings, monkeypatch):
    if settings.get("env_id") not in ("Breakout-MinAtar", "FourRooms-misc"):
        pytest.importorskip("pygame")
    config = replace(algorithm.Config(), **SMALL, **settings)
    state = make_train(config)(jax.random.key(0)).state
    seen: list[Moment] = []

    def look(moments):
        seen.extend(moments)
        return compose(moments)

    monkeypatch.setattr("purejaxrl_a3c.run.watch.compose", look)
    recording = watch(config, state, jax.random.key(1), max_frames=5)
    assert recording.frames.dtype == np.uint8
    assert recording.frames.shape[0] == len(seen) == 5
    for moment in seen:
        assert moment.picture.std() > 0
        if algorithm is a3c:
            assert moment.bars.sum() == pytest.approx(1, abs=1e-5)
        if moment.chosen:
            assert moment.chosen == (int(np.argmax(moment.bars)),)
        assert np.isfinite(moment.value)


def test_an_agent_without_a_value_function_shows_none():
    moment = Moment(np.zeros((10, 300, 3), np.uint8), np.array([0.5, -0.5]), (), np.nan, 1.0, 3)
    shown, empty = compose([moment]), compose([moment._replace(bars=np.zeros(2))])
    assert (shown != empty).any()


def test_a_file_is_a_gif_that_moves_and_is_never_overwritten(tmp_path):
    frames = np.zeros((5, 20, 31, 3), np.uint8)
    frames[:, 5] = 50 * np.arange(5)[:, None, None]
    recording = Recording(frames, [], 20)
    path = recording.save(tmp_path / "a" / "agent.gif")
    with Image.open(path) as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (5, (31, 20), 50)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="not there yet"):
        recording.save(path)
    with pytest.raises(InputError, match=r"\.gif or \.mp4"):
        recording.save(tmp_path / "agent.avi")
    assert "data:image/gif;base64" in recording._repr_html_()


def test_a_file_may_be_an_mp4(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    frames = np.random.default_rng(0).integers(0, 255, (12, 65, 83, 3), dtype=np.uint8)
    path = Recording(frames, [], 10).save(tmp_path / "agent.mp4")
    about = next(ffmpeg.read_frames(path))
    assert about["size"] == (84, 66)
    assert about["duration"] == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("env_id", "package", "settings"),
    [
        ("gym/CartPole-v1", "pygame", {}),
        ("ale/Pong", "ale_py", {"torso": "nature", "frame_stack": 1}),
        ("vizdoom/VizdoomBasic-v1", "vizdoom", {"torso": "nature"}),
    ],
)
def test_environments_outside_of_jax_are_drawn(env_id, package, settings):
    pytest.importorskip(package)
    config = replace(a3c.Config(), env_id=env_id, num_workers=2, envs_per_worker=1, **SMALL | {"total_frames": 20})
    result = host.train(replace(config, **settings), jax.random.key(0))
    recording = watch(replace(config, **settings), result, jax.random.key(1), episodes=9, max_frames=8)
    pictures = recording.frames[:, : -recordings._PANEL]
    assert len(pictures) == 8
    assert all(picture.std() > 0 for picture in pictures)
    assert (pictures[0] != pictures[-1]).any()


def test_the_colours_of_atari_are_those_of_the_game_that_is_played():
    pytest.importorskip("ale_py")
    from purejaxrl_a3c.host.watching import make_drawn

    env, draw = make_drawn(replace(a3c.Config(), env_id="ale/Pong", sticky_actions=0.25))
    grey, rng = env.reset(3), np.random.default_rng(0)
    for _ in range(40):
        colour = np.asarray(draw()).mean(-1)
        small = colour[:210:5, :160:5]  # the other is 84 x 84 of it
        newest = grey[0, ..., -1].astype(float)
        rows, columns = (np.linspace(0, 83, n).round().astype(int) for n in small.shape)
        assert np.corrcoef(newest[np.ix_(rows, columns)].ravel(), small.ravel())[0, 1] > 0.5
        grey = env.step(rng.integers(6, size=1)).obs
    env.close()


def test_the_command_line_writes_it_into_the_folder_of_the_run(tmp_path, capsys):
    config = replace(a3c.Config(), env_id="Catch-bsuite", **SMALL)
    state = make_train(config)(jax.random.key(0)).state
    checkpoint.write(tmp_path, state, record("a3c", config, {"seed": 0}))
    assert load(tmp_path).config == config
    cli.main(["watch", str(tmp_path)])
    assert (tmp_path / "watch.gif").exists()
    assert "returns: " in capsys.readouterr().err
    for arguments in (["watch", str(tmp_path)], ["watch", str(tmp_path / "nothing"), "--out", str(tmp_path / "b.gif")]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2
    assert not Path(tmp_path / "b.gif").exists()

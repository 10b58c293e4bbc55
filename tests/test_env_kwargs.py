"""Arguments for what makes an environment, in every suite that takes some."""

import jax
import numpy as np
import pytest

from purejaxrl_a3c import a2c, envs, evaluate, host, make_train, replace
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.run import arguments
from purejaxrl_a3c.run.doctor import doctor

KEY = jax.random.key(0)
SMALL = replace(a2c.Config(), num_envs=2, rollout_length=2, hidden_sizes=(4,), total_frames=16)


def made(env_id, **env_kwargs):
    return envs.make_episodic(env_id, env_kwargs=env_kwargs)


def test_arguments_of_gymnax_change_what_is_trained_and_evaluated():
    config = replace(SMALL, env_id="DeepSea-bsuite", env_kwargs={"size": 4})
    state = jax.jit(make_train(config))(KEY).state
    assert state.actor_state.obs.shape[-2:] == (4, 4)
    moves = evaluate(config, state, KEY, episodes=4)
    assert moves.shape == (4,)
    with pytest.raises(InputError, match=r"env_kwargs: {'sice': 4} is not accepted; it must be arguments .*sice"):
        make_train(replace(config, env_kwargs={"sice": 4}))


def test_a_function_of_ones_own_takes_arguments(tmp_path, monkeypatch):
    (tmp_path / "seas.py").write_text(
        "import gymnax\ndef make_env(size=8, deep=True):\n    return gymnax.make('DeepSea-bsuite', size=size)[0]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert made("seas:make_env", size=3, deep=False).observation_shape == (3, 3)
    assert made("seas:make_env").observation_shape == (8, 8)
    with pytest.raises(InputError, match=r"env_kwargs: .* seas:make_env takes .*width"):
        made("seas:make_env", width=3)


@pytest.mark.parametrize("name", ["DeepSea-bsuite --env-kwargs size 3", "gym/FrozenLake-v1 --env-kwargs map_name 8x8"])
def test_doctor_takes_arguments(name, capsys):
    assert doctor(*arguments.parse_doctor(["--env", *name.split()])) == 0
    assert ("(3, 3)" if "DeepSea" in name else "(64,)") in capsys.readouterr().out
    assert doctor(*arguments.parse_doctor(["--env", *name.split()[:2], "sice", "3"])) == 1


def holes(**env_kwargs):
    """Where 64 copies of FrozenLake are after a step to the right."""
    env = host.make("gym/FrozenLake-v1", 64, env_kwargs=env_kwargs)
    env.reset(0)
    obs = env.step(np.full(64, 2)).obs
    env.close()
    return set(np.argmax(obs, axis=-1).tolist())


def test_arguments_of_gymnasium():
    assert holes(is_slippery=False) == {1}
    assert holes() == {0, 1, 4}
    assert made("gym/FrozenLake-v1", map_name="8x8").observation_shape == (64,)
    with pytest.raises(InputError, match=r"env_kwargs: .* arguments that gym/FrozenLake-v1 takes .*slippery"):
        made("gym/FrozenLake-v1", slippery=False)
    with pytest.raises(InputError, match=r"env_kwargs max_episode_steps: 3 .* left out: .* time_limit"):
        made("gym/FrozenLake-v1", max_episode_steps=3)
    with pytest.raises(InputError, match="env_id: 'gym/FrozenPond-v1'"):
        made("gym/FrozenPond-v1", is_slippery=False)


def test_training_outside_of_jax_has_the_arguments():
    config = replace(SMALL, env_id="gym/FrozenLake-v1", env_kwargs={"map_name": "8x8", "is_slippery": False})
    params = host.train(config, KEY).state.learner.params
    assert {x.shape[0] for x in jax.tree.leaves(params) if x.ndim == 2} == {64, 4}


def test_arguments_of_the_arcade_learning_environment():
    assert made("ale/Pong", full_action_space=True).action_space.n == 18
    assert made("ale/Pong", stack_num=2).observation_shape == (84, 84, 2)
    with pytest.raises(InputError, match=r"env_kwargs reward_clipping: True .* clip_rewards"):
        made("ale/Pong", reward_clipping=True)
    # An action lasts 2 frames, and a limit counts actions.
    env = host.make("ale/Pong", 1, time_limit=5, env_kwargs={"frameskip": 2, "noop_max": 0, "use_fire_reset": False})
    env.reset(0)
    ends = [bool(env.step(np.zeros(1, np.int64)).truncated[0]) for _ in range(6)]
    env.close()
    assert ends == [False] * 4 + [True, False]


def steps(env):
    """Steps until an episode is truncated."""
    (state, _), step, count = env.reset(KEY), jax.jit(env.step), 0
    truncated = False
    while not truncated:
        state, answer = step(KEY, state, env.action_space.sample(KEY))
        truncated, count = bool(answer.truncated), count + 1
    return count


@pytest.mark.parametrize(
    ("suite", "env_id", "arguments", "seen"),
    [
        (
            "brax",
            "brax/hopper",
            {"backend": "positional", "exclude_current_positions_from_observation": False},
            lambda env: env.observation_shape == (12,),
        ),
        ("jumanji", "jumanji/Snake-v1", {"num_rows": 6, "num_cols": 6}, lambda env: "6" in str(env.observation_shape)),
        ("navix", "navix/Navix-Empty-5x5-v0", {"max_steps": 3}, lambda env: steps(env) == 3),
        ("mujoco_playground", "playground/CartpoleBalance", {"episode_length": 5}, lambda env: steps(env) == 5),
    ],
)
def test_arguments_of_suites(suite, env_id, arguments, seen):
    pytest.importorskip(suite)
    with jax.numpy_rank_promotion("allow"):  # not for our code: some of the suites rely on it
        assert seen(made(env_id, **arguments))
        with pytest.raises(InputError, match=rf"env_kwargs: .* arguments that {env_id} takes .*unheard_of"):
            made(env_id, unheard_of=1)


@pytest.mark.parametrize("env_id", ["craftax/Craftax-Symbolic-v1", "pgx/connect_four"])
def test_suites_without_arguments_refuse_them(env_id):
    with pytest.raises(InputError, match=r"env_kwargs: {'size': 3} is not accepted; it must be empty"):
        made(env_id, size=3)


def test_an_env_object_takes_none():
    with pytest.raises(InputError, match=r"env_kwargs: .* empty for an Env object"):
        made(envs.make_episodic("CartPole-v1"), size=3)
    with pytest.raises(InputError, match=r"env_kwargs: .* empty for an Env object"):
        make_train(replace(SMALL, env_id=envs.make(envs.Config(), 1.0), env_kwargs={"size": 3}))


@pytest.mark.parametrize("value", [None, np.ones(2), (1, 2)])
def test_an_argument_is_a_plain_value(value):
    with pytest.raises(InputError, match=r"env_kwargs size: .* a bool, a number of Python or a string"):
        make_train(replace(SMALL, env_id="DeepSea-bsuite", env_kwargs={"size": value}))

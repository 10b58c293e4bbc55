"""``purejaxrl-a3c watch RUN``: the trained agent in moving pictures."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import check_count
from purejaxrl_a3c.config import check, parts, replace
from purejaxrl_a3c.envs import make_episodic
from purejaxrl_a3c.envs.pictures import draw_observations
from purejaxrl_a3c.host import watching
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.networks.distributions import Categorical, EpsilonGreedy, MultiCategorical
from purejaxrl_a3c.run.evaluate import check_state
from purejaxrl_a3c.run.recording import Moment, Recording, compose
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build
from purejaxrl_a3c.run.where import is_outside
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, Outputs, State, TimeStep


def watch(
    config: AlgorithmConfig,
    state: State | Result,
    key: Key,
    episodes: int = 1,
    max_frames: int = 1000,
    deterministic: bool = True,
    fps: int = 30,
) -> Recording:
    """Let a trained agent act, and draw what happens.

    Under each picture of the environment are the probabilities of the actions, or their Q-values from the smallest to
    the largest, or continuous actions between -1 and 1; the value that the agent estimates, in the units of the rewards
    that it learned from, if it does; and the return until then.

    Args:
        config: the ``Config`` that ``state`` was trained with, for environments of JAX or outside of it.
        state: a `Result`, or its ``state``.
        key: consumed.
        episodes: after which the recording ends.
        max_frames: pictures after which it ends at the latest.
        deterministic: take the most probable action instead of a sampled one.
        fps: pictures a second.

    Returns:
        A `Recording`, which a notebook shows and whose ``save`` writes a GIF or an MP4.

    Raises:
        InputError: if ``state`` is not one of ``config``, or what draws the environment is not installed.
    """
    for name, value in (("episodes", episodes), ("max_frames", max_frames), ("fps", fps)):
        check_count(name, value)
    check(config)
    state = state.state if isinstance(state, Result) else state
    play = watching.play if is_outside(config) else _play
    steps: Any = play(config, state, randomness.as_key(key), deterministic)
    taken, returns, total, length = list[Any](), list[float](), 0.0, 0
    with contextlib.closing(steps):  # environments outside of JAX end with it
        for step in steps:
            taken.append((step, total, length))
            total, length = float(step.episode_return), length + 1
            if step.last:
                returns.append(total)
                total, length = 0.0, 0
            if len(returns) == episodes or len(taken) == max_frames:
                break
    pictures = _pictures(config, [step for step, _, _ in taken])
    moments = [
        Moment(picture, *_intention(step.outputs, step.action), total, length)
        for picture, (step, total, length) in zip(pictures, taken, strict=True)
    ]
    if not any(moment.value for moment in moments):  # such as SAC, whose policy has no value function
        moments = [moment._replace(value=np.nan) for moment in moments]
    return Recording(compose(moments), returns, fps)


class Marked(NamedTuple):
    """What a bare environment shows, to be found inside of the states of its wrappers."""

    state: EnvState
    obs: Observation


def _marked(env: Env) -> Env:
    def reset(key: Key) -> tuple[Marked, Observation]:
        state, obs = env.reset(key)
        return Marked(state, obs), obs

    def step(keys: Key, state: Marked, action: Action) -> tuple[Marked, TimeStep]:
        inner, timestep = env.step(keys, state.state, action)
        return Marked(inner, timestep.obs), timestep

    return env._replace(reset=reset, step=step)


def _find_marked(state: EnvState) -> Marked:
    def is_marked(x: Any) -> bool:
        return isinstance(x, Marked)

    return next(x for x in jax.tree.leaves(state, is_leaf=is_marked) if is_marked(x))


def _play(config: Any, state: State, key: Key, deterministic: bool) -> Iterator[watching.Step]:
    """The steps of the agent in one environment of JAX, without end."""
    check_state(build(config), state)
    setting = parts(config)["env"]
    own_reset = isinstance(setting.env_id, Env) and setting.env_id.freeze is not None
    if not own_reset:
        bare = _marked(make_episodic(setting.env_id, setting.env_params, setting.randomize, setting.env_kwargs))
        config = replace(config, env_id=bare, env_params={}, env_kwargs={}, randomize={}, curriculum_frames=0)
    algorithm = build(config)
    env, network, policy = algorithm.eval_env(state), algorithm.network, algorithm.policy(state)
    key_start, key_run = jax.random.split(key)

    @jax.jit
    def step(actor_state: rollout.ActorState, time: jax.Array) -> tuple[Any, Any]:
        noise, keys = rollout.draw(network, jax.random.fold_in(key_run, time), jnp.zeros(1, jnp.int32))
        noise, keys = jax.tree.map(lambda x: x[0], noise), keys[0]
        carry, outputs = policy(actor_state.carry, actor_state.obs, actor_state.first)
        action = outputs.policy.mode() if deterministic else outputs.policy.sample(noise)
        action = outputs.policy.to_env_action(action)
        env_state, timestep = env.step(keys, actor_state.env, action)
        last = timestep.terminated | timestep.truncated
        shown = Marked(actor_state.env, actor_state.obs) if own_reset else _find_marked(actor_state.env)
        seen = watching.Step(shown.state, shown.obs, outputs, action, timestep.episode_return, last)
        return rollout.ActorState(env_state, timestep.obs, last, carry), seen

    actor_state, time = jax.jit(lambda key: rollout.start(env, network, key))(key_start), 0
    while True:
        actor_state, seen = step(actor_state, jnp.int32(time))
        time += 1
        yield jax.device_get(seen)


def _pictures(config: Any, steps: list[watching.Step]) -> Iterator[np.ndarray]:
    """A picture of the environment before each step."""
    if is_outside(config):
        drawn = [step.env for step in steps if step.env is not None]
        return iter(drawn) if len(drawn) == len(steps) else draw_observations([step.obs for step in steps])
    setting = parts(config)["env"]
    env: Any = setting.env_id
    if not isinstance(env, Env):
        env = make_episodic(env, setting.env_params, setting.randomize, setting.env_kwargs)
    if env.render is None:
        return draw_observations([step.obs for step in steps])
    return iter(env.render([step.env for step in steps]))


def _intention(outputs: Outputs, action: np.ndarray) -> tuple[np.ndarray, tuple[int, ...], float]:
    """What the agent wants to do: bars, the numbers of those that were chosen, and the value."""
    policy, value = outputs.policy, float(np.ravel(outputs.value)[0])
    if isinstance(policy, Categorical):
        return np.exp(np.asarray(policy.log_probs)), (int(action),), value
    if isinstance(policy, EpsilonGreedy):
        legal = np.ones(np.shape(policy.q), bool) if policy.legal is None else policy.legal
        low, high = np.min(policy.q, where=legal, initial=np.inf), np.max(policy.q)
        bars = (policy.q - low) / (high - low if high > low else 1)
        return np.where(legal, bars, 0), (int(action),), value
    if isinstance(policy, MultiCategorical):
        begins = np.cumsum([0, *policy.sizes[:-1]])
        return np.concatenate([np.exp(one.log_probs) for one in policy.choices]), tuple(begins + action), value
    return np.asarray(action), (), value

"""gymnax environments with known answers. Importing this module registers them."""

import gymnax
import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from purejaxrl_a3c.envs.spaces import Discrete
from purejaxrl_a3c.types import Env, TimeStep


@struct.dataclass
class State(environment.EnvState):
    bit: jax.Array
    time: jax.Array


class Probe(environment.Environment):
    """Two actions, an observation of three numbers, and a subclass's ``reward_and_end``."""

    time_limit = 1000

    @property
    def default_params(self):
        return environment.EnvParams(max_steps_in_episode=self.time_limit)

    @property
    def num_actions(self):
        return 2

    def reset_env(self, key, params):
        state = State(bit=jax.random.bernoulli(key).astype(jnp.int32), time=jnp.int32(0))
        return self.observation(state), state

    def observation(self, state):
        return jnp.array([1.0, state.bit, 0.1 * state.time])

    def step_env(self, key, state, action, params):
        reward, end = self.reward_and_end(state, action)
        state = State(bit=jax.random.bernoulli(key).astype(jnp.int32), time=state.time + 1)
        return self.observation(state), state, jnp.float32(reward), jnp.asarray(end, bool), {}

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(-1, 1000, (3,))


class Forever(Probe):
    """Pays 1 a step, never terminates, and only the clock cuts it off: V is 1 / (1 - gamma) everywhere."""

    time_limit = 7

    def observation(self, state):
        return jnp.array([1.0, 0.0, 0.0])  # does not tell the time, so neither may the value

    def reward_and_end(self, state, action):
        return 1.0, False


class Ending(Probe):
    """Pays 1 a step and terminates after the third: V is 1 + gamma + gamma^2, 1 + gamma, 1."""

    def reward_and_end(self, state, action):
        return 1.0, state.time == 2


class EndingOnTime(Ending):
    """As `Ending`, with a time limit at the very step that terminates: terminated wins."""

    time_limit = 3


class Copy(Probe):
    """Pays 1 for repeating the bit that the observation shows; ten steps an episode."""

    time_limit = 10

    def reward_and_end(self, state, action):
        return action == state.bit, False


class Gamble(Probe):
    """Action 0 ends the episode at once, action 1 goes on, for 1 a step up to 20: short episodes are bad ones."""

    time_limit = 20

    def reward_and_end(self, state, action):
        return 1.0, action == 0


class Continuous(Probe):
    """As `Probe`, with one number in [-1, 1] as action."""

    def action_space(self, params):
        return spaces.Box(-1, 1, (1,))


class Reach(Continuous):
    """Pays minus the squared distance of the action from what the observation shows, 0.6 or -0.6; ten steps."""

    time_limit = 10

    def reward_and_end(self, state, action):
        return -jnp.square(action[0] - 1.2 * (state.bit - 0.5)), False


class ForeverContinuous(Continuous, Forever):
    """As `Forever`, whatever the action."""


class Lottery(Continuous):
    """Two steps of which each pays 2 with a chance of 1/4, and otherwise nothing; the action does not matter.

    The reward is that of the bit which the state drew last time: it is 1 with a chance of 1/4.
    """

    def reset_env(self, key, params):
        state = State(bit=jax.random.bernoulli(key, 0.25).astype(jnp.int32), time=jnp.int32(0))
        return self.observation(state), state

    def step_env(self, key, state, action, params):
        reward, end = 2.0 * state.bit, state.time == 1
        state = State(bit=jax.random.bernoulli(key, 0.25).astype(jnp.int32), time=state.time + 1)
        return self.observation(state), state, jnp.float32(reward), jnp.asarray(end, bool), {}

    def observation(self, state):
        return jnp.array([1.0, 0.0, state.time], jnp.float32)  # does not show the bit, so the reward is a chance


@struct.dataclass
class DiaryState(environment.EnvState):
    noise: jax.Array
    tag: jax.Array
    action: jax.Array
    time: jax.Array


@struct.dataclass
class DiaryParams(environment.EnvParams):
    length: float = 5  # terminates after so many steps
    offset: float = 0.0
    spread: float = 1.0
    max_steps_in_episode: int = 1000


class Diary(environment.Environment):
    """Observations say where they come from, rewards which action they answer.

    An observation is noise, uniform, with mean ``offset`` and deviation ``spread``; the episode's tag in [0, 1); the
    clock; and the last action, -1 at the start. See `diary_reward`.
    """

    @property
    def default_params(self):
        return DiaryParams()

    def observe(self, state):
        return jnp.array([state.noise, state.tag, state.time, state.action])

    def random(self, key, params):
        """Noise and a tag. A key's own bits are random enough, and a program without a draw compiles faster."""
        noise, tag = (jax.random.key_data(key) >> 8) * jnp.float32(2**-24)
        return params.offset + params.spread * 12**0.5 * (noise - 0.5), tag

    def reset_env(self, key, params):
        noise, tag = self.random(key, params)
        state = DiaryState(noise=noise, tag=tag, action=jnp.int32(-1), time=jnp.int32(0))
        return self.observe(state), state

    def step_env(self, key, state, action, params):
        reward = diary_reward(action, state.time)
        noise, _ = self.random(key, params)
        state = state.replace(noise=noise, action=jnp.int32(action), time=state.time + 1)
        return self.observe(state), state, reward, state.time >= params.length, {}

    def action_space(self, params):
        return spaces.Discrete(5)

    def observation_space(self, params):
        return spaces.Box(-1e6, 1e6, (4,))


def diary_reward(action, time):
    """What `Diary` pays for action 0 .. 4 at a time."""
    return action - 2.0 + 0.25 * time


@struct.dataclass
class BoundsState(environment.EnvState):
    action: jax.Array
    time: jax.Array


class Bounds(environment.Environment):
    """Shows the action that it was given: four numbers, of which only the second is bounded on both sides."""

    low = (0.0, -1.0, -jnp.inf, -jnp.inf)
    high = (jnp.inf, 3.0, jnp.inf, 2.0)

    @property
    def default_params(self):
        return environment.EnvParams(max_steps_in_episode=10)

    def reset_env(self, key, params):
        return jnp.zeros(4), BoundsState(action=jnp.zeros(4), time=jnp.int32(0))

    def step_env(self, key, state, action, params):
        return action, BoundsState(action=action, time=state.time + 1), jnp.float32(0), jnp.bool_(False), {}

    def action_space(self, params):
        return spaces.Box(jnp.array(self.low), jnp.array(self.high), (4,))

    def observation_space(self, params):
        return spaces.Box(-1e6, 1e6, (4,))


class Scalar(Probe):
    """As `Copy`, but its observation is a single number without an axis."""

    def reward_and_end(self, state, action):
        return action == state.bit, False

    def observation(self, state):
        return jnp.float32(state.bit)

    def observation_space(self, params):
        return spaces.Box(0, 1, ())


def pictures(length):
    """An episodic `Env` with observations int32 ``[2, 2, 3]``, all different; it terminates after ``length``."""

    def observe(time):
        return jnp.arange(12, dtype=jnp.int32).reshape(2, 2, 3) + time

    def reset(key):
        return jnp.int32(0), observe(jnp.int32(0))

    def step(key, time, action):
        obs, end = observe(time + 1), time + 1 >= length
        return time + 1, TimeStep(obs, jnp.float32(1), end, jnp.bool_(False), obs, jnp.float32(0), time + 1)

    return Env(reset, step, observation_shape=(2, 2, 3), action_space=Discrete(2))


_PROBES = (
    Forever,
    Ending,
    EndingOnTime,
    Copy,
    Gamble,
    Reach,
    ForeverContinuous,
    Lottery,
    Diary,
    Bounds,
    Scalar,
)
for _probe in _PROBES:
    if f"{_probe.__name__}-probe" not in gymnax.registered_envs:
        gymnax.register(f"{_probe.__name__}-probe", _probe)

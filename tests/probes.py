"""gymnax environments with known answers. Importing this module registers them."""

import gymnax
import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


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


for _probe in (Forever, Ending, EndingOnTime, Copy, Gamble):
    if f"{_probe.__name__}-probe" not in gymnax.registered_envs:
        gymnax.register(f"{_probe.__name__}-probe", _probe)

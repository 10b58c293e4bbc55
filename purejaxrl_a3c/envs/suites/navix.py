"""navix environments, which are MiniGrid's in JAX, as `Env`."""

import jax

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.types import Env, TimeStep


def make(env_id, name):
    """The navix environment called ``name``, as ``navix.make`` has it.

    That is: the agent sees the whole grid in symbols, uint8 ``[height, width, 3]``, and is cut off after 100 steps.

    Args:
        env_id: the whole name, for errors.
        name: a name in ``navix.registry()``, such as ``Navix-Empty-5x5-v0``.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if navix is not installed or has no environment of that name.
    """
    # Importing and constructing compute with arrays: they must not see a trace that we run in.
    with jax.ensure_compile_time_eval():
        try:
            import navix
        except ImportError as error:
            checks.reject_missing_suite(env_id, error)
        known = navix.registry()
        checks.check_known(env_id, name, known)
        grid = navix.make(name)
        action_space = spaces.Discrete(int(grid.action_space.n))

    def reset(key):
        state = grid.reset(jax.random.key_data(key))  # states keep the key, and are to hold plain arrays
        # An image of the empty grid, which symbols do not need and which is 95% of a state.
        state = state.replace(state=state.state.replace(cache=None))
        return state, state.observation

    def step(key, state, action):
        # navix writes into the dicts of the state that it is given: it gets dicts of its own. ``step`` would compute
        # the start of another episode at every step, in case that this one is over.
        state = grid._step(jax.tree.map(lambda x: x, state), action)
        timestep = TimeStep(
            obs=state.observation,
            reward=state.reward,
            terminated=state.is_termination(),
            truncated=state.is_truncation(),
            final_obs=state.observation,
        )
        return state, timestep

    obs = jax.eval_shape(reset, jax.random.key(0))[1]
    return Env(reset, step, observation_shape=obs.shape, action_space=action_space)

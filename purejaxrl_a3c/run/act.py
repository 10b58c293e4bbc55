"""The trained agent as a function of observations."""

from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import check
from purejaxrl_a3c.envs.observations import Shape, map_shape, shape_of, shapes
from purejaxrl_a3c.run.evaluate import check_state
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build
from purejaxrl_a3c.types import Carry, Env, Key, State

_MOST_AXES = 8  # leading axes of a batch of observations


class ActCarry(NamedTuple):
    """What an agent remembers of the episode."""

    observer: Any  # such as the last frames of `frame_stack`
    network: Carry


class Act(Protocol):
    """A trained agent, made by `make_act`."""

    def __call__(
        self,
        obs: Any,
        carry: ActCarry | None = None,
        first: Any = None,
        key: Key | None = None,
    ) -> tuple[Any, ActCarry]:
        """The action for an observation.

        Args:
            obs: as the environment's own library gives it, such as gymnax, before any wrapper; or a batch of such
                observations with more leading axes.
            carry: what the call before returned; None at the start of an episode.
            first: whether ``obs`` starts an episode: bool, or bools ``[...]`` of the leading axes. By default it does
                if ``carry`` is None.
            key: for an action that is sampled from the policy; None: the most probable action.

        Returns:
            ``(action, carry)``: the action as the environment's own library takes it, within its bounds.

        Raises:
            InputError: if ``obs`` is not of the environment's shape.
        """
        ...


def make_act(config: AlgorithmConfig, state: State | Result) -> Act:
    """The trained agent as a function, with the wrappers of training around it.

    It sees what it saw in training: entries of the observation, stacks of frames, normalized numbers. `evaluate` does
    the same, but plays whole episodes itself.

    Args:
        config: the ``Config`` that ``state`` was trained with.
        state: a `Result`, or its ``state``.

    Returns:
        An `Act`; it may be called inside of `jax.jit` and mapped.

    Raises:
        InputError: if ``state`` is not one of ``config``.
    """
    check(config)
    state = state.state if isinstance(state, Result) else state
    algorithm = build(config)
    check_state(algorithm, state)
    observer, env = algorithm.observer(state), algorithm.env
    policy, network = algorithm.policy(state), algorithm.network

    def act(obs: Any, carry: ActCarry | None, first: jax.Array, key: Key | None) -> tuple[Any, ActCarry]:
        remembered, shown = observer.first(obs)
        if carry is None:
            carry = ActCarry(remembered, network.carry())
        else:
            starting, going_on = (remembered, shown), observer.later(carry.observer, obs)
            remembered, shown = jax.tree.map(partial(_choose, first), starting, going_on)
        memory, outputs = policy(carry.network, shown, first)
        if key is None:
            action = outputs.policy.mode()
        else:
            noise = network.noise(key, jnp.zeros(1, jnp.int32))
            action = outputs.policy.sample(jax.tree.map(lambda x: x[0], noise))
        return env.to_native(outputs.policy.to_env_action(action)), ActCarry(remembered, memory)

    act_one = jax.jit(act)

    def act_any(
        obs: Any, carry: ActCarry | None = None, first: Any = None, key: Key | None = None
    ) -> tuple[Any, ActCarry]:
        axes = _leading_axes(env, observer.shape, obs)
        function, read = act_one, env.from_native
        for _ in axes:
            read = jax.vmap(read)
            function = jax.vmap(function, (0, None if carry is None else 0, 0, None if key is None else 0))
        first = jnp.broadcast_to(jnp.asarray(carry is None if first is None else first, bool), axes)
        if key is not None:
            key = randomness.as_key(key)
            key = jax.random.split(key, axes) if axes else key
        return function(read(obs), carry, first, key)

    return act_any


def _choose(first: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    # ONNX Runtime cannot choose between arrays of booleans.
    return (first & x) | (~first & y) if x.dtype == bool else jnp.where(first, x, y)


def _leading_axes(env: Env, shape: Shape, obs: Any) -> tuple[int, ...]:
    """The axes of a batch of observations; empty for a single one."""
    read: Any = env.from_native
    for number in range(_MOST_AXES + 1):
        try:
            found = shape_of(jax.eval_shape(read, obs))
            if map_shape(lambda one, number=number: one[number:], found) == shape:
                return shapes(found)[0][:number]
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            break  # such as a vmap over an axis that is not there, or another kind of observation
        read = jax.vmap(read)
    given = jax.tree.map(np.shape, obs)
    return reject("obs", given, f"of shape {shape}, as the environment shows it, or a batch of such")

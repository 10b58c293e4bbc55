"""The bundles of pure functions and the records that pass between them.

Shape letters, used in every docstring of the package:

=====  =====================================================================
``W``  workers (A3C's actor-learners; A2C has one)
``L``  lanes: workers that act side by side, where not all do
``B``  environments of one worker
``T``  environment steps in one rollout (``rollout_length``)
``A``  discrete actions
``D``  numbers in a continuous action
``F``  features: numbers in a layer's output
``K``  choices in a multi-discrete action
``M``  pieces of the rollouts of an iteration, which minibatches do not cut
``P``  parameters of a network, raveled into one vector
``I``  iterations: one rollout of every environment and the learning from it
``N``  episodes of an evaluation
=====  =====================================================================

A *frame* is one step of one environment; counts of frames are sums over all environments.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Key = jax.Array
Params = Any  # a pytree of arrays
Carry = Any  # a recurrent network's memory of one environment; () for a feed-forward network
Observation = Any


class TimeStep(NamedTuple):
    """What one environment answers to one action.

    ``terminated`` and ``truncated`` are never both true: an environment that reports both has terminated.
    """

    obs: Observation  # what to act on next: of the next episode's start if this step ended one
    reward: jax.Array  # float32 []
    terminated: jax.Array  # bool []: the episode reached a terminal state, whose value is 0
    truncated: jax.Array  # bool []: the episode was cut off, by a time limit; it would have gone on
    final_obs: Observation  # the true successor, before any reset
    episode_return: jax.Array | None = None  # float32 []: undiscounted, up to and with this step
    episode_length: jax.Array | None = None  # int32 []: frames, up to and with this step


class Env(NamedTuple):
    """An environment as pure functions, for a single copy of it.

    A suite's environment is *episodic*: it does not reset itself, and ``obs`` of its last step is ``final_obs``.
    `envs.wrappers.auto_reset` makes of it one that goes on for ever, which is what the algorithms act in.
    """

    reset: Callable[[Key], tuple[Any, Observation]]
    step: Callable[[Key, Any, Any], tuple[Any, TimeStep]]
    """(key, state, action) -> (state, time step). One that resets itself takes two keys, ``[2]``: see `auto_reset`."""
    observation_shape: tuple[int, ...]
    action_space: Any  # see envs/spaces.py
    refresh: Callable[..., Any] = lambda states, axis_name=None: states
    """(states[, axis_name]) -> states, of all copies, leaves ``[W, B, ...]``: once an iteration, after learning. Here
    statistics are shared between the copies, of all devices; between two calls they stand still."""
    freeze: Callable[[Any], "Env"] | None = None
    """State of one copy -> the environment for evaluation, with that state's statistics for good; None if episodic."""


class Outputs(NamedTuple):
    """What a network says of one observation, or of a leading axis of them."""

    policy: Any  # a distribution over actions, see distributions.py
    value: jax.Array  # float32 [...]; with a bonus [..., 2], for the rewards and for the bonus


class Network(NamedTuple):
    """A policy and a value function. The carry of a feed-forward network is ``()``.

    Where ``first`` is true the carry is cleared *before* the observation is looked at.
    """

    init: Callable[[Key], Params]
    carry: Callable[[], Carry]
    noise: Callable[[Key, jax.Array], Any]
    """(key, index [...]) -> what ``outputs.policy.sample`` needs for the actions of these numbers, leaves [..., *]."""
    step: Callable[[Params, Carry, Observation, jax.Array], tuple[Carry, Outputs]]
    """(params, carry, obs, first) -> (carry, outputs) for one observation: acting."""
    unroll: Callable[[Params, Carry, Observation, jax.Array], tuple[Carry, Outputs]]
    """(params, carry [B], obs [B, T, ...], first [B, T]) -> (carry [B], outputs [B, T]): learning."""


class Trajectory(NamedTuple):
    """``T`` consecutive steps of one environment, under one set of parameters."""

    obs: Observation  # [T, ...]
    first: jax.Array  # bool [T]: obs starts an episode
    action: jax.Array  # [T, ...]: as sampled, see distributions.py
    log_prob: jax.Array  # float32 [T]: of the action, under the policy that chose it
    reward: jax.Array  # float32 [T]
    terminated: jax.Array  # bool [T]
    truncated: jax.Array  # bool [T]
    final_obs: Observation  # [T, ...]: the true successor of obs
    carry: Carry  # the network's, before the first step
    next_carry: Carry  # [T, ...]: after each step and before any reset: what valuing final_obs takes
    episode_return: jax.Array  # float32 [T]: running, see TimeStep
    episode_length: jax.Array  # int32 [T]
    end_obs: Observation = None  # what is acted on after the last step: after a reset, if that one ended an episode
    bonus: Any = None  # float32 [T]: intrinsic rewards; None without


class Targets(NamedTuple):
    """What the value function and the policy learn towards; no gradient flows through either."""

    value: jax.Array  # float32 [T]; with a bonus [T, 2]
    advantage: jax.Array  # float32 [T]


class Objective(NamedTuple):
    """What to minimise, for the trajectories of ``B`` environments."""

    prepare: Callable[[Params, Trajectory], Any]
    """(params, trajectories [B, T]) -> batch: computed once a rollout, without gradients."""
    loss: Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
    """(params, batch, *adapted) -> (scalar, named scalars to report); what is adapted, if anything, the rule keeps."""


class UpdateRule(NamedTuple):
    """Whose gradients, taken where, are applied to what, and in which order."""

    init: Callable[[Key, Params], Any]
    actor: Callable[..., Params]
    """(learner[, turn]) -> acting parameters, every leaf with a leading axis [W], or [L] for the workers of a turn."""
    update: Callable[..., tuple[Any, dict[str, jax.Array]]]
    """(key, learner, objective, trajectories [W, B, T][, turn]) -> (learner, named vectors to report, an entry a push):
    what the objective reports, ``gradient_norm``, ``staleness`` and ``staleness_within``; in a turn also
    ``virtual_time``, and [L] entries. On several devices they are of the pushes from all of them."""
    next_turn: Callable[[Key, Any, jax.Array], tuple[Any, Any]] | None = None
    """None: an iteration is one update, for which all workers act. Otherwise (key, learner, room) -> (learner, turn):
    an iteration takes as many turns as it takes until ``W`` pushes are made. See `updates.clock.Turn`."""


class Bonus(NamedTuple):
    """Intrinsic rewards, for trajectories ``[W, B, T]``."""

    init: Callable[[Key, tuple[int, int]], Any]
    """(key, (W, B)) -> state."""
    observe: Callable[[Any, Trajectory], Any]
    """(state, trajectories) -> state that has seen them and not learned from them."""
    update: Callable[[Key, Any, Trajectory], tuple[Any, Trajectory]]
    """(key, state, trajectories) -> (state, trajectories with ``bonus``)."""
    make_credit: Callable[..., Any]
    """(network, config) -> `objectives.Credit` for a network with two values."""
    warm_up: int
    """Rollouts to observe before the run."""


class Metrics(NamedTuple):
    """What is reported of one iteration: scalars; ``train`` stacks them to ``[I]``."""

    frames: jax.Array  # int32: since the start of the run
    episode_return: jax.Array  # mean over the episodes that ended in this iteration; NaN where none
    episode_length: jax.Array  # frames, likewise
    episodes: jax.Array  # int32: how many ended
    policy_loss: jax.Array
    value_loss: jax.Array
    entropy: jax.Array  # nats
    value_mean: jax.Array
    gradient_norm: jax.Array  # global l2 norm before clipping, mean over the pushes
    staleness_mean: jax.Array  # updates between pull and push, mean over the pushes
    staleness_max: jax.Array  # int32
    staleness_within: jax.Array  # of staleness_mean, what pushes from the same device cause: all of it on one device
    virtual_time: jax.Array  # in mean service times of a worker; without a clock, iterations


class Algorithm(NamedTuple):
    """A learning algorithm on an environment: everything that ``train`` and ``evaluate`` need."""

    init: Callable[[Key], Any]
    step: Callable[[Key, Any], tuple[Any, Metrics]]
    """(key, state) -> (state, metrics): one iteration of acting and learning."""
    policy: Callable[[Any], Callable[[Carry, Observation, jax.Array], tuple[Carry, Outputs]]]
    """state -> the function (carry, obs, first) -> (carry, outputs) that acts."""
    test_env: Callable[[Any], Env]
    """state -> the environment for evaluation."""
    env: Env
    network: Network
    frames_per_step: int

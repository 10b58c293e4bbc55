"""The bundles of pure functions and the records that pass between them.

Shape letters, used in every docstring of the package:

=====  =====================================================================
``W``  workers (A3C's actor-learners; A2C has one)
``L``  pushes that one batch of the virtual clock may have (``max_pushes``)
``B``  environments of one worker
``T``  environment steps in one rollout (``rollout_length``)
``A``  discrete actions
``D``  numbers in a continuous action
``F``  features: numbers in a layer's output
``K``  choices in a multi-discrete action
``M``  items of a batch that minibatches are drawn from
``P``  parameters of a network, raveled into one vector
``I``  iterations: one rollout of every environment and the learning from it
``N``  episodes of an evaluation
=====  =====================================================================

A *frame* is one step of one environment; counts of frames are sums over all environments.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Key: TypeAlias = jax.Array
"""A typed JAX key, shape ``[]`` unless a docstring says otherwise."""
Params: TypeAlias = Any
"""A pytree of float32 arrays: a network's parameters."""
Carry: TypeAlias = Any
"""A pytree of arrays: a recurrent network's memory of one environment; ``()`` for a feed-forward network."""
Observation: TypeAlias = Any
"""What an agent sees: an array, or a dict of named arrays, of the shape `Env.observation_shape`. The entry
``action_mask`` of a dict says which actions are legal; see `envs.observations`."""
Action: TypeAlias = jax.Array
"""int32 ``[]`` (discrete), int32 ``[K]`` (multi-discrete) or float32 ``[D]`` (continuous)."""
EnvState: TypeAlias = Any
"""A pytree of arrays: the state of one copy of an environment."""
State: TypeAlias = Any
"""A pytree of arrays: everything that a run carries from one iteration to the next."""
Learner: TypeAlias = Any
"""A pytree of arrays: the state of an `UpdateRule`. ``learner.params`` are the current parameters."""
Noise: TypeAlias = Any
"""A pytree of arrays: the random numbers from which a distribution makes one sample."""
AxisName: TypeAlias = str | None
"""The name of an axis of devices that share a run out; None on one device."""
Scalars: TypeAlias = dict[str, jax.Array]
"""Named scalars to report."""


class ActionSpace(Protocol):
    """The actions of an environment; the classes are in `envs.spaces`."""

    def sample(self, key: Key) -> Action:
        """A uniformly random action; a standard normal one where there are no bounds."""
        ...


class Distribution(Protocol):
    """A distribution over actions, or a leading axis of them; the classes are in `networks.distributions`."""

    def sample(self, noise: Noise) -> Action:
        """A sample made from ``noise``, which `Network.noise` draws."""
        ...

    def mode(self) -> Action:
        """The most probable action."""
        ...

    def log_prob(self, action: Action) -> jax.Array:
        """Log-probability or log-density of a sample, float32 ``[...]``."""
        ...

    def entropy(self) -> jax.Array:
        """Entropy in nats, float32 ``[...]``."""
        ...

    def kl(self, other: Any) -> jax.Array:
        """Kullback-Leibler divergence ``KL(self || other)`` in nats, float32 ``[...]``."""
        ...

    @staticmethod
    def to_env_action(action: Action) -> Action:
        """The action that the environment takes for a sample."""
        ...


class TimeStep(NamedTuple):
    """An environment's answer to one action.

    ``terminated`` and ``truncated`` are never both true: an environment that reports both has terminated.
    """

    obs: Observation  # what to act on next: the first observation of a new episode if this step ended one
    reward: jax.Array  # float32 []
    terminated: jax.Array  # bool []: the episode reached a terminal state, whose value is 0
    truncated: jax.Array  # bool []: a time limit cut the episode off; it would have gone on
    final_obs: Observation  # the true successor, before any reset
    episode_return: Any = None  # float32 []: undiscounted, up to and with this step; see `wrappers.record_episodes`
    episode_length: Any = None  # int32 []: frames, up to and with this step


def _unchanged(states: EnvState, axis_name: AxisName = None) -> EnvState:
    del axis_name
    return states


def _same(value: Any) -> Any:
    return value


class Player(Protocol):
    """Chooses the moves of one of two players."""

    def __call__(self, key: Key, state: EnvState, obs: Observation) -> Action:
        """The action of the player whose turn it is.

        Args:
            key: consumed.
            state: of the game.
            obs: as that player sees the game.
        """
        ...


class Duel(NamedTuple):
    """A game for two, as an environment of one of them."""

    against: Callable[[Player], Any]
    """opponent -> the `Env` in which it plays."""
    players: dict[str, Player]
    """Opponents by name."""


class Told(NamedTuple):
    """The wrappers around one copy of an environment that something else steps: they are told what it answers."""

    env: Any
    """The `Env` without the wrappers. It need not be able to step."""
    start: Callable[[Observation], tuple[EnvState, Observation]]
    """first observation of an episode -> (state of the wrappers, observation that the agent sees)."""
    later: Callable[[EnvState, TimeStep], tuple[EnvState, TimeStep]]
    """(state of the wrappers, answer to an action) -> (state, the same as the agent sees it)."""
    freeze: Callable[[EnvState], Any]
    """State of the wrappers -> the `Told` for evaluation, which keeps that state's statistics."""


class Env(NamedTuple):
    """An environment as pure functions, for a single copy of it.

    A suite's environment is *episodic*: it does not reset itself, and ``obs`` of its last step is ``final_obs``.
    `envs.wrappers.auto_reset` makes of it one that resets itself, which the algorithms act in.
    """

    reset: Callable[[Key], tuple[EnvState, Observation]]
    """key -> (state, first observation)."""
    step: Callable[[Key, EnvState, Action], tuple[EnvState, TimeStep]]
    """(key, state, action) -> (state, time step). One that resets itself takes two keys, ``[2]``: see `auto_reset`."""
    observation_shape: Any
    """Of one observation: a tuple of ints, or a dict of them for a dict of arrays."""
    action_space: ActionSpace
    refresh: Callable[[EnvState, AxisName], EnvState] = _unchanged
    """(states, axis_name) -> states, of all copies, leaves ``[W, B, ...]``; called once an iteration, after learning.
    Running statistics are merged here, over the copies on all devices, and stand still between two calls."""
    freeze: Callable[[EnvState], "Env"] | None = None
    """State of one copy -> the environment for evaluation, which keeps that state's statistics; None if episodic."""
    from_native: Callable[[Any], Observation] = _same
    """An observation as the suite's own library gives it -> that of the bare episodic environment, before wrappers."""
    to_native: Callable[[Action], Any] = _same
    """An action of ``action_space`` -> the action that the suite's own library takes."""
    told: Told | None = None
    """The wrappers of this environment without it; None if there are none."""
    render: Callable[[Sequence[EnvState]], Iterable[Any]] | None = None
    """States, as NumPy arrays -> a picture of each, uint8 ``[H, W, 3]``, outside of compiled code. None: the
    observations are drawn."""
    duel: Duel | None = None
    """The same game against other opponents; None: there is no opponent."""


class Outputs(NamedTuple):
    """A network's outputs for one observation, or for a leading axis of them."""

    policy: Any  # a `Distribution` over actions
    value: jax.Array  # float32 [...]; with a bonus [..., 2], for the rewards and for the bonus


class Network(NamedTuple):
    """A policy and a value function. The carry of a feed-forward network is ``()``.

    Where ``first`` is true the carry is cleared *before* the observation is seen.
    """

    init: Callable[[Key], Params]
    """key -> params."""
    carry: Callable[[], Carry]
    """() -> the carry at the start of an episode."""
    noise: Callable[[Key, jax.Array], Noise]
    """(key, index [...]) -> what ``outputs.policy.sample`` needs for the actions of these numbers, leaves [..., *]."""
    step: Callable[[Params, Carry, Observation, jax.Array], tuple[Carry, Outputs]]
    """(params, carry, obs, first) -> (carry, outputs) for one observation: acting."""
    unroll: Callable[[Params, Carry, Observation, jax.Array], tuple[Carry, Outputs]]
    """(params, carry [B], obs [B, T, ...], first [B, T]) -> (carry [B], outputs [B, T]): learning."""


class Trajectory(NamedTuple):
    """``T`` consecutive steps of one environment, under one set of parameters."""

    obs: Observation  # [T, ...]
    first: jax.Array  # bool [T]: obs starts an episode
    action: jax.Array  # [T, ...]: as sampled, see `Distribution.to_env_action`
    log_prob: jax.Array  # float32 [T]: of the action, under the policy that chose it
    reward: jax.Array  # float32 [T]
    terminated: jax.Array  # bool [T]
    truncated: jax.Array  # bool [T]
    final_obs: Observation  # [T, ...]: the true successor of obs
    carry: Carry  # the network's, before the first step
    next_carry: Carry  # [T, ...]: after each step and before any reset: needed to value final_obs
    episode_return: jax.Array  # float32 [T]: running, see TimeStep
    episode_length: jax.Array  # int32 [T]
    end_obs: Any = None  # the observation acted on after the last step: after a reset, if that step ended an episode
    bonus: Any = None  # float32 [T]: intrinsic rewards; None without a bonus
    next_value: Any = None  # float32 [T]: of the true successors, see `TargetNetwork`; None without one
    staleness: Any = None  # int32 [T]: updates since the parameters that acted; None if none could be in between


class Targets(NamedTuple):
    """What the value function and the policy learn towards; no gradient flows through either."""

    value: jax.Array  # float32 [T]; with a bonus [T, 2]
    advantage: jax.Array  # float32 [T]


class ReturnEstimator(Protocol):
    """One of the functions of `objectives.returns`, with everything but the shared arguments bound."""

    def __call__(
        self,
        *,
        value: jax.Array,
        next_value: jax.Array,
        reward: jax.Array,
        discount: jax.Array,
        last: jax.Array,
    ) -> Targets:
        """Targets ``[T]`` from five float32 ``[T]``; `objectives.returns` says what each of them is."""
        ...


class TargetEstimator(NamedTuple):
    """Which rewards count, and how they become targets: `objectives.extrinsic`, or a bonus's."""

    bootstrap: Callable[[Params, Trajectory], Any]
    """(params, trajectory) -> the values that ``targets`` needs and the rollout does not hold; once a rollout."""
    targets: Callable[[ReturnEstimator, jax.Array, Any, Trajectory], Targets]
    """(estimate, value [T], bootstrap, trajectory) -> `Targets`."""


class Loss(Protocol):
    """The scalar that an `Objective` minimises."""

    def __call__(self, params: Params, batch: Any, *adapted: jax.Array) -> tuple[jax.Array, Scalars]:
        """The loss of a batch that ``prepare`` made, and scalars to report.

        ``adapted`` are coefficients that the update rule keeps and adapts, such as PPO's penalty; most take none.
        """
        ...


class Objective(NamedTuple):
    """What to minimise, for the trajectories of ``B`` environments."""

    prepare: Callable[[Params, Trajectory], Any]
    """(params, trajectories [B, T]) -> batch: computed once a rollout, without gradients."""
    loss: Loss


class MakeObjective(Protocol):
    """Makes the `Objective` of a run: a function of `objectives` with its settings bound."""

    def __call__(self, network: Network, *, estimator: TargetEstimator) -> Objective:
        """The objective for ``network``, whose targets ``estimator`` makes."""
        ...


class UpdateRule(NamedTuple):
    """Whose gradients, taken at which parameters, are applied to what, and in which order."""

    init: Callable[[Key, Params], Learner]
    """(key, params) -> learner."""
    actor: Callable[[Learner], Params]
    """learner -> the parameters that act, every leaf with a leading axis ``[W]``."""
    update: Callable[[Key, Learner, Objective, Trajectory], tuple[Learner, Scalars]]
    """(key, learner, objective, trajectories [W, B, T]) -> (learner, named vectors to report, an entry a push): the
    objective's scalars, ``gradient_norm``, ``staleness`` and ``staleness_within``. On several devices they are of the
    pushes of all."""
    split: Callable[[Learner], Any]
    """learner -> the same tree with, for every leaf, the axis along which devices share it out; -1: each has all."""


class ClockedRule(NamedTuple):
    """An `UpdateRule` on the virtual clock, where an iteration takes as many batches of pushes as make ``W`` pushes."""

    init: Callable[[Key, Params], Learner]
    """As of an `UpdateRule`."""
    next_batch: Callable[[Key, Learner, jax.Array], tuple[Learner, Any]]
    """(key, learner, remaining) -> (learner, `updates.PushBatch`): the next pushes, ``remaining`` at most."""
    actor: Callable[[Learner, Any], Params]
    """(learner, batch) -> the parameters that act, every leaf with a leading axis ``[L]``."""
    update: Callable[[Key, Learner, Objective, Trajectory, Any], tuple[Learner, Scalars]]
    """(key, learner, objective, trajectories [L, B, T], batch) -> (learner, named vectors ``[L]`` to report): as of an
    `UpdateRule`, and ``virtual_time``."""
    split: Callable[[Learner], Any]
    """As of an `UpdateRule`."""
    hold: Callable[[Learner, Objective, Trajectory], Learner] | None = None
    """(learner, objective, trajectories [L, B, T], of which shapes and dtypes are enough) -> learner with room for
    rollouts that are learned from later; called once, at the start of the run. None: there are none."""
    learn_batch: Callable[[Key, Learner, Objective, Trajectory, jax.Array], tuple[Params, Any, Scalars]] | None = None
    """(key, learner, objective, rollouts [R, parts, B, T], staleness of their parts, int32 [R, parts]) -> (params,
    state of the optimizer, scalars to report): what the learner does with a batch. None: there is no queue."""


class Bonus(NamedTuple):
    """Intrinsic rewards, for trajectories ``[W, B, T]``."""

    init: Callable[[Key, tuple[int, int]], Any]
    """(key, (W, B)) -> state."""
    observe: Callable[[Any, Trajectory], Any]
    """(state, trajectories) -> state that has seen them and not learned from them."""
    update: Callable[[Key, Any, Trajectory], tuple[Any, Trajectory]]
    """(key, state, trajectories) -> (state, trajectories with ``bonus``)."""
    estimator: Callable[[Network, Any], TargetEstimator]
    """(network with two values, gamma of the rewards) -> `TargetEstimator`."""
    warm_up: int
    """Rollouts to observe before the run."""
    split: Callable[[Any, int], Any]
    """(state, axis of environments that devices share out) -> as of an `UpdateRule`."""


class MakeBonus(Protocol):
    """Makes the `Bonus` of a run."""

    def __call__(self, network: Any, env: Env, axis_name: AxisName) -> Bonus:
        """The bonus for agents with such a `networks.Config` in ``env``."""
        ...


class TargetNetwork(NamedTuple):
    """Earlier parameters, from which trajectories ``[L, B, T]`` get the values that returns bootstrap from."""

    init: Callable[[Params], Any]
    """params at the start of the run -> state."""
    annotate: Callable[[Any, Params, Any, Trajectory], Trajectory]
    """(state, parameters that acted [L, ...], levels of exploration [L, B], trajectories) -> trajectories with
    ``next_value``. It does not change the state, so it may be called any number of times in an iteration."""
    update: Callable[[Any, Params, jax.Array], Any]
    """(state, current params, iterations done) -> state; called once an iteration, after learning."""
    estimator: Callable[[Network, Any], TargetEstimator]
    """(network, gamma of the rewards) -> `TargetEstimator`."""


class MakeTargetNetwork(Protocol):
    """Makes the `TargetNetwork` of a run."""

    def __call__(self, network: Network, behave: Callable[[Any, Any], Any]) -> TargetNetwork:
        """The target network for ``network``; ``behave`` is that of `loops.Exploration`."""
        ...


class Metrics(NamedTuple):
    """The report of one iteration: scalars; ``train`` stacks them to ``[I]``."""

    frames: jax.Array  # int32: since the start of the run; float32, rounded, in a run of 2**31 frames or more
    episodes: jax.Array  # int32: whole episodes that ended in this iteration
    return_sum: jax.Array  # float32: of the returns of these episodes
    length_sum: jax.Array  # float32: of their lengths, frames
    losses: dict[str, jax.Array]  # reports of the objective and the update rule by name, see `metrics`

    @property
    def episode_return(self) -> jax.Array:
        """Mean return of the episodes that ended in an iteration; NaN where none did."""
        return _mean(self.return_sum, self.episodes)

    @property
    def episode_length(self) -> jax.Array:
        """Mean length of these episodes in frames; NaN where none ended."""
        return _mean(self.length_sum, self.episodes)


def _mean(total: jax.Array, count: jax.Array) -> jax.Array:
    # Arrays that were fetched stay where they are: jnp would compile a program for every length.
    xnp: Any = jnp if isinstance(total, jax.Array) else np
    with jax.debug_nans(False):  # This NaN is meant: it says that there is no mean.
        return xnp.where(count > 0, total / xnp.maximum(count, 1).astype(total.dtype), xnp.array(np.nan, total.dtype))


class Pretrained(NamedTuple):
    """What a run can begin with, from the state of another one."""

    params: Params
    observations: Any = None  # `envs.statistics.Statistics`, leaves without axes of copies; None: of no observations


class Init(Protocol):
    """Makes the state at the start of a run."""

    def __call__(self, key: Key, pretrained: Pretrained | None = None) -> State:
        """The state, with parameters of its own or with ``pretrained`` ones. The key is consumed."""
        ...


class Algorithm(NamedTuple):
    """A learning algorithm on an environment: everything that ``train`` and ``evaluate`` need."""

    init: Init
    """key -> state."""
    step: Callable[[Key, State], tuple[State, Metrics]]
    """(key, state) -> (state, metrics): one iteration of acting and learning."""
    policy: Callable[[State], Callable[[Carry, Observation, jax.Array], tuple[Carry, Outputs]]]
    """state -> the function (carry, obs, first) -> (carry, outputs) that acts."""
    eval_env: Callable[[State], Env]
    """state -> the environment for evaluation."""
    observer: Callable[[State], Any]
    """state -> how the agent sees the bare environment's observations: an `envs.Observer`."""
    split: Callable[[State], Any]
    """state -> the same tree with, for every leaf, the axis along which devices share it out; -1: each has all."""
    env: Env
    network: Network
    frames_per_step: int
    iterations: int
    outside: Any
    """What is left without the environments: a `loops.outside.Outside`."""
    compiler_options: dict[str, Any]
    """Options of `jax.jit` with which one run is fastest; the numbers are the same with and without them."""

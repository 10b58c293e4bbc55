"""Random network distillation (Burda et al. 2018, arXiv 1810.12894): a bonus for observations that are novel."""

from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c import networks
from purejaxrl_a3c.bonuses.moments import discounted_sums, normalize, start_moments, update_moments
from purejaxrl_a3c.bonuses.streams import two_streams
from purejaxrl_a3c.envs import statistics
from purejaxrl_a3c.envs.observations import Shape, map_shape, split_mask
from purejaxrl_a3c.networks.torsos import orthogonal
from purejaxrl_a3c.types import (
    AxisName,
    Bonus,
    Env,
    Key,
    Network,
    Objective,
    Observation,
    Params,
    Scalars,
    TargetEstimator,
    Trajectory,
)
from purejaxrl_a3c.updates.gradient import apply_gradient, gradient_of
from purejaxrl_a3c.updates.minibatches import deal


class RNDSettings(Protocol):
    """The settings of the bonus; `algorithms.rnd.Config` has them."""

    @property
    def extrinsic_coefficient(self) -> float:
        """Weight of the advantages of the environment's rewards."""
        ...

    @property
    def intrinsic_coefficient(self) -> float:
        """Weight of the advantages of the bonus."""
        ...

    @property
    def intrinsic_gamma(self) -> float:
        """Discount factor of the bonus."""
        ...

    @property
    def predictor_learning_rate(self) -> float:
        """Learning rate of the predictor network's Adam."""
        ...

    @property
    def predictor_epochs(self) -> int:
        """Passes of the predictor network over each rollout."""
        ...

    @property
    def num_predictor_minibatches(self) -> int:
        """Minibatches of each of these passes."""
        ...

    @property
    def num_features(self) -> int:
        """Outputs of the random network."""
        ...

    @property
    def warm_up(self) -> int:
        """Rollouts that initialise the statistics of observations."""
        ...


class RNDState(NamedTuple):
    """The two networks, and running moments of observations and bonuses."""

    target: Params  # of the random network, which never changes
    predictor: Params
    opt_state: Any  # of the predictor
    observations: Any  # `Statistics`; for observations of several arrays a dict of them
    returns: statistics.Statistics  # of the discounted sums of bonuses: float32 []
    filter: jax.Array  # float32 [W, B]: the discounted sum of each environment's bonuses until now


class Features(nn.Module):
    """A torso, hidden layers, and an output of ``F`` numbers."""

    torso: nn.Module
    hidden_sizes: tuple[int, ...]
    num_features: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """Features ``[..., F]``."""
        x = self.torso(obs)
        for size in self.hidden_sizes:
            x = nn.relu(nn.Dense(size, kernel_init=orthogonal(2**0.5))(x))
        return nn.Dense(self.num_features, kernel_init=orthogonal(2**0.5))(x)


class Parts(NamedTuple):
    """The parts of the bonus that never change."""

    settings: RNDSettings
    target: Features
    predictor: Features
    optimizer: optax.GradientTransformation  # of the predictor
    observation_shape: Shape  # without a mask
    axis_name: AxisName


def random_network_distillation(
    config: RNDSettings, network_config: networks.Config, env: Env, axis_name: AxisName = None
) -> Bonus:
    """A bonus for observations on which a trained network does not yet agree with a random one.

    The bonus of a step is the prediction error at its true successor, divided by the running deviation of the
    discounted sums of such errors. It does not end with the episode, see `two_streams`.

    Args:
        config: settings of the bonus.
        network_config: settings of the agent's network. The two networks of the bonus have a torso like the agent's.
        env: the `Env`.
        axis_name: name of the axis of devices that share the environments, or None.

    Returns:
        A `Bonus`, whose state is an `RNDState`.
    """
    shape, _ = split_mask(env.observation_shape)
    torso = networks.make_torso(network_config.body, shape)
    parts = Parts(
        settings=config,
        target=Features(torso, (), config.num_features),
        # Two more layers, as in the paper's code, so that the predictor could represent the target.
        predictor=Features(
            torso, (network_config.body.hidden_sizes or (config.num_features,))[-1:] * 2, config.num_features
        ),
        optimizer=optax.adam(config.predictor_learning_rate),
        observation_shape=shape,
        axis_name=axis_name,
    )

    def estimator(network: Network, gamma: float | jax.Array) -> TargetEstimator:
        return two_streams(
            network,
            gamma,
            intrinsic_gamma=config.intrinsic_gamma,
            extrinsic_coefficient=config.extrinsic_coefficient,
            intrinsic_coefficient=config.intrinsic_coefficient,
        )

    return Bonus(
        init=partial(init, parts),
        observe=partial(observe, parts),
        update=partial(update, parts),
        estimator=estimator,
        warm_up=config.warm_up,
        split=split,
    )


def init(parts: Parts, key: Key, shape: tuple[int, int]) -> RNDState:
    """The `RNDState` at the start, for environments ``[W, B]``."""
    key_target, key_predictor = jax.random.split(key)
    obs = map_shape(lambda shape: jnp.zeros(shape, jnp.float32), parts.observation_shape)
    predictor = parts.predictor.init(key_predictor, obs)
    return RNDState(
        target=parts.target.init(key_target, obs),
        predictor=predictor,
        opt_state=parts.optimizer.init(predictor),
        observations=map_shape(start_moments, parts.observation_shape),
        returns=start_moments(()),
        filter=jnp.zeros(shape, jnp.float32),
    )


def observe(parts: Parts, state: RNDState, trajectories: Trajectory) -> RNDState:
    """The state with moments that include the observations of ``trajectories``."""
    observations = seen_too(parts, state.observations, successors(parts, trajectories))
    return state._replace(observations=observations)


def update(parts: Parts, key: Key, state: RNDState, trajectories: Trajectory) -> tuple[RNDState, Trajectory]:
    """The state after learning from ``trajectories [W, B, T]``, and the trajectories with their bonus."""
    rows = successors(parts, trajectories)
    error = errors(parts, state.predictor, state.target, statistics.each(normalize, state.observations, rows))
    # A sum with infinity in it would stay infinite for the whole run.
    error = jnp.where(jnp.isfinite(error), error, 0.0).reshape(trajectories.reward.shape)
    filtered, discounted = discounted_sums(state.filter, error, parts.settings.intrinsic_gamma)
    returns = update_moments(state.returns, discounted.ravel(), parts.axis_name)
    # No mean is subtracted: a bonus is never a punishment.
    trajectories = trajectories._replace(bonus=error / statistics.standard_deviation(returns))
    observations = seen_too(parts, state.observations, rows)
    state = state._replace(observations=observations, returns=returns, filter=filtered)
    return train_predictor(parts, key, state, statistics.each(normalize, observations, rows)), trajectories


def seen_too(parts: Parts, observations: Any, rows: Observation) -> Any:
    """The moments of observations after some more of them, ``rows [N, ...]``."""
    return statistics.each(lambda one, x: update_moments(one, x, parts.axis_name), observations, rows)


def train_predictor(parts: Parts, key: Key, state: RNDState, rows: Observation) -> RNDState:
    """The state after all passes of the predictor over normalized observations ``rows [N, ...]``."""

    def loss(params: Params, batch: Observation, *adapted: jax.Array) -> tuple[jax.Array, Scalars]:
        del adapted  # there are none
        return errors(parts, params, state.target, batch).mean(), {}

    objective = Objective(lambda params, rows: rows, loss)

    def learn(loop: tuple[Params, Any], minibatch: Observation) -> tuple[tuple[Params, Any], None]:
        predictor, opt_state = loop
        gradient, _ = gradient_of(objective, predictor, minibatch, axis_name=parts.axis_name)
        return apply_gradient(parts.optimizer, gradient, opt_state, predictor), None

    def learn_all(loop: tuple[Params, Any], key: Key) -> tuple[tuple[Params, Any], None]:
        return jax.lax.scan(learn, loop, deal(key, rows, parts.settings.num_predictor_minibatches))

    keys = jax.random.split(key, parts.settings.predictor_epochs)
    (predictor, opt_state), _ = jax.lax.scan(learn_all, (state.predictor, state.opt_state), keys)
    return state._replace(predictor=predictor, opt_state=opt_state)


def split(state: RNDState, axis: int) -> RNDState:
    """The axis along which devices share out each leaf of the state: the environments' sums along ``axis``."""
    return jax.tree.map(lambda _: -1, state)._replace(filter=axis)


def successors(parts: Parts, trajectories: Trajectory) -> Observation:
    """The true successors of all steps of trajectories ``[W, B, T]``: float32 ``[W B T, ...]``, without a mask."""
    seen, _ = split_mask(trajectories.final_obs)
    return map_shape(lambda shape, x: x.reshape(-1, *shape).astype(jnp.float32), parts.observation_shape, seen)


def errors(parts: Parts, predictor: Params, target: Params, rows: Observation) -> jax.Array:
    """Mean squared errors of the predictor's features: float32 ``[N]`` for normalized observations ``[N, ...]``."""
    predicted: Any = parts.predictor.apply(predictor, rows)
    truth: Any = parts.target.apply(target, rows)
    return jnp.square(predicted - truth).mean(-1)

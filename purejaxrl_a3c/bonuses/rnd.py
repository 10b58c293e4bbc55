"""Random network distillation (Burda et al. 2018, arXiv 1810.12894): what cannot be predicted yet is worth a visit."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c import networks, objectives
from purejaxrl_a3c.envs import statistics
from purejaxrl_a3c.networks.torsos import orthogonal
from purejaxrl_a3c.types import Bonus, Objective, Targets
from purejaxrl_a3c.updates.gradient import gradient_of
from purejaxrl_a3c.updates.minibatches import deal

_LARGEST = 5.0  # of a whitened observation (section 2.4)


class Explorer(NamedTuple):
    """The networks, and what observations and bonuses were like so far."""

    target: Any  # frozen
    predictor: Any
    opt_state: Any
    observations: statistics.Statistics
    returns: statistics.Statistics  # of the bonus, discounted: float32 []
    filter: jax.Array  # float32 [W, B]: the discounted sum of each environment's bonuses until now


class Features(nn.Module):
    """A torso, hidden layers, and an output of ``F`` numbers."""

    torso: nn.Module
    hidden_sizes: tuple[int, ...]
    num_features: int

    @nn.compact
    def __call__(self, obs):
        """``[..., F]``."""
        x = self.torso(obs)
        for size in self.hidden_sizes:
            x = nn.relu(nn.Dense(size, kernel_init=orthogonal(2**0.5))(x))
        return nn.Dense(self.num_features, kernel_init=orthogonal(2**0.5))(x)


def random_network_distillation(config, agent, env, axis_name=None):
    """A bonus for observations on which a trained network does not agree yet with a random one.

    The bonus of a step is the error at its true successor, in units of the running deviation of its discounted sum. It
    does not end with an episode: what one finds out is not lost by dying. So there are two values of an observation.

    Args:
        config: an `algorithms.rnd.Config`.
        agent: the agent's ``Config``, for the torso.
        env: the `Env`.
        axis_name: of the devices that share the environments out, or None.

    Returns:
        A `Bonus`.
    """
    torso = networks.make_torso(agent, env.observation_shape)
    target_network = Features(torso, (), config.num_features)
    # Deeper, so that it could represent the target if it knew it (two more layers in the paper's code).
    predictor_network = Features(torso, (agent.hidden_sizes[-1],) * 2, config.num_features)
    optimizer = optax.adam(config.predictor_learning_rate)

    def init(key, shape):
        key_target, key_predictor = jax.random.split(key)
        obs = jnp.zeros(env.observation_shape)
        predictor = predictor_network.init(key_predictor, obs)
        return Explorer(
            target=target_network.init(key_target, obs),
            predictor=predictor,
            opt_state=optimizer.init(predictor),
            observations=statistics.start(env.observation_shape),
            returns=statistics.start(()),
            filter=jnp.zeros(shape),
        )

    def successors(trajectories):
        return trajectories.final_obs.reshape(-1, *env.observation_shape).astype(jnp.float32)

    def errors(predictor, target, rows):
        found: Any = predictor_network.apply(predictor, rows)
        truth: Any = target_network.apply(target, rows)
        return jnp.square(found - truth).mean(-1)

    def observe(state, trajectories):
        return state._replace(observations=absorb(state.observations, successors(trajectories), axis_name))

    def update(key, state, trajectories):
        rows = successors(trajectories)
        error = errors(state.predictor, state.target, whiten(state.observations, rows))
        error = error.reshape(trajectories.reward.shape)
        filtered, discounted = discounted_sums(state.filter, error, config.intrinsic_gamma)
        returns = absorb(state.returns, discounted.ravel(), axis_name)
        # No mean is subtracted: a bonus is never a punishment.
        trajectories = trajectories._replace(bonus=error / statistics.standard_deviation(returns))

        observations = absorb(state.observations, rows, axis_name)

        def loss(predictor, rows):
            return errors(predictor, state.target, rows).mean(), {}

        def learn(loop, rows):
            predictor, opt_state = loop
            objective = Objective(lambda params, rows: rows, loss)
            gradient, _ = gradient_of(objective, predictor, rows, axis_name=axis_name)
            step, opt_state = optimizer.update(gradient, opt_state, predictor)
            return (optax.apply_updates(predictor, step), opt_state), None

        def learn_all(loop, key):
            return jax.lax.scan(learn, loop, deal(key, whiten(observations, rows), config.predictor_minibatches))

        keys = jax.random.split(key, config.predictor_epochs)
        (predictor, opt_state), _ = jax.lax.scan(learn_all, (state.predictor, state.opt_state), keys)
        return Explorer(state.target, predictor, opt_state, observations, returns, filtered), trajectories

    def make_credit(network, agent):
        return two_streams(network, agent, config)

    return Bonus(init, observe, update, make_credit, config.warm_up)


def absorb(moments, samples, axis_name=None):
    """``moments`` (`statistics.Statistics`) of ``samples [N, ...]``, of all devices, too."""
    mean = samples.mean(0)
    noted = moments._replace(
        new_weight=jnp.float32(samples.shape[0]), new_mean=mean, new_squares=jnp.square(samples - mean[None]).sum(0)
    )
    merged = statistics.merge(jax.tree.map(lambda x: x[None, None], noted), axis_name)
    return jax.tree.map(lambda x: x[0, 0], merged)


def whiten(moments, obs):
    """``obs [N, ...]`` with mean 0 and deviation 1, at most +-5."""
    deviation = statistics.standard_deviation(moments)
    return jnp.clip((obs - moments.mean[None]) / deviation[None], -_LARGEST, _LARGEST)


def discounted_sums(before, bonus, gamma):
    """Each environment's discounted sums of past bonuses: ``([W, B] after the block, [W, B, T])``."""

    def tick(total, bonus):
        total = gamma * total + bonus
        return total, total

    after, sums = jax.lax.scan(tick, before, jnp.moveaxis(bonus, -1, 0))
    return after, jnp.moveaxis(sums, 0, -1)


def two_streams(network, agent, config):
    """Credit for the rewards, which end with the episode, and for the bonus, which does not.

    Args:
        network: the `Network`, with two values: of the rewards and of the bonus.
        agent: any object with ``gamma``, the discount factor of the rewards.
        config: any object with ``intrinsic_gamma``, ``extrinsic_coefficient`` and ``intrinsic_coefficient``.

    Returns:
        An `objectives.Credit`, whose value targets are ``[T, 2]``.
    """

    def step(params, carry, obs, first):
        carry, outputs = network.step(params, carry, obs, first)
        return carry, outputs._replace(value=outputs.value[..., 0])

    extrinsic = objectives.extrinsic(network._replace(step=step), agent)

    def bootstrap(params, trajectory):
        # The bonus goes on into the next episode, so at the end of the block comes what is acted on next.
        carry = jax.tree.map(lambda x: x[-1], trajectory.next_carry)
        last = trajectory.terminated[-1] | trajectory.truncated[-1]
        _, outputs = network.step(params, carry, trajectory.end_obs, last)
        return extrinsic.bootstrap(params, trajectory), outputs.value[..., 1]

    def targets(estimate, value, bootstrap, trajectory):
        of_rewards = extrinsic.targets(estimate, value[:, 0], bootstrap[0], trajectory)
        of_bonus = estimate(
            value=value[:, 1],
            next_value=jnp.roll(value[:, 1], -1).at[-1].set(bootstrap[1]),
            reward=trajectory.bonus,
            discount=jnp.full_like(trajectory.bonus, config.intrinsic_gamma),
            last=jnp.zeros_like(trajectory.bonus),
        )
        return Targets(
            value=jnp.stack([of_rewards.value, of_bonus.value], -1),
            advantage=config.extrinsic_coefficient * of_rewards.advantage
            + config.intrinsic_coefficient * of_bonus.advantage,
        )

    return objectives.Credit(bootstrap, targets)

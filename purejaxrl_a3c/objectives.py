"""What to minimise. Each function returns an `Objective` over the trajectories of ``B`` environments."""

import jax
import jax.numpy as jnp

from purejaxrl_a3c import returns
from purejaxrl_a3c.types import Objective


def bootstrap_values(network, params, trajectory):
    """V of the true successor, ``[T]``, where the block itself does not hold it, and 0 elsewhere.

    That is the case at truncated steps, whose successor the reset hides, and at the end of the block. The
    values are computed one step of each environment at a time, latest first, for as long as some environment
    still needs one: a block without a truncation costs one evaluation an environment, not ``T``.
    """
    needed = trajectory.truncated.at[-1].set(~trajectory.terminated[-1])

    def evaluate_latest(loop):
        needed, value = loop
        t = needed.shape[0] - 1 - jnp.argmax(needed[::-1])
        # Not first: what is valued is the end of the old episode, with the memory of that episode.
        carry, final_obs = jax.tree.map(lambda x: x[t], (trajectory.next_carry, trajectory.final_obs))
        _, outputs = network.step(params, carry, final_obs, jnp.bool_(False))
        return needed.at[t].set(False), value.at[t].set(outputs.value)

    loop = (needed, jnp.zeros_like(trajectory.reward))
    _, value = jax.lax.while_loop(lambda loop: loop[0].any(), evaluate_latest, loop)
    return value


def successor_values(value, bootstrap, last):
    """V of every step's true successor, ``[T]``, from ``value [T]`` and `bootstrap_values`."""
    inside = ~last.at[-1].set(True)
    return jnp.where(inside, jnp.roll(value, -1), bootstrap)


def policy_gradient(network, config):
    """The advantage actor-critic loss (Mnih et al. 2016, arXiv 1602.01783, algorithm S3).

    ``mean over steps of: - log pi(a|s) A - entropy_coefficient H + value_coefficient (V - R)^2``

    The paper sums over the steps of a rollout; this is the mean, so that the size of a gradient depends on
    neither the length of the rollout nor the number of environments. With RMSProp that matters little, except
    beside its epsilon and the clip.

    Args:
        network: the `Network`.
        config: any object with ``gamma``, the discount factor a step; ``lambda_``, the trace decay of the advantages,
            of which 1 gives the paper's n-step return; ``entropy_coefficient``, the weight of the entropy in nats; and
            ``value_coefficient``, the weight of the squared error of the value.
    """

    def prepare(params, trajectories):
        def bootstrap(trajectory):
            return bootstrap_values(network, params, trajectory)

        return trajectories, jax.vmap(bootstrap)(trajectories)

    def terms_of_one(outputs, trajectory, bootstrap):
        last = trajectory.terminated | trajectory.truncated
        targets = returns.gae(
            value=outputs.value,
            next_value=successor_values(outputs.value, bootstrap, last),
            reward=trajectory.reward,
            discount=config.gamma * (1.0 - trajectory.terminated),
            last=last,
            lambda_=config.lambda_,
        )
        return {
            "policy_loss": -outputs.policy.log_prob(trajectory.action) * targets.advantage,
            "value_loss": jnp.square(outputs.value - targets.value),
            "entropy": outputs.policy.entropy(),
            "value_mean": outputs.value,
        }

    def loss(params, batch):
        trajectories, bootstrap = batch
        _, outputs = network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)
        terms = jax.vmap(terms_of_one)(outputs, trajectories, bootstrap)
        terms = {name: term.mean() for name, term in terms.items()}
        total = (
            terms["policy_loss"]
            + config.value_coefficient * terms["value_loss"]
            - config.entropy_coefficient * terms["entropy"]
        )
        return total, terms

    return Objective(prepare, loss)

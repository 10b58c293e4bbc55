"""A2C: synchronous advantage actor-critic, A3C's objective with lockstep updates."""

from dataclasses import dataclass

from purejaxrl_a3c import checks, envs, networks, objectives, optimizers, updates
from purejaxrl_a3c.actor_critic import actor_critic


@dataclass(frozen=True)
class Config:
    """A2C's settings. Floats may be traced (``vmap`` over them), everything else is static."""

    env_id: str = "CartPole-v1"
    """A name in ``gymnax.registered_envs``."""
    num_envs: int = 16
    """Environments stepped in parallel (16 in OpenAI Baselines)."""
    rollout_length: int = 5
    """Environment steps between two updates (5 in Mnih et al. 2016 and OpenAI Baselines)."""
    total_frames: int = 500_000
    """Environment steps of the whole run, over all environments; whole iterations, rounded down."""
    learning_rate: float = 7e-4
    """Of RMSProp, at the start (7e-4 in OpenAI Baselines)."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over the run (Mnih et al. 2016)."""
    gamma: float = 0.99
    """Discount factor a step (Mnih et al. 2016)."""
    lambda_: float = 1.0
    """Trace decay of the advantages; 1 is the n-step return of Mnih et al. 2016."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy in nats (Mnih et al. 2016)."""
    value_coefficient: float = 0.5
    """Weight of the squared error of the value (0.5 in OpenAI Baselines)."""
    max_gradient_norm: float = 0.5
    """Global norm to which the gradient is clipped (0.5 in OpenAI Baselines)."""
    rmsprop_decay: float = 0.99
    """Decay of the mean of squared gradients (0.99 in Mnih et al. 2016)."""
    rmsprop_epsilon: float = 1e-5
    """Added to that mean, inside the root (1e-5 in OpenAI Baselines)."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    activation: str = "tanh"
    """One of elu, gelu, relu, silu, tanh."""
    shared_torso: bool = False
    """Whether policy and value share the hidden layers."""

    def build(self):
        """The `Algorithm` of these settings.

        Raises:
            InputError: naming the field, its value and what is accepted.
        """
        checks.check_fields(self, networks.ACTIVATIONS)
        iterations = checks.count_iterations(self.total_frames, self.num_envs * self.rollout_length)
        env = envs.make(self.env_id)
        checks.check_discrete(self.env_id, env.action_space)
        network = networks.make(self, env)
        objective = objectives.policy_gradient(network, self)
        rule = updates.synchronous(optimizers.shared_rmsprop(self, num_updates=iterations))
        return actor_critic(
            env,
            network,
            objective,
            rule,
            num_workers=1,
            envs_per_worker=self.num_envs,
            rollout_length=self.rollout_length,
        )

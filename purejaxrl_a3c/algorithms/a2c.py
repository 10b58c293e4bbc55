"""A2C: synchronous advantage actor-critic, A3C's objective with lockstep updates."""

from dataclasses import dataclass, field

from purejaxrl_a3c import envs, objectives, updates
from purejaxrl_a3c.loops.on_policy import build
from purejaxrl_a3c.networks.torsos import Torso


@dataclass(frozen=True)
class Config:
    """A2C's settings. Floats may be traced (``vmap`` over them), everything else is static."""

    env_id: str = "CartPole-v1"
    """A name in ``gymnax.registered_envs``, or one of another suite, ``brax/ant`` say."""
    env_params: dict[str, float] = field(default_factory=dict, hash=False)
    """Values for parameters of the environment, by name; they may be traced (gymnax only)."""
    wrappers: envs.Wrappers = field(default_factory=envs.Wrappers)
    """What is put around the environment."""
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
    torso: Torso = "mlp"
    """What looks at observations: mlp, or of frames minatar, nature or impala; in Python also any flax module."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the fully connected layers, the last ones of every torso."""
    activation: str = "tanh"
    """One of elu, gelu, relu, silu, tanh."""
    layer_norm: bool = False
    """Normalise every fully connected layer before its activation."""
    core: str = "feed_forward"
    """What remembers, between torso and heads: feed_forward (nothing), lstm or gru."""
    num_cells: int = 256
    """Cells of a recurrent core (256 in Mnih et al. 2016)."""
    shared_torso: bool = False
    """Whether policy and value share torso and core (they do in Mnih et al. 2016)."""
    squash_actions: bool = False
    """Bounded continuous actions: the tanh of a Gaussian instead of a Gaussian that is clipped."""
    state_dependent_scale: bool = False
    """Continuous actions: the scale of the Gaussian is an output of the network instead of a parameter."""
    initial_scale: float = 1.0
    """Continuous actions: standard deviation of the Gaussian at the start; bounds are at -1 and 1."""

    def build(self, axis_name=None, make_bonus=None):
        """The `Algorithm` of these settings.

        Args:
            axis_name: of the devices that share the work out, see `make_train`; None: there is one.
            make_bonus: see `actor_critic.build`.

        Raises:
            InputError: naming the field, its value and what is accepted.
        """

        def rule(optimizer):
            return updates.synchronous(optimizer, axis_name)

        return build(
            self,
            objectives.policy_gradient,
            rule,
            num_workers=1,
            envs_per_worker=self.num_envs,
            make_bonus=make_bonus,
            axis_name=axis_name,
        )

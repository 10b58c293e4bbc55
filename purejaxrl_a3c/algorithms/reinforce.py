"""REINFORCE: Monte-Carlo policy gradient over whole episodes (Williams 1992), with a baseline or without.

The one-step actor-critic (Sutton & Barto 2018, section 13.5), next in most tutorials, is `a2c` with ``lambda_=0``.
"""

from dataclasses import dataclass, field
from functools import partial

from purejaxrl_a3c import checks, envs, objectives, updates
from purejaxrl_a3c.loops.on_policy import CHOICES, build
from purejaxrl_a3c.networks.torsos import Torso
from purejaxrl_a3c.updates import optimizers


@dataclass(frozen=True)
class Config:
    """REINFORCE's settings. Floats may be traced (``vmap`` over them), everything else is static.

    Where no source is named, a number was found on CartPole.
    """

    env_id: str = "CartPole-v1"
    """A name in ``gymnax.registered_envs``, or one of another suite, ``brax/ant`` say."""
    env_params: dict[str, float] = field(default_factory=dict, hash=False)
    """Values for parameters of the environment, by name; they may be traced (gymnax only)."""
    wrappers: envs.Wrappers = field(default_factory=envs.Wrappers)
    """What is put around the environment."""
    num_envs: int = 8
    """Environments stepped in parallel."""
    rollout_length: int = 1000
    """Environment steps between two updates. Episodes that start too late to last for ``longest_episode`` are not
    learned from, so twice that number is a good choice."""
    longest_episode: int = 500
    """Frames. Longer episodes may be left out, which would prefer short ones."""
    total_frames: int = 500_000
    """Environment steps of the whole run, over all environments; whole iterations, rounded down."""
    learning_rate: float = 1e-2
    """Of Adam, at the start."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over the run."""
    gamma: float = 0.99
    """Discount factor a step."""
    baseline: str = "value"
    """What is subtracted from the returns: value, which is learned beside the policy, or none (Williams 1992)."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy in nats (Mnih et al. 2016)."""
    value_coefficient: float = 0.5
    """Weight of the squared error of the value."""
    max_gradient_norm: float = 0.5
    """Global norm to which the gradient is clipped."""
    adam_epsilon: float = 1e-5
    """Added to the root of the mean of squared gradients."""
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

    def build(self, axis_name=None):
        """The `Algorithm` of these settings.

        Args:
            axis_name: of the devices that share the work out, see `make_train`; None: there is one.

        Raises:
            InputError: naming the field, its value and what is accepted.
        """
        checks.check_fields(self, CHOICES | {"baseline": objectives.BASELINES})
        if self.longest_episode > self.rollout_length:
            checks.reject("longest_episode", self.longest_episode, f"at most rollout_length, {self.rollout_length}")
        return build(
            self,
            objectives.reinforce,
            partial(updates.synchronous, axis_name=axis_name),
            num_workers=1,
            envs_per_worker=self.num_envs,
            make_optimizer=optimizers.adam,
            axis_name=axis_name,
        )

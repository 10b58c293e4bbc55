"""IMPALA: trajectories of older parameters, learned from at the newest ones, with V-trace (Espeholt et al. 2018)."""

from dataclasses import dataclass, field
from functools import partial

from purejaxrl_a3c import checks, envs, objectives, updates
from purejaxrl_a3c.loops.on_policy import CHOICES, build
from purejaxrl_a3c.networks.torsos import Torso


def one_update_late():
    """The parameters that act are those of one update before."""
    return updates.Asynchrony(reads="lagged", lag=1.0)


@dataclass(frozen=True)
class Config:
    """IMPALA's settings. Floats may be traced (``vmap`` over them), everything else is static.

    With one worker the parameters that act are ``asynchrony.lag`` updates old; with more, as old as the schedule makes
    them: A3C's order of arrival, corrected. Numbers of the paper (arXiv 1802.01561) are those of its table G.1.
    """

    env_id: str = "CartPole-v1"
    """A name in ``gymnax.registered_envs``, or one of another suite, ``brax/ant`` say."""
    env_params: dict[str, float] = field(default_factory=dict, hash=False)
    """Values for parameters of the environment, by name; they may be traced (gymnax only)."""
    wrappers: envs.Wrappers = field(default_factory=envs.Wrappers)
    """What is put around the environment."""
    num_workers: int = 1
    """Actors, each with its own copy of the parameters; an update learns from one actor's rollout."""
    envs_per_worker: int = 32
    """Environments that each actor steps in parallel (a batch of 32 in Espeholt et al. 2018)."""
    rollout_length: int = 20
    """Environment steps between two updates (20 in Espeholt et al. 2018)."""
    total_frames: int = 500_000
    """Environment steps of the whole run, over all environments; whole iterations, rounded down."""
    learning_rate: float = 6e-4
    """Of RMSProp, at the start (6e-4 in Espeholt et al. 2018)."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over the run (Espeholt et al. 2018)."""
    gamma: float = 0.99
    """Discount factor a step (Espeholt et al. 2018)."""
    lambda_: float = 1.0
    """Trace decay of the V-trace targets (1 in Espeholt et al. 2018)."""
    off_policy: str = "vtrace"
    """How staleness is corrected: vtrace, or for comparison one_step, epsilon or none (section 5.2.2 of the paper)."""
    clip_rho: float = 1.0
    """Upper bound of the importance weights of errors and advantages (1 in Espeholt et al. 2018)."""
    clip_c: float = 1.0
    """Upper bound of the importance weights of the traces (1 in Espeholt et al. 2018)."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy in nats (0.01 in Espeholt et al. 2018)."""
    value_coefficient: float = 0.5
    """Weight of the squared error of the value (0.5 in Espeholt et al. 2018)."""
    max_gradient_norm: float = 0.5
    """Global norm to which the gradient is clipped (A2C's; 40 in Espeholt et al. 2018, for sums over 640 steps)."""
    rmsprop_decay: float = 0.99
    """Decay of the mean of squared gradients (0.99 in Espeholt et al. 2018)."""
    rmsprop_epsilon: float = 1e-5
    """Added to that mean, inside the root (A2C's; 0.01 in Espeholt et al. 2018, for sums)."""
    asynchrony: updates.Asynchrony = field(default_factory=one_update_late)
    """Who learns when, and which parameters act then."""
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
        checks.check_fields(self, CHOICES | {"off_policy": objectives.OFF_POLICY})
        rule = partial(
            updates.asynchronous,
            num_workers=self.num_workers,
            asynchrony=self.asynchrony,
            gradient_at_newest=True,
            axis_name=axis_name,
        )
        return build(
            self,
            objectives.off_policy_gradient,
            rule,
            num_workers=self.num_workers,
            envs_per_worker=self.envs_per_worker,
            updates_per_iteration=self.num_workers,
            weights_per_worker=True,
            shared_out="envs_per_worker",
            make_bonus=make_bonus,
            axis_name=axis_name,
        )

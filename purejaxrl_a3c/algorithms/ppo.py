"""PPO: proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), clipped or with a penalty."""

from dataclasses import dataclass, field
from functools import partial

from purejaxrl_a3c import checks, envs, updates
from purejaxrl_a3c.loops.on_policy import CHOICES, build
from purejaxrl_a3c.networks.torsos import Torso
from purejaxrl_a3c.objectives import proximal
from purejaxrl_a3c.updates import optimizers

OBJECTIVES = {"clip": proximal.ppo_clip, "kl": proximal.ppo_kl}


@dataclass(frozen=True)
class Config:
    """PPO's settings. Floats may be traced (``vmap`` over them), everything else is static.

    Numbers in brackets are those of "The 37 implementation details of PPO" (Huang et al. 2022, ICLR blog track).
    """

    env_id: str = "CartPole-v1"
    """A name in ``gymnax.registered_envs``, or one of another suite, ``brax/ant`` say."""
    env_params: dict[str, float] = field(default_factory=dict, hash=False)
    """Values for parameters of the environment, by name; they may be traced (gymnax only)."""
    wrappers: envs.Wrappers = field(default_factory=envs.Wrappers)
    """What is put around the environment."""
    num_envs: int = 8
    """Environments stepped in parallel (8 for Atari in Schulman et al. 2017) [1]."""
    rollout_length: int = 128
    """Environment steps of a rollout (128 for Atari in Schulman et al. 2017)."""
    total_frames: int = 500_000
    """Environment steps of the whole run, over all environments; whole iterations, rounded down."""
    epochs: int = 4
    """Over each rollout (4 for Atari in OpenAI Baselines; *epochs* in the literature) [6]."""
    minibatches: int = 4
    """In each pass (4 in OpenAI Baselines) [6]; of whole environments for a recurrent core, else of single steps."""
    learning_rate: float = 2.5e-4
    """Of Adam, at the start (2.5e-4 for Atari in Schulman et al. 2017)."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over the updates of the run [4]."""
    gamma: float = 0.99
    """Discount factor a step (Schulman et al. 2017)."""
    lambda_: float = 0.95
    """Trace decay of the advantages (Schulman et al. 2017) [5]."""
    policy_loss: str = "clip"
    """What keeps the policy near the one that acted: clip [8], or kl, a penalty with a coefficient that adapts."""
    clip_range: float = 0.2
    """Of the probability ratio, about 1 (Schulman et al. 2017; 0.1 for Atari)."""
    kl_coefficient: float = 1.0
    """Of the penalty, at the start; it adapts quickly (Schulman et al. 2017)."""
    kl_target: float = 0.01
    """Nats by which the penalty lets the policy move (the best one in Schulman et al. 2017, table 1)."""
    stop_kl: float = 0.0
    """Learn no more from a rollout once the policy has moved by more nats, with either loss (0.01 in OpenAI Spinning
    Up, times 1.5; off in OpenAI Baselines); 0: never stop. Updates left out do not anneal the learning rate."""
    clip_values: bool = False
    """No gain from moving a value by more than ``clip_range`` (on in OpenAI Baselines [9]; Andrychowicz et al. 2021,
    arXiv 2006.05990, found that it hurts)."""
    normalize_advantages: bool = True
    """To mean 0 and deviation 1, over each minibatch [7]."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy in nats (0.01 for Atari in Schulman et al. 2017) [10]."""
    value_coefficient: float = 0.25
    """Weight of the squared error of the value (0.5 of half of it in OpenAI Baselines)."""
    max_gradient_norm: float = 0.5
    """Global norm to which the gradient is clipped (0.5 in OpenAI Baselines) [11]."""
    adam_epsilon: float = 1e-5
    """Added to the root of the mean of squared gradients (1e-5 in OpenAI Baselines) [3]."""
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
        checks.check_fields(self, CHOICES | {"policy_loss": tuple(OBJECTIVES)})
        if self.core == "feed_forward":
            checks.check_divides(
                "minibatches", self.minibatches, "num_envs * rollout_length", self.num_envs * self.rollout_length
            )
        else:
            checks.check_divides("minibatches", self.minibatches, "num_envs, as the core is recurrent", self.num_envs)
        adaptive = updates.adaptive_kl(self.kl_coefficient, self.kl_target) if self.policy_loss == "kl" else None
        rule = partial(
            updates.minibatches,
            epochs=self.epochs,
            count=self.minibatches,
            stop_kl=self.stop_kl,
            adaptive=adaptive,
            axis_name=axis_name,
        )
        return build(
            self,
            partial(OBJECTIVES[self.policy_loss], axis_name=axis_name),
            rule,
            num_workers=1,
            envs_per_worker=self.num_envs,
            updates_per_iteration=self.epochs * self.minibatches,
            make_optimizer=optimizers.adam,
            make_bonus=make_bonus,
            axis_name=axis_name,
        )

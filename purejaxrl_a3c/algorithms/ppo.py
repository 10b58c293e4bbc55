"""PPO: proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), clipped or with a penalty.

Numbers in brackets are those of "The 37 implementation details of PPO" (Huang et al. 2022, ICLR blog track).
"""

from functools import partial
from typing import Literal

from purejaxrl_a3c import envs, loops, networks, objectives, updates
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import NonNegative, Positive, check, configuration
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus, UpdateRule
from purejaxrl_a3c.updates import optimizers

POLICY_LOSSES = {"clip": objectives.ppo_clip, "kl": objectives.ppo_kl}


@configuration
class Config:
    """Settings of PPO. Defaults without another source are those of Schulman et al. 2017 for Atari."""

    env: envs.Config = envs.Config()
    network: networks.Config = networks.Config()
    # A value coefficient of 0.25 is OpenAI Baselines' 0.5 of half the squared error.
    objective: objectives.Config = objectives.Config(gae_lambda=0.95, value_coefficient=0.25)
    optimizer: optimizers.Optimizer = optimizers.Adam()
    rollouts: loops.Batch = loops.Batch(num_envs=8, rollout_length=128)
    passes: updates.Passes = updates.Passes()  # [6]
    policy_loss: Literal["clip", "kl"] = "clip"
    """How the policy is kept near the one that acted: by clipping the probability ratio [8], or by a penalty on the
    Kullback-Leibler divergence with an adaptive coefficient."""
    clip_range: Positive = 0.2
    """Distance from 1 at which the probability ratio is clipped (0.2 in Schulman et al. 2017, 0.1 there for Atari)."""
    kl_penalty: NonNegative = 1.0
    """Coefficient of the Kullback-Leibler penalty at the start of the run; it adapts quickly (Schulman et al. 2017)."""
    kl_penalty_target: Positive = 0.01
    """Divergence in nats to which the penalty adapts (the best one in Schulman et al. 2017, table 1)."""
    target_kl: NonNegative | None = None
    """Stop learning from a rollout once the policy has moved by more than this many nats (0.015 in OpenAI Spinning Up;
    off in OpenAI Baselines). Updates that are left out do not anneal the learning rate."""
    clip_values: bool = False
    """Whether a value gains nothing from moving by more than clip_range (on in OpenAI Baselines [9]; Andrychowicz et
    al. 2021 found that it hurts)."""
    normalize_advantages: bool = True
    """Whether advantages have mean 0 and standard deviation 1 in each minibatch [7]."""

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the environments, see `make_train`; None: one device.
            make_bonus: makes an intrinsic reward, see `rnd`; None: the environment's rewards alone.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        self._check_minibatches()
        per_iteration = self.passes.updates
        layout = loops.make_layout(self.rollouts, axis_name, updates_per_iteration=per_iteration)
        make_objective = partial(
            POLICY_LOSSES[self.policy_loss],
            config=self.objective,
            clip_range=self.clip_range,
            clip_values=self.clip_values,
            normalize_advantages=self.normalize_advantages,
            axis_name=axis_name,
        )
        return loops.on_policy(
            self.env,
            self.network,
            self.objective.gamma,
            layout,
            make_objective,
            optimizers.report_clipping(self._rule(layout.iterations * per_iteration, axis_name), self.optimizer),
            make_bonus=make_bonus,
        )

    def _rule(self, num_updates: int, axis_name: AxisName) -> UpdateRule:
        return updates.minibatches(
            optimizers.make(self.optimizer, num_updates),
            self.passes.epochs,
            self.passes.num_minibatches,
            target_kl=self.target_kl,
            adaptive=updates.adaptive_kl(self.kl_penalty, self.kl_penalty_target) if self.policy_loss == "kl" else None,
            axis_name=axis_name,
        )

    def _check_minibatches(self) -> None:
        envs, steps = self.rollouts.num_envs, self.rollouts.rollout_length
        updates.check_passes(self.passes, envs, steps, self.network.body.core)
        if self.normalize_advantages and self.passes.num_minibatches == envs * steps:
            # The advantage of a single step is normalised to 0, from which nothing is learned.
            accepted = f"less than {envs * steps}, so that a minibatch has more than one step to normalise over"
            reject("num_minibatches", self.passes.num_minibatches, accepted)

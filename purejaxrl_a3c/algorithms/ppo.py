"""PPO: proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), clipped or with a penalty.

With workers, or with lagged reads, it learns from rollouts of older parameters, as asynchronous training of large
models does, and `objectives.stale` has the corrections for that.

Numbers in brackets are those of "The 37 implementation details of PPO" (Huang et al. 2022, ICLR blog track).
"""

from functools import partial
from typing import Literal

import optax

from purejaxrl_a3c import envs, loops, networks, objectives, updates
from purejaxrl_a3c.checks import check_divides, reject
from purejaxrl_a3c.config import NonNegative, Positive, check, configuration, is_concrete
from purejaxrl_a3c.objectives.stale import CORRECTIONS
from purejaxrl_a3c.types import Algorithm, AxisName, ClockedRule, MakeBonus, MakeObjective, UpdateRule
from purejaxrl_a3c.updates import corrections, optimizers

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
    clip_range_above: Positive | None = None
    """Distance above 1, if it is not that below 1 (0.28 in DAPO, Yu et al. 2025, arXiv 2503.14476); None: the same."""
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
    actors: loops.Actors = loops.Actors()
    asynchrony: updates.Asynchrony = updates.Asynchrony()
    stale: objectives.StaleConfig = objectives.StaleConfig()
    group: objectives.GroupConfig = objectives.GroupConfig()

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
        self._check_staleness()
        if self.group.group_size:
            self._check_groups(make_bonus)
        per_iteration = self.actors.num_workers * self.passes.updates
        layout = loops.make_layout(
            self.rollouts,
            axis_name,
            updates_per_iteration=per_iteration,
            num_workers=self.actors.num_workers,
            group_size=self.group.group_size,
        )
        pushes = layout.iterations * self.actors.num_workers
        num_batches = max(1, pushes // updates.learned_at_once(self.asynchrony).pushes)
        rule = self._rule(num_batches * self.passes.updates, axis_name)
        return loops.on_policy(
            self.env,
            self.network,
            self.objective.gamma,
            layout,
            self.make_objective(axis_name),
            optimizers.report_clipping(rule, self.optimizer),
            weights_per_worker=self.actors.num_workers > 1 and self.asynchrony.schedule != "queue",
            make_bonus=make_bonus,
        )

    def make_objective(self, axis_name: AxisName = None) -> MakeObjective:
        """What makes the objective of these settings."""
        above = self.clip_range if self.clip_range_above is None else self.clip_range_above
        clip = objectives.Clip(self.clip_range, above)
        settings = objectives.Settings(
            clip, self.clip_values, self.normalize_advantages, axis_name, self.stale, self.group
        )
        return partial(POLICY_LOSSES[self.policy_loss], config=self.objective, settings=settings)

    def _rule(self, num_updates: int, axis_name: AxisName) -> UpdateRule | ClockedRule:
        optimizer = optimizers.make(self.optimizer, num_updates)
        if self.stale.loss_correction == "effective_sample_size":
            optimizer = optax.chain(optimizer, corrections.scale_by_effective_sample_size())
        adaptive = updates.adaptive_kl(self.kl_penalty, self.kl_penalty_target) if self.policy_loss == "kl" else None
        learning = updates.in_passes(
            optimizer,
            self.passes.epochs,
            self.passes.num_minibatches,
            target_kl=self.target_kl,
            adaptive=adaptive,
            axis_name=axis_name,
        )
        # Made in any case, as it checks the settings.
        rule = updates.asynchronous_actors(learning, self.actors.num_workers, self.asynchrony)
        is_fresh = (
            self.actors.num_workers == 1
            and self.asynchrony.reads == "newest"
            and self.asynchrony.schedule in ("random", "round_robin")
        )
        return updates.lockstep(learning) if is_fresh else rule

    def _check_minibatches(self) -> None:
        check_divides("num_workers", self.actors.num_workers, "num_envs", self.rollouts.num_envs)
        batch = updates.learned_at_once(self.asynchrony)
        envs = self.rollouts.num_envs // self.actors.num_workers * (batch.pushes // batch.parts)
        steps = self.rollouts.rollout_length * batch.parts
        reason = updates.whole_rollouts(self.network.body.core)
        if CORRECTIONS[self.stale.loss_correction].whole_rollouts:
            reason = f"as {self.stale.loss_correction} needs whole rollouts"
        updates.check_passes(self.passes, envs, steps, reason)
        if self.normalize_advantages and self.passes.num_minibatches == envs * steps:
            # The advantage of a single step is normalised to 0, from which nothing is learned.
            accepted = f"less than {envs * steps}, so that a minibatch has more than one step to normalise over"
            reject("num_minibatches", self.passes.num_minibatches, accepted)

    def _check_staleness(self) -> None:
        stale = self.stale
        if self.policy_loss != "clip" and stale.loss_correction != "none":
            reject("loss_correction", stale.loss_correction, "none unless policy_loss is clip")
        known = is_concrete(stale.weight_floor) and is_concrete(stale.weight_limit)
        if known and stale.weight_floor >= stale.weight_limit:
            reject("weight_floor", stale.weight_floor, f"less than weight_limit, {stale.weight_limit}")

    def _check_groups(self, make_bonus: MakeBonus | None) -> None:
        size, wrappers = self.group.group_size, self.env.wrappers
        if size == 1:
            reject("group_size", size, "0 or at least 2")
        if make_bonus is not None:
            reject("group_size", size, "0 with a bonus")
        if self.clip_values:
            reject("clip_values", self.clip_values, "False with a group_size, as no values are learned")
        if CORRECTIONS[self.stale.loss_correction].vtrace:
            reject("loss_correction", self.stale.loss_correction, "another one with a group_size: it needs values")
        if self.asynchrony.queue.parts_per_rollout > 1:
            reject("parts_per_rollout", self.asynchrony.queue.parts_per_rollout, "1 with a group_size")
        # New episodes begin with new statistics and in phase.
        for name in ("normalize_observations", "scale_rewards", "stagger_resets"):
            if value := getattr(wrappers, name):
                reject(name, value, f"{type(value)(0)} with a group_size")
        if self.env.opponents.opponent == "pool":
            reject("opponent", "pool", "random or lookahead with a group_size, whose episodes are to begin alike")
        if frames := self.env.curriculum_frames:
            reject("curriculum_frames", frames, "0 with a group_size, as new episodes forget the frames before them")

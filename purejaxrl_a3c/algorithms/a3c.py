"""A3C: asynchronous advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783) on an exact schedule."""

from functools import partial
from typing import Annotated, Literal

import optax

from purejaxrl_a3c import envs, loops, networks, objectives, updates
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import Bounds, NonNegative, check, configuration
from purejaxrl_a3c.types import (
    Algorithm,
    AxisName,
    ClockedRule,
    MakeBonus,
    UpdateRule,
)
from purejaxrl_a3c.updates import corrections, optimizers


@configuration
class Config:
    """Settings of A3C."""

    env: envs.Config = envs.Config()
    network: networks.Config = networks.Config()
    objective: objectives.Config = objectives.Config()
    optimizer: optimizers.Optimizer = optimizers.RMSProp()
    rollouts: loops.Workers = loops.Workers()
    asynchrony: updates.Asynchrony = updates.Asynchrony()
    correction: Literal["none", "staleness", "delay", "adaptive_delay"] = "none"
    """How a stale gradient is corrected: not at all, by dividing the step by its staleness (Zhang et al. 2016), or by
    compensating the delay to first order, with a constant or an adaptive strength (Zheng et al. 2017)."""
    correction_strength: NonNegative = 0.04
    """Strength lambda of the delay compensation (0.04 in Zheng et al. 2017, 2 there for adaptive_delay)."""
    momentum: Annotated[float, Bounds(-1, 1, open=True)] | None = None
    """Momentum of the optimizer's steps, shared by all workers. Asynchrony itself acts as momentum, so a negative one
    can help (Mitliagkas et al. 2016)."""

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the workers, see `make_train`; None: one device.
            make_bonus: makes an intrinsic reward, see `rnd`; None: the environment's rewards alone.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        workers = self.rollouts.num_workers
        layout = loops.make_layout(self.rollouts, axis_name, split="workers", updates_per_iteration=workers)

        return loops.on_policy(
            self.env,
            self.network,
            self.objective.gamma,
            layout,
            partial(objectives.policy_gradient, config=self.objective),
            optimizers.report_clipping(self._rule(layout.iterations * workers, axis_name), self.optimizer),
            weights_per_worker=True,
            make_bonus=make_bonus,
        )

    def make_optimizer(self, num_updates: int) -> optax.GradientTransformation:
        """What is applied to each gradient, as one vector, in a run of so many updates."""
        optimizer = optimizers.with_momentum(optimizers.make(self.optimizer, num_updates), self.momentum)
        return corrections.CORRECTIONS[self.correction](optimizer, self.correction_strength)

    def _rule(self, num_updates: int, axis_name: AxisName) -> UpdateRule | ClockedRule:
        workers, optimizer = self.rollouts.num_workers, self.make_optimizer(num_updates)
        if not self.asynchrony.device_delay:
            return updates.asynchronous(optimizer, workers, self.asynchrony, axis_name=axis_name)
        if self.correction != "none":
            reject("correction", self.correction, "none while device_delay is not 0")
        return updates.overlapped(optimizer, workers, self.asynchrony, axis_name)

"""Parameter averaging: workers learn on their own and are mixed now and then (local SGD, DiLoCo, gossip)."""

from functools import partial
from typing import Literal

import optax

from purejaxrl_a3c import envs, loops, networks, objectives, updates
from purejaxrl_a3c.config import Count, NonNegative, UnitInterval, check, configuration
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus
from purejaxrl_a3c.updates import optimizers


@configuration
class Config:
    """Settings of parameter averaging: A2C in every worker, and how the workers are mixed."""

    env: envs.Config = envs.Config()
    network: networks.Config = networks.Config()
    objective: objectives.Config = objectives.Config()
    optimizer: optimizers.Optimizer = optimizers.RMSProp()
    rollouts: loops.Workers = loops.Workers(num_workers=4, envs_per_worker=4, rollout_length=5)
    sync_every: Count = 8
    """Updates of every worker from one mixing of parameters to the next."""
    mix: Literal["mean", "ring"] = "mean"
    """How parameters are mixed: all workers take the mean, or each takes the mean of itself and its two neighbours."""
    outer_learning_rate: NonNegative = 1.0
    """Learning rate of the step towards the mean: 1 takes the mean itself (0.7 in DiLoCo, Douillard et al. 2023)."""
    outer_momentum: UnitInterval = 0.0
    """Nesterov momentum of the step towards the mean (0.9 in DiLoCo, Douillard et al. 2023)."""

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the workers, see `make_train`; None: one device.
            make_bonus: makes an intrinsic reward, see `rnd`; None: the environment's rewards alone.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        layout = loops.make_layout(self.rollouts, axis_name, split="workers")
        optimizer = optimizers.make(self.optimizer, num_updates=layout.iterations)
        outer = optax.sgd(self.outer_learning_rate, self.outer_momentum, nesterov=True)
        mix = updates.mean(outer) if self.mix == "mean" else updates.ring()

        rule = updates.averaging(optimizer, self.rollouts.num_workers, self.sync_every, mix, axis_name)
        return loops.on_policy(
            self.env,
            self.network,
            self.objective.gamma,
            layout,
            partial(objectives.policy_gradient, config=self.objective),
            optimizers.report_clipping(rule, self.optimizer),
            weights_per_worker=True,
            make_bonus=make_bonus,
        )

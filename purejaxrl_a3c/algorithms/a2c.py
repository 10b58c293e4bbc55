"""A2C: synchronous advantage actor-critic, A3C's objective with lockstep updates."""

from functools import partial

from purejaxrl_a3c import envs, loops, networks, objectives, updates
from purejaxrl_a3c.config import check, configuration
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus
from purejaxrl_a3c.updates import optimizers


@configuration
class Config:
    """Settings of A2C."""

    env: envs.Config = envs.Config()
    network: networks.Config = networks.Config()
    objective: objectives.Config = objectives.Config()
    optimizer: optimizers.Optimizer = optimizers.RMSProp()
    rollouts: loops.Batch = loops.Batch()

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the environments, see `make_train`; None: one device.
            make_bonus: makes an intrinsic reward, see `rnd`; None: the environment's rewards alone.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        layout = loops.make_layout(self.rollouts, axis_name)
        optimizer = optimizers.make(self.optimizer, num_updates=layout.iterations)
        return loops.on_policy(
            self.env,
            self.network,
            self.objective.gamma,
            layout,
            partial(objectives.policy_gradient, config=self.objective),
            optimizers.report_clipping(updates.synchronous(optimizer, axis_name), self.optimizer),
            make_bonus=make_bonus,
        )

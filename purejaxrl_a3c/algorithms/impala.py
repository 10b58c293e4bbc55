"""IMPALA: trajectories of older parameters, learned from at the newest ones, with V-trace (Espeholt et al. 2018).

With one worker, the parameters that act are ``lag`` updates old. With more, they are as old as the schedule makes them:
A3C's order of arrival, with a correction. Numbers of the paper (arXiv 1802.01561) are those of its table G.1.
"""

from functools import partial

from purejaxrl_a3c import envs, loops, networks, objectives, updates
from purejaxrl_a3c.config import PositiveOrInf, check, configuration
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus
from purejaxrl_a3c.updates import optimizers


@configuration
class Config:
    """Settings of IMPALA."""

    env: envs.Config = envs.Config()
    network: networks.Config = networks.Config()
    objective: objectives.Config = objectives.Config()
    # The clip and epsilon are A2C's: the paper's 40 and 0.01 are for gradients summed over 640 steps.
    optimizer: optimizers.Optimizer = optimizers.RMSProp(learning_rate=6e-4)
    # The paper's batch is 32 rollouts of 20 steps; an update learns from the rollouts of one worker.
    rollouts: loops.Workers = loops.Workers(num_workers=1, envs_per_worker=32, rollout_length=20)
    asynchrony: updates.Asynchrony = updates.Asynchrony(reads="lagged", lag=1.0)
    off_policy: objectives.OffPolicy = "vtrace"
    """How staleness is corrected: by V-trace or, for comparison, by one_step, epsilon or none (section 5.2.2 of the
    paper)."""
    clip_rho: PositiveOrInf = 1.0
    """Upper bound of the importance weights of errors and advantages (1 in Espeholt et al. 2018)."""
    clip_c: PositiveOrInf = 1.0
    """Upper bound of the importance weights of the traces (1 in Espeholt et al. 2018)."""

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share every worker's environments, see `make_train`; None: one
                device.
            make_bonus: makes an intrinsic reward, see `rnd`; None: the environment's rewards alone.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        workers = self.rollouts.num_workers
        layout = loops.make_layout(self.rollouts, axis_name, updates_per_iteration=workers)
        num_updates = max(1, layout.iterations * workers // updates.learned_at_once(self.asynchrony).pushes)
        optimizer = optimizers.make(self.optimizer, num_updates)
        rule = updates.asynchronous_actors(updates.one_step(optimizer, axis_name), workers, self.asynchrony)
        make_objective = partial(
            objectives.off_policy_gradient,
            config=self.objective,
            off_policy=self.off_policy,
            clip_rho=self.clip_rho,
            clip_c=self.clip_c,
        )
        return loops.on_policy(
            self.env,
            self.network,
            self.objective.gamma,
            layout,
            make_objective,
            optimizers.report_clipping(rule, self.optimizer),
            weights_per_worker=self.asynchrony.schedule != "queue",
            make_bonus=make_bonus,
        )

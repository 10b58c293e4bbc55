"""N-step Q: asynchronous one-step Q-learning, one-step SARSA and n-step Q-learning, without replay (Mnih et al. 2016).

These are the siblings of A3C in the same paper (arXiv 1602.01783, algorithms 1, S1 and S2): they have its workers and
its pushes, and Q-values in place of a policy and a value function. With one worker they learn in lockstep.
"""

from functools import partial
from typing import Literal

from purejaxrl_a3c import envs, loops, networks, objectives, updates
from purejaxrl_a3c.algorithms.limits import check_no_bonus
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import check, configuration
from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus, MakeTargetNetwork
from purejaxrl_a3c.updates import optimizers


@configuration
class Config:
    """Settings of asynchronous Q-learning.

    ``n_step`` rewards are in a return, and one gives the one-step methods. ``target_update_every`` counts updates of
    the shared parameters, each of which is one worker's push; the target network follows at the end of an iteration.
    """

    env: envs.Config = envs.Config()
    network: networks.BodyConfig = networks.BodyConfig()
    objective: objectives.QConfig = objectives.QConfig()
    optimizer: optimizers.Optimizer = optimizers.RMSProp()
    rollouts: loops.Workers = loops.Workers()
    asynchrony: updates.Asynchrony = updates.Asynchrony()
    exploration: loops.WorkerEpsilonConfig = loops.WorkerEpsilonConfig()
    # The paper's 40,000 frames are 8,000 updates of 5 frames; tasks as short as CartPole need a faster target network.
    targets: loops.TargetConfig = loops.TargetConfig(target_update_every=256, target_update_rate=1.0)
    target: Literal["q", "sarsa"] = "q"
    """What a return bootstraps from, by the target network: q is the largest Q-value, and sarsa that of the action that
    is taken next or, where the rollout holds no next action, the mean over the actions of the policy that acted."""

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the workers, see `make_train`; None: one device.
            make_bonus: must be None: a bonus is for an agent with a policy and a value function.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        check_no_bonus("nstep-q", make_bonus)
        if self.target == "sarsa" and self.objective.double:
            reject("double", True, "False with the target sarsa, which chooses no best action")
        workers = self.rollouts.num_workers
        layout = loops.make_layout(self.rollouts, axis_name, split="workers", updates_per_iteration=workers)
        optimizer = optimizers.make(self.optimizer, num_updates=layout.iterations * workers)
        rule = updates.asynchronous(optimizer, workers, self.asynchrony, axis_name=axis_name)
        return loops.on_policy(
            self.env,
            self.network,
            self.objective.gamma,
            layout,
            partial(objectives.q_learning, estimate=partial(returns.n_step, n=self.objective.n_step)),
            optimizers.report_clipping(rule, self.optimizer),
            weights_per_worker=True,
            make_network=partial(networks.make_q, dueling=self.objective.dueling),
            exploration=loops.epsilon_greedy_workers(self.exploration, self.rollouts.envs_per_worker),
            make_target=self._make_target(),
        )

    def _make_target(self) -> MakeTargetNetwork:
        greedy = objectives.double() if self.objective.double else objectives.greedy()
        return partial(
            objectives.target_network,
            bootstrap=objectives.sarsa() if self.target == "sarsa" else greedy,
            update_every=self.targets.target_update_every,
            update_rate=self.targets.target_update_rate,
            updates_per_iteration=self.rollouts.num_workers,
        )

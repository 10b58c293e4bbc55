"""DQN: deep Q-learning from replayed experience (Mnih et al. 2015), with the extensions that became usual.

Double Q-learning (van Hasselt et al. 2016, arXiv 1509.06461), dueling networks (Wang et al. 2016, arXiv 1511.06581),
n-step returns, and prioritised replay (Schaul et al. 2016, arXiv 1511.05952).
"""

from functools import partial

import jax

from purejaxrl_a3c import envs, loops, networks, objectives, replay
from purejaxrl_a3c.algorithms.limits import check_feed_forward
from purejaxrl_a3c.backend.compiling import one_after_the_other
from purejaxrl_a3c.config import PositiveOrInf, check, configuration
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus
from purejaxrl_a3c.updates import optimizers


@configuration
class Config:
    """Settings of DQN. Defaults without another source were found on CartPole.

    There the greedy policy comes and goes without long returns and a rate that falls to 0.
    """

    env: envs.Config = envs.Config()
    network: networks.BodyConfig = networks.BodyConfig(activation="relu")
    objective: objectives.QConfig = objectives.QConfig(n_step=10, double=True, dueling=True)
    optimizer: optimizers.Optimizer = optimizers.Adam(learning_rate=2e-3, max_gradient_norm=10.0)
    experience: loops.Experience = loops.Experience(
        rollouts=loops.Batch(num_envs=8, rollout_length=4, total_frames=50_000),
        replayed=replay.Config(updates_per_iteration=16),
        targets=loops.TargetConfig(target_update_every=100, target_update_rate=1.0),
    )
    exploration: loops.EpsilonConfig = loops.EpsilonConfig(epsilon_final=0.1, epsilon_frames=8_000)
    error_limit: PositiveOrInf = 1.0
    """Limit to which errors are clipped in the gradient (1 in Mnih et al. 2015, which is Huber's loss); inf for the
    squared error."""

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the environments, see `make_train`; None: one device.
            make_bonus: must be None.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        check_feed_forward("dqn", self.network, make_bonus)
        parts = self.parts(axis_name)
        algorithm = loops.off_policy(parts, self.env)
        types = jax.eval_shape(parts.agent.init, jax.random.key(0))
        return algorithm._replace(compiler_options=one_after_the_other(types))

    def parts(self, axis_name: AxisName = None) -> loops.Parts:
        """The parts that the algorithm is made of; arguments and errors are those of `build`."""
        settings = self.objective
        env = envs.make(self.env, settings.gamma)
        network = networks.make_q(self.network, env, dueling=settings.dueling)
        plan = loops.make_plan(self.experience, axis_name)

        agent = loops.q_agent(
            network,
            loops.epsilon_greedy(self.exploration, self.experience.replayed.learning_starts),
            loops.make_part(self.optimizer, plan.num_updates),
            partial(replay.transitions, n=settings.n_step, gamma=settings.gamma),
            partial(objectives.dqn_gradient, network, double=settings.double, error_limit=self.error_limit),
        )
        return loops.make_parts(self.env, self.network, env, agent, plan, self.experience)

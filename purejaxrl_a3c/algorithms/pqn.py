"""PQN: parallelised Q-learning without a target network and without replay (Gallici et al. 2024, arXiv 2407.04811).

What makes it stable is layer norm. It is to asynchronous n-step Q-learning what A2C and PPO are to A3C.
"""

from functools import partial

from purejaxrl_a3c import envs, loops, networks, objectives, updates
from purejaxrl_a3c.algorithms.limits import check_no_bonus
from purejaxrl_a3c.config import check, configuration
from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus
from purejaxrl_a3c.updates import optimizers


@configuration
class Config:
    """Settings of PQN. Defaults are those for CartPole in the code of Gallici et al. 2024."""

    env: envs.Config = envs.Config()
    network: networks.BodyConfig = networks.BodyConfig(hidden_sizes=(256, 256), activation="relu", layer_norm=True)
    objective: objectives.LambdaConfig = objectives.LambdaConfig()
    optimizer: optimizers.Optimizer = optimizers.RAdam()
    rollouts: loops.Batch = loops.Batch(num_envs=32, rollout_length=64)
    passes: updates.Passes = updates.Passes(epochs=4, num_minibatches=16)
    # Epsilon falls over a fifth of the run.
    exploration: loops.EpsilonConfig = loops.EpsilonConfig(epsilon_final=0.2, epsilon_frames=100_000)

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the environments, see `make_train`; None: one device.
            make_bonus: must be None: a bonus is for an agent with a policy and a value function.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        check_no_bonus("pqn", make_bonus)
        reason = updates.whole_rollouts(self.network.core)
        updates.check_passes(self.passes, self.rollouts.num_envs, self.rollouts.rollout_length, reason)
        layout = loops.make_layout(self.rollouts, axis_name, updates_per_iteration=self.passes.updates)
        optimizer = optimizers.make(self.optimizer, num_updates=layout.iterations * self.passes.updates)
        learning = updates.in_passes(optimizer, self.passes.epochs, self.passes.num_minibatches, axis_name=axis_name)
        return loops.on_policy(
            self.env,
            self.network,
            self.objective.gamma,
            layout,
            partial(objectives.q_learning, estimate=partial(returns.gae, gae_lambda=self.objective.q_lambda)),
            optimizers.report_clipping(updates.lockstep(learning), self.optimizer),
            make_network=networks.make_q,
            exploration=loops.epsilon_greedy(self.exploration),
        )

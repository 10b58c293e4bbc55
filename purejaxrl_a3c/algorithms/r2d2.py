"""R2D2: deep Q-learning with a memory, from replayed sequences (Kapturowski et al. 2019, ICLR).

A sequence begins where a rollout does, with the memory that the network had there when it acted. Before it is learned
from, its first ``burn_in`` steps bring that memory up to date.
"""

from functools import partial

from purejaxrl_a3c import envs, loops, networks, objectives, replay
from purejaxrl_a3c.algorithms.limits import check_no_bonus
from purejaxrl_a3c.config import Count, CountOrZero, NonNegative, UnitInterval, check, configuration
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus
from purejaxrl_a3c.updates import optimizers


@configuration
class Config:
    """Settings of R2D2. Defaults without another source are for classic control tasks.

    Kapturowski et al. 2019 learn from 80 steps after 40 of burn-in, with a sequence every 40 steps, and copy the target
    network every 2500 updates. Episodes of classic tasks are shorter than those of Atari, and so are these defaults.
    """

    env: envs.Config = envs.Config()
    network: networks.BodyConfig = networks.BodyConfig(activation="relu", hidden_sizes=(64,), core="lstm", num_cells=64)
    optimizer: optimizers.Optimizer = optimizers.Adam(
        learning_rate=1e-3, anneal_learning_rate=False, max_gradient_norm=10.0
    )
    experience: loops.Experience = loops.Experience(
        rollouts=loops.Batch(num_envs=16, rollout_length=10, total_frames=200_000),
        replayed=replay.Config(learning_starts=5_000, updates_per_iteration=4),
        # The exponents are those of Kapturowski et al. 2019.
        priorities=replay.PriorityConfig(prioritized=True, priority_exponent=0.9, importance_exponent=0.6),
        targets=loops.TargetConfig(target_update_every=100, target_update_rate=1.0),
    )
    exploration: loops.EpsilonConfig = loops.EpsilonConfig(epsilon_frames=20_000)
    # Kapturowski et al. 2019 have a discount factor of 0.997; double and dueling Q-learning are theirs.
    objective: objectives.QConfig = objectives.QConfig(double=True, dueling=True)
    burn_in: CountOrZero = 10
    """Steps at the start of a replayed sequence that only bring the memory up to date (40 in Kapturowski et al.
    2019)."""
    sequence_length: Count = 20
    """Steps after them that are learned from (80 in Kapturowski et al. 2019). A new sequence begins with every rollout,
    so two of them overlap where burn_in and sequence_length together exceed rollout_length."""
    value_rescaling: NonNegative = 1e-3
    """Epsilon of h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x, the scale on which Q-values are learned (1e-3 in
    Kapturowski et al. 2019)."""
    max_error_share: UnitInterval = 0.9
    """Share of the largest error of a sequence in its priority, beside that of the mean error; eta, which is 0.9 in
    Kapturowski et al. 2019."""

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the environments, see `make_train`; None: one device.
            make_bonus: must be None.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        check_no_bonus("r2d2", make_bonus)
        return loops.off_policy(self.parts(axis_name), self.env)

    def parts(self, axis_name: AxisName = None) -> loops.Parts:
        """The parts that the algorithm is made of; arguments and errors are those of `build`."""
        settings = self.objective
        env = envs.make(self.env, settings.gamma)
        network = networks.make_q(self.network, env, dueling=settings.dueling)
        plan = loops.make_plan(self.experience, axis_name)
        length = self.burn_in + self.sequence_length

        gradient = partial(
            objectives.r2d2_gradient,
            network,
            burn_in=self.burn_in,
            n=settings.n_step,
            gamma=settings.gamma,
            double=settings.double,
            max_error_share=self.max_error_share,
            rescaling=objectives.square_root_rescaling(self.value_rescaling),
        )
        agent = loops.q_agent(
            network,
            loops.epsilon_greedy(self.exploration, self.experience.replayed.learning_starts),
            loops.make_part(self.optimizer, plan.num_updates),
            partial(replay.sequences, length=length),
            gradient,
            sequence_length=length,
        )
        return loops.make_parts(self.env, self.network, env, agent, plan, self.experience)

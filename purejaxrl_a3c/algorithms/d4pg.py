"""D4PG: a deterministic policy that follows critics of the distribution of returns (Barth-Maron et al. 2018).

The paper is arXiv 1804.08617. Everything but the critics' outputs is as in TD3.
"""

from purejaxrl_a3c import loops, networks, objectives
from purejaxrl_a3c.algorithms import td3
from purejaxrl_a3c.algorithms.limits import check_feed_forward
from purejaxrl_a3c.config import check, configuration, replace
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus


@configuration
class Config:
    """Settings of D4PG: those of the family of TD3, and the distribution of returns."""

    agent: td3.Config = td3.Config(
        experience=replace(td3.Config().experience, target_update_every=1),
        exploration=loops.NoiseConfig(exploration_noise=0.3),
        # One critic, without smoothing and with a policy that is updated as often.
        deterministic=objectives.DeterministicConfig(
            critics=networks.CriticsConfig(num_critics=1), smoothing_noise=0.0, policy_update_every=1
        ),
        returns=objectives.NStepConfig(n_step=5),
    )
    categorical: objectives.CategoricalConfig = objectives.CategoricalConfig()

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the environments, see `make_train`; None: one device.
            make_bonus: must be None.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        check_feed_forward("d4pg", self.agent.network, make_bonus)
        return loops.off_policy(self.parts(axis_name), self.agent.env)

    def parts(self, axis_name: AxisName = None) -> loops.Parts:
        """The parts that the algorithm is made of; arguments and errors are those of `build`."""
        return td3.make_parts(self.agent, objectives.categorical_values(self.categorical), axis_name)

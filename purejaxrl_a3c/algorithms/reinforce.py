"""REINFORCE: Monte-Carlo policy gradient over whole episodes (Williams 1992), with a baseline or without.

The one-step actor-critic (Sutton & Barto 2018, section 13.5) is `a2c` with ``gae_lambda=0``.
"""

from functools import partial

from purejaxrl_a3c import envs, loops, networks, objectives, updates
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import Count, check, configuration
from purejaxrl_a3c.types import Algorithm, AxisName, MakeBonus
from purejaxrl_a3c.updates import optimizers


@configuration
class Config:
    """Settings of REINFORCE. Defaults without a source were found on CartPole."""

    env: envs.Config = envs.Config()
    network: networks.Config = networks.Config()
    objective: objectives.Config = objectives.Config()
    optimizer: optimizers.Optimizer = optimizers.Adam(learning_rate=1e-2)
    # Episodes that start too late in a rollout are not learned from, so a rollout is twice as long as an episode.
    rollouts: loops.Batch = loops.Batch(num_envs=8, rollout_length=1000)
    longest_episode: Count = 500
    """Length of the longest episode in frames. Episodes that start too late in a rollout to last so long are not
    learned from; longer ones may be left out, which would prefer short episodes. The metric learned_steps is the
    share of steps that the policy learns from: at 0, rollouts are shorter than the episodes and nothing is learned."""
    baseline: objectives.Baseline = "value"
    """The baseline that is subtracted from the returns: a learned value function, or none (Williams 1992)."""

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the environments, see `make_train`; None: one device.
            make_bonus: makes an intrinsic reward, see `rnd`; None: the environment's rewards alone.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        if self.longest_episode > self.rollouts.rollout_length:
            accepted = f"at most rollout_length, {self.rollouts.rollout_length}"
            reject("longest_episode", self.longest_episode, accepted)
        if self.env.wrappers.time_limit > self.longest_episode:
            reject("longest_episode", self.longest_episode, f"at least time_limit, {self.env.wrappers.time_limit}")
        layout = loops.make_layout(self.rollouts, axis_name)
        optimizer = optimizers.make(self.optimizer, num_updates=layout.iterations)
        make_objective = partial(
            objectives.reinforce,
            config=self.objective,
            baseline=self.baseline,
            longest_episode=self.longest_episode,
        )
        return loops.on_policy(
            self.env,
            self.network,
            self.objective.gamma,
            layout,
            make_objective,
            optimizers.report_clipping(updates.synchronous(optimizer, axis_name), self.optimizer),
            make_bonus=make_bonus,
        )

"""TD3: twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, arXiv 1802.09477).

With one critic, without smoothing and with as many updates of the policy it is DDPG (Lillicrap et al. 2016, arXiv
1509.02971).
"""

from functools import partial
from typing import Any

import jax

from purejaxrl_a3c import envs, loops, networks, objectives, replay
from purejaxrl_a3c.algorithms.limits import check_feed_forward
from purejaxrl_a3c.config import check, configuration
from purejaxrl_a3c.objectives import ValueKind
from purejaxrl_a3c.types import Algorithm, AxisName, Key, MakeBonus, Params, Scalars
from purejaxrl_a3c.updates import optimizers


@configuration
class Config:
    """Settings of TD3. Defaults without another source are for classic control tasks."""

    env: envs.Config = envs.Config(env_id="Pendulum-v1")
    network: networks.BodyConfig = networks.BodyConfig(activation="relu", hidden_sizes=(256, 256))
    optimizer: optimizers.Optimizer = optimizers.Adam(
        learning_rate=1e-3, anneal_learning_rate=False, max_gradient_norm=float("inf"), adam_epsilon=1e-8
    )
    experience: loops.Experience = loops.Experience(
        rollouts=loops.Batch(num_envs=4, rollout_length=1, total_frames=50_000),
        replayed=replay.Config(batch_size=256),
        targets=loops.TargetConfig(target_update_every=2),
    )
    exploration: loops.NoiseConfig = loops.NoiseConfig()
    deterministic: objectives.DeterministicConfig = objectives.DeterministicConfig()
    returns: objectives.NStepConfig = objectives.NStepConfig()

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The `Algorithm` of these settings.

        Args:
            axis_name: name of the axis of devices that share the environments, see `make_train`; None: one device.
            make_bonus: must be None.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        check(self)
        check_feed_forward("td3", self.network, make_bonus)
        return loops.off_policy(self.parts(axis_name), self.env)

    def parts(self, axis_name: AxisName = None) -> loops.Parts:
        """The parts that the algorithm is made of; arguments and errors are those of `build`."""
        return make_parts(self, objectives.scalar_values(), axis_name)


def make_parts(config: Config, kind: ValueKind, axis_name: AxisName) -> loops.Parts:
    """The parts of TD3's settings with critics that put out what ``kind`` says.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    env = envs.make(config.env, config.returns.gamma)
    network = networks.make_deterministic_policy(config.network, env)
    count = config.deterministic.critics.num_critics
    critics = networks.make_critics(config.network, env, count=count, outputs=kind.outputs)
    plan = loops.make_plan(config.experience, axis_name)

    def init(key: Key) -> Params:
        key_policy, key_critics = jax.random.split(key)
        return {"policy": network.init(key_policy), "critics": critics.init(key_critics)}

    def gradients(
        key: Key, params: Params, target: Params, batch: Any, weight: jax.Array, updates: jax.Array
    ) -> tuple[Params, jax.Array, Scalars]:
        return objectives.deterministic_gradients(
            key, network, critics, kind, config.deterministic, params, target, batch, weight, updates
        )

    every = config.deterministic.policy_update_every
    agent = loops.Agent(
        network=network,
        exploration=loops.gaussian_noise(config.exploration, config.experience.replayed.learning_starts),
        init=init,
        acting=lambda params: params["policy"],
        parts={
            "policy": loops.make_part(config.optimizer, plan.num_updates, every),
            "critics": loops.make_part(config.optimizer, plan.num_updates),
        },
        with_target=("policy", "critics"),
        batch=partial(replay.transitions, n=config.returns.n_step, gamma=config.returns.gamma),
        gradients=gradients,
    )
    return loops.make_parts(config.env, config.network, env, agent, plan, config.experience)

"""SAC: soft actor-critic, which learns from replayed experience and keeps the policy's entropy up.

Haarnoja et al. 2018 (arXiv 1812.05905) for continuous actions, Christodoulou 2019 (arXiv 1910.07207) for discrete ones.
Which of the two follows from the action space.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl_a3c import envs, loops, networks, objectives, replay
from purejaxrl_a3c.algorithms.limits import check_feed_forward
from purejaxrl_a3c.config import check, configuration
from purejaxrl_a3c.types import Algorithm, AxisName, Key, MakeBonus, Params, Scalars
from purejaxrl_a3c.updates import optimizers


@configuration
class Config:
    """Settings of SAC. Defaults without another source are for classic control tasks."""

    env: envs.Config = envs.Config(env_id="Pendulum-v1")
    network: networks.BodyConfig = networks.BodyConfig(activation="relu", hidden_sizes=(256, 256))
    optimizer: optimizers.Optimizer = optimizers.Adam(
        learning_rate=1e-3, anneal_learning_rate=False, max_gradient_norm=float("inf"), adam_epsilon=1e-8
    )
    experience: loops.Experience = loops.Experience(
        rollouts=loops.Batch(num_envs=4, rollout_length=1, total_frames=50_000),
        replayed=replay.Config(batch_size=256),
    )
    exploration: loops.RepeatConfig = loops.RepeatConfig()
    soft: objectives.SoftConfig = objectives.SoftConfig()
    # With a scale of 1, actions are nearly uniform between their bounds: the policy itself acts before learning starts.
    scale: networks.ScaleConfig = networks.ScaleConfig()
    ensemble: networks.CriticsConfig = networks.CriticsConfig()
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
        check_feed_forward("sac", self.network, make_bonus)
        return loops.off_policy(self.parts(axis_name), self.env)

    def parts(self, axis_name: AxisName = None) -> loops.Parts:
        """The parts that the algorithm is made of; arguments and errors are those of `build`."""
        env = envs.make(self.env, self.returns.gamma)
        network = networks.make_policy(self.network, env, initial_scale=self.scale.initial_scale)
        kind = objectives.kind_of(env.action_space, self.soft)
        critics = networks.make_critics(self.network, env, count=self.ensemble.num_critics, outputs=kind.outputs)
        plan = loops.make_plan(self.experience, axis_name)

        def init(key: Key) -> Params:
            key_policy, key_critics = jax.random.split(key)
            temperature = jnp.log(jnp.asarray(self.soft.initial_temperature, jnp.float32))
            return {
                "policy": network.init(key_policy),
                "critics": critics.init(key_critics),
                "temperature": temperature,
            }

        def gradients(
            key: Key, params: Params, target: Params, batch: Any, weight: jax.Array, updates: jax.Array
        ) -> tuple[Params, jax.Array, Scalars]:
            del updates
            return objectives.soft_gradients(key, network, critics, kind, params, target, batch, weight)

        part = loops.make_part(self.optimizer, plan.num_updates)
        agent = loops.Agent(
            network=network,
            exploration=loops.no_exploration(self.exploration.noise_repeat),
            init=init,
            acting=lambda params: params["policy"],
            parts={"policy": part, "critics": part, "temperature": part},
            with_target=("critics",),
            batch=partial(replay.transitions, n=self.returns.n_step, gamma=self.returns.gamma),
            gradients=gradients,
        )
        return loops.make_parts(self.env, self.network, env, agent, plan, self.experience)

"""Parameter averaging: workers that learn on their own and now and then agree (local SGD, DiLoCo, gossip)."""

from dataclasses import dataclass, field, replace

import optax

from purejaxrl_a3c import checks, objectives, updates
from purejaxrl_a3c.algorithms import a2c
from purejaxrl_a3c.loops.on_policy import CHOICES, build


@dataclass(frozen=True)
class Config:
    """Settings of parameter averaging. Floats may be traced (``vmap`` over them), everything else is static."""

    worker: a2c.Config = field(default_factory=lambda: a2c.Config(num_envs=4, total_frames=125_000))
    """What every worker runs, with environments of its own; ``total_frames`` are each worker's."""
    num_workers: int = 4
    """Workers, each with its own parameters and optimizer statistics."""
    every: int = 8
    """Updates of every worker from one mixing of the parameters to the next."""
    mix: str = "mean"
    """With whom: mean (everybody goes on from one set of parameters) or ring (each with its two neighbours)."""
    outer_learning_rate: float = 1.0
    """Of the step towards the workers' mean; 1: all the way (0.7 in DiLoCo, Douillard et al. 2023, 2311.08105)."""
    outer_momentum: float = 0.0
    """Nesterov momentum of that step (0.9 in DiLoCo)."""

    @property
    def env_id(self):
        """The worker's."""
        return self.worker.env_id

    @property
    def total_frames(self):
        """Environment steps of the whole run, over all workers."""
        return self.num_workers * self.worker.total_frames

    def build(self, axis_name=None):
        """The `Algorithm` of these settings.

        Args:
            axis_name: of the devices that share the work out, see `make_train`; None: there is one.

        Raises:
            InputError: naming the field, its value and what is accepted.
        """
        checks.check_fields(self, CHOICES | {"mix": ("mean", "ring")})

        def rule(optimizer):
            outer = optax.sgd(self.outer_learning_rate, self.outer_momentum, nesterov=True)
            mix = updates.mean(outer) if self.mix == "mean" else updates.ring()
            return updates.averaging(optimizer, self.num_workers, self.every, mix, axis_name)

        return build(
            replace(self.worker, total_frames=self.total_frames),
            objectives.policy_gradient,
            rule,
            num_workers=self.num_workers,
            envs_per_worker=self.worker.num_envs,
            weights_per_worker=True,
            axis_name=axis_name,
        )

"""How much a run acts: its environments, the length of its rollouts, and its frames."""

from purejaxrl_a3c.config import Count, configuration


@configuration
class Batch:
    """Rollouts of one actor that steps all environments in lockstep."""

    num_envs: Count = 16
    """Number of environments stepped in parallel (16 in OpenAI Baselines)."""
    rollout_length: Count = 5
    """Environment steps between two updates (5 in Mnih et al. 2016 and OpenAI Baselines)."""
    total_frames: Count = 500_000
    """Environment steps of the whole run, summed over all environments and rounded down to whole iterations."""


@configuration
class Actors:
    """Workers that only act."""

    num_workers: Count = 1
    """Workers that share the environments out. Each acts with its own snapshot of the parameters, and its rollouts are
    learned from when it pushes them, at the newest parameters."""


@configuration
class Workers:
    """Rollouts of several workers, each with its own environments and its own snapshot of the parameters."""

    num_workers: Count = 16
    """Number of workers, each with its own snapshot of the parameters (16 in Mnih et al. 2016)."""
    envs_per_worker: Count = 4
    """Number of environments that each worker steps in parallel (1 in Mnih et al. 2016; more reduce gradient noise)."""
    rollout_length: Count = 10
    """Environment steps between two updates (5 in Mnih et al. 2016, with which a third of the seeds fail on Catch)."""
    total_frames: Count = 500_000
    """Environment steps of the whole run, summed over all environments and rounded down to whole iterations."""

"""The settings of a replay buffer and of the learning from it."""

from purejaxrl_a3c.config import Count, CountOrZero, UnitInterval, configuration


@configuration
class Config:
    """Settings of the replay buffer, and of how much is learned from it."""

    replay_size: Count = 50_000
    """Frames that the replay buffer holds, rounded down to whole rollouts of all environments."""
    learning_starts: CountOrZero = 1_000
    """Frames before the first update; they count as frames of the run."""
    updates_per_iteration: Count = 4
    """Gradient steps after each rollout of all environments, each on a batch of its own."""
    batch_size: Count = 64
    """Transitions, or for R2D2 sequences, in the batch of a gradient step."""


@configuration
class PriorityConfig:
    """Settings of prioritised replay (Schaul et al. 2016, arXiv 1511.05952)."""

    prioritized: bool = False
    """Draw in proportion to the last error instead of uniformly."""
    priority_exponent: UnitInterval = 0.6
    """Power to which an error is raised to become a priority (0.6 in Schaul et al. 2016); 0 draws uniformly."""
    importance_exponent: UnitInterval = 0.4
    """Power of the importance weights at the start of the run (0.4 in Schaul et al. 2016); it rises linearly to 1 by
    the end of the run."""

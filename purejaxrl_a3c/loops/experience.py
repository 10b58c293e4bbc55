"""How experience is collected, kept and learned from, and what follows for a run."""

from typing import NamedTuple

from purejaxrl_a3c import replay
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import configuration
from purejaxrl_a3c.loops.agent import TargetConfig
from purejaxrl_a3c.loops.config import Batch
from purejaxrl_a3c.loops.layout import EnvLayout, make_layout
from purejaxrl_a3c.types import AxisName

_MOST_ROWS = 2**31 - 1  # steps of an environment are counted in int32


@configuration
class Experience:
    """Settings of rollouts, of their replay, and of the updates on what is replayed."""

    rollouts: Batch = Batch(num_envs=8, rollout_length=1, total_frames=50_000)
    replayed: replay.Config = replay.Config()
    priorities: replay.PriorityConfig = replay.PriorityConfig()
    targets: TargetConfig = TargetConfig()


class Plan(NamedTuple):
    """The sizes of a run that learns from replayed experience."""

    layout: EnvLayout
    first_iteration: int  # iterations before it only fill the replay buffer
    num_updates: int  # of the whole run, over which a learning rate is annealed


def make_plan(experience: Experience, axis_name: AxisName) -> Plan:
    """The `Plan` of a run.

    Args:
        experience: its settings.
        axis_name: of the devices that share it out, or None.

    Raises:
        InputError: if it would never learn, or for sizes that do not fit.
    """
    config = experience.replayed
    layout = make_layout(experience.rollouts, axis_name, updates_per_iteration=config.updates_per_iteration)
    # The first iteration that ends with as many frames.
    first = max(-(-config.learning_starts // layout.frames) - 1, 0)
    learning = layout.iterations - first
    if learning < 1:
        total = layout.iterations * layout.frames
        reject("learning_starts", config.learning_starts, f"at most {total}, the frames of the run")
    if layout.iterations * layout.rollout_length > _MOST_ROWS:
        accepted = f"at most {_MOST_ROWS * layout.envs}, with {layout.envs} environments"
        reject("total_frames", experience.rollouts.total_frames, accepted)
    return Plan(layout, first, learning * config.updates_per_iteration)

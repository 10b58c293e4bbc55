"""What algorithms that learn from single transitions do not accept."""

from purejaxrl_a3c import networks
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.types import MakeBonus


def check_feed_forward(name: str, network: networks.BodyConfig, make_bonus: MakeBonus | None) -> None:
    """Check that the network has no memory and that there is no bonus.

    Args:
        name: of the algorithm.
        network: its network's settings.
        make_bonus: a bonus, which only agents that learn from their own rollouts can have.

    Raises:
        InputError: naming the setting.
    """
    if make_bonus is not None:
        reject("agent", name, "an agent that learns from its own rollouts, for a bonus")
    if network.core != "feed_forward":
        reject("core", network.core, "feed_forward: transitions are replayed alone; r2d2 has a memory")

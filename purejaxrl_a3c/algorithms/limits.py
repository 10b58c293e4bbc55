"""What some algorithms do not accept."""

from purejaxrl_a3c import networks
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.types import MakeBonus


def check_no_bonus(name: str, make_bonus: MakeBonus | None) -> None:
    """Check that an algorithm without a value function of its own, or with replay, gets no bonus.

    Raises:
        InputError: naming the agent.
    """
    if make_bonus is not None:
        reject("agent", name, "an agent with a value function that learns from its own rollouts, for a bonus")


def check_feed_forward(name: str, network: networks.BodyConfig, make_bonus: MakeBonus | None) -> None:
    """Check that an algorithm that learns from single transitions has a network without memory, and no bonus.

    Raises:
        InputError: naming the setting.
    """
    check_no_bonus(name, make_bonus)
    if network.core != "feed_forward":
        reject("core", network.core, "feed_forward: transitions are replayed alone; r2d2 has a memory")

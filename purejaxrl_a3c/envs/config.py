"""The settings of an environment and of the wrappers around it."""

import dataclasses
from typing import Literal

from purejaxrl_a3c.config import Count, CountOrZero, NonNegative, UnitInterval, configuration
from purejaxrl_a3c.types import Env


@configuration
class Wrappers:
    """The wrappers around an environment, innermost first."""

    time_limit: CountOrZero = 0
    """Truncate every episode after this many frames of the environment itself; 0 keeps the environment's own limit."""
    sticky_actions: UnitInterval | None = None
    """Probability of repeating the previous action (0.25 in Machado et al. 2018, 0.1 in MinAtar); None: no repeats."""
    action_repeat: Count = 1
    """Take every action this many times and add up the rewards; the repetitions count as one frame of the run."""
    observe: tuple[CountOrZero, ...] = ()
    """Show the agent only these entries of an observation's last axis; empty shows all of them."""
    flatten: bool = False
    """Show observations as vectors."""
    frame_stack: Count = 1
    """Show this many of the latest observations, side by side on the last axis."""
    clip_rewards: NonNegative | None = None
    """Clip the rewards that the agent learns from to plus or minus this; None: do not clip."""
    stagger_resets: CountOrZero = 0
    """Cut the first episode of every environment after a random number of steps, at most this many, so that the
    environments do not run in phase; 0 switches it off."""
    normalize_observations: bool = False
    """Subtract the running mean from observations and divide them by the running standard deviation."""
    scale_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return."""


@configuration
class Opponents:
    """Who plays against the agent, in a game for two."""

    opponent: Literal["random", "lookahead", "pool"] = "random"
    """Opponent in a game for two: random takes random legal actions; lookahead wins where it can in one move, and is
    random otherwise; pool is self-play against earlier versions of the policy (Bansal et al. 2018, arXiv 1710.03748).
    An evaluation of an agent that was trained in self-play is against random."""
    pool_size: Count = 4
    """Earlier versions of the policy that the environments are shared out among, if the opponent is the pool."""
    snapshot_every: Count = 25
    """Iterations after which the oldest version in the pool is replaced by the present policy. So no opponent is older
    than pool_size times as many iterations."""


@configuration
class Config:
    """The environment of a run."""

    env_id: str | Env = "CartPole-v1"
    """Name of a gymnax environment; a suite and a name, such as brax/ant; or a function of your own that makes one,
    my_module:make_env. In Python also an Env object."""
    env_params: dict[str, float] = dataclasses.field(default_factory=dict, hash=False)
    """Values for parameters of a gymnax environment, by name."""
    env_kwargs: dict[str, bool | int | float | str] = dataclasses.field(default_factory=dict, hash=False)
    """Arguments for what makes the environment, by name: size 20 for DeepSea-bsuite, backend positional for brax,
    is_slippery False for gym/FrozenLake-v1, entries of the configuration for playground."""
    randomize: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict, hash=False)
    """Draw parameters anew for every episode, each uniformly between a lower and an upper bound (Tobin et al. 2017,
    arXiv 1703.06907; Peng et al. 2018, arXiv 1710.06537). In gymnax a parameter and its values: gravity 5 15. In brax
    and playground a field of the physics model and factors on its default: link.inertia.mass 0.8 1.2. The bounds are
    numbers of Python and cannot be traced."""
    curriculum_frames: CountOrZero = 0
    """Widen the ranges of randomize linearly, from the default values to their full width, over this many frames of the
    run; an evaluation has the full width. 0: full from the start."""
    wrappers: Wrappers = Wrappers()
    """Wrappers around the environment."""
    opponents: Opponents = Opponents()
    """The other player of a game for two."""

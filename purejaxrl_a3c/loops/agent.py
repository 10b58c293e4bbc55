"""What an algorithm that learns from replayed experience consists of, and how its parts are updated."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.backend.vectors import pack, pack_and_back
from purejaxrl_a3c.config import Count, UnitInterval, configuration
from purejaxrl_a3c.loops.exploration import Exploration
from purejaxrl_a3c.objectives import follow
from purejaxrl_a3c.replay import View
from purejaxrl_a3c.types import AxisName, Key, Network, Params, Scalars
from purejaxrl_a3c.updates import optimizers
from purejaxrl_a3c.updates.gradient import apply_gradient


@configuration
class TargetConfig:
    """Settings of the target networks."""

    target_update_every: Count = 1
    """Gradient steps between two updates of the target networks. It counts gradient steps, not environment steps as in
    Stable-Baselines3."""
    target_update_rate: UnitInterval = 0.005
    """Share of the way that the target networks move towards the learned ones in such an update (0.005 in Haarnoja et
    al. 2018); 1 copies them."""


class Part(NamedTuple):
    """How one part of an agent's parameters is learned."""

    optimizer: optax.GradientTransformation  # it sees the part as a `Packed`
    every: int = 1  # updates of the agent for each step of this part
    limit: float | jax.Array | None = None  # norm to which the optimizer clips; None if that is not known


def make_part(optimizer: optimizers.Optimizer, num_updates: int, every: int = 1) -> Part:
    """The `Part` that an optimizer's config describes.

    Args:
        optimizer: as of `optimizers.make`.
        num_updates: updates of the agent in the whole run.
        every: updates of the agent for each step of this part.
    """
    return Part(optimizers.make(optimizer, -(-num_updates // every)), every, optimizers.clip_limit(optimizer))


class Gradients(Protocol):
    """The gradients of an agent."""

    def __call__(
        self, key: Key, params: Params, target: Params, batch: Any, weight: jax.Array, updates: jax.Array
    ) -> tuple[Params, jax.Array, Scalars]:
        """The gradients by part, the errors by which the items are drawn again, and scalars to report.

        Args:
            key: consumed.
            params: by part.
            target: slowly following copies, by part.
            batch: what `Agent.batch` made of ``M`` items.
            weight: float32 ``[M]``, importance weights.
            updates: int32 ``[]``, the agent's updates before this one.

        Returns:
            ``(gradients by part, errors float32 [M] >= 0, scalars)``.
        """
        ...


class Agent(NamedTuple):
    """An algorithm that learns from replayed experience: what acts, and how it learns from a batch."""

    network: Network
    """It acts."""
    exploration: Exploration
    init: Callable[[Key], Params]
    """key -> parameters by part, a dict."""
    acting: Callable[[Params], Params]
    """parameters by part -> those of ``network``."""
    parts: dict[str, Part]
    with_target: tuple[str, ...]
    """Names of the parts that have a target network."""
    batch: Callable[[View], Any]
    """drawn items -> what ``gradients`` takes."""
    gradients: Gradients
    sequence_length: int | None = None
    """Steps of an item, which then begins where a rollout does; None: an item is any single step."""


class Learner(NamedTuple):
    """What an agent learns, and how far it is."""

    params: Params  # by part
    target: Params  # by part, of those with a target network
    opt_state: Any  # by part, of the parameters as a `Packed`
    updates: jax.Array  # int32 []


def start(agent: Agent, params: Params) -> Learner:
    """The `Learner` at the start of a run."""
    opt_state = {name: part.optimizer.init(pack(params[name])) for name, part in agent.parts.items()}
    return Learner(params, {name: params[name] for name in agent.with_target}, opt_state, jnp.int32(0))


def packed(learner: Learner) -> tuple[Learner, Callable[[Learner], Learner]]:
    """The learner with every part as a `Packed`, and the function that undoes it.

    Many small updates in turn take fewer kernels so than leaf by leaf.
    """
    back = {name: pack_and_back(params)[1] for name, params in learner.params.items()}

    def undo(learner: Learner) -> Learner:
        def trees(parts: Params) -> Params:
            return {name: back[name](part) for name, part in parts.items()}

        return learner._replace(params=trees(learner.params), target=trees(learner.target))

    def pack_parts(parts: Params) -> Params:
        return {name: pack(part) for name, part in parts.items()}

    return learner._replace(params=pack_parts(learner.params), target=pack_parts(learner.target)), undo


def update(
    agent: Agent,
    config: TargetConfig,
    undo: Callable[[Learner], Learner],
    key: Key,
    learner: Learner,
    batch: Any,
    weight: jax.Array,
    axis_name: AxisName,
) -> tuple[Learner, jax.Array, Scalars]:
    """One gradient step of every part that has its turn, and of the target networks.

    Args:
        agent: the `Agent`.
        config: of the target networks.
        undo: from `packed`.
        key: consumed.
        learner: from `packed`.
        batch: of the items drawn.
        weight: float32 ``[M]``, their importance weights.
        axis_name: of the devices that share the batch, or None.

    Returns:
        ``(learner, errors [M], scalars)``. A part whose gradient is not finite stays as it is.
    """
    trees = undo(learner)
    gradients, error, scalars = agent.gradients(key, trees.params, trees.target, batch, weight, learner.updates)
    gradients, scalars = collectives.mean((gradients, scalars), axis_name)
    params, opt_state = {}, {}
    skipped, clipped, square = jnp.float32(0), jnp.float32(0), jnp.float32(0)
    for name, part in agent.parts.items():
        gradient = pack(gradients[name])
        norm = optax.tree.norm(gradient)
        square += jnp.square(norm)
        turn = None if part.every == 1 else learner.updates % part.every == 0
        params[name], opt_state[name] = apply_gradient(
            part.optimizer, gradient, learner.opt_state[name], learner.params[name], turn
        )
        skipped = jnp.maximum(skipped, jnp.where(jnp.isfinite(norm), jnp.float32(0), jnp.float32(1)))
        if part.limit is not None:
            clipped = jnp.maximum(clipped, optimizers.is_clipped(norm, part.limit))
    updates = learner.updates + 1
    is_due = True if config.target_update_every == 1 else updates % config.target_update_every == 0
    followed = {name: params[name] for name in agent.with_target}
    target = follow(learner.target, followed, config.target_update_rate, is_due)
    scalars |= {"gradient_norm": jnp.sqrt(square), "skipped_updates": skipped, "gradient_clipped": clipped}
    return Learner(params, target, opt_state, updates), error, scalars


def q_agent(
    network: Network,
    exploration: Exploration,
    part: Part,
    batch: Callable[[View], Any],
    gradient: Callable[[Params, Params, Any, jax.Array], tuple[Params, jax.Array, Scalars]],
    sequence_length: int | None = None,
) -> Agent:
    """The `Agent` of a single network of Q-values and its target network.

    Args:
        network: of Q-values.
        exploration: of the agent.
        part: how the network is learned.
        batch: drawn items -> what ``gradient`` takes.
        gradient: (params, those of the target network, batch, weight) -> (gradient, errors, scalars).
        sequence_length: as of `Agent`.
    """

    def gradients(
        key: Key, params: Params, target: Params, batch: Any, weight: jax.Array, updates: jax.Array
    ) -> tuple[Params, jax.Array, Scalars]:
        del key, updates
        found, error, scalars = gradient(params["q"], target["q"], batch, weight)
        return {"q": found}, error, scalars

    return Agent(
        network=network,
        exploration=exploration,
        init=lambda key: {"q": network.init(key)},
        acting=lambda params: params["q"],
        parts={"q": part},
        with_target=("q",),
        batch=batch,
        gradients=gradients,
        sequence_length=sequence_length,
    )

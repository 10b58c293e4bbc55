"""Builds every `Algorithm` that learns from replayed experience, from an environment and an `Agent`."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import envs, networks, replay
from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.backend.split import along, copied
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.loops import acting, rollout
from purejaxrl_a3c.loops import agent as agents
from purejaxrl_a3c.loops.acting import Acting
from purejaxrl_a3c.loops.agent import Agent, Learner
from purejaxrl_a3c.loops.experience import Experience, Plan
from purejaxrl_a3c.loops.metrics import episode_sums, make_metrics
from purejaxrl_a3c.loops.origin import Origin, origin
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.types import (
    Algorithm,
    Env,
    Key,
    Metrics,
    Params,
    Pretrained,
    Scalars,
    Trajectory,
)

_READ_AHEAD = 2**21  # bytes of the batches of an iteration that are read at once


class State(NamedTuple):
    """Everything that a run carries from one iteration to the next. It holds no key: see `make_train`."""

    learner: Learner  # ``learner.params`` are the current parameters
    actor_state: rollout.ActorState  # every leaf [1, B, ...]
    iteration: jax.Array  # int32 []: iterations done
    replay: replay.Ring
    origin: Origin  # the settings that it belongs to; no array


class Parts(NamedTuple):
    """The parts of an algorithm that learns from replayed experience."""

    env: Env
    agent: Agent
    plan: Plan
    buffer: replay.Buffer
    experience: Experience
    origin: Origin

    @property
    def acting(self) -> Acting:
        """What acts."""
        return Acting(self.env, self.agent.network, self.agent.exploration, self.plan.layout)


def make_parts(
    observed: envs.Config,
    network: networks.Config | networks.BodyConfig,
    env: Env,
    agent: Agent,
    plan: Plan,
    experience: Experience,
) -> Parts:
    """The parts of an algorithm.

    Args:
        observed: the environment's settings.
        network: the network's settings.
        env: the environment of these settings.
        agent: what acts and learns.
        plan: from `make_plan`; with an ``axis_name``, this and the functions of the algorithm must be called where that
            name is bound. Devices share out the environments, the replay buffer and the batches.
        experience: the settings that the plan was made of.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    if observed.opponents.opponent == "pool":
        reject("opponent", "pool", "random or lookahead, where experience is replayed")
    priorities = experience.priorities
    buffer = replay.make(
        example_rows(env, agent),
        buffer_size(agent, plan, experience.replayed),
        priority_exponent=priorities.priority_exponent if priorities.prioritized else None,
        axis_name=plan.layout.axis_name,
    )
    return Parts(env, agent, plan, buffer, experience, origin(observed, network))


def off_policy(parts: Parts, observed: envs.Config) -> Algorithm:
    """The algorithm that alternates rollouts of ``T`` steps in ``B`` environments with updates on replayed batches.

    Args:
        parts: from `make_parts`.
        observed: the environment's settings.

    Returns:
        An `Algorithm`, whose state is a `State`.
    """
    env, agent, layout = parts.env, parts.agent, parts.plan.layout

    def split(state: State) -> Any:
        return state._replace(
            learner=copied(state.learner),
            actor_state=along(1, state.actor_state),
            iteration=copied(state.iteration),
            replay=replay.split(state.replay),
        )

    return Algorithm(
        init=lambda key, pretrained=None: init(key, parts, pretrained),
        step=lambda key, state: step(key, parts, state),
        policy=lambda state: acting.exploring_policy(parts.acting, agent.acting(state.learner.params), state.iteration),
        eval_env=lambda state: acting.eval_env(parts.acting, state.actor_state),
        observer=lambda state: envs.make_observer(observed, acting.one_copy(state.actor_state)),
        split=split,
        env=env,
        network=agent.network,
        frames_per_step=layout.frames,
        iterations=layout.iterations,
        outside=outside(parts),
        compiler_options={},
    )


def outside(parts: Parts) -> Outside:
    """The algorithm of these parts without its environments."""
    agent = parts.agent

    def start(key: Key, actor_state: rollout.ActorState, params: Params | None) -> State:
        params = agent.init(jax.random.split(key)[0]) if params is None else params
        return start_learning(parts, params, actor_state)

    def learn(
        key: Key, state: State, level: Any, actor_state: rollout.ActorState, trajectories: Trajectory
    ) -> tuple[State, Metrics]:
        del level
        return learn_from(key, parts, state, actor_state, trajectories)

    return Outside(
        acting=parts.acting,
        start=start,
        actor=lambda state: acting_params(parts, state),
        key_act=lambda key: jax.random.split(key)[0],
        learn=learn,
        origin=parts.origin,
    )


def example_rows(env: Env, agent: Agent) -> replay.Rows:
    """Shapes and dtypes of one row of the replay buffer."""

    def one_row(key: Key) -> replay.Rows:
        # Without a step of the environment, which one outside of JAX cannot take here.
        _, obs, first, carry = rollout.start(env, agent.network, key)
        _, outputs = agent.network.step(agent.acting(agent.init(key)), carry, obs, first)
        noise, _ = rollout.draw(agent.network, key, jnp.int32(0))
        row: dict[str, Any] = {"obs": obs, "final_obs": obs, "action": outputs.policy.sample(noise), "first": first}
        row |= {"reward": jnp.float32(0), "terminated": first, "truncated": first}
        row |= dict.fromkeys(("log_prob", "next_carry", "episode_return", "episode_length"))  # not kept
        trajectory = Trajectory(carry=carry, **jax.tree.map(lambda x: x[None], row))
        rows = rows_of(jax.tree.map(lambda x: x[None, None], trajectory), agent)
        return jax.tree.map(lambda x: x[0, 0], rows)

    return jax.eval_shape(one_row, jax.random.key(0))


def buffer_size(agent: Agent, plan: Plan, config: replay.Config) -> replay.Size:
    """The sizes of the replay buffer on this device.

    Raises:
        InputError: if not even one item of the agent fits, or learning starts before there is one.
    """
    layout, length = plan.layout, plan.layout.rollout_length
    rows = config.replay_size // layout.envs // length * length
    ahead = 0 if agent.sequence_length is None else -(-agent.sequence_length // length) - 1
    least = (ahead + 1) * layout.frames
    if rows < (ahead + 1) * length:
        reject("replay_size", config.replay_size, f"at least {least}, with {layout.frames} frames an iteration")
    if plan.first_iteration < ahead:
        accepted = f"at least {least}, the frames before the first sequence of {agent.sequence_length} steps is whole"
        reject("learning_starts", config.learning_starts, accepted)
    return replay.Size(rows, layout.envs_here, length if agent.sequence_length else 1, ahead)


def rows_of(trajectories: Trajectory, agent: Agent) -> replay.Rows:
    """What the replay buffer keeps of trajectories ``[1, B, T]``: leaves ``[T, B, ...]``."""
    trajectories = jax.tree.map(lambda x: x[0], trajectories)
    kept = {name: getattr(trajectories, name) for name in replay.Rows._fields[:6]}
    if agent.sequence_length:
        kept["first"] = trajectories.first
    # Under x64 some environments show float64, of which the networks see float32.
    kept = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, kept)
    rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), replay.Rows(**kept))
    return rows._replace(carry=jax.tree.map(lambda x: x[None], trajectories.carry)) if agent.sequence_length else rows


def init(key: Key, parts: Parts, pretrained: Pretrained | None = None) -> State:
    """The `State` at the start of a run."""
    key_agent, key_env = jax.random.split(key)
    actor_state = acting.start(key_env, parts.acting, pretrained)
    params = parts.agent.init(key_agent) if pretrained is None else pretrained.params
    return start_learning(parts, params, actor_state)


def start_learning(parts: Parts, params: Params, actor_state: rollout.ActorState) -> State:
    """The `State` at the start of a run with these parameters, and with environments ``[1, B, ...]`` that are reset."""
    return State(agents.start(parts.agent, params), actor_state, jnp.int32(0), parts.buffer.init(), parts.origin)


def step(key: Key, parts: Parts, state: State) -> tuple[State, Metrics]:
    """One iteration: a rollout of all environments, and updates on replayed batches."""
    actor_state, trajectories = collect(jax.random.split(key)[0], parts, state)
    return learn_from(key, parts, state, actor_state, trajectories)


def learn_from(
    key: Key, parts: Parts, state: State, actor_state: rollout.ActorState, trajectories: Trajectory
) -> tuple[State, Metrics]:
    """The part of `step` that comes after acting.

    Args:
        key: of the iteration.
        parts: those of the algorithm.
        state: at the start of the iteration.
        actor_state: the environments after acting, leaves ``[1, B, ...]``.
        trajectories: ``[1, B, T]``.
    """
    key_learn = jax.random.split(key)[1]
    axis_name = parts.plan.layout.axis_name
    ring = parts.buffer.add(state.replay, rows_of(trajectories, parts.agent))
    if axis_name is not None:
        key_learn = jax.random.fold_in(key_learn, collectives.index(axis_name))
    learner, ring, reported = learn(key_learn, parts, state, ring)
    # Only now: a rollout's observations must be seen through the same statistics.
    actor_state = actor_state._replace(env=parts.env.refresh(actor_state.env, axis_name))
    iteration = state.iteration + 1
    reported |= parts.agent.exploration.report(acting.mean_level(parts.acting, state.iteration))
    metrics = make_metrics(parts.plan.layout, iteration, reported, episode_sums(trajectories))
    return State(learner, actor_state, iteration, ring, parts.origin), metrics


def collect(key: Key, parts: Parts, state: State) -> tuple[rollout.ActorState, Trajectory]:
    """Rollouts of all environments: ``(actor_state [1, B], trajectories [1, B, T])``."""
    workers = parts.plan.layout.own_workers()
    level = acting.levels(parts.acting, state.iteration, workers)
    return acting.collect(key, parts.acting, acting_params(parts, state), state.actor_state, workers, level)


def acting_params(parts: Parts, state: State) -> Params:
    """The parameters that act, leaves ``[1, ...]``."""
    return jax.tree.map(lambda x: x[None], parts.agent.acting(state.learner.params))


def learn(key: Key, parts: Parts, state: State, ring: replay.Ring) -> tuple[Learner, replay.Ring, Scalars]:
    """The updates of one iteration; none before there are ``learning_starts`` frames.

    Returns:
        ``(learner, ring, scalars)``: the means over the updates, 0 if there are none.
    """
    agent, buffer, settings, layout = parts.agent, parts.buffer, parts.experience, parts.plan.layout
    count = settings.replayed.updates_per_iteration
    axis_name = parts.plan.layout.axis_name
    size = collectives.part("batch_size", settings.replayed.batch_size, axis_name)
    progress = state.iteration.astype(jnp.float32) / layout.iterations
    start = settings.priorities.importance_exponent
    beta = start + (1 - start) * progress
    key_bits, key_agent = jax.random.split(key)
    bits, keys = jax.random.bits(key_bits, (count, 2, size)), jax.random.split(key_agent, count)
    learner, undo = agents.packed(state.learner)
    ahead = read_ahead(parts, ring, bits, beta)

    def take_step(i: jax.Array, learner: Learner, drawing: tuple[Any, jax.Array]) -> tuple[Learner, Any, Scalars]:
        # The rows are only read, so they stay outside of the loop, which therefore does not copy them.
        now = ring._replace(tree=drawing[0], top=drawing[1])
        drawn, batch = read(parts, now, bits[i], beta) if ahead is None else jax.tree.map(lambda x: x[i], ahead)
        learner, error, scalars = agents.update(
            agent, settings.targets, undo, keys[i], learner, batch, drawn.weight, axis_name
        )
        after = buffer.reprioritise(now, drawn.places, error)
        return learner, (after.tree, after.top), scalars

    drawing = ring.tree, ring.top
    names = tuple(jax.eval_shape(take_step, jnp.int32(0), learner, drawing)[2])

    def body(i: jax.Array, loop: tuple[Learner, Any, jax.Array]) -> tuple[Learner, Any, jax.Array]:
        learner, drawing, scalars = take_step(i, *loop[:2])
        # One sum of a vector takes fewer kernels than a sum of each.
        return learner, drawing, loop[2] + jnp.stack([scalars[name].astype(jnp.float32) for name in names])

    # The iteration is the same for all seeds of a vmap, so this remains a loop, which may take no turn at all.
    turns = jnp.where(state.iteration >= parts.plan.first_iteration, count, 0)
    none = jnp.zeros(len(names), jnp.float32)
    learner, drawing, sums = jax.lax.fori_loop(0, turns, body, (learner, drawing, none))
    ring = ring._replace(tree=drawing[0], top=drawing[1])
    return undo(learner), ring, dict(zip(names, sums / count, strict=True))


def read(parts: Parts, ring: replay.Ring, bits: jax.Array, beta: jax.Array) -> tuple[replay.Drawn, Any]:
    """Drawn items and the batch of them; the arguments are those of `replay.Buffer.sample`."""
    drawn = parts.buffer.sample(ring, bits, beta)
    return drawn, parts.agent.batch(parts.buffer.view(ring, drawn.places))


def read_ahead(parts: Parts, ring: replay.Ring, bits: jax.Array, beta: jax.Array) -> tuple[replay.Drawn, Any] | None:
    """All batches of an iteration at once, with a leading axis, because many small reads are slow.

    None if a draw depends on the errors of the batches before, or if the batches are so large that reading them is not
    slow for its number of kernels.
    """
    if parts.experience.priorities.prioritized:
        return None
    every = partial(jax.vmap(partial(read, parts, ring), in_axes=(0, None)), bits, beta)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(every)))
    return every() if size <= _READ_AHEAD else None

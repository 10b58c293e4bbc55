"""Builds every on-policy `Algorithm` from an environment, a network, an objective and an update rule."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl_a3c import envs, networks
from purejaxrl_a3c.backend.split import copied
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.loops import acting, rollout
from purejaxrl_a3c.loops.exploration import Exploration, no_exploration
from purejaxrl_a3c.loops.iteration import Iteration, Parts, State, at_once, in_batches, keys_of, learn_from
from purejaxrl_a3c.loops.layout import EnvLayout
from purejaxrl_a3c.loops.metrics import make_metrics
from purejaxrl_a3c.loops.opponents import make_opponents
from purejaxrl_a3c.loops.origin import origin
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.objectives import no_target_network
from purejaxrl_a3c.types import (
    Algorithm,
    Bonus,
    ClockedRule,
    Key,
    MakeBonus,
    MakeObjective,
    MakeTargetNetwork,
    Metrics,
    Network,
    Params,
    Pretrained,
    Scalars,
    Trajectory,
    UpdateRule,
)


def on_policy(
    env: envs.Config,
    network: networks.Config | networks.BodyConfig,
    gamma: float | jax.Array,
    layout: EnvLayout,
    make_objective: MakeObjective,
    rule: UpdateRule | ClockedRule,
    *,
    weights_per_worker: bool = False,
    make_bonus: MakeBonus | None = None,
    make_network: Callable[..., Network] = networks.make,
    exploration: Exploration | None = None,
    make_target: MakeTargetNetwork | None = None,
) -> Algorithm:
    """The algorithm that alternates rollouts of ``T`` steps in ``W * B`` environments with updates.

    Args:
        env: the environment's settings.
        network: the network's settings.
        gamma: discount factor of the environment's rewards.
        layout: the environments of the run; with an ``axis_name``, this and the functions of the result must be called
            where that name is bound.
        make_objective: makes the objective for the network.
        rule: how the objective's gradients are applied.
        weights_per_worker: whether every worker acts with parameters of its own, which only matters to the speed of
            convolutions.
        make_bonus: makes an intrinsic reward; None: the environment's rewards alone.
        make_network: makes the network of these settings; called as `networks.make` and, only with a bonus, with
            ``num_values``.
        exploration: how the policy that acts differs from the one that is learned; None: not at all.
        make_target: makes a target network, from whose values returns bootstrap; None: they bootstrap from the values
            of the network itself. There may not be a bonus too.

    Returns:
        An `Algorithm`, whose state is a `State`.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    made_env = envs.make(env, gamma)
    bonus = make_bonus(network, made_env, layout.axis_name) if make_bonus else None
    if bonus and isinstance(rule, ClockedRule):
        # The bonus of a rollout is computed once an iteration, but on the clock workers act after others have learned.
        reject("schedule", "queue" if rule.hold else "clock", "random or round_robin, with a bonus")
    make_network = partial(make_network, num_values=2) if bonus else make_network
    made = make_network(network, made_env, weights_per_worker=weights_per_worker)
    exploration = exploration or no_exploration()
    target = make_target(made, exploration.behave) if make_target else no_target_network()
    estimator = bonus.estimator(made, gamma) if bonus else target.estimator(made, gamma)
    objective = make_objective(made, estimator=estimator)
    opponents = make_opponents(env.opponents, made, layout.envs_here)
    parts = Parts(made_env, made, objective, rule, layout, bonus, origin(env, network), exploration, target, opponents)
    return algorithm(parts, env)


def algorithm(parts: Parts, observed: envs.Config | None = None) -> Algorithm:
    """The `Algorithm` of these parts, as of `on_policy`; ``observed`` are the settings of its environment, if any."""
    env, network, rule, layout, bonus = parts.env, parts.network, parts.rule, parts.layout, parts.bonus

    def step(key: Key, state: State) -> tuple[State, Metrics]:
        if isinstance(rule, ClockedRule):
            return finish(parts, state, in_batches(key, parts, rule, state))
        return finish(parts, state, at_once(key, parts, rule, state))

    def split(state: State) -> Any:
        axis = layout.split_axis
        axes: dict[str, Any] = {
            "learner": rule.split(state.learner),
            "actor_state": jax.tree.map(lambda _: axis, state.actor_state),
            "iteration": -1,
            "bonus": bonus.split(state.bonus, axis) if bonus else (),
            "target": copied(state.target),
            "opponents": copied(state.opponents),
        }
        return state._replace(**axes)

    return Algorithm(
        init=lambda key, pretrained=None: init(key, parts, pretrained),
        step=step,
        policy=lambda state: acting.exploring_policy(parts.acting, state.learner.params, state.iteration),
        eval_env=lambda state: acting.eval_env(parts.acting, state.actor_state),
        observer=lambda state: envs.make_observer(
            observed or envs.Config(env_id=env), acting.one_copy(state.actor_state)
        ),
        split=split,
        env=env,
        network=network,
        frames_per_step=layout.frames,
        iterations=layout.iterations,
        outside=outside(parts),
        compiler_options={},
    )


def outside(parts: Parts) -> Outside:
    """The algorithm of these parts without its environments."""
    rule: Any = parts.rule

    def start(key: Key, actor_state: rollout.ActorState, params: Params | None) -> State:
        key_network, _, key_rule, key_bonus = jax.random.split(key, 4)
        params = parts.network.init(key_network) if params is None else params
        # Rollouts that are learned from later are not part of the state here.
        own = parts._replace(rule=rule._replace(hold=None)) if isinstance(rule, ClockedRule) else parts
        return start_learning(key_rule, key_bonus, own, params, actor_state)

    def learn(
        key: Key, state: State, level: Any, actor_state: rollout.ActorState, trajectories: Trajectory
    ) -> tuple[State, Metrics]:
        params, keys = rule.actor(state.learner), keys_of(key)
        return finish(parts, state, learn_from(keys, parts, rule, state, params, level, actor_state, trajectories))

    refusal: Any = None
    if parts.bonus is not None:
        refusal = "config", "one with a bonus", "one without a bonus, for environments outside of JAX"
    elif isinstance(rule, ClockedRule):
        schedule = "queue" if rule.hold else "clock"
        accepted = "random or round_robin, for environments outside of JAX; a queue has the engine actors"
        refusal = "schedule", schedule, accepted
    elif parts.layout.group_size:
        accepted = "0: environments outside of JAX cannot begin the same episode"
        refusal = "group_size", parts.layout.group_size, accepted
    return Outside(
        acting=parts.acting,
        start=start,
        actor=lambda state: rule.actor(state.learner),
        key_act=lambda key: keys_of(key).act,
        learn=learn,
        origin=parts.origin,
        objective=parts.objective,
        rule=rule,
        refusal=refusal,
    )


def finish(parts: Parts, state: State, done: Iteration) -> tuple[State, Metrics]:
    """The state and the report after an iteration that began with ``state``."""
    layout = parts.layout
    # Only now: acting and learning must see the observations of a rollout through the same statistics.
    states = parts.env.refresh(done.actor_state.env, layout.axis_name)
    iteration = state.iteration + 1
    losses = means_over_pushes(done.reported, iteration)
    losses |= parts.exploration.report(acting.mean_level(parts.acting, state.iteration))
    losses |= parts.opponents.report(state.opponents, state.iteration)
    metrics = make_metrics(layout, iteration, losses, done.sums)
    actor_state = done.actor_state._replace(env=states)
    target = parts.target.update(state.target, done.learner.params, iteration)
    opponents = parts.opponents.update(state.opponents, done.learner.params, iteration)
    return State(done.learner, actor_state, iteration, done.bonus, target, opponents, parts.origin), metrics


def init(key: Key, parts: Parts, pretrained: Pretrained | None = None) -> State:
    """The `State` at the start of a run."""
    key_network, key_env, key_rule, key_bonus = jax.random.split(key, 4)
    actor_state = acting.start(key_env, parts.acting, pretrained)
    params = parts.network.init(key_network) if pretrained is None else pretrained.params
    return start_learning(key_rule, key_bonus, parts, params, actor_state)


def start_learning(
    key_rule: Key, key_bonus: Key, parts: Parts, params: Params, actor_state: rollout.ActorState
) -> State:
    """The `State` at the start of a run with these parameters, and with environments ``[W, B, ...]`` that are reset."""
    rule, bonus = parts.rule, parts.bonus
    learner = rule.init(key_rule, params)
    if isinstance(rule, ClockedRule) and rule.hold is not None:
        learner = rule.hold(learner, parts.objective, rollout_types(parts, learner, rule, actor_state))
    started: Any = ()
    if bonus is not None:
        assert isinstance(rule, UpdateRule)
        started = warm_up(key_bonus, parts, rule.actor(learner), bonus, actor_state)
    target, opponents = parts.target.init(params), parts.opponents.init(params)
    return State(learner, actor_state, jnp.int32(0), started, target, opponents, parts.origin)


def rollout_types(parts: Parts, learner: Any, rule: ClockedRule, actor_state: rollout.ActorState) -> Trajectory:
    """Shapes and dtypes of the trajectories of a batch of pushes."""

    def act() -> Trajectory:
        key = jax.random.key(0)
        _, batch = rule.next_batch(key, learner, jnp.int32(1))
        acting_state = jax.tree.map(lambda x: x[batch.workers], actor_state)
        level = acting.levels(parts.acting, jnp.int32(0), parts.layout.own_workers()[batch.workers])
        params = rule.actor(learner, batch)
        opponents = parts.opponents.init(learner.params)
        trajectories = acting.collect(key, parts.acting, params, acting_state, batch.number, level, opponents)[1]
        return parts.target.annotate(parts.target.init(learner.params), params, level, trajectories)

    return jax.eval_shape(act)


def warm_up(key: Key, parts: Parts, params: Params, bonus: Bonus, actor_state: rollout.ActorState) -> Any:
    """The bonus's state after some rollouts of the untrained policy. The run itself does not continue from these."""
    layout = parts.layout
    key_init, key_act = jax.random.split(key)
    opponents = parts.opponents.init(jax.tree.map(lambda x: x[0], params))
    level = acting.levels(parts.acting, jnp.int32(0), layout.own_workers())

    def observe(i: jax.Array, loop: tuple[rollout.ActorState, Any]) -> tuple[rollout.ActorState, Any]:
        actor_state, state = loop
        numbers = layout.own_workers()
        key = jax.random.fold_in(key_act, i)
        actor_state, rows = acting.collect(key, parts.acting, params, actor_state, numbers, level, opponents)
        return actor_state, bonus.observe(state, rows)

    started = actor_state, bonus.init(key_init, (layout.workers_here, layout.envs_here))
    return jax.lax.fori_loop(0, bonus.warm_up, observe, started)[1]


def means_over_pushes(reported: Scalars, iteration: jax.Array) -> Scalars:
    """What an iteration reports, from named vectors with an entry a push."""
    reported = dict(reported)
    staleness = reported.pop("staleness")
    largest = reported.pop("staleness_max", staleness)
    losses = {name: values.astype(jnp.float32).mean() for name, values in reported.items()}
    return losses | {
        "staleness_mean": staleness.astype(jnp.float32).mean(),
        "staleness_max": largest.max(),
        "virtual_time": reported.get("virtual_time", iteration.astype(jnp.float32)).max(),
    }

"""A worker of A3C: it pulls parameters, acts, takes a gradient and pushes it, over and over."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from purejaxrl_a3c.backend.vectors import ravel_and_back
from purejaxrl_a3c.host import shared as memory
from purejaxrl_a3c.host.programs import (
    Draws,
    Place,
    Rollouts,
    act,
    collect,
    compile_show,
    draw,
    end_of,
    show,
    start_place,
    to_trajectories,
    types_of_rollouts,
)
from purejaxrl_a3c.host.shared import Failure, Shared
from purejaxrl_a3c.host.store import Gradient, Push, SharedStore, Store, give_up
from purejaxrl_a3c.host.vector import HostEnv
from purejaxrl_a3c.loops.metrics import episode_sums
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.run import quiet
from purejaxrl_a3c.types import Params, TimeStep
from purejaxrl_a3c.updates.gradient import apply_gradient, vector_gradient_at


class Programs(NamedTuple):
    """What a worker computes. Parameters are one vector ``[P]``."""

    start: Callable[[Any], Place]
    """first observations [1, B, ...] -> where the worker is then."""
    draw: Callable[..., Draws]
    """(key of the run as uint32, number of the rollout, worker int32 [1]) -> `Draws`."""
    act: Callable[..., Any]
    """(params, draws, step, carry, obs, first) -> as of `programs.act`."""
    show: Callable[[Any, TimeStep], tuple[Any, TimeStep]] | None
    """As `programs.show`; None without wrappers."""
    gradient: Callable[..., Any]
    """(params, rollouts, carry) -> (gradient [P], reports float32 [K], sums float32 [3])."""
    push: Callable[..., Any]
    """(params, opt_state, gradient, staleness, pulled [P]) -> (params, opt_state), or what is to be added to them."""


class Assignment(NamedTuple):
    """What one worker is told."""

    worker: int
    num_workers: int
    envs: int
    rollout_length: int
    key: np.ndarray  # of the run, uint32
    seed: int  # of the environments at the first start
    push: Push


def make_programs(
    outside: Outside,
    optimizer: optax.GradientTransformationExtraArgs,
    unravel: Callable[[Any], Params],
    treedef: Any,
    adds: bool,
) -> Programs:
    """The `Programs` of an algorithm, not compiled yet.

    Args:
        outside: the algorithm without its environments.
        optimizer: of parameters ``[P]``.
        unravel: ``[P]`` to parameters.
        treedef: the structure of the optimizer's state, of which programs see the leaves.
        adds: whether ``push`` returns what is to be added, not what comes of it.
    """
    objective, told = outside.objective, outside.acting.env.told
    assert objective is not None

    def draw_one(key: Any, number: Any, worker: Any) -> Draws:
        return draw(outside, jax.random.wrap_key_data(key, impl="threefry2x32"), number, worker)

    def act_one(params: Any, draws: Draws, step: Any, carry: Any, obs: Any, first: Any) -> Any:
        snapshot = jax.tree.map(lambda x: x[None], unravel(params))
        return act(outside.acting, snapshot, draws, step, carry, obs, first)

    def gradient(params: Any, rollouts: Rollouts, carry: Any) -> Any:
        trajectories = to_trajectories(rollouts, carry)
        one = jax.tree.map(lambda x: x[0], trajectories)
        vector, reported = vector_gradient_at(objective, unravel(params), one)
        return vector, _stack(reported), _stack(episode_sums(trajectories))

    def push(params: Any, opt_state: Any, gradient: Any, staleness: Any, pulled: Any) -> Any:
        told = {"staleness": staleness, "pulled": pulled}
        state = jax.tree.unflatten(treedef, opt_state)
        new_params, new_state = apply_gradient(optimizer, gradient, state, params, **told)
        after = new_params, jax.tree.leaves(new_state)
        return jax.tree.map(lambda new, old: new - old, after, (params, opt_state)) if adds else after

    return Programs(
        partial(start_place, outside.acting), draw_one, act_one, None if told is None else show(told), gradient, push
    )


def _stack(named: dict[str, Any]) -> jax.Array:
    return jnp.stack([jnp.asarray(named[name], jnp.float32) for name in sorted(named)])


def compile_programs(
    outside: Outside,
    start: Any,
    optimizer: optax.GradientTransformation,
    push: Push,
    key: np.ndarray,
    obs: Any,
) -> tuple[Programs, list[str]]:
    """The compiled `Programs` of a run, and the names of the reports.

    Args:
        outside: the algorithm without its environments.
        start: the state at the start of the run.
        optimizer: of parameters ``[P]``.
        push: how workers push.
        key: of the run, uint32.
        obs: first observations of one worker's environments, leaves ``[B, ...]``.
    """
    objective: Any = outside.objective
    params, unravel = ravel_and_back(start.learner.params)
    opt_state, treedef = jax.tree.flatten(start.learner.opt_state)
    optimizer = optax.with_extra_args_support(optimizer)
    programs = make_programs(outside, optimizer, unravel, treedef, adds=push == "hogwild")
    worker, number = np.zeros(1, np.int32), np.int32(0)
    obs = jax.tree.map(lambda x: x[None], obs)
    place = jax.eval_shape(programs.start, obs)
    draws = jax.eval_shape(programs.draw, key, number, worker)
    acting = params, draws, number, place.carry, place.obs, place.first
    acted = jax.eval_shape(programs.act, *acting)
    rollouts = types_of_rollouts(outside.acting.layout.rollout_length, acted, place.obs, place.first, place.wrappers)
    with jax.default_device(jax.local_devices(backend="cpu")[0]), quiet.without_cache():
        compiled = Programs(
            start=_compile(programs.start, obs),
            draw=_compile(programs.draw, key, number, worker),
            act=_compile(programs.act, *acting),
            show=compile_show(outside.acting.env.told, place.wrappers, obs),
            gradient=_compile(programs.gradient, params, rollouts, place.carry),
            push=_compile(programs.push, params, opt_state, params, number, params),
        )
    trajectories = jax.eval_shape(
        lambda *told: jax.tree.map(lambda x: x[0], to_trajectories(*told)), rollouts, place.carry
    )
    reported = jax.eval_shape(partial(vector_gradient_at, objective), start.learner.params, trajectories)[1]
    return compiled, sorted(reported)


def _compile(program: Any, *arguments: Any) -> Any:
    return jax.jit(program).lower(*arguments).compile()


def work(own: Assignment, programs: Programs, make_env: Callable[[int], HostEnv], shared: Shared) -> None:
    """Work until the run is to end. An error is put into the queue of failures."""
    store = SharedStore(own.worker, own.push, programs.push, shared)
    try:
        act_and_push(own, programs, make_env, store)
    except Exception as error:  # whatever an environment may raise
        now = memory.arrays(shared)
        number, step = int(now.rollouts[own.worker]), int(now.steps[own.worker])
        give_up(own.worker, own.push, shared)
        shared.failures.put(Failure(own.worker, number, step, f"{type(error).__name__}: {error}"))


def act_and_push(own: Assignment, programs: Programs, make_env: Callable[[int], HostEnv], store: Store) -> None:
    """Pull, act, push, over and over, until the run is to end."""
    env = make_env(own.envs)
    try:
        shape, me = (1, own.envs), own.worker
        # Another start must not see the same episodes again.
        seed = (own.seed + me * own.envs + own.num_workers * own.envs * (store.starts - 1)) % 2**31
        place = programs.start(jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), env.reset(seed)))
        steps, worker = [jnp.int32(t) for t in range(own.rollout_length)], np.array([me], np.int32)
        pulled = store.begin()
        while pulled is not None:
            params = jnp.asarray(pulled.params)
            draws = programs.draw(own.key, np.int32(pulled.rollout), worker)

            def act_at(t: int, *seen: Any, params: Any = params, draws: Draws = draws) -> Any:
                store.at(t)
                return programs.act(params, draws, steps[t], *seen)

            rollouts = collect(act_at, env, own.rollout_length, place, programs.show)
            gradient, reports, sums = (np.asarray(x) for x in programs.gradient(params, rollouts, place.carry))
            place = end_of(rollouts)
            pulled = store.push(pulled, Gradient(gradient, time.monotonic(), reports, sums))
    finally:
        env.close()

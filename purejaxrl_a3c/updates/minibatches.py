"""PPO's learning: several passes over a rollout, in minibatches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c.backend import collectives, randomness, split
from purejaxrl_a3c.backend.vectors import pack, pack_and_back
from purejaxrl_a3c.checks import check_divides
from purejaxrl_a3c.config import Count, configuration
from purejaxrl_a3c.types import AxisName, Key, Objective, Params, Scalars, Trajectory, UpdateRule
from purejaxrl_a3c.updates.gradient import apply_gradient, gradient_of
from purejaxrl_a3c.updates.learning import Learning


@configuration
class Passes:
    """How often each rollout is learned from. The defaults are those of OpenAI Baselines' PPO."""

    epochs: Count = 4
    """Passes over each rollout (4 in OpenAI Baselines)."""
    num_minibatches: Count = 4
    """Minibatches of each pass (4 in OpenAI Baselines). They hold whole environments if the core is recurrent,
    otherwise single steps."""

    @property
    def updates(self) -> int:
        """Gradient steps on each rollout."""
        return self.epochs * self.num_minibatches


def whole_rollouts(core: str) -> str | None:
    """Why a minibatch must hold the whole rollout of an environment, for `check_passes`; None: it need not."""
    return None if core == "feed_forward" else "as the core is recurrent"


def check_passes(passes: Passes, num_envs: int, rollout_length: int, reason: str | None) -> None:
    """Check that minibatches of equal size can be made of a rollout.

    Args:
        passes: the settings.
        num_envs: environments whose rollouts are learned from at once.
        rollout_length: ``T``.
        reason: why a minibatch must hold whole rollouts; None: it holds single steps.

    Raises:
        InputError: naming ``num_minibatches``.
    """
    if reason is not None:
        check_divides("num_minibatches", passes.num_minibatches, f"num_envs, {reason}", num_envs)
    else:
        steps = num_envs * rollout_length
        check_divides("num_minibatches", passes.num_minibatches, "num_envs * rollout_length", steps)


class Learner(NamedTuple):
    """The parameters, the optimizer's state, and the coefficients of the loss that adapt."""

    params: Params
    opt_state: Any  # of the parameters as a `Packed`
    adapted: tuple[jax.Array, ...]  # float32 [] each


class Adaptive(NamedTuple):
    """Coefficients that an objective's ``loss`` takes as further arguments; they adapt after each rollout."""

    start: Callable[[], tuple[jax.Array, ...]]
    """() -> the coefficients at the start of the run."""
    adapt: Callable[[tuple[jax.Array, ...], Scalars], tuple[jax.Array, ...]]
    """(adapted, terms) -> adapted; the terms are those of the loss over the whole batch, after the last pass."""


def adaptive_kl(coefficient: float | jax.Array, target: float | jax.Array) -> Adaptive:
    """The coefficient of PPO's penalty (Schulman et al. 2017, arXiv 1707.06347, section 4).

    It is halved if the policy has moved by less than ``target / 1.5``, and doubled if by more than ``1.5 target``.

    Args:
        coefficient: at the start.
        target: Kullback-Leibler divergence in nats.

    Returns:
        An `Adaptive`.
    """

    def start() -> tuple[jax.Array, ...]:
        return (jnp.float32(coefficient),)

    def adapt(adapted: tuple[jax.Array, ...], terms: Scalars) -> tuple[jax.Array, ...]:
        (beta,), kl = adapted, terms["kl"]
        beta = jnp.where(kl < target / 1.5, beta / 2, jnp.where(kl > target * 1.5, beta * 2, beta))
        # The paper has no bounds. Without them a policy that stands still for a while would never be held back again.
        return (jnp.clip(beta, 1e-6, 1e6),)

    return Adaptive(start, adapt)


class _State(NamedTuple):
    """What changes with the parameters, see `Learner`."""

    opt_state: Any
    adapted: tuple[jax.Array, ...]


def in_passes(
    optimizer: optax.GradientTransformation,
    epochs: int,
    num_minibatches: int,
    *,
    target_kl: float | jax.Array | None = None,
    adaptive: Adaptive | None = None,
    axis_name: AxisName = None,
) -> Learning:
    """PPO's learning (Schulman et al. 2017, arXiv 1707.06347, algorithm 1): many gradient steps on one rollout.

    The objective's batch must be a tree of leaves ``[M, ...]``. Every pass shuffles the ``M`` items anew and deals them
    out to ``num_minibatches`` minibatches.

    Args:
        optimizer: an optax transformation. It sees parameters and gradients as a vector or a `Packed`, which takes
            fewer kernels in each of many small updates, so it must not treat leaves of the parameters differently.
        epochs: passes over the whole batch, an int.
        num_minibatches: minibatches of a pass, an int that divides ``M``.
        target_kl: stop learning from this rollout once the policy has moved by more than this many nats, as measured
            on a minibatch before its gradient step; None: never stop. It needs an objective that reports ``kl``.
        adaptive: an `Adaptive`; None: the loss takes no further arguments.
        axis_name: the axis of the devices that share the environments out, or None. Each deals out its own items, and
            a minibatch has as many of every device. So with more than one minibatch the run differs from that of one
            device.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    adaptive = adaptive or Adaptive(tuple, lambda adapted, terms: adapted)

    def init(params: Params) -> _State:
        return _State(optimizer.init(params), adaptive.start())

    def learn(
        key: Key | None,
        objective: Objective,
        params: Params,
        state: _State,
        rollouts: Trajectory,
        back: Callable[[Any], Params],
        **told: Any,
    ) -> tuple[Params, _State, Scalars]:
        assert key is not None
        batch, adapted = objective.prepare(back(params), rollouts), state.adapted

        def loss_of_packed(params: Params, batch: Any, *adapted: jax.Array) -> tuple[jax.Array, Scalars]:
            return objective.loss(back(params), batch, *adapted)

        of_packed = objective._replace(loss=loss_of_packed)

        def take_step(loop: _Loop, minibatch: Any) -> tuple[_Loop, Scalars]:
            found = gradient_of(of_packed, loop.params, minibatch, *adapted, axis_name=axis_name)
            return _step(optimizer, loop, *found, target_kl, told)

        def pass_once(loop: _Loop, key: Key) -> tuple[_Loop, Scalars]:
            return jax.lax.scan(take_step, loop, deal(key, batch, num_minibatches))

        loop = _Loop(params, state.opt_state, jnp.bool_(True))
        loop, reported = jax.lax.scan(pass_once, loop, jax.random.split(key, epochs))
        if adapted:
            _, terms = objective.loss(back(loop.params), batch, *adapted)
            adapted = adaptive.adapt(adapted, collectives.mean(terms, axis_name))
        return loop.params, _State(loop.opt_state, adapted), jax.tree.map(jnp.ravel, reported)

    return Learning(init, learn, draws=True)


def lockstep(learning: Learning) -> UpdateRule:
    """PPO's rule: all environments act with the current parameters, and their rollouts are learned from.

    With `in_passes`, one pass and one minibatch this is `synchronous`.

    Returns:
        An `UpdateRule` with one worker.
    """

    def init(key: Key, params: Params) -> Learner:
        del key
        return Learner(params, *learning.init(pack(params)))

    def actor(learner: Learner) -> Params:
        return jax.tree.map(lambda x: x[None], learner.params)

    def update(key: Key, learner: Learner, objective: Objective, trajectories: Trajectory) -> tuple[Learner, Scalars]:
        environments = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectories)
        # As where workers push one after the other: a key for their order, and one for each push.
        _, key_learn = jax.random.split(key)
        packed, back = pack_and_back(learner.params)
        state = _State(learner.opt_state, learner.adapted)
        packed, state, reported = learning.learn(key_learn, objective, packed, state, environments, back)
        return Learner(back(packed), *state), reported

    return UpdateRule(init, actor, update, split.copied)


class _Loop(NamedTuple):
    params: Params  # a vector or a `Packed`
    opt_state: Any
    goes_on: jax.Array  # bool []: the policy has not moved too far yet


def _step(
    optimizer: optax.GradientTransformation,
    loop: _Loop,
    gradient: Params,
    metrics: Scalars,
    target_kl: float | jax.Array | None,
    told: dict[str, Any],
) -> tuple[_Loop, Scalars]:
    """Apply the gradient of one minibatch, unless the policy has moved too far."""
    goes_on = loop.goes_on
    if target_kl is not None:
        goes_on &= ~(metrics["kl"] > target_kl)  # one that is NaN says nothing about how far the policy has moved
    where = None if target_kl is None else goes_on
    if "effective_sample_size" in metrics:
        told = told | {"effective_sample_size": metrics["effective_sample_size"]}
    new = apply_gradient(optimizer, gradient, loop.opt_state, loop.params, where, **told)
    return _Loop(*new, goes_on), metrics


def deal(key: Key, batch: Any, num_minibatches: int) -> Any:
    """Shuffle ``batch``, leaves ``[M, ...]``, and deal it out to ``N`` minibatches: leaves ``[N, M / N, ...]``."""
    order = randomness.permutation(key, jax.tree.leaves(batch)[0].shape[0])
    return jax.tree.map(lambda x: x[order].reshape(num_minibatches, -1, *x.shape[1:]), batch)

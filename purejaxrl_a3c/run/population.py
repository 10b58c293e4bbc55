"""Population based training (Jaderberg et al. 2017, arXiv 1711.09846), the whole population in one compiled run."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.config import flat, is_float_setting, replace
from purejaxrl_a3c.run.train import build
from purejaxrl_a3c.run.where import is_outside
from purejaxrl_a3c.types import Key, State

_FACTORS = (0.8, 1.25)
_RESAMPLED = 0.25  # probability that a setting is drawn anew instead of multiplied


class Population(NamedTuple):
    """The result of population based training of ``P`` members for ``R`` rounds."""

    state: State  # leaves [P, ...], after the last round
    settings: dict[str, jax.Array]  # float32 [R, P]: with which each member trained in each round
    scores: jax.Array  # float32 [R, P]: mean return of the episodes that ended in the round; NaN if none did
    parents: jax.Array  # int32 [R, P]: whose state each member began the round with, its own if it is its number

    @property
    def best(self) -> int:
        """The number of the member with the best score in the last round.

        Raises:
            InputError: if no episode ended in it.
        """
        scores = np.asarray(self.scores)[-1]
        if not np.isfinite(scores).any():
            reject("frames_per_round", "this number", "so large that episodes end in every round")
        return int(np.argmax(np.where(np.isfinite(scores), scores, -np.inf)))

    def member(self, number: int) -> tuple[State, dict[str, float]]:
        """The state of a member after the last round, and its settings, for `evaluate` and `replace`."""
        settings = {name: float(values[-1, number]) for name, values in self.settings.items()}
        return jax.tree.map(lambda x: x[number], self.state), settings


def make_population(
    config: Any,
    ranges: Mapping[str, tuple[float, float]],
    size: int = 16,
    frames_per_round: int = 20_000,
    share: float = 0.25,
) -> Callable[[Key], Population]:
    """Population based training as a pure function.

    Every member is a run with settings of its own. After each round the worst members take over the state and the
    settings of members drawn from the best (exploit), and change these settings (explore): each is multiplied by 0.8 or
    1.25, or, with probability 0.25, drawn anew. The others go on as they are::

        train = jax.jit(make_population(config, {"learning_rate": (1e-5, 1e-1), "entropy_coefficient": (1e-4, 1e-1)}))
        population = train(key)
        state, settings = population.member(population.best)
        returns = evaluate(replace(config, **settings), state, key)

    Args:
        config: the ``Config`` of an algorithm, with environments of JAX. ``total_frames`` are those of each member.
        ranges: lowest and highest value of floats by name, between which they are drawn at the start: uniformly in the
            logarithm if both are positive, else uniformly.
        size: ``P``, number of members.
        frames_per_round: between two comparisons, for each member, rounded up to whole iterations. The last round ends
            with the run.
        share: of the members that are replaced after a round, and of those that replace them, at most a half, but one
            member at least; 0 makes it a random search.

    Returns:
        ``train(key) -> Population``, to be compiled.

    Raises:
        InputError: for a setting that is no float, or a range or a number that is not accepted.
    """
    check_count("size", size)
    check_count("frames_per_round", frames_per_round)
    if not 0 <= share <= 0.5:
        reject("share", share, "in [0, 0.5]")
    for name, (low, high) in ranges.items():
        if not is_float_setting(replace(config, **{name: low}), name):
            reject("ranges", name, "a setting that is a float")
        if not low <= high:
            reject("ranges", f"{name} {(low, high)}", "a lowest and a highest value")
        for end in (low, high):
            build(replace(config, **{name: end}))
    if not ranges:
        reject("ranges", ranges, "a range for one setting at least")
    if is_outside(config):
        reject("env_id", flat(config)["env_id"], "an environment of JAX")
    whole = build(config)
    per_round = min(-(-frames_per_round // whole.frames_per_step), whole.iterations)
    rounds = -(-whole.iterations // per_round)
    replaced = max(1, math.floor(share * size)) if share and size > 1 else 0

    def member(key: Key, count: jax.Array, settings: dict[str, jax.Array], state: State) -> tuple[State, jax.Array]:
        """So many iterations of one member, and its score."""
        algorithm, key_run = build(replace(config, **settings)), jax.random.split(key)[1]

        def iterate(_: jax.Array, loop: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, sums = loop
            state, metrics = algorithm.step(jax.random.fold_in(key_run, state.iteration), state)
            return state, sums + jnp.stack([metrics.return_sum, metrics.episodes.astype(jnp.float32)])

        state, (total, episodes) = jax.lax.fori_loop(0, count, iterate, (state, jnp.zeros(2, jnp.float32)))
        return state, jnp.where(episodes > 0, total / episodes, jnp.nan)

    def train(key: Key) -> Population:
        key_settings, key_members, key_rounds = jax.random.split(randomness.as_key(key), 3)
        keys = jax.random.split(key_members, size)
        settings = _draw(key_settings, ranges, size)
        state = jax.vmap(lambda key, settings: build(replace(config, **settings)).init(jax.random.split(key)[0]))(
            keys, settings
        )

        def one_round(carry: Any, number: jax.Array) -> tuple[Any, Any]:
            state, settings, scores = carry
            key = jax.random.fold_in(key_rounds, number)
            parents, settings = exploit_and_explore(key, settings, scores, ranges, replaced)
            state = jax.tree.map(lambda x: x[parents], state)
            count = jnp.minimum(per_round, whole.iterations - number * per_round)  # the last round may be shorter
            state, scores = jax.vmap(member, (0, None, 0, 0))(keys, count, settings, state)
            return (state, settings, scores), (settings, scores, parents)

        # Before the first round nobody has a score, and all go on as they are.
        start = state, settings, jnp.full(size, jnp.nan, jnp.float32)
        (state, _, _), (settings, scores, parents) = jax.lax.scan(one_round, start, jnp.arange(rounds))
        return Population(state, settings, scores, parents)

    return train


def exploit_and_explore(
    key: Key,
    settings: dict[str, jax.Array],
    scores: jax.Array,
    ranges: Mapping[str, tuple[float, float]],
    replaced: int,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Who goes on from whose state, and with which settings.

    Args:
        key: consumed.
        settings: by name, ``[P]``.
        scores: ``[P]``; those that are not finite are the worst.
        ranges: lowest and highest value by name.
        replaced: how many of the worst take over from as many of the best.

    Returns:
        ``(parents, settings)``: int32 ``[P]``, and by name ``[P]``.
    """
    size = scores.shape[0]
    key_parent, key_factor, key_again, key_new = jax.random.split(key, 4)
    numbers = jnp.arange(size, dtype=jnp.int32)
    if not replaced:
        return numbers, settings
    finite = jnp.isfinite(scores)
    order = jnp.argsort(jnp.where(finite, scores, -jnp.inf), descending=True, stable=True).astype(jnp.int32)
    best = order[jax.random.randint(key_parent, (size,), 0, replaced)]
    is_worst = jnp.zeros(size, bool).at[order[size - replaced :]].set(True)
    takes_over = is_worst & finite[best]
    parents = jnp.where(takes_over, best, numbers)
    drawn = _draw(key_new, ranges, size)
    found = {}
    for i, (name, values) in enumerate(settings.items()):
        low, high = ranges[name]
        factor = jax.random.choice(jax.random.fold_in(key_factor, i), jnp.array(_FACTORS), (size,))
        again = jax.random.uniform(jax.random.fold_in(key_again, i), (size,)) < _RESAMPLED
        changed = jnp.where(again, drawn[name], jnp.clip(values[parents] * factor, low, high))
        found[name] = jnp.where(takes_over, changed, values)
    return parents, found


def _draw(key: Key, ranges: Mapping[str, tuple[float, float]], size: int) -> dict[str, jax.Array]:
    """Settings by name, float32 ``[size]``."""
    found = {}
    for i, (name, (low, high)) in enumerate(ranges.items()):
        unit = jax.random.uniform(jax.random.fold_in(key, i), (size,))
        if low > 0:
            found[name] = jnp.clip(low * jnp.exp(unit * math.log(high / low)), low, high)
        else:
            found[name] = low + unit * (high - low)
    return found

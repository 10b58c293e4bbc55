"""What an iteration of an algorithm with replay costs beside the sum of its parts.

``python -m benchmarks.replay_parts`` times the whole iteration and, as programs of their own, its parts:

- *act*: a rollout of all environments under the acting policy;
- *replay*: writing that rollout, drawing the batches and reading their rows;
- *learn*: the gradient steps, on a batch that stays the same.

Beside them, where there is one, the same gradient steps in a program that has been written by hand for them alone, and
nothing but their products of large matrices, see ``benchmarks/by_hand``.

The settings are those of the comparisons with other packages, see ``benchmarks/peers``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import by_hand
from benchmarks.parts import looped
from benchmarks.record import markdown_table, save, spread
from benchmarks.timing import in_turns
from purejaxrl_a3c import dqn, loops, replace, sac
from purejaxrl_a3c.loops import agent as agents
from purejaxrl_a3c.loops.off_policy import collect, rows_of

# A small buffer: every call of a timed loop begins with a copy of the state that it is given.
DQN = replace(dqn.Config(), n_step=1, dueling=False, rollout_length=1, replay_size=4_000)
ON_CARTPOLE = "DQN, CartPole, 10 environments, 5 updates of 100"
ON_PENDULUM = "SAC, Pendulum, 1 environment, 1 update of 256"
CONFIGS: dict[str, Any] = {
    ON_CARTPOLE: replace(DQN, num_envs=10, updates_per_iteration=5, batch_size=100, hidden_sizes=(64, 64)),
    "DQN, Breakout-MinAtar, 4 environments, 1 update of 64": replace(
        DQN, env_id="Breakout-MinAtar", num_envs=4, updates_per_iteration=1, hidden_sizes=(64, 64)
    ),
    ON_PENDULUM: replace(sac.Config(), num_envs=1, updates_per_iteration=1, replay_size=4_000),
}
PARTS = ("whole", "act", "replay", "learn")
BY_HAND: dict[str, dict[str, Any]] = {
    ON_CARTPOLE: {"by hand": by_hand.dqn()},
    ON_PENDULUM: {"by hand": by_hand.sac(), "products": by_hand.products()},
}


def loops_of(config: Any) -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """The whole iteration and its parts as ``(start, loop)`` for `in_turns`."""
    parts = config.parts()
    algorithm = loops.off_policy(parts, config.env)
    settings = parts.experience.replayed
    count, size = settings.updates_per_iteration, settings.batch_size

    def start(key: Any) -> Any:
        """A state that learns from the next iteration on, with a buffer that holds some rollouts."""
        state = algorithm.init(key)
        fill = max(parts.plan.first_iteration, 1)
        return jax.lax.fori_loop(0, fill, lambda i, state: algorithm.step(jax.random.fold_in(key, i), state)[0], state)

    def with_batch(key: Any) -> Any:
        state = start(key)
        drawn = parts.buffer.sample(state.replay, jax.random.bits(key, (2, size)), jnp.float32(1))
        batch = parts.agent.batch(parts.buffer.view(state.replay, drawn.places))
        trajectories = collect(key, parts, state)[1]
        return state, rows_of(trajectories, parts.agent), batch, drawn.weight, jnp.float32(0)

    def act(key: Any, carry: Any) -> Any:
        state, *rest, total = carry
        actor_state, trajectories = collect(key, parts, state)
        state = state._replace(actor_state=actor_state)
        return state, *rest, total + trajectories.reward.sum()

    def replayed(key: Any, carry: Any) -> Any:
        state, rows, batch, weight, total = carry
        ring = parts.buffer.add(state.replay, rows)
        bits = jax.random.bits(key, (count, 2, size))

        def draw(total: jax.Array, bits: jax.Array) -> tuple[jax.Array, None]:
            drawn = parts.buffer.sample(ring, bits, jnp.float32(1))
            found = parts.agent.batch(parts.buffer.view(ring, drawn.places))
            return total + sum(x.astype(jnp.float32).sum() for x in jax.tree.leaves(found)), None

        total, _ = jax.lax.scan(draw, total, bits)
        return state._replace(replay=ring), rows, batch, weight, total

    def learn(key: Any, carry: Any) -> Any:
        state, rows, batch, weight, total = carry
        learner, undo = agents.packed(state.learner)

        def update(learner: Any, key: Any) -> tuple[Any, None]:
            targets = parts.experience.targets
            return agents.update(parts.agent, targets, undo, key, learner, batch, weight, None)[0], None

        learner, _ = jax.lax.scan(update, learner, jax.random.split(key, count))
        return state._replace(learner=undo(learner)), rows, batch, weight, total

    def whole(key: Any, state: Any) -> Any:
        return algorithm.step(key, state)[0]

    steps = {"act": act, "replay": replayed, "learn": learn}
    return {"whole": (start, looped(whole))} | {name: (with_batch, looped(step)) for name, step in steps.items()}


def main(repetitions: int = 7, seconds: float = 0.3) -> None:
    """Measure and write results/replay_parts.json and results/replay_parts.md.

    Args:
        repetitions: measurements, in turns.
        seconds: that each takes, about.
    """
    rows, data = [], {}
    for name, config in CONFIGS.items():
        alone = {part: (start, looped(body)) for part, (start, body) in BY_HAND.get(name, {}).items()}
        timed = in_turns(loops_of(config) | alone, repetitions, seconds)
        took = {part: 1e6 * np.array(one.seconds) for part, one in timed.items()}
        ratio = took["whole"] / sum(took[part] for part in PARTS[1:])
        frames = config.build().frames_per_step
        data[name] = {part: x.tolist() for part, x in took.items()} | {"frames": frames}
        rates = spread(frames / took["whole"] * 1e6, 0)
        shown = [f"{np.median(took[part]):.0f}" if part in took else "" for part in (*PARTS, "by hand", "products")]
        rows.append([name, *shown[:4], spread(ratio, 2), rates, *shown[4:]])
    table = (
        "Microseconds of an iteration and of its parts, each a program of its own (medians); whole / sum is within one "
        "turn. By hand: the updates in a program of nothing else. Products: only those of large matrices.\n\n"
        + markdown_table(["algorithm", *PARTS, "whole / sum of parts", "frames/s", "by hand", "products"], rows)
    )
    save("replay_parts", {"repetitions": repetitions, "microseconds": data}, table)


if __name__ == "__main__":
    tyro.cli(main)

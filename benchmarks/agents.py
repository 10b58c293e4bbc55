"""Many agents at once: frames a second in total, and seconds an agent, when whole runs are mapped over keys.

``python -m benchmarks.agents`` trains 1, 16, 256 and 2048 agents of A2C, A3C and PPO side by side with ``jax.vmap``,
and as many as `train_many` has in a block. What is timed is a number of iterations of all of them, in turn; the seconds
of a run follow from its frames. Blocks train one after the other, so any number of agents is as fast as one block.
"""

import jax
import numpy as np
import tyro

from benchmarks.parts import algorithm_loop
from benchmarks.record import markdown_table, save
from benchmarks.speed import actor_critics, proximal
from benchmarks.timing import in_turns, rate
from purejaxrl_a3c.run import many

RUN = 500_000  # frames of a run, PureJaxRL's for CartPole
CONFIGS = actor_critics("CartPole-v1", 16).configs | proximal("CartPole-v1", 4).configs


def mapped(config, agents):
    """`algorithm_loop` of so many agents, each from a key of its own."""
    start, loop = algorithm_loop(config)
    return (
        lambda key: jax.vmap(start)(jax.random.split(key, agents)),
        lambda key, states, n: jax.vmap(loop, (0, 0, None))(jax.random.split(key, agents), states, n),
    )


def main(agents: tuple[int, ...] = (1, 16, 256, 2048), repetitions: int = 5, seconds: float = 0.5):
    """Measure and write results/agents.json and results/agents.md.

    Args:
        agents: numbers of them.
        repetitions: turns, of which the median counts.
        seconds: of one measurement.
    """
    rows, data = [], {}
    sides = [
        (f"{n}", dict.fromkeys(CONFIGS, n), {name: mapped(config, n) for name, config in CONFIGS.items()})
        for n in agents
    ]
    blocks = {name: many.fitting(config, jax.local_devices()[0]) for name, config in CONFIGS.items()}
    sizes = ", ".join(str(block) for block in blocks.values())
    sides.append((f"a block of {sizes}", blocks, {name: mapped(CONFIGS[name], n) for name, n in blocks.items()}))
    for label, n, loops in sides:
        timed = in_turns(loops, repetitions, seconds)
        cells = []
        for name, one in timed.items():
            frames = n[name] * CONFIGS[name].build().frames_per_step
            each = RUN / frames * np.median(one.seconds)
            cells += [rate(frames, one.seconds), f"{each:.3g}"]
        rows.append([label, *cells])
        data[label] = {name: one.seconds for name, one in timed.items()}
    header = ["agents", *(text for name in CONFIGS for text in (f"{name}, M frames/s in all", "s an agent"))]
    table = (
        "Agents trained side by side on CartPole-v1 by one `vmap`: million frames per second of all of them (median, "
        f"and range), and seconds that a run of {RUN:,} frames takes for each. A2C and A3C: 16 environments, rollouts "
        "of 5 steps; PPO: 4 environments, 128 steps, 4 epochs of 4 minibatches. 2x64 tanh.\n\n"
    )
    save("agents", {"repetitions": repetitions, "seconds_per_iteration": data}, table + markdown_table(header, rows))


if __name__ == "__main__":
    tyro.cli(main)

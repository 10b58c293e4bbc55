"""Population based training against a random search with as many runs and frames.

``python -m benchmarks.population`` needs a few minutes. Both begin with the same members. Of the random search the
best member is taken by its last score, as of the population.
"""

import jax
import numpy as np
import tyro

from benchmarks.learning import interquartile_mean, interval
from benchmarks.record import describe, markdown_table, save
from purejaxrl_a3c import a2c, evaluate, make_population, ppo, replace
from purejaxrl_a3c.config import flat

ROWS = {
    "A2C on CartPole-v1": replace(a2c.Config(), env_id="CartPole-v1", total_frames=200_000),
    "A2C on Acrobot-v1": replace(a2c.Config(), env_id="Acrobot-v1", total_frames=300_000),
    "PPO on Catch-bsuite": replace(ppo.Config(), env_id="Catch-bsuite", total_frames=100_000),
}
RANGES = {"learning_rate": (1e-5, 1e-1), "entropy_coefficient": (1e-4, 1e-1), "gae_lambda": (0.8, 1.0)}
ARMS = {"population based": 0.25, "random search": 0.0}
SEEDS = range(10, 20)  # the functions' own numbers were not chosen by any


def returns_of(config, share: float, size: int, rounds: int):
    """For each seed the return of the best member, and its settings at the end."""
    train = jax.jit(make_population(config, RANGES, size, flat(config)["total_frames"] // rounds, share))
    found, settings = [], {}
    for seed in SEEDS:
        population = train(jax.random.key(seed))
        state, own = population.member(population.best)
        key = jax.random.key(1_000 + seed)
        found.append(float(evaluate(replace(config, **own), state, key, deterministic=True).mean()))
        settings[str(seed)] = own
    return found, settings


def main(size: int = 16, rounds: int = 20):
    """Measure, and write results/population.json and .md.

    Args:
        size: members of a population.
        rounds: after which they are compared.
    """
    results, rows = {}, []
    for name, config in ROWS.items():
        frames = flat(config)["total_frames"]
        row = {"frames": frames}
        for arm, share in ARMS.items():
            returns, settings = returns_of(config, share, size, rounds)
            row[arm] = {"returns": returns, "settings": settings}
            low, high = interval(np.array(returns))
            middle, worst = interquartile_mean(returns), min(returns)
            rows.append([f"{name}, {arm}", f"{frames:,}", f"{middle:.1f}", f"{low:.1f} to {high:.1f}", f"{worst:.1f}"])
        results[name] = row
    ranges = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in RANGES.items())
    table = (
        f"Return of the best of {size} members ({ranges}) over 128 episodes with the most probable action, after "
        f"{rounds} rounds: interquartile mean over {len(SEEDS)} seeds with its bootstrap 95 % interval. Frames are of "
        "each member.\n\n" + markdown_table(["", "frames", "return", "95 % interval", "worst seed"], rows)
    )
    save("population", {"size": size, "rounds": rounds, "results": results}, table, [describe()])


if __name__ == "__main__":
    tyro.cli(main)

"""Self-play in connect four, and how old the opponents may be.

``python -m benchmarks.self_play`` needs pgx (``pip install '.[pgx]'``) and about half an hour on 2 cores. PPO plays
against a pool of its own earlier versions. The arms differ in how old these are: the present policy alone, the last
few per cent of the run, or all of it. Each is evaluated against random moves and against an opponent that looks one
move ahead. The versions of one run then play against each other, and their Elo is fitted to the results.
"""

from typing import Any

import jax
import numpy as np
import scipy.optimize
import tyro
from matplotlib.ticker import EngFormatter

from benchmarks.figures import caption, panels, shades
from benchmarks.learning import interquartile_mean, interval
from benchmarks.record import describe, markdown_table, rows_of, save
from purejaxrl_a3c import evaluate, make_train, ppo, replace
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.run.train import build

CONFIG = replace(
    ppo.Config(),
    env_id="pgx/connect_four",
    opponent="pool",
    num_envs=128,
    rollout_length=32,
    num_minibatches=8,
    hidden_sizes=(128, 128),
    activation="relu",
    learning_rate=1e-3,
    entropy_coefficient=0.03,
    total_frames=2_000_000,
)
ARMS: dict[str, dict[str, int]] = {
    "the present policy": {"pool_size": 1, "snapshot_every": 1},
    "the last tenth of the run": {"pool_size": 16, "snapshot_every": 3},
    "the whole run": {"pool_size": 16, "snapshot_every": 30},
}
SEEDS = range(10, 15)  # settings were tried on others
VERSIONS = 8  # of one run, that play against each other
GAMES = 512


def arm(name: str, frames: int) -> dict[str, Any]:
    """For each seed the shares of games that were won and lost against the named opponents."""
    config = replace(CONFIG, **ARMS[name], total_frames=frames)
    train = jax.jit(make_train(config))
    found: dict[str, Any] = {"won": {}, "lost": {}}
    for seed in SEEDS:
        result = train(jax.random.key(seed))
        for opponent in ("random", "lookahead"):
            key = jax.random.key(1_000 + seed)
            returns = np.asarray(evaluate(config, result, key, 2 * GAMES, deterministic=True, opponent=opponent))
            found["won"].setdefault(opponent, []).append(float(np.mean(returns > 0)))
            found["lost"].setdefault(opponent, []).append(float(np.mean(returns < 0)))
    return found | {"frames": frames, "measured": describe()}


def versions(config: ppo.Config, seed: int, count: int) -> tuple[list[int], list[Any]]:
    """Frames and states of one run, ``count`` of them, evenly spaced, the first one untrained."""
    algorithm, key = build(config), jax.random.key(seed)
    key_init, key_run = jax.random.split(key)
    each = algorithm.iterations // (count - 1)

    @jax.jit
    def go_on(state: Any) -> Any:
        def step(state: Any, _: None) -> tuple[Any, None]:
            return algorithm.step(jax.random.fold_in(key_run, state.iteration), state)[0], None

        return jax.lax.scan(step, state, length=each)[0]

    states = [jax.jit(algorithm.init)(key_init)]
    while len(states) < count:
        states.append(go_on(states[-1]))
    return [i * each * algorithm.frames_per_step for i in range(count)], states


def tournament(config: ppo.Config, states: list[Any], games: int) -> np.ndarray:
    """Points of each player in ``games`` against each other, ``[players, players]``; a draw is half a point.

    The last two players are random and lookahead, who do not play against each other.
    """
    count = len(states)
    points = np.zeros((count + 2, count + 2))
    for i, state in enumerate(states):
        for j, opponent in enumerate([*states[:i], "random", "lookahead"]):
            other = j if j < i else count + j - i
            key = jax.random.fold_in(jax.random.key(i), j)
            returns = np.asarray(evaluate(config, state, key, games, opponent=opponent))
            points[i, other] = np.sum((returns + 1) / 2)
            points[other, i] = games - points[i, other]
    return points


def elo(points: np.ndarray) -> np.ndarray:
    """The ratings that make the points most likely (Bradley & Terry 1952), with a mean of 0.

    A player with 400 more than another one scores 10 of 11 points. One game against everybody that is drawn keeps the
    rating of who wins all games finite.
    """
    played = points + points.T > 0
    points = points + 0.5 * played

    def loss(ratings: np.ndarray) -> tuple[float, np.ndarray]:
        expected = 1 / (1 + 10 ** ((ratings[None] - ratings[:, None]) / 400))
        gradient = (points - (points + points.T) * expected).sum(1) * np.log(10) / 400
        return -float(np.sum(points * np.log(np.maximum(expected, 1e-300)))), -gradient

    ratings = scipy.optimize.minimize(loss, np.zeros(len(points)), jac=True, method="BFGS").x
    return ratings - ratings.mean()


def table(results: dict[str, Any]) -> str:
    """Markdown of all arms."""
    rows = []
    for name, found in results.items():
        row = [name]
        for opponent in ("random", "lookahead"):
            won = np.array(found["won"][opponent])
            low, high = interval(won)
            row += [
                f"{100 * interquartile_mean(won):.1f}",
                f"{100 * low:.1f} to {100 * high:.1f}",
                f"{100 * won.min():.1f}",
            ]
        rows.append(row)
    frames = next(iter(results.values()))["frames"]
    header = ["opponents are of", "random: won, %", "95 % interval", "worst seed"]
    header += ["lookahead: won, %", "95 % interval", "worst seed"]
    return (
        f"Games of connect four that PPO wins with its most probable actions, after {frames:,} of its own moves in "
        f"self-play: interquartile mean over {len(SEEDS)} seeds with its bootstrap 95 % interval. It begins half of "
        f"the {2 * GAMES} games. lookahead wins at once where it can, and else is random.\n\n"
        + markdown_table(header, rows)
    )


def draw(found: dict[str, Any]) -> Any:
    """Figure of the Elo of the versions of a run."""
    figure, (one,) = panels(height=3.4)
    for color, (name, run) in zip(shades(len(found["elo"])), found["elo"].items(), strict=True):
        ratings = np.array(run["ratings"]) - run["ratings"][-2]
        one.plot(run["frames"], ratings[:-2], color=color, lw=1.8, label=f"opponents are of {name}")
        one.axhline(ratings[-1], color=color, ls=":", lw=1.2)
    one.axhline(0, color="0.5", ls="--", lw=1.2)
    one.set(xlabel="moves of the agent", ylabel="Elo", xlim=(0, None), title="connect four")
    one.xaxis.set_major_formatter(EngFormatter(sep=""))
    one.legend()
    caption(figure, "Versions of one of the seeds. Dashed: random moves, 0. Dotted: lookahead.")
    return figure


def main(frames: int = flat(CONFIG)["total_frames"]) -> None:
    """Measure what is not there yet, and write results/self_play.json, .md and .png.

    Args:
        frames: of a run.
    """
    before = rows_of("self_play")
    results, ratings = dict(before), {}
    for name in ARMS:
        if results.get(name, {}).get("frames") != frames:
            results[name] = arm(name, frames)
    results = {name: results[name] for name in ARMS}
    for name, settings in ARMS.items():
        config = replace(CONFIG, **settings, total_frames=frames)
        at, states = versions(config, SEEDS[0], VERSIONS)
        ratings[name] = {"frames": at, "ratings": elo(tournament(config, states, GAMES)).tolist()}
    save("self_play", {"results": results, "elo": ratings}, table(results), [describe()], draw)


if __name__ == "__main__":
    tyro.cli(main)

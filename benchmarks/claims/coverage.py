"""Experiment 6: how many states A2C visits, at a fixed number of updates and at a fixed number of frames.

FourRooms has 104 cells, from a fixed start; DeepSea of size 8 has 36, of which the far corner takes 7 right moves in
succession, one random episode in 128. In DeepSea of size 20 it takes 19, one random episode in 524,288.
"""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.bsuite.deep_sea import DeepSea

from benchmarks.claims.common import difference, interval, main, report, seeds_note
from benchmarks.figures import OTHER_COLORS, caption, panels
from benchmarks.record import markdown_table
from purejaxrl_a3c import a2c, envs, loops, networks, objectives, updates
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops.on_policy import Parts, algorithm
from purejaxrl_a3c.loops.origin import origin
from purejaxrl_a3c.updates import optimizers

ENVS = (1, 4, 16, 64)
UPDATES = 16
ROLLOUT = 5  # steps
FRAMES = UPDATES * ROLLOUT * max(ENVS)  # so that all can be compared at UPDATES and at FRAMES

gymnax.register("DeepSea20", lambda: DeepSea(size=20))
FOUR_ROOMS, DEEP_SEA, DEEPER_SEA = "FourRooms-misc", "DeepSea-bsuite", "DeepSea20"
CELLS = {FOUR_ROOMS: 13 * 13, DEEP_SEA: 8 * 8, DEEPER_SEA: 20 * 20}  # of the map
REACHABLE = {FOUR_ROOMS: 104, DEEP_SEA: 36, DEEPER_SEA: 210}  # neither walls nor above DeepSea's diagonal


def remember_visits(env, env_id):
    """Keep which cells a copy has visited, bool [cells], beside its state: ``(state, visited)``."""

    def cell(obs):
        # DeepSea shows a map with a one at the diver, and an empty one at the bottom: that counts as the first cell.
        return 13 * obs[0] + obs[1] if env_id == FOUR_ROOMS else jnp.argmax(obs)

    def reset(key):
        state, obs = env.reset(key)
        return (state, jnp.zeros(CELLS[env_id], bool).at[cell(obs)].set(True)), obs

    def step(keys, state, action):
        inner, visited = state
        inner, timestep = env.step(keys, inner, action)
        return (inner, visited.at[cell(timestep.final_obs)].set(True)), timestep

    return env._replace(reset=reset, step=step)


def visits(env_id, num_envs, seeds):
    """Which cells any copy has visited after every update, bool [seeds, updates, cells]."""
    config = replace(
        a2c.Config(),
        env_id=env_id,
        num_envs=num_envs,
        rollout_length=ROLLOUT,
        hidden_sizes=(32,),
        total_frames=FRAMES,
        anneal_learning_rate=False,  # otherwise an update's size would depend on how many are to come
    )
    gamma, layout = config.objective.gamma, loops.make_layout(config.rollouts, None)
    env = remember_visits(envs.make(config.env, gamma), env_id)
    network = networks.make(config.network, env)
    parts = Parts(
        env=env,
        network=network,
        objective=objectives.policy_gradient(network, config.objective, objectives.extrinsic(network, gamma)),
        rule=updates.synchronous(optimizers.make(config.optimizer, layout.iterations)),
        layout=layout,
        bonus=None,
        origin=origin(config.env, config.network),
    )
    made = algorithm(parts)

    def run(key):
        def iterate(state, _):
            state, _ = made.step(jax.random.fold_in(key, state.iteration), state)
            return state, state.actor_state.env[1].any((0, 1))

        return jax.lax.scan(iterate, made.init(key), length=layout.iterations)[1]

    # These runs are so short that compiling them takes longer.
    program = jax.jit(jax.vmap(run), compiler_options={"xla_backend_optimization_level": "1"})
    return np.asarray(program(jax.vmap(jax.random.key)(np.arange(seeds))))


def measure(sizes):
    """Distinct states visited by A2C with 1 to 64 environments."""
    seen = {env_id: [visits(env_id, n, sizes.seeds) for n in ENVS] for env_id in (FOUR_ROOMS, DEEP_SEA)}
    deeper = visits(DEEPER_SEA, max(ENVS), sizes.seeds)
    counts = {env_id: [x.sum(-1) for x in runs] for env_id, runs in seen.items()}  # [envs] of [seeds, updates]

    at = {  # [comparison][env_id]: [envs, seeds]
        "updates": {env_id: np.stack([x[:, UPDATES - 1] for x in counts[env_id]]) for env_id in counts},
        "frames": {env_id: np.stack([x[:, -1] for x in counts[env_id]]) for env_id in counts},
    }
    text = "{:.0f} ({:.0f} to {:.0f})"
    rows = [
        [
            n,
            *(text.format(*interval(at[fixed][env_id][i])) for env_id in counts for fixed in at),
            f"{seen[DEEP_SEA][i][:, -1, -1].sum()} of {sizes.seeds}",
        ]
        for i, n in enumerate(ENVS)
    ]
    lengths = {"updates": UPDATES, "frames": FRAMES}
    names = {FOUR_ROOMS: "FourRooms", DEEP_SEA: "DeepSea"}
    header = ["environments", *(f"{names[e]}, {lengths[fixed]} {fixed}" for e in counts for fixed in at)]
    table = (
        f"States visited, of {REACHABLE[FOUR_ROOMS]} in FourRooms and {REACHABLE[DEEP_SEA]} in DeepSea "
        "(interquartile mean over seeds, 95 % interval).\n\n"
        + markdown_table([*header, f"seeds that saw DeepSea's far corner in {FRAMES} frames"], rows)
    )
    gains = {fixed: {e: difference(x[-1], x[0]) for e, x in at[fixed].items()} for fixed in at}
    wider = all(low > 0 for _, low, _ in gains["updates"].values())
    narrower = any(high < 0 for _, _, high in gains["updates"].values())
    said = {
        fixed: " and ".join(f"{'{:+.0f} ({:+.0f} to {:+.0f})'.format(*g)} in {names[e]}" for e, g in by.items())
        for fixed, by in gains.items()
    }
    report(
        6,
        "coverage",
        "Parallel environments widen state coverage.",
        "confirmed" if wider else "refuted" if narrower else "not decided",
        f"after {UPDATES} updates {max(ENVS)} environments have visited more states than one by {said['updates']}; "
        f"after {FRAMES} frames, which are {FRAMES // ROLLOUT} updates of one environment, by {said['frames']}. The "
        f"far corner of DeepSea is seen by {rows[0][-1]} seeds with one environment and by {rows[-1][-1]} with "
        f"{max(ENVS)} at size 8, where random moves find it; at size 20 by {deeper[:, -1, -1].sum()} of {sizes.seeds} "
        f"with {max(ENVS)}.",
        table,
        draw,
        {"environments": ENVS, "visited": {fixed: dict(x) for fixed, x in at.items()}, "reachable": REACHABLE},
        sizes._replace(frames=FRAMES),
    )


def draw(found):
    """Figure of the states visited against the number of environments, at as many updates and at as many frames."""
    sizes, names = found["environments"], {FOUR_ROOMS: "FourRooms", DEEP_SEA: "DeepSea, size 8"}
    titles = {"updates": f"after {UPDATES} updates each", "frames": f"after {found['frames']:,} frames each"}
    figure, axes = panels(2, height=4, sharey=True)
    for one, (fixed, title) in zip(axes, titles.items(), strict=True):
        for color, (env_id, name) in zip(OTHER_COLORS, names.items(), strict=False):
            share = 100 / found["reachable"][env_id] * np.array(found["visited"][fixed][env_id])
            middle, low, high = interval(share)
            one.plot(sizes, middle, "o-", color=color, label=name)
            one.fill_between(sizes, low, high, color=color, alpha=0.2, lw=0)
        one.set(xscale="log", xticks=sizes, xticklabels=sizes, xlabel="environments", title=title, ylim=(0, 104))
        one.minorticks_off()
    axes[0].set_ylabel("states visited, % of those there are")
    axes[1].legend(loc="lower left")
    caption(figure, seeds_note(found, "bands"))
    return figure


if __name__ == "__main__":
    main(measure)

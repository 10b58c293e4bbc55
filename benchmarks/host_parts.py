"""What a step in environments outside of JAX costs beside its parts, where all of them step together in one process.

``python -m benchmarks.host_parts`` times, in turns, the whole loop and its parts, each called again and again with the
same arguments, so that nothing waits for anything else:

- *environments*: a step of all of them, as the loop takes it, under one action;
- *gymnasium*: a step of Gymnasium's own vector of them; that of games is a part of the one before;
- *act*: the compiled policy on their observations, results copied to NumPy;
- *learn*: the compiled update, for each of the steps that it learns from.

*Cores busy* is the time of all processors that the whole loop takes, beside the time that passes: what is left of them
is the most that could be gained if one half of the environments stepped while the device acts for the other.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.record import markdown_table, save, spread
from purejaxrl_a3c import a2c, ppo, replace
from purejaxrl_a3c.backend.compiling import compute_where_called
from purejaxrl_a3c.envs.suites import gymnasium as suite
from purejaxrl_a3c.host.compiled import check_outside, compile_programs
from purejaxrl_a3c.host.programs import Place, collect
from purejaxrl_a3c.host.vector import make

CONFIGS: dict[str, Any] = {
    "A2C, 16 CartPole-v1, 5 steps": replace(
        a2c.Config(), env_id="gym/CartPole-v1", num_envs=16, rollout_length=5, hidden_sizes=(64, 64)
    ),
    "PPO, 8 CartPole-v1, 128 steps, 4 x 4 updates": replace(
        ppo.Config(), env_id="gym/CartPole-v1", num_envs=8, rollout_length=128, hidden_sizes=(64, 64)
    ),
    "PPO, 8 Pong, 128 steps, 4 x 4 updates": replace(
        ppo.Config(),
        env_id="ale/Pong",
        num_envs=8,
        rollout_length=128,
        torso="nature",
        shared_torso=True,
        activation="relu",
        hidden_sizes=(512,),
    ),
}
PARTS = ("whole", "environments", "gymnasium", "act", "learn")


def calls_of(config: Any) -> tuple[dict[str, Callable[[], Any]], int]:
    """What to time, ``{part: function}``, and the steps of a rollout: a call of whole or learn is for as many."""
    outside = check_outside(config)
    count, length = outside.acting.layout.envs, outside.acting.layout.rollout_length
    env, alone = make(config.env.env_id, count), make(config.env.env_id, count)
    native: Any = suite.make_vector(config.env.env_id, count)
    programs = compile_programs(config, outside, env.observation_dtype, None, None)[0]
    key, actions = jax.random.key(0), np.zeros(count, np.int32)
    steps = [jnp.int32(t) for t in range(length)]

    def begin() -> dict[str, Any]:
        state = programs.init(key, env.reset(0)[None], None)
        return {"state": state, "acts": programs.begin(key, state)}

    def rollout(state: Any, acts: Any) -> Any:
        wrappers, obs, first, carry = state.actor_state
        place = Place(np.asarray(obs), np.asarray(first), carry, wrappers)
        return collect(lambda t, *seen: programs.act(*acts, steps[t], *seen), env, length, place, programs.show)

    # Learning consumes the state that it is given, so each of these goes on with what it learned.
    learned, running, acting = begin(), begin(), begin()
    rollouts = rollout(**learned)

    def update(run: Any, rollouts: Any) -> None:
        level = run["acts"][1].level
        run["state"], _, run["acts"] = jax.block_until_ready(programs.learn(key, run["state"], level, rollouts))

    _, obs, first, carry = acting["state"].actor_state
    seen = carry, np.asarray(obs), np.asarray(first)
    for each in (env, alone):
        each.reset(0)  # the rollout moved the first on
    native.reset(seed=0)
    return {
        "whole": lambda: update(running, rollout(**running)),
        "environments": lambda: alone.step(actions),
        "gymnasium": lambda: native.step(actions),
        "act": lambda: jax.tree.map(np.asarray, programs.act(*acting["acts"], steps[0], *seen)[1:]),
        "learn": lambda: update(learned, rollouts),
    }, length


def seconds_of(call: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Seconds of a call, the mean of as many as take so many seconds, and how many processors were busy meanwhile."""
    began, worked, calls = time.perf_counter(), time.process_time(), 0
    while (elapsed := time.perf_counter() - began) < seconds or calls == 0:
        call()
        calls += 1
    return elapsed / calls, (time.process_time() - worked) / elapsed


def main(turns: int = 7, seconds: float = 1.0) -> None:
    """Measure and write results/host_parts.json and results/host_parts.md.

    Args:
        turns: in each of which everything is measured once.
        seconds: that each takes, about.
    """
    compute_where_called()  # as the command line does
    rows: list[list[str]] = []
    data: dict[str, Any] = {"microseconds": {}, "cores_busy": {}}
    for name, config in CONFIGS.items():
        calls, length = calls_of(config)
        took: dict[str, list[float]] = {part: [] for part in PARTS}
        busy: list[float] = []
        for turn in range(turns + 1):
            for part, call in calls.items():
                found, cores = seconds_of(call, seconds)
                if turn:  # the first is slower
                    took[part].append(1e6 * found / (length if part in ("whole", "learn") else 1))
                    busy += [cores] * (part == "whole")
        each = {part: np.array(values) for part, values in took.items()}
        least = each["environments"] + each["act"] + each["learn"]
        count = check_outside(config).acting.layout.envs
        data["microseconds"][name], data["cores_busy"][name] = took, busy
        rows.append(
            [
                name,
                *(f"{np.median(each[part]):.0f}" for part in PARTS),
                spread(each["whole"] / least, 2),
                spread(count / each["whole"] * 1e6),
                spread(count / least * 1e6),
                spread(np.array(busy), 2),
            ]
        )
    header = ["run", *PARTS, "whole / sum of parts", "frames/s", "frames/s of the parts", "cores busy"]
    table = (
        "Microseconds of a step of all environments (medians). Gymnasium is its own vector of them; the sum is that of "
        "environments, act and learn.\n\n" + markdown_table(header, rows)
    )
    save("host_parts", {"turns": turns, **data}, table)


if __name__ == "__main__":
    tyro.cli(main)

"""Frames per second of A2C and A3C beside the sum of their parts, each measured alone in the same run.

``python -m benchmarks.speed`` measures CartPole-v1 at 64, 512 and 2048 environments with rollouts of 5 steps and
networks of 2x64 tanh, policy and value apart; with ``--core lstm`` they share them and an LSTM of 256 cells. Every
figure is the median of several repetitions, taken in turn (A B C A B C ...), because the speed of a shared machine
drifts; every ratio is a median of ratios within one turn.

The parts, each over as many frames as one iteration has:

- *step*: the environments under random actions;
- *act*: the environments under the policy network;
- *learn*: one forward and backward pass of the loss;
- *bootstrap*: values of the observations after the block (already in the objective, but not in *learn*);
- *push*: A3C's updates of the shared parameters, one worker after the other.

The *sum of the parts* is act + learn: what no implementation that acts and learns in turn can do without.
"""

import functools
import subprocess
import sys
import time
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.record import markdown_table, save
from purejaxrl_a3c import a2c, a3c, envs, networks, objectives, optimizers, rollout, updates

T = 5
WORKERS = 16
FOREVER = 1_000_000_000  # frames: the learning rate does not reach 0 while we measure


def configs(num_envs, core):
    """The configs of A2C and A3C with ``num_envs`` environments in all; policy and value share a recurrent core."""
    shared: dict[str, Any] = {"env_id": "CartPole-v1", "rollout_length": T, "lambda_": 1.0, "total_frames": FOREVER}
    if core != "feed_forward":
        shared |= {"core": core, "shared_torso": True}
    return (
        a2c.Config(num_envs=num_envs, **shared),
        a3c.Config(num_workers=WORKERS, envs_per_worker=num_envs // WORKERS, **shared),
    )


def algorithm_loop(config):
    """``(start, loop)``: ``loop(key, state, n)`` is the state after ``n`` more iterations."""
    algorithm = config.build()

    def loop(key, state, n):
        def iterate(i, state):
            return algorithm.step(jax.random.fold_in(key, i), state)[0]

        return jax.lax.fori_loop(0, n, iterate, state)

    return algorithm.init, loop


def part_loops(config):
    """For each part ``(start, loop)``, as `algorithm_loop`; ``config`` is A2C's."""
    num_envs = config.num_envs
    env = envs.make(config)
    network = networks.make(config, env)
    objective = objectives.policy_gradient(network, config)

    def start(key):
        key_network, key_env, key_act = jax.random.split(key, 3)
        params = network.init(key_network)
        positions = jax.vmap(lambda key: rollout.start(env, network, key))(jax.random.split(key_env, num_envs))
        positions, trajectories = unroll(params, key_act, positions)
        return params, positions, trajectories

    def unroll(params, key, positions):
        act = functools.partial(rollout.unroll, env, network, params)
        return jax.vmap(act)(positions, *rollout.draw(network, key, jnp.arange(num_envs * T).reshape(num_envs, T)))

    def step(key, carry):
        params, positions, trajectories = carry

        def tick(positions, key):
            key_act, key_env = jax.random.split(key)
            actions = jax.random.randint(key_act, (num_envs,), 0, env.action_space.n)
            state, timestep = jax.vmap(env.step)(jax.random.split(key_env, (num_envs, 2)), positions.env, actions)
            last = timestep.terminated | timestep.truncated
            return positions._replace(env=state, obs=timestep.obs, first=last), None

        positions, _ = jax.lax.scan(tick, positions, jax.random.split(key, T))
        return params, positions, trajectories

    def act(key, carry):
        params, positions, trajectories = carry
        positions, _ = unroll(params, key, positions)
        return params, positions, trajectories

    def learn(key, carry):
        params, positions, trajectories = carry
        batch = trajectories, jnp.zeros((num_envs, T))
        gradient, _ = jax.grad(objective.loss, has_aux=True)(params, batch)
        # The parameters must change, or the compiler may take the pass out of the loop.
        return jax.tree.map(lambda p, g: p - 1e-6 * g, params, gradient), positions, trajectories

    def bootstrap(key, carry):
        params, positions, trajectories = carry
        _, values = objective.prepare(params, trajectories)
        return jax.tree.map(lambda p: p + 1e-9 * values.mean(), params), positions, trajectories

    def looped(part):
        def loop(key, carry, n):
            return jax.lax.fori_loop(0, n, lambda i, carry: part(jax.random.fold_in(key, i), carry), carry)

        return start, loop

    return {
        name: looped(part) for name, part in (("step", step), ("act", act), ("learn", learn), ("bootstrap", bootstrap))
    }


def push_loop(config):
    """``(start, loop)`` of A3C's pushes alone, with gradients that cost nothing; ``config`` is A3C's."""
    network = networks.make(config, envs.make(config))
    rule = updates.asynchronous(optimizers.shared_rmsprop(config, num_updates=FOREVER), WORKERS)

    def loss(params, scale):
        return sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(params)) * scale, {}

    objective = objectives.Objective(lambda params, scale: scale, loss)

    def loop(key, learner, n):
        def iterate(i, learner):
            return rule.update(jax.random.fold_in(key, i), learner, objective, jnp.full(WORKERS, 1e-3))[0]

        return jax.lax.fori_loop(0, n, iterate, learner)

    return lambda key: rule.init(key, network.init(key)), loop


class Timed:
    """A compiled loop and the seconds that an iteration of it took, once for each call of `measure`."""

    def __init__(self, start, loop, seconds):
        """Compile and find out how many iterations take about ``seconds``."""
        key = jax.random.key(0)
        self.state = jax.jit(start)(key)
        began = time.perf_counter()
        self.loop = jax.jit(loop).lower(key, self.state, 1).compile()
        self.compile_seconds = time.perf_counter() - began
        self.seconds = []
        self.n = 1
        while (elapsed := self._run()) < 0.1:
            self.n *= 2
        self.n = max(1, round(self.n * seconds / elapsed))

    def _run(self):
        began = time.perf_counter()
        jax.block_until_ready(self.loop(jax.random.key(1), self.state, self.n))
        return time.perf_counter() - began

    def measure(self):
        """Run for about the time asked for; the state is the same at every call."""
        self.seconds.append(self._run() / self.n)


def measure(num_envs, core, repetitions, seconds):
    """Seconds an iteration ``{name: [repetitions]}`` and seconds of compilation ``{name: float}``."""
    config_a2c, config_a3c = configs(num_envs, core)
    loops = part_loops(config_a2c) | {"push": push_loop(config_a3c)}
    loops |= {"a2c": algorithm_loop(config_a2c), "a3c": algorithm_loop(config_a3c)}
    timed = {name: Timed(start, loop, seconds) for name, (start, loop) in loops.items()}
    for _ in range(repetitions):
        for one in timed.values():
            one.measure()
    return (
        {name: np.array(one.seconds) for name, one in timed.items()},
        {name: one.compile_seconds for name, one in timed.items()},
    )


def compile_seconds(name):
    """Median seconds that compiling the default run of an algorithm takes, in three fresh processes without a cache."""
    program = f"from purejaxrl_a3c import {name}, train; print(train.compile_run({name}.Config()).compile_seconds)"
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, check=True) for _ in range(3)]
    return float(np.median([float(run.stdout) for run in runs]))


def main(
    num_envs: tuple[int, ...] = (64, 512, 2048),
    core: Annotated[str, tyro.conf.arg(help="feed_forward, lstm or gru, of 256 cells")] = "feed_forward",
    repetitions: Annotated[int, tyro.conf.arg(help="turns, of which the median counts")] = 9,
    seconds: Annotated[float, tyro.conf.arg(help="of one measurement")] = 0.5,
):
    """Measure and write results/speed.json and results/speed.md, or speed_CORE.json and so on."""
    rates, shares, data = [], [], {}
    compiling = {name: compile_seconds(name) for name in ("a3c", "a2c")}
    for n in num_envs:
        took, compiled = measure(n, core, repetitions, seconds)
        parts = took["act"] + took["learn"]

        def rate(x, n=n):
            low, middle, high = np.percentile(n * T / x / 1e6, [0, 50, 100])
            digits = 2 if middle >= 0.1 else 4
            return f"{middle:.{digits}f} ({low:.{digits}f} - {high:.{digits}f})"

        ratios = {
            "a2c_over_sum": took["a2c"] / parts,
            "a3c_over_a2c": took["a2c"] / took["a3c"],
            "a3c_over_act": took["act"] / took["a3c"],
        }
        medians = {name: float(np.median(ratio)) for name, ratio in ratios.items()}
        rates.append(
            [
                n,
                *(rate(x) for x in (took["step"], took["act"], parts, took["a2c"], took["a3c"])),
                f"{medians['a2c_over_sum']:.2f}",
                f"{medians['a3c_over_a2c']:.2f}",
            ]
        )
        shares.append([n, *(f"{1e6 * np.median(took[name]):,.0f}" for name in took)])
        data[str(n)] = {
            "seconds_per_iteration": {name: x.tolist() for name, x in took.items()},
            "compile_seconds": compiled,
            "ratios": medians,
        }
    table = (
        "Million frames per second (median, and range), CartPole-v1, rollouts of 5 steps, 2x64 tanh, policy and "
        f"value {'apart' if core == 'feed_forward' else f'sharing it and an {core} of 256 cells'}; A3C has 16 workers."
        "\n\n"
        + markdown_table(
            ["environments", "step", "act", "sum of parts", "A2C", "A3C", "A2C's time / sum", "A3C / A2C"],
            rates,
        )
        + "\nMicroseconds an iteration, by part (median).\n\n"
        + markdown_table(["environments", *took], shares)
        + "\nSeconds to trace and compile the default run of the command line, in a fresh process without a cache "
        f"(median of 3): A3C {compiling['a3c']:.1f}, A2C {compiling['a2c']:.1f}.\n"
    )
    save(
        "speed" if core == "feed_forward" else f"speed_{core}",
        {"repetitions": repetitions, "rollout_length": T, "results": data, "compile_seconds_of_default_run": compiling},
        table,
    )


if __name__ == "__main__":
    tyro.cli(main)

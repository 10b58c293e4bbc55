"""What several devices compute and exchange: equalities, and work and bytes per device.

``python -m benchmarks.devices`` simulates 8 devices. They share this machine's cores, so nothing is timed: operations
and bytes are counted in the programs. It writes results/devices.json and .md; ``benchmarks/devices.md`` says what
follows from them.
"""

import math
import re
from typing import Any

import jax
import numpy as np
import tyro
from jax.extend import core

from benchmarks.record import markdown_table, save
from purejaxrl_a3c import a2c, a3c, averaging, devices, dqn, make_train, ppo
from purejaxrl_a3c.config import flat, replace
from purejaxrl_a3c.updates import Asynchrony, Queue, Service

COUNTS = (1, 2, 4, 8)
WORKERS, ENVS, T = 64, 8, 5
SMALL: dict[str, Any] = {"rollout_length": T, "total_frames": WORKERS * ENVS * T * 10}
LOCKSTEP = replace(a2c.Config(), num_envs=WORKERS * ENVS, **SMALL)
EXACT = replace(a3c.Config(), num_workers=WORKERS, envs_per_worker=ENVS, **SMALL)
LOCAL = replace(averaging.Config(), num_workers=WORKERS, envs_per_worker=ENVS, sync_every=8, **SMALL)
MODES: dict[str, Any] = {
    "A2C, lockstep": LOCKSTEP,
    "A3C, exact": EXACT,
    "A3C, one round late": replace(EXACT, asynchrony=Asynchrony(device_delay=1)),
    "averaging every 8 rounds": LOCAL,
}
EPOCHS, MINIBATCHES = 4, 4
PROXIMAL = replace(
    ppo.Config(), num_envs=WORKERS * ENVS, epochs=EPOCHS, num_minibatches=MINIBATCHES, hidden_sizes=(64, 64), **SMALL
)
STEPS: dict[str, Any] = {
    "PPO": PROXIMAL,
    # Two workers share the environments out, and a batch is the rollout of one of them.
    "PPO with a queue": replace(PROXIMAL, num_workers=2, asynchrony=Asynchrony("queue", queue=Queue(batch_rollouts=1))),
    "DQN": replace(
        dqn.Config(),
        num_envs=WORKERS * ENVS,
        hidden_sizes=(64, 64),
        replay_size=2**16,
        batch_size=512,
        updates_per_iteration=EPOCHS * MINIBATCHES,
        **SMALL,
    ),
}
"""Algorithms that make several gradient steps a round, 16 here."""
EQUAL: dict[str, Any] = MODES | {
    "A3C on the clock": replace(EXACT, asynchrony=Asynchrony("clock", Service("exponential"))),
    "averaging with neighbours": replace(LOCAL, mix="ring", sync_every=2),
}
del EQUAL["A3C, one round late"]  # which is meant to be another run


def difference(config, count, alone):
    """The largest difference of a parameter from one device's, over the largest parameter."""
    key = jax.random.key(0)
    shared = devices.train_on_devices(config, key, jax.devices()[:count]).state.learner.params
    apart = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - b).max()), shared, alone)
    return max(jax.tree.leaves(apart)) / max(float(np.abs(x).max()) for x in jax.tree.leaves(alone))


def iteration(config, count):
    """The program of an iteration and the types of its arguments."""
    on = devices.spread(config, jax.devices()[:count])

    def step(key, state):
        return config.build(devices.AXIS).step(key, state)

    def init(key):
        return config.build(devices.AXIS).init(key)

    key = jax.random.key(0)
    state = jax.eval_shape(on.map(init, devices.EVERYWHERE, on.state), key)
    program = on.map(step, (devices.EVERYWHERE, on.state), (on.state, devices.EVERYWHERE))
    return program, (key, on.place(state))


def operations(jaxpr, times=1):
    """Operations of the matrix products in a traced program.

    A scan counts as often as it runs, a while loop once: it values successors, of which there is one to an environment
    where nothing was truncated.
    """
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contract, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * times * math.prod([*equation.outvars[0].aval.shape, *(shape[i] for i in contract)])
        inner = times * equation.params["length"] if equation.primitive.name == "scan" else times
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, core.Jaxpr | core.ClosedJaxpr)):
            if isinstance(value, core.Jaxpr | core.ClosedJaxpr):
                total += operations(value.jaxpr if isinstance(value, core.ClosedJaxpr) else value, inner)
    return total


def received(text, count, often):
    """Bytes that a device receives in a compiled program, if devices stand in a ring.

    Args:
        text: of the program.
        count: devices.
        often: how often what is not in the main computation, the branch of a conditional or the body of a loop, is run.
    """
    shares = {"all-reduce": 2 * (count - 1) / count, "all-gather": (count - 1) / count, "collective-permute": 1.0}
    total, in_main = 0.0, False
    for line in text.splitlines():
        in_main = line.startswith("ENTRY") or (in_main and not line.startswith("}"))
        found = re.search(r" = (.*?) (all-reduce|all-gather|collective-permute)(-start)?\(", line)
        if found and count > 1:
            shapes = re.findall(r"([a-z]+)(\d+)\[([\d,]*)\]", found[1])
            size = sum(int(bits) // 8 * math.prod(int(n) for n in dims.split(",") if n) for _, bits, dims in shapes)
            total += size * shares[found[2]] * (1 if in_main else often)
    return total


def count_work(config, count):
    """Of one iteration on one device: operations of matrix products, bytes received."""
    program, arguments = iteration(config, count)
    text = jax.jit(program).lower(*arguments).compile().as_text()
    return {
        "operations": operations(jax.make_jaxpr(program)(*arguments).jaxpr),
        "received": received(text, count, gradient_steps(config) / flat(config).get("sync_every", 1)),
    }


def gradient_steps(config):
    """Gradient steps of a round, each with a collective of its own."""
    settings = flat(config)
    return math.prod(settings.get(name, 1) for name in ("epochs", "num_minibatches", "updates_per_iteration"))


def predict(
    parameters,
    count,
    workers=8,
    *,
    compute=2e-3,
    link=25e9,
    latency=20e-6,
    memory=1e12,
    launch=5e-6,
    sync_every=8,
    steps=16,
):
    """Seconds of a round on ``count`` accelerators with so many workers each, by mode: assumed, not measured.

    Args:
        parameters: of the network.
        count: accelerators.
        workers: on each.
        compute: seconds that acting and gradients of a round take.
        link: bytes a second that an accelerator receives.
        latency: seconds of a collective.
        memory: bytes a second of an accelerator's memory; a push moves five vectors of parameters.
        launch: seconds of the kernels of a push.
        sync_every: rounds between two averagings.
        steps: gradient steps that PPO or DQN make in a round.
    """
    size, others = 4 * parameters, workers * (count - 1)
    push = launch + 5 * size / memory
    reduce = latency + 2 * (count - 1) / count * size / link
    gather = latency + others * size / link
    return {
        "lockstep": compute + reduce + push,
        f"lockstep, {steps} gradient steps": compute + steps * (reduce + push),
        "A3C, exact": compute + gather + workers * count * push,
        "A3C, one round late": max(compute, gather) + workers * (count + 1) * push,
        "averaging every 8 rounds": compute + push + reduce / sync_every,
    }


def _counted(work):
    """Markdown of what `count_work` found, by name and number of devices."""
    tables = []
    for title, field, scale in (("million operations", "operations", 1e6), ("kilobytes received", "received", 1e3)):
        rows = [[name, *(f"{by[count][field] / scale:.1f}" for count in COUNTS)] for name, by in work.items()]
        tables.append(markdown_table([title, *(f"{count} devices" for count in COUNTS)], rows) + "\n")
    return "".join(tables)


def main():
    """Write results/devices.json and results/devices.md."""
    key = jax.random.key(0)
    equal: dict[str, Any] = {}
    for name, config in EQUAL.items():
        alone = jax.device_get(jax.jit(make_train(config))(key).state.learner.params)
        equal[name] = {count: difference(config, count, alone) for count in COUNTS[1:]}
    work = {name: {count: count_work(config, count) for count in COUNTS} for name, config in MODES.items()}
    rows = [[name, *(f"{by[count]:.1e}" for count in COUNTS[1:])] for name, by in equal.items()]
    table = "Largest difference of a parameter from one device's run, after 10 rounds, over the largest parameter:\n\n"
    table += markdown_table(["", *(f"{count} devices" for count in COUNTS[1:])], rows)
    steps = {name: {count: count_work(config, count) for count in COUNTS} for name, config in STEPS.items()}
    table += (
        f"\nOne round of {WORKERS} workers with {ENVS} environments each, rollouts of {T} steps (lockstep: of as many "
        "environments): million operations of matrix products on each device, and kilobytes that it receives.\n\n"
    )
    table += _counted(work)
    table += (
        f"The same with {gradient_steps(PROXIMAL)} gradient steps a round. The buffer of DQN is shared out, and each "
        "device draws its part of a batch from its own. With a queue, a round is of half as many environments.\n\n"
    )
    table += _counted(steps)
    for workers in (8, 1):
        table += (
            f"Predicted milliseconds of a round, workers on each accelerator: {workers}; parameters, accelerators:\n\n"
        )
        cases = [(parameters, count, workers) for parameters in (10_000, 1_000_000) for count in (1, 8, 64, 256)]
        rows = [[name, *(f"{1e3 * predict(*case)[name]:.2f}" for case in cases)] for name in predict(*cases[0])]
        table += markdown_table(["", *(f"{parameters // 1000}k, {n}" for parameters, n, _ in cases)], rows) + "\n"
    parameters = sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda: LOCKSTEP.build().network.init(key))))
    save("devices", {"equal": equal, "work": work, "steps": steps, "parameters": parameters}, table)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", COUNTS[-1])
    tyro.cli(main)

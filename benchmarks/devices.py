"""What several devices compute and exchange: equalities, and work and bytes per device.

``python -m benchmarks.devices`` simulates 8 devices. They share this machine's cores, so nothing is timed: operations
and bytes are counted in the programs. It writes results/devices.json and .md; ``benchmarks/devices.md`` says what
follows from them.
"""

import math
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import tyro
from jax.extend import core

from benchmarks.record import markdown_table, save
from purejaxrl_a3c import a2c, a3c, averaging, devices, make_train
from purejaxrl_a3c.updates import Asynchrony, Service

COUNTS = (1, 2, 4, 8)
WORKERS, ENVS, T = 64, 8, 5
SMALL: dict[str, Any] = {"rollout_length": T, "total_frames": WORKERS * ENVS * T * 10}
LOCKSTEP = a2c.Config(num_envs=WORKERS * ENVS, **SMALL)
EXACT = a3c.Config(num_workers=WORKERS, envs_per_worker=ENVS, **SMALL)
LOCAL = averaging.Config(
    worker=a2c.Config(num_envs=ENVS, **(SMALL | {"total_frames": ENVS * T * 10})), num_workers=WORKERS, every=8
)
MODES: dict[str, Any] = {
    "A2C, lockstep": LOCKSTEP,
    "A3C, exact": EXACT,
    "A3C, one round late": replace(EXACT, asynchrony=Asynchrony(device_delay=1)),
    "averaging every 8 rounds": LOCAL,
}
EQUAL: dict[str, Any] = MODES | {
    "A3C on the clock": replace(EXACT, asynchrony=Asynchrony("clock", Service("exponential"))),
    "averaging with neighbours": replace(LOCAL, mix="ring", every=2),
}
del EQUAL["A3C, one round late"]  # which is meant to be another run


def difference(config, count, alone):
    """The largest difference of a parameter from one device's, over the largest parameter."""
    key = jax.random.key(0)
    shared = devices.train_on_devices(config, key, jax.devices()[:count]).state.learner.params
    apart = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - b).max()), shared, alone)
    return max(jax.tree.leaves(apart)) / max(float(np.abs(x).max()) for x in jax.tree.leaves(alone))


def count_work(config, count):
    """What one device does in an iteration, from the traced program: see `walk`."""
    on = devices.spread(config, jax.devices()[:count])

    def step(key, state):
        return config.build(devices.AXIS).step(key, state)

    mapped = on.map(step, (devices.EVERYWHERE, on.state), (on.state, devices.EVERYWHERE))
    state = jax.eval_shape(
        on.map(lambda key: config.build(devices.AXIS).init(key), devices.EVERYWHERE, on.state), jax.random.key(0)
    )
    found = {"operations": 0.0, "received": 0.0, "collectives": 0.0}
    walk(jax.make_jaxpr(mapped)(jax.random.key(0), state).jaxpr, 1, count, 1 / getattr(config, "every", 1), found)
    return found


def walk(jaxpr, times, count, often, found):
    """Add up operations of matrix products, and bytes that a device receives, as a ring of ``count`` would send them.

    A scan counts as often as it runs, a while loop once (it values successors, of which there is one to an environment
    where nothing was truncated), of a conditional the branch that exchanges most, as often as it is taken.
    """
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        size = sum(
            math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in equation.outvars if hasattr(v.aval, "shape")
        )
        if name == "dot_general":
            (contract, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            found["operations"] += (
                2 * times * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[i] for i in contract)
            )
        elif name.startswith("psum") or name.startswith("all_gather") or name == "ppermute":
            share = {"p": 2 * (count - 1) / count, "a": (count - 1) / count}["a" if name.startswith("all") else "p"]
            found["received"] += times * size * (float(count > 1) if name == "ppermute" else share)
            found["collectives"] += times * (count > 1)
        inner = times * equation.params["length"] if name == "scan" else times
        branches = []
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, core.Jaxpr | core.ClosedJaxpr)):
            if isinstance(value, core.Jaxpr | core.ClosedJaxpr):
                part = dict.fromkeys(found, 0.0)
                walk(value.jaxpr if isinstance(value, core.ClosedJaxpr) else value, inner, count, often, part)
                branches.append(part)
        chosen = [max(branches, key=lambda part: part["received"])] if name == "cond" else branches
        for part in chosen:
            for field in found:
                found[field] += part[field] * (often if name == "cond" else 1)


def collectives_of(config, count):
    """How often each collective occurs in the compiled iteration."""
    on = devices.spread(config, jax.devices()[:count])

    def step(key, state):
        return config.build(devices.AXIS).step(key, state)

    mapped = jax.jit(on.map(step, (devices.EVERYWHERE, on.state), (on.state, devices.EVERYWHERE)))
    init = on.map(lambda key: config.build(devices.AXIS).init(key), devices.EVERYWHERE, on.state)
    text: Any = mapped.lower(jax.random.key(0), on.place(jax.eval_shape(init, jax.random.key(0)))).compile().as_text()
    names = ("all-reduce", "all-gather", "collective-permute")
    return {name: text.count(f" {name}(") + text.count(f" {name}-start(") for name in names}


def main():
    """Write results/devices.json and results/devices.md."""
    key = jax.random.key(0)
    equal: dict[str, Any] = {}
    for name, config in EQUAL.items():
        alone = jax.device_get(jax.jit(make_train(config))(key).state.learner.params)
        equal[name] = {count: difference(config, count, alone) for count in COUNTS[1:]}
    work = {name: {count: count_work(config, count) for count in COUNTS} for name, config in MODES.items()}
    compiled = {name: collectives_of(config, COUNTS[-1]) for name, config in MODES.items()}
    rows = [[name, *(f"{by[count]:.1e}" for count in COUNTS[1:])] for name, by in equal.items()]
    table = "Largest difference of a parameter from one device's run, after 10 rounds, over the largest parameter:\n\n"
    table += markdown_table(["", *(f"{count} devices" for count in COUNTS[1:])], rows)
    table += (
        f"\nOne round of {WORKERS} workers with {ENVS} environments each, rollouts of {T} steps (lockstep: of as many "
        "environments): million operations of matrix products on each device, and kilobytes that it receives.\n\n"
    )
    for title, field, scale in (("million operations", "operations", 1e6), ("kilobytes received", "received", 1e3)):
        rows = [[name, *(f"{by[count][field] / scale:.1f}" for count in COUNTS)] for name, by in work.items()]
        table += markdown_table([title, *(f"{count} devices" for count in COUNTS)], rows) + "\n"
    rows = [[name, *by.values()] for name, by in compiled.items()]
    table += f"Collectives in the compiled round on {COUNTS[-1]} devices:\n\n"
    table += markdown_table(["", *next(iter(compiled.values()))], rows) + "\n"
    parameters = sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda: LOCKSTEP.build().network.init(key))))
    save("devices", {"equal": equal, "work": work, "compiled": compiled, "parameters": parameters}, table)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", COUNTS[-1])
    tyro.cli(main)

"""The algorithms of the command line, by name."""

from typing import Any

from purejaxrl_a3c.algorithms import (
    a2c,
    a3c,
    averaging,
    d4pg,
    dqn,
    impala,
    nstep_q,
    ppo,
    pqn,
    r2d2,
    reinforce,
    rnd,
    sac,
    td3,
)

ALGORITHMS: dict[str, Any] = {
    "a3c": a3c.Config(),
    "a2c": a2c.Config(),
    "averaging": averaging.Config(),
    "reinforce": reinforce.Config(),
    "ppo": ppo.Config(),
    "impala": impala.Config(),
    "nstep-q": nstep_q.Config(),
    "pqn": pqn.Config(),
    "dqn": dqn.Config(),
    "r2d2": r2d2.Config(),
    "sac": sac.Config(),
    "td3": td3.Config(),
    "d4pg": d4pg.Config(),
    "rnd": rnd.Config(),
}
"""Name of an algorithm to its default settings."""
ALGORITHMS |= {
    f"rnd-{name}": rnd.Config(agent=config)
    for name, config in ALGORITHMS.items()
    if name in ("a3c", "a2c", "averaging", "reinforce", "impala")  # rnd's own default is ppo
}
DEFAULT = "a3c"

"""How programs are timed: beside each other, in turns, because the speed of a shared machine drifts."""

import time
from typing import Any

import jax
import numpy as np

from benchmarks.record import spread


class Timed:
    """A compiled loop, and the seconds that an iteration of it took, once for each call of `measure`."""

    def __init__(self, start, loop, seconds):
        """Compile, and find out how many iterations take about ``seconds``.

        Args:
            start: key -> state.
            loop: (key, state, n) -> the state after ``n`` more iterations.
            seconds: that one measurement is to take.
        """
        key = jax.random.key(0)
        self.state = jax.jit(start)(key)
        began = time.perf_counter()
        self.loop = jax.jit(loop).lower(key, self.state, 1).compile()
        self.compile_seconds = time.perf_counter() - began
        sizes: Any = self.loop.memory_analysis()
        self.bytes = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
        self.seconds = []
        self.n = 1
        self._run()  # A first call can take a hundred times as long as the second, which would leave n far too small.
        while (elapsed := self._run()) < 0.2 * seconds:
            self.n *= 2
        self.n = max(1, round(self.n * seconds / elapsed))

    def _run(self):
        began = time.perf_counter()
        jax.block_until_ready(self.loop(jax.random.key(1), self.state, self.n))
        return time.perf_counter() - began

    def measure(self):
        """Run for about the time asked for; the state is the same at every call."""
        self.seconds.append(self._run() / self.n)


def in_turns(loops, repetitions, seconds):
    """`Timed` loops ``{name: (start, loop)}``, measured A B C A B C ..."""
    timed = {name: Timed(start, loop, seconds) for name, (start, loop) in loops.items()}
    for _ in range(repetitions):
        for one in timed.values():
            one.measure()
    return timed


def rate(frames, seconds):
    """Million frames a second as text: median and range over the measurements ``seconds`` of ``frames`` each."""
    millions = frames / np.asarray(seconds) / 1e6
    return spread(millions, 2 if np.median(millions) >= 0.1 else 4)

"""A time limit for what may hang."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

TIMEOUT = 600.0  # seconds, unless it is told otherwise


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[Callable[[], None]]:
    """Raise `TimeoutError` inside if the function that this yields is not called again for so many seconds.

    Python hears of it between two of its instructions, and in most calls that wait. Code in C that never returns cannot
    be interrupted. There is no limit outside of the main thread, where systems have no such timer, or where the program
    uses that timer itself.
    """
    timer: Any = getattr(signal, "ITIMER_REAL", None)
    if timer is None or threading.current_thread() is not threading.main_thread() or signal.getitimer(timer)[0]:
        yield lambda: None
        return

    def give_up(*_: Any) -> NoReturn:
        raise TimeoutError(f"it took more than {seconds:g} s")

    def begin() -> None:
        signal.setitimer(timer, seconds)

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        yield begin
    finally:
        signal.setitimer(timer, 0)
        signal.signal(signal.SIGALRM, before)

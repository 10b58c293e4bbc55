"""Ctrl-C, SIGTERM and a closed terminal, at any moment of a run."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

_SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]


def exit_status(number: int) -> int:
    """The status of a program that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + number


class Interrupts:
    """A context that hears of signals.

    XLA compiles in threads of its own, which crash if the interpreter exits before they are done. A handler in Python
    would also have to wait until XLA returns. So a thread hears of a signal at once, and it ends the process without
    waiting for anything, except inside of `deferred`.

    Attributes:
        requested: the first signal that asked the run to stop; None so far.
        farewell: called in the thread before the process ends: it tidies up and says where things are.
    """

    def __init__(self) -> None:
        """Nothing is heard before the context is entered."""
        self.requested: int | None = None
        self.farewell: Callable[[], None] = lambda: None
        self._deferred = False
        self._lock = threading.Lock()
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        """Begin to hear of signals; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            self.listen()
            threading.Thread(target=self._hear, daemon=True).start()
        return self

    def listen(self) -> None:
        """Take the signals over, again if something else did in the meantime. What was ignored stays ignored."""
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:  # as nohup has it
                self._before.setdefault(number, handler)
                signal.signal(number, _do_nothing)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            signal.set_wakeup_fd(self._fd_before)
            self._writer.close()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal only sets ``requested``, which the caller must look at; the second ends at once."""
        with self._lock:
            self._deferred = True
        try:
            yield
        finally:
            with self._lock:
                self._deferred = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, signals wait: for what takes a moment and has to be whole when ``farewell`` tidies up."""
        with self._lock:
            yield

    def _hear(self) -> None:
        while numbers := self._reader.recv(1):  # empty once the context has ended
            number = numbers[0]
            if number not in self._before:
                continue
            with self._lock:
                again, self.requested = self.requested is not None, self.requested or number
                if self._deferred and not again:
                    continue
                try:
                    if not again:
                        self.farewell()
                finally:
                    _show_cursor()
                    os._exit(exit_status(number))


def _show_cursor() -> None:
    """Undo what a progress bar does to a terminal, as the process ends before the bar can."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h")
            sys.stderr.flush()


def _do_nothing(*_: object) -> None:
    """The handler in Python: the thread that reads of the signal acts."""

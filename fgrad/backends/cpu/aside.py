"""Work on a thread of its own, where another processor can do it."""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
    """A function that has been started on another thread.

    Systems tend to leave a new thread where its creator runs for some milliseconds, as long as the
    work takes: it is told to run elsewhere first.

    Args:
        function: What to run; it should spend its time in calls that release the GIL.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._found: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(_processor(),), name="fgrad")
        self._thread.start()

    def wait(self) -> None:
        """Return when the function has ended, one way or the other."""
        self._thread.join()

    def result(self) -> T:
        """What the function returns, or raises.

        In a process forked meanwhile, which has no such thread, it is run now.
        """
        self.wait()
        if self._error is not None:
            raise self._error
        return self._found[0] if self._found else self._function()

    def _run(self, creator: int) -> None:
        try:
            _leave(creator)
            self._found.append(self._function())
        except Exception as error:  # noqa: BLE001 - raised by `result`
            self._error = error


def _processor() -> int:
    """The number of the processor that this thread runs on; -1 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return -1
    found = getattr(ctypes.CDLL(None), "sched_getcpu", None)
    return -1 if found is None else int(found())


def _leave(processor: int) -> None:
    """Move this thread to another processor; from there it may go anywhere again."""
    if processor < 0:
        return
    allowed = os.sched_getaffinity(0)
    if others := allowed - {processor}:
        os.sched_setaffinity(0, others)
        os.sched_setaffinity(0, allowed)

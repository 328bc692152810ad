"""The garbage collector, out of the way of code that makes many objects and no garbage."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_pauses = 0
_was_enabled = False


@contextmanager
def paused() -> Iterator[None]:
    """Let no collection of cycles run meanwhile; several threads may pause it at once.

    Tracing and compiling keep nearly all that they make until they are done, so each collection
    looks at all of it in vain: for a program of a thousand equations that takes longer than
    compiling it.
    """
    global _pauses, _was_enabled
    with _lock:
        if not _pauses:
            _was_enabled = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses and _was_enabled:
                gc.enable()

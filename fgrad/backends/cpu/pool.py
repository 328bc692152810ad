"""The threads that share the work of large kernels (what they run is in `sharing`)."""

import _thread
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from fgrad.backends.cpu.sharing import Pool
from fgrad.core.errors import CompilationError, ConfigError

# Looks at the pool before a worker sleeps, some 20 µs: the pause between the kernels of one call.
SPIN = 500


def thread_count() -> int:
    """How many threads a kernel may use: `FGRAD_NUM_THREADS`, or the cores of this process.

    The variable bounds the threads of BLAS too (see `budget`); the two never run at the same time
    in one call.

    Raises:
        ConfigError: The variable is no positive integer.
    """
    text = os.environ.get("FGRAD_NUM_THREADS")
    if not text:
        return cores()
    if text.strip().isdecimal() and int(text) > 0:
        return int(text)
    raise ConfigError(
        f"environment variable FGRAD_NUM_THREADS={text!r}: a positive integer is needed"
    )


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class _System:
    """Semaphores of the operating system, as functions of (semaphore, argument, unused).

    Attributes:
        places: What tells processors apart and moves threads: the functions `Pool.CPU` and after.
    """

    places: tuple[Any, ...] = ()

    def __init__(self) -> None:
        if sys.platform == "win32":  # pragma: no cover
            kernel = ctypes.WinDLL("kernel32")
            kernel.CreateSemaphoreW.restype = ctypes.c_void_p
            self.post, self.wait = kernel.ReleaseSemaphore, kernel.WaitForSingleObject
            self.give = kernel.SwitchToThread
            self.make: Callable[[], int] = lambda: kernel.CreateSemaphoreW(None, 0, 1 << 20, None)
            return
        library = ctypes.CDLL(None)
        self.give = library.sched_yield
        if sys.platform == "darwin":  # pragma: no cover - it has no unnamed POSIX semaphores
            library.dispatch_semaphore_create.restype = ctypes.c_void_p
            library.dispatch_semaphore_create.argtypes = [ctypes.c_long]
            self.post = library.dispatch_semaphore_signal
            self.wait = library.dispatch_semaphore_wait
            self.make = lambda: library.dispatch_semaphore_create(0)
            return
        self.post, self.wait = library.sem_post, library.sem_wait
        self._library = library
        self.places = _places(library)
        self._kept: list[Any] = []
        self.make = self._posix

    def _posix(self) -> int:
        memory = (ctypes.c_int64 * 8)()
        self._kept.append(memory)
        place = ctypes.addressof(memory)
        if self._library.sem_init(ctypes.c_void_p(place), 0, 0) != 0:
            raise CompilationError(
                f"the system gives no semaphore for worker threads "
                f"({os.strerror(ctypes.get_errno())}); set FGRAD_NUM_THREADS=1 to do without them"
            )
        return place


def _places(library: Any) -> tuple[Any, ...]:
    """The functions of Linux for processors; none elsewhere."""
    names = ("sched_getcpu", "gettid", "sched_setaffinity")
    if not sys.platform.startswith("linux"):
        return ()
    return (
        tuple(getattr(library, n) for n in names) if all(hasattr(library, n) for n in names) else ()
    )


# Pools whose threads run until the process ends, in code and memory of theirs.
_endless: list["Workers"] = []


class Workers:
    """The pool of this process.

    Args:
        worker: The address of `fgrad_worker`.
        code: What that address belongs to; kept, as are the workers, once they run in it.
        threads: How many threads run a kernel, the caller included.

    Attributes:
        address: Of the pool's memory.
        threads: As given.
    """

    def __init__(self, worker: int, threads: int, code: object) -> None:
        self.threads = threads
        self._code = code
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(worker)
        size = Pool.SLOTS + Pool.SLOT * threads
        self._memory = ctypes.create_string_buffer(size + 64)
        self.address = -(-ctypes.addressof(self._memory) // 64) * 64
        self._system = _System()
        self._lock = threading.Lock()
        self._started = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def start(self) -> None:
        """Start the workers, unless they run; called when the first large kernel is made."""
        if self._started:
            return
        with self._lock:
            if self._started:
                return
            self._begin()
            self._started = True
            _endless.append(self)

    def _set(self, offset: int, value: int) -> None:
        ctypes.c_int64.from_address(self.address + offset).value = value

    def _begin(self) -> None:
        ctypes.memset(self.address, 0, Pool.SLOTS + Pool.SLOT * self.threads)
        system = self._system
        self._set(Pool.POST, _address(system.post))
        self._set(Pool.WAIT, _address(system.wait))
        self._set(Pool.YIELD, _address(system.give))
        if system.places:
            for offset, function in zip(
                (Pool.CPU, Pool.THREAD, Pool.CONFINE), system.places, strict=True
            ):
                self._set(offset, _address(function))
            bits = sum(1 << cpu for cpu in os.sched_getaffinity(0) if cpu < 1024)
            self._allowed = ctypes.create_string_buffer(bits.to_bytes(128, "little"), 128)
            self._set(Pool.ALLOWED, ctypes.addressof(self._allowed))
        for number in range(self.threads - 1):
            self._set(Pool.SLOTS + Pool.SLOT * number + 8, system.make())
            self._set(Pool.SLOTS + Pool.SLOT * number + 16, -1)
        for number in range(self.threads - 1):
            # Not `threading.Thread`: these never return, and Python must not wait for them.
            _thread.start_new_thread(self._run, (self.address, number))
        self._set(Pool.WORKERS, self.threads - 1)

    def _after_fork(self) -> None:
        """A child has none of the threads, and perhaps a job in the middle: begin afresh."""
        self._lock = threading.Lock()
        if self._started:
            self._begin()

"""Which algorithm of cuBLASLt is fastest, measured where `config.autotune` asks for it.

The heuristic's deterministic algorithms are timed on memory of their own, once for each product,
device and version of the library; the choice is kept on disk, so that later processes repeat it.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from fgrad.backends.object_cache import ObjectCache, default_folder

_RUNS = 5  # of each algorithm, of which the shortest counts
Time = Callable[[int], float]


@cache
def _choices() -> ObjectCache:
    return ObjectCache(default_folder("cuda-choices"), 1 << 20)


def chosen(key: str, algorithms: Sequence[bytes], time: Time) -> int:
    """The number of the algorithm to take.

    Args:
        key: All that the choice depends on, the device and the library's version among it.
        algorithms: What there is to choose from, as the library describes it.
        time: How long a run of one takes.
    """
    choices = _choices()
    name = hashlib.sha256(key.encode()).hexdigest()
    known = choices.get(name)
    if known in algorithms:  # else the library offers others than it did
        return algorithms.index(known)
    times = [min(time(i) for _ in range(_RUNS)) for i in range(len(algorithms))]
    best = times.index(min(times))
    choices.put(name, algorithms[best])
    return best


def timer(run: Callable[..., None], sizes: Sequence[int]) -> Time:
    """What times an algorithm of a product on the current device.

    Args:
        run: ``(algorithm, stream, *pointers) -> None`` queues a run.
        sizes: The bytes of what each pointer points to.
    """
    cupy: Any = import_module("cupy")
    memory = [cupy.zeros(max(n, 1), cupy.uint8) for n in sizes]
    pointers = [m.data.ptr for m in memory]
    stream = cupy.cuda.Stream(non_blocking=True)
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    cupy.cuda.runtime.deviceSynchronize()  # the zeros are there

    def time(algorithm: int) -> float:
        begin.record(stream)
        run(algorithm, stream.ptr, *pointers)
        end.record(stream)
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(begin, end))

    return time

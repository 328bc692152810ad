"""Launches: the right words reach the kernel, on any path, from any number of threads."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fgrad.backends.cpu import functions as module
from fgrad.backends.cpu.engine import engine
from fgrad.backends.cpu.functions import Functions, functions
from fgrad.backends.cpu.pool import thread_count
from fgrad.errors import ConfigError

LONG = 1e9  # nanoseconds: shared among threads, without the GIL

KERNELS = """
; each unit: private[0] += word, partials[unit] = private[0]
define void @scratched(ptr %args, i64 %lo, i64 %hi) {
entry:
  %pp = getelementptr ptr, ptr %args, i64 1
  %partials = load ptr, ptr %pp
  %sp = getelementptr ptr, ptr %args, i64 2
  %private = load ptr, ptr %sp
  %wp = getelementptr i64, ptr %args, i64 3
  %w = load i64, ptr %wp
  br label %loop
loop:
  %i = phi i64 [%lo, %entry], [%i1, %step]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %step, label %end
step:
  %old = load i64, ptr %private
  %new = add i64 %old, %w
  store i64 %new, ptr %private
  %at = getelementptr i64, ptr %partials, i64 %i
  store i64 1, ptr %at
  %i1 = add i64 %i, 1
  br label %loop
end:
  ret void
}
; y[0] = the sum of the partials of all units
define void @scratched_combine(ptr %args, i64 %lo, i64 %hi) {
entry:
  %y = load ptr, ptr %args
  %pp = getelementptr ptr, ptr %args, i64 1
  %partials = load ptr, ptr %pp
  br label %loop
loop:
  %i = phi i64 [%lo, %entry], [%i1, %step]
  %sum = phi i64 [0, %entry], [%next, %step]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %step, label %end
step:
  %at = getelementptr i64, ptr %partials, i64 %i
  %v = load i64, ptr %at
  %next = add i64 %sum, %v
  %i1 = add i64 %i, 1
  br label %loop
end:
  store i64 %sum, ptr %y
  ret void
}
"""


@pytest.fixture(scope="module", params=[True, False], ids=["builtin", "ctypes"])
def made(request):
    return Functions(engine(), 3, direct=request.param)


def probe(made, units, word, cost_ns=1.0):
    address = made._code.addresses["fgrad_probe"]
    return made.launch(address, [word], 2, units, cost_ns=cost_ns)


@pytest.mark.parametrize("cost_ns", [1.0, 12_000.0, LONG])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_a_launch_runs_all_units_once(made, n, cost_ns):
    x, y = np.arange(n), np.full(n + 1, -1)
    assert probe(made, n, 5, cost_ns)(x, y) is None
    np.testing.assert_array_equal(y, [*(x + 5), -1])


@pytest.mark.parametrize("cost_ns", [1.0, LONG])
def test_scratch_memory_is_shared_or_of_each_thread_and_results_are_combined(made, cost_ns):
    code = engine().load(["scratched"], lambda _names: [KERNELS])["scratched"]
    n, word = 100, 5
    scratch = (8 * n, 64)
    launch = made.launch(
        code.addresses["scratched"], [0, 0, word], 1, n, cost_ns=cost_ns,
        combine=(code.addresses["scratched_combine"], n), scratch=scratch,
    )  # fmt: skip
    assert made.scratch_bytes(scratch) == 8 * n + 3 * 64
    for _ in range(20):
        y, memory = np.zeros(1, np.int64), np.zeros(made.scratch_bytes(scratch) // 8, np.int64)
        launch(y, memory)
        assert y[0] == n
        # What each thread added up is its own, and all of it is there.
        assert memory[n::8].sum() == n * word
        assert (memory[n:].reshape(3, 8)[:, 1:] == 0).all()


def test_readiness_is_type_contiguity_and_alignment(made):
    x = np.arange(12).reshape(3, 4)
    raw = np.zeros(33, np.uint8)[1:].view(np.int64)
    assert made.ready()
    assert made.ready(x, x[1:], x[:0], np.zeros(()))
    assert not made.ready(x, x[:, 1:])
    assert not made.ready(x.T)
    assert not made.ready(raw)
    assert not made.ready(x, np.float32(1))
    assert not made.ready(x.view(type("Sub", (np.ndarray,), {})))
    assert not made.ready(None, x)


def test_references_are_counted_right(made):
    x, y = np.arange(3), np.zeros(3, np.int64)
    launch = probe(made, 3, 1)
    before = [sys.getrefcount(v) for v in (None, True, x, y)]
    for _ in range(1000):
        launch(x, y)
        made.ready(x, y)
    after = [sys.getrefcount(v) for v in (None, True, x, y)]
    assert max(abs(a - b) for a, b in zip(after, before, strict=True)) < 50


def test_threads_that_share_the_pool_get_their_own_results(made):
    def run(k):
        x, y = np.arange(997) * k, np.zeros(997, np.int64)
        launch = probe(made, 997, k, LONG)
        for _ in range(200):
            y[:] = 0
            launch(x, y)
            if not (y == x + k).all():
                wrong.append(k)

    wrong = []
    threads = [threading.Thread(target=run, args=(k,)) for k in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_workers_that_sleep_wake_up():
    made = Functions(engine(), 2)
    x, y = np.arange(64), np.zeros(64, np.int64)
    launch = probe(made, 64, 3, LONG)
    for _ in range(5):
        time.sleep(0.002)
        y[:] = 0
        launch(x, y)
        np.testing.assert_array_equal(y, x + 3)


def test_small_work_is_not_shared(made):
    assert made.chunk(1000, 1000.0) == 0
    assert made.chunk(1, LONG) == 0
    assert made.chunk(1200, LONG) == 100
    # 30 µs over 10 units: two units are worth the trouble of a worker, one is not.
    assert made.chunk(10, 30_000.0) == 2
    assert Functions(engine(), 1).chunk(1000, LONG) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_workers_of_its_own():
    code = """
import os, sys, warnings
import numpy as np
from fgrad.backends.cpu.engine import engine
from fgrad.backends.cpu.functions import Functions
made = Functions(engine(), 3)
x, y = np.arange(500), np.zeros(500, np.int64)
launch = made.launch(made._code.addresses["fgrad_probe"], [7], 2, 500, cost_ns=1e9)
launch(x, y)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Python 3.12 warns of forks of processes with threads
    child = os.fork()
y[:] = 0
for _ in range(50):
    launch(x, y)
good = (y == x + 7).all()
if child == 0:
    os._exit(0 if good else 1)
_, status = os.waitpid(child, 0)
sys.exit(0 if good and status == 0 else 1)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_array_laid_out_otherwise_is_noticed(monkeypatch):
    assert module._layout_holds(object.__basicsize__)
    assert not module._layout_holds(object.__basicsize__ + 8)
    monkeypatch.setattr(module, "_layout_holds", lambda _head: False)
    with pytest.warns(RuntimeWarning, match="does not lay out arrays"):
        assert not Functions(engine(), 1).direct


def test_the_portable_path_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("FGRAD_CPU_CALL", "ctypes")
    made = Functions(engine(), 1)
    assert not made.direct
    x, y = np.arange(3), np.zeros(3, np.int64)
    probe(made, 3, 2)(x, y)
    np.testing.assert_array_equal(y, [2, 3, 4])
    monkeypatch.setenv("FGRAD_CPU_CALL", "ctype")
    with pytest.raises(ConfigError, match="FGRAD_CPU_CALL='ctype': accepted is ctypes"):
        Functions(engine(), 1)


def test_the_number_of_threads_follows_the_environment(monkeypatch):
    monkeypatch.setenv("FGRAD_NUM_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.setenv("FGRAD_NUM_THREADS", "many")
    with pytest.raises(ConfigError, match="positive integer"):
        thread_count()
    monkeypatch.delenv("FGRAD_NUM_THREADS")
    assert thread_count() >= 1


def test_one_set_of_functions_a_process():
    assert functions() is functions()
    assert ctypes.sizeof(ctypes.c_void_p) == 8


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be placed")
def test_a_sleeping_worker_leaves_the_processor_of_its_caller():
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("there is one processor")
    first, second, *_ = allowed
    before = set(Path("/proc/self/task").iterdir())
    made = Functions(engine(), 2)
    x, y = np.arange(200_000), np.zeros(200_000, np.int64)
    launch = probe(made, len(x), 3, LONG)

    def run(until):
        for _ in range(500):
            launch(x, y)
            time.sleep(0.001)
            if until():
                return True
        return False

    try:
        os.sched_setaffinity(0, {second})  # the caller alone
        launch(x, y)
        (worker,) = (int(t.name) for t in set(Path("/proc/self/task").iterdir()) - before)
        os.sched_setaffinity(worker, {first})
        run(lambda: False)  # it has worked on the first processor
        os.sched_setaffinity(0, {first})
        # Moved, it works on another, and may then go anywhere.
        assert run(lambda: os.sched_getaffinity(worker) == set(allowed))
        np.testing.assert_array_equal(y, x + 3)
    finally:
        os.sched_setaffinity(0, allowed)


def test_arrays_that_nobody_else_can_see():
    """With references of the caller's list alone, beside the arguments of the call."""
    alone = module.sole(1)
    if alone is None:
        pytest.skip("references cannot be counted here")

    class Other(np.ndarray):
        pass

    whole = np.zeros((4, 6), np.float32)
    locked = np.zeros(3)
    locked.flags.writeable = False
    assert alone()
    held = [np.zeros(3), np.zeros((2, 3), np.int8), np.zeros(0)]
    assert alone(*map(held.__getitem__, range(3)))
    for bad in (
        lambda: whole,  # it has a name
        lambda: np.zeros(4)[1:],
        lambda: np.zeros((2, 3)).T,
        lambda: np.frombuffer(bytes(8), np.float32),
        lambda: np.zeros(3).view(Other),
        lambda: np.zeros(3).view(np.int64),
    ):
        held = [np.zeros(3), bad(), np.zeros(3)]
        assert not alone(*map(held.__getitem__, range(3)))
        assert alone(*map(held.__getitem__, (0, 2)))
    held = [locked]
    del locked
    assert not alone(*map(held.__getitem__, (0,)))
    held = [np.zeros(3)]
    view = held[0][:1]  # it refers to the array
    assert not alone(*map(held.__getitem__, (0,)))
    del view
    assert alone(*map(held.__getitem__, (0,)))

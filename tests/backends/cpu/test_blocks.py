"""Memory that is used again: never while anyone can see it, and not without bound."""

import gc
import threading
import weakref

import numpy as np

from fgrad.backends.cpu.blocks import Blocks, Slabs

F = np.dtype("f")
SHAPE = (300, 1000)  # 1.2 MB


def place(x):
    return x.ctypes.data


def test_a_block_is_used_again_after_its_array_has_died():
    pool = Blocks()
    x = pool.empty(SHAPE, F)
    assert (x.shape, x.dtype, x.flags.c_contiguous, x.flags.writeable) == (SHAPE, F, True, True)
    assert place(x) % 64 == 0
    first = place(x)
    del x
    assert pool.waiting_bytes >= 1_200_000
    y = pool.empty(SHAPE, F)
    assert place(y) == first
    assert pool.waiting_bytes == 0


def test_a_view_keeps_the_block():
    pool = Blocks()
    x = pool.empty(SHAPE, F)
    x[:] = 1
    views = [x[10:], x.T, x.reshape(-1)[5:], np.asarray(memoryview(x))]
    del x
    y = pool.empty(SHAPE, F)
    y[:] = 2
    assert all((v == 1).all() for v in views)
    del views
    gc.collect()
    assert pool.waiting_bytes > 0


def test_what_waits_is_bounded_and_the_oldest_sizes_go_first():
    pool = Blocks(limit_bytes=3_000_000)
    arrays = [pool.empty((n,), F) for n in (300_000, 400_000, 200_000)]
    while arrays:
        del arrays[0]
    assert pool.waiting_bytes <= 3_000_000
    assert sum(len(m) for kept in pool._waiting.values() for m in kept) == pool.waiting_bytes
    assert 1_200_000 // 4096 * 4096 + 4096 not in {
        size for size, kept in pool._waiting.items() if kept
    }
    pool.empty((900_000,), F)  # larger than all that may wait
    assert pool.waiting_bytes <= 3_000_000
    pool.clear()
    assert pool.waiting_bytes == 0


def test_threads_never_share_a_block():
    pool, wrong = Blocks(), []

    def run(k):
        for _ in range(200):
            x = pool.empty((70_000,), F)
            x[:] = k
            y = pool.empty((70_000,), F)
            y[:] = -k
            if not ((x == k).all() and (y == -k).all()):
                wrong.append(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_an_array_that_dies_while_the_pool_is_locked_goes_to_the_system():
    pool = Blocks()
    x = pool.empty(SHAPE, F)
    with pool._lock:
        del x
        assert pool.empty(SHAPE, F).shape == SHAPE
    assert pool.waiting_bytes == 0


class Program:
    """Something that binds itself to slabs."""


def test_slabs_serve_one_program_at_a_time_and_grow():
    slabs = Slabs()
    a, b = slabs.take(1000), slabs.take(2000)
    assert a is not b
    assert a.memory.ctypes.data % 64 == 0
    slabs.give(a)
    assert slabs.take(500) is a
    slabs.give(a)
    grown = slabs.take(5000)
    assert grown is not a
    slabs.give(grown)
    gone = weakref.ref(a)
    del a
    assert gone() is None
    slabs.clear()
    assert slabs.take(100) is not grown


def test_a_slab_forgets_programs_that_are_gone():
    slab, program = Slabs().take(10), Program()
    slab.bound[program] = [slab.memory[:5]]
    del program
    assert not slab.bound

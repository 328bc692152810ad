"""A device over memory of the host, for tests of executables: kernels run by their meaning.

Every launch is checked: its pointers must lie in blocks that are alive, and what was freed or never
written holds poison. A graph is a list of what was queued while it was captured; a read of the
host is refused meanwhile, as a GPU refuses it.
"""

import collections
import contextlib
import ctypes
import itertools
import struct
import weakref

import numpy as np

from fgrad.backends.cuda.calls import INPUT, OUTPUT, ForeignCall, LibraryPlan, Place
from fgrad.backends.cuda.compiler import runs_on_host
from fgrad.backends.cuda.device import WHILE, Node
from fgrad.backends.cuda.executable import Target
from fgrad.backends.cuda.module import Part
from fgrad.compile.interpret import run_kernel
from fgrad.compile.kernel import Accumulate
from fgrad.compile.plan import View
from fgrad.core.ir import Literal
from fgrad.core.scalar import OPS

POISON = 0xA5


class Launched:
    """Something that was queued: a function of the bases of its arguments."""

    def __init__(self, name, pointers, words, run):
        self.name, self.pointers, self.words, self.run = name, pointers, words, run


class HostDevice:
    """See above. `log` lists the names of what ran, `reads` counts what the host has read."""

    xp = np
    numbers = itertools.count()

    def __init__(self, code, conditional=True):
        self.key = f"host:{next(self.numbers)}"
        self.code, self.conditional = code, conditional
        self.blocks = {}
        self.recent = collections.deque(maxlen=4)
        self.log = []
        self.waits = self.reads = self.captures = self.updates = 0
        self.capturing = {}
        self.values = {}  # of handles
        self.word = np.zeros(1, np.int64)
        self.blocks[self.word.ctypes.data] = (8, weakref.ref(self.word))
        self.current_stream = 1

    # ------------------------------------------------------------------------------------ memory

    def is_current(self):
        return True

    def current(self):
        return contextlib.nullcontext()

    def stream(self):
        return self.current_stream

    def stream_key(self, stream):
        return stream

    stream_pointer = stream_key

    def empty(self, shape, dtype):
        made = np.empty(shape, dtype)
        made.reshape(-1).view(np.uint8)[...] = POISON
        self.blocks[made.ctypes.data] = (made.nbytes, weakref.ref(made))
        assert made.ctypes.data % 16 == 0
        return made

    def upload(self, array):
        made = self.empty(array.shape, array.dtype)
        made[...] = array
        return made

    def bound(self, arrays):
        given = list(map(self._prepared, arrays))
        return given, list(map(self.address, given))

    def _prepared(self, array):
        known = self.blocks.get(array.ctypes.data)
        if known is not None and known[1]() is array:
            return array
        return self.upload(array)

    def are_sole(self, arrays):
        return all(x.base is None for x in arrays)

    def address(self, array):
        return array.ctypes.data

    def span(self, address):
        """How many bytes of a block lie behind an address."""
        for start, (size, ref) in self.blocks.items():
            if start <= address < start + max(size, 1) and ref() is not None:
                return start + size - address
        raise AssertionError(f"address {address:x} lies in no block that is alive")

    def memory(self, address, dtype, count=None):
        dtype = np.dtype(dtype)
        size = self.span(address)
        if count is not None:
            assert count * dtype.itemsize <= size, "reads or writes behind the end of a block"
            size = count * dtype.itemsize
        raw = (ctypes.c_ubyte * (size - size % dtype.itemsize)).from_address(address)
        plain = np.frombuffer(raw, np.uint8)
        return plain.view(dtype)

    def view(self, address, shape, strides, dtype):
        if 0 in shape:
            return np.empty(shape, dtype)
        flat = self.memory(address, dtype)
        return np.lib.stride_tricks.as_strided(flat, shape, strides)

    def read(self, address, count, stream):
        assert not self.capturing, "the host reads while a graph is captured"
        self.reads += 1
        return self.memory(address, np.uint8, count).tobytes()

    def synchronize(self, stream):
        assert not self.capturing, "the host waits while a graph is captured"
        self.waits += 1

    def fault_address(self):
        return self.word.ctypes.data

    def fault(self):
        return int(self.word[0])

    def clear_fault(self):
        self.word[0] = 0

    # ---------------------------------------------------------------------------------- launches

    def load(self, text, shared):
        return dict.fromkeys(shared, text)

    def launch(self, function, arguments, stream):
        pointers = list(arguments.pointers)
        item = Launched(function.name, pointers, arguments.words, self.function(function.name))
        self.enqueue(item, stream)

    def launcher(self, function, arguments, stream):
        return lambda: self.launch(function, arguments, stream)

    def enqueue(self, item, stream):
        if stream in self.capturing:
            self.capturing[stream].items.append(item)
        else:
            self.execute(item)

    def execute(self, item):
        self.log.append(item.name)
        item.run(item.pointers, item.words)

    def function(self, name):
        found = getattr(self, name, None)
        return self.kernel if found is None else found

    def kernel(self, pointers, words):
        kernels = [self.code.known[n] for (n,) in struct.iter_unpack("q", words)]
        *operands, scratch = pointers
        need = self.code.scratch_bytes(kernels)
        if need:
            self.memory(scratch, np.uint8, need)[...] = 0x5A
        given = iter(operands)
        for kernel in kernels:
            self.interpret(kernel, [next(given) for _ in kernel.operands])
        assert next(given, None) is None

    def interpret(self, kernel, operands):
        for p in operands:
            assert p % 16 == 0, "kernels take pointers at multiples of 16 bytes"
        arrays = [
            self.memory(p, op.dtype) if p else None
            for p, op in zip(operands, kernel.operands, strict=True)
        ]
        run_kernel(kernel, arrays)

    # The kernels of `support`, by their meaning.

    def fgrad_copy(self, pointers, words):
        for k, n in enumerate(struct.unpack("4q", words)):
            if n:
                source = self.memory(pointers[2 * k + 1], np.uint8, n).copy()
                self.memory(pointers[2 * k], np.uint8, n)[...] = source

    def fgrad_row_out(self, pointers, words):
        to, stack, counter = pointers
        step, first, n = struct.unpack("3q", words)
        at = stack + int(self.memory(counter, np.int64)[0]) * step + first
        self.memory(to, np.uint8, n)[...] = self.memory(at, np.uint8, n)

    def fgrad_row_in(self, pointers, words):
        stack, source, counter = pointers
        step, first, n = struct.unpack("3q", words)
        at = stack + int(self.memory(counter, np.int64)[0]) * step + first
        self.memory(at, np.uint8, n)[...] = self.memory(source, np.uint8, n)

    def fgrad_set(self, pointers, words):
        self.memory(pointers[0], np.int64)[0] = struct.unpack("q", words)[0]

    def fgrad_clear(self, pointers, words):
        self.memory(pointers[0], np.uint8, struct.unpack("q", words)[0])[...] = 0

    def fgrad_count(self, pointers, words):
        self.memory(pointers[0], np.int64)[0] += 1

    def fgrad_check(self, pointers, words):
        word = self.memory(pointers[1], np.int64)
        if self.memory(pointers[0], np.bool_)[0] and not word[0]:
            word[0] = struct.unpack("q", words)[0]

    def fgrad_thin(self, pointers, words):
        stack, steps, state = pointers
        kept, n = struct.unpack("2q", words)
        if self.memory(steps, np.int64)[0] == self.memory(state, np.int64)[0] * kept:
            rows = self.memory(stack, np.uint8, kept * n).reshape(kept, n)
            rows[: kept // 2] = rows[::2].copy()

    def fgrad_space(self, pointers, words):
        steps, state = (self.memory(p, np.int64) for p in pointers)
        state[1] = steps[0] % state[0] == 0
        if steps[0] == state[0] * struct.unpack("q", words)[0]:
            state[0] *= 2

    def fgrad_keep(self, pointers, words):
        stack, source, steps, state = pointers
        (n,) = struct.unpack("q", words)
        spacing, keep = self.memory(state, np.int64)[:2]
        if keep:
            row = int(self.memory(steps, np.int64)[0] // spacing)
            self.memory(stack + row * n, np.uint8, n)[...] = self.memory(source, np.uint8, n)

    def fgrad_proceed(self, pointers, words):
        handle = struct.unpack("q", words)[0]
        self.values[handle] = bool(self.memory(pointers[0], np.bool_)[0])

    def fgrad_more(self, pointers, words):
        handle, times = struct.unpack("2q", words)
        self.values[handle] = int(self.memory(pointers[0], np.int64)[0]) < times

    def fgrad_choose(self, pointers, words):
        handle, number = struct.unpack("2q", words)
        self.values[handle] = int(self.memory(pointers[0], np.int32)[0]) == number

    # ------------------------------------------------------------------------------------ graphs

    def rehearse(self, queue):
        forgotten = HostCapture(self)
        queue(forgotten.stream)
        forgotten.abandon()

    def capture(self, bodies):
        self.captures += 1
        self.bodies = bodies
        return HostCapture(self)

    def handle(self):
        self.values[len(self.values) + 1] = False
        return len(self.values)


class Conditional:
    """A conditional node."""

    def __init__(self, kind, handle, body):
        self.kind, self.handle, self.body = kind, handle, body


class HostCapture:
    """A capture: a stream whose work is written down."""

    def __init__(self, device):
        self.device, self.items = device, []
        self.stream = object()
        device.capturing[self.stream] = self

    def last(self):
        return self.items[-1]

    def handle(self):
        return self.device.handle()

    def conditional(self, kind, handle, body):
        inner = HostCapture(self.device)
        self.device.bodies -= 1
        assert self.device.bodies >= 0, "more conditional nodes than were announced"
        try:
            body(inner)
        finally:
            self.device.capturing.pop(inner.stream)
        self.items.append(Conditional(kind, handle, inner.items))

    def end(self):
        assert not self.device.bodies, "fewer conditional nodes than were announced"
        self.device.capturing.pop(self.stream)
        return HostGraph(self.device, self.items)

    def abandon(self):
        self.device.capturing.pop(self.stream, None)


class HostGraph:
    """What was captured."""

    def __init__(self, device, items):
        self.device, self.items = device, items

    def launch(self, stream):
        self.run(self.items)

    def run(self, items):
        for item in items:
            if isinstance(item, Launched):
                self.device.execute(item)
                continue
            while self.device.values[item.handle]:
                self.run(item.body)
                if item.kind != WHILE:
                    break

    def update(self, node, function, arguments):
        assert node in self.items, "nodes in loops keep their arguments"
        self.device.updates += 1
        node.pointers = list(arguments.pointers)

    def nodes(self):
        return _nodes(self.items)


def _nodes(items):
    return tuple(
        Node("kernel", i.name) if isinstance(i, Launched)
        else Node("conditional", "", (_nodes(i.body),))
        for i in items
    )  # fmt: skip


class Meaning:
    """What stands in for code: kernels are numbers, and the device interprets them."""

    def __init__(self):
        self.known, self.numbers = [], {}

    def number(self, kernel):
        if id(kernel) not in self.numbers:
            self.numbers[id(kernel)] = len(self.known)
            self.known.append(kernel)
        return self.numbers[id(kernel)]

    def key(self, kernel):
        return "kernel"

    def together(self, kernels):
        found = {}
        for i, kernel in enumerate(kernels):
            found.setdefault(len(kernel.body), []).append(i)
        return list(found.values())

    def launches(self, unit):
        return [_Whole]

    def words(self, unit):
        return struct.pack(f"{len(unit)}q", *map(self.number, unit))

    def scratch_bytes(self, unit):
        return 48 * sum(isinstance(i, Accumulate) for kernel in unit for i in kernel.body)

    def source(self, unit, name):
        return name

    def module(self, text):
        return text


class _Whole(Part):
    suffix, grid, block, shared = "", 1, 1, 0


def by_rules(device, left_out=()):
    """A table of library steps that computes all of them by their eager rules."""

    def plan(step):
        name = step.eqn.primitive.name
        if name in left_out or runs_on_host(step.eqn):
            return None
        places = []
        for i, a in enumerate(step.inputs):
            size = a.aval.dtype.itemsize if isinstance(a, Literal) else None
            places.append(Place(INPUT, i, 0 if size else a.offset * _dtype(step, i).itemsize))
        places += [Place(OUTPUT, i) for i in range(len(step.outputs))]
        made = ForeignCall(name, tuple(places), lambda: _run(device, step))
        return LibraryPlan(name, (made,))

    return plan


def _dtype(step, i):
    return step.eqn.inputs[i].aval.dtype


def _run(device, step):
    def compute(pointers, _words):
        eqn = step.eqn
        inputs = []
        for i, (a, p) in enumerate(zip(step.inputs, pointers, strict=False)):
            dtype = _dtype(step, i)
            strides = a.strides if isinstance(a, View) else (0,) * eqn.inputs[i].aval.ndim
            shape = eqn.inputs[i].aval.shape
            inputs.append(device.view(p, shape, [s * dtype.itemsize for s in strides], dtype))
        with np.errstate(all="ignore"):
            out = eqn.primitive.eager(np, *inputs, **eqn.params)
        outs = out if eqn.primitive.multiple_results else (out,)
        for p, y in zip(pointers[len(inputs) :], outs, strict=True):
            y = np.ascontiguousarray(y)
            if y.size:
                device.memory(p, y.dtype, y.size)[...] = y.reshape(-1)

    def run(stream, pointers):
        device.enqueue(Launched(step.eqn.primitive.name, pointers, b"", compute), stream)

    return run


def target_on(conditional=True, left_out=(), kind=HostDevice):
    """A target of such a device, and the device."""
    code = Meaning()
    device = kind(code, conditional)
    everything = lambda op, dtype: op in OPS or True  # noqa: E731
    libraries = by_rules(device, left_out)
    made = Target(code, libraries, lambda _: device, everything, lambda _: False)
    return made, device

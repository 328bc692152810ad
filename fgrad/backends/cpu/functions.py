"""Kernels as Python functions of arrays.

`Functions.launch` makes a builtin of the runtime's machine code: it reads the data pointers of its
arguments where NumPy's C API says they are. At start-up this is tried; where it does not hold, or
where `FGRAD_CPU_CALL=ctypes` asks for it, a slower function does the same through ctypes.
"""

import ctypes
import functools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.backends.cpu import interpreter, likeness, runtime
from fgrad.backends.cpu.engine import Code, Engine, engine
from fgrad.backends.cpu.pool import SPIN, Workers, thread_count
from fgrad.backends.cpu.runtime import Context, Word
from fgrad.backends.cpu.tape import Assembled, Frame, Tape
from fgrad.backends.cpu.together import Part, scratch_of, table
from fgrad.core.errors import ConfigError
from fgrad.core.evaluate import ArrayImpl

Launcher = Callable[..., Any]
_FASTCALL = 0x0080
_FAILED = 2  # what a tape returns that a check has left
_C_CONTIGUOUS_AND_ALIGNED = 0x0101
# Nanoseconds of work: from here on other Python threads may run; from here on workers help; and
# the least that a worker should take at a time.
RELEASE_NS, SHARE_NS, CHUNK_NS = 10_000, 15_000, 4_000


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class Functions:
    """Makes callables of machine code.

    Args:
        engine: Where code comes from.
        threads: How many threads share large kernels.
        direct: Whether arguments are read directly; None: if it works.
        code: What runs launches; None: it is made now.
    """

    def __init__(
        self, engine: Engine, threads: int, direct: bool | None = None, code: Code | None = None
    ) -> None:
        self.engine = engine
        head = object.__basicsize__
        self._code = _started(engine)() if code is None else code
        address = self._code.addresses
        self.workers = Workers(address["fgrad_worker"], threads, self._code)
        api = ctypes.pythonapi
        context = np.zeros(Context.SIZE, np.int64)
        context[Context.NONE], context[Context.FALSE], context[Context.TRUE] = map(
            id, (None, False, True)
        )
        context[Context.COUNTED] = sys.version_info < (3, 12)
        for word, function in (
            (Context.SAVE_THREAD, api.PyEval_SaveThread),
            (Context.RESTORE_THREAD, api.PyEval_RestoreThread),
            (Context.ENSURE, api.PyGILState_Ensure),
            (Context.CHECK_SIGNALS, api.PyErr_CheckSignals),
            (Context.RELEASE, api.PyGILState_Release),
        ):
            context[word] = ctypes.cast(function, ctypes.c_void_p).value or 0
        context[Context.NDARRAY] = id(np.ndarray)
        context[Context.POOL] = self.workers.address
        context[Context.SHARE] = address["fgrad_share"]
        fields = likeness.slots(head)
        if fields is not None:
            context[Context.ARRAY] = id(ArrayImpl)
            context[Context.ARRAY_DATA], context[Context.ARRAY_FLAGS] = fields
        self._context = context
        self._run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(
            address["fgrad_run"]
        )
        self._methods = {
            name: _MethodDef(name.encode(), address[f"fgrad_{name}"], _FASTCALL, None)
            for name in ("launch", "ready", "alike", "sole")
        }
        self._make = api.PyCFunction_NewEx
        self._make.restype = ctypes.py_object
        self._make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
        self.direct = self._works(head) if direct is None else direct
        block = np.zeros(Word.FIRST, np.int64)
        block[Word.CONTEXT] = context.ctypes.data
        self.ready: Callable[..., bool] = (
            self._builtin("ready", block) if self.direct else _ready_by_flags
        )

    def launch(
        self,
        kernel: int,
        words: Sequence[int],
        pointers: int,
        units: int,
        *,
        cost_ns: float,
        combine: tuple[int, int] | None = None,
        scratch: tuple[int, int] = (0, 0),
        spin: bool = True,
    ) -> Launcher:
        """A function of `pointers` arrays, and of scratch memory where the kernel needs some.

        The arrays are contiguous, aligned, and of the dtypes and sizes that the kernel expects.

        Args:
            kernel: The address of its code, which must stay loaded.
            words: What it takes after the pointers.
            pointers: The number of operands.
            units: The number of units of work.
            cost_ns: How long all of it takes one thread, estimated.
            combine: Address and number of units of a function to run after it.
            scratch: Bytes of scratch memory, for all threads and for each; pointers to it become
                the first two words. See `scratch_bytes` for what to pass.
            spin: Whether a kernel may follow soon.
        """
        block = np.zeros(Word.FIRST + len(words), np.int64)
        block[Word.CONTEXT] = self._context.ctypes.data
        block[Word.KERNEL] = kernel
        block[Word.COMBINE], block[Word.COMBINE_UNITS] = combine or (0, 0)
        block[Word.UNITS], block[Word.POINTERS], block[Word.WORDS] = units, pointers, len(words)
        block[Word.SHARED_BYTES], block[Word.THREAD_BYTES] = scratch
        block[Word.RELEASE] = cost_ns >= RELEASE_NS
        block[Word.CHUNK] = self.chunk(units, cost_ns)
        block[Word.SPIN] = SPIN if spin else 0
        block[Word.FIRST :] = words
        if block[Word.CHUNK]:
            self.workers.start()
        if self.direct:
            builtin: Launcher = self._builtin("launch", block)
            return builtin
        return functools.partial(self._portable, block)

    def loop(self, assembled: Assembled) -> Launcher:
        """A function of the arrays that a loop reads, those that it writes, and its frame.

        It raises what a signal raises meanwhile, as `KeyboardInterrupt`, and returns True where a
        check has failed: its results are then not written.
        """
        tape = np.zeros(Tape.SIZE, np.int64)
        tape[Tape.CONTEXT] = self._context.ctypes.data
        tape[Tape.CODE] = assembled.code.ctypes.data
        tape[Tape.IMAGE], tape[Tape.IMAGE_BYTES] = (
            assembled.image.ctypes.data, assembled.image.nbytes,
        )  # fmt: skip
        tape[Tape.MOVING] = assembled.moving.ctypes.data
        tape[Tape.MOVING_COUNT] = len(assembled.moving)
        tape[Tape.RELEASE] = assembled.ns >= RELEASE_NS
        if self.direct:
            if "loop" not in self._methods:
                address = self._loops.addresses["fgrad_loop"]
                self._methods["loop"] = _MethodDef(b"loop", address, _FASTCALL, None)
            builtin: Launcher = self._builtin("loop", tape)
            return builtin
        return functools.partial(self._portable_loop, tape, assembled.image)

    def launch_many(self, parts: Sequence[Part], *, cost_ns: float, spin: bool) -> Launcher:
        """A function of the operands of several kernels, which share their units among threads.

        It takes the operands of the first, of the second, …, and scratch memory if it needs any.

        Args:
            parts: The kernels.
            cost_ns: How long all of them take one thread.
            spin: Whether a kernel may follow soon.
        """
        address = self._code.addresses
        combined = sum(p.combine_units for p in parts)
        head = table(parts)
        call = self.launch(
            address["fgrad_many"], [0, 0], int(head[1]), sum(p.units for p in parts),
            cost_ns=cost_ns,
            combine=(address["fgrad_many_combine"], combined) if combined else None,
            scratch=scratch_of(parts),
            spin=spin,
        )  # fmt: skip
        return functools.partial(call, head)

    def alike(self, arrays: Sequence[ArrayImpl]) -> Callable[..., bool] | None:
        """A function of values: whether they are arrays of the same types as these, one by one.

        None where objects cannot be read directly. It says no to some that have equal types, as
        when their dtypes are equal but not identical.

        Args:
            arrays: What to compare with; they hold NumPy arrays, whose dtypes must live on.
        """
        if not (self.direct and self._context[Context.ARRAY]):
            return None
        block = likeness.table(arrays)
        block[likeness.Head.CONTEXT] = self._context.ctypes.data
        found: Callable[..., bool] = self._builtin("alike", block)
        return found

    def sole(self, references: int) -> Callable[..., bool] | None:
        """A function of arrays: whether nobody but the caller can see the memory of any of them.

        It says no to some that have their memory from elsewhere. None where references cannot be
        counted.

        Args:
            references: Those that the caller has to each, beside the arguments of the call.
        """
        if not self.direct:
            return None
        for more in range(3):  # how arguments refer to arrays depends on the version of Python
            block = np.array([self._context.ctypes.data, references + more], np.int64)
            found: Callable[..., bool] = self._builtin("sole", block)
            held = [np.zeros(1)] * references
            if found(*map(held.__getitem__, (0,))):
                another = held[0]
                told = found(*map(held.__getitem__, (0,)))
                del another
                return None if told else found
        return None

    def scratch_bytes(self, scratch: tuple[int, int]) -> int:
        """The size of the array that a launch takes as its last argument; 0: it takes none."""
        shared, own = scratch
        return shared + own * self.workers.threads

    def chunk(self, units: int, cost_ns: float) -> int:
        """Units at a time, 0 where sharing does not pay: a few chunks a thread, none too small."""
        threads = self.workers.threads
        if threads == 1 or units < 2 or cost_ns < SHARE_NS:
            return 0
        fair = -(-units // (4 * threads))
        least = int(CHUNK_NS * units / cost_ns) + 1
        chunk = max(fair, least)
        return chunk if chunk < units else 0

    @functools.cached_property
    def _loops(self) -> Code:
        """What runs loops."""
        return self.engine.runtime(interpreter.NAMES, runtime.loops(object.__basicsize__))

    @functools.cached_property
    def _tape(self) -> Callable[[int, int], int]:
        # With the GIL: what a signal raises is then raised by this call.
        kind = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
        run: Callable[[int, int], int] = kind(self._loops.addresses["fgrad_tape"])
        return run

    def _builtin(self, which: str, block: Any) -> Any:
        return self._make(ctypes.addressof(self._methods[which]), block, None)

    def _portable(self, block: Any, *arrays: Any) -> None:
        n = int(block[Word.POINTERS])
        args = np.empty(n + len(block) - Word.FIRST, np.int64)
        args[:n] = [a.ctypes.data for a in arrays[:n]]
        args[n:] = block[Word.FIRST :]
        if len(arrays) > n:
            place = arrays[n].ctypes.data
            args[n : n + 2] = place, place + block[Word.SHARED_BYTES]
        self._run(block.ctypes.data, args.ctypes.data)

    def _portable_loop(self, tape: Any, image: Any, *arrays: Any) -> bool:
        frame = arrays[-1][: image.nbytes].view(np.int64)
        frame[:] = image
        for i, x in enumerate(arrays[:-1], Frame.OPERANDS):
            frame[i] = x.ctypes.data
        return bool(self._tape(tape.ctypes.data, frame.ctypes.data) == _FAILED)

    def _works(self, head: int) -> bool:
        """Whether arrays look as expected, and a builtin computes what it should."""
        asked = os.environ.get("FGRAD_CPU_CALL")
        if asked == "ctypes":
            return False
        if asked:
            raise ConfigError(f"environment variable FGRAD_CPU_CALL={asked!r}: accepted is ctypes")
        if not _layout_holds(head):
            warnings.warn(
                "fgrad reads arrays through ctypes, which makes small programs slower: this NumPy "
                "does not lay out arrays as its C API says",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        return True


def _layout_holds(head: int) -> bool:
    """Whether type, data pointer and flags of arrays are where NumPy's C API puts them."""
    whole = np.arange(6, dtype=np.int32)
    for x in (whole, whole[1:], whole[::2], whole.reshape(2, 3).T):
        data = ctypes.c_void_p.from_address(id(x) + head).value
        flags = ctypes.c_int.from_address(id(x) + head + 48).value
        expected = x.flags.c_contiguous and x.flags.aligned
        bits = flags & _C_CONTIGUOUS_AND_ALIGNED
        kind = ctypes.c_void_p.from_address(id(x) + head - 8).value
        lengths = ctypes.c_void_p.from_address(id(x) + head + 16).value or 0
        if (
            kind != id(np.ndarray)
            or ctypes.c_int.from_address(id(x) + head + 8).value != x.ndim
            or ctypes.c_void_p.from_address(id(x) + head + 40).value != id(x.dtype)
            or tuple((ctypes.c_ssize_t * x.ndim).from_address(lengths)) != x.shape
            or data != x.ctypes.data
            or (bits == _C_CONTIGUOUS_AND_ALIGNED) != expected
        ):
            return False
    return True


def _ready_by_flags(*arrays: Any) -> bool:
    return all(type(a) is np.ndarray and a.flags.c_contiguous and a.flags.aligned for a in arrays)


def _started(engine: Engine) -> Callable[[], Code]:
    """Begin to make the code that runs launches; what is returned waits for it."""
    text = runtime.text(engine.target.architecture, object.__basicsize__)
    return engine.begun(runtime.NAMES, text)


_begun: list[Callable[[], Code]] = []


def begin() -> None:
    """Have the code that runs launches made while the caller does something else."""
    if not _begun and not functions.cache_info().currsize:
        _begun.append(_started(engine()))


@functools.cache
def functions() -> Functions:
    """The functions of this process."""
    return Functions(engine(), thread_count(), code=_begun.pop()() if _begun else None)


@functools.cache
def sole(references: int) -> Callable[..., bool] | None:
    """`Functions.sole` of this process."""
    return functions().sole(references)

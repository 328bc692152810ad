"""cuBLASLt by ctypes: matrix products with epilogues, which a CUDA graph can capture.

CuPy's own products refuse to be captured. A product is described once (`gemm.describe`); its
descriptors and its algorithm are made once a call site (`Product`), so that running it only
launches: no allocation, no search, no synchronisation.

Numbers and sizes of enumerations are those of ``cublasLt.h`` and ``library_types.h``, the same in
CUDA 12 and 13.
"""

import ctypes
import threading
from collections.abc import Sequence
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cuda import tuning
from fgrad.backends.cuda.gemm import Gemm, Matrix
from fgrad.core.errors import LibraryError

# cudaDataType_t
DATA_TYPES = {
    "float32": 0, "float64": 1, "float16": 2, "complex64": 4, "complex128": 5, "bfloat16": 14,
}  # fmt: skip
# cublasComputeType_t: 32-bit floats in full, by TF32 or bfloat16 parts of the operands; float64.
FULL, TF32, BF16 = "float32", "tf32", "bfloat16"
_COMPUTE = {FULL: 68, TF32: 77, BF16: 75}
_COMPUTE_64F = 70
# cublasLtMatmulDescAttributes_t
_TRANSA, _TRANSB, _EPILOGUE, _BIAS_POINTER, _BIAS_DATA_TYPE = 3, 4, 7, 8, 26
# cublasLtMatrixLayoutAttribute_t
_BATCH_COUNT, _BATCH_STRIDE = 5, 6
# cublasLtMatmulPreferenceAttributes_t
_MAX_WORKSPACE, _REDUCTION_MASK = 1, 3
_MIN_ALIGNMENTS = (5, 6, 7, 8)  # of A, B, C, D
# cublasLtReductionScheme_t. A sum that is split is put together in a step of its own, in the
# dtype computed in; other schemes add in turn into the output, or round each part to its dtype.
_DETERMINISTIC = 2
_CONFIG_REDUCTION_SCHEME = 3  # cublasLtMatmulAlgoConfigAttributes_t
EPILOGUES = {None: 1, "bias": 4, "gelu_bias": 36}  # cublasLtEpilogue_t; its GELU is the tanh form
CANDIDATES = 8  # algorithms that the heuristic is asked for
_STATUS = {
    1: "not initialized", 3: "allocation failed", 7: "invalid value", 8: "architecture mismatch",
    11: "mapping error", 13: "execution failed", 14: "internal error", 15: "not supported",
    16: "license error",
}  # fmt: skip


_ALIGNED = 256  # an address that is divided by all alignments


class _Algorithm(ctypes.Structure):
    """``cublasLtMatmulAlgo_t``."""

    _fields_ = [("data", c_uint64 * 8)]


class _Heuristic(ctypes.Structure):
    """``cublasLtMatmulHeuristicResult_t``."""

    _fields_ = [
        ("algorithm", _Algorithm), ("workspace_bytes", c_size_t), ("state", c_int),
        ("waves", c_float), ("reserved", c_int * 4),
    ]  # fmt: skip


_P, _PP = c_void_p, ctypes.POINTER(c_void_p)
_SET = (_P, c_int, _P, c_size_t)  # of an attribute of a descriptor
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cublasLtCreate": (_PP,),
    "cublasLtMatmulDescCreate": (_PP, c_int, c_int),
    "cublasLtMatmulDescSetAttribute": _SET,
    "cublasLtMatmulDescDestroy": (_P,),
    "cublasLtMatrixLayoutCreate": (_PP, c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutSetAttribute": _SET,
    "cublasLtMatrixLayoutDestroy": (_P,),
    "cublasLtMatmulPreferenceCreate": (_PP,),
    "cublasLtMatmulPreferenceSetAttribute": _SET,
    "cublasLtMatmulPreferenceDestroy": (_P,),
    "cublasLtMatmulAlgoGetHeuristic": (*(_P,) * 7, c_int, _P, ctypes.POINTER(c_int)),
    "cublasLtMatmulAlgoConfigGetAttribute": (_P, c_int, _P, c_size_t, _P),
    "cublasLtMatmul": (*(_P,) * 14, c_size_t, _P),
}


class Spec(NamedTuple):
    """All that a product depends on.

    Attributes:
        gemm: Shapes and layouts.
        dtype: Of both operands, a name.
        out_dtype: Of the result.
        compute: How float32 is multiplied: 'float32', 'tf32' or 'bfloat16'.
        added: Whether the product is added to what the result holds.
        epilogue: None, 'bias' or 'gelu_bias': a vector over the columns of the result is added,
            and GELU applied in its tanh form, before the result is rounded.
        workspace_bytes: The most that an algorithm may use.
        tuned: Whether algorithms are timed (see `tuning`), not taken from the heuristic.
    """

    gemm: Gemm
    dtype: str
    out_dtype: str
    compute: str = FULL
    added: bool = False
    epilogue: str | None = None
    workspace_bytes: int = 0
    tuned: bool = False

    def __str__(self) -> str:
        g = self.gemm
        shapes = f"[{g.stack}, {g.n}, {g.k}] @ [{g.stack}, {g.k}, {g.m}]"
        rest = f" with {self.epilogue}" if self.epilogue else ""
        return f"{self.dtype}{shapes} -> {self.out_dtype} computed in {self.compute}{rest}"


class Lt:
    """The library on one device."""

    def __init__(self) -> None:
        found = import_module("cuda.pathfinder").load_nvidia_dynamic_lib("cublasLt")
        self.functions = ctypes.CDLL(found.abs_path)
        self.functions.cublasLtGetVersion.restype = c_size_t
        for name, types in _SIGNATURES.items():
            function = getattr(self.functions, name)
            function.argtypes, function.restype = types, c_int
        self.handle = c_void_p()
        self.call("cublasLtCreate", "to start", byref(self.handle))

    def call(self, name: str, what: str, *args: Any) -> None:
        """Call a function of the library.

        Raises:
            LibraryError: Its status is not 0.
        """
        status = getattr(self.functions, name)(*args)
        if status:
            said = _STATUS.get(status, "unknown")
            raise LibraryError(f"cuBLASLt was asked {what}: {name} returned {status} ({said})")

    @property
    def version(self) -> int:
        """The library's number."""
        return int(self.functions.cublasLtGetVersion())


_lock = threading.Lock()


@cache
def _of_device(device: int) -> Lt:
    return Lt()


def current() -> Lt:
    """The library on the current device."""
    device = import_module("cupy").cuda.runtime.getDevice()
    with _lock:
        return _of_device(device)


class Product:
    """A product with its descriptors and its algorithm, on the device that is current."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self.lt = spec, current()
        self._made: list[tuple[str, c_void_p]] = []
        self._descriptor = self._describe()
        g = spec.gemm
        self._layouts = [
            self._layout(spec.dtype, g.a), self._layout(spec.dtype, g.b),
            self._layout(spec.out_dtype, g.out),
        ]  # fmt: skip
        scale = np.dtype(_scale_type(spec))
        self._alpha, self._beta = np.ones(1, scale), np.full(1, spec.added, scale)
        self._bias = 0
        self.algorithms = self._search()
        self.use(self._fastest() if spec.tuned and len(self.algorithms) > 1 else 0)

    def use(self, index: int) -> None:
        """Take another of the algorithms that the heuristic gave."""
        self._algorithm = self.algorithms[index].algorithm

    def run(
        self, stream: int, left: int, right: int, out: int, workspace: int, bias: int = 0
    ) -> None:
        """Launch it.

        Args:
            stream: A CUDA stream, as a number.
            left: The address of the buffer of the left operand, as all addresses divided by 16.
            right: Of the right operand.
            out: Of the result.
            workspace: Of `Spec.workspace_bytes` bytes, aligned to 256.
            bias: Of the vector of the epilogue.

        Raises:
            LibraryError: The library refuses.
        """
        spec, lt = self.spec, self.lt
        if bias != self._bias:
            name = "cublasLtMatmulDescSetAttribute"
            self._set(name, self._descriptor, _BIAS_POINTER, c_void_p(bias))
            self._bias = bias
        size, out_size = _itemsize(spec.dtype), _itemsize(spec.out_dtype)
        a, b, d = self._layouts
        for at in spec.gemm.calls:
            result = out + at.out * out_size
            lt.call(
                "cublasLtMatmul", f"for {spec}", lt.handle, self._descriptor,
                self._alpha.ctypes.data, right + at.a * size, a, left + at.b * size, b,
                self._beta.ctypes.data, result, d, result, d,
                byref(self._algorithm), workspace or None, spec.workspace_bytes, stream or None,
            )  # fmt: skip

    def __call__(self, stream: int, pointers: Sequence[int]) -> None:
        """As a `calls.ForeignCall` runs: left, right, result, workspace and, if any, bias."""
        left, right, out, workspace, *bias = pointers
        self.run(stream, left, right, out, workspace, *bias)

    def _fastest(self) -> int:
        """The number of the algorithm that takes the shortest time."""

        def run(algorithm: int, stream: int, *pointers: int) -> None:
            self.use(algorithm)
            self(stream, pointers)

        spec, runtime = self.spec, import_module("cupy").cuda.runtime
        sizes = spec.gemm.extents(_itemsize(spec.dtype), _itemsize(spec.out_dtype))
        bias = (spec.gemm.m * _itemsize(spec.out_dtype),) if spec.epilogue else ()
        device = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
        key = f"{device} cuBLASLt {self.lt.version} {spec!r}"
        found = [bytes(h.algorithm) for h in self.algorithms]
        time = tuning.timer(run, (*sizes, spec.workspace_bytes, *bias))
        return tuning.chosen(key, found, time)

    def _describe(self) -> c_void_p:
        spec = self.spec
        wide = _scale_type(spec) in ("float64", "complex128")
        compute = _COMPUTE_64F if wide else _COMPUTE[spec.compute]
        made = self._create(
            "cublasLtMatmulDesc", compute, DATA_TYPES[_scale_type(spec)]
        )  # fmt: skip
        g = spec.gemm
        attributes: list[tuple[int, Any]] = [
            (_TRANSA, ctypes.c_int32(g.a.transposed)), (_TRANSB, ctypes.c_int32(g.b.transposed)),
            (_EPILOGUE, c_uint32(EPILOGUES[spec.epilogue])),
        ]  # fmt: skip
        if spec.epilogue:
            attributes.append((_BIAS_DATA_TYPE, ctypes.c_int32(DATA_TYPES[spec.out_dtype])))
            # The search looks at its alignment alone.
            attributes.append((_BIAS_POINTER, c_void_p(_ALIGNED)))
        for key, value in attributes:
            self._set("cublasLtMatmulDescSetAttribute", made, key, value)
        return made

    def _layout(self, dtype: str, m: Matrix) -> c_void_p:
        made = self._create(
            "cublasLtMatrixLayout", DATA_TYPES[dtype], m.rows, m.columns, m.lead
        )  # fmt: skip
        if self.spec.gemm.stack > 1:
            name = "cublasLtMatrixLayoutSetAttribute"
            self._set(name, made, _BATCH_COUNT, ctypes.c_int32(self.spec.gemm.stack))
            self._set(name, made, _BATCH_STRIDE, c_int64(m.stride))
        return made

    def _search(self) -> list[_Heuristic]:
        """The algorithms that the heuristic gives, the best first, all deterministic."""
        spec, lt = self.spec, self.lt
        preference = self._create("cublasLtMatmulPreference")
        name = "cublasLtMatmulPreferenceSetAttribute"
        self._set(name, preference, _MAX_WORKSPACE, c_uint64(spec.workspace_bytes))
        self._set(name, preference, _REDUCTION_MASK, c_uint32(_DETERMINISTIC))
        a, b, out = spec.gemm.alignments(_itemsize(spec.dtype), _itemsize(spec.out_dtype))
        for key, value in zip(_MIN_ALIGNMENTS, (a, b, out, out), strict=True):
            self._set(name, preference, key, c_uint32(value))
        found, count = (_Heuristic * CANDIDATES)(), c_int()
        left, right, result = self._layouts
        lt.call(
            "cublasLtMatmulAlgoGetHeuristic", f"for an algorithm for {spec}", lt.handle,
            self._descriptor, left, right, result, result, preference, CANDIDATES,
            ctypes.addressof(found), byref(count),
        )  # fmt: skip
        usable = [h for h in found[: count.value] if h.state == 0 and self._repeats(h)]
        if not usable:
            raise LibraryError(
                f"cuBLASLt has no deterministic algorithm for {spec} within "
                f"{spec.workspace_bytes} bytes of workspace"
            )
        return usable

    def _repeats(self, h: _Heuristic) -> bool:
        scheme, written = c_uint32(), c_size_t()
        self.lt.call(
            "cublasLtMatmulAlgoConfigGetAttribute", "how an algorithm sums", byref(h.algorithm),
            _CONFIG_REDUCTION_SCHEME, byref(scheme), ctypes.sizeof(scheme), byref(written),
        )  # fmt: skip
        return not scheme.value & ~_DETERMINISTIC

    def _create(self, kind: str, *args: Any) -> c_void_p:
        made = c_void_p()
        self.lt.call(f"{kind}Create", f"to describe {self.spec}", byref(made), *args)
        self._made.append((f"{kind}Destroy", made))
        return made

    def _set(self, name: str, target: c_void_p, key: int, value: Any) -> None:
        what = f"to describe {self.spec}"
        self.lt.call(name, what, target, key, byref(value), ctypes.sizeof(value))

    def __del__(self) -> None:
        for name, made in getattr(self, "_made", ()):
            getattr(self.lt.functions, name)(made)


def _scale_type(spec: Spec) -> str:
    """The dtype of alpha and beta, and of the sums."""
    return spec.dtype if spec.dtype in ("float64", "complex64", "complex128") else "float32"


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize

"""cuBLASLt on the CPU: functions with the library's C types, which compute by NumPy.

What the real library is given passes through the same ABI, by callbacks of ctypes: sizes and kinds
of attributes are checked as it checks them.
"""

import ctypes
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

import ml_dtypes
import numpy as np

SUCCESS, INVALID, UNSUPPORTED = 0, 7, 15
TYPES = {
    0: np.float32, 1: np.float64, 2: np.float16, 4: np.complex64, 5: np.complex128,
    14: ml_dtypes.bfloat16,
}  # fmt: skip
COMPUTE = {68: np.float32, 70: np.float64, 74: None, 75: np.float32, 77: np.float32}
# Attribute → its C type, from the header's comments.
DESC = {3: c_int32, 4: c_int32, 7: c_uint32, 8: c_void_p, 26: c_int32}
LAYOUT = {5: c_int32, 6: c_int64}
PREFERENCE = {1: c_uint64, 3: c_uint32, 5: c_uint32, 6: c_uint32, 7: c_uint32, 8: c_uint32}


class FakeLibrary:
    """What `ctypes.CDLL` of the library would be.

    Attributes:
        schemes: The reduction schemes of the algorithms that the heuristic gives.
        preferences: The attributes of the last search.
        alive: How many descriptors were not destroyed.
    """

    def __init__(self, schemes=(0,)):
        self.schemes, self.preferences, self.alive = schemes, {}, 0
        self.objects, self.count = {}, 0
        self._keep = []
        p, pp = c_void_p, POINTER(c_void_p)
        setter = (p, c_int, p, c_size_t)
        for name, function, types in (
            ("cublasLtCreate", self.start, (pp,)),
            ("cublasLtMatmulDescCreate", self.describe, (pp, c_int, c_int)),
            ("cublasLtMatmulDescSetAttribute", self.setter(DESC), setter),
            ("cublasLtMatmulDescDestroy", self.destroy, (p,)),
            ("cublasLtMatrixLayoutCreate", self.lay_out, (pp, c_int, c_uint64, c_uint64, c_int64)),
            ("cublasLtMatrixLayoutSetAttribute", self.setter(LAYOUT), setter),
            ("cublasLtMatrixLayoutDestroy", self.destroy, (p,)),
            ("cublasLtMatmulPreferenceCreate", lambda out: self.make(out, {}), (pp,)),
            ("cublasLtMatmulPreferenceSetAttribute", self.setter(PREFERENCE), setter),
            ("cublasLtMatmulPreferenceDestroy", self.destroy, (p,)),
            ("cublasLtMatmulAlgoGetHeuristic", self.search, (*(p,) * 7, c_int, p, POINTER(c_int))),
            ("cublasLtMatmulAlgoConfigGetAttribute", self.config, (p, c_int, p, c_size_t, p)),
            ("cublasLtMatmul", self.multiply, (*(p,) * 14, c_size_t, p)),
        ):
            made = ctypes.CFUNCTYPE(c_int, *types)(self.guarded(function))
            self._keep.append(made)
            setattr(self, name, Function(made))
        self.cublasLtGetVersion = lambda: 130000

    @staticmethod
    def guarded(function):
        def call(*args):
            try:
                found = function(*args)
            except AssertionError:
                return INVALID
            return SUCCESS if found is None else found

        return call

    def make(self, out, value):
        self.count += 1
        self.alive += 1
        self.objects[self.count] = value
        out[0] = self.count

    def start(self, out):
        out[0] = 77

    def describe(self, out, compute, scale):
        assert TYPES[scale] in (np.float32, np.float64, np.complex64, np.complex128)
        assert np.dtype(TYPES[scale]).type(0).real.dtype == COMPUTE[compute]
        self.make(out, {"compute": compute, "scale": scale, 3: 0, 4: 0, 7: 1})

    def lay_out(self, out, kind, rows, columns, lead):
        assert kind in TYPES
        assert lead >= rows
        self.make(out, {"type": TYPES[kind], "shape": (rows, columns), "lead": lead, 5: 1, 6: 0})

    def setter(self, kinds):
        def set_attribute(target, key, value, size):
            assert size == ctypes.sizeof(kinds[key])
            self.objects[target][key] = kinds[key].from_address(value).value

        return set_attribute

    def destroy(self, target):
        del self.objects[target]
        self.alive -= 1

    def search(self, handle, desc, a, b, c, d, preference, wanted, results, count):
        assert handle == 77
        self.check(desc, a, b, c, d)
        self.preferences = dict(self.objects[preference])
        given = self.schemes[:wanted]
        for i, scheme in enumerate(given):
            # 64 bytes of algorithm, workspace, state, waves, reserved
            at = results + 96 * i
            ctypes.memset(at, 0, 96)
            c_uint64.from_address(at).value = scheme + 1000
            c_size_t.from_address(at + 64).value = 0
            c_int.from_address(at + 72).value = SUCCESS
            c_float.from_address(at + 76).value = 1.0
        count[0] = len(given)

    def config(self, algorithm, key, out, size, written):
        assert (key, size) == (3, 4)
        c_uint32.from_address(out).value = c_uint64.from_address(algorithm).value - 1000

    def check(self, desc, a, b, c, d):
        """m, n, k and the layouts; raises where they do not fit."""
        spec, left, right, old, out = (self.objects[x] for x in (desc, a, b, c, d))
        shapes = [x["shape"][::-1] if spec[t] else x["shape"] for x, t in ((left, 3), (right, 4))]
        (m, k), (k2, n) = shapes
        assert k == k2
        assert old["shape"] == out["shape"] == (m, n)
        assert len({x[5] for x in (left, right, old, out)}) == 1
        assert left["type"] == right["type"]
        return m, n, k

    def multiply(
        self, handle, desc, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout,
        algorithm, workspace, workspace_size, stream,
    ):  # fmt: skip
        assert handle == 77
        assert workspace or not workspace_size
        m, _, _ = self.check(desc, a_layout, b_layout, c_layout, d_layout)
        spec, left, right, out = (
            self.objects[x] for x in (desc, a_layout, b_layout, d_layout)
        )  # fmt: skip
        scale = TYPES[spec["scale"]]
        one, old = (
            np.frombuffer(ctypes.string_at(x, np.dtype(scale).itemsize), scale)[0]
            for x in (alpha, beta)
        )
        for i in range(out[5]):
            x, y, z = (
                matrix(at, layout, i) for at, layout in ((a, left), (b, right), (d, out))
            )  # fmt: skip
            x, y = (v.T if spec[t] else v for v, t in ((x, 3), (y, 4)))
            found = one * (x.astype(scale) @ y.astype(scale))
            if old:
                found = found + old * matrix(c, out, i).astype(scale)
            if spec[7] in (4, 36):
                bias = np.ctypeslib.as_array((ctypes.c_uint8 * (m * z.itemsize)).from_address(
                    spec[8]
                )).view(z.dtype)  # fmt: skip
                assert TYPES[spec[26]] == z.dtype
                found = found + bias.astype(scale)[:, None]
            if spec[7] == 36:
                inner = 0.7978845608 * (found + 0.044715 * found**3)
                found = found * 0.5 * (1 + np.tanh(inner))
            z[...] = found.astype(z.dtype)


class Function:
    """A callback that is given signatures as functions of a library are, and called by them."""

    def __init__(self, made):
        self.address = ctypes.cast(made, c_void_p).value
        self.argtypes, self.restype = (), c_int

    def __call__(self, *args):
        return ctypes.CFUNCTYPE(self.restype, *self.argtypes)(self.address)(*args)


def matrix(address, layout, i):
    """Matrix number i of a stack, as an array over the memory itself."""
    dtype = np.dtype(layout["type"])
    rows, columns = layout["shape"]
    count = layout["lead"] * (columns - 1) + rows
    start = address + i * layout[6] * dtype.itemsize
    flat = np.ctypeslib.as_array((ctypes.c_uint8 * (count * dtype.itemsize)).from_address(start))
    strides = (dtype.itemsize, layout["lead"] * dtype.itemsize)
    return np.lib.stride_tricks.as_strided(flat.view(dtype), (rows, columns), strides)

"""Products of small matrices by code of our own."""

import ctypes

import numpy as np
import pytest

from fgrad.backends.cpu import small
from fgrad.backends.cpu.engine import engine

RNG = np.random.default_rng(0)


def run(code, name, a, b, c, *, add):
    function = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64,
        ctypes.c_void_p, *[ctypes.c_int64] * 5,
    )(code.addresses[name])  # fmt: skip
    size = a.dtype.itemsize
    (m, k), n = a.shape, b.shape[1]
    function(
        a.ctypes.data, a.strides[0] // size, a.strides[1] // size, b.ctypes.data,
        b.strides[0] // size, c.ctypes.data, c.strides[0] // size, m, n, k, add,
    )  # fmt: skip


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", ["f", "d"])
def test_products_of_all_sizes_touch_nothing_else(dtype, vector_bytes):
    text = small.text(vector_bytes).replace("fgrad_product", f"fgrad_product{vector_bytes}")
    names = [
        n.replace("fgrad_product", f"fgrad_product{vector_bytes}") for n in small.NAMES.values()
    ]
    code = engine().runtime(names, text)
    name = names[dtype == "d"]
    for m, n, k in [(1, 1, 1), (5, 3, 2), (8, 32, 7), (9, 33, 5), (17, 65, 64), (2, 100, 3)]:
        for flipped in (False, True):
            x = RNG.normal(size=(k, m) if flipped else (m, k)).astype(dtype)
            a = x.T if flipped else x
            b = RNG.normal(size=(k, n + 3)).astype(dtype)[:, :n]
            for add in (False, True):
                whole = np.full((m, n + 5), 7, dtype)
                run(code, name, a, b, whole[:, :n], add=add)
                want = a.astype("d") @ b.astype("d") + 7 * add
                rtol = 1e-5 if dtype == "f" else 1e-13
                np.testing.assert_allclose(whole[:, :n], want, rtol=rtol, atol=rtol * 30)
                assert (whole[:, n:] == 7).all()

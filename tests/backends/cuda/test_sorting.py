"""Sorts by kernels, bit for bit as the eager rules sort."""

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.backends.cuda import sorting
from fgrad.backends.cuda.library import plan_of
from fgrad.compile.plan import Library, View
from fgrad.core.primitive import primitive
from tests.backends.cuda.running import copied

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = ["bool", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64", "float16",
          BFLOAT16, "float32", "float64", "complex64", "complex128"]  # fmt: skip


def values(shape, dtype, seed=0):
    """Numbers of which many are equal, with all that is special."""
    dtype, rng = np.dtype(dtype), np.random.default_rng(seed)
    if dtype.kind in "biu":
        wide = rng.integers(0, 2**63, shape, dtype=np.uint64) * np.uint64(2)
        few = rng.integers(0, 7, shape).astype(dtype)
        return np.where(rng.random(shape) < 0.5, few, wide.astype(dtype))
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1.0])
    if dtype.kind == "c":
        return (values(shape, f"f{dtype.itemsize // 2}", seed)
                + np.complex64(1j) * 0).astype(dtype) + parts(shape, dtype, seed)  # fmt: skip
    found = np.where(rng.random(shape) < 0.3, rng.choice(special, shape), rng.normal(size=shape))
    return np.round(found, 1).astype(dtype)


def parts(shape, dtype, seed):
    out = np.zeros(shape, dtype)
    out.imag = values(shape, f"f{dtype.itemsize // 2}", seed + 1)
    return out


def run(execute, prim, operands, **params):
    """The results of a primitive, by its plan, and by its eager rule."""
    from fgrad.core.tracing import bind

    jaxpr = fg.make_jaxpr(lambda *xs: bind(prim, *xs, **params))(*operands).jaxpr
    (eqn,) = jaxpr.eqns
    views = tuple(
        View(i, 0, x.shape, tuple(s // x.itemsize for s in x.strides))
        for i, x in enumerate(operands)
    )
    plan = plan_of(Library(eqn, 0, views, tuple(range(len(eqn.outputs)))))
    outs = [copied(np.zeros(v.aval.shape, v.aval.dtype)) for v in eqn.outputs]
    execute(plan, [copied(x.ravel(order="K")) for x in operands], outs)
    shaped = [o.reshape(v.aval.shape) for o, v in zip(outs, eqn.outputs, strict=True)]
    with np.errstate(all="ignore"):
        return shaped, prim.eager(np, *operands, **params), plan


def assert_same(found, want):
    for a, b in zip(found, want, strict=True):
        assert a.dtype == b.dtype
        assert np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


@pytest.mark.parametrize(
    ("shape", "axis", "dtype"),
    [((5,), 0, "float32"), ((2, 40), 1, "int64"), *(((3, 70, 2), 1, d) for d in DTYPES)],
    ids=str,
)
def test_sort_with_what_goes_along(dtype, shape, axis, execute):
    x = values(shape, dtype)
    places = np.arange(x.size, dtype=np.int32).reshape(shape)
    params = {"dimension": axis, "is_stable": True, "num_keys": 1}
    found, want, _ = run(execute, primitive("sort"), (x, places), **params)
    # Which of several NaN or zeros comes first is told by what goes along.
    assert_same(found, want)


@pytest.mark.parametrize("length", [1, 2, 3, 64, 65, 2048, 2049, 5000])
def test_rows_of_any_length(length, execute):
    x = values((2, length), "float32")
    params = {"dimension": 1, "is_stable": True, "num_keys": 1}
    found, want, plan = run(execute, primitive("sort"), (x,), **params)
    np.testing.assert_array_equal(found[0], want[0])
    assert len(plan.calls) == 2 + max(0, (-(-length // 256) - 1).bit_length())


def test_several_keys_of_several_dtypes(execute):
    keys = values((2, 3000), "int8") % 3, values((2, 3000), "complex64", 3)
    keys += (values((2, 3000), "float16", 5), values((2, 3000), "uint64", 6))
    operands = (*keys, np.arange(6000, dtype=np.int64).reshape(2, 3000))
    params = {"dimension": 1, "is_stable": True, "num_keys": 4}
    found, want, _ = run(execute, primitive("sort"), operands, **params)
    assert_same(found, want)


def test_transposed_operands(execute):
    x, y = values((40, 3), "float32").T, np.arange(120, dtype=np.int16).reshape(40, 3).T
    params = {"dimension": 1, "is_stable": True, "num_keys": 1}
    found, want, _ = run(execute, primitive("sort"), (x, y), **params)
    assert_same(found, want)


@pytest.mark.parametrize(
    ("shape", "k", "axis", "dtype"),
    [
        ((3, 2500), 7, 1, "uint64"), ((3, 2500), 7, 1, BFLOAT16), ((9, 4), 9, 0, "int8"),
        ((4, 3), 0, 1, "float32"),
    ],
    ids=str,
)  # fmt: skip
def test_top_k(dtype, shape, k, axis, execute):
    x = values(shape, dtype)
    found, want, _ = run(execute, lax.top_k_p, (x,), k=k, axis=axis)
    assert_same(found, want)


def test_no_elements_need_no_launch(execute):
    params = {"dimension": 0, "is_stable": True, "num_keys": 1}
    found, _, plan = run(execute, primitive("sort"), (np.zeros((0, 3), np.float32),), **params)
    assert found[0].shape == (0, 3)
    assert plan.calls == ()


def test_shared_memory_holds_a_chunk():
    for planes in range(1, 12):
        chunk = sorting._chunk(sorting.Rows((), 1, 10**6), 8 * planes + 4)
        assert chunk & (chunk - 1) == 0
        assert chunk * (8 * planes + 4) <= 48 << 10

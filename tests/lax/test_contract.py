import tracemalloc

import numpy as np
import pytest

from fgrad.core.avals import ShapedArray
from fgrad.core.dtypes import bfloat16
from fgrad.core.errors import AxisError, ConfigError, DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.transforms.linearize import record_flat
from fgrad.core.transforms.stage import stage
from fgrad.lax import contract_plans
from fgrad.lax.contract import Precision, batch_matmul, dot, dot_general, dot_general_p
from fgrad.lax.contract_plans import MATMUL, by_halves
from tests.lax.against_jax import check

CASES = [c for c in dot_general_p.spec.cases]  # noqa: C416


def _shapes(case):
    sizes = {}
    return [
        tuple(sizes.setdefault(n, 2 + len(sizes)) for n in part.split())
        for part in case.shapes.split(",")
    ]


def _arguments(case, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "c":
        return [
            np.asarray(rng.normal(size=s) + 1j * rng.normal(size=s), dtype) for s in _shapes(case)
        ]
    return [np.asarray(3 * rng.normal(size=s)).astype(dtype) for s in _shapes(case)]


@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32", "int32", "uint8", "bool"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_value_is_that_of_einsum(case, dtype):
    args = _arguments(case, dtype)
    out = dot_general(*args, case.params["dimension_numbers"])._data
    if dtype == "bool":
        wide = dot_general_p.spec.reference(*[a.astype(int) for a in args], **case.params)
        expected = wide > 0
    else:
        expected = dot_general_p.spec.reference(*args, **case.params)
    assert out.dtype == np.dtype(dtype)
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_transform_agrees_with_jax(case, dtype):
    from jax import lax

    numbers = case.params["dimension_numbers"]
    check(
        lambda x, y: dot_general(x, y, numbers),
        lambda x, y: lax.dot_general(x, y, numbers),
        _arguments(case, dtype),
    )


@pytest.mark.parametrize("dtype", ["float16", bfloat16])
def test_small_floats_are_summed_in_float32_and_rounded_once(dtype):
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=s).astype(dtype) for s in ((8, 300), (300, 4)))
    exact = x.astype(np.float64) @ y.astype(np.float64)
    out = dot(x, y)._data
    assert out.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(out, (x.astype("f4") @ y.astype("f4")).astype(dtype))
    wide = dot(x, y, preferred_element_type=np.float32)._data
    assert wide.dtype == np.float32
    np.testing.assert_allclose(wide, exact, rtol=1e-4, atol=1e-4)


def test_gradient_with_preferred_element_type_has_the_dtype_of_the_operand():
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=s).astype(bfloat16) for s in ((3, 5), (5, 4)))
    outs, tape = record_flat(
        lambda a, b: [dot(a, b, preferred_element_type="float32")],
        [as_value(x), as_value(y)],
        [True, True],
    )
    ct = rng.normal(size=(3, 4)).astype(np.float32)
    dx, dy = tape.backward([as_value(ct)], consume=False)
    assert outs[0].dtype == np.float32
    np.testing.assert_array_equal(dx._data, (ct @ y.astype("f4").T).astype(bfloat16))
    np.testing.assert_array_equal(dy._data, (x.astype("f4").T @ ct).astype(bfloat16))


def test_integers_sum_in_the_preferred_dtype():
    x = np.full((1, 300), 100, np.int8)
    assert dot(x, x.T, preferred_element_type=np.int32)._data.item() == 3_000_000
    assert dot(x, x.T, preferred_element_type=np.float32)._data.item() == 3e6
    assert dot(x, x.T)._data.item() == np.int64(3_000_000).astype(np.int8)


@pytest.mark.parametrize("strides", ["transposed", "negative", "broadcast", "stepped"])
def test_layouts(strides):
    rng = np.random.default_rng(2)
    x = {
        "transposed": rng.normal(size=(4, 3, 2)).transpose(2, 1, 0),
        "negative": rng.normal(size=(2, 3, 4))[:, ::-1, ::-1],
        "broadcast": np.broadcast_to(rng.normal(size=(3, 1)), (2, 3, 4)),
        "stepped": rng.normal(size=(2, 6, 8))[:, ::2, ::2],
    }[strides]
    y = rng.normal(size=(2, 5, 4)).swapaxes(1, 2)
    out = dot_general(x, y, (((2,), (1,)), ((0,), (0,))))._data
    np.testing.assert_allclose(out, np.einsum("bmk,bkn->bmn", x, y), rtol=1e-12)
    np.testing.assert_allclose(dot(x[0], y[0])._data, x[0] @ y[0], rtol=1e-12)


def test_nothing_to_contract_gives_zeros():
    out = dot(np.ones((2, 0), np.float32), np.ones((0, 3), np.float32))._data
    np.testing.assert_array_equal(out, np.zeros((2, 3), np.float32))


def test_gradients_need_no_transposes():
    """The cotangent of each operand comes out of one contraction in the operand's layout."""

    def program(numbers, *shapes):
        def f(*args):
            _, tape = record_flat(lambda a, b: [dot_general(a, b, numbers)], args[:2], [True, True])
            return tape.backward([args[2]], consume=False)

        values = [as_value(np.ones(s, np.float32)) for s in shapes]
        return [e.primitive.name for e in stage(f, [v.aval for v in values])[0].eqns]

    for numbers, x, y, out in [
        ((((1,), (0,)), ((), ())), (2, 3), (3, 4), (2, 4)),
        ((((1,), (1,)), ((), ())), (2, 3), (4, 3), (2, 4)),
        ((((2,), (0,)), ((), ())), (2, 5, 3), (3, 4), (2, 5, 4)),
        ((((2,), (1,)), ((0,), (0,))), (7, 2, 3), (7, 3, 4), (7, 2, 4)),
        ((((2,), (2,)), ((0,), (0,))), (7, 2, 3), (7, 4, 3), (7, 2, 4)),
    ]:
        assert set(program(numbers, x, y, out)) == {"dot_general"}, numbers


@pytest.mark.parametrize("invalid", dot_general_p.spec.invalid, ids=lambda i: i.match)
def test_invalid_operands(invalid):
    names = {"f32": np.float32, "f64": np.float64}
    args = [np.ones([int(n) for n in t[4:-1].split(",")], names[t[:3]]) for t in invalid.types]
    with pytest.raises(invalid.error, match=invalid.match):
        dot_general(*args, invalid.params["dimension_numbers"])


def test_preferred_element_type_must_hold_the_products():
    x = np.ones((2, 2), np.float32)
    for preferred in (np.float16, np.int32, np.complex64):
        with pytest.raises(DtypeError, match="preferred_element_type"):
            dot(x, x, preferred_element_type=preferred)


def test_precision_is_checked_and_kept():
    x = np.ones((2, 2), np.float32)
    for precision in (None, "highest", Precision.HIGH, ("default", None), "tensorfloat32"):
        np.testing.assert_array_equal(dot(x, x, precision=precision)._data, 2 * x)
    with pytest.raises(ConfigError, match="precision"):
        dot(x, x, precision="wrong")
    jaxpr, _ = stage(lambda a: [dot(a, a, precision="highest")], [as_value(x).aval])
    assert jaxpr.eqns[0].params["precision"] is Precision.HIGHEST


def test_dot_and_batch_matmul_name_their_ranks():
    with pytest.raises(ShapeError, match="one or two axes"):
        dot(np.ones((2, 2, 2)), np.ones((2, 2)))
    with pytest.raises(ShapeError, match="same number of axes"):
        batch_matmul(np.ones((2, 2, 2)), np.ones((2, 2)))
    with pytest.raises(AxisError, match="distinct"):
        dot_general(np.ones((2, 2)), np.ones((2, 2)), (((1, 1), (0, 1)), ((), ())))


def extremes(dtype, shape, seed):
    """Integers at the ends of their range, and between."""
    rng, info = np.random.default_rng(seed), np.iinfo(dtype)
    ends = np.array([info.min, info.min + 1, 0, 1, info.max - 1, info.max], dtype)
    drawn = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return np.where(rng.random(shape) < 0.5, rng.choice(ends, shape), drawn).astype(dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize(
    "numbers", [MATMUL, (((1,), (1,)), ((), ())), (((2,), (1,)), ((0,), (0,)))]
)
def test_large_products_of_integers_wrap_around_as_numpy_has_them(dtype, numbers):
    stack = (3,) * len(numbers[1][0])
    (left,), (right,) = numbers[0]
    x = extremes(dtype, (*stack, 60, 90), 0)
    y = extremes(dtype, (*stack, 90, 70), 1)
    if right == left:
        y = np.ascontiguousarray(np.swapaxes(y, -1, -2))
    assert by_halves(numbers, x, y, x.dtype) is not None
    matrix = np.swapaxes(y, -1, -2) if right == left else y
    for out in [dtype, *(dtype.rstrip("12368") + n for n in ("32", "64"))]:
        if np.dtype(out).itemsize < x.dtype.itemsize:
            continue
        got = dot_general(x, y, numbers, preferred_element_type=np.dtype(out))._data
        assert got.dtype == np.dtype(out)
        np.testing.assert_array_equal(got, np.matmul(x.astype(out), matrix.astype(out)))


def test_the_largest_sums_are_exact():
    """2^20 products of the largest halves, of which float64 must lose nothing."""
    terms = 1 << 20
    for dtype, value in (("uint32", 0xFFFFFFFF), ("int32", -(2**31)), ("int32", 0x7FFFFFFF)):
        x = np.full((4, terms), value, dtype)
        y = np.full((terms, 64), value, dtype)
        if value != 0xFFFFFFFF:
            y[::2] = 12345  # sums of odd and even parts
        assert by_halves(MATMUL, x, y[:, :1].repeat(64, 1), x.dtype) is None  # too many to convert
        product = contract_plans._halved(contract_plans.plan_of(MATMUL, 2, 2), x.dtype)
        y = y[:, :2]
        want = np.array([[int(value) * int(y[:, k].sum(dtype=object)) for k in range(2)]] * 4)
        np.testing.assert_array_equal(
            product(np, x, y), (want & 0xFFFFFFFF).astype(np.uint32).astype(dtype)
        )
    long = np.ones((400, terms + 1), np.int8)
    assert by_halves((((1,), (1,)), ((), ())), long, long, np.dtype(np.int8)) is None


@pytest.mark.parametrize("dtype", ["int8", "int32"])
@pytest.mark.parametrize("sizes", [(200, 300, 100), (300, 60, 300)])
def test_what_products_of_integers_take_is_known(dtype, sizes):
    m, k, n = sizes
    x, y = np.ones((m, k), dtype), np.ones((k, n), dtype)
    avals = [ShapedArray(a.shape, a.dtype) for a in (x, y)]
    params = {
        "dimension_numbers": MATMUL, "precision": None, "preferred_element_type": None
    }  # fmt: skip
    out = dot_general_p.abstract(*avals, **params)
    stated = dot_general_p.lower.workspace(avals, [out], params)
    tracemalloc.start()
    try:
        result = dot_general_p.eager(np, x, y, **params)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stated <= most <= 1.05 * stated + result.nbytes
    floats = [ShapedArray(a.shape, np.dtype("f")) for a in avals]
    assert dot_general_p.lower.workspace(floats, [floats[0]], params) == 0

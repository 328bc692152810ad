"""Values and shapes are NumPy's, over a table of calls."""

import warnings

import numpy as np
import pytest

import fgrad.numpy as fnp
from fgrad import Array
from tests.numpy.expressions import calls, evaluate

CALLS = calls("calls.txt")


@pytest.mark.parametrize("group", CALLS)
def test_calls(group: str) -> None:
    for call in CALLS[group]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, about divisions by zero and the like
            expected = evaluate(call, np, np.array)
        found = evaluate(call, fnp, fnp.asarray)
        assert len(found) == len(expected), call
        for a, b in zip(found, expected, strict=True):
            if not isinstance(b, np.ndarray | np.generic):
                assert a == b, call
                continue
            assert isinstance(a, Array), call
            assert a.shape == np.shape(b), call
            np.testing.assert_allclose(np.asarray(a), b, rtol=3e-5, atol=3e-6, err_msg=call)


def test_the_tables_cover_the_namespace() -> None:
    """Every function of the namespace is called in a table or tested by name."""
    lines = [c for name in ("calls.txt", "calls_jax.txt") for g in calls(name).values() for c in g]
    text = "\n".join(lines)
    elsewhere = {
        *("array_equal", "broadcast_shapes", "can_cast", "dtype", "einsum_path", "empty"),
        *("empty_like", "finfo", "from_dlpack", "array_repr", "array_str", "iinfo", "isdtype"),
        *("get_printoptions", "issubdtype", "iterable", "load", "ndarray", "printoptions"),
        *("polydiv", "promote_types", "save", "savez", "set_printoptions"),
    }
    missing = [
        name for name in dir(fnp)
        if callable(getattr(fnp, name)) and not name.startswith("_") and name.islower()
        and not isinstance(getattr(fnp, name), type)
        and f"xp.{name}(" not in text and f".{name}(" not in text and name not in elsewhere
    ]  # fmt: skip
    assert missing == []


ONE = np.ones(1)
WIDE = {
    "full": (lambda xp: xp.full((2,), 0.1, np.float64)),
    "full_like": (lambda xp: xp.full_like(ONE, 0.1)),
    "linspace": (lambda xp: xp.linspace(0.1, 1.3, 7, dtype=np.float64)),
    "logspace": (lambda xp: xp.logspace(0.1, 1.3, 7, dtype=np.float64)),
    "geomspace": (lambda xp: xp.geomspace(0.1, 1.3, 7, dtype=np.float64)),
    "sum": (lambda xp: xp.sum(ONE, initial=0.1)),
    "prod": (lambda xp: xp.prod(ONE, initial=0.1)),
    "insert": (lambda xp: xp.insert(ONE, 0, 0.1)),
    "diff": (lambda xp: xp.diff(ONE, prepend=0.1, append=0.3)),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_number_goes_to_a_wide_dtype_without_a_detour_by_float32(name: str) -> None:
    made = WIDE[name](fnp)
    assert made.dtype == np.float64
    np.testing.assert_allclose(made, WIDE[name](np), rtol=1e-15)


def test_numbers_of_the_namespace_keep_their_digits() -> None:
    square = np.ones((2, 2))
    filled = fnp.fill_diagonal(square, 0.1, inplace=False)
    np.testing.assert_array_equal(filled, [[0.1, 1.0], [1.0, 0.1]])
    assert fnp.full((2,), 0.1).dtype == np.float32
    assert fnp.linspace(0.1, 0.2, 3).dtype == np.float32
    assert fnp.diff(np.arange(3), prepend=0.5).dtype == np.float32
    assert fnp.diff(ONE, prepend=1j).dtype == np.complex128

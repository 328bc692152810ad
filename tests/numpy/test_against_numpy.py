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


def test_a_number_goes_to_a_stated_dtype_without_a_detour_by_float32() -> None:
    for made in (fnp.full((2,), 0.1, np.float64), fnp.full_like(np.ones(2), 0.1)):
        assert made.dtype == np.float64
        np.testing.assert_array_equal(made, [0.1, 0.1])
    assert fnp.full((2,), 0.1).dtype == np.float32

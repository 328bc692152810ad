"""Rules that a kind derives, for the dtypes whose characters repeat those of others."""

import numpy as np
import pytest

from fgrad.core.dtype_kinds import FLOAT8
from fgrad.core.errors import DtypeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import INEXACT, Absent, all_primitives
from fgrad.core.tracing import bind
from fgrad.testing.strategies import example_of

POINTWISE = [
    p for p in all_primitives()
    if not isinstance(p.spec, Absent)
    and not isinstance(p.lower, Absent)
    and p.lower.kind == "pointwise"
]  # fmt: skip
# The parameters of these two name a format.
OWN_RULES = ("convert_element_type", "reduce_precision")
OF_SMALL_FLOATS = [p for p in POINTWISE if "bfloat16" in p.spec.dtypes and p.name not in OWN_RULES]
OF_BITS = [p for p in POINTWISE if not set(p.spec.dtypes) & set(INEXACT)]


def call(prim, dtype):
    """A call of the primitive at operands of a small float dtype."""
    problem = example_of(prim, prim.spec.cases[0], dtype)
    return problem.args, problem.params


@pytest.mark.parametrize("dtype", FLOAT8, ids=str)
@pytest.mark.parametrize("prim", OF_SMALL_FLOATS, ids=str)
def test_small_floats_are_computed_in_single_precision_and_rounded_once(prim, dtype):
    args, params = call(prim, dtype)
    out = bind(prim, *map(as_value, args), **params)
    wide = [x.astype(np.float32) if x.dtype == dtype else x for x in args]
    expected = bind(prim, *map(as_value, wide), **params)._data
    with np.errstate(all="ignore"):
        expected = expected.astype(out.dtype)
    assert out.dtype in (dtype, np.dtype(bool))
    np.testing.assert_array_equal(
        out._data.astype(np.float32), expected.astype(np.float32), strict=True
    )


@pytest.mark.parametrize("dtype", FLOAT8, ids=str)
@pytest.mark.parametrize("prim", OF_BITS, ids=str)
def test_operations_on_bits_refuse_small_floats(prim, dtype):
    count = len(prim.spec.cases[0].shapes.split(","))
    x = as_value(np.ones(8, np.float32).astype(dtype))
    with pytest.raises(DtypeError, match="integer"):
        bind(prim, *[x] * count, **prim.spec.cases[0].params)

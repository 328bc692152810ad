"""The few primitives that transforms and passes themselves build, and the rules they share.

Everything else is declared in `fgrad.lax`.
"""

from fgrad.core.basis.alignment import (
    batch_pointwise,
    broadcast_to,
    instantiate,
    lead,
    unbroadcast,
    zeros,
)
from fgrad.core.basis.choice import select_n, select_n_p
from fgrad.core.basis.conversion import convert_element_type, convert_element_type_p, gives_way
from fgrad.core.basis.rules import (
    Avals,
    Dims,
    broadcast_shapes,
    is_zero_dtype,
    linear_jvp,
    linear_pullback,
    literal,
    scalar,
    shift_axes,
    wide,
)
from fgrad.core.basis.sums import (
    add_any,
    add_any_p,
    add_tangents,
    linear_mul,
    linear_mul_p,
    neg,
    neg_p,
)
from fgrad.core.basis.views import (
    broadcast_in_dim,
    broadcast_in_dim_p,
    moveaxis,
    reduce_sum,
    reduce_sum_p,
    reduced_aval,
    reshape,
    reshape_p,
    transpose,
    transpose_p,
)

__all__ = [
    "Avals",
    "Dims",
    "broadcast_shapes",
    "is_zero_dtype",
    "linear_jvp",
    "linear_pullback",
    "literal",
    "scalar",
    "shift_axes",
    "wide",
    "broadcast_in_dim",
    "broadcast_in_dim_p",
    "moveaxis",
    "reduce_sum",
    "reduce_sum_p",
    "reduced_aval",
    "reshape",
    "reshape_p",
    "transpose",
    "transpose_p",
    "batch_pointwise",
    "broadcast_to",
    "instantiate",
    "lead",
    "unbroadcast",
    "zeros",
    "add_any",
    "add_any_p",
    "add_tangents",
    "linear_mul",
    "linear_mul_p",
    "neg",
    "neg_p",
    "convert_element_type",
    "convert_element_type_p",
    "gives_way",
    "select_n",
    "select_n_p",
]

"""The property suite: checks of functions, primitives and rules, for our tests and for yours.

`check_grads`, `check_custom_vjp`, `check_vmap` and `check_laws` (all of them and more) check a
function at given arguments;
`check_primitive` draws calls of a primitive from its spec, `check_kernel` of a kernel that
`fgrad.cuda_kernel` made. The laws one by one, for any flat
function, are in `fgrad.testing.laws`, `batching`, `values` and `programs`.
"""

from fgrad.testing.checks import check_custom_vjp, check_grads, check_laws, check_vmap
from fgrad.testing.kernels import check_kernel
from fgrad.testing.primitives import check_primitive
from fgrad.testing.strategies import arrays, broadcastable_shapes, problems, pytrees

__all__ = [
    "arrays", "broadcastable_shapes", "check_custom_vjp", "check_grads", "check_kernel",
    "check_laws", "check_primitive", "check_vmap", "problems", "pytrees",
]  # fmt: skip

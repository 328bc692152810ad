"""Which library steps have code on the device, and what it is.

`plan_of` is the one table. A step whose primitive or dtypes are not in it is refused when the
program is compiled: nothing runs elsewhere instead.
"""

from collections.abc import Callable, Sequence

from fgrad.backends.cuda import (
    convolution,
    factorization,
    flash,
    fourier,
    products,
    scattering,
    sorting,
    spectral,
    user_calls,
)
from fgrad.backends.cuda.calls import LibraryPlan
from fgrad.compile.plan import Library, Loop, View, contiguous
from fgrad.core.ir import Eqn

Rule = Callable[[Library, Sequence[View]], LibraryPlan | None]

RULES: dict[str, Rule] = {
    "attention": flash.forward,
    "attention_grad": flash.backward,
    "cuda_kernel": user_calls.plan,
    "dot_general": products.plan,
    "conv_general_dilated": convolution.plan,
    "cholesky": factorization.cholesky,
    "eig": spectral.eig,
    "eigh": spectral.eigh,
    "fft": fourier.plan,
    "lu": factorization.lu,
    "qr": factorization.qr,
    "solve": factorization.solve,
    "triangular_solve": factorization.triangular_solve,
    **dict.fromkeys(scattering.OPERATIONS, scattering.plan),
    "sort": sorting.sort,
    "svd": spectral.svd,
    "top_k": sorting.top_k,
}

# Library steps that have no code on the device yet.
MISSING: frozenset[str] = frozenset()


def views_of(step: Library) -> tuple[View, ...]:
    """Where the operands of a step lie; a literal is a contiguous buffer of its own.

    Its number is -1: whoever runs the plan gives the literal's memory for it.
    """
    return tuple(
        a if isinstance(a, View) else View(-1, 0, a.aval.shape, contiguous(a.aval.shape))
        for a in step.inputs
    )


def plan_of(step: Library) -> LibraryPlan | None:
    """What computes a step on the device; None where nothing does.

    Args:
        step: A library step, no loop and no check of bounds.
    """
    rule = RULES.get(step.eqn.primitive.name)
    return None if rule is None or isinstance(step, Loop) else rule(step, views_of(step))


def keeps(eqn: Eqn) -> bool:
    """Whether an equation that others could take the place of has faster code of its own."""
    return flash.keeps(eqn)

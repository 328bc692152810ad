"""The passes, one a file: each takes a closed jaxpr and returns one that computes the same.

Order of `optimize`: inline calls; simplify and merge equal equations; fold constants; remove what
nobody uses. Effects keep their order, and equations of different phases are never merged.
"""

from fgrad.compile.passes.cse import cse
from fgrad.compile.passes.fold import fold
from fgrad.compile.passes.inline import inline
from fgrad.compile.passes.mincut import mincut
from fgrad.compile.passes.simplify import simplify
from fgrad.core.ir import Jaxpr
from fgrad.core.transforms.jaxprs import dce

PASSES = (inline, simplify, fold, cse, dce, mincut)


def optimize(jaxpr: Jaxpr) -> Jaxpr:
    """Run all passes over a closed program."""
    for run in PASSES:
        jaxpr = run(jaxpr)
    return jaxpr

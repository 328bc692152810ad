"""The passes, one a file: each takes a closed jaxpr and returns one that computes the same.

Order of `optimize`: inline calls; fold constants; simplify and merge equal equations; sink
broadcasts and fold those of constants; remove what is there twice and what nobody uses, of what
scans stack too; decide what backward scans and backward passes compute again. Effects keep their
order, and equations of different phases are never merged.
"""

from fgrad.compile.passes.cse import cse
from fgrad.compile.passes.fold import fold
from fgrad.compile.passes.inline import inline
from fgrad.compile.passes.mincut import mincut
from fgrad.compile.passes.scancut import scancut
from fgrad.compile.passes.simplify import simplify
from fgrad.compile.passes.sink import sink
from fgrad.compile.passes.tidy import TIDY
from fgrad.compile.passes.trim import trim
from fgrad.core.ir import Jaxpr
from fgrad.core.transforms.jaxprs import dce

__all__ = [
    "PASSES", "cse", "dce", "fold", "inline", "mincut", "optimize", "scancut", "simplify", "sink",
    "trim",
]  # fmt: skip

PASSES = (*TIDY, trim, scancut, mincut)


def optimize(jaxpr: Jaxpr) -> Jaxpr:
    """Run all passes over a closed program."""
    for run in PASSES:
        jaxpr = run(jaxpr)
    return jaxpr

"""The passes, one a file: each takes a closed jaxpr and returns one that computes the same.

Order of `optimize`: inline calls; fold constants; simplify and merge equal equations; sink
broadcasts and fold those of constants; remove what is there twice and what nobody uses; decide what
backward passes compute again. Effects keep their order, and equations of different phases are never
merged.
"""

from fgrad.compile.passes.cse import cse
from fgrad.compile.passes.fold import fold
from fgrad.compile.passes.inline import inline
from fgrad.compile.passes.mincut import mincut
from fgrad.compile.passes.simplify import simplify
from fgrad.compile.passes.sink import sink
from fgrad.core.ir import Jaxpr
from fgrad.core.transforms.jaxprs import dce

PASSES = (inline, fold, simplify, sink, fold, cse, dce, mincut)


def optimize(jaxpr: Jaxpr) -> Jaxpr:
    """Run all passes over a closed program."""
    for run in PASSES:
        jaxpr = run(jaxpr)
    return jaxpr

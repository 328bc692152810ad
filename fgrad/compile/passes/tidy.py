"""The passes that make a program small, before anything is decided about memory."""

from fgrad.compile.passes.cse import cse
from fgrad.compile.passes.fold import fold
from fgrad.compile.passes.inline import inline
from fgrad.compile.passes.simplify import simplify
from fgrad.compile.passes.sink import sink
from fgrad.core.ir import Jaxpr
from fgrad.core.transforms.jaxprs import dce

TIDY = (inline, fold, simplify, sink, fold, cse, dce)


def tidied(jaxpr: Jaxpr) -> Jaxpr:
    """The program after these passes."""
    for run in TIDY:
        jaxpr = run(jaxpr)
    return jaxpr

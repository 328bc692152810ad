"""Control flow: branches and loops with all their derivatives."""

from fgrad.lax.control.associative import associative_scan
from fgrad.lax.control.branch import cond, switch
from fgrad.lax.control.loops import fori_loop, map, scan
from fgrad.lax.control.while_loop import while_loop

__all__ = ["associative_scan", "cond", "fori_loop", "map", "scan", "switch", "while_loop"]

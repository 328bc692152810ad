"""The threads of BLAS and LAPACK, which share the budget of the worker pool.

A library step and a kernel of one call never run at the same time, so each may use all threads of
the budget. Without `FGRAD_NUM_THREADS` the libraries keep the number that they have.
"""

import functools
import sys
import warnings
from collections.abc import Iterable
from importlib import import_module

from threadpoolctl import ThreadpoolController

from fgrad.backends.cpu.pool import cores, thread_count
from fgrad.compile.plan import Library, Step
from fgrad.core.primitive import Lowering

_FROM_SCIPY = {"trsm", "getrf", "geev"}  # whose rules load SciPy's own LAPACK when they first run


def share_budget(steps: Iterable[Step]) -> None:
    """Bound the libraries that steps call to the threads that kernels may use.

    Args:
        steps: Of a program that is compiled, and has loaded what its steps call.
    """
    called = [step.eqn.primitive.lower for step in steps if isinstance(step, Library)]
    if not called:
        return
    names = {rule.data for rule in called if isinstance(rule, Lowering)}
    if not names.isdisjoint(_FROM_SCIPY):
        import_module("scipy.linalg")
    bound(thread_count(), "scipy.linalg" in sys.modules)


@functools.cache
def bound(threads: int, scipy: bool) -> None:
    """Let the BLAS libraries of this process use at most so many threads, from now on.

    Each library has one setting a process, so code outside of compiled programs is bound too.

    Args:
        threads: The number.
        scipy: Whether SciPy's own library is loaded: another call bounds it where it comes later.
    """
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    for library in found:
        if library.num_threads is None or library.num_threads > threads:
            library.set_num_threads(threads)
    if not found and threads < cores():
        warnings.warn(
            f"FGRAD_NUM_THREADS={threads} bounds the kernels of compiled programs, but not the "
            f"matrix products: threadpoolctl does not know the BLAS library of this NumPy; set "
            f"that library's own variable, such as VECLIB_MAXIMUM_THREADS",
            RuntimeWarning,
            stacklevel=2,
        )

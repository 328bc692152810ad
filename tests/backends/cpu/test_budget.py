"""BLAS gets no more threads than kernels, where the user says how many those are."""

import os
import subprocess
import sys

import pytest

from fgrad.backends.cpu import budget

CODE = """
import sys
import numpy as np
import threadpoolctl
import fgrad as fg, fgrad.numpy as fnp
from fgrad import lax

def threads():
    found = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    return [library.num_threads for library in found]

x = np.eye(256, dtype=np.float32)
fg.jit(lambda x: x * 2)(x)
print(*threads())
fg.jit(lambda x: fnp.tanh(x @ x))(x)
print(*threads())
{last}
print(*threads())
"""


LU = "fg.jit(lambda x: lax.linalg.lu(x)[0])(x)"
LOOP = "fg.jit(lambda x: lax.scan(lambda c, _: (c @ c, None), x, None, length=2)[0])(x)"


def run(own, last=LU, **variables):
    kept = {
        k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "FGRAD_NUM_THREADS")
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("{last}", last)],
        env={**kept, "OPENBLAS_NUM_THREADS": str(own), **variables},
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="OpenBLAS uses one thread on one core")
@pytest.mark.parametrize("last", [LU, LOOP])
def test_blas_is_bounded_by_the_threads_of_kernels(last):
    # Only a program with library steps touches them; SciPy brings a library of its own.
    assert run(2, last, FGRAD_NUM_THREADS="1") == ["2", "1", "1 1"]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="OpenBLAS uses one thread on one core")
@pytest.mark.parametrize("variables", [{}, {"FGRAD_NUM_THREADS": "3"}])
def test_blas_never_gets_more_threads_than_it_has(variables):
    assert run(2, **variables)[:2] == ["2", "2"]


class Unknown:
    def select(self, **_words):
        return self

    lib_controllers = ()


def test_a_library_that_cannot_be_bounded_is_told_once(monkeypatch):
    monkeypatch.setattr(budget, "ThreadpoolController", Unknown)
    monkeypatch.setattr(budget, "cores", lambda: 4)
    budget.bound.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="does not know the BLAS library"):
            budget.bound(2, False)
        budget.bound(2, False)  # said once
        budget.bound(4, False)  # nothing to say: as many as cores
    finally:
        budget.bound.cache_clear()

"""Law 14: the kernels of every primitive's programs, without a GPU.

They run on the CPU through the emulation, and compile for every architecture where CuPy brings
NVRTC.
"""

import importlib.util
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from fgrad.backends.cuda.nvrtc import compile_source
from fgrad.compile.bounds import fault
from tests.backends.cuda.emulated import Emulated
from tests.backends.cuda.registry import GROUPS, distinct, name_of, records

ARCHITECTURES = ("80", "90", "100")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
needs_nvrtc = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None, reason="CuPy, which loads NVRTC, is not installed"
)
every_group = pytest.mark.parametrize(
    "number", range(len(GROUPS)), ids=[name_of(group) for group in GROUPS]
)


def check_runs(found):
    """Launches compute what they mean, in whichever order threads run."""
    emulated = Emulated(distinct(found))
    for record in found:
        after, again = ([b.copy() for b in record.before] for _ in range(2))
        emulated.run(record.kernel, after)
        wrong = fault(record.kernel, record.before, after)
        assert wrong is None, f"{record.problem}: {wrong}\n{record.kernel}"
        emulated.run(record.kernel, again, last_first=True)
        for x, y in zip(after, again, strict=True):
            assert x.tobytes() == y.tobytes(), f"{record.problem}: a race\n{record.kernel}"


@needs_compiler
@every_group
def test_kernels_run_as_they_mean(number):
    check_runs(records(number))


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 300])
@every_group
def test_kernels_of_other_sizes_run_as_they_mean(number, size):
    check_runs(records(number, seed=size, size=size))


def check_compiles(number, *options):
    source = Emulated(distinct(records(number)), build=None).text
    with ThreadPoolExecutor() as pool:
        made = [pool.submit(compile_source, source, a, options=options) for a in ARCHITECTURES]
    assert all(m.result().startswith(b"\x7fELF") for m in made)


@needs_nvrtc
@every_group
def test_kernels_compile_for_every_architecture(number):
    check_compiles(number, "--Ofast-compile=max")  # in half the time


@needs_nvrtc
@pytest.mark.slow
@every_group
def test_optimised_kernels_compile_for_every_architecture(number):
    check_compiles(number)

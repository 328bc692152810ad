"""Law 14: the kernels of every primitive's programs, without a GPU.

They run on the CPU through the emulation, and compile for every architecture where CuPy brings
NVRTC. On a machine with a card they run there too.
"""

import importlib.util
from concurrent.futures import ThreadPoolExecutor

import pytest

from fgrad.backends.cuda.nvrtc import compile_source
from fgrad.compile.bounds import fault
from tests.backends.cuda.emulated import Emulated
from tests.backends.cuda.on_card import OnCard
from tests.backends.cuda.registry import GROUPS, derived_records, distinct, name_of, records
from tests.backends.cuda.targets import CARD, SHIM

ARCHITECTURES = ("80", "90", "100")
every_target = pytest.mark.parametrize("target", [SHIM, CARD])
needs_nvrtc = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None, reason="CuPy, which loads NVRTC, is not installed"
)
every_group = pytest.mark.parametrize(
    "number", range(len(GROUPS)), ids=[name_of(group) for group in GROUPS]
)


def check_runs(target, found):
    """Launches compute what they mean, in whichever order threads run."""
    module = (Emulated if target == "shim" else OnCard)(distinct(found))
    for record in found:
        after, again = ([b.copy() for b in record.before] for _ in range(2))
        module.run(record.kernel, after)
        wrong = fault(record.kernel, record.before, after)
        assert wrong is None, f"{record.program}: {wrong}\n{record.kernel}"
        module.run(record.kernel, again, last_first=True)
        for x, y in zip(after, again, strict=True):
            assert x.tobytes() == y.tobytes(), f"{record.program}: a race\n{record.kernel}"


@every_target
@every_group
def test_kernels_run_as_they_mean(target, number):
    check_runs(target, records(number))


@every_target
@every_group
def test_kernels_of_derivatives_and_batches_run_as_they_mean(target, number):
    check_runs(target, derived_records(number))


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 5, 33])
@every_target
@every_group
def test_kernels_of_other_sizes_run_as_they_mean(target, number, size):
    check_runs(target, records(number, seed=size, size=size))


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

"""Elementary functions of CUDA are as accurate as the page says, on a card.

On the CPU the C library's stand in for them: that checks which function is called.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.special

from tests.backends.cpu.elementary import BINARY, float32_points, float64_points, function, ulps
from tests.backends.cpu.test_vmath import points
from tests.backends.cuda import operations as ops
from tests.backends.cuda.targets import CARD, SHIM, launcher

PAGE = Path(__file__).parents[3] / "docs/reference/accuracy.md"
NAMES = sorted(ops.ELEMENTARY)
NUMPY = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "pow": np.power, "atan2": np.arctan2,
    "erf": scipy.special.erf, "erfc": scipy.special.erfc,
}  # fmt: skip


def stated():
    """The table of the page: (name, dtype) → ulp."""
    text = PAGE.read_text("utf-8").partition("## On NVIDIA GPUs")[2]
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|", text, re.M)
    return {(n, c): float(u) for n, f, d in rows for c, u in (("f", f), ("d", d))}


@pytest.fixture(scope="module", params=[SHIM, CARD])
def target(request):
    return request.param


@pytest.fixture(scope="module")
def launch(target):
    kernels = [ops.kernel(name, np.dtype(char)) for name in NAMES for char in "fd"]
    return launcher(target, "".join(kernels))


def reference(name, char, args):
    """Results with more digits, as two parts, and their own error in ulp of the dtype."""
    if char == "f":
        return NUMPY.get(name, getattr(np, name, None))(*(x.astype("d") for x in args)), 0.0, 0.01
    if name in ("erf", "erfc"):  # the CPU's code, within what is stated of it
        return function(name, "d", 8)(*args), 0.0, {"erf": 1.3, "erfc": 3.7}[name]
    value = NUMPY.get(name, getattr(np, name, None))(*(x.astype(np.longdouble) for x in args))
    head = value.astype("d")
    tail = np.where(np.isfinite(head), value - head, 0)
    return head, tail.astype("d"), 0.01


def test_the_page_has_a_row_for_each_function():
    assert stated().keys() == {(name, char) for name in NAMES for char in "fd"}


@pytest.mark.parametrize("char", ["f", "d"])
@pytest.mark.parametrize("name", NAMES)
def test_errors_are_as_stated(target, launch, name, char):
    dtype = np.dtype(char)
    some = float32_points(name, 4099) if char == "f" else float64_points(name, 2000)
    args = [np.ascontiguousarray(x, dtype) for x in some]
    got = ops.run(launch, ops.name_of(name, dtype), args, dtype)
    with np.errstate(all="ignore"):
        head, tail, own = reference(name, char, args)
        error = ulps(got, head, tail)
    # What is stated is the distance from the correctly rounded result.
    bound = stated()[name, char] + 0.5 if target == "card" else 5.5
    at = int(np.argmax(error))
    assert error[at] <= bound + own, f"{error[at]} ulp at {[x[at] for x in args]}"


@pytest.mark.parametrize("char", ["f", "d"])
@pytest.mark.parametrize("name", NAMES)
def test_special_values_are_those_of_numpy(launch, name, char):
    dtype = np.dtype(char)
    args = [np.ascontiguousarray(x, dtype) for x in points(name, char)]
    got = ops.run(launch, ops.name_of(name, dtype), args, dtype)
    with np.errstate(all="ignore"):
        wanted = NUMPY.get(name, getattr(np, name, None))(*args).astype(dtype)
    ends = ~np.isfinite(wanted) | (wanted == 0)
    ops.check_exact(got[ends], wanted[ends], name)
    finite = np.isfinite(wanted) & (wanted != 0)
    assert np.isfinite(got[finite]).all()


def test_denormal_numbers_are_kept(launch):
    """Operands and results below the normal numbers."""
    for char in "fd":
        dtype = np.dtype(char)
        info = np.finfo(dtype)
        tiny = np.array([info.smallest_subnormal, info.tiny / 2, -info.tiny / 4], dtype)
        for name in ("expm1", "log1p", "sin", "tan", "asin", "atan", "sinh", "tanh", "asinh"):
            got = ops.run(launch, ops.name_of(name, dtype), (tiny,), dtype)
            np.testing.assert_array_equal(got, tiny, err_msg=name)
        small = ops.run(launch, ops.name_of("exp", dtype), (np.log(np.abs(tiny[:2])),), dtype)
        np.testing.assert_allclose(small, np.abs(tiny[:2]), rtol=0.3)


def test_binary_functions_have_two_operands():
    assert set(BINARY) & set(NAMES) == {"pow", "atan2", "hypot"}

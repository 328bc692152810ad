"""Special functions of CUDA code give the bits of those of the CPU, whose errors are stated."""

import numpy as np
import pytest

from fgrad.backends.cuda.special import NAMES, definitions
from tests.backends.cpu.elementary import float32_points, float64_points, function
from tests.backends.cpu.test_vmath import points
from tests.backends.cuda import operations as ops
from tests.backends.cuda.targets import CARD, SHIM, launcher


@pytest.fixture(scope="module", params=[SHIM, CARD])
def launch(request):
    kernels = [ops.kernel(name, np.dtype(char)) for name in NAMES for char in "fd"]
    return launcher(request.param, "".join(kernels))


@pytest.mark.parametrize("char", ["f", "d"])
@pytest.mark.parametrize("name", NAMES)
def test_the_bits_are_those_of_the_cpu(launch, name, char):
    dtype = np.dtype(char)
    some = float32_points(name, 40_009) if char == "f" else float64_points(name, 100)
    columns = [np.concatenate(pair) for pair in zip(some, points(name, char), strict=True)]
    args = [np.ascontiguousarray(x, dtype) for x in columns]
    got = ops.run(launch, ops.name_of(name, dtype), args, dtype)
    wanted = function(name, dtype, 8)(*args)
    same = (got.view(f"u{dtype.itemsize}") == wanted.view(f"u{dtype.itemsize}")) | (
        np.isnan(got) & np.isnan(wanted)
    )
    at = int(np.argmin(same))
    assert same.all(), f"{[x[at] for x in args]}: {got[at]!r}, not {wanted[at]!r}"


def test_a_module_gets_the_functions_that_it_calls():
    assert definitions("fg_exp(x) + fg_zeta_of") == ""
    text = definitions("fg_erf_inv(x) + fg_lgamma (y)")
    assert "float fg_erf_inv(float x0)" in text
    assert "double fg_lgamma(double x0)" in text
    assert "digamma" not in text

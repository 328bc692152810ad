"""Values, dtypes and weak types are JAX's, over tables of calls."""

import numpy as np
import pytest

import fgrad.numpy as fnp
from tests.numpy.expressions import calls, evaluate

# Where fgrad differs on purpose, and why.
DEVIATIONS = {
    "integer division by zero: JAX gives -2": (
        "xp.floor_divide(2,i)", "xp.floor_divide(u,k)", "xp.divmod(2,i)", "xp.divmod(u,k)",
        "2 // i",
    ),
    "an infinity has the fraction 0, as in NumPy": ("xp.modf(n)",),
    "negative powers of integers truncate to 0": ("xp.power(i,j)", "i ** j"),
    "integers stay integers": ("xp.convolve(k,k)", "xp.polyder(k)"),
    "the order of roots is not defined": ("xp.roots(xp.array([0.,1.,-3.,2.,0.]))",),
    "the path begins with its name, as in NumPy": (
        "xp.einsum_path('ij,jk,kl',x,y.T,m)[0]",
    ),
}  # fmt: skip
# Functions of Python numbers whose result is weak here, as for all others, and strong in JAX.
WEAK = {
    f"xp.{name}" for name in (
        "angle", "gcd", "heaviside", "hypot", "lcm", "linspace", "log10", "log2", "logaddexp2",
        "nan_to_num", "rint", "spacing",
    )
}  # fmt: skip
SKIPPED = {call for group in DEVIATIONS.values() for call in group}
TABLES = {f"{name}-{group}": items for name in ("calls.txt", "calls_jax.txt")
          for group, items in calls(name).items()}  # fmt: skip


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("group", TABLES)
def test_calls(group: str) -> None:
    import jax
    import jax.numpy as jnp

    for call in TABLES[group]:
        if call in SKIPPED:
            continue
        try:
            expected = evaluate(call, jnp, jnp.asarray)
        except (TypeError, ValueError, AttributeError, NotImplementedError):
            continue  # what JAX refuses and NumPy takes
        found = evaluate(call, fnp, fnp.asarray)
        assert len(found) == len(expected), call
        for a, b in zip(found, expected, strict=True):
            if not isinstance(b, jax.Array):
                continue
            assert a.shape == b.shape, call
            assert a.dtype == b.dtype, call
            # JAX calls some booleans weak, which has no effect.
            if a.dtype != bool and call.split("(")[0] not in WEAK:
                assert a.weak_type == b.weak_type, call
            np.testing.assert_allclose(
                np.asarray(a), np.asarray(b), rtol=3e-5, atol=3e-6, err_msg=call
            )

"""The eager rules on CuPy buffers give what they give on NumPy's, and stay on the device."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.primitive import Absent, all_primitives
from fgrad.testing.strategies import example_of, spec_of

pytestmark = pytest.mark.gpu


def on_gpu(x):
    import cupy

    return fnp.asarray(cupy.asarray(x))


def to_host(x):
    import cupy

    assert isinstance(x._data, cupy.ndarray), f"left the device: {type(x._data)}"
    return cupy.asnumpy(x._data)


def perceptron(params, x, y):
    for w, b in params[:-1]:
        x = nn.gelu(x @ w + b)
    w, b = params[-1]
    return -fnp.mean(fnp.sum(y * nn.log_softmax(x @ w + b), axis=1))


def test_the_gradient_of_a_perceptron_equals_that_on_the_cpu():
    rng = np.random.default_rng(0)
    params = [(rng.normal(size=(8, 8)), rng.normal(size=8)) for _ in range(3)]
    x, y = rng.normal(size=(5, 8)), np.eye(8)[:5]
    ours = fg.grad(perceptron)([tuple(map(on_gpu, p)) for p in params], on_gpu(x), on_gpu(y))
    for got, want in zip(fg.tree.leaves(ours), fg.tree.leaves(fg.grad(perceptron)(params, x, y)),
                         strict=True):  # fmt: skip
        np.testing.assert_allclose(to_host(got), np.asarray(want), rtol=1e-10, atol=1e-12)


def test_jit_vmap_and_second_order_on_the_device():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 3))

    def f(v):
        return fnp.sum(fnp.tanh(v) ** 3)

    hessian_diag = fg.jit(fg.vmap(lambda v: fg.jvp(fg.grad(f), (v,), (fnp.ones_like(v),))[1]))
    np.testing.assert_allclose(
        to_host(hessian_diag(on_gpu(x))), np.asarray(hessian_diag(x)), rtol=1e-10
    )


def test_a_cupy_array_is_borrowed_not_converted():
    import cupy

    x = cupy.arange(4.0)
    y = lax.sin(x)
    assert isinstance(y, ArrayImpl)
    assert isinstance(y._data, cupy.ndarray)
    assert y.__cuda_array_interface__["shape"] == (4,)


CASES = [
    (prim, case)
    for prim in all_primitives()
    if not isinstance(prim.spec, Absent)
    for case in prim.spec.cases
]


@pytest.mark.parametrize(("prim", "case"), CASES, ids=lambda x: getattr(x, "name", str(x)))
def test_every_primitive_computes_on_the_device(prim, case):
    import cupy

    name = next((d for d in spec_of(prim).dtypes if d in ("float64", "int32")), None)
    problem = example_of(prim, case, name or spec_of(prim).dtypes[0])
    want = prim.eager(np, *problem.args, **problem.params)
    got = prim.eager(cupy, *map(cupy.asarray, problem.args), **problem.params)
    got, want = (list(outs) if prim.multiple_results else [outs] for outs in (got, want))
    for g in got:
        assert isinstance(g, cupy.ndarray), f"left the device: {type(g)}"
    got = [cupy.asnumpy(g) for g in got]
    observe = spec_of(prim).observe
    if observe is not None:
        got, want = (observe(list(map(as_value, o)), **problem.params) for o in (got, want))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(
            np.asarray(g), np.asarray(w), rtol=1e-9, atol=1e-12, equal_nan=True
        )

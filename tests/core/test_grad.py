"""grad and value_and_grad: arguments, trees, auxiliary data, nesting."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.errors import GradientTypeError, TreeError

X = np.array([0.5, -1.0, 2.0], np.float32)


def f(x, y, *, scale=1.0):
    return fnp.sum(fnp.sin(x) * y) * scale


@pytest.mark.parametrize("argnums", [0, -2, np.int64(0)])
def test_one_argument_gives_a_bare_gradient(argnums):
    np.testing.assert_allclose(fg.grad(f, argnums)(X, X), np.cos(X) * X, rtol=1e-6)


@pytest.mark.parametrize("argnums", [(0, 1), [0, 1], (-2, -1), (0, -1)])
def test_several_arguments_give_a_tuple(argnums):
    gx, gy = fg.grad(f, argnums)(X, X)
    np.testing.assert_allclose(gx, np.cos(X) * X, rtol=1e-6)
    np.testing.assert_allclose(gy, np.sin(X), rtol=1e-6)


def test_the_order_of_argnums_is_kept():
    gy, gx = fg.grad(f, (1, 0))(X, 2 * X)
    np.testing.assert_allclose(gx, np.cos(X) * 2 * X, rtol=1e-6)
    np.testing.assert_allclose(gy, np.sin(X), rtol=1e-6)


def test_a_tuple_of_one_argument_gives_a_tuple_of_one():
    assert type(fg.grad(f, (1,))(X, X)) is tuple


def test_keyword_arguments_are_passed_on_undifferentiated():
    g = fg.grad(f)(X, X, scale=np.float32(3.0))
    np.testing.assert_allclose(g, 3 * np.cos(X) * X, rtol=1e-6)


def test_trees_come_back_as_the_same_trees():
    params = {"w": [X, (2 * X,)], "b": None}
    g = fg.grad(lambda p: fnp.sum(p["w"][0] * p["w"][1][0]))(params)
    assert fg.tree.structure(g) == fg.tree.structure(params)
    np.testing.assert_array_equal(g["w"][0], 2 * X)
    np.testing.assert_array_equal(g["w"][1][0], X)


def test_aux_is_returned_with_its_values_not_with_tracers():
    def loss(x):
        y = x * x
        return y.sum(), {"y": y, "n": 3, "name": "text", "plain": X}

    (value, aux), g = fg.value_and_grad(loss, has_aux=True)(X)
    np.testing.assert_array_equal(aux["y"], X * X)
    assert (aux["n"], aux["name"], aux["plain"] is X) == (3, "text", True)
    assert float(value) == float((X * X).sum())
    np.testing.assert_array_equal(g, 2 * X)
    g, aux = fg.grad(loss, has_aux=True)(X)
    np.testing.assert_array_equal(np.asarray(aux["y"]), X * X)


def test_aux_of_a_nested_gradient_belongs_to_the_outer_one():
    def outer(x):
        _, aux = fg.grad(lambda z: (z**3, z * x), has_aux=True)(x)
        return aux

    assert float(fg.grad(outer)(3.0)) == 6.0  # d(x·x)/dx


def test_an_unused_argument_gets_zeros_of_its_type():
    g = fg.grad(lambda x, y: fnp.sum(x), 1)(X, np.ones((2, 1), np.float64))
    assert (g.shape, g.dtype) == ((2, 1), np.float64)
    assert not np.asarray(g).any()


def test_a_constant_function_has_gradient_zero():
    assert float(fg.grad(lambda x: 1.0)(2.0)) == 0.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_gradient_keeps_the_dtype(dtype):
    assert fg.grad(lambda x: fnp.sum(x * x))(np.ones(3, dtype)).dtype == dtype


def test_python_numbers_are_arguments():
    assert float(fg.grad(lambda x: x**3)(2.0)) == 12.0


def test_integers_have_a_float0_gradient_where_allowed():
    g, i = fg.grad(lambda x, n: x * n, (0, 1), allow_int=True)(2.0, 3)
    assert float(g) == 3.0
    assert i.dtype == fg.float0


def test_holomorphic_and_real_functions_of_complex_arguments():
    z = np.complex64(1 + 2j)
    assert complex(fg.grad(lambda z: z * z, holomorphic=True)(z)) == 2 + 4j
    # A real function: JAX's convention, conjugate of the direction of steepest ascent.
    assert complex(fg.grad(lambda z: fnp.real(z) ** 2 + 3 * fnp.imag(z))(z)) == 2 - 3j


def test_the_seventh_derivative():
    h = fnp.sin
    for _ in range(7):
        h = fg.grad(h)
    np.testing.assert_allclose(h(np.float64(0.3)), -np.cos(0.3), rtol=1e-14)


def test_python_control_flow_runs_on_concrete_values():
    def g(x):
        while x < 10.0:
            x = x * 2.0
        return x if x > 0 else -x

    assert float(fg.grad(g)(3.0)) == 4.0


# -------------------------------------------------------------------------- perturbation confusion


def test_an_inner_derivative_does_not_see_the_outer_perturbation():
    # d/dx [x · d/dy (x + y)] = 1, not 2
    assert float(fg.grad(lambda x: x * fg.grad(lambda y: x + y)(1.0))(1.0)) == 1.0
    assert (
        float(fg.jvp(lambda x: x * fg.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,))[1])
        == 1.0
    )


@pytest.mark.parametrize("inner", ["grad", "jvp"])
@pytest.mark.parametrize("outer", ["grad", "jvp"])
def test_closures_over_the_outer_variable(inner, outer):
    def d(kind, h):
        if kind == "grad":
            return fg.grad(h)
        return lambda x: fg.jvp(h, (x,), (1.0,))[1]

    # d/dx [x · d/dy (x·y²)|y=x] = d/dx (2x³) = 6x²
    value = d(outer, lambda x: x * d(inner, lambda y: x * y * y)(x))(2.0)
    assert float(value) == 24.0
    # d/dx d/dy (x·y)|y=1 · d/dz (x·z)|z=2 = d/dx x² = 2x
    value = d(outer, lambda x: d(inner, lambda y: x * y)(1.0) * d(inner, lambda z: x * z)(2.0))(5.0)
    assert float(value) == 10.0


def test_a_function_returned_from_an_inner_derivative():
    # The inner gradient is taken where the outer variable is a closed-over constant.
    def outer(x):
        g = fg.grad(lambda y: y * y * x)
        return g(x) + g(2.0 * x)  # 2x² + 4x²

    assert float(fg.grad(outer)(3.0)) == 36.0


def test_the_argument_itself_is_not_a_scalar_result():
    with pytest.raises(GradientTypeError, match=r"to return a scalar, got f32\[3\]"):
        fg.grad(lambda x: x)(X)


def test_a_missing_aux_is_named():
    with pytest.raises(TreeError, match=r"has_aux=True needs .* to return a pair"):
        fg.grad(lambda x: x, has_aux=True)(1.0)


def test_an_argument_named_twice_raises():
    with pytest.raises(GradientTypeError, match="twice"):
        fg.grad(lambda x: x, (0, -1))(1.0)


def test_a_leaf_without_a_gradient_is_named():
    params = {"w": np.ones(2), "n": np.arange(2)}
    with pytest.raises(GradientTypeError, match=r"got i64\[2\] as argument 0\['n'\]; convert it"):
        fg.grad(lambda p: p["w"].sum())(params)
    with pytest.raises(GradientTypeError, match=r"got i32\[\] as argument 1; convert it"):
        fg.grad(lambda x, n: x * n, argnums=(0, 1))(1.0, 3)
    with pytest.raises(GradientTypeError, match=r"got i32\[\]; convert it"):
        fg.grad(lambda n: n)(3)
    with pytest.raises(GradientTypeError, match=r"complex arguments, got f64\[2\] as .*\['w'\]"):
        fg.grad(lambda p: p["w"].sum(), holomorphic=True)({"w": np.ones(2)})

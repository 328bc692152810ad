"""What a new user tries first, and gets wrong first."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.errors import (
    ArgumentError,
    DtypeError,
    GradientTypeError,
    IndexOutOfBoundsError,
    TracerIntegerConversionError,
)


def test_grad_of_no_function_raises_where_it_is_written():
    with pytest.raises(GradientTypeError, match="takes a function, got int"):
        fg.grad(5)
    with pytest.raises(ArgumentError, match="takes a function, got ArrayImpl"):
        fg.vmap(fnp.ones(3))


@pytest.mark.parametrize("make", [fnp.zeros, lambda n: fnp.broadcast_to(1.0, n)])
def test_a_traced_shape_raises_and_says_so(make):
    with pytest.raises(TracerIntegerConversionError, match="mark the argument static"):
        fg.jit(make)(3)


def test_every_name_that_the_package_lists_is_there():
    for module in (fg, fnp, fg.lax, fg.nn, fg.random, fg.optim):
        missing = [name for name in dir(module) if not hasattr(module, name)]
        assert not missing, f"{module.__name__}: {missing}"
    assert not hasattr(fg, "no_such_name")
    with pytest.raises(AttributeError, match=r"no attribute 'random'; fgrad\.random draws"):
        fnp.random  # noqa: B018


def test_pythons_own_messages_call_a_method_by_its_name():
    for call, name in ((lambda x: x.view(3, 2), "view"), (lambda x: x.astype(), "astype")):
        with pytest.raises(TypeError, match=rf"^Array\.{name}\(\)"):
            call(fnp.ones((2, 3)))


def test_an_array_is_a_shape():
    assert fnp.zeros(fnp.array([2, 3])).shape == fnp.zeros(np.array([2, 3])).shape == (2, 3)
    assert fnp.zeros(fnp.array(2)).shape == fnp.zeros(np.int64(2)).shape == (2,)


def test_cond_and_switch_give_arrays_for_numbers():
    assert isinstance(fg.lax.cond(True, lambda x: x + 1, lambda x: x, 1.0), fg.Array)
    assert isinstance(fg.lax.switch(0, [lambda x: x, lambda x: 2 * x], 1.0), fg.Array)


def test_a_hand_written_type_announces_a_callbacks_result():
    announced = fg.ShapeDtypeStruct((2,), "float32")
    assert announced == fg.eval_shape(fnp.sin, fnp.zeros(2))
    x = fnp.array([0.0, 1.0])
    seen = fg.jit(lambda x: fg.pure_callback(np.sin, announced, x))(x)
    np.testing.assert_array_equal(seen, np.sin(np.asarray(x)))


def test_a_mode_decides_for_static_indices_too():
    x = fnp.array([1.0, 2.0, 3.0])
    assert x.at[5].get(mode="fill", fill_value=7.0) == 7.0
    assert x.at[5].get(mode="clip") == 3.0
    np.testing.assert_array_equal(x.at[5].set(9.0, mode="drop"), x)
    np.testing.assert_array_equal(x.at[-9].add(9.0, mode="clip"), [10.0, 2.0, 3.0])
    y = fnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(y.at[7, 1:].get(mode="clip"), [4.0, 5.0])
    np.testing.assert_array_equal(y.at[:, 7].get(mode="fill", fill_value=0.0), [0.0, 0.0])
    with pytest.raises(IndexOutOfBoundsError, match="index 5 is out of bounds"):
        x.at[5].set(9.0)
    with fg.out_of_bounds("jax"):
        assert fnp.isnan(x[5])


def test_what_vmap_does_not_map_arrives_as_it_was_passed():
    power = fg.jit(lambda x, n: x**n, static_argnums=1)
    np.testing.assert_array_equal(fg.vmap(power, in_axes=(0, None))(fnp.arange(3.0), 3), [0, 1, 8])
    seen = []
    fg.vmap(lambda x, *rest: seen.extend(rest) or x, in_axes=(0, None, None, None))(
        fnp.ones(2), "relu", 2, np.ones(3)
    )
    assert seen[:2] == ["relu", 2]
    assert isinstance(seen[2], fg.Array)


LEAVES = {
    "jit": (lambda d: fg.jit(lambda x, d: x)(1.0, d), "mark the argument static"),
    "grad": (lambda d: fg.grad(lambda x, d: d["w"], 1)(1.0, d), "not differentiated"),
    "vmap": (lambda d: fg.vmap(lambda x, d: x)(fnp.ones(2), d), "with None in in_axes"),
}


@pytest.mark.parametrize("transform", LEAVES)
def test_a_leaf_that_is_no_array_is_named(transform):
    call, advice = LEAVES[transform]
    tree = {"w": 1.0 if transform == "grad" else fnp.ones(2), "more": ["relu"]}
    with pytest.raises(
        DtypeError,
        match=rf"{transform} of <lambda>: argument 1\['more'\]\[0\]: expected an array or a "
        rf"number, got str: 'relu'; [\s\S]*{advice}",
    ):
        call(tree)


def test_a_leaf_among_keyword_and_static_arguments_is_named():
    f = fg.jit(lambda n, x, d: x, static_argnums=0)
    with pytest.raises(DtypeError, match=r"argument d\['a'\]: expected .* got str: 'b'"):
        f("static", 1.0, d={"a": "b"})
    with pytest.raises(DtypeError, match=r"argument 1\[0\]: expected .* got object"):
        f("static", [object()], 1.0)

    class Unregistered:
        pass

    with pytest.raises(DtypeError, match=r"register its class with fgrad\.tree_util"):
        f("static", Unregistered(), 1.0)


ALONE = {
    "gradient": lambda f: lambda x, i: fg.grad(f)(x, i),
    "tangent": lambda f: lambda x, i: fg.jvp(lambda x: f(x, i), (x,), (x,))[1],
    "second": lambda f: lambda x, i: fg.hessian(f)(x, i),
}
READS = {
    "gather": lambda x, i: x[i].sum(),
    "scatter_add": lambda x, i: fnp.zeros(3).at[i].add(x[:2]).sum(),
    "scatter": lambda x, i: fnp.zeros(3).at[i].set(x[:2]).sum(),
    "scatter_mul": lambda x, i: fnp.ones(3).at[i].multiply(x[:2]).sum(),
    "scatter_max": lambda x, i: fnp.ones(3).at[i].max(x[:2]).sum(),
}


@pytest.mark.parametrize("alone", ALONE)
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_a_derivative_reports_an_index_although_the_value_is_not_computed(wrap, read, alone):
    # In a program that needs the derivative alone, the operation that reads `i` first is dead code.
    x, f = fnp.array([1.0, 2.0, 3.0]), READS[read]
    square = (lambda x, i: f(x, i) ** 2) if alone == "second" else f
    derivative = wrap(ALONE[alone](square))
    assert np.isfinite(np.asarray(derivative(x, np.array([0, 2])))).all()
    with pytest.raises(IndexOutOfBoundsError, match="index 7 is out of bounds"):
        derivative(x, np.array([0, 7]))

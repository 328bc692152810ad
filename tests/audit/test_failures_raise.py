"""Seed table: every failure raises; no error is swallowed, and state is whole after one."""

import ast
import builtins
from pathlib import Path

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.tracing import state

X = np.ones(3)


class Boom(Exception):
    pass


def boom(*_args):
    raise Boom("the user's own error")


RUNS = {
    "grad": lambda: fg.grad(boom)(1.0),
    "vjp": lambda: fg.vjp(boom, 1.0),
    "jvp": lambda: fg.jvp(boom, (1.0,), (1.0,)),
    "linearize": lambda: fg.linearize(boom, 1.0),
    "vmap": lambda: fg.vmap(boom)(X),
    "jit": lambda: fg.jit(boom)(1.0),
    "checkpoint": lambda: fg.checkpoint(boom)(1.0),
    "make_jaxpr": lambda: fg.make_jaxpr(boom)(1.0),
    "nested": lambda: fg.grad(lambda x: fg.jit(fg.vmap(boom))(x * X).sum())(1.0),
    "scan": lambda: lax.scan(boom, 0.0, X),
    "cond": lambda: lax.cond(True, boom, boom, 1.0),
    "while": lambda: lax.while_loop(boom, boom, 1.0),
    "hook": lambda: fg.grad(lambda x: fg.tap(x, boom))(1.0),
    "hook in jit": lambda: fg.jit(fg.grad(lambda x: fg.tap(x, boom)))(1.0),
    "named axis": lambda: fg.vmap(boom, axis_name="i")(X),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_users_error_passes_through_as_it_is(name):
    with pytest.raises(Boom, match="the user's own error"):
        RUNS[name]()
    assert state.trace is type(state).trace
    assert state.axes == ()
    assert state.rules == ()
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        np.ones(1) / 0.0  # NumPy's warnings are the caller's again
    np.testing.assert_array_equal(fg.grad(lambda x: fnp.sum(x * x))(X), 2 * X)


def test_rules_that_raise():
    f = fg.custom_vjp(lambda x: x * 2.0)
    f.defvjp(lambda x: (x * 2.0, None), boom)
    for call in (fg.grad(f), fg.jit(fg.grad(f)), fg.grad(fg.checkpoint(f))):
        with pytest.raises(Boom):
            call(1.0)
    f.defvjp(boom, boom)
    with pytest.raises(Boom):
        fg.grad(f)(1.0)
    assert float(f(1.0)) == 2.0


def test_nan_under_debug_nans():
    with fg.debug_nans(True):
        for f in (fnp.log, fg.jit(fnp.log), fg.vmap(fnp.log)):
            with pytest.raises(FloatingPointError, match=r"log produced NaN[\s\S]*test_failures"):
                f(-X)
    assert np.isnan(np.asarray(fnp.log(-X))).all()


def test_no_handler_of_the_package_swallows_an_error():
    """An `except` body returns, raises or computes something: it is never empty."""
    count = 0
    for file in Path(fg.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ExceptHandler):
                count += 1
                body = node.body
                assert not (len(body) == 1 and isinstance(body[0], ast.Pass)), (file, node.lineno)
                assert node.type is not None, f"bare except: {file}:{node.lineno}"
    assert count > 5


# What Python's and DLPack's own protocols ask for, and what tells a test that a check failed.
PROTOCOL = {"AttributeError", "BufferError", "AssertionError"}
# Their eager rules end with a bare ValueError where the abstract rule is to say it in full.
RULES = ("core/basis", "lax")


def test_what_the_package_raises_is_an_error_of_its_own():
    package = Path(fg.__file__).parent
    count = 0
    for file in package.rglob("*.py"):
        name = file.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                raised = getattr(node.exc.func, "id", "")
                count += 1
                assert (
                    not hasattr(builtins, raised)
                    or raised in PROTOCOL
                    or (raised == "ValueError" and name.startswith(RULES))
                ), f"{name}:{node.lineno} raises a plain {raised}"
    assert count > 100

"""check_jaxpr accepts what tracing writes, and names what is wrong with a broken program."""

import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.avals import ShapedArray
from fgrad.core.check import check_jaxpr
from fgrad.core.errors import JaxprTypeError
from fgrad.core.ir import Jaxpr, Var


def sample():
    return fg.make_jaxpr(lambda x: lax.sin(lax.cos(x)))(np.ones(3)).jaxpr


def test_traced_programs_are_well_formed():
    check_jaxpr(fg.make_jaxpr(fg.grad(lambda x: (x * x).sum()))(np.ones(3)))
    check_jaxpr(fg.make_jaxpr(fg.checkpoint(fg.jit(lambda x: x + 1)))(np.ones(3)))


def test_a_variable_read_before_it_is_written():
    j = sample()
    with pytest.raises(JaxprTypeError, match="not written yet"):
        check_jaxpr(Jaxpr(j.invars, (), j.eqns[::-1], j.outvars))


def test_a_variable_written_twice():
    j = sample()
    with pytest.raises(JaxprTypeError, match="written twice"):
        check_jaxpr(Jaxpr(j.invars, (), [*j.eqns, j.eqns[-1]], j.outvars))


def test_a_wrong_result_type():
    j = sample()
    wrong = Var(ShapedArray((4,), np.dtype(np.float64)))
    eqns = [j.eqns[0], j.eqns[1].replace(outputs=(wrong,))]
    with pytest.raises(JaxprTypeError, match=r"f64\[4\].*test_check"):
        check_jaxpr(Jaxpr(j.invars, (), eqns, (wrong,)))


def test_an_unknown_output():
    j = sample()
    with pytest.raises(JaxprTypeError, match="an output"):
        check_jaxpr(Jaxpr(j.invars, (), j.eqns, (Var(j.outvars[0].aval),)))

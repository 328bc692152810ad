"""The program's text, pictures and checks."""

import numpy as np

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.check import check_jaxpr

X = np.ones((2, 3), np.float32)


def layers(x, w):
    h = fg.jit(lambda t: fnp.tanh(t @ w))(x)
    c, ys = lax.scan(lambda c, row: (c + row, c * row), h[0], h)
    return fnp.where(c > 0, c, 0.5).sum() + lax.cond(c[0] > 0, fnp.sin, fnp.cos, ys[0, 0])


def test_printing(golden):
    golden.check("jaxpr/layers.txt", str(fg.make_jaxpr(layers)(X, np.ones((3, 2), np.float32))))
    golden.check(
        "jaxpr/grad.txt", str(fg.make_jaxpr(fg.grad(lambda x: fnp.sum(fnp.sin(x) * x)))(X))
    )
    golden.check("jaxpr/vmap.txt", str(fg.make_jaxpr(fg.vmap(lambda x: fnp.dot(x, x) * 2))(X)))


def test_programs_are_well_typed():
    w = np.ones((3, 2), np.float32)
    for f in (layers, fg.grad(layers, (0, 1)), fg.checkpoint(layers)):
        check_jaxpr(fg.make_jaxpr(f)(X, w).jaxpr)
    check_jaxpr(fg.make_jaxpr(fg.vmap(layers, in_axes=(None, 0)))(X, np.stack([w, w])).jaxpr)


def test_html_holds_the_source_lines():
    closed = fg.make_jaxpr(lambda x: fnp.sin(x) * 2.0)(X)
    html = closed._repr_html_()
    assert "sin" in html
    assert "test_ir.py" in html

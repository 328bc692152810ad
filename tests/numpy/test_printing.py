"""What arrays print."""

from typing import Any

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp

CASES = [
    (lambda: fnp.array([1.0, 2.0]), "Array([1., 2.], dtype=float32)"),
    (lambda: fnp.asarray(1.0), "Array(1., dtype=float32, weak_type=True)"),
    (lambda: fnp.array(True), "Array(True, dtype=bool)"),
    (lambda: fnp.zeros((0, 3)), "Array([], shape=(0, 3), dtype=float32)"),
    (lambda: fnp.zeros(0), "Array([], dtype=float32)"),
    (lambda: fnp.array([1, 2], np.int8), "Array([1, 2], dtype=int8)"),
    (lambda: fnp.array([1.5], fnp.bfloat16), "Array([1.5], dtype=bfloat16)"),
    (lambda: fnp.array([1 + 2j]), "Array([1.+2.j], dtype=complex64)"),
    (lambda: fnp.eye(2), "Array([[1., 0.],\n       [0., 1.]], dtype=float32)"),
]


@pytest.mark.parametrize(("make", "text"), CASES)
def test_repr(make: object, text: str) -> None:
    assert repr(make()) == text  # type: ignore[operator]


def test_str_and_format() -> None:
    assert str(fnp.array([1.0, 2.0])) == "[1. 2.]"
    assert f"{fnp.array(2.0):5.2f}" == " 2.00"
    assert f"{fnp.array([1.0])}" == "[1.]"


def test_long_arrays_are_abbreviated() -> None:
    text = repr(fnp.arange(10_000))
    assert "..." in text
    assert len(text) < 200


def test_ipython() -> None:
    class Printer:
        def text(self, text: str) -> None:
            self.found = text

    printer = Printer()
    fnp.ones(2)._repr_pretty_(printer, False)
    assert printer.found == "Array([1., 1.], dtype=float32)"


def test_a_tracer_shows_its_value_where_it_is_known() -> None:
    shown: list[str] = []

    def f(x: Any) -> Any:
        shown.extend((repr(x), f"{x}", f"{x:.2f}"))
        return x * 1.0

    fg.grad(f)(1.5)
    fg.jvp(f, (1.5,), (1.0,))
    fg.jit(f)(1.5)
    fg.jit(fg.grad(f))(1.5)
    assert shown[:3] == ["LinearTracer<f32[]> of 1.5"] * 2 + ["1.50"]
    assert shown[3:6] == ["JVPTracer<f32[]> of 1.5"] * 2 + ["1.50"]
    assert shown[6:] == ["StageTracer<f32[]>"] * 3 + ["LinearTracer<f32[]>"] * 3

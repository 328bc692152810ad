"""Where elements lie, as expressions over the indices of a kernel's axes.

Generated functions call the indices of outer axes ``i0, i1, …``, those of inner axes ``j0, j1, …``
and the position among the lanes of a thread ``k``; the last inner index is that of lane 0. `I` is
the type of indices, `w` holds the words.
"""

from fgrad.backends.cuda.forms import Form
from fgrad.compile.kernel import Bound, Kernel, Load, Map


def axis_name(kernel: Kernel, axis: int) -> str:
    """The variable of an axis."""
    first = len(kernel.outer)
    return f"i{axis}" if axis < first else f"j{axis - first}"


def index_type(form: Form) -> str:
    """The definition of the type of indices."""
    return "typedef long long I;" if form.wide else "typedef int I;"


def last_name(kernel: Kernel) -> str:
    """The variable of the last axis, at lane 0."""
    return f"j{len(kernel.inner) - 1}"


def index(name: str, m: Map | Bound, kernel: Kernel, values: dict[int, str], lane: str) -> str:
    """The element where a map points.

    Args:
        name: That of the words of the map.
        m: The map.
        kernel: The kernel that it belongs to.
        values: Expressions of the values that `indirect` names.
        lane: The position among the lanes, an expression; empty: lane 0.
    """
    terms = [f"I(w.{name}_o)"] if m.offset else []
    end = len(m.strides) - 1
    for axis, stride in enumerate(m.strides):
        position = axis_name(kernel, axis)
        if axis == end and lane and stride:
            position = f"({position} + {lane})"
        if stride == 1:
            terms.append(position)
        elif stride:
            terms.append(f"I(w.{name}_{axis}) * {position}")
    for k, (v, _) in enumerate(m.indirect):
        terms.append(f"w.{name}_v{k} * (long long){values[v]}")
    return " + ".join(terms) or "0"


def inside(i: int, instr: Load, kernel: Kernel, values: dict[int, str], lane: str) -> str:
    """The condition that all bounds of a load hold."""
    return " && ".join(
        f"fg_inside({index(f'b{i}_{k}', b, kernel, values, lane)}, w.b{i}_{k}_size)"
        for k, b in enumerate(instr.bounds)
    )


def decode(number: str, axes: list[int], kernel: Kernel) -> list[str]:
    """Definitions of the variables of some axes, from a position in row-major order over them."""
    if not axes:
        return []
    lines = []
    for axis in reversed(axes[1:]):
        name, size = axis_name(kernel, axis), f"I(w.n{axis})"
        rest = f"{name}_rest"
        lines.append(
            f"const I {rest} = fg_quotient({number}, {size}), {name} = {number} - {rest} * {size};"
        )
        number = rest
    return [*lines, f"const I {axis_name(kernel, axes[0])} = {number};"]

"""Functions too long to be repeated in every kernel that uses them: code of their own, called."""

from collections.abc import Callable

from fgrad.backends.cpu.text import Builder
from fgrad.backends.cpu.vmath.lanes import Lanes

# (scalar, doubles) → double: `scalar` names the type whose precision is asked for.
Body = Callable[..., Lanes]


def outlined(name: str, body: Body, *xs: Lanes) -> Lanes:
    """The call of a function of doubles; floats are widened, and the result is rounded once.

    Args:
        name: Part of its name.
        body: What emits its code: of 'float' or 'double', the precision that is asked for, and
            of doubles.
        *xs: The operands, all floats or all doubles.
    """
    builder, scalar = xs[0].builder, xs[0].scalar
    if builder.control is not None:
        value: Lanes = builder.control.outlined(name, body, *xs)
        return value
    function = f"@fgrad.{name}.{scalar}.{builder.width}"
    kind = builder.vector("double")
    if function not in builder.globals:
        builder.globals[function] = _definition(function, body, scalar, len(xs), builder)
    wide = [x.double() for x in xs] if scalar == "float" else list(xs)
    passed = ", ".join(f"{kind} {x.name}" for x in wide)
    found = Lanes(builder, builder.emit(f"call {kind} {function}({passed})", "double"), "double")
    return found.single() if scalar == "float" else found


def _definition(function: str, body: Body, scalar: str, count: int, caller: Builder) -> str:
    b = Builder(caller.width, caller.globals)
    names = [f"%x{k}" for k in range(count)]
    result = body(scalar, *(Lanes(b, name, "double") for name in names))
    kind = b.vector("double")
    parameters = ", ".join(f"{kind} {name}" for name in names)
    lines = "\n".join(b.lines)
    return (
        f"define internal {kind} {function}({parameters}) noinline nounwind {{\n"
        f"entry:\n{lines}\n  ret {kind} {result.name}\n}}"
    )

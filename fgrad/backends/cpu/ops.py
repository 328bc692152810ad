"""The scalar operations of `core.scalar.OPS` in LLVM IR, on scalars and vectors alike.

Undefined behaviour of LLVM's instructions is kept out by construction: divisors and shift counts
are made harmless first, and conversions from float saturate.
"""

from collections.abc import Callable, Sequence

from fgrad.backends.cpu import vmath
from fgrad.backends.cpu.text import Builder, Operand
from fgrad.compile.kernel import CONVERSIONS, DType
from fgrad.core.errors import CompilationError

_SCALARS = {
    "b1": "i1", "i1": "i8", "u1": "i8", "i2": "i16", "u2": "i16", "i4": "i32", "u4": "i32",
    "i8": "i64", "u8": "i64", "f4": "float", "f8": "double",
}  # fmt: skip

_FLOAT = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_INTEGER = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_TRUTH = {
    "add": "or", "mul": "and", "max": "or", "min": "and", "and": "and", "or": "or", "xor": "xor",
}  # fmt: skip
_PREDICATES = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
_FLOAT_CALLS = {
    "abs": "fabs", "floor": "floor", "ceil": "ceil", "rint": "rint", "trunc": "trunc",
    "sqrt": "sqrt", "copysign": "copysign",
}  # fmt: skip
SHIFTS = ("shl", "shr", "sar")
_MATH_ONLY = frozenset(op for op, _ in vmath.SUPPORTED) - _FLOAT_CALLS.keys()


def scalar_of(dtype: DType) -> str:
    """The LLVM type in which a dtype is computed; one of `compile.kernel.COMPUTED`."""
    return _SCALARS[dtype.str[1:]]


def supports(op: str, dtype: DType) -> bool:
    """Whether `emit` renders an operation on operands of a dtype (of the result, for conversions).

    Args:
        op: Of `OPS`, or of `compile.kernel.CONVERSIONS`.
        dtype: One of `compile.kernel.COMPUTED`.
    """
    if dtype.str[1:] not in _SCALARS:
        return False
    if op in CONVERSIONS or op in _PREDICATES or op in ("select", "isfinite", "isnan", "abs"):
        return True
    if dtype.kind == "f":
        if op in _FLOAT or op in _FLOAT_CALLS or op in ("neg", "sign", "min", "max", "nextafter"):
            return True
        return (op, dtype.name) in vmath.SUPPORTED
    if dtype.kind == "b":
        return op in _TRUTH or op == "not"
    others = ("neg", "sign", "min", "max", "div", "rem", "not", "popcount", "clz")
    return op in _INTEGER or op in others or op in SHIFTS


def emit(b: Builder, op: str, args: Sequence[str], kinds: Sequence[DType], dtype: DType) -> str:
    """Render one operation.

    Args:
        b: Where instructions go.
        op: Of `OPS`, or of `compile.kernel.CONVERSIONS`.
        args: The names of its operands: all scalars, or all vectors of the builder's width.
        kinds: Their dtypes.
        dtype: That of the result.

    Returns:
        The name of the result.

    Raises:
        CompilationError: It is not supported; ask `supports` first.
    """
    kind = kinds[-1]
    if op in CONVERSIONS:
        return _conversion(b, op, args[0], kind, dtype)
    if not supports(op, kind):
        raise CompilationError(f"CPU code of {op} for {kind.name}: there is none")
    if op == "select":
        return b.select(*args)
    if op in _PREDICATES or op in ("isfinite", "isnan"):
        return _test(b, op, args, kind)
    if kind.kind == "f":
        return _float(b, op, args, kind)
    if kind.kind == "b":
        return _truth(b, op, args)
    return _integer(b, op, args, kind)


def _test(b: Builder, op: str, args: Sequence[str], kind: DType) -> str:
    if op in _PREDICATES:
        if kind.kind == "f":
            return b.fcmp(("u" if op == "ne" else "o") + op, *args)
        signed = "" if op in ("eq", "ne") else "s" if kind.kind == "i" else "u"
        return b.icmp(signed + op, *args)
    (x,) = args
    if kind.kind != "f":  # no integer is infinite or NaN
        return b.icmp("eq" if op == "isfinite" else "ne", x, x)
    if op == "isnan":
        return b.fcmp("uno", x, x)
    return b.fcmp("olt", b.call("fabs", x), float("inf"))


def _truth(b: Builder, op: str, args: Sequence[str]) -> str:
    if op in ("abs", "not"):
        return args[0] if op == "abs" else b.binary("xor", args[0], True)
    return b.binary(_TRUTH[op], *args)


# Floats


def _float(b: Builder, op: str, args: Sequence[str], kind: DType) -> str:
    if op in _FLOAT:
        return b.binary(_FLOAT[op], *args)
    if op in _FLOAT_CALLS:
        return b.call(_FLOAT_CALLS[op], *args)
    if op in _MATH_ONLY:
        scalar, lanes = b.types[args[0]]
        with b.lanes(lanes):
            name = vmath.emit(b, op, tuple(args), kind)
        b.types.setdefault(name, (scalar, lanes))
        return name
    return _FLOAT_OTHERS[op](b, *args)


def _minimum(b: Builder, x: str, y: str) -> str:
    return _extremum(b, "olt", x, y)


def _maximum(b: Builder, x: str, y: str) -> str:
    return _extremum(b, "ogt", x, y)


def _extremum(b: Builder, predicate: str, x: str, y: str) -> str:
    # The inner choice is one instruction on x86, and gives y where either is NaN.
    better = b.select(b.fcmp(predicate, x, y), x, y)
    return b.select(b.fcmp("uno", x, x), x, better)


def _negative(b: Builder, x: str) -> str:
    return b.emit(f"fneg {b.type_of(x)} {x}", *b.types[x])


def _sign(b: Builder, x: str) -> str:
    positive = b.select(b.fcmp("ogt", x, 0.0), 1.0, b.binary("fadd", x, 0.0))
    return b.select(b.fcmp("olt", x, 0.0), -1.0, positive)


def _nextafter(b: Builder, x: str, y: str) -> str:
    """One step of the bits, which order floats of one sign by magnitude."""
    scalar = b.scalar(x)
    integer, tiny = ("i32", 2.0**-149) if scalar == "float" else ("i64", 2.0**-1074)
    bits = b.bitcast(x, integer)
    away = b.icmp("eq", b.fcmp("olt", x, y), b.icmp("sgt", bits, -1))
    stepped = b.select(away, b.binary("add", bits, 1), b.binary("add", bits, -1))
    moved = b.bitcast(stepped, scalar)
    moved = b.select(b.fcmp("oeq", x, 0.0), b.call("copysign", tiny, y), moved)
    result = b.select(b.fcmp("oeq", x, y), y, moved)
    return b.select(b.fcmp("uno", x, y), b.binary("fadd", x, y), result)


_FLOAT_OTHERS: dict[str, Callable[..., str]] = {
    "min": _minimum, "max": _maximum, "neg": _negative, "sign": _sign, "nextafter": _nextafter,
}  # fmt: skip


# Integers


def _integer(b: Builder, op: str, args: Sequence[str], kind: DType) -> str:
    x, y = args[0], args[-1]
    signed = kind.kind == "i"
    if op in _INTEGER:
        return b.binary(_INTEGER[op], x, y)
    if op == "abs" and not signed:
        return x
    if op in SHIFTS:
        return _shift(b, op, x, y, kind)
    match op:
        case "div" | "rem":
            return _divide(b, op, x, y, signed)
        case "min" | "max":
            return b.call(("s" if signed else "u") + op, x, y)
        case "neg":
            return b.binary("sub", 0, x)
        case "abs":
            return b.call("abs", x, flag="i1 false")
        case "not":
            return b.binary("xor", x, -1)
        case "popcount":
            return b.call("ctpop", x)
        case "clz":
            return b.call("ctlz", x, flag="i1 false")
    negative = b.cast("sext", b.icmp("slt", x, 0), b.scalar(x)) if signed else None  # sign
    positive = b.cast("zext", b.icmp("sgt" if signed else "ne", x, 0), b.scalar(x))
    return positive if negative is None else b.binary("or", positive, negative)


def _divide(b: Builder, op: str, x: str, y: str, signed: bool) -> str:
    """Towards zero; by 0 it gives -1, and x as remainder."""
    zero = b.icmp("eq", y, 0)
    bad = zero
    if signed:  # the lowest number by -1 overflows; by 1 it gives the same result
        lowest = b.icmp("eq", x, -(2 ** (int(b.scalar(x)[1:]) - 1)))
        bad = b.binary("or", zero, b.binary("and", lowest, b.icmp("eq", y, -1)))
    safe = b.select(bad, 1, y)
    quotient = _quotient(b, x, safe, signed)
    if op == "div":
        return b.select(zero, -1, quotient)
    return b.select(zero, x, b.binary("sub", x, b.binary("mul", quotient, safe)))


def _quotient(b: Builder, x: str, y: str, signed: bool) -> str:
    bits = int(b.scalar(x)[1:])
    if bits == 64 or b.width == 1:
        return b.binary("sdiv" if signed else "udiv", x, y)
    # There are no vectors of integer divisions. Floats of twice the digits round no quotient to an
    # integer that it does not reach.
    wide = "double" if bits == 32 else "float"
    there, back = ("sitofp", "fptosi") if signed else ("uitofp", "fptoui")
    quotient = b.binary("fdiv", b.cast(there, x, wide), b.cast(there, y, wide))
    return b.cast(back, quotient, b.scalar(x))


def _shift(b: Builder, op: str, x: str, y: Operand, kind: DType) -> str:
    bits = kind.itemsize * 8
    code = "shl" if op == "shl" else "lshr"
    if isinstance(y, int):
        return b.binary(code, x, y) if y < bits else b.binary("and", x, 0)
    if op == "sar" and kind.kind == "i":  # beyond the width, the sign in all bits
        return b.binary("ashr", x, b.call("umin", y, bits - 1))
    inside = b.icmp("ult", y, bits)
    moved = b.binary(code, x, b.select(inside, y, 0))
    return b.select(inside, moved, 0)


# Conversions


def _conversion(b: Builder, op: str, x: str, old: DType, new: DType) -> str:
    if op == "convert":
        return convert(b, x, old, new)
    if op == "round_float16":
        return b.cast("fpext", narrow_float16(b, x), "float")
    if op == "round_bfloat16":
        return widen_bfloat16(b, narrow_bfloat16(b, x))
    if old.itemsize != new.itemsize:
        raise CompilationError(f"CPU code of bitcast from {old.name} to {new.name}: sizes differ")
    if new.kind == "b":
        return x if old.kind == "b" else b.icmp("ne", x, 0)
    return b.cast("zext", x, "i8") if old.kind == "b" else b.bitcast(x, scalar_of(new))


def convert(b: Builder, x: str, old: DType, new: DType) -> str:
    """A value as another dtype; float to integer truncates, clamps, and makes NaN 0."""
    scalar = scalar_of(new)
    if old == new:
        return x
    if new.kind == "b":
        return b.fcmp("une", x, 0.0) if old.kind == "f" else b.icmp("ne", x, 0)
    if new.kind == "f":
        if old.kind == "f":
            return b.cast("fpext" if new.itemsize > old.itemsize else "fptrunc", x, scalar)
        return b.cast("sitofp" if old.kind == "i" else "uitofp", x, scalar)
    if old.kind != "f":
        return b.resize(x, scalar, old.kind == "i")
    source, lanes = b.types[x]
    prefix = "" if lanes == 1 else f"v{lanes}"
    name = "fptosi" if new.kind == "i" else "fptoui"
    result = scalar if lanes == 1 else f"<{lanes} x {scalar}>"
    suffix = f"{prefix}{scalar}.{prefix}{'f32' if source == 'float' else 'f64'}"
    function, operand = f"@llvm.{name}.sat.{suffix}", b.type_of(x)
    b.globals[function] = f"declare {result} {function}({operand})"
    return b.emit(f"call {result} {function}({operand} {x})", scalar, lanes)


def narrow_float16(b: Builder, x: str) -> str:
    """The float rounded to a half."""
    _, lanes = b.types[x]
    if lanes == 1:
        # LLVM would look for the sign of what it rounds where that came from; if that is a double,
        # there is no instruction that makes a half of it.
        function = "@llvm.arithmetic.fence.f32"
        b.globals[function] = f"declare float {function}(float)"
        x = b.emit(f"call float {function}(float {x})", "float", 1)
    return b.cast("fptrunc", x, "half")


def narrow_bfloat16(b: Builder, x: str) -> str:
    """The upper half of a float's bits, rounded to nearest, ties to even; NaN stays NaN."""
    bits = b.bitcast(x, "i32")
    last = b.binary("and", b.binary("lshr", bits, 16), 1)
    rounded = b.binary("add", b.binary("add", bits, 0x7FFF), last)
    quiet = b.binary("or", bits, 0x400000)
    kept = b.select(b.fcmp("uno", x, x), quiet, rounded)
    return b.cast("trunc", b.binary("lshr", kept, 16), "i16")


def widen_bfloat16(b: Builder, x: str) -> str:
    """The float whose upper half of bits is given."""
    return b.bitcast(b.binary("shl", b.cast("zext", x, "i32"), 16), "float")

"""The remainder of a division with the quotient cut off, exactly, as C's fmod."""

from fgrad.backends.cpu.text import Builder
from fgrad.backends.cpu.vmath.branches import unlikely
from fgrad.backends.cpu.vmath.lanes import INF, Lanes, copysign, fabs, fma, trunc, where

# Below, the quotient is rounded to at most the next integer.
_LIMIT = {"float": 2.0**23, "double": 2.0**52}

# Long division of the mantissas, 11 bits at a time; both numbers are positive and finite.
_BODY = """\
  %x.biased = lshr i64 %x, 52
  %y.biased = lshr i64 %y, 52
  %x.least = call i64 @llvm.umax.i64(i64 %x.biased, i64 1)
  %y.least = call i64 @llvm.umax.i64(i64 %y.biased, i64 1)
  %x.fraction = and i64 %x, 4503599627370495
  %y.fraction = and i64 %y, 4503599627370495
  %x.normal = icmp ne i64 %x.biased, 0
  %y.normal = icmp ne i64 %y.biased, 0
  %x.full = or i64 %x.fraction, 4503599627370496
  %y.full = or i64 %y.fraction, 4503599627370496
  %x.m = select i1 %x.normal, i64 %x.full, i64 %x.fraction
  %y.m = select i1 %y.normal, i64 %y.full, i64 %y.fraction
  %places = sub i64 %x.least, %y.least
  %m.0 = urem i64 %x.m, %y.m
  br label %divide
divide:
  %m = phi i64 [ %m.0, %lane ], [ %m.next, %step ]
  %left = phi i64 [ %places, %lane ], [ %left.next, %step ]
  %more = icmp sgt i64 %left, 0
  br i1 %more, label %step, label %done
step:
  %digits = call i64 @llvm.umin.i64(i64 %left, i64 11)
  %m.shifted = shl i64 %m, %digits
  %m.next = urem i64 %m.shifted, %y.m
  %left.next = sub i64 %left, %digits
  br label %divide
done:
  %exponent = sub i64 %y.least, 1075
  %half = ashr i64 %exponent, 1
  %rest = sub i64 %exponent, %half
  %half.biased = add i64 %half, 1023
  %rest.biased = add i64 %rest, 1023
  %half.bits = shl i64 %half.biased, 52
  %rest.bits = shl i64 %rest.biased, 52
  %half.power = bitcast i64 %half.bits to double
  %rest.power = bitcast i64 %rest.bits to double
  %m.float = uitofp i64 %m to double
  %part = fmul double %m.float, %half.power
  %r = fmul double %part, %rest.power"""


def rem(x: Lanes, y: Lanes) -> Lanes:
    """X − y·trunc(x/y), exactly, with the sign of x; NaN of inf or by 0."""
    a, b = fabs(x), fabs(y)
    quotient = a / b
    r = fma(-trunc(quotient), b, a)
    # The quotient was rounded up to an integer where the remainder is negative.
    r = where(r < 0.0, r + b, r)
    huge = (quotient >= _LIMIT[x.scalar]) & (a < INF) & (b > 0.0)
    [r] = unlikely(huge, [r], lambda: [_divide(where(huge, a, 1.0), where(huge, b, 1.0))])
    return copysign(where(a < b, a, r), x)


def _divide(a: Lanes, b: Lanes) -> Lanes:
    """The same of positive finite numbers, lane by lane."""
    if a.scalar == "float":
        return _divide(a.double(), b.double()).single()
    builder = a.builder
    name = f"@fgrad.remainder.{builder.width}"
    _define(builder, name)
    kind = builder.vector("double")
    called = builder.emit(f"call {kind} {name}({kind} {a.name}, {kind} {b.name})", "double")
    return Lanes(builder, called, "double")


def _define(builder: Builder, name: str) -> None:
    """Add the function to the globals."""
    kind, text = builder.vector("double"), builder.globals
    text["@llvm.umax.i64"] = "declare i64 @llvm.umax.i64(i64, i64)"
    text["@llvm.umin.i64"] = "declare i64 @llvm.umin.i64(i64, i64)"
    text[name] = f"""\
define internal {kind} {name}({kind} %a, {kind} %b) noinline cold nounwind {{
entry:
  %xs = alloca {kind}
  %ys = alloca {kind}
  store {kind} %a, ptr %xs
  store {kind} %b, ptr %ys
  br label %lane
lane:
  %i = phi i64 [ 0, %entry ], [ %next, %done ]
  %x.at = getelementptr i64, ptr %xs, i64 %i
  %y.at = getelementptr i64, ptr %ys, i64 %i
  %x = load i64, ptr %x.at
  %y = load i64, ptr %y.at
{_BODY}
  store double %r, ptr %x.at
  %next = add i64 %i, 1
  %again = icmp ult i64 %next, {builder.width}
  br i1 %again, label %lane, label %exit
exit:
  %all = load {kind}, ptr %xs
  ret {kind} %all
}}"""

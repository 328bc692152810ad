"""The remainder of huge angles by π/2, exactly.

Payne and Hanek, *Radian reduction for trigonometric functions*, SIGNUM Newsletter 18 (1983): of
x·(2/π) with x = m·2^k, the bits of 2/π that give multiples of 4 are left out, and the next 192
leave at least 75 after the binary point that count. It is done lane by lane in integers, out of
the way of the vector code: one function a module, called where some lane needs it.
"""

from fgrad.backends.cpu.text import Builder
from fgrad.backends.cpu.vmath.lanes import Lanes

# 64 zeros and 1280 bits of 2/π
_TWO_OVER_PI = (
    0, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561,
    0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484,
    0xE99C7026B45F7E41, 0x3991D639835339F4, 0x9C845F8BBDF9283B, 0x1FF897FFDE05980F,
    0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D, 0x7527BAC7EBE5F17B,
    0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB, 0xF0CFBC209AF4361D,
)  # fmt: skip
_TABLE = "@fgrad.two_over_pi"
_HALF_PI_HIGH, _HALF_PI_LOW = "0x3FF921FB54442D18", "0x3C91A62633145C07"

# m = the mantissa, a:b:c = 192 bits of 2/π, t = the fraction of x·(2/π)/4 in 128 bits.
_BODY = """\
  %sign = icmp slt i64 %bits, 0
  %biased = lshr i64 %bits, 52
  %e = and i64 %biased, 2047
  %fraction = and i64 %bits, 4503599627370495
  %m = or i64 %fraction, 4503599627370496
  %first = sub i64 %e, 1013
  %word = lshr i64 %first, 6
  %shift = and i64 %first, 63
  %p0 = getelementptr i64, ptr @fgrad.two_over_pi, i64 %word
  %p1 = getelementptr i64, ptr %p0, i64 1
  %p2 = getelementptr i64, ptr %p0, i64 2
  %p3 = getelementptr i64, ptr %p0, i64 3
  %w0 = load i64, ptr %p0
  %w1 = load i64, ptr %p1
  %w2 = load i64, ptr %p2
  %w3 = load i64, ptr %p3
  %a = call i64 @llvm.fshl.i64(i64 %w0, i64 %w1, i64 %shift)
  %b = call i64 @llvm.fshl.i64(i64 %w1, i64 %w2, i64 %shift)
  %c = call i64 @llvm.fshl.i64(i64 %w2, i64 %w3, i64 %shift)
  %mw = zext i64 %m to i128
  %aw = zext i64 %a to i128
  %bw = zext i64 %b to i128
  %cw = zext i64 %c to i128
  %mc = mul i128 %mw, %cw
  %mch = lshr i128 %mc, 64
  %mb = mul i128 %mw, %bw
  %mbc = add i128 %mb, %mch
  %low = and i128 %mbc, 18446744073709551615
  %carry = lshr i128 %mbc, 64
  %ma = mul i128 %mw, %aw
  %mabc = add i128 %ma, %carry
  %high = shl i128 %mabc, 64
  %t = or i128 %high, %low
  %floor = lshr i128 %t, 126
  %halves = lshr i128 %t, 125
  %up = and i128 %halves, 1
  %nearest = add i128 %floor, %up
  %n = trunc i128 %nearest to i64
  %rest = shl i128 %t, 2
  %below = icmp slt i128 %rest, 0
  %restn = sub i128 0, %rest
  %size = select i1 %below, i128 %restn, i128 %rest
  %zeros = call i128 @llvm.ctlz.i128(i128 %size, i1 false)
  %norm = shl i128 %size, %zeros
  %top = lshr i128 %norm, 75
  %mid = lshr i128 %norm, 22
  %top64 = trunc i128 %top to i64
  %mid64 = trunc i128 %mid to i64
  %mid53 = and i64 %mid64, 9007199254740991
  %topf = uitofp i64 %top64 to double
  %midf = uitofp i64 %mid53 to double
  %zeros64 = trunc i128 %zeros to i64
  %exponent = sub i64 970, %zeros64
  %scalebits = shl i64 %exponent, 52
  %scale = bitcast i64 %scalebits to double
  %flip = xor i1 %sign, %below
  %scalen = fneg double %scale
  %signed = select i1 %flip, double %scalen, double %scale
  %fh = fmul double %topf, %signed
  %fl0 = fmul double %midf, %signed
  %fl = fmul double %fl0, 0x3CA0000000000000
  %rh = fmul double %fh, PI_HIGH
  %rhn = fneg double %rh
  %r0 = call double @llvm.fma.f64(double %fh, double PI_HIGH, double %rhn)
  %r1 = call double @llvm.fma.f64(double %fl, double PI_HIGH, double %r0)
  %rl = call double @llvm.fma.f64(double %fh, double PI_LOW, double %r1)
  %nn = sub i64 0, %n
  %ns = select i1 %sign, i64 %nn, i64 %n
""".replace("PI_HIGH", _HALF_PI_HIGH).replace("PI_LOW", _HALF_PI_LOW)


def pi_remainder(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """The number n modulo 4 and the two parts of r, of x = n·π/2 + r with |r| ≤ π/4.

    Args:
        x: Finite doubles of at least 2^19 in magnitude.
    """
    builder = x.builder
    types = [builder.vector(scalar) for scalar in ("i64", "double", "double")]
    result = "{ " + ", ".join(types) + " }"
    name = f"@fgrad.pi_remainder.{builder.width}"
    _define(builder, name, result)
    called = builder.emit(f"call {result} {name}({types[1]} {x.name})")
    n, high, low = (
        Lanes(builder, builder.emit(f"extractvalue {result} {called}, {i}", scalar), scalar)
        for i, scalar in enumerate(("i64", "double", "double"))
    )
    return n, high, low


def _define(builder: Builder, name: str, result: str) -> None:
    """Add the function and its table to the globals."""
    if name in builder.globals:
        return
    words = ", ".join(f"i64 {word}" for word in _TWO_OVER_PI)
    count, width = len(_TWO_OVER_PI), builder.width
    text = builder.globals
    text[_TABLE] = f"{_TABLE} = internal unnamed_addr constant [{count} x i64] [{words}]"
    text["@llvm.fshl.i64"] = "declare i64 @llvm.fshl.i64(i64, i64, i64)"
    text["@llvm.ctlz.i128"] = "declare i128 @llvm.ctlz.i128(i128, i1)"
    text["@llvm.fma.f64"] = "declare double @llvm.fma.f64(double, double, double)"
    integers, doubles = builder.vector("i64"), builder.vector("double")
    text[name] = f"""\
define internal {result} {name}({doubles} %x) noinline cold nounwind {{
entry:
  %ns.at = alloca {integers}
  %highs.at = alloca {doubles}
  %lows.at = alloca {doubles}
  store {doubles} %x, ptr %highs.at
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %n.at = getelementptr i64, ptr %ns.at, i64 %i
  %high.at = getelementptr double, ptr %highs.at, i64 %i
  %low.at = getelementptr double, ptr %lows.at, i64 %i
  %bits = load i64, ptr %high.at
{_BODY}
  store i64 %ns, ptr %n.at
  store double %rh, ptr %high.at
  store double %rl, ptr %low.at
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, {width}
  br i1 %more, label %loop, label %exit
exit:
  %n.all = load {integers}, ptr %ns.at
  %high.all = load {doubles}, ptr %highs.at
  %low.all = load {doubles}, ptr %lows.at
  %one = insertvalue {result} poison, {integers} %n.all, 0
  %two = insertvalue {result} %one, {doubles} %high.all, 1
  %three = insertvalue {result} %two, {doubles} %low.all, 2
  ret {result} %three
}}"""

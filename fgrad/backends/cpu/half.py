"""Conversions of float16 for processors without instructions for them.

LLVM calls them by the names of the compiler's runtime library, which a Python process need not
have loaded. Rounding is to nearest, ties to even; NaN stays NaN.
"""

NAMES = ("fgrad_half_to_float", "fgrad_float_to_half")
CALLED = ("__extendhfsf2", "__truncsfhf2")  # in the same order

TEXT = """
define float @fgrad_half_to_float(half %x) {
  %h = bitcast half %x to i16
  %b = zext i16 %h to i32
  %s = and i32 %b, 32768
  %sign = shl i32 %s, 16
  %m = and i32 %b, 32767
  %magnitude = shl i32 %m, 13
  ; the exponents of the two formats start 112 apart
  %normal = add i32 %magnitude, 939524096
  %special = add i32 %magnitude, 1879048192
  %is_special = icmp uge i32 %m, 31744
  ; a subnormal number, as a fraction added to 2^-14
  %raised = add i32 %magnitude, 947912704
  %sum = bitcast i32 %raised to float
  %fraction = fsub float %sum, 0x3F10000000000000
  %small = bitcast float %fraction to i32
  %is_small = icmp ult i32 %m, 1024
  %some = select i1 %is_special, i32 %special, i32 %normal
  %bits = select i1 %is_small, i32 %small, i32 %some
  %all = or i32 %bits, %sign
  %y = bitcast i32 %all to float
  ret float %y
}

define half @fgrad_float_to_half(float %x) {
  %b = bitcast float %x to i32
  %s = lshr i32 %b, 16
  %sign = and i32 %s, 32768
  %a = and i32 %b, 2147483647
  ; half of the last place is added, less one bit unless the place is odd
  %place = lshr i32 %a, 13
  %odd = and i32 %place, 1
  %moved = add i32 %a, 3355447295
  %even = add i32 %moved, %odd
  %normal = lshr i32 %even, 13
  ; below 2^-14: added to 1/2, whose last place is that of the subnormal numbers
  %magnitude = bitcast i32 %a to float
  %raised = fadd float %magnitude, 5.0e-1
  %r = bitcast float %raised to i32
  %small = sub i32 %r, 1056964608
  %is_small = icmp ult i32 %a, 947912704
  ; from 2^16 on: infinity, or NaN with what fits of its bits
  %is_large = icmp uge i32 %a, 1199570944
  %is_nan = icmp ugt i32 %a, 2139095040
  %payload = and i32 %place, 1023
  %nan = or i32 %payload, 32256
  %large = select i1 %is_nan, i32 %nan, i32 31744
  %some = select i1 %is_large, i32 %large, i32 %normal
  %bits = select i1 %is_small, i32 %small, i32 %some
  %all = or i32 %bits, %sign
  %h = trunc i32 %all to i16
  %y = bitcast i16 %h to half
  ret half %y
}
"""

"""What reductions and scans collect, as CUDA C: their variables, one more value, the result."""

from fgrad.backends.cuda.forms import Form, accumulator
from fgrad.backends.cuda.types import type_name
from fgrad.compile.kernel import Fold, Kernel, Scan


def monoid(kernel: Kernel, i: int) -> str:
    """The monoid of an instruction, a type of the prelude."""
    return f"fg_monoid_{kernel.body[i].monoid}"  # type: ignore[union-attr]


def collected(kernel: Kernel, i: int) -> str:
    """The C type in which an instruction collects."""
    return type_name(accumulator(kernel, i))


def letter(kernel: Kernel, i: int) -> str:
    """What the variables of reductions begin with."""
    return "f" if isinstance(kernel.body[i], Fold) else "a"


def adds_floats(kernel: Kernel, i: int) -> bool:
    """Whether long chains of an instruction have to carry what they lose."""
    instr = kernel.body[i]
    return instr.monoid == "add" and accumulator(kernel, i).kind == "f"  # type: ignore[union-attr]


def collect(kernel: Kernel, form: Form, i: int, name: str, value: str) -> str:
    """One more value for a reduction."""
    if isinstance(kernel.body[i], Scan):
        return f"{{ {collected(kernel, i)} x = {value}; {name}.step(&x); }}"
    given = f"({collected(kernel, i)}){value}"
    if adds_floats(kernel, i) and not form.items:
        return f"{name}.add({given});"
    return f"{name} = {monoid(kernel, i)}::combine({name}, {given});"


def begin(kernel: Kernel, form: Form, i: int, name: str) -> str:
    """The variable of a reduction."""
    kind = collected(kernel, i)
    if isinstance(kernel.body[i], Scan):
        return f"fg_scan<{monoid(kernel, i)}, {kind}, 1, 1> {name};"
    if adds_floats(kernel, i) and not form.items:
        return f"fg_partial<{monoid(kernel, i)}, {kind}> {name};"
    return f"{kind} {name} = {nothing(kernel, i)};"


def nothing(kernel: Kernel, i: int) -> str:
    """What changes nothing where an instruction collects it."""
    kind, m = collected(kernel, i), monoid(kernel, i)
    scans = isinstance(kernel.body[i], Scan)
    return f"fg_none<{m}, {kind}>()" if scans else f"{m}::identity<{kind}>()"


def finished(kernel: Kernel, form: Form, i: int, name: str) -> str:
    """What a thread has collected."""
    if isinstance(kernel.body[i], Scan):
        return f"{name}.so_far()"
    return f"{name}.result()" if adds_floats(kernel, i) and not form.items else name


def scanned(instr: Scan) -> str:
    """The monoid of a scan; of complex products, that of their real parts."""
    return f"fg_monoid_{'mul' if len(instr.args) == 2 else instr.monoid}"


def is_real(instr: Scan) -> str:
    """Whether a scan of complex products gives their real parts."""
    return "true" if instr.monoid == "mul_re" else "false"


def state(kernel: Kernel, v: int) -> str:
    """The state of a scan: of a team's, or for each lane of a thread if it leaves them apart."""
    instr = kernel.body[v]
    assert isinstance(instr, Scan)
    rest = f"{type_name(instr.dtype)}, {'1, 1' if instr.free else 'T, V'}"
    name = f"s{v}[V]" if instr.free else f"s{v}"
    if len(instr.args) == 2:
        return f"fg_scan_complex<{rest}> {name};"
    if instr.monoid == "mul" and instr.dtype.kind == "f":
        return f"fg_scan_product<{rest}> {name};"
    return f"fg_scan<{scanned(instr)}, {rest}> {name};"

"""What a library step does on the device: calls in order, over operands, results and a workspace.

A call is a kernel of our own, CUDA C text that goes through the prelude like that of fused kernels,
or a call of one of NVIDIA's libraries::

    Place         where a pointer points: an operand, a result or the workspace, and bytes from it
    KernelCall    a launch of our own text
    ForeignCall   a call of a library, made for one device
    LibraryPlan   calls in order

A kernel of our own has the signature of fused ones: a pointer for each place, a pointer to the
workspace, and its words by value. So a program compiles all of its kernels as one module, and may
patch these launches in a graph.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

INPUT, OUTPUT, WORKSPACE = "input", "output", "workspace"
Run = Callable[[int, Sequence[int]], None]


class Place(NamedTuple):
    """Where a pointer points.

    Attributes:
        kind: 'input', 'output' or 'workspace'.
        number: Of the operand or result.
        bytes: From the start of its buffer, or of the workspace.
    """

    kind: str
    number: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class KernelCall:
    """A launch of a kernel of our own.

    Attributes:
        name: Its function; equal names have equal texts.
        source: CUDA C text, without the prelude.
        grid: Blocks along x, y and z.
        block: Threads of a block.
        places: What its pointers point to, in order; that of the workspace comes after them.
        words: The 64-bit words that it is given by value, packed.
        shared_bytes: Of dynamic shared memory.
    """

    name: str
    source: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    places: tuple[Place, ...]
    words: bytes
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ForeignCall:
    """A call of a library.

    Attributes:
        name: For people.
        places: What it is given pointers to.
        make: Makes ``(stream, pointers) -> None`` on the current device, once for each executable;
            whatever it allocates is allocated there and not by the calls.
    """

    name: str
    places: tuple[Place, ...]
    make: Callable[[], Run]


Call = KernelCall | ForeignCall


@dataclass(frozen=True, slots=True)
class LibraryPlan:
    """What takes the place of a library step.

    Attributes:
        name: For people: what computes it.
        calls: In order, each after those before it.
        workspace_bytes: Scratch memory, aligned to 256 bytes; its content is lost between runs.
        captures: Whether the calls can be captured in a graph.
        check: Where a byte lies that is 1 after the calls if an index lay outside, else 0; None
            where none can, or none needs to be told of.
    """

    name: str
    calls: tuple[Call, ...]
    workspace_bytes: int = 0
    captures: bool = True
    check: Place | None = None


def addresses(
    call: Call, inputs: Sequence[int], outputs: Sequence[int], workspace: int
) -> list[int]:
    """The pointers that a call is given.

    Args:
        call: A call of a plan.
        inputs: The address of the buffer of each operand; whatever stands for a literal is not
            read.
        outputs: The address of the buffer of each result.
        workspace: The address of the workspace.
    """
    bases = {INPUT: inputs, OUTPUT: outputs, WORKSPACE: (workspace,)}
    return [bases[p.kind][p.number] + p.bytes for p in call.places]

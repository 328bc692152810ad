"""Checks of compiled programs that failed on a device, and what is raised for them later.

A kernel cannot raise: it leaves a number in a word that the host can read. Whoever waits for the
device looks at that word and raises by what the number stands for. Programs run on meanwhile: their
gathers have read inside of their operands, their scatters have dropped.
"""

import itertools
from weakref import WeakValueDictionary

from fgrad.backends.cuda.device import Device
from fgrad.core.errors import IndexOutOfBoundsError
from fgrad.core.ir import Eqn, Jaxpr


class Check:
    """A check of bounds; its program keeps it.

    Attributes:
        number: What stands in the word when it fails.
        eqn: The equation.
    """

    __slots__ = ("__weakref__", "eqn", "number")

    def __init__(self, eqn: Eqn) -> None:
        self.eqn = eqn
        self.number = next(_numbers)
        _checks[self.number] = self


_numbers = itertools.count(1)
_checks: WeakValueDictionary[int, Check] = WeakValueDictionary()


def raise_pending(device: Device) -> None:
    """Raise for a check that failed in work that is done; a failure is raised once.

    Args:
        device: The device that was waited for.

    Raises:
        IndexOutOfBoundsError: A window of a gather or scatter lay outside of its operand.
    """
    number = device.fault()
    if not number:
        return
    device.clear_fault()
    check = _checks.get(number)
    what = "a gather or scatter: an index lies outside of its operand, in a program that is gone"
    if check is not None:
        eqn, params = check.eqn, check.eqn.params
        name = params.get("name", eqn.primitive.name)  # that of what a check stands beside
        shape = params.get("operand_shape", eqn.inputs[0].aval.shape)
        what = (
            f"{name}: an index lies outside of its operand of shape {list(shape)}, asked for at "
            f"{eqn.source}"
        )
    raise IndexOutOfBoundsError(
        f"{what}; the program ran on {device.key} and was waited for only now. Correct the "
        f"indices, or say with mode= what should happen ('clip', 'fill' or 'drop')"
    )


def explain(error: BaseException, device: Device) -> None:
    """Add to the error of a wait which programs may have caused it."""
    told = [_lines_of(jaxpr) for jaxpr in dict.fromkeys(reversed(device.recent))]
    if told:
        error.add_note(
            f"fgrad: work on {device.key} has failed behind the program that asked for it. The "
            f"compiled programs that ran last, the latest first: {'; '.join(told)}. With "
            f"FGRAD_CHECK=1 each step is waited for, and the one that fails is named."
        )


def _lines_of(jaxpr: Jaxpr) -> str:
    lines = dict.fromkeys(str(e.source) for e in jaxpr.eqns if e.source is not None)
    first, *others = lines or ["an unknown place"]
    return f"from {first} to {others[-1]}" if others else f"at {first}"

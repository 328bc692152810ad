"""`check_jaxpr`: is a program well formed and well typed? Run after every pass in tests."""

from fgrad.core.errors import FgradError, JaxprTypeError
from fgrad.core.ir import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var, subjaxprs


def check_jaxpr(jaxpr: Jaxpr | ClosedJaxpr) -> None:
    """Check a program and the programs in its parameters.

    Every variable must be written once, before it is read; every equation must have the types
    that its primitive's abstract rule gives; literals must have the type they claim.

    Args:
        jaxpr: The program.

    Raises:
        JaxprTypeError: It is not so; the message names the equation and the user's line.

    Example:
        >>> import fgrad as fg
        >>> check_jaxpr(fg.make_jaxpr(lambda x: x + 1)(2.0))
    """
    program = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    written: set[Var] = set()
    for v in (*program.constvars, *program.invars):
        _write(written, v, "an input")
    for eqn in program.eqns:
        _check_eqn(eqn, written)
    for atom in program.outvars:
        _read(written, atom, "an output")


def _write(written: set[Var], v: Var, what: str) -> None:
    if v in written:
        raise JaxprTypeError(f"a variable of type {v.aval} is written twice, by {what}")
    written.add(v)


def _read(written: set[Var], atom: Atom, what: str) -> None:
    if isinstance(atom, Literal):
        if atom.value.shape != atom.aval.shape or atom.value.dtype != atom.aval.dtype:
            raise JaxprTypeError(
                f"a literal in {what} claims {atom.aval} and holds "
                f"{atom.value.dtype}{list(atom.value.shape)}"
            )
    elif atom not in written:
        raise JaxprTypeError(f"{what} reads a variable of type {atom.aval} that is not written yet")


def _check_eqn(eqn: Eqn, written: set[Var]) -> None:
    place = f"{eqn!r} (asked for at {eqn.source})"
    for atom in eqn.inputs:
        _read(written, atom, place)
    for sub in subjaxprs(eqn.params):
        if sub.constvars:
            raise JaxprTypeError(f"{place} holds a program with constvars; they must be operands")
        check_jaxpr(sub)
    try:
        avals = eqn.primitive.abstract(*[a.aval for a in eqn.inputs], **eqn.params)
    except FgradError as error:
        raise JaxprTypeError(f"{place} is not well typed: {error}") from error
    expected = avals if eqn.primitive.multiple_results else [avals]
    got = [v.aval for v in eqn.outputs]
    if [a.strip_weak() for a in expected] != [a.strip_weak() for a in got]:
        raise JaxprTypeError(
            f"{place} has results {', '.join(map(str, got))}, its primitive gives "
            f"{', '.join(map(str, expected))}"
        )
    for v in eqn.outputs:
        _write(written, v, place)

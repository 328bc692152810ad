"""Parameters of a function by number and by name."""

from collections.abc import Callable
from typing import Any

from fgrad.core.errors import DonationError, StaticArgumentError
from fgrad.core.transforms.flat import name_of

Fun = Callable[..., Any]


def parameters_of(fun: Fun, what: str, numbers: Any, names: Any) -> tuple[Any, Any]:
    """The same parameters both by number and by name, however a call passes them."""
    numbers, names = _tuple(numbers), _tuple(names)
    if not numbers and not names:
        return numbers, names
    kind = StaticArgumentError if what == "static" else DonationError
    for given, of, type_ in ((numbers, "argnums", int), (names, "argnames", str)):
        if not all(isinstance(g, type_) for g in given):
            raise kind(
                f"jit of {name_of(fun)}: {what}_{of} takes {type_.__name__} or a sequence of it, "
                f"got {given!r}"
            )
    import inspect  # noqa: PLC0415 - slow to import, and rarely needed

    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        return numbers, names
    kinds = {p.kind for p in parameters}
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    count = len(positional)
    open_ended = inspect.Parameter.VAR_POSITIONAL in kinds
    known = {p.name for p in parameters}
    wrong = [n for n in numbers if not open_ended and not -count <= n < count]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        wrong += [n for n in names if n not in known]
    if wrong:
        raise kind(
            f"jit of {name_of(fun)}: {what}_argnums or {what}_argnames {wrong} name no parameter; "
            f"they are {', '.join(p.name for p in parameters) or 'none'}"
        )
    full = {n if open_ended or n >= 0 else n + count for n in numbers}
    by_keyword = [i for i, p in enumerate(positional) if p.kind is p.POSITIONAL_OR_KEYWORD]
    full |= {i for i in by_keyword if positional[i].name in names}
    labels = {*names, *(positional[i].name for i in by_keyword if i in full)}
    return tuple(sorted(full)), tuple(sorted(labels))


def _tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list, set, frozenset)) else (x,)

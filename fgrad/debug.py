"""Looking at values while programs run: `print` and `callback`.

Both work under every transform. Derivatives pass them by; under `vmap` they are called once an
element; they keep their order, and nothing removes them.
"""

import functools
import string
import sys
from collections.abc import Callable
from typing import Any

from fgrad.core.errors import ArgumentError
from fgrad.lax.host import debug_callback

__all__ = ["callback", "print"]


def callback(
    callback: Callable[..., Any], *args: Any, ordered: bool = False, **kwargs: Any
) -> None:
    """Call a function on the host with the values that traced arguments have when the program runs.

    Args:
        callback: Takes NumPy arrays (read-only); what it returns is ignored.
        *args: Arrays or trees of arrays; other objects reach `callback` as they are.
        ordered: Accepted for compatibility: calls always keep their order.
        **kwargs: Like `args`.

    Example:
        >>> import fgrad as fg
        >>> seen = []
        >>> fg.jit(lambda x: fg.debug.callback(lambda v: seen.append(float(v)), x))(2.0)
        >>> seen
        [2.0]
    """
    del ordered
    debug_callback(callback, args, kwargs)


class _Fields(string.Formatter):
    """Formats, and refuses arguments that the text does not mention."""

    def check_unused_args(self, used_args: Any, args: Any, kwargs: Any) -> None:
        unused = [i for i in range(len(args)) if i not in used_args]
        unused += [k for k in kwargs if k not in used_args]
        if unused:
            raise ArgumentError(
                f"debug.print: the text has no field for the arguments {unused}; write {{}} or "
                f"{{name}} for each"
            )


class _AnySpec:
    """Stands for a value while a text is checked: accepts every format."""

    def __format__(self, _spec: str) -> str:
        return ""

    def __getattr__(self, _name: str) -> "_AnySpec":
        return self

    def __getitem__(self, _key: Any) -> "_AnySpec":
        return self


def print(fmt: str, *args: Any, ordered: bool = False, **kwargs: Any) -> None:
    """Print values when the program runs.

    Args:
        fmt: A text for `str.format`, as ``"x = {}"`` or ``"{x}"``.
        *args: Arrays or trees of arrays, for fields by position; other objects as they are now.
        ordered: Accepted for compatibility: lines always keep their order.
        **kwargs: Likewise, for fields by name.

    Raises:
        ArgumentError: Fields of the text and arguments do not fit.

    Example:
        >>> import fgrad as fg
        >>> fg.jit(lambda x: fg.debug.print("x = {x}", x=x))(2.0)
        x = 2.0
    """
    del ordered
    stands = _AnySpec()
    try:
        _Fields().vformat(fmt, [stands] * len(args), dict.fromkeys(kwargs, stands))
    except (IndexError, KeyError, ValueError) as error:
        raise ArgumentError(
            f"debug.print: the text {fmt!r} does not fit its arguments ({error})"
        ) from None
    debug_callback(functools.partial(_write, fmt), args, kwargs)


def _write(fmt: str, *args: Any, **kwargs: Any) -> None:
    sys.stdout.write(fmt.format(*args, **kwargs) + "\n")

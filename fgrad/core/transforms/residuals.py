"""`saved_residuals`: what reverse mode of a function keeps."""

from typing import Any

from fgrad.core.tracing import running_again
from fgrad.core.transforms.flat import check_callable
from fgrad.core.transforms.grad import vjp
from fgrad.core.transforms.pullback import Residual
from fgrad.core.transforms.remat import Fun


class SavedResiduals(list[Residual]):
    """What reverse mode keeps between its passes; prints as a table in bytes."""

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(r.nbytes for r in self)

    def __repr__(self) -> str:
        rows = "\n".join(f"{r.nbytes:>12,} B  {r}" for r in sorted(self, key=lambda r: -r.nbytes))
        return f"{rows}\n{self.nbytes:>12,} B  in all"


def saved_residuals(fun: Fun, *args: Any, **kwargs: Any) -> SavedResiduals:
    """What reverse mode of ``fun(*args, **kwargs)`` keeps, each value once.

    Args:
        fun: Function of arrays or trees of arrays.
        *args: Differentiated arguments.
        **kwargs: Keyword arguments, not differentiated.

    Returns:
        A list of `Residual` that prints as a table.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> fg.saved_residuals(lambda x: fnp.sin(x).sum(), fnp.ones(4)).nbytes
        16
    """
    check_callable(fun)
    with running_again():
        _, pullback = vjp(lambda *a: fun(*a, **kwargs), *args)
    return SavedResiduals(pullback.residuals)

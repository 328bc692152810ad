"""The array type, concrete or traced, and the one hook that gives it its members."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fgrad.core.avals import ShapedArray
from fgrad.core.errors import FgradError


class Array:
    """An immutable n-dimensional array, concrete or traced.

    Everything that a function may do with an array is here; operators, methods, indexing and the
    NumPy protocols are installed once, when `fgrad.numpy` is imported (see `install`).
    """

    __slots__ = ("__weakref__",)

    __hash__ = None  # type: ignore[assignment]

    if TYPE_CHECKING:  # what `install` adds
        # fmt: off
        def __add__(self, other: Any) -> "Array": ...
        def __radd__(self, other: Any) -> "Array": ...
        def __sub__(self, other: Any) -> "Array": ...
        def __rsub__(self, other: Any) -> "Array": ...
        def __mul__(self, other: Any) -> "Array": ...
        def __rmul__(self, other: Any) -> "Array": ...
        def __truediv__(self, other: Any) -> "Array": ...
        def __rtruediv__(self, other: Any) -> "Array": ...
        def __floordiv__(self, other: Any) -> "Array": ...
        def __rfloordiv__(self, other: Any) -> "Array": ...
        def __mod__(self, other: Any) -> "Array": ...
        def __rmod__(self, other: Any) -> "Array": ...
        def __pow__(self, other: Any) -> "Array": ...
        def __rpow__(self, other: Any) -> "Array": ...
        def __matmul__(self, other: Any) -> "Array": ...
        def __rmatmul__(self, other: Any) -> "Array": ...
        def __and__(self, other: Any) -> "Array": ...
        def __rand__(self, other: Any) -> "Array": ...
        def __or__(self, other: Any) -> "Array": ...
        def __ror__(self, other: Any) -> "Array": ...
        def __xor__(self, other: Any) -> "Array": ...
        def __rxor__(self, other: Any) -> "Array": ...
        def __lshift__(self, other: Any) -> "Array": ...
        def __rlshift__(self, other: Any) -> "Array": ...
        def __rshift__(self, other: Any) -> "Array": ...
        def __rrshift__(self, other: Any) -> "Array": ...
        def __lt__(self, other: Any) -> "Array": ...
        def __le__(self, other: Any) -> "Array": ...
        def __gt__(self, other: Any) -> "Array": ...
        def __ge__(self, other: Any) -> "Array": ...
        def __eq__(self, other: Any) -> "Array": ...  # type: ignore[override]
        def __ne__(self, other: Any) -> "Array": ...  # type: ignore[override]
        def __neg__(self) -> "Array": ...
        def __pos__(self) -> "Array": ...
        def __abs__(self) -> "Array": ...
        def __invert__(self) -> "Array": ...
        def __divmod__(self, other: Any) -> tuple["Array", "Array"]: ...
        def __rdivmod__(self, other: Any) -> tuple["Array", "Array"]: ...
        def __round__(self, ndigits: int = 0) -> "Array": ...
        def __getitem__(self, index: Any) -> "Array": ...
        def __iter__(self) -> Iterator["Array"]: ...
        def __len__(self) -> int: ...
        def __bool__(self) -> bool: ...
        def __int__(self) -> int: ...
        def __float__(self) -> float: ...
        def __complex__(self) -> complex: ...
        def __index__(self) -> int: ...
        def __contains__(self, item: Any) -> bool: ...
        def __array__(self, *_: Any, **__: Any) -> Any: ...
        T: "Array"
        mT: "Array"
        real: "Array"
        imag: "Array"
        flat: Any
        at: Any
        device: Any
        sum: Callable[..., "Array"]
        mean: Callable[..., "Array"]
        std: Callable[..., "Array"]
        var: Callable[..., "Array"]
        prod: Callable[..., "Array"]
        max: Callable[..., "Array"]
        min: Callable[..., "Array"]
        any: Callable[..., "Array"]
        all: Callable[..., "Array"]
        ptp: Callable[..., "Array"]
        argmax: Callable[..., "Array"]
        argmin: Callable[..., "Array"]
        cumsum: Callable[..., "Array"]
        cumprod: Callable[..., "Array"]
        dot: Callable[..., "Array"]
        round: Callable[..., "Array"]
        conj: Callable[..., "Array"]
        conjugate: Callable[..., "Array"]
        swapaxes: Callable[..., "Array"]
        repeat: Callable[..., "Array"]
        squeeze: Callable[..., "Array"]
        ravel: Callable[..., "Array"]
        flatten: Callable[..., "Array"]
        sort: Callable[..., "Array"]
        argsort: Callable[..., "Array"]
        argpartition: Callable[..., "Array"]
        searchsorted: Callable[..., "Array"]
        take: Callable[..., "Array"]
        choose: Callable[..., "Array"]
        compress: Callable[..., "Array"]
        trace: Callable[..., "Array"]
        diagonal: Callable[..., "Array"]
        reshape: Callable[..., "Array"]
        transpose: Callable[..., "Array"]
        astype: Callable[..., "Array"]
        copy: Callable[..., "Array"]
        clone: Callable[..., "Array"]
        clip: Callable[..., "Array"]
        view: Callable[..., "Array"]
        block_until_ready: Callable[..., "Array"]
        to_device: Callable[..., "Array"]
        addressable_data: Callable[..., "Array"]
        nonzero: Callable[..., tuple["Array", ...]]
        tobytes: Callable[..., bytes]
        is_deleted: Callable[[], bool]
        is_ready: Callable[[], bool]
        devices: Callable[[], set[Any]]
        item: Callable[..., Any]
        tolist: Callable[[], Any]
        # fmt: on

    @property
    def aval(self) -> ShapedArray:
        """Shape, dtype and weak type."""
        raise FgradError("an Array is either concrete or traced")  # pragma: no cover

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        n = 1
        for length in self.shape:
            n *= length
        return n

    @property
    def weak_type(self) -> bool:
        """Whether the dtype came from a Python scalar and gives way to the other operand's."""
        return self.aval.weak_type

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize


_installed: list[str] = []


def install(members: Mapping[str, Callable[..., Any] | property]) -> None:
    """Install operators and methods on every array, once, at import; then the hook is sealed."""
    if _installed:
        raise FgradError("array operators are installed already")
    for name, member in members.items():
        setattr(Array, name, member)
        _installed.append(name)

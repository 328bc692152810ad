"""Keys: what random functions take instead of a hidden state."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fgrad import numpy as fnp
from fgrad.core import dtypes
from fgrad.core.config import config
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array
from fgrad.core.transforms.key_uses import new_words, remember, select, uses_of
from fgrad.core.tree_registry import register
from fgrad.core.where import here
from fgrad.lax.convert import convert_element_type
from fgrad.lax.threefry import random_bits, random_fold_in, random_split
from fgrad.numpy import axes as ax
from fgrad.numpy.creation import settled

__all__ = [
    "PRNGKey", "PRNGKeyArray", "bits", "clone", "fold_in", "key", "key_data", "key_impl", "split",
    "wrap_key_data",
]  # fmt: skip


class PRNGKeyArray:
    """An array of typed keys; a pytree of its words ``[..., 2]`` uint32.

    Drawing from a key or splitting it uses it up; a second use raises `KeyReuseError`. Uses are
    known key by key, by transforms and by programs that the key is passed to.
    """

    __slots__ = ("_data",)

    def __init__(self, data: Value) -> None:
        self._data = data
        remember(data)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of keys."""
        return tuple(self._data.shape[:-1])

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of keys."""
        return int(self._data.size) // 2

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("len() of one key; split it to get several")
        return self.shape[0]

    def __iter__(self) -> Iterator["PRNGKeyArray"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> "PRNGKeyArray":
        where = index if isinstance(index, tuple) else (index,)
        if not any(i is Ellipsis for i in where):
            where = (*where, Ellipsis)
        known = _static_index(where)
        return self._part(
            self._data[(*where, slice(None))],
            None if known is None
            else lambda p: p[(*known, *[slice(None)] * (p.ndim - self.ndim))],
        )  # fmt: skip

    def reshape(self, *shape: Any) -> "PRNGKeyArray":
        """The same keys under another shape."""
        sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        words = self._data.reshape((*sizes, 2))
        return self._part(words, lambda p: p.reshape((*words.shape[:-1], *p.shape[self.ndim :])))

    def _part(self, words: Value, where: Callable[[Any], Any] | None) -> "PRNGKeyArray":
        """Some of these keys; `where` does to their positions what was done to the words."""
        if words is self._data:
            return PRNGKeyArray(words)
        part = new_words(words)
        if where is not None:
            select(self._data, part, where)
        return PRNGKeyArray(part)

    def __eq__(self, other: object) -> Any:
        """Which keys are equal, element by element; uses none."""
        if not isinstance(other, PRNGKeyArray):
            return NotImplemented
        return (self._data == other._data).all(-1)

    def __ne__(self, other: object) -> Any:
        """Which keys differ."""
        if not isinstance(other, PRNGKeyArray):
            return NotImplemented
        return (self._data != other._data).any(-1)

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> "PRNGKeyArray":
        return clone(self)  # type: ignore[no-any-return]

    def __deepcopy__(self, _memo: Any) -> "PRNGKeyArray":
        return clone(self)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"PRNGKeyArray{list(self.shape)} overlaying:\n{self._data!r}"

    def _use(self) -> Value:
        uses = uses_of(self._data)
        if uses is not None:
            uses.use(here())
        return self._data


def _static_index(where: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """An index as NumPy takes it, where it is known; else None."""
    if not all(map(_is_known, where)):
        return None
    return tuple(np.asarray(i) if isinstance(i, ArrayImpl) else i for i in where)


def _is_known(i: Any) -> bool:
    if isinstance(i, slice):
        return not any(isinstance(x, Array) for x in (i.start, i.stop, i.step))
    if isinstance(i, list):
        return all(isinstance(x, (int, np.integer)) for x in i)
    return i is None or i is Ellipsis or isinstance(i, (int, np.integer, np.ndarray, ArrayImpl))


register(
    PRNGKeyArray,
    lambda k: ((k._data,), None),
    lambda _aux, children: PRNGKeyArray(*children),
)

Key = Any  # a PRNGKeyArray, or raw words [..., 2] uint32, whose reuse is not tracked


def words_of(key: Key, *, use: bool = True) -> Value:
    """The words of a key, which counts as used.

    Raises:
        DtypeError: `key` is no key.
        KeyReuseError: It was used before.
    """
    if isinstance(key, PRNGKeyArray):
        return key._use() if use else key._data
    if isinstance(key, (Array, np.ndarray)):
        value = as_value(key)
        if value.dtype == np.uint32 and value.ndim and value.shape[-1] == 2:
            return value
        raise DtypeError(
            f"expected a random key, got {value.aval}; make one with fgrad.random.key(seed)"
        )
    raise DtypeError(
        f"expected a random key, got {type(key).__name__}; make one with fgrad.random.key(seed)"
    )


def single(key: Key) -> Value:
    """The words of one key, which counts as used."""
    words = words_of(key)
    if words.ndim != 1:
        raise ShapeError(
            f"expected one random key, got an array of keys {list(words.shape[:-1])}; use "
            f"fgrad.vmap to draw from each"
        )
    return words


def like_key(key: Key, words: Value) -> Key:
    """New keys of the same sort: typed or raw."""
    return PRNGKeyArray(new_words(words)) if isinstance(key, PRNGKeyArray) else words


def key(seed: Any) -> PRNGKeyArray:
    """A typed random key.

    Args:
        seed: An integer, or an integer array for an array of keys.

    Example:
        >>> import fgrad as fg
        >>> fg.random.normal(fg.random.key(0), (2,))
        Array([1.622642 , 2.0252647], dtype=float32)
    """
    return PRNGKeyArray(new_words(PRNGKey(seed)))


def PRNGKey(seed: Any) -> Value:
    """A random key as raw words ``[..., 2]`` uint32, whose reuse is not tracked.

    Args:
        seed: An integer, or an integer array for an array of keys.

    Raises:
        DtypeError: `seed` is no integer, or has more than 64 bits.

    Example:
        >>> PRNGKey(42)
        Array([ 0, 42], dtype=uint32)
    """
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        number = int(seed)
        if not -(2**63) <= number < 2**64:
            raise DtypeError(f"a seed has at most 64 bits, got {number}")
        narrow = -(2**31) <= number < 2**32 and not config.enable_x64
        high = 0 if narrow else (number >> 32) & 0xFFFFFFFF
        return settled(ArrayImpl(np.array([high, number & 0xFFFFFFFF], np.uint32)))
    value = as_value(seed)
    if value.dtype.kind not in "iu":
        raise DtypeError(f"a seed must be an integer, got {value.aval}")
    wide = value.dtype.itemsize == 8
    low = convert_element_type(value & 0xFFFFFFFF if wide else value, np.uint32)
    high = convert_element_type((value >> 32) & 0xFFFFFFFF, np.uint32) if wide else low ^ low
    return fnp.stack([high, low], axis=-1)


def split(key: Key, num: int | Sequence[int] = 2) -> Key:
    """New keys from a key, which is used up.

    Args:
        key: One key.
        num: How many, or a shape.

    Returns:
        An array of keys of that shape; it can be unpacked.

    Example:
        >>> import fgrad as fg
        >>> key, sub = fg.random.split(fg.random.key(0))
    """
    return like_key(key, random_split(single(key), ax.shape_of(num, "split: num")))


def fold_in(key: Key, data: Any) -> Key:
    """A key from a key and a number, such as the index of a step; the key stays usable.

    Args:
        key: One key.
        data: An integer of at most 32 bits.
    """
    value = as_value(np.uint32(data) if isinstance(data, int) else data)
    if value.dtype.kind not in "iu":
        raise DtypeError(f"fold_in takes an integer, got {value.aval}")
    words = words_of(key, use=False)
    return like_key(key, random_fold_in(words, convert_element_type(value, np.uint32)))


def bits(key: Key, shape: Sequence[int] = (), dtype: Any = None) -> Value:
    """Uniform random words of an unsigned dtype; 64 bits wide under `enable_x64` where None.

    Example:
        >>> import fgrad as fg
        >>> fg.random.bits(fg.random.key(42), (2,))
        Array([2098992034, 2919706841], dtype=uint32)
    """
    kind = np.dtype(f"u{dtypes.default_int().itemsize}" if dtype is None else dtype)
    if kind.kind != "u":
        raise DtypeError(f"bits makes unsigned integers, not {kind}")
    return random_bits(single(key), ax.shape_of(shape), kind.itemsize * 8)


def clone(key: Key) -> Key:
    """The same key, to be used once more on purpose."""
    words = words_of(key, use=False)
    return PRNGKeyArray(new_words(words, copy=True)) if isinstance(key, PRNGKeyArray) else words


def key_data(keys: Key) -> Value:
    """The words ``[..., 2]`` of a key; the key stays usable."""
    return words_of(keys, use=False)


def wrap_key_data(words: Any) -> PRNGKeyArray:
    """Typed keys from words ``[..., 2]`` uint32."""
    return PRNGKeyArray(new_words(words_of(as_value(words)), copy=True))


def key_impl(keys: Key) -> str:
    """The name of the generator."""
    words_of(keys, use=False)
    return "threefry2x32"

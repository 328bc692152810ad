"""Keys: what random functions take instead of a hidden state."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fgrad import numpy as fnp
from fgrad.core.config import config
from fgrad.core.errors import DtypeError, KeyReuseError, ShapeError
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array
from fgrad.core.tree_registry import register
from fgrad.core.where import Where, here
from fgrad.lax.convert import convert_element_type
from fgrad.lax.threefry import random_bits, random_fold_in, random_split
from fgrad.numpy import axes as ax

__all__ = [
    "PRNGKey", "PRNGKeyArray", "bits", "clone", "fold_in", "key", "key_data", "key_impl", "split",
    "wrap_key_data",
]  # fmt: skip


class PRNGKeyArray:
    """An array of typed keys; a pytree of its words ``[..., 2]`` uint32.

    Drawing from a key or splitting it uses it up; a second use raises `KeyReuseError`.
    """

    __slots__ = ("_data", "_used")

    def __init__(self, data: Value) -> None:
        self._data = data
        # next() on a counter is atomic: of two threads, exactly one sees 0.
        self._used: tuple[Any, list[Any]] = (itertools.count(), [])

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
        if Ellipsis not in where:
            where = (*where, Ellipsis)
        return PRNGKeyArray(self._data[(*where, slice(None))])

    def reshape(self, *shape: Any) -> "PRNGKeyArray":
        """The same keys under another shape."""
        sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return PRNGKeyArray(self._data.reshape((*sizes, 2)))

    def __repr__(self) -> str:
        return f"PRNGKeyArray{list(self.shape)} overlaying:\n{self._data!r}"

    def _use(self) -> Value:
        counter, places = self._used
        if next(counter) > 0 and config.key_reuse == "raise":
            first: Where | None = places[0] if places else None
            raise KeyReuseError(
                f"this random key was used before, at {first}; the same key gives the same "
                f"numbers. Use fgrad.random.split first, or fgrad.random.clone where repetition is "
                f"meant"
            )
        places.append(here())
        return self._data


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
    return PRNGKeyArray(words) if isinstance(key, PRNGKeyArray) else words


def key(seed: Any) -> PRNGKeyArray:
    """A typed random key.

    Args:
        seed: An integer, or an integer array for an array of keys.

    Example:
        >>> import fgrad as fg
        >>> fg.random.normal(fg.random.key(0), (2,))
        Array([1.622642 , 2.0252647], dtype=float32)
    """
    return PRNGKeyArray(PRNGKey(seed))


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
        return ArrayImpl(np.array([high, number & 0xFFFFFFFF], np.uint32))
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


def bits(key: Key, shape: Sequence[int] = (), dtype: Any = np.uint32) -> Value:
    """Uniform random words of an unsigned dtype.

    Example:
        >>> import fgrad as fg
        >>> fg.random.bits(fg.random.key(42), (2,))
        Array([2098992034, 2919706841], dtype=uint32)
    """
    kind = np.dtype(dtype)
    if kind.kind != "u":
        raise DtypeError(f"bits makes unsigned integers, not {kind}")
    return random_bits(single(key), ax.shape_of(shape), kind.itemsize * 8)


def clone(key: Key) -> Key:
    """The same key, to be used once more on purpose."""
    return like_key(key, words_of(key, use=False))


def key_data(keys: Key) -> Value:
    """The words ``[..., 2]`` of a key; the key stays usable."""
    return words_of(keys, use=False)


def wrap_key_data(words: Any) -> PRNGKeyArray:
    """Typed keys from words ``[..., 2]`` uint32."""
    return PRNGKeyArray(words_of(as_value(words)))


def key_impl(keys: Key) -> str:
    """The name of the generator."""
    words_of(keys, use=False)
    return "threefry2x32"

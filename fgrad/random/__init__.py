"""Random numbers from explicit keys, under the names of `jax.random`.

Keys, bits, uniform and integer draws are JAX's bit for bit; what goes through logarithms or the
inverse error function agrees to rounding; gamma draws and those made of them have streams of
their own.

A key is an argument like any other: the same key gives the same numbers, on every machine and
under every transform. Split a key before each use; using a typed key twice raises.
"""

from fgrad.random.continuous import *  # noqa: F403
from fgrad.random.continuous import __all__ as _continuous
from fgrad.random.discrete import *  # noqa: F403
from fgrad.random.discrete import __all__ as _discrete
from fgrad.random.keys import *  # noqa: F403
from fgrad.random.keys import __all__ as _keys

__all__ = [*_keys, *_continuous, *_discrete]

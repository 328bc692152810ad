"""Random numbers from explicit keys, as in `jax.random`, bit for bit.

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

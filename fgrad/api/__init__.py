"""`jit` and what concerns devices: the one place that joins tracing, programs and buffers."""

from fgrad.api.compilation import CacheInfo, Jitted, jit
from fgrad.api.device import block_until_ready
from fgrad.api.programs import Compiled, Lowered
from fgrad.backends.cuda import arrays

__all__ = [
    "CacheInfo",
    "Compiled",
    "Jitted",
    "Lowered",
    "block_until_ready",
    "jit",
]

arrays.register()

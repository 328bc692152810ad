"""The primitives as functions, under the names of `jax.lax`; a family a file.

They take arrays of one dtype (Python numbers take the other operand's) and broadcast by NumPy's
rule; `fgrad.numpy` promotes dtypes on top.
"""

from fgrad.lax.activation import *  # noqa: F403
from fgrad.lax.along import *  # noqa: F403
from fgrad.lax.argreduce import *  # noqa: F403
from fgrad.lax.arithmetic import *  # noqa: F403
from fgrad.lax.bessel import *  # noqa: F403
from fgrad.lax.bits import *  # noqa: F403
from fgrad.lax.collective import *  # noqa: F403
from fgrad.lax.compare import *  # noqa: F403
from fgrad.lax.complex import *  # noqa: F403
from fgrad.lax.contract import *  # noqa: F403
from fgrad.lax.control import *  # noqa: F403
from fgrad.lax.conv import *  # noqa: F403
from fgrad.lax.conv_forms import *  # noqa: F403
from fgrad.lax.convert import *  # noqa: F403
from fgrad.lax.creation import *  # noqa: F403
from fgrad.lax.cumulative import *  # noqa: F403
from fgrad.lax.dynamic import *  # noqa: F403
from fgrad.lax.elementary import *  # noqa: F403
from fgrad.lax.exchange import *  # noqa: F403
from fgrad.lax.extrema import *  # noqa: F403
from fgrad.lax.fourier import *  # noqa: F403
from fgrad.lax.gather import *  # noqa: F403
from fgrad.lax.gathering import *  # noqa: F403
from fgrad.lax.host import *  # noqa: F403
from fgrad.lax.index import *  # noqa: F403
from fgrad.lax.joining import *  # noqa: F403
from fgrad.lax.normalize import *  # noqa: F403
from fgrad.lax.powers import *  # noqa: F403
from fgrad.lax.reduce import *  # noqa: F403
from fgrad.lax.rounding import *  # noqa: F403
from fgrad.lax.runs import *  # noqa: F403
from fgrad.lax.scans import *  # noqa: F403
from fgrad.lax.scatter import *  # noqa: F403
from fgrad.lax.scattering import *  # noqa: F403
from fgrad.lax.segments import *  # noqa: F403
from fgrad.lax.selection import *  # noqa: F403
from fgrad.lax.shape import *  # noqa: F403
from fgrad.lax.slicing import *  # noqa: F403
from fgrad.lax.sort import *  # noqa: F403
from fgrad.lax.special import *  # noqa: F403
from fgrad.lax.take import *  # noqa: F403
from fgrad.lax.threefry import *  # noqa: F403
from fgrad.lax.trigonometric import *  # noqa: F403
from fgrad.lax.window import *  # noqa: F403

"""Matrix factorisations and solves, under the names of `jax.lax.linalg`.

Operands are stacks of matrices: the last two axes are the matrix. float32 gives float32. Where a
derivative does not exist (equal eigenvalues, a singular triangle) it holds infinities or NaN.
"""

from fgrad.lax.linalg.eigen import *  # noqa: F403
from fgrad.lax.linalg.lu import *  # noqa: F403
from fgrad.lax.linalg.orthogonal import *  # noqa: F403
from fgrad.lax.linalg.solve import *  # noqa: F403
from fgrad.lax.linalg.triangular import *  # noqa: F403

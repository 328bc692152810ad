"""Linear algebra: norms, determinants, solves and factorisations of stacks of matrices."""

from fgrad.numpy.linalg.chains import diagonal, matrix_power, multi_dot, trace
from fgrad.numpy.linalg.decompositions import (
    cholesky,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    qr,
    svd,
    svdvals,
)
from fgrad.numpy.linalg.determinants import det, slogdet
from fgrad.numpy.linalg.norms import matrix_norm, norm, vector_norm
from fgrad.numpy.linalg.pseudoinverse import cond, lstsq, matrix_rank, pinv
from fgrad.numpy.linalg.solves import inv, solve, tensorinv, tensorsolve
from fgrad.numpy.products import cross, matmul, outer, tensordot, vecdot
from fgrad.numpy.shaping import matrix_transpose

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vecdot",
    "vector_norm",
]

"""`cuda_kernel`, and the checks of rules when a kernel is declared."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.backends.cuda.kernel_object import Kernel
from fgrad.backends.cuda.signature import check_linkage
from fgrad.core.dtypes import is_inexact
from fgrad.core.errors import RuleError
from fgrad.core.primitive import Value
from fgrad.core.transforms.flat import aval_like
from fgrad.core.transforms.grad import vjp as of_vjp
from fgrad.core.transforms.look import eval_shape
from fgrad.core.transforms.tangents import jvp as of_jvp
from fgrad.core.transforms.vmap import vmap

Fun = Callable[..., Any]


def check_rules(kernel: Kernel, example: Sequence[Any]) -> None:
    """Check all rules of a kernel at operands of some types, without a GPU.

    The source's parameters, grid, block and numbers; the twin, run on ones; the derivative rules
    and that of `vmap`, traced.

    Args:
        kernel: The kernel.
        example: Arrays, or anything with `shape` and `dtype`; what the rules take by name in a
            dict at the end.

    Raises:
        FgradError: A rule does not fit; the text says which, and how.
    """
    named = bool(example) and isinstance(example[-1], dict)
    types, params = (example[:-1], dict(example[-1])) if named else (example, {})
    avals = [aval_like(x).strip_weak() for x in types]
    outs = kernel.results(avals, params)
    kernel.check_pointers(avals, outs)
    kernel.geometry(avals, outs, params)
    kernel.scalars(avals, params)
    if kernel.rules["cpu"] is not None:
        with np.errstate(all="ignore"):
            kernel.twin([np.ones(a.shape, a.dtype) for a in avals], outs, params)
    active = [i for i, a in enumerate(avals) if is_inexact(a.dtype)]
    derivative = kernel.rules["vjp"] or kernel.rules["jvp"]
    if derivative and active and all(is_inexact(a.dtype) for a in outs):
        eval_shape(functools.partial(_derivatives, kernel, active, params), *avals)
    if kernel.rules["batch"] is not None or kernel.obstacle() is None:
        mapped = vmap(functools.partial(kernel, **params))
        eval_shape(mapped, *(a.update(shape=(2, *a.shape)) for a in avals))


def _derivatives(
    kernel: Kernel, active: Sequence[int], params: dict[str, Any], *args: Value
) -> Any:  # fmt: skip
    """The derivatives of a kernel in reverse mode and, with a rule for it, in forward mode."""

    def f(*some: Value) -> Any:
        full = list(args)
        for i, x in zip(active, some, strict=True):
            full[i] = x
        return kernel(*full, **params)

    some = [args[i] for i in active]
    out, pullback = of_vjp(f, *some)
    tangent = None if kernel.rules["jvp"] is None else of_jvp(f, some, some)
    return pullback(out), tangent


def cuda_kernel(
    source: Any,
    name: str | None = None,
    *,
    out: Any,
    grid: Any = None,
    block: Any = 256,
    scalars: Any = (),
    shared_mem: Any = 0,
    fill: float | None = None,
    vjp: Any = None,
    jvp: Fun | None = None,
    batch: Fun | None = None,
    cpu: Fun | None = None,
    options: Sequence[str] = (),
    example: Sequence[Any] | None = None,
) -> Kernel:
    """A kernel in CUDA C as a function of arrays, under every transform.

    It takes a pointer for each operand, contiguous, then one for each result, then numbers. A
    *rule* below is a value, or a function of the types of the operands (with `shape`, `dtype`,
    `size`) and, by name, of the parameters of a call.

    Args:
        source: CUDA C, or a ``cupy.RawKernel``.
        name: The ``__global__`` function; that of the ``RawKernel`` where None.
        out: Rule: the type of the result (with `shape` and `dtype`), or a tuple of them.
        grid: Rule: blocks, up to three numbers. None: a thread an element of the first result.
        block: Rule: threads in a block, up to three numbers.
        scalars: Rule: the numbers, converted to the types in the source.
        shared_mem: Rule: bytes of dynamic shared memory.
        fill: What results hold before the launch; None: anything.
        vjp: ``(ct, out, *args, **params) -> cts``, a tuple with one cotangent or None an operand;
            or a pair ``(fwd, bwd)`` as `custom_vjp` takes it.
        jvp: ``(primals, tangents, **params) -> (out, tangent)`` as `custom_jvp` takes it. Without
            it, forward mode transposes the rule `vjp`; without that, reverse mode this one. A rule
            that launches kernels cannot be transposed.
        batch: ``(axis_size, batched, *args, **params) -> (outs, outs_batched)``: arguments that
            are `batched` have the axis in front. None: examples become blocks along z.
        cpu: The same by NumPy: ``(*arrays, **params) -> array``, or a tuple of them. It serves
            operands in host memory, and the property suite.
        options: For NVRTC, such as ``("--use_fast_math",)``.
        example: Types of the operands of a call (and its parameters, in a dict at the end), with
            which all rules are checked now.

    Returns:
        A function of arrays and, by name, of hashable parameters.

    Raises:
        RuleError: The source does not define the kernel, or not as ``extern "C"``; when called: a
            rule is needed that was not given.
        UnsupportedCallError: When called: operands lie in host memory, and there is no `cpu`.
        CompilationError: When called: the source has an error; the text names its line.
        DtypeError: When called: a pointer is to another type than the array has.

    Example:
        >>> import numpy as np, fgrad as fg
        >>> square = cuda_kernel(
        ...     '''extern "C" __global__ void square(const float* x, float* y, int n) {
        ...         int i = blockIdx.x * blockDim.x + threadIdx.x;
        ...         if (i < n) y[i] = x[i] * x[i];
        ...     }''',
        ...     "square",
        ...     out=lambda x: x,
        ...     scalars=lambda x: x.size,
        ...     vjp=lambda ct, y, x: (2 * x * ct,),
        ...     cpu=lambda x: x * x,
        ... )
        >>> fg.vmap(fg.grad(lambda x: square(x).sum()))(np.ones((2, 3), np.float32))
        Array([[2., 2., 2.],
               [2., 2., 2.]], dtype=float32)
    """
    rules = {
        "out": out, "grid": grid, "block": block, "scalars": scalars, "shared_mem": shared_mem,
        "fill": fill, "vjp": vjp, "jvp": jvp, "batch": batch, "cpu": cpu,
    }  # fmt: skip
    if isinstance(source, str):
        if name is None:
            raise RuleError("cuda_kernel needs the name of the __global__ function in the source")
        kernel = Kernel(None, source, name, rules, options)
        check_linkage(source, name, kernel.signature)
    elif callable(source) and hasattr(source, "name"):
        code = getattr(source, "code", None)
        kernel = Kernel(source, code, name or source.name, rules, options)
    else:
        kind = type(source).__name__
        raise RuleError(f"cuda_kernel takes CUDA C as a string, or a cupy.RawKernel, got {kind}")
    if example is not None:
        check_rules(kernel, example)
    return kernel

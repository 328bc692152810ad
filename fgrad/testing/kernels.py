"""The property suite for kernels of users: `fgrad.cuda_kernel`."""

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fgrad.api.placement import device_get, device_put
from fgrad.core import dtypes, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.devices import cuda
from fgrad.core.errors import RuleError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Case, Spec
from fgrad.core.transforms.look import eval_shape
from fgrad.testing import batching, programs
from fgrad.testing import values as of_values
from fgrad.testing.checks import check_grads, check_laws
from fgrad.testing.functions import Array, Flat, batched, evaluate
from fgrad.testing.oracle import assert_near
from fgrad.testing.primitives import SHRINKING
from fgrad.testing.strategies import Problem, dtype_named, make_problem, shapes_of

_SIZES = (3, 1, 0)


def check_kernel(
    kernel: Any, spec: Spec, *, examples: int = 10, modes: Sequence[str] = ("fwd", "rev"),
    shrink: bool = True,
) -> None:  # fmt: skip
    """Check a kernel that `fgrad.cuda_kernel` made against the laws, with drawn operands.

    On the CPU, through its twin: types, reference, purity, `jit`, `vmap` with every batch size,
    and, up to the order that the spec states, derivatives in float64 against differences, whatever
    the type in the source. Where there is a GPU, the kernel itself runs on each call, alone and in
    a batch, and is compared with the reference within the spec's bound.

    Args:
        kernel: The kernel, with a twin.
        spec: Operands, shapes and parameters (by name), dtypes, the bound, and the highest order
            of derivative. The reference is the twin in float64 where the spec has none.
        examples: How many calls are drawn for each case and dtype.
        modes: The modes of differentiation that its rules serve: one whose rule `vjp` launches
            kernels without rules has "rev" only.
        shrink: Look for a smaller call after one that fails.

    Raises:
        AssertionError: A law does not hold; the message names the law and the call.
        RuleError: The kernel has no twin.

    Example:
        >>> import fgrad as fg
        >>> from fgrad.core.primitive import Operand, Spec
        >>> source = '''extern "C" __global__ void cube(const float* x, float* y, int n) {
        ...     int i = blockIdx.x * blockDim.x + threadIdx.x;
        ...     if (i < n) y[i] = x[i] * x[i] * x[i];
        ... }'''
        >>> cube = fg.cuda_kernel(
        ...     source, "cube", out=lambda x: x, scalars=lambda x: x.size,
        ...     vjp=lambda ct, y, x: (3 * x * x * ct,), cpu=lambda x: x * x * x,
        ... )
        >>> check_kernel(cube, Spec(Operand(), dtypes=("float32",), order=2), examples=2)
    """
    if kernel.rules["cpu"] is None:
        raise RuleError(
            f"check_kernel: kernel {kernel.name} has no twin; give cpu= to cuda_kernel, as the "
            f"laws compare with it"
        )
    draw = partial(_drawn, kernel, spec, examples, shrink)
    for case in spec.cases:
        for name in spec.dtypes:
            draw(case, name, _check_values)
        if spec.order:
            derivatives = partial(_check_derivatives, spec.order, modes)
            draw(case, "float64", derivatives)


def _drawn(
    kernel: Any, spec: Spec, examples: int, shrink: bool, case: Case, dtype: str,
    check: Callable[[Any, Problem], None],
) -> None:  # fmt: skip
    """Run a check on drawn calls."""
    prim: Any = SimpleNamespace(name=kernel.name, spec=spec, multiple_results=False)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[p for p in settings().phases if shrink or p not in SHRINKING],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(shapes_of(case), st.integers(0, 2**32 - 1)))
    def holds(drawn: Any) -> None:
        (shapes, sizes), seed = drawn
        params = case.params(sizes) if callable(case.params) else case.params
        rng = np.random.default_rng(seed)
        problem = make_problem(prim, case, params, shapes, dtype_named(dtype), rng, spec)
        note(problem)
        avals = [ShapedArray(x.shape, x.dtype) for x in problem.args]
        prim.multiple_results = not kernel.is_single(avals, problem.params)
        check(kernel, problem)

    holds()


def _flat(kernel: Any, problem: Problem) -> Flat:
    def f(*xs: Any) -> list[Any]:
        return [as_value(y) for y in trees.leaves(kernel(*xs, **problem.params))]

    return f


def _check_values(kernel: Any, problem: Problem) -> None:
    f, args, rng = _flat(kernel, problem), problem.args, problem.rng
    reference = problem.prim.spec.reference or kernel.rules["cpu"]  # type: ignore[union-attr]
    got = evaluate(f, args)
    stated = eval_shape(f, *args)
    assert [(x.shape, x.dtype) for x in got] == [(a.shape, a.dtype) for a in stated]
    of_values.judge(problem, got, reference)
    of_values.law_pure(f, args)
    programs.law_jit(f, args)
    rows = [[np.roll(x, k) for x in args] for k in (1, 2)]
    dims = batching.random_dims(args, rng)
    batches = [batching.stack(args, rows, dims, size) for size in _SIZES]
    for size, stacked in zip(_SIZES, batches, strict=True):
        batching.law_vmap(f, stacked, dims, size)
    if cuda().count():
        of_values.judge(problem, _on_gpu(f, args), reference)
        for size, stacked in zip(_SIZES, batches, strict=True):
            far = [device_put(x, "cuda") for x in stacked]
            whole = device_get(batched(f, size, dims)(*far))
            alone = [_on_gpu(f, batching.row(stacked, dims, i)) for i in range(size)]
            if alone:
                columns = [np.stack(column) for column in zip(*alone, strict=True)]
                assert_near(whole, columns, "vmap = loop, on the GPU")


def _on_gpu(f: Flat, args: Sequence[Array]) -> list[Array]:
    found: list[Array] = device_get(f(*[device_put(x, "cuda") for x in args]))
    return found


def _check_derivatives(order: int, modes: Sequence[str], kernel: Any, problem: Problem) -> None:
    if not any(dtypes.is_inexact(x.dtype) for x in problem.args):
        return
    f = partial(kernel, **problem.params)
    if set(modes) == {"fwd", "rev"}:
        check_laws(f, problem.args, order)
    else:
        check_grads(f, problem.args, order, modes)

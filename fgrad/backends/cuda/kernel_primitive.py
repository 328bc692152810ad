"""The primitive `cuda_kernel`: kernels of users under evaluation, staging and `vmap`.

Its parameters are the kernel, what its rules take beside operands, and the levels of `vmap` around
it, outermost first: the axes of a batch lie in front of those of the operands that have them.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import CustomRuleError, RuleError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, Lowering, MappedAxis, Primitive, Pullback, Value
from fgrad.core.tracing import bind

Kernel = Any  # of `kernel_object`, which stands above
Params = tuple[tuple[str, Any], ...]
Level = tuple[int, tuple[bool, ...]]  # the size, and which operands have the axis


def elements(avals: Sequence[ShapedArray], levels: Sequence[Level]) -> list[ShapedArray]:
    """The types of the operands of one example."""
    return [
        a.update(shape=a.shape[sum(mapped[i] for _, mapped in levels) :]).strip_weak()
        for i, a in enumerate(avals)
    ]


def _abstract(
    *avals: ShapedArray, kernel: Kernel, params: Params, levels: tuple[Level, ...]
) -> list[ShapedArray]:
    sizes = tuple(size for size, _ in levels)
    outs = kernel.results(elements(avals, levels), dict(params))
    return [a.update(shape=(*sizes, *a.shape)) for a in outs]


def _eager(
    xp: Any, *arrays: Any, kernel: Kernel, params: Params, levels: tuple[Level, ...]
) -> list[Any]:
    words = dict(params)
    avals = elements([ShapedArray(x.shape, x.dtype) for x in arrays], levels)
    outs = kernel.results(avals, words)
    results: list[Any]
    if xp is not np:
        results = kernel.run(xp, arrays, avals, outs, words, levels)
        return results
    if not levels:
        results = kernel.twin(arrays, outs, words)
        return results
    sizes = tuple(size for size, _ in levels)
    results = [np.empty((*sizes, *a.shape), a.dtype) for a in outs]
    for place in itertools.product(*map(range, sizes)):
        example = [
            x[tuple(p for p, (_, mapped) in zip(place, levels, strict=True) if mapped[i])]
            for i, x in enumerate(arrays)
        ]
        for out, x in zip(results, kernel.twin(example, outs, words), strict=True):
            out[place] = x
    return results


def _batch(
    axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], *, kernel: Kernel,
    params: Params, levels: tuple[Level, ...],
) -> tuple[list[Value], list[int | None]]:  # fmt: skip
    moved = [x if d is None else basis.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    mapped = tuple(d is not None for d in dims)
    if kernel.rules["batch"] is not None:
        return _batch_by_rule(axis, moved, mapped, kernel, dict(params))
    reason = kernel.obstacle()
    if reason is not None:
        raise RuleError(without_batch(kernel.name, reason))
    level = (axis.size, mapped)
    outs = bind(cuda_kernel_p, *moved, kernel=kernel, params=params, levels=(level, *levels))
    return outs, [0] * len(outs)


def without_batch(name: str, reason: str) -> str:
    """Why `vmap` needs a rule."""
    return (
        f"vmap of kernel {name} would add a dimension to its grid, but {reason}; give batch= to "
        f"cuda_kernel"
    )


def _batch_by_rule(
    axis: MappedAxis, args: Sequence[Value], mapped: tuple[bool, ...], kernel: Kernel,
    words: dict[str, Any],
) -> tuple[list[Value], list[int | None]]:  # fmt: skip
    avals = [
        a.update(shape=a.shape[m:]).strip_weak()
        for a, m in zip([x.aval for x in args], mapped, strict=True)
    ]
    types = kernel.results(avals, words)
    found = kernel.rules["batch"](axis.size, mapped, *args, **words)
    wanted = f"({len(types)} results, whether each is batched)"
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise CustomRuleError(f"the rule batch of kernel {kernel.name} must return {wanted}")
    outs, batched = (trees.leaves(part) for part in found)
    if len(outs) != len(types) or len(batched) != len(types):
        raise CustomRuleError(
            f"the rule batch of kernel {kernel.name} must return {wanted}, got {len(outs)} and "
            f"{len(batched)}"
        )
    outs = [as_value(x) for x in outs]
    for i, (x, b, a) in enumerate(zip(outs, batched, types, strict=True)):
        shape = (axis.size, *a.shape) if b else a.shape
        if x.shape != shape or x.dtype != a.dtype:
            raise CustomRuleError(
                f"result {i} of the rule batch of kernel {kernel.name} is {x.aval}, expected "
                f"{a.update(shape=shape)}"
            )
    return outs, [0 if b else None for b in batched]


def _no_rule(*_: Any, kernel: Kernel, **__: Any) -> Any:
    raise RuleError(
        f"kernel {kernel.name} has no derivative rule: give vjp= or jvp= to cuda_kernel, or "
        f"stop_gradient its operands"
    )


cuda_kernel_p: Primitive = Primitive(
    "cuda_kernel",
    "A kernel in CUDA C that a user wrote.",
    abstract=_abstract,
    eager=_eager,
    jvp=_no_rule,
    transpose=Absent("kernels state whole derivatives"),
    vjp=Pullback(
        lambda _needed, _primals, params: _no_rule(**params),
        lambda _needed, _residuals, _ct, params: _no_rule(**params),
    ),
    batch=_batch,
    lower=Lowering("host", "cuda_kernel"),  # on the CPU its twin, a function of the user
    multiple_results=True,
    spec=Absent("each kernel has its own: tests/backends/cuda/test_kernel_function.py"),
)

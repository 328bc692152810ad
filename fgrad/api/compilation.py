"""`jit`: trace once for each signature, then run as a program."""

import functools
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from fgrad.api.donation import check_donated, check_usable, donated_leaves, give_away
from fgrad.api.execution import begin
from fgrad.api.parameters import Fun, parameters_of
from fgrad.api.programs import Entry, Lowered, run_donated, run_entry, run_flat
from fgrad.api.sites import Site, site_of
from fgrad.compile.collector import paused
from fgrad.core import trees
from fgrad.core.avals import ShapedArray
from fgrad.core.config import config
from fgrad.core.errors import DonationError, DtypeError, StaticArgumentError
from fgrad.core.evaluate import WEAK, ArrayImpl, borrow
from fgrad.core.ir import ClosedJaxpr
from fgrad.core.primitive import Value
from fgrad.core.tracing import Tracer, entering, state
from fgrad.core.transforms.call import call
from fgrad.core.transforms.flat import FlatCall, aval_like, name_of, refused
from fgrad.core.transforms.stage import stage

_NUMBERS = (float, int, bool, complex, np.float32, np.float64, np.int32, np.int64)
_MAXSIZE = 512  # programs kept a function; the least recently used one goes first
_SITES = 8  # calls that are compared as a whole
_COMPARED = 8  # of them, with how many a call that is traced is compared
_REASONS = 64  # reasons kept a function


class CacheInfo(NamedTuple):
    """How often calls found their program.

    Attributes:
        hits: Calls that found one.
        misses: Calls that traced.
        currsize: Programs kept.
        replays: Programs kept for which decisions were taken over from other sizes.
        reasons: For each of the last misses after the first, what differed from the kept program
            nearest to it: arguments by name, with types; static values; flags of the configuration.
    """

    hits: int
    misses: int
    currsize: int
    replays: int
    reasons: tuple[str, ...]


def _type_of(x: Value) -> tuple[Any, ...]:
    """Shape, dtype and weak type, as what hashes quickly."""
    if type(x) is ArrayImpl:
        data = x._data
        return data.shape, data.dtype, bool(x._flags & WEAK)
    aval = x.aval
    return aval.shape, aval.dtype, aval.weak_type


def _reason(fun: Fun, key: Any, kept: Sequence[Any], tree: Any = None) -> str:
    """Why a call is traced; where `tree`, its arguments, is left out, types take their place."""
    tree = tree or trees.unflatten(key[1], [ShapedArray(*kind) for kind in key[2]])
    return str(import_module("fgrad.api.misses").reason(fun, key, kept, tree))


class Jitted:
    """A function that is traced once for each signature and then runs as a program.

    Made by `jit`; calls it like the function it wraps.
    """

    def __init__(
        self,
        fun: Fun,
        static_argnums: Sequence[int],
        static_argnames: Sequence[str],
        donate_argnums: Sequence[int],
        donate_argnames: Sequence[str],
    ) -> None:
        functools.update_wrapper(self, fun)
        self._fun = fun
        self._name = name_of(fun)
        self._static_argnums = tuple(static_argnums)
        self._static_argnames = tuple(static_argnames)
        self._donate_argnums = tuple(donate_argnums)
        self._donate_argnames = tuple(donate_argnames)
        self._all_traced = not (static_argnums or static_argnames)
        self._plain = self._all_traced and not (donate_argnums or donate_argnames)
        self._sites: list[Site] = []  # of calls with arrays and trees of them, the latest first
        self._cache: OrderedDict[Any, Entry] = OrderedDict()
        self._hits = self._misses = 0
        self._reasons: deque[str | Callable[[], str]] = deque(maxlen=_REASONS)
        self._latest: Any = None  # the signature traced last

    def __get__(self, instance: Any, _owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program of this signature, tracing it first where there is none."""
        short: list[Any] = []
        direct = self._all_traced and not kwargs and state.trace is type(state).trace
        if direct:
            found = self._at_site(args)
            if found is None and self._plain:
                found = self._quick(args, short)
            if found is not None:
                return found
        if config.disable_jit:
            return self._fun(*args, **kwargs)
        static, moving = self._split(args, kwargs)
        leaves, tree = trees.flatten(moving)
        try:
            values = [x if type(x) is ArrayImpl else borrow(x) for x in leaves]
        except DtypeError:
            raise self._refused(args, kwargs) from None
        entry = self._entry(static, values, tree, args, kwargs)
        if direct and entry.cached:
            self._add_site(args, leaves, entry)
        inputs = (*entry.consts, *values)
        if entry.donated:
            check_donated(inputs, entry.donated, self._name)
        if short and entry.cached:
            self._cache[short[0]] = entry
        if entry.jaxpr.key_uses is not None:
            entry.jaxpr.key_uses.call(inputs, self._name)
        kinds = set(map(type, values))
        with entering() as trace:
            if trace is state.quiet and not any(issubclass(k, Tracer) for k in kinds):
                outs = run_entry(entry, inputs, self._name)
            else:
                outs = call(entry.jaxpr, *inputs, name=self._name)
                give_away(inputs, entry.donated, self._name)
        return trees.unflatten(entry.out_tree, outs)

    def _quick(self, args: tuple[Any, ...], short: list[Any]) -> Any:
        """Positional concrete arrays, a call seen before: no tree code.

        `short` receives the key under which a call like this is found here, once it is traced.
        """
        key: list[Any] = []
        buffers = []
        for a in args:
            kind = type(a)
            if kind is ArrayImpl:
                data = a._data
                key += (data.shape, data.dtype, a._flags & WEAK)
            elif kind is np.ndarray:
                data = a
                key += (data.shape, data.dtype, 0)
            elif kind in _NUMBERS:
                data = borrow(a)._data
                key.append(kind)
            else:
                return None
            if type(data) is not np.ndarray:
                return None
            buffers.append(data)
        full = (tuple(key), config.trace_key())
        entry = self._cache.get(full)
        if entry is None:
            short.append(full)
            return None
        program = entry.program
        if program is None or entry.consts:
            return None
        self._hits += 1
        outs = run_flat(program, entry.flags, buffers)
        return outs[0] if entry.single else trees.unflatten(entry.out_tree, outs)

    def _at_site(self, args: tuple[Any, ...]) -> Any:
        """The result of a call like one before; None for another."""
        for site in self._sites:
            leaves = site.match(args)
            if leaves is not None:
                break
        else:
            return None
        entry, program = site.entry, site.program or site.prepared()
        if program is None:
            return None
        if entry.donated:
            inputs = (*entry.consts, *leaves)
            if program.taken and entry.device is None:
                outs = run_donated(program, entry, inputs, [x._data for x in inputs], self._name)
            else:
                check_donated(inputs, entry.donated, self._name)
                outs = run_entry(entry, inputs, self._name)
        else:
            if entry.consts:
                leaves = [*entry.consts, *leaves]
            outs = run_flat(program, entry.flags, [x._data for x in leaves])
        self._hits += 1
        return outs[0] if entry.single else trees.unflatten(entry.out_tree, outs)

    def _add_site(self, args: tuple[Any, ...], leaves: Sequence[Any], entry: Entry) -> None:
        """Remember a call; the next one like it is found at once.

        Of calls with arrays alone only the latest is: `_quick` finds the others.
        """
        if all(site.entry is not entry for site in self._sites):
            made = site_of(args, leaves, entry)
            if made is not None:
                others = [s for s in self._sites if not (made.plain and s.plain)]
                self._sites = [made, *others[: _SITES - 1]]

    def _split(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Static arguments, hashable; and the others as a tree."""
        if self._plain:
            return (), (args, kwargs)
        count = len(args)
        numbers = {i + count if i < 0 else i for i in self._static_argnums}
        static = [(i, args[i]) for i in sorted(numbers) if i < count]
        named = [(k, kwargs[k]) for k in self._static_argnames if k in kwargs]
        positions = {i for i, _ in static}
        for label, value in (*static, *named):
            try:
                hash(value)
            except TypeError:
                raise StaticArgumentError(
                    f"static argument {label!r} of {self._name} must be hashable, got "
                    f"{type(value).__name__}; pass a tuple or a frozen object, or do not mark it "
                    f"static"
                ) from None
            if isinstance(value, Tracer):
                raise StaticArgumentError(
                    f"static argument {label!r} of {self._name} is traced ({value.aval}); it must "
                    f"be a Python value"
                )
        key = tuple((label, type(v), v) for label, v in (*static, *named))
        moving = [a for i, a in enumerate(args) if i not in positions]
        words = {k: v for k, v in kwargs.items() if k not in dict(named)}
        return key, (tuple(moving), words)

    def _refused(self, args: Sequence[Any], kwargs: dict[str, Any]) -> DtypeError:
        """The error for a call with a leaf that is no value."""
        static = {i % len(args) for i in self._static_argnums if -len(args) <= i < len(args)}
        moving = [(i, a) for i, a in enumerate(args) if i not in static]
        named = [(k, a) for k, a in kwargs.items() if k not in self._static_argnames]
        advice = "close over it, or mark the argument static"
        return refused(f"jit of {self._name}", [*moving, *named], advice)

    def _entry(
        self, static: Any, values: Sequence[Value], tree: Any, args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> Entry:  # fmt: skip
        types = tuple(map(_type_of, values))
        axes = tuple((a.name, a.size) for a in state.axes)
        key = (static, tree, types, config.trace_key(), axes)
        entry = self._cache.get(key)
        if entry is not None:
            self._hits += 1
            try:
                self._cache.move_to_end(key)
            except KeyError:  # another thread has dropped it
                self._cache[key] = entry
            return entry
        self._explain_miss(key, args, kwargs)
        self._latest = key
        avals = [v.aval for v in values]
        if any(type(v) is ArrayImpl and type(v._data) is np.ndarray for v in values):
            begin()
        entry = self._trace(static, avals, tree, args, kwargs)
        if entry.donated:
            check_donated((*entry.consts, *values), entry.donated, self._name)
            given = [avals[i - len(entry.consts)] for i in entry.donated]
            check_usable(given, entry.jaxpr.out_avals, self._name)
        if not any(isinstance(c, Tracer) for c in entry.consts):
            entry.cached = True
            self._cache[key] = entry
            while len(self._cache) > _MAXSIZE:
                try:
                    self._cache.popitem(last=False)
                except KeyError:  # another thread has emptied it
                    break
        return entry

    def _trace(
        self, static: Any, avals: Sequence[Any], tree: Any, args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> Entry:  # fmt: skip
        labels = {label for label, *_ in static}

        def run(parts: Sequence[Any], words: dict[str, Any]) -> Any:
            given = iter(parts)
            full = [a if i in labels else next(given) for i, a in enumerate(args)]
            return self._fun(*full, **{k: v for k, v in kwargs.items() if k in labels}, **words)

        flat_call = FlatCall(run, lambda *flat: trees.unflatten(tree, flat), {})
        with paused(), entering():
            jaxpr, consts = stage(flat_call, avals, f"jit of {self._name}")
        donated: tuple[int, ...] = ()
        if self._donate_argnums or self._donate_argnames:
            donated = self._donated(args, kwargs, labels)
        return Entry(ClosedJaxpr(jaxpr, consts), flat_call.out_tree, donated)

    def _donated(
        self, args: Sequence[Any], kwargs: dict[str, Any], static: Collection[int | str]
    ) -> tuple[int, ...]:
        """The positions of donated leaves among those that are not static."""
        numbers = {i % len(args) for i in self._donate_argnums if -len(args) <= i < len(args)}
        names = set(self._donate_argnames)
        moving = [i for i in range(len(args)) if i not in static]
        return donated_leaves(
            [args[i] for i in moving],
            {k: v for k, v in kwargs.items() if k not in static},
            lambda k: k in names if isinstance(k, str) else moving[k] in numbers,
        )

    def _explain_miss(self, key: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self._misses += 1
        if self._misses == 1:
            return
        # The short keys of `_quick` have two parts; the keys of other threads may come and go.
        kept = [k for k in self._cache.copy() if len(k) == len(key)][-_COMPARED:]
        if self._latest == key:
            kept.append(key)
        alike = [k for k in kept if k[1] == key[1]]
        if alike:  # spelt out when somebody asks: the types in the keys say it all
            self._reasons.append(functools.partial(_reason, self._fun, key, alike))
        else:
            moving = self._split(args, kwargs)[1]
            self._reasons.append(_reason(self._fun, key, kept, moving))

    def lower(self, *args: Any, **kwargs: Any) -> "Lowered":
        """The program of a call, without running it.

        Args:
            *args: Arrays, or anything with `shape` and `dtype`.
            **kwargs: Likewise.
        """
        static, moving = self._split(args, kwargs)
        leaves, tree = trees.flatten(moving)
        library = import_module("fgrad.api.elsewhere").library_in(leaves)
        if library is np:
            begin()
        entry = self._trace(static, [aval_like(x) for x in leaves], tree, args, kwargs)
        return Lowered(entry, self._name, tree, library)

    def cache_info(self) -> CacheInfo:
        """How often calls found their program, and why others did not."""
        kept = {id(e): e for e in self._cache.values()}.values()
        replays = sum(getattr(e.program, "replayed", False) for e in kept)
        reasons = tuple([r if isinstance(r, str) else r() for r in self._reasons.copy()])
        return CacheInfo(self._hits, self._misses, len(kept), replays, reasons)

    def clear_cache(self) -> None:
        """Forget all programs of this function."""
        self._cache.clear()
        self._sites = []
        self._latest = None


def jit(
    fun: Fun | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    donate_argnums: int | Sequence[int] = (),
    donate_argnames: str | Sequence[str] = (),
) -> Any:
    """A function that is traced once for each signature, optimised, and run as a program.

    Args:
        fun: A pure function of arrays or trees of arrays. Left out: a decorator is returned.
        static_argnums: Positional arguments that are hashable Python values, not arrays; each new
            value is traced anew.
        static_argnames: The same for keyword arguments.
        donate_argnums: Positional arguments whose buffers the call may take; they cannot be used
            afterwards. Buffers that fgrad did not allocate are left alone.
        donate_argnames: The same for keyword arguments.

    Returns:
        A function with the same arguments and results, and `lower`, `cache_info`, `clear_cache`.
        Arrays that `fun` closes over are inputs of the program, as they were at tracing.

    Raises:
        StaticArgumentError: A static argument is not hashable.
        ConcretizationTypeError: `fun` needs the value of a traced argument (see its subclasses).

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> fg.jit(lambda x: fnp.sin(x) ** 2 + fnp.cos(x) ** 2)(1.0)
        Array(1., dtype=float32, weak_type=True)
    """
    if fun is None:
        return functools.partial(
            jit, static_argnums=static_argnums, static_argnames=static_argnames,
            donate_argnums=donate_argnums, donate_argnames=donate_argnames,
        )  # fmt: skip
    if not callable(fun):
        raise StaticArgumentError(f"jit takes a function, got {type(fun).__name__}")
    numbers, names = parameters_of(fun, "static", static_argnums, static_argnames)
    donated, donated_names = parameters_of(fun, "donate", donate_argnums, donate_argnames)
    if set(numbers) & set(donated) or set(names) & set(donated_names):
        raise DonationError(f"jit of {name_of(fun)}: an argument cannot be both static and donated")
    return Jitted(fun, numbers, names, donated, donated_names)

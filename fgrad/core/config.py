"""Configuration: flags with global values, thread-local overrides and context managers.

A flag is read as an attribute of :data:`config`. Its global value comes from
``FGRAD_<NAME>`` in the environment at import, and changes with :meth:`Config.update`; within
``with enable_x64(True):`` (and its like) the current thread sees another value.
"""

import contextlib
import os
import re
import threading
from collections.abc import Mapping
from typing import Any

from fgrad.core.errors import ConfigError

__all__ = [
    "Config",
    "autotune",
    "check",
    "check_tracer_leaks",
    "config",
    "cpu_compiler",
    "cuda_compiler",
    "debug_infs",
    "debug_nans",
    "default_device",
    "default_matmul_precision",
    "deterministic",
    "disable_jit",
    "enable_x64",
    "excess_precision",
    "key_reuse",
    "numpy_dtype_promotion",
    "numpy_rank_promotion",
    "out_of_bounds",
]

_BOOL = (False, True)
_REPORT = ("raise", "jax")
_DEVICE = (None, "cpu", "cuda", "cuda:0", "gpu")
_NUMBERED = re.compile("cpu:0|(cuda|gpu):[0-9]+")  # devices too

# Accepted values of each flag; its default is the class attribute of Config.
_ACCEPTED: Mapping[str, tuple[Any, ...]] = {
    "enable_x64": _BOOL,
    "debug_nans": _BOOL,
    "debug_infs": _BOOL,
    "disable_jit": _BOOL,
    "numpy_dtype_promotion": ("standard", "strict"),
    "numpy_rank_promotion": ("allow", "warn", "raise"),
    "default_matmul_precision": (
        None,
        "default",
        "high",
        "highest",
        "bfloat16",
        "tensorfloat32",
        "float32",
    ),
    "check_tracer_leaks": _BOOL,
    "out_of_bounds": _REPORT,
    "key_reuse": _REPORT,
    "deterministic": _BOOL,
    "excess_precision": _BOOL,
    "autotune": _BOOL,
    "check": _BOOL,
    "cpu_compiler": ("llvm", "numpy"),
    "cuda_compiler": ("eager", "rawkernel"),
    "default_device": _DEVICE,
}

# What never alters the program that comes out of a trace: a leak check looks at it, and what is
# made inside follows the program's inputs.
_ASIDE = ("check_tracer_leaks", "default_device")
TRACE_FLAGS = tuple(name for name in _ACCEPTED if name not in _ASIDE)

# Serialises global updates only; readers take no lock.
_update_lock = threading.Lock()


class Config(threading.local):
    """The flags. Class attributes are the global values, instance attributes those of a thread.

    Attribute lookup on a ``threading.local`` tries the thread's own dictionary first and then the
    class, which is the rule wanted here, at the speed of C.
    """

    enable_x64: bool = False
    """Default dtypes are 64-bit. Explicit dtypes are kept either way."""
    debug_nans: bool = False
    """Raise :class:`~fgrad.core.errors.NonFiniteError` where a NaN arises."""
    debug_infs: bool = False
    """Raise :class:`~fgrad.core.errors.NonFiniteError` where an infinity arises."""
    disable_jit: bool = False
    """Run the bodies of ``jit`` and of control flow eagerly."""
    numpy_dtype_promotion: str = "standard"
    """``"standard"`` or ``"strict"`` (only weak Python scalars promote)."""
    numpy_rank_promotion: str = "allow"
    """``"allow"``, ``"warn"`` or ``"raise"`` when operands of unequal rank broadcast."""
    default_matmul_precision: str | None = None
    """Precision of matrix products; None is full float32."""
    check_tracer_leaks: bool = False
    """Raise when a tracer outlives its transform."""
    out_of_bounds: str = "raise"
    """``"raise"``, or ``"jax"`` for its silent clamp, fill and drop."""
    key_reuse: str = "raise"
    """``"raise"`` when a typed random key is used twice, or ``"jax"`` to allow it."""
    deterministic: bool = True
    """Only algorithms whose results do not depend on timing."""
    excess_precision: bool = False
    """Fused kernels may skip the rounding of intermediate values to their dtype."""
    autotune: bool = False
    """Time library algorithms and keep the fastest."""
    check: bool = False
    """Compare each kernel of a compiled program with what it means, on the same operands."""
    cpu_compiler: str = "llvm"
    """``"llvm"``: `jit` makes machine code; ``"numpy"``: it calls NumPy for each operation."""
    cuda_compiler: str = "eager"
    """``"rawkernel"``: `jit` makes kernels and graphs of programs on CuPy arrays; ``"eager"``: it
    calls CuPy for each operation."""
    default_device: str | None = None
    """Where arrays are made: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; None: CuPy's GPU, if any."""

    # trace_key() is built once and kept until a flag changes: `_version` counts global updates,
    # `_entry` holds the count at which this thread's key was built (-1: a local change).
    _version: int = 0
    _entry: tuple[int, tuple[Any, ...]] = (-1, ())

    def __setattr__(self, name: str, value: object) -> None:
        if name in _ACCEPTED:
            raise ConfigError(
                f"config.{name} cannot be assigned; call config.update({name!r}, {value!r}) for "
                f"all threads, or use `with {name}({value!r}):` for a block of this one"
            )
        raise ConfigError(_unknown(name))

    def __getattr__(self, name: str) -> Any:
        # Reached only when ordinary lookup fails: the `jax_` spelling, or no flag at all.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self, _canonical_name(name))

    def update(self, name: str, value: Any) -> None:
        """Set the global value of a flag, for every thread that does not override it.

        Args:
            name: The flag, such as ``"enable_x64"``; ``"jax_enable_x64"`` is accepted too.
            value: The new value.

        Raises:
            ConfigError: The flag does not exist or does not accept the value.

        Example:
            >>> config.update("jax_numpy_rank_promotion", "allow")
            >>> config.numpy_rank_promotion
            'allow'
        """
        name = _canonical_name(name)
        value = _checked(name, value)
        with _update_lock:
            setattr(Config, name, value)
            Config._version += 1

    def trace_key(self) -> tuple[Any, ...]:
        """Return a hashable value that differs whenever a traced program could differ."""
        built, key = self._entry
        version = Config._version
        if built != version:
            # The version is read before the flags: an update in between only makes the key stale
            # once more, never wrongly fresh.
            key = tuple([getattr(self, name) for name in TRACE_FLAGS])
            self.__dict__["_entry"] = (version, key)
        return key

    def __repr__(self) -> str:
        return "Config(" + ", ".join(f"{n}={getattr(self, n)!r}" for n in _ACCEPTED) + ")"


def _unknown(name: str) -> str:
    import difflib  # noqa: PLC0415 - slow to import, and for one message

    close = difflib.get_close_matches(name.removeprefix("jax_"), _ACCEPTED, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"flags are {', '.join(_ACCEPTED)}"
    return f"fgrad has no configuration flag {name!r}; {hint}"


def _canonical_name(name: str) -> str:
    short = name.removeprefix("jax_")
    if short not in _ACCEPTED:
        raise ConfigError(_unknown(name))
    return short


def _checked(name: str, value: Any) -> Any:
    """Return the accepted value equal to ``value``; types count, so 1 is not True."""
    accepted = _ACCEPTED[name]
    if accepted is _DEVICE and isinstance(value, str):
        value = str(value)  # of a device too: its name
        if _NUMBERED.fullmatch(value):
            return value
    for candidate in accepted:
        if type(candidate) is type(value) and candidate == value:
            return candidate
    options = ", ".join(map(repr, accepted))
    raise ConfigError(f"config flag {name!r} accepts {options}; got {value!r}")


def _parse(name: str, text: str) -> Any:
    """Return the value of flag ``name`` written as ``text`` in the environment."""
    lowered = text.strip().lower()
    if _ACCEPTED[name] is _BOOL:
        words = {"1": True, "true": True, "yes": True, "on": True}
        words |= {"0": False, "false": False, "no": False, "off": False, "": False}
        if lowered in words:
            return words[lowered]
    elif None in _ACCEPTED[name] and lowered in ("", "none"):
        return None
    elif lowered in _ACCEPTED[name] or (
        _ACCEPTED[name] is _DEVICE and _NUMBERED.fullmatch(lowered)
    ):
        return lowered
    options = ", ".join("none" if v is None else str(v).lower() for v in _ACCEPTED[name])
    raise ConfigError(f"environment variable FGRAD_{name.upper()}={text!r}: accepted are {options}")


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the flags that ``environ`` sets; raises ConfigError for a value not accepted."""
    found = {}
    for name in _ACCEPTED:
        text = environ.get(f"FGRAD_{name.upper()}")
        if text is not None:
            found[name] = _parse(name, text)
    return found


config = Config()

for _name, _value in _read_environment(os.environ).items():
    config.update(_name, _value)


_ABSENT = object()
_STALE: tuple[int, tuple[Any, ...]] = (-1, ())


class _Override(contextlib.ContextDecorator):
    """A block of this thread in which one flag has another value; also a decorator."""

    __slots__ = ("_name", "_saved", "_value")

    def __init__(self, name: str, value: Any) -> None:
        self._name = name
        self._value = _checked(name, value)
        self._saved: list[Any] = []

    def _recreate_cm(self) -> "_Override":
        # One object per call of a decorated function: two threads must not share `_saved`.
        return _Override(self._name, self._value)

    def __enter__(self) -> None:
        state = config.__dict__
        self._saved.append(state.get(self._name, _ABSENT))
        state[self._name] = self._value
        state["_entry"] = _STALE

    def __exit__(self, *exc_info: object) -> None:
        state = config.__dict__
        saved = self._saved.pop()
        if saved is _ABSENT:
            del state[self._name]
        else:
            state[self._name] = saved
        state["_entry"] = _STALE


def enable_x64(new_val: bool = True) -> _Override:
    """Within the block, default dtypes are 64-bit (or 32-bit with False), in this thread.

    Example:
        >>> with enable_x64(True):
        ...     config.enable_x64
        True
    """
    return _Override("enable_x64", new_val)


def debug_nans(new_val: bool = True) -> _Override:
    """Within the block, an operation that makes a NaN raises, in this thread."""
    return _Override("debug_nans", new_val)


def debug_infs(new_val: bool = True) -> _Override:
    """Within the block, an operation that makes an infinity raises, in this thread."""
    return _Override("debug_infs", new_val)


def disable_jit(disable: bool = True) -> _Override:
    """Within the block, ``jit`` runs its function eagerly, in this thread."""
    return _Override("disable_jit", disable)


def numpy_dtype_promotion(new_val: str) -> _Override:
    """Within the block, promotion is ``"standard"`` or ``"strict"``, in this thread."""
    return _Override("numpy_dtype_promotion", new_val)


def numpy_rank_promotion(new_val: str) -> _Override:
    """Within the block, unequal ranks are allowed, warned of or refused, in this thread."""
    return _Override("numpy_rank_promotion", new_val)


def default_matmul_precision(new_val: str | None) -> _Override:
    """Within the block, matrix products use the precision given, in this thread."""
    return _Override("default_matmul_precision", new_val)


def check_tracer_leaks(new_val: bool = True) -> _Override:
    """Within the block, a tracer that outlives its transform raises, in this thread."""
    return _Override("check_tracer_leaks", new_val)


def out_of_bounds(new_val: str) -> _Override:
    """Within the block, out-of-bounds indices follow ``"raise"`` or ``"jax"``, in this thread."""
    return _Override("out_of_bounds", new_val)


def key_reuse(new_val: str) -> _Override:
    """Within the block, reused random keys follow ``"raise"`` or ``"jax"``, in this thread."""
    return _Override("key_reuse", new_val)


def deterministic(new_val: bool = True) -> _Override:
    """Within the block, only deterministic algorithms are chosen, in this thread."""
    return _Override("deterministic", new_val)


def excess_precision(new_val: bool = True) -> _Override:
    """Within the block, fused kernels may keep more precision than the dtypes, in this thread."""
    return _Override("excess_precision", new_val)


def autotune(new_val: bool = True) -> _Override:
    """Within the block, library algorithms are timed and the fastest kept, in this thread."""
    return _Override("autotune", new_val)


def check(new_val: bool = True) -> _Override:
    """Within the block, compiled kernels are compared with what they mean, in this thread."""
    return _Override("check", new_val)


def cpu_compiler(new_val: str) -> _Override:
    """Within the block, `jit` compiles by ``"llvm"``, or calls ``"numpy"``, in this thread."""
    return _Override("cpu_compiler", new_val)


def cuda_compiler(new_val: str) -> _Override:
    """Within the block, `jit` on GPUs makes ``"rawkernel"``, or is ``"eager"``, in this thread."""
    return _Override("cuda_compiler", new_val)


def default_device(new_val: str | None) -> _Override:
    """Within the block, arrays are made on a device, in this thread.

    Args:
        new_val: A device of `fgrad.devices`, its name, or None: CuPy's current GPU, or the CPU
            where there is none.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> with fg.default_device("cpu"):
        ...     fnp.zeros(2).device
        'cpu'
    """
    return _Override("default_device", new_val)

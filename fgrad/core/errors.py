"""Every exception of fgrad.

Each class derives from :class:`FgradError` and from the built-in exception that fits, so that code
which catches ``TypeError`` or ``IndexError`` keeps working. Messages state what was asked, the
shapes and dtypes in hand, and what to do.
"""

import pickle

from fgrad.core import where

__all__ = [
    "ArgumentError",
    "AxisError",
    "AxisNameError",
    "BufferDonatedError",
    "ClosedOverDifferentiationError",
    "CompilationError",
    "ConcretizationTypeError",
    "ConfigError",
    "CotangentError",
    "CustomRuleError",
    "DeviceError",
    "DonationError",
    "DriverError",
    "DtypeError",
    "FgradError",
    "FrozenModuleError",
    "GradientTypeError",
    "ImmutableArrayError",
    "IndexOutOfBoundsError",
    "JaxprTypeError",
    "KernelMismatchError",
    "KeyReuseError",
    "LibraryError",
    "LinalgError",
    "NonConcreteBooleanIndexError",
    "NonFiniteError",
    "NonlinearPullbackError",
    "OutOfMemoryError",
    "ResidualsFreedError",
    "RuleError",
    "SavingError",
    "ShapeError",
    "StaticArgumentError",
    "TracerArrayConversionError",
    "TracerBoolConversionError",
    "TracerIntegerConversionError",
    "TreeError",
    "UnexpectedTracerError",
    "UnsupportedCallError",
    "UnsupportedPrimitiveError",
]


class FgradError(Exception):
    """The base of every exception that fgrad raises; catch it to catch them all.

    The user's line and the open transforms are added to the message.
    """

    def __init__(self, message: str = "") -> None:
        # A message that was pickled, or taken from another error, carries its place already.
        super().__init__(message if "\n  at " in message else message + where.suffix())

    def note_context(self, words: str) -> None:
        """Name the open transforms, where more are known now than when the error was made."""
        message, _, known = str(self.args[0]).partition("\n  inside ")
        if words.endswith(known) and len(words) > len(known):
            self.args = (f"{message}\n  inside {words}", *self.args[1:])


# --- what was passed in ---------------------------------------------------------------------------


class ShapeError(FgradError, TypeError):
    """Raised when the shapes of operands do not fit the operation or each other.

    Reshape, broadcast or transpose the operand that the message names.
    """


class DtypeError(FgradError, TypeError):
    """Raised when a dtype is not supported, or two dtypes have no implicit promotion.

    Convert explicitly, for instance with ``x.astype(fgrad.numpy.float32)``.
    """


class ArgumentError(FgradError, ValueError):
    """Raised when an argument has the right type but a value that the function does not accept.

    Pass one of the values, or one in the range, that the message states.
    """


class AxisError(FgradError, ValueError, IndexError):
    """Raised when an axis is out of range for the rank of an array, or is given twice.

    Axes run from ``-ndim`` to ``ndim - 1``; pass each one once.
    """


class IndexOutOfBoundsError(FgradError, IndexError):
    """Raised when an index lies outside the axis that it indexes.

    Correct the index, or choose what should happen with ``mode="clip"``, ``"fill"`` or ``"drop"``.
    """


class NonConcreteBooleanIndexError(FgradError, IndexError):
    """Raised when an array is indexed by a boolean mask whose values are traced.

    The shape of the result would depend on the values of the mask. Use
    ``fgrad.numpy.where(mask, x, other)``, pass ``size=`` to ``nonzero``, or keep the mask concrete.
    """


class TreeError(FgradError, ValueError, TypeError):
    """Raised when a pytree has the wrong structure or contains what cannot be a pytree.

    The message names the path at which two trees part; make their containers and keys equal there,
    or register the class with ``fgrad.tree_util.register_pytree_node``.
    """


class StaticArgumentError(FgradError, TypeError, ValueError):
    """Raised when a static argument of ``jit`` is not hashable, or does not exist.

    Pass a hashable value (a tuple in place of a list), or make the argument dynamic.
    """


class LinalgError(FgradError, ValueError):
    """Raised when a factorisation or a solve is impossible for the matrix given.

    The message names the matrix and the reason, such as a singular or indefinite matrix.
    """


class ConfigError(FgradError, ValueError, AttributeError):
    """Raised when a configuration flag does not exist or gets a value that it does not accept.

    The message lists the values that are accepted, or the flags of similar name.
    """


class UnsupportedCallError(FgradError, TypeError):
    """Raised when a NumPy function, or a form of calling it, has no counterpart for fgrad arrays.

    Express the call with ``fgrad.numpy`` or ``fgrad.lax``; for a concrete array that needs no
    derivative, call the function on ``numpy.asarray(x)``.
    """


# --- tracing --------------------------------------------------------------------------------------


class ConcretizationTypeError(FgradError, TypeError):
    """Raised when Python needs the value of a tracer, which is not known while tracing.

    Mark the argument static (``jit(f, static_argnums=...)``), or express the computation with
    ``fgrad.lax`` and ``fgrad.numpy`` functions.
    """


class TracerBoolConversionError(ConcretizationTypeError):
    """Raised when the truth of a tracer is asked for, as in ``if x > 0:`` under ``jit``.

    Use ``fgrad.numpy.where`` for values, ``fgrad.lax.cond`` or ``fgrad.lax.while_loop`` for
    control flow, or mark the argument static.
    """


class TracerArrayConversionError(FgradError, TypeError):
    """Raised when a tracer would become a NumPy array or a Python number.

    The value is not known while tracing, or would lose its derivative. Use ``fgrad.numpy``.
    """


class TracerIntegerConversionError(FgradError, TypeError):
    """Raised when a tracer is used where Python needs an integer, such as an index of a list.

    Mark the argument static, or index an ``fgrad`` array instead of a Python sequence.
    """


class UnexpectedTracerError(FgradError, TypeError):
    """Raised when a tracer is used outside the transform, or the thread, that made it.

    Return the value from the transformed function instead of storing it somewhere.
    """


class ClosedOverDifferentiationError(UnexpectedTracerError):
    """Raised when a custom rule closes over a value that is being differentiated.

    Pass the value as an argument of the function, or use ``fgrad.closure_convert``.
    """


class AxisNameError(FgradError, NameError):
    """Raised when a collective names an axis that no enclosing transform binds.

    Call the function under ``vmap(f, axis_name=...)`` with that name.
    """


class JaxprTypeError(FgradError, TypeError):
    """Raised by ``check_jaxpr`` when a program is ill-typed or refers to a variable not in scope.

    A transform or pass that makes such a program is wrong; the message names the equation.
    """


# --- compilation ----------------------------------------------------------------------------------


class CompilationError(FgradError, RuntimeError):
    """Raised when the code generator makes what the target's compiler does not accept.

    It is a fault of fgrad; ``config.update("cpu_compiler", "numpy")`` runs the program without it.
    """


class UnsupportedPrimitiveError(FgradError, NotImplementedError):
    """Raised when nothing computes an equation of a program on the device it is compiled for.

    Keep that operation outside of `jit`, or have the program run operation by operation with
    ``cuda_compiler("eager")``.
    """


class DriverError(FgradError, RuntimeError):
    """Raised when the driver of a GPU refuses a call.

    The message says which, and why; an earlier kernel may be to blame, since work runs behind the
    program that asked for it.
    """


class LibraryError(FgradError, RuntimeError):
    """Raised when a library of the device refuses a call, or fails in it.

    The message names the function, its status, and shapes and dtypes of what it was asked for.
    """


class KernelMismatchError(FgradError, ArithmeticError):
    """Raised under ``config.check`` when a step does not compute what its equations mean.

    The message names the step, the first element that is off with both numbers, the equations and
    the user's lines.
    """


# --- differentiation ------------------------------------------------------------------------------


class GradientTypeError(FgradError, TypeError):
    """Raised when ``grad`` meets an output that is not a real scalar, or inputs of no derivative.

    Reduce the output to a scalar (or use ``vjp``/``jacrev``); convert integer inputs to floats.
    """


class CotangentError(FgradError, TypeError, ValueError):
    """Raised when a cotangent (or tangent) does not match its value in tree, shape or dtype.

    Pass one of the shape and dtype that the message states.
    """


class RuleError(FgradError, TypeError):
    """Raised when a primitive has no rule for the transform applied, or its rule is wrong.

    The message gives the reason for the absence, or what the rule returned and should return.
    """


class CustomRuleError(FgradError, TypeError):
    """Raised when a ``custom_vjp`` or ``custom_jvp`` rule is missing or returns the wrong things.

    Return the trees, shapes and dtypes that the message states.
    """


class NonlinearPullbackError(FgradError, TypeError):
    """Raised when forward mode needs to transpose a ``custom_vjp`` rule that is not linear.

    The backward function must be linear in the cotangent; or give a ``jvp`` rule too.
    """


class ResidualsFreedError(FgradError, RuntimeError):
    """Raised when a pullback is called after ``consume`` has freed its residuals.

    Call the pullback itself, which keeps its residuals, for all calls but the last.
    """


class NonFiniteError(FgradError, FloatingPointError):
    """Raised under ``debug_nans`` or ``debug_infs`` when an operation makes a NaN or infinity.

    The message names the operation and the line that called it.
    """


# --- arrays and their buffers ---------------------------------------------------------------------


class ImmutableArrayError(FgradError, TypeError, ValueError):
    """Raised when an array would be written in place.

    Arrays are immutable: use ``x = x.at[index].set(value)``, which returns a new array.
    """


class FrozenModuleError(FgradError, AttributeError):
    """Raised when an attribute of a ``fgrad.nn.Module`` is assigned or deleted.

    Modules are immutable once built: use ``module.replace(name=value)``, which makes a copy.
    """


class DonationError(FgradError, RuntimeError):
    """Raised when a donated argument cannot be used by the program that it is donated to.

    Donate only arguments whose shape and dtype equal those of a result.
    """


class BufferDonatedError(FgradError, RuntimeError):
    """Raised when an array is used after its buffer has been donated.

    Use the result of the call in place of the donated argument, or do not donate it.
    """


class SavingError(FgradError, pickle.PicklingError):
    """Raised when a pullback holds something that cannot be written to a file.

    Give callbacks as functions of a module, not as closures; save outside of transforms.
    """


class DeviceError(FgradError, ValueError):
    """Raised when a device does not exist, or operands lie on several devices.

    Move arrays with ``fgrad.device_put``; ``fgrad.devices`` lists what there is.
    """


class OutOfMemoryError(FgradError, MemoryError):
    """Raised when there is no memory for a call of a program.

    The message states its peak and its largest buffers, with the user's lines that made them. Make
    the program smaller (a smaller batch, `checkpoint`), or donate arguments.
    """


class KeyReuseError(FgradError, RuntimeError):
    """Raised when a typed random key is consumed a second time.

    Derive a new key for each use with ``fgrad.random.split`` or ``fgrad.random.fold_in``.
    """

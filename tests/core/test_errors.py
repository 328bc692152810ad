import pickle

import pytest

from fgrad.core import errors

CLASSES = [getattr(errors, name) for name in errors.__all__]

BUILT_INS = {
    "DeviceError": (ValueError,),
    "ConcretizationTypeError": (TypeError,),
    "TracerBoolConversionError": (TypeError,),
    "TracerArrayConversionError": (TypeError,),
    "TracerIntegerConversionError": (TypeError,),
    "NonConcreteBooleanIndexError": (IndexError,),
    "UnexpectedTracerError": (TypeError,),
    "KernelMismatchError": (ArithmeticError,),
    "UnsupportedPrimitiveError": (NotImplementedError,),
    "DriverError": (RuntimeError,),
    "KeyReuseError": (RuntimeError,),
    "SavingError": (pickle.PicklingError,),
    "ShapeError": (TypeError,),
    "DtypeError": (TypeError,),
    "AxisError": (ValueError, IndexError),
    "TreeError": (ValueError, TypeError),
    "IndexOutOfBoundsError": (IndexError,),
    "GradientTypeError": (TypeError,),
    "CotangentError": (TypeError, ValueError),
    "RuleError": (TypeError,),
    "CustomRuleError": (TypeError,),
    "ClosedOverDifferentiationError": (errors.UnexpectedTracerError,),
    "CompilationError": (RuntimeError,),
    "NonlinearPullbackError": (TypeError,),
    "UnsupportedCallError": (TypeError,),
    "ResidualsFreedError": (RuntimeError,),
    "ImmutableArrayError": (TypeError, ValueError),
    "StaticArgumentError": (TypeError, ValueError),
    "DonationError": (RuntimeError,),
    "BufferDonatedError": (RuntimeError,),
    "NonFiniteError": (FloatingPointError,),
    "AxisNameError": (NameError,),
    "JaxprTypeError": (TypeError,),
    "LibraryError": (RuntimeError,),
    "LinalgError": (ValueError,),
    "ArgumentError": (ValueError,),
    "FrozenModuleError": (AttributeError,),
    "OutOfMemoryError": (MemoryError,),
    "ConfigError": (ValueError, AttributeError),
    "FgradError": (Exception,),
}


def test_every_class_is_public_and_listed():
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined == set(errors.__all__) == BUILT_INS.keys()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_error_is_caught_by_its_built_in_and_by_the_base(cls):
    for base in (errors.FgradError, *BUILT_INS[cls.__name__]):
        with pytest.raises(base, match="what to do"):
            raise cls("what to do")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_error_says_when_it_is_raised_and_survives_pickling(cls):
    assert cls is errors.FgradError or cls.__doc__.startswith(("Raised when", "Raised"))
    error = cls("message")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == str(error)
    assert str(copy).splitlines()[0] == "message"


def test_a_truth_conversion_is_a_concretization():
    assert issubclass(errors.TracerBoolConversionError, errors.ConcretizationTypeError)

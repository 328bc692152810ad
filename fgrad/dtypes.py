"""Dtypes, their promotion, and questions about them."""

from fgrad.core.dtypes import *  # noqa: F403
from fgrad.core.dtypes import __all__ as __all__

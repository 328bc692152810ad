"""Every exception that fgrad raises; see each class for when, and for what to do."""

from fgrad.core.errors import *  # noqa: F403
from fgrad.core.errors import __all__ as __all__

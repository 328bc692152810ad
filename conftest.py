"""Imports the library first, so that collecting its doctests does not load its modules twice."""

import fgrad  # noqa: F401

"""The property suite: the laws that primitives and user functions obey."""

from fgrad.testing.primitives import check_group, check_primitive, groups_of

__all__ = ["check_group", "check_primitive", "groups_of"]

"""The primitives, a family a file."""

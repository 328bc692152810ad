"""Transforms: one trace or one program transformation a file."""

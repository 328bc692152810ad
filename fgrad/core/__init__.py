"""The language: types, values, programs, traces and transforms. Imports NumPy alone."""

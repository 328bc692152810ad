"""fgrad: composable transforms of pure functions over NumPy and CuPy arrays."""

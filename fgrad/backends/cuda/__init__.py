"""NVIDIA GPUs through CuPy; the only importer of CuPy, which loads when its arrays turn up."""

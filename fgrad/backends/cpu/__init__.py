"""CPU kernels as LLVM machine code; the only importer of llvmlite, which the first compile loads."""

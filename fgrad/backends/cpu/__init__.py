"""CPU kernels as LLVM machine code; the only importer of llvmlite, loaded by the first compile."""

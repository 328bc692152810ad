"""CPUs, by machine code that LLVM makes; the only importer of llvmlite, loaded at first use."""

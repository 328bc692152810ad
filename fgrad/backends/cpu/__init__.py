"""The CPU target: kernels as LLVM IR, the machine code made of it, and what runs it."""

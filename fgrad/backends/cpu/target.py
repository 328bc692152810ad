"""The machine that code is made for."""

import functools
import warnings
from typing import Any, NamedTuple

import llvmlite.binding as llvm


class Target(NamedTuple):
    """A processor.

    Attributes:
        triple: Architecture and system, as LLVM writes them.
        cpu: LLVM's name of the model.
        features: What it can do, as LLVM's list of ``+name`` and ``-name``.
    """

    triple: str
    cpu: str
    features: str

    @property
    def vector_bytes(self) -> int:
        """The width of its vector registers."""
        has = set(self.features.split(","))
        if {"+avx512f", "+avx512bw", "+avx512dq", "+avx512vl"} <= has:
            return 64
        return 32 if {"+avx2", "+fma"} <= has else 16

    @property
    def lacks_half(self) -> bool:
        """Whether float16 is converted by functions (see `half`) in place of instructions."""
        return self.architecture == "x86_64" and "+f16c" not in self.features.split(",")

    @property
    def registers(self) -> int:
        """The number of its vector registers."""
        return 32 if self.vector_bytes == 64 or self.architecture == "aarch64" else 16

    @property
    def architecture(self) -> str:
        """'x86_64', 'aarch64' or another."""
        name = self.triple.split("-")[0]
        return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)

    @property
    def key(self) -> str:
        """What code made for it depends on, the version of LLVM included."""
        version = ".".join(map(str, llvm.llvm_version_info))
        return f"{version} {self.triple} {self.cpu} {self.features}"

    def machine(self) -> Any:
        """A new LLVM target machine; it must not be used by two threads at once.

        The code generator is given vector code without redundancy, so its own optimisations suffice
        and no passes run before it: those would take three quarters of the time.
        """
        return llvm.Target.from_triple(self.triple).create_target_machine(
            cpu=self.cpu, features=self.features, opt=1, reloc="pic", codemodel="jitdefault"
        )


def report(target: Target) -> None:
    """Warn where kernels are slow: of a processor whose vectors cannot multiply and add in one."""
    if target.architecture == "x86_64" and target.vector_bytes == 16:
        warnings.warn(
            f"this processor ({target.cpu}) has no AVX2 and FMA, for which fgrad's code is made: "
            f"kernels use vectors of 16 bytes and call the C library for each fused "
            f"multiplication, as accurate but slowly; FGRAD_CPU_COMPILER=numpy may be "
            f"faster",
            RuntimeWarning,
            stacklevel=2,
        )


@functools.cache
def host() -> Target:
    """The machine that this process runs on; what is slow on it is told once."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    found = Target(llvm.get_process_triple(), llvm.get_host_cpu_name(), features)
    report(found)
    return found

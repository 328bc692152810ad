"""Products of small matrices in machine code of our own: BLAS takes longer to begin them.

``void NAME(a, ars, acs, b, brs, c, crs, m, n, k, add)`` computes ``C = A·B``, or adds it to C, with
rows of B and C contiguous and A of any strides, in elements. Tiles of C stay in registers while k
runs. Columns past the end are masked; rows past the end are those of the last row once more, and
are written with the same values.
"""

import functools

from fgrad.backends.cpu.engine import Code, engine

NAMES = {"float32": "fgrad_product_f", "float64": "fgrad_product_d"}
LARGEST = 1 << 17  # multiplications, up to which these are quicker
DEEPEST = 1024  # terms of one sum, which one chain of additions computes

_ARGS = (
    "ptr %a, i64 %ars, i64 %acs, ptr %b, i64 %brs, ptr %c, i64 %crs, i64 %m, i64 %n, i64 %k, "
    "i64 %add"
)


@functools.cache
def code() -> Code:
    """The functions, loaded when the first loop needs them."""
    made = engine()
    return made.runtime(tuple(NAMES.values()), text(made.target.vector_bytes))


def text(vector_bytes: int) -> str:
    """The LLVM text of both functions for vectors of that size."""
    rows = 8 if vector_bytes >= 64 else 6
    parts = []
    for name, kind, size in ((NAMES["float32"], "float", 4), (NAMES["float64"], "double", 8)):
        parts.append(_Product(name, kind, max(1, vector_bytes // size), rows).text())
    return "\n".join(parts)


class _Product:
    """The text of one function: tiles of `rows` by two vectors."""

    def __init__(self, name: str, kind: str, lanes: int, rows: int) -> None:
        self.name, self.kind, self.lanes, self.rows = name, kind, lanes, rows
        self.vector = f"<{lanes} x {kind}>"
        self.mask = f"<{lanes} x i1>"
        self.suffix = f"v{lanes}{'f32' if kind == 'float' else 'f64'}"
        self.tiles = [(r, v) for r in range(rows) for v in range(2)]

    def text(self) -> str:
        """The function and what it declares."""
        v, m = self.vector, self.mask
        return f"""
declare {v} @llvm.fmuladd.{self.suffix}({v}, {v}, {v})
declare {v} @llvm.masked.load.{self.suffix}.p0(ptr, i32, {m}, {v})
declare void @llvm.masked.store.{self.suffix}.p0({v}, ptr, i32, {m})
{self._tile(masked=False)}
{self._tile(masked=True)}
define void @{self.name}({_ARGS}) {{
entry:
  br label %columns
columns:
  %j = phi i64 [0, %entry], [%j1, %done]
  %wide = icmp slt i64 %j, %n
  br i1 %wide, label %rows0, label %end
rows0:
  %left = sub i64 %n, %j
  %j1 = add i64 %j, {2 * self.lanes}
  %whole = icmp sge i64 %left, {2 * self.lanes}
  %bj = getelementptr {self.kind}, ptr %b, i64 %j
  br label %rows
rows:
  %i = phi i64 [0, %rows0], [%i1, %next]
  %high = icmp slt i64 %i, %m
  br i1 %high, label %tile, label %done
tile:
  %i1 = add i64 %i, {self.rows}
  br i1 %whole, label %full, label %part
full:
  call void @{self.name}_full(ptr %a, i64 %ars, i64 %acs, ptr %bj, i64 %brs, ptr %c, i64 %crs,
    i64 %i, i64 %j, i64 %m, i64 %left, i64 %k, i64 %add)
  br label %next
part:
  call void @{self.name}_part(ptr %a, i64 %ars, i64 %acs, ptr %bj, i64 %brs, ptr %c, i64 %crs,
    i64 %i, i64 %j, i64 %m, i64 %left, i64 %k, i64 %add)
  br label %next
next:
  br label %rows
done:
  br label %columns
end:
  ret void
}}
"""

    def _tile(self, *, masked: bool) -> str:
        """One tile of C, whose columns are those from `left` columns before the end."""
        kind, vector = self.kind, self.vector
        lines = [
            f"define internal void @{self.name}_{'part' if masked else 'full'}(ptr %a, i64 %ars, "
            "i64 %acs, ptr %b, i64 %brs, ptr %c, i64 %crs, i64 %i, i64 %j, i64 %m, i64 %left, "
            "i64 %k, i64 %add) {",
            "entry:",
            "  %last = sub i64 %m, 1",
        ]
        if masked:
            lines += self._masks()
        lines += self._rows()
        lines += ["  br label %loop", "loop:", "  %l = phi i64 [0, %entry], [%l1, %loop]"]
        for r, v in self.tiles:
            name = f"%s{r}v{v}"
            lines.append(f"  {name} = phi {vector} [zeroinitializer, %entry], [{name}n, %loop]")
        lines += ["  %bo = mul i64 %l, %brs", f"  %bv0 = getelementptr {kind}, ptr %b, i64 %bo",
                  f"  %bv1 = getelementptr {kind}, ptr %bv0, i64 {self.lanes}",
                  "  %ao = mul i64 %l, %acs"]  # fmt: skip
        lines += [self._load(f"%b{v}", f"%bv{v}", v, masked) for v in range(2)]
        for r in range(self.rows):
            lines += [
                f"  %p{r} = getelementptr {kind}, ptr %a{r}, i64 %ao",
                f"  %e{r} = load {kind}, ptr %p{r}",
                f"  %f{r} = insertelement {vector} poison, {kind} %e{r}, i32 0",
                f"  %g{r} = shufflevector {vector} %f{r}, {vector} poison, "
                f"<{self.lanes} x i32> zeroinitializer",
            ]
        for r, v in self.tiles:
            lines.append(
                f"  %s{r}v{v}n = call {vector} @llvm.fmuladd.{self.suffix}({vector} %g{r}, "
                f"{vector} %b{v}, {vector} %s{r}v{v})"
            )
        lines += ["  %l1 = add i64 %l, 1", "  %more = icmp slt i64 %l1, %k",
                  "  br i1 %more, label %loop, label %out", "out:",
                  "  %adds = icmp ne i64 %add, 0",
                  "  br i1 %adds, label %sum, label %store", "sum:"]  # fmt: skip
        for r, v in self.tiles:  # all are read before any is written: rows may be the same
            lines.append(self._load(f"%h{r}v{v}", f"%c{r}v{v}", v, masked))
            lines.append(f"  %t{r}v{v} = fadd {vector} %h{r}v{v}, %s{r}v{v}n")
        lines += ["  br label %store", "store:"]
        for r, v in self.tiles:
            lines.append(f"  %w{r}v{v} = phi {vector} [%s{r}v{v}n, %out], [%t{r}v{v}, %sum]")
        lines += [self._store(f"%w{r}v{v}", f"%c{r}v{v}", v, masked) for r, v in self.tiles]
        return "\n".join([*lines, "  ret void", "}"])

    def _rows(self) -> list[str]:
        """Pointers to the rows of A and C; past the end to the last ones."""
        kind = self.kind
        lines: list[str] = []
        for r in range(self.rows):
            lines += [
                f"  %r{r} = add i64 %i, {r}",
                f"  %o{r} = icmp slt i64 %r{r}, %last",
                f"  %q{r} = select i1 %o{r}, i64 %r{r}, i64 %last",
                f"  %x{r} = mul i64 %q{r}, %ars",
                f"  %a{r} = getelementptr {kind}, ptr %a, i64 %x{r}",
                f"  %y{r} = mul i64 %q{r}, %crs",
                f"  %z{r} = add i64 %y{r}, %j",
                f"  %c{r}v0 = getelementptr {kind}, ptr %c, i64 %z{r}",
                f"  %c{r}v1 = getelementptr {kind}, ptr %c{r}v0, i64 {self.lanes}",
            ]
        return lines

    def _masks(self) -> list[str]:
        steps = ", ".join(f"i64 {i}" for i in range(self.lanes))
        lines = []
        for v in range(2):
            lines += [
                f"  %n{v} = sub i64 %left, {v * self.lanes}",
                f"  %u{v} = insertelement <{self.lanes} x i64> poison, i64 %n{v}, i32 0",
                f"  %v{v} = shufflevector <{self.lanes} x i64> %u{v}, <{self.lanes} x i64> poison, "
                f"<{self.lanes} x i32> zeroinitializer",
                f"  %mask{v} = icmp slt <{self.lanes} x i64> <{steps}>, %v{v}",
            ]
        return lines

    def _load(self, name: str, pointer: str, v: int, masked: bool) -> str:
        size = 4 if self.kind == "float" else 8
        if not masked:
            return f"  {name} = load {self.vector}, ptr {pointer}, align {size}"
        return (
            f"  {name} = call {self.vector} @llvm.masked.load.{self.suffix}.p0(ptr {pointer}, "
            f"i32 {size}, {self.mask} %mask{v}, {self.vector} zeroinitializer)"
        )

    def _store(self, value: str, pointer: str, v: int, masked: bool) -> str:
        size = 4 if self.kind == "float" else 8
        if not masked:
            return f"  store {self.vector} {value}, ptr {pointer}, align {size}"
        return (
            f"  call void @llvm.masked.store.{self.suffix}.p0({self.vector} {value}, ptr "
            f"{pointer}, i32 {size}, {self.mask} %mask{v})"
        )

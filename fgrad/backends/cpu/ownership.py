"""The LLVM text of what tells whether nobody else can see the memory of arrays: `fgrad_sole`.

A view of an array refers to it, and so does what other libraries have made of it. An array with
memory of its own and no references but known ones is thus seen by nobody else.
"""

from enum import IntEnum


class Table(IntEnum):
    """The words that it is given."""

    CONTEXT = 0  # as in every block of a builtin
    REFERENCES = 1  # those to each array, its arguments among them
    SIZE = 2


# NumPy's numbers for flags: contiguous in rows, with memory of its own, aligned, can be written.
BITS = 0x0001 | 0x0004 | 0x0100 | 0x0400

TEXT = """
define ptr @fgrad_sole(ptr %self, ptr %given, i64 %count) {{
entry:
  %table = call ptr @data(ptr %self)
  %c = call i64 @word(ptr %table, i64 {S.CONTEXT})
  %context = inttoptr i64 %c to ptr
  %ndarray = call i64 @word(ptr %context, i64 {C.NDARRAY})
  %wide = call i64 @word(ptr %table, i64 {S.REFERENCES})
  %expected = trunc i64 %wide to i32
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i1, %next]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %look, label %end
look:
  %ap = getelementptr ptr, ptr %given, i64 %i
  %array = load ptr, ptr %ap
  %tp = getelementptr i8, ptr %array, i64 {type}
  %type = load i64, ptr %tp
  %plain = icmp eq i64 %type, %ndarray
  br i1 %plain, label %see, label %end
see:
  %rp = getelementptr i8, ptr %array, i64 {references}
  %references = load i32, ptr %rp
  %known = icmp eq i32 %references, %expected
  %bp = getelementptr i8, ptr %array, i64 {base}
  %base = load i64, ptr %bp
  %alone = icmp eq i64 %base, 0
  %fp = getelementptr i8, ptr %array, i64 {flags}
  %flags = load i32, ptr %fp
  %bits = and i32 %flags, {BITS}
  %good = icmp eq i32 %bits, {BITS}
  %own = and i1 %alone, %good
  %sole = and i1 %own, %known
  br i1 %sole, label %next, label %end
next:
  %i1 = add i64 %i, 1
  br label %loop
end:
  %found = phi i1 [true, %loop], [false, %look], [false, %see]
  %told = call ptr @answer(ptr %context, i1 %found)
  ret ptr %told
}}
"""

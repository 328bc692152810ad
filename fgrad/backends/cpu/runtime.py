"""The LLVM text of what runs kernels: the function behind each launch.

A kernel is ``void kernel(args, lo, hi)`` over units ``[lo, hi)``. A launch is described by a block
of 64-bit words (`Word`), of which the words of the kernel are the tail. `launch` and `ready` have
the signature of Python's METH_FASTCALL; `launch` puts the data pointers of its arguments and the
words on its stack, so any number of threads may run one launch at once. The first two words of a
kernel that needs scratch memory get pointers to it (see `layout`).
"""

from enum import IntEnum

from fgrad.backends.cpu import interpreter, likeness, ownership, sharing, together


class Word(IntEnum):
    """The words of a launch, each 8 bytes; those of the kernel follow."""

    CONTEXT = 0  # the address of a `Context`
    KERNEL = 1  # the address of the kernel
    COMBINE = 2  # of the function that combines the partial results of its units, or 0
    UNITS = 3
    COMBINE_UNITS = 4
    POINTERS = 5  # how many arguments are operands; one more is scratch, if there is any
    WORDS = 6  # how many words the kernel has
    SHARED_BYTES = 7  # of scratch: the part of all threads, followed by one of each thread's own
    THREAD_BYTES = 8
    CHUNK = 9  # units a worker takes at a time; 0: all of them run in the caller
    RELEASE = 10  # whether other Python threads may run meanwhile
    SPIN = 11  # how often workers look for another job afterwards, before they sleep
    FIRST = 12


class Context(IntEnum):
    """The words of what all launches share."""

    NONE = 0
    FALSE = 1
    TRUE = 2
    COUNTED = 3  # whether these three count their references
    SAVE_THREAD = 4
    RESTORE_THREAD = 5
    POOL = 6
    NDARRAY = 7  # the type
    ENSURE = 8  # functions of Python: PyGILState_Ensure, …
    CHECK_SIGNALS = 9
    RELEASE = 10
    ARRAY = 11  # the type `ArrayImpl`, and where it has its fields (see `likeness`)
    ARRAY_DATA = 12
    ARRAY_FLAGS = 13
    SHARE = 14  # the address of `fgrad_share`
    SIZE = 15


_COMMON = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define internal i64 @word(ptr %base, i64 %index) alwaysinline {{
  %p = getelementptr i64, ptr %base, i64 %index
  %v = load i64, ptr %p
  ret i64 %v
}}

; Runs all units of a kernel, shared among threads where `chunk` says so, and what combines them.
define internal void @perform(ptr %context, i64 %kernel, ptr %args, i64 %units, i64 %chunk,
    i64 %combine, i64 %last, i64 %spin, i64 %words, i64 %private, i64 %bytes) alwaysinline {{
entry:
  %code = inttoptr i64 %kernel to ptr
  %split = icmp sgt i64 %chunk, 0
  br i1 %split, label %shared, label %alone
shared:
  %p = call i64 @word(ptr %context, i64 {C.POOL})
  %pool = inttoptr i64 %p to ptr
  %s = call i64 @word(ptr %context, i64 {C.SHARE})
  %share = inttoptr i64 %s to ptr
  call void %share(ptr %pool, ptr %code, ptr %args, i64 %units, i64 %chunk, i64 %spin,
    i64 %words, i64 %private, i64 %bytes)
  br label %second
alone:
  call void %code(ptr %args, i64 0, i64 %units)
  br label %second
second:
  %has = icmp ne i64 %combine, 0
  br i1 %has, label %combined, label %end
combined:
  %after = inttoptr i64 %combine to ptr
  call void %after(ptr %args, i64 0, i64 %last)
  br label %end
end:
  ret void
}}

; Calls a function of two pointers, where `long` is not 0 without Python's lock.
define internal i64 @released(ptr %context, i64 %long, ptr %function, ptr %a, ptr %b)
    alwaysinline {{
entry:
  %free = icmp ne i64 %long, 0
  br i1 %free, label %unlock, label %hold
unlock:
  %s = call i64 @word(ptr %context, i64 {C.SAVE_THREAD})
  %save = inttoptr i64 %s to ptr
  %r = call i64 @word(ptr %context, i64 {C.RESTORE_THREAD})
  %restore = inttoptr i64 %r to ptr
  %thread = call ptr %save()
  %freely = call i64 %function(ptr %a, ptr %b)
  call void %restore(ptr %thread)
  br label %end
hold:
  %held = call i64 %function(ptr %a, ptr %b)
  br label %end
end:
  %found = phi i64 [%freely, %unlock], [%held, %hold]
  ret i64 %found
}}

define internal ptr @constant(ptr %context, i64 %which) {{
entry:
  %a = call i64 @word(ptr %context, i64 %which)
  %object = inttoptr i64 %a to ptr
  %counted = call i64 @word(ptr %context, i64 {C.COUNTED})
  %is = icmp ne i64 %counted, 0
  br i1 %is, label %count, label %end
count:
  %refs = load i64, ptr %object
  %more = add i64 %refs, 1
  store i64 %more, ptr %object
  br label %end
end:
  ret ptr %object
}}

define internal ptr @answer(ptr %context, i1 %yes) {{
  %which = select i1 %yes, i64 {C.TRUE}, i64 {C.FALSE}
  %object = call ptr @constant(ptr %context, i64 %which)
  ret ptr %object
}}

define internal ptr @data(ptr %array) alwaysinline {{
  %p = getelementptr i8, ptr %array, i64 {data}
  %v = load ptr, ptr %p
  ret ptr %v
}}
"""

_TEXT = """
{sharing}

define i64 @fgrad_run(ptr %block, ptr %args) {{
  %c = call i64 @word(ptr %block, i64 {W.CONTEXT})
  %context = inttoptr i64 %c to ptr
  %kernel = call i64 @word(ptr %block, i64 {W.KERNEL})
  %units = call i64 @word(ptr %block, i64 {W.UNITS})
  %chunk = call i64 @word(ptr %block, i64 {W.CHUNK})
  %combine = call i64 @word(ptr %block, i64 {W.COMBINE})
  %last = call i64 @word(ptr %block, i64 {W.COMBINE_UNITS})
  %spin = call i64 @word(ptr %block, i64 {W.SPIN})
  %n = call i64 @word(ptr %block, i64 {W.POINTERS})
  %w = call i64 @word(ptr %block, i64 {W.WORDS})
  %words = add i64 %n, %w
  %private = add i64 %n, 1
  %bytes = call i64 @word(ptr %block, i64 {W.THREAD_BYTES})
  call void @perform(ptr %context, i64 %kernel, ptr %args, i64 %units, i64 %chunk,
    i64 %combine, i64 %last, i64 %spin, i64 %words, i64 %private, i64 %bytes)
  ret i64 0
}}

define ptr @fgrad_launch(ptr %self, ptr %given, i64 %count) {{
entry:
  %block = call ptr @data(ptr %self)
  %n = call i64 @word(ptr %block, i64 {W.POINTERS})
  %words = call i64 @word(ptr %block, i64 {W.WORDS})
  %total = add i64 %n, %words
  %args = alloca i64, i64 %total, align 64
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i1, %copy]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %copy, label %tail
copy:
  %ap = getelementptr ptr, ptr %given, i64 %i
  %array = load ptr, ptr %ap
  %pointer = call ptr @data(ptr %array)
  %to = getelementptr ptr, ptr %args, i64 %i
  store ptr %pointer, ptr %to
  %i1 = add i64 %i, 1
  br label %loop
tail:
  %from = getelementptr i64, ptr %block, i64 {W.FIRST}
  %rest = getelementptr i64, ptr %args, i64 %n
  %bytes = shl i64 %words, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %rest, ptr %from, i64 %bytes, i1 false)
  %extra = icmp sgt i64 %count, %n
  br i1 %extra, label %scratch, label %run
scratch:
  %sp = getelementptr ptr, ptr %given, i64 %n
  %last = load ptr, ptr %sp
  %room = call ptr @data(ptr %last)
  store ptr %room, ptr %rest
  %own = call i64 @word(ptr %block, i64 {W.SHARED_BYTES})
  %private = getelementptr i8, ptr %room, i64 %own
  %second = getelementptr ptr, ptr %rest, i64 1
  store ptr %private, ptr %second
  br label %run
run:
  %c = call i64 @word(ptr %block, i64 {W.CONTEXT})
  %context = inttoptr i64 %c to ptr
  %release = call i64 @word(ptr %block, i64 {W.RELEASE})
  %zero = call i64 @released(ptr %context, i64 %release, ptr @fgrad_run, ptr %block, ptr %args)
  %none = call ptr @constant(ptr %context, i64 {C.NONE})
  ret ptr %none
}}

define ptr @fgrad_ready(ptr %self, ptr %given, i64 %count) {{
entry:
  %block = call ptr @data(ptr %self)
  %c = call i64 @word(ptr %block, i64 {W.CONTEXT})
  %context = inttoptr i64 %c to ptr
  %ndarray = call i64 @word(ptr %context, i64 {C.NDARRAY})
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
  %fp = getelementptr i8, ptr %array, i64 {flags}
  %flags = load i32, ptr %fp
  %bits = and i32 %flags, 257
  %good = icmp eq i32 %bits, 257
  br i1 %good, label %next, label %end
next:
  %i1 = add i64 %i, 1
  br label %loop
end:
  %found = phi i1 [true, %loop], [false, %look], [false, %see]
  %told = call ptr @answer(ptr %context, i1 %found)
  ret ptr %told
}}

define void @fgrad_probe(ptr %args, i64 %lo, i64 %hi) {{
entry:
  %x = load ptr, ptr %args
  %yp = getelementptr ptr, ptr %args, i64 1
  %y = load ptr, ptr %yp
  %wp = getelementptr i64, ptr %args, i64 2
  %w = load i64, ptr %wp
  br label %loop
loop:
  %i = phi i64 [%lo, %entry], [%i1, %step]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %step, label %end
step:
  %xi = getelementptr i64, ptr %x, i64 %i
  %v = load i64, ptr %xi
  %sum = add i64 %v, %w
  %yi = getelementptr i64, ptr %y, i64 %i
  store i64 %sum, ptr %yi
  %i1 = add i64 %i, 1
  br label %loop
end:
  ret void
}}
"""

NAMES = (
    "fgrad_launch", "fgrad_ready", "fgrad_alike", "fgrad_sole", "fgrad_run", "fgrad_worker",
    "fgrad_share", "fgrad_probe", *together.NAMES,
)  # fmt: skip


def text(architecture: str, head: int) -> str:
    """The LLVM text of launches.

    Args:
        architecture: As in `Target.architecture`.
        head: The size of the part that all Python objects share, after which an ndarray has the
            fields that NumPy's C API fixes: data pointer, number of axes, their lengths, strides,
            base, dtype, flags. Its last words are the count of references and the type.
    """
    fields = {"references": head - 16, "type": head - 8, "data": head, "ndim": head + 8,
              "shape": head + 16, "base": head + 32, "dtype": head + 40,
              "flags": head + 48}  # fmt: skip
    return together.text() + (_COMMON + _TEXT + likeness.TEXT + ownership.TEXT).format(
        sharing=sharing.text(architecture), **fields,
        W=_Numbers(Word), C=_Numbers(Context), H=_Numbers(likeness.Head), I=_Numbers(likeness.Item),
        S=_Numbers(ownership.Table), BITS=ownership.BITS,
    )  # fmt: skip


def loops(head: int) -> str:
    """The LLVM text of what runs loops, which is made when the first one is compiled.

    Args:
        head: As for `text`.
    """
    context = _Numbers(Context)
    return _COMMON.format(C=context, data=head) + interpreter.text(context, _Numbers)


class _Numbers:
    """The members of an enumeration as plain numbers, for `str.format`."""

    def __init__(self, enum: type[IntEnum]) -> None:
        self.__dict__.update({m.name: int(m) for m in enum})

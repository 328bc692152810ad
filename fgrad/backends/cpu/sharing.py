"""The LLVM text of the pool of workers: what they run, and how a caller shares a kernel with them.

The pool (`Pool`) runs one job at a time: whoever finds it taken runs alone. Workers join and leave
by counting in `state`; the caller opens it, takes units itself until none is left, closes it, and
waits for those inside. A worker that wakes up late finds it closed, or open for a later job, which
it may help with just as well; so nobody waits for a worker that has not begun. Where a kernel
needs memory of each thread's own, a worker runs it on a copy of its words.

A worker that sleeps may be woken on the processor of its caller, behind it, and never get to work
before the caller is done. So where the system can tell processors apart, a worker that was last
there is moved to any other before it is woken; when it has worked there, it may go anywhere again.
"""

from enum import IntEnum


class Pool(IntEnum):
    """Offsets in the pool, in bytes; what different threads write is 64 bytes apart."""

    LOCK = 0  # i32: whether a caller has taken it
    JOB = 64  # the number of the latest job
    STATE = 128  # `OPEN` while there is work, plus the number of workers inside
    NEXT = 192  # the first unit that nobody has taken
    KERNEL = 256
    ARGS = 264
    UNITS = 272
    CHUNK = 280
    SPIN = 288
    WORKERS = 296
    POST = 304  # functions of the system
    WAIT = 312
    YIELD = 320
    WORDS = 328  # how many words `args` has
    PRIVATE = 336  # which of them points to memory of one thread alone
    PRIVATE_BYTES = 344  # and how much each thread has, or 0
    CPU = 352  # more of them: the processor and the number of this thread, and where a thread may
    THREAD = 360  # run; null where there are none
    CONFINE = 368
    ALLOWED = 376  # a set of 1,024 processors, a bit each
    # One of `SLOT` bytes a worker: i32 whether it sleeps; at 8 its semaphore; at 16 i32 where it
    # ran last, at 20 i32 its number, at 24 i32 whether it was moved.
    SLOTS = 384
    SLOT = 64


OPEN = 1 << 32
_INSIDE = OPEN - 1
_PATIENCE = 1000  # looks at the state before the caller gives its core away

_PAUSE = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
}

_TEXT = """
{declare}

define internal void @take(ptr %pool, i64 %thread) {{
entry:
  %kp = getelementptr i8, ptr %pool, i64 {KERNEL}
  %kernel = load ptr, ptr %kp
  %ap = getelementptr i8, ptr %pool, i64 {ARGS}
  %given = load ptr, ptr %ap
  %up = getelementptr i8, ptr %pool, i64 {UNITS}
  %units = load i64, ptr %up
  %cp = getelementptr i8, ptr %pool, i64 {CHUNK}
  %chunk = load i64, ptr %cp
  %next = getelementptr i8, ptr %pool, i64 {NEXT}
  %bp = getelementptr i8, ptr %pool, i64 {PRIVATE_BYTES}
  %bytes = load i64, ptr %bp
  %offset = mul i64 %bytes, %thread
  %own = icmp ne i64 %offset, 0
  br i1 %own, label %copy, label %loop
copy:
  %wp = getelementptr i8, ptr %pool, i64 {WORDS}
  %words = load i64, ptr %wp
  %size = shl i64 %words, 3
  %mine = alloca i64, i64 %words, align 64
  call void @llvm.memcpy.p0.p0.i64(ptr %mine, ptr %given, i64 %size, i1 false)
  %pp = getelementptr i8, ptr %pool, i64 {PRIVATE}
  %private = load i64, ptr %pp
  %at = getelementptr i64, ptr %mine, i64 %private
  %first = load i64, ptr %at
  %place = add i64 %first, %offset
  store i64 %place, ptr %at
  br label %loop
loop:
  %args = phi ptr [%given, %entry], [%mine, %copy], [%args, %run]
  %lo = atomicrmw add ptr %next, i64 %chunk monotonic
  %more = icmp slt i64 %lo, %units
  br i1 %more, label %run, label %end
run:
  %end0 = add i64 %lo, %chunk
  %inside = icmp slt i64 %end0, %units
  %hi = select i1 %inside, i64 %end0, i64 %units
  call void %kernel(ptr %args, i64 %lo, i64 %hi)
  br label %loop
end:
  ret void
}}

define void @fgrad_worker(ptr %pool, i64 %number) {{
entry:
  %jobp = getelementptr i8, ptr %pool, i64 {JOB}
  %state = getelementptr i8, ptr %pool, i64 {STATE}
  %spinp = getelementptr i8, ptr %pool, i64 {SPIN}
  %waitp = getelementptr i8, ptr %pool, i64 {WAIT}
  %wait = load ptr, ptr %waitp
  %at = mul i64 %number, {SLOT}
  %at0 = add i64 %at, {SLOTS}
  %slot = getelementptr i8, ptr %pool, i64 %at0
  %semp = getelementptr i8, ptr %slot, i64 8
  %sem = load ptr, ptr %semp
  %herep = getelementptr i8, ptr %slot, i64 16
  %cpup = getelementptr i8, ptr %pool, i64 {CPU}
  %cpu = load ptr, ptr %cpup
  %placed = icmp ne ptr %cpu, null
  br i1 %placed, label %named, label %look
named:
  %threadp = getelementptr i8, ptr %pool, i64 {THREAD}
  %id = load ptr, ptr %threadp
  %me = call i32 %id()
  %mep = getelementptr i8, ptr %slot, i64 20
  store i32 %me, ptr %mep
  br label %look
look:
  %last = phi i64 [0, %entry], [0, %named], [%last, %spin], [%seen, %left]
  %i = phi i64 [0, %entry], [0, %named], [%i1, %spin], [0, %left]
  %job = load atomic i64, ptr %jobp acquire, align 8
  %new = icmp ne i64 %job, %last
  br i1 %new, label %join, label %spin0
spin0:
  %limit = load atomic i64, ptr %spinp monotonic, align 8
  %go = icmp slt i64 %i, %limit
  br i1 %go, label %spin, label %sleep
spin:
  %i1 = add i64 %i, 1
  {pause}
  br label %look
sleep:
  store atomic i32 1, ptr %slot seq_cst, align 4
  %again = load atomic i64, ptr %jobp seq_cst, align 8
  %late = icmp ne i64 %again, %last
  br i1 %late, label %retract, label %doze
retract:
  %pair = cmpxchg ptr %slot, i32 1, i32 0 seq_cst seq_cst
  %mine = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %mine, label %join, label %doze
doze:
  call i64 %wait(ptr %sem, i64 -1, i64 0)
  %still = load atomic i32, ptr %slot seq_cst, align 4
  %asleep = icmp eq i32 %still, 1
  br i1 %asleep, label %doze, label %join
join:
  %before = atomicrmw add ptr %state, i64 1 seq_cst
  %seen = load atomic i64, ptr %jobp acquire, align 8
  %bit = and i64 %before, {OPEN}
  %open = icmp ne i64 %bit, 0
  br i1 %open, label %work, label %leave
work:
  br i1 %placed, label %note, label %help
note:
  %here = call i32 %cpu()
  store atomic i32 %here, ptr %herep monotonic, align 4
  br label %help
help:
  %thread = add i64 %number, 1
  call void @take(ptr %pool, i64 %thread)
  %movedp = getelementptr i8, ptr %slot, i64 24
  %moved = load atomic i32, ptr %movedp monotonic, align 4
  %was = icmp eq i32 %moved, 1
  br i1 %was, label %free, label %leave
free:
  store atomic i32 0, ptr %movedp monotonic, align 4
  %confinep = getelementptr i8, ptr %pool, i64 {CONFINE}
  %confine = load ptr, ptr %confinep
  %allowedp = getelementptr i8, ptr %pool, i64 {ALLOWED}
  %allowed = load ptr, ptr %allowedp
  call i32 %confine(i32 0, i64 128, ptr %allowed)
  br label %leave
leave:
  %after = atomicrmw sub ptr %state, i64 1 release
  br label %left
left:
  br label %look
}}

define internal void @move(ptr %pool, ptr %slot, i32 %cpu) {{
entry:
  %set = alloca [128 x i8], align 8
  %allowedp = getelementptr i8, ptr %pool, i64 {ALLOWED}
  %allowed = load ptr, ptr %allowedp
  call void @llvm.memcpy.p0.p0.i64(ptr %set, ptr %allowed, i64 128, i1 false)
  %number = zext i32 %cpu to i64
  %word = lshr i64 %number, 6
  %known = icmp ult i64 %word, 16
  br i1 %known, label %change, label %end
change:
  %at = getelementptr i64, ptr %set, i64 %word
  %bit = and i64 %number, 63
  %one = shl i64 1, %bit
  %others = xor i64 %one, -1
  %old = load i64, ptr %at
  %new = and i64 %old, %others
  store i64 %new, ptr %at
  %threadp = getelementptr i8, ptr %slot, i64 20
  %thread = load i32, ptr %threadp
  %confinep = getelementptr i8, ptr %pool, i64 {CONFINE}
  %confine = load ptr, ptr %confinep
  call i32 %confine(i32 %thread, i64 128, ptr %set)
  %herep = getelementptr i8, ptr %slot, i64 16
  store atomic i32 -1, ptr %herep monotonic, align 4
  %movedp = getelementptr i8, ptr %slot, i64 24
  store atomic i32 1, ptr %movedp monotonic, align 4
  br label %end
end:
  ret void
}}

define internal void @wake(ptr %pool) {{
entry:
  %cpup = getelementptr i8, ptr %pool, i64 {CPU}
  %cpu = load ptr, ptr %cpup
  %placed = icmp ne ptr %cpu, null
  %np = getelementptr i8, ptr %pool, i64 {WORKERS}
  %n = load i64, ptr %np
  %postp = getelementptr i8, ptr %pool, i64 {POST}
  %post = load ptr, ptr %postp
  br label %loop
loop:
  %w = phi i64 [0, %entry], [%w1, %next]
  %more = icmp slt i64 %w, %n
  br i1 %more, label %look, label %end
look:
  %at = mul i64 %w, {SLOT}
  %at0 = add i64 %at, {SLOTS}
  %slot = getelementptr i8, ptr %pool, i64 %at0
  %asleep = load atomic i32, ptr %slot seq_cst, align 4
  %is = icmp eq i32 %asleep, 1
  br i1 %is, label %claim, label %next
claim:
  %pair = cmpxchg ptr %slot, i32 1, i32 0 seq_cst seq_cst
  %mine = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %mine, label %place, label %next
place:
  br i1 %placed, label %compare, label %call
compare:
  %here = call i32 %cpu()
  %therep = getelementptr i8, ptr %slot, i64 16
  %there = load atomic i32, ptr %therep monotonic, align 4
  %same = icmp eq i32 %here, %there
  br i1 %same, label %move, label %call
move:
  call void @move(ptr %pool, ptr %slot, i32 %here)
  br label %call
call:
  %semp = getelementptr i8, ptr %slot, i64 8
  %sem = load ptr, ptr %semp
  call i64 %post(ptr %sem, i64 1, i64 0)
  br label %next
next:
  %w1 = add i64 %w, 1
  br label %loop
end:
  ret void
}}

define void @fgrad_share(ptr %pool, ptr %kernel, ptr %args, i64 %units, i64 %chunk, i64 %spin,
    i64 %words, i64 %private, i64 %bytes) {{
entry:
  %lock = getelementptr i8, ptr %pool, i64 {LOCK}
  %pair = cmpxchg ptr %lock, i32 0, i32 1 acquire monotonic
  %mine = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %mine, label %begin, label %alone
alone:
  call void %kernel(ptr %args, i64 0, i64 %units)
  ret void
begin:
  %kp = getelementptr i8, ptr %pool, i64 {KERNEL}
  store ptr %kernel, ptr %kp
  %ap = getelementptr i8, ptr %pool, i64 {ARGS}
  store ptr %args, ptr %ap
  %up = getelementptr i8, ptr %pool, i64 {UNITS}
  store i64 %units, ptr %up
  %cp = getelementptr i8, ptr %pool, i64 {CHUNK}
  store i64 %chunk, ptr %cp
  %wp = getelementptr i8, ptr %pool, i64 {WORDS}
  store i64 %words, ptr %wp
  %pp = getelementptr i8, ptr %pool, i64 {PRIVATE}
  store i64 %private, ptr %pp
  %bp = getelementptr i8, ptr %pool, i64 {PRIVATE_BYTES}
  store i64 %bytes, ptr %bp
  %sp = getelementptr i8, ptr %pool, i64 {SPIN}
  store atomic i64 %spin, ptr %sp monotonic, align 8
  %next = getelementptr i8, ptr %pool, i64 {NEXT}
  store atomic i64 0, ptr %next monotonic, align 8
  %state = getelementptr i8, ptr %pool, i64 {STATE}
  %opened = atomicrmw add ptr %state, i64 {OPEN} seq_cst
  %jobp = getelementptr i8, ptr %pool, i64 {JOB}
  %job = atomicrmw add ptr %jobp, i64 1 seq_cst
  call void @wake(ptr %pool)
  call void @take(ptr %pool, i64 0)
  %closed = atomicrmw sub ptr %state, i64 {OPEN} seq_cst
  %yieldp = getelementptr i8, ptr %pool, i64 {YIELD}
  %yield = load ptr, ptr %yieldp
  br label %wait
wait:
  %i = phi i64 [0, %begin], [%i1, %again]
  %now = load atomic i64, ptr %state acquire, align 8
  %inside = and i64 %now, {INSIDE}
  %empty = icmp eq i64 %inside, 0
  br i1 %empty, label %end, label %patience
patience:
  %i1 = add i64 %i, 1
  {pause}
  %long = icmp sgt i64 %i1, {PATIENCE}
  br i1 %long, label %give, label %again
give:
  call i64 %yield()
  br label %again
again:
  br label %wait
end:
  store atomic i32 0, ptr %lock release, align 4
  ret void
}}
"""


def text(architecture: str) -> str:
    """The LLVM text: defines `fgrad_worker`, and `share` for the module that it is part of.

    Args:
        architecture: As in `Target.architecture`.
    """
    declare, pause = _PAUSE.get(architecture, ("", ""))
    offsets = {name: int(p) for name, p in Pool.__members__.items()}
    return _TEXT.format(
        declare=declare, pause=pause, OPEN=OPEN, INSIDE=_INSIDE, PATIENCE=_PATIENCE, **offsets
    )

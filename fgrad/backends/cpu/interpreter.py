"""The LLVM text of what runs tapes (see `tape`), and of the function behind each loop."""

from collections.abc import Callable
from enum import IntEnum

from fgrad.backends.cpu import instructions
from fgrad.backends.cpu.tape import POLL_NS, Frame, Op, Tape

_TEXT = """
{instructions}

define internal i32 @signals(ptr %context) noinline {{
  %e = call i64 @word(ptr %context, i64 {C.ENSURE})
  %ensure = inttoptr i64 %e to ptr
  %c = call i64 @word(ptr %context, i64 {C.CHECK_SIGNALS})
  %check = inttoptr i64 %c to ptr
  %r = call i64 @word(ptr %context, i64 {C.RELEASE})
  %release = inttoptr i64 %r to ptr
  %state = call i32 %ensure()
  %found = call i32 %check()
  call void %release(i32 %state)
  ret i32 %found
}}

define internal i1 @spend(ptr %context, ptr %frame, i64 %cost) alwaysinline {{
entry:
  %left = call i64 @word(ptr %frame, i64 {F.BUDGET})
  %now = sub i64 %left, %cost
  call void @put(ptr %frame, i64 {F.BUDGET}, i64 %now)
  %spent = icmp slt i64 %now, 0
  br i1 %spent, label %poll, label %end
poll:
  call void @put(ptr %frame, i64 {F.BUDGET}, i64 {POLL_NS})
  %found = call i32 @signals(ptr %context)
  %error = icmp ne i32 %found, 0
  br label %end
end:
  %stop = phi i1 [false, %entry], [%error, %poll]
  ret i1 %stop
}}

; 0, or 1 where a signal has raised an exception, or 2 where a check has failed.
define i64 @fgrad_tape(ptr %tape, ptr %frame) {{
entry:
  %x = call i64 @word(ptr %tape, i64 {T.CONTEXT})
  %context = inttoptr i64 %x to ptr
  %y = call i64 @word(ptr %tape, i64 {T.CODE})
  %code = inttoptr i64 %y to ptr
  %z = call i64 @word(ptr %tape, i64 {T.MOVING})
  %moving = inttoptr i64 %z to ptr
  %moved = call i64 @word(ptr %tape, i64 {T.MOVING_COUNT})
  %base = ptrtoint ptr %frame to i64
  br label %place
place:
  %i = phi i64 [0, %entry], [%i1, %placing]
  %more = icmp slt i64 %i, %moved
  br i1 %more, label %placing, label %loop
placing:
  %which = call i64 @word(ptr %moving, i64 %i)
  %offset = call i64 @word(ptr %frame, i64 %which)
  %address = add i64 %offset, %base
  call void @put(ptr %frame, i64 %which, i64 %address)
  %i1 = add i64 %i, 1
  br label %place
loop:
  %pc = phi ptr [%code, %place], [%after_launch, %launch], [%after_gemm, %gemm],
    [%after_copy, %copying], [%after_copy, %copy], [%after_move, %move], [%after_add, %add],
    [%after_set, %set], [%after_next, %next], [%after_jump, %jump], [%after_unless, %unless],
    [%after_switch, %switch], [%after_save, %save], [%after_zero, %zero],
    [%after_small, %small], [%after_check, %check], [%after_steps, %stepped], [%pc, %resume]
  %op = load i64, ptr %pc
  switch i64 %op, label %done [
    i64 {O.LAUNCH}, label %launch
    i64 {O.GEMM}, label %gemm
    i64 {O.COPY}, label %copy
    i64 {O.MOVE}, label %move
    i64 {O.ADD}, label %add
    i64 {O.SET}, label %set
    i64 {O.NEXT}, label %counted
    i64 {O.JUMP}, label %jumping
    i64 {O.UNLESS}, label %unless
    i64 {O.SWITCH}, label %switch
    i64 {O.SAVE}, label %save
    i64 {O.ZERO}, label %zero
    i64 {O.SMALL}, label %small
    i64 {O.CHECK}, label %check
    i64 {O.STEPS}, label %steps
  ]
launch:
  call void @one_launch(ptr %context, ptr %frame, ptr %pc)
  %length = call i64 @operand(ptr %pc, i64 1)
  %after_launch = getelementptr i64, ptr %pc, i64 %length
  br label %loop
gemm:
  call void @gemm(ptr %frame, ptr %pc)
  %after_gemm = getelementptr i64, ptr %pc, i64 13
  br label %loop
copy:
  %to = call ptr @pointer(ptr %frame, ptr %pc, i64 1)
  %from = call ptr @pointer(ptr %frame, ptr %pc, i64 2)
  %after_copy = getelementptr i64, ptr %pc, i64 4
  %there = icmp eq ptr %to, %from
  br i1 %there, label %loop, label %copying
copying:
  %bytes = call i64 @operand(ptr %pc, i64 3)
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %bytes, i1 false)
  br label %loop
move:
  call void @moves(ptr %frame, ptr %pc)
  %pairs = call i64 @operand(ptr %pc, i64 1)
  %twice = shl i64 %pairs, 1
  %size = add i64 %twice, 3
  %after_move = getelementptr i64, ptr %pc, i64 %size
  br label %loop
add:
  %word = call i64 @operand(ptr %pc, i64 1)
  %more_of_it = call i64 @operand(ptr %pc, i64 2)
  %old = call i64 @word(ptr %frame, i64 %word)
  %sum = add i64 %old, %more_of_it
  call void @put(ptr %frame, i64 %word, i64 %sum)
  %after_add = getelementptr i64, ptr %pc, i64 3
  br label %loop
set:
  %target = call i64 @operand(ptr %pc, i64 1)
  %number = call i64 @operand(ptr %pc, i64 2)
  call void @put(ptr %frame, i64 %target, i64 %number)
  %after_set = getelementptr i64, ptr %pc, i64 3
  br label %loop
counted:
  %counter = call i64 @operand(ptr %pc, i64 1)
  %left = call i64 @word(ptr %frame, i64 %counter)
  %less = sub i64 %left, 1
  call void @put(ptr %frame, i64 %counter, i64 %less)
  %cost = call i64 @operand(ptr %pc, i64 3)
  %stop = call i1 @spend(ptr %context, ptr %frame, i64 %cost)
  br i1 %stop, label %interrupted, label %next
next:
  %again = icmp sgt i64 %less, 0
  %back = call i64 @operand(ptr %pc, i64 2)
  %first = getelementptr i64, ptr %code, i64 %back
  %onward = getelementptr i64, ptr %pc, i64 4
  %after_next = select i1 %again, ptr %first, ptr %onward
  br label %loop
jumping:
  %price = call i64 @operand(ptr %pc, i64 2)
  %halt = call i1 @spend(ptr %context, ptr %frame, i64 %price)
  br i1 %halt, label %interrupted, label %jump
jump:
  %goal = call i64 @operand(ptr %pc, i64 1)
  %after_jump = getelementptr i64, ptr %code, i64 %goal
  br label %loop
unless:
  %flagp = call ptr @pointer(ptr %frame, ptr %pc, i64 1)
  %flag = load i8, ptr %flagp
  %false = icmp eq i8 %flag, 0
  %exit = call i64 @operand(ptr %pc, i64 2)
  %outside = getelementptr i64, ptr %code, i64 %exit
  %inside = getelementptr i64, ptr %pc, i64 3
  %after_unless = select i1 %false, ptr %outside, ptr %inside
  br label %loop
switch:
  %indexp = call ptr @pointer(ptr %frame, ptr %pc, i64 1)
  %index32 = load i32, ptr %indexp
  %index = sext i32 %index32 to i64
  %branches = call i64 @operand(ptr %pc, i64 2)
  %highest = sub i64 %branches, 1
  %low = icmp slt i64 %index, 0
  %index1 = select i1 %low, i64 0, i64 %index
  %high = icmp sgt i64 %index1, %highest
  %index2 = select i1 %high, i64 %highest, i64 %index1
  %entry_of = add i64 %index2, 3
  %branch = call i64 @operand(ptr %pc, i64 %entry_of)
  %after_switch = getelementptr i64, ptr %code, i64 %branch
  br label %loop
save:
  call void @save(ptr %frame, ptr %pc)
  %carries = call i64 @operand(ptr %pc, i64 1)
  %thrice = mul i64 %carries, 3
  %length_of_save = add i64 %thrice, 5
  %after_save = getelementptr i64, ptr %pc, i64 %length_of_save
  br label %loop
zero:
  %nothing = call ptr @pointer(ptr %frame, ptr %pc, i64 1)
  %much = call i64 @operand(ptr %pc, i64 2)
  call void @llvm.memset.p0.i64(ptr %nothing, i8 0, i64 %much, i1 false)
  %after_zero = getelementptr i64, ptr %pc, i64 3
  br label %loop
small:
  call void @small(ptr %frame, ptr %pc)
  %after_small = getelementptr i64, ptr %pc, i64 19
  br label %loop
check:
  %wrongp = call ptr @pointer(ptr %frame, ptr %pc, i64 1)
  %wrong = load i8, ptr %wrongp
  %right = icmp eq i8 %wrong, 0
  %after_check = getelementptr i64, ptr %pc, i64 2
  br i1 %right, label %loop, label %failed
steps:
  %left_over = call i64 @steps(ptr %frame, ptr %pc)
  %unfinished = icmp ne i64 %left_over, 0
  br i1 %unfinished, label %resume_or_not, label %stepped
resume_or_not:
  %spent = call i64 @operand(ptr %pc, i64 5)
  %cut = call i1 @spend(ptr %context, ptr %frame, i64 %spent)
  br i1 %cut, label %interrupted, label %resume
resume:
  br label %loop
stepped:
  %length_of_steps = call i64 @operand(ptr %pc, i64 1)
  %after_steps = getelementptr i64, ptr %pc, i64 %length_of_steps
  br label %loop
interrupted:
  ret i64 1
failed:
  ret i64 2
done:
  ret i64 0
}}

define ptr @fgrad_loop(ptr %self, ptr %given, i64 %count) {{
entry:
  %tape = call ptr @data(ptr %self)
  %n = sub i64 %count, 1
  %lastp = getelementptr ptr, ptr %given, i64 %n
  %last = load ptr, ptr %lastp
  %frame = call ptr @data(ptr %last)
  %a = call i64 @word(ptr %tape, i64 {T.IMAGE})
  %image = inttoptr i64 %a to ptr
  %bytes = call i64 @word(ptr %tape, i64 {T.IMAGE_BYTES})
  call void @llvm.memcpy.p0.p0.i64(ptr %frame, ptr %image, i64 %bytes, i1 false)
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i1, %next]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %next, label %run
next:
  %ap = getelementptr ptr, ptr %given, i64 %i
  %array = load ptr, ptr %ap
  %d = call ptr @data(ptr %array)
  %address = ptrtoint ptr %d to i64
  %word = add i64 %i, {F.OPERANDS}
  call void @put(ptr %frame, i64 %word, i64 %address)
  %i1 = add i64 %i, 1
  br label %loop
run:
  %c = call i64 @word(ptr %tape, i64 {T.CONTEXT})
  %context = inttoptr i64 %c to ptr
  %release = call i64 @word(ptr %tape, i64 {T.RELEASE})
  %failed = call i64 @released(ptr %context, i64 %release, ptr @fgrad_tape, ptr %tape,
    ptr %frame)
  %error = icmp eq i64 %failed, 1
  br i1 %error, label %raise, label %return
raise:
  ret ptr null
return:
  %wrong = icmp eq i64 %failed, 2
  br i1 %wrong, label %wronged, label %done
wronged:
  %true = call ptr @constant(ptr %context, i64 {C.TRUE})
  ret ptr %true
done:
  %none = call ptr @constant(ptr %context, i64 {C.NONE})
  ret ptr %none
}}
"""

NAMES = ("fgrad_loop", "fgrad_tape")


def text(context: object, numbers: Callable[[type[IntEnum]], object]) -> str:
    """The LLVM text; `runtime.loops` makes a module of it.

    Args:
        context: The words of a `runtime.Context`, as attributes.
        numbers: Makes attributes of an enumeration.
    """
    enums = {"F": numbers(Frame), "O": numbers(Op), "T": numbers(Tape)}
    return _TEXT.format(POLL_NS=POLL_NS, C=context, instructions=instructions.TEXT, **enums)

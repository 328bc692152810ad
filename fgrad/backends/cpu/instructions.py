"""The LLVM text of what the larger instructions of tapes do (see `tape.Op`)."""

TEXT = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

define internal i64 @operand(ptr %pc, i64 %i) alwaysinline {
  %v = call i64 @word(ptr %pc, i64 %i)
  ret i64 %v
}

define internal i64 @at(ptr %frame, ptr %pc, i64 %i) alwaysinline {
  %w = call i64 @word(ptr %pc, i64 %i)
  %v = call i64 @word(ptr %frame, i64 %w)
  ret i64 %v
}

define internal ptr @pointer(ptr %frame, ptr %pc, i64 %i) alwaysinline {
  %v = call i64 @at(ptr %frame, ptr %pc, i64 %i)
  %p = inttoptr i64 %v to ptr
  ret ptr %p
}

define internal void @put(ptr %frame, i64 %index, i64 %value) alwaysinline {
  %p = getelementptr i64, ptr %frame, i64 %index
  store i64 %value, ptr %p
  ret void
}

define internal void @one_launch(ptr %context, ptr %frame, ptr %pc) {
entry:
  %kernel = call i64 @operand(ptr %pc, i64 2)
  %first = call i64 @operand(ptr %pc, i64 3)
  %args = getelementptr i64, ptr %frame, i64 %first
  %units = call i64 @operand(ptr %pc, i64 4)
  %chunk = call i64 @operand(ptr %pc, i64 5)
  %combine = call i64 @operand(ptr %pc, i64 6)
  %count = call i64 @operand(ptr %pc, i64 12)
  %list = getelementptr i64, ptr %pc, i64 13
  br label %bind
bind:
  %i = phi i64 [0, %entry], [%i1, %bound]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %bound, label %ready
bound:
  %even = shl i64 %i, 1
  %odd = or i64 %even, 1
  %place = call i64 @operand(ptr %list, i64 %even)
  %value = call i64 @at(ptr %frame, ptr %list, i64 %odd)
  call void @put(ptr %args, i64 %place, i64 %value)
  %i1 = add i64 %i, 1
  br label %bind
ready:
  %last = call i64 @operand(ptr %pc, i64 7)
  %spin = call i64 @operand(ptr %pc, i64 8)
  %words = call i64 @operand(ptr %pc, i64 9)
  %private = call i64 @operand(ptr %pc, i64 10)
  %bytes = call i64 @operand(ptr %pc, i64 11)
  call void @perform(ptr %context, i64 %kernel, ptr %args, i64 %units, i64 %chunk,
    i64 %combine, i64 %last, i64 %spin, i64 %words, i64 %private, i64 %bytes)
  ret void
}

; Parameters: alpha and beta (16 bytes each), then i32: m, n, k, lda, ldb, ldc, and two letters.
define internal void @gemm(ptr %frame, ptr %pc) {
entry:
  %f = call i64 @operand(ptr %pc, i64 1)
  %function = inttoptr i64 %f to ptr
  %q = call i64 @operand(ptr %pc, i64 2)
  %p = inttoptr i64 %q to ptr
  %a0 = call ptr @pointer(ptr %frame, ptr %pc, i64 3)
  %b0 = call ptr @pointer(ptr %frame, ptr %pc, i64 4)
  %c0 = call ptr @pointer(ptr %frame, ptr %pc, i64 5)
  %ao = call i64 @operand(ptr %pc, i64 6)
  %bo = call i64 @operand(ptr %pc, i64 7)
  %co = call i64 @operand(ptr %pc, i64 8)
  %count = call i64 @operand(ptr %pc, i64 9)
  %as = call i64 @operand(ptr %pc, i64 10)
  %bs = call i64 @operand(ptr %pc, i64 11)
  %cs = call i64 @operand(ptr %pc, i64 12)
  %a1 = getelementptr i8, ptr %a0, i64 %ao
  %b1 = getelementptr i8, ptr %b0, i64 %bo
  %c1 = getelementptr i8, ptr %c0, i64 %co
  %beta = getelementptr i8, ptr %p, i64 16
  %m = getelementptr i8, ptr %p, i64 32
  %n = getelementptr i8, ptr %p, i64 36
  %k = getelementptr i8, ptr %p, i64 40
  %lda = getelementptr i8, ptr %p, i64 44
  %ldb = getelementptr i8, ptr %p, i64 48
  %ldc = getelementptr i8, ptr %p, i64 52
  %ta = getelementptr i8, ptr %p, i64 56
  %tb = getelementptr i8, ptr %p, i64 57
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i1, %run]
  %a = phi ptr [%a1, %entry], [%a2, %run]
  %b = phi ptr [%b1, %entry], [%b2, %run]
  %c = phi ptr [%c1, %entry], [%c2, %run]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %run, label %end
run:
  call void %function(ptr %ta, ptr %tb, ptr %m, ptr %n, ptr %k, ptr %p, ptr %a, ptr %lda, ptr %b,
    ptr %ldb, ptr %beta, ptr %c, ptr %ldc)
  %i1 = add i64 %i, 1
  %a2 = getelementptr i8, ptr %a, i64 %as
  %b2 = getelementptr i8, ptr %b, i64 %bs
  %c2 = getelementptr i8, ptr %c, i64 %cs
  br label %loop
end:
  ret void
}

define internal void @small(ptr %frame, ptr %pc) {
entry:
  %f = call i64 @operand(ptr %pc, i64 1)
  %function = inttoptr i64 %f to ptr
  %a0 = call ptr @pointer(ptr %frame, ptr %pc, i64 2)
  %b0 = call ptr @pointer(ptr %frame, ptr %pc, i64 3)
  %c0 = call ptr @pointer(ptr %frame, ptr %pc, i64 4)
  %ao = call i64 @operand(ptr %pc, i64 5)
  %bo = call i64 @operand(ptr %pc, i64 6)
  %co = call i64 @operand(ptr %pc, i64 7)
  %count = call i64 @operand(ptr %pc, i64 8)
  %as = call i64 @operand(ptr %pc, i64 9)
  %bs = call i64 @operand(ptr %pc, i64 10)
  %cs = call i64 @operand(ptr %pc, i64 11)
  %m = call i64 @operand(ptr %pc, i64 12)
  %n = call i64 @operand(ptr %pc, i64 13)
  %k = call i64 @operand(ptr %pc, i64 14)
  %ars = call i64 @operand(ptr %pc, i64 15)
  %acs = call i64 @operand(ptr %pc, i64 16)
  %brs = call i64 @operand(ptr %pc, i64 17)
  %add = call i64 @operand(ptr %pc, i64 18)
  %a1 = getelementptr i8, ptr %a0, i64 %ao
  %b1 = getelementptr i8, ptr %b0, i64 %bo
  %c1 = getelementptr i8, ptr %c0, i64 %co
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i1, %run]
  %a = phi ptr [%a1, %entry], [%a2, %run]
  %b = phi ptr [%b1, %entry], [%b2, %run]
  %c = phi ptr [%c1, %entry], [%c2, %run]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %run, label %end
run:
  call void %function(ptr %a, i64 %ars, i64 %acs, ptr %b, i64 %brs, ptr %c, i64 %n, i64 %m, i64 %n,
    i64 %k, i64 %add)
  %i1 = add i64 %i, 1
  %a2 = getelementptr i8, ptr %a, i64 %as
  %b2 = getelementptr i8, ptr %b, i64 %bs
  %c2 = getelementptr i8, ptr %c, i64 %cs
  br label %loop
end:
  ret void
}

define internal i64 @steps(ptr %frame, ptr %pc) {
entry:
  %f = call i64 @operand(ptr %pc, i64 2)
  %function = inttoptr i64 %f to ptr
  %first = call i64 @operand(ptr %pc, i64 3)
  %args = getelementptr i64, ptr %frame, i64 %first
  %limit = call i64 @operand(ptr %pc, i64 4)
  %count = call i64 @operand(ptr %pc, i64 6)
  %list = getelementptr i64, ptr %pc, i64 7
  br label %bind
bind:
  %i = phi i64 [0, %entry], [%i1, %bound]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %bound, label %run
bound:
  %value = call i64 @at(ptr %frame, ptr %list, i64 %i)
  call void @put(ptr %args, i64 %i, i64 %value)
  %i1 = add i64 %i, 1
  br label %bind
run:
  %left = call i64 %function(ptr %args, i64 %limit)
  ret i64 %left
}

define internal void @moves(ptr %frame, ptr %pc) {
entry:
  %count = call i64 @operand(ptr %pc, i64 1)
  %place = call i64 @operand(ptr %pc, i64 2)
  %kept = getelementptr i64, ptr %frame, i64 %place
  %list = getelementptr i64, ptr %pc, i64 3
  br label %read
read:
  %i = phi i64 [0, %entry], [%i1, %reading]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %reading, label %write
reading:
  %even = shl i64 %i, 1
  %odd = or i64 %even, 1
  %value = call i64 @at(ptr %frame, ptr %list, i64 %odd)
  call void @put(ptr %kept, i64 %i, i64 %value)
  %i1 = add i64 %i, 1
  br label %read
write:
  %j = phi i64 [0, %read], [%j1, %writing]
  %rest = icmp slt i64 %j, %count
  br i1 %rest, label %writing, label %end
writing:
  %number = shl i64 %j, 1
  %to = call i64 @operand(ptr %list, i64 %number)
  %found = call i64 @word(ptr %kept, i64 %j)
  call void @put(ptr %frame, i64 %to, i64 %found)
  %j1 = add i64 %j, 1
  br label %write
end:
  ret void
}

; Stores each carry in row `slot` of its stack; where that is negative, keeps every second row.
define internal void @keep(ptr %frame, ptr %pc, i64 %kept, i64 %slot) {
entry:
  %count = call i64 @operand(ptr %pc, i64 1)
  %list = getelementptr i64, ptr %pc, i64 5
  %half = udiv i64 %kept, 2
  %thin = icmp slt i64 %slot, 0
  br label %arrays
arrays:
  %j = phi i64 [0, %entry], [%j1, %done]
  %more = icmp slt i64 %j, %count
  br i1 %more, label %array, label %end
array:
  %at = mul i64 %j, 3
  %at1 = add i64 %at, 1
  %at2 = add i64 %at, 2
  %stack = call ptr @pointer(ptr %frame, ptr %list, i64 %at)
  %carry = call ptr @pointer(ptr %frame, ptr %list, i64 %at1)
  %bytes = call i64 @operand(ptr %list, i64 %at2)
  br i1 %thin, label %rows, label %store
store:
  %place = mul i64 %slot, %bytes
  %target = getelementptr i8, ptr %stack, i64 %place
  call void @llvm.memcpy.p0.p0.i64(ptr %target, ptr %carry, i64 %bytes, i1 false)
  br label %done
rows:
  %i = phi i64 [1, %array], [%i1, %row]
  %rest = icmp slt i64 %i, %half
  br i1 %rest, label %row, label %done
row:
  %low = mul i64 %i, %bytes
  %high = shl i64 %low, 1
  %to = getelementptr i8, ptr %stack, i64 %low
  %from = getelementptr i8, ptr %stack, i64 %high
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %bytes, i1 false)
  %i1 = add i64 %i, 1
  br label %rows
done:
  %j1 = add i64 %j, 1
  br label %arrays
end:
  ret void
}

define internal void @save(ptr %frame, ptr %pc) {
entry:
  %stepsp = call ptr @pointer(ptr %frame, ptr %pc, i64 2)
  %steps = load i64, ptr %stepsp
  %where = call i64 @operand(ptr %pc, i64 3)
  %spacing = call i64 @word(ptr %frame, i64 %where)
  %kept = call i64 @operand(ptr %pc, i64 4)
  %over = urem i64 %steps, %spacing
  %due = icmp eq i64 %over, 0
  br i1 %due, label %look, label %end
look:
  %most = mul i64 %kept, %spacing
  %full = icmp eq i64 %steps, %most
  br i1 %full, label %thin, label %store
thin:
  call void @keep(ptr %frame, ptr %pc, i64 %kept, i64 -1)
  %twice = shl i64 %spacing, 1
  call void @put(ptr %frame, i64 %where, i64 %twice)
  br label %store
store:
  %now = call i64 @word(ptr %frame, i64 %where)
  %slot = udiv i64 %steps, %now
  call void @keep(ptr %frame, ptr %pc, i64 %kept, i64 %slot)
  br label %end
end:
  %next = add i64 %steps, 1
  store i64 %next, ptr %stepsp
  ret void
}
"""

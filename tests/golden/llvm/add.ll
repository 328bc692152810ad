declare i64 @llvm.smin.i64(i64, i64)
declare <8 x float> @llvm.masked.load.v8f32.p0(ptr, i32, <8 x i1>, <8 x float>)
declare void @llvm.masked.store.v8f32.p0(<8 x float>, ptr, i32, <8 x i1>)
define void @add(ptr noalias %args, i64 %lo, i64 %hi) #0 {
entry:
  %w0p = getelementptr i64, ptr %args, i64 5
  %w0 = load i64, ptr %w0p, align 8
  %w1p = getelementptr i64, ptr %args, i64 6
  %w1 = load i64, ptr %w1p, align 8
  %w2p = getelementptr i64, ptr %args, i64 8
  %w2 = load i64, ptr %w2p, align 8
  %w3p = getelementptr i64, ptr %args, i64 10
  %w3 = load i64, ptr %w3p, align 8
  %w4p = getelementptr i64, ptr %args, i64 0
  %w4 = load ptr, ptr %w4p, align 8
  %w5p = getelementptr i64, ptr %args, i64 1
  %w5 = load ptr, ptr %w5p, align 8
  %w6p = getelementptr i64, ptr %args, i64 2
  %w6 = load ptr, ptr %w6p, align 8
  %v1 = mul i64 %lo, 4096
  %v2 = mul i64 %hi, 4096
  %v3 = call i64 @llvm.smin.i64(i64 %v2, i64 %w0)
  %v4 = icmp slt i64 %v1, %v3
  br i1 %v4, label %then5, label %end6
then5:
  %v7 = bitcast i64 0 to i64
  %v8 = getelementptr float, ptr %w4, i64 %w1
  %v9 = getelementptr float, ptr %w5, i64 %w2
  %v10 = getelementptr float, ptr %w6, i64 %w3
  %v11 = sub i64 %v3, %v1
  %v12 = and i64 %v11, -16
  %v13 = add i64 %v12, %v1
  %v16 = icmp slt i64 %v1, %v13
  br i1 %v16, label %loop14, label %end15
loop14:
  %v17 = phi i64 [ %v1, %then5 ], [ %v31, %loop14 ]
  %v18 = add i64 %v17, 8
  %v19 = getelementptr float, ptr %v8, i64 %v17
  %v20 = load <8 x float>, ptr %v19, align 4
  %v21 = getelementptr float, ptr %v9, i64 %v17
  %v22 = load <8 x float>, ptr %v21, align 4
  %v23 = fadd <8 x float> %v20, %v22
  %v24 = getelementptr float, ptr %v10, i64 %v17
  store <8 x float> %v23, ptr %v24, align 4
  %v25 = getelementptr float, ptr %v8, i64 %v18
  %v26 = load <8 x float>, ptr %v25, align 4
  %v27 = getelementptr float, ptr %v9, i64 %v18
  %v28 = load <8 x float>, ptr %v27, align 4
  %v29 = fadd <8 x float> %v26, %v28
  %v30 = getelementptr float, ptr %v10, i64 %v18
  store <8 x float> %v29, ptr %v30, align 4
  %v31 = add i64 %v17, 16
  %v32 = icmp slt i64 %v31, %v13
  br i1 %v32, label %loop14, label %end15
end15:
  %v35 = icmp slt i64 %v13, %v3
  br i1 %v35, label %loop33, label %end34
loop33:
  %v36 = phi i64 [ %v13, %end15 ], [ %v48, %loop33 ]
  %v37 = sub i64 %v3, %v36
  %v38 = trunc i64 %v37 to i32
  %v39 = insertelement <8 x i32> poison, i32 %v38, i64 0
  %v40 = shufflevector <8 x i32> %v39, <8 x i32> poison, <8 x i32> zeroinitializer
  %v41 = icmp ugt <8 x i32> %v40, <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %v42 = getelementptr float, ptr %v8, i64 %v36
  %v43 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v42, i32 4, <8 x i1> %v41, <8 x float> zeroinitializer)
  %v44 = getelementptr float, ptr %v9, i64 %v36
  %v45 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v44, i32 4, <8 x i1> %v41, <8 x float> zeroinitializer)
  %v46 = fadd <8 x float> %v43, %v45
  %v47 = getelementptr float, ptr %v10, i64 %v36
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v46, ptr %v47, i32 4, <8 x i1> %v41)
  %v48 = add i64 %v36, 8
  %v49 = icmp slt i64 %v48, %v3
  br i1 %v49, label %loop33, label %end34
end34:
  br label %end6
end6:
  ret void
}

attributes #0 = { nounwind "no-trapping-math"="true" "prefer-vector-width"="256" "min-legal-vector-width"="256" }

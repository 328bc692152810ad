declare i64 @llvm.smin.i64(i64, i64)
declare <8 x float> @llvm.fma.v8f32(<8 x float>, <8 x float>, <8 x float>)
declare <8 x float> @llvm.fabs.v8f32(<8 x float>)
declare <8 x float> @llvm.copysign.v8f32(<8 x float>, <8 x float>)
declare <8 x float> @llvm.masked.load.v8f32.p0(ptr, i32, <8 x i1>, <8 x float>)
declare void @llvm.masked.store.v8f32.p0(<8 x float>, ptr, i32, <8 x i1>)
define void @chain(ptr noalias %args, i64 %lo, i64 %hi) #0 {
entry:
  %w0p = getelementptr i64, ptr %args, i64 5
  %w0 = load i64, ptr %w0p, align 8
  %w1p = getelementptr i64, ptr %args, i64 10
  %w1 = load float, ptr %w1p, align 8
  %w2 = bitcast float 0x3FF0000000000000 to float
  %w3p = getelementptr i64, ptr %args, i64 6
  %w3 = load i64, ptr %w3p, align 8
  %w4p = getelementptr i64, ptr %args, i64 8
  %w4 = load i64, ptr %w4p, align 8
  %w5p = getelementptr i64, ptr %args, i64 12
  %w5 = load i64, ptr %w5p, align 8
  %w6p = getelementptr i64, ptr %args, i64 0
  %w6 = load ptr, ptr %w6p, align 8
  %w7p = getelementptr i64, ptr %args, i64 1
  %w7 = load ptr, ptr %w7p, align 8
  %w8p = getelementptr i64, ptr %args, i64 2
  %w8 = load ptr, ptr %w8p, align 8
  %v1 = mul i64 %lo, 4096
  %v2 = mul i64 %hi, 4096
  %v3 = call i64 @llvm.smin.i64(i64 %v2, i64 %w0)
  %v4 = icmp slt i64 %v1, %v3
  br i1 %v4, label %then5, label %end6
then5:
  %v7 = insertelement <8 x float> poison, float %w1, i64 0
  %v8 = shufflevector <8 x float> %v7, <8 x float> poison, <8 x i32> zeroinitializer
  %v9 = insertelement <8 x float> poison, float %w2, i64 0
  %v10 = shufflevector <8 x float> %v9, <8 x float> poison, <8 x i32> zeroinitializer
  %v11 = bitcast i64 0 to i64
  %v12 = getelementptr float, ptr %w6, i64 %w3
  %v13 = getelementptr float, ptr %w7, i64 %w4
  %v14 = getelementptr float, ptr %w8, i64 %w5
  %v15 = sub i64 %v3, %v1
  %v16 = and i64 %v15, -8
  %v17 = add i64 %v16, %v1
  %v20 = icmp slt i64 %v1, %v17
  br i1 %v20, label %loop18, label %end19
loop18:
  %v21 = phi i64 [ %v1, %then5 ], [ %v90, %loop18 ]
  %v22 = getelementptr float, ptr %v12, i64 %v21
  %v23 = load <8 x float>, ptr %v22, align 4
  %v24 = getelementptr float, ptr %v13, i64 %v21
  %v25 = load <8 x float>, ptr %v24, align 4
  %v26 = fmul <8 x float> %v23, %v8
  %v27 = fcmp ogt <8 x float> splat (float 0xC05A000000000000), %v26
  %v28 = select <8 x i1> %v27, <8 x float> splat (float 0xC05A000000000000), <8 x float> %v26
  %v29 = fcmp olt <8 x float> splat (float 0x4056400000000000), %v28
  %v30 = select <8 x i1> %v29, <8 x float> splat (float 0x4056400000000000), <8 x float> %v28
  %v31 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v30, <8 x float> splat (float 0x3FF7154760000000), <8 x float> splat (float 0x4168000000000000))
  %v32 = fsub <8 x float> %v31, splat (float 0x4168000000000000)
  %v33 = bitcast <8 x float> %v31 to <8 x i32>
  %v34 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v32, <8 x float> splat (float 0xBFE62E4300000000), <8 x float> %v30)
  %v35 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v32, <8 x float> splat (float 0x3E205C6100000000), <8 x float> %v34)
  %v36 = sub <8 x i32> %v33, splat (i32 1262485504)
  %v37 = fmul <8 x float> %v35, %v35
  %v38 = call <8 x float> @llvm.fma.v8f32(<8 x float> splat (float 0x3F56A23B40000000), <8 x float> %v35, <8 x float> splat (float 0x3F8123A260000000))
  %v39 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v38, <8 x float> %v35, <8 x float> splat (float 0x3FA5558F40000000))
  %v40 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v39, <8 x float> %v35, <8 x float> splat (float 0x3FC5554900000000))
  %v41 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v40, <8 x float> %v35, <8 x float> splat (float 0x3FDFFFFFC0000000))
  %v42 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v37, <8 x float> %v41, <8 x float> %v35)
  %v43 = fadd <8 x float> %v42, splat (float 0x3FF0000000000000)
  %v44 = ashr <8 x i32> %v36, splat (i32 1)
  %v45 = add <8 x i32> %v44, splat (i32 127)
  %v46 = shl <8 x i32> %v45, splat (i32 23)
  %v47 = bitcast <8 x i32> %v46 to <8 x float>
  %v48 = fmul <8 x float> %v43, %v47
  %v49 = sub <8 x i32> %v36, %v44
  %v50 = add <8 x i32> %v49, splat (i32 127)
  %v51 = shl <8 x i32> %v50, splat (i32 23)
  %v52 = bitcast <8 x i32> %v51 to <8 x float>
  %v53 = fmul <8 x float> %v48, %v52
  %v54 = fadd <8 x float> %v53, %v10
  %v55 = fdiv <8 x float> %v23, %v54
  %v56 = call <8 x float> @llvm.fabs.v8f32(<8 x float> %v25)
  %v57 = fcmp olt <8 x float> splat (float 0x4024000000000000), %v56
  %v58 = select <8 x i1> %v57, <8 x float> splat (float 0x4024000000000000), <8 x float> %v56
  %v59 = fmul <8 x float> %v58, splat (float 0x4000000000000000)
  %v60 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v59, <8 x float> splat (float 0x3FF7154760000000), <8 x float> splat (float 0x4168000000000000))
  %v61 = fsub <8 x float> %v60, splat (float 0x4168000000000000)
  %v62 = bitcast <8 x float> %v60 to <8 x i32>
  %v63 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v61, <8 x float> splat (float 0xBFE62E4300000000), <8 x float> %v59)
  %v64 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v61, <8 x float> splat (float 0x3E205C6100000000), <8 x float> %v63)
  %v65 = sub <8 x i32> %v62, splat (i32 1262485504)
  %v66 = fmul <8 x float> %v64, %v64
  %v67 = call <8 x float> @llvm.fma.v8f32(<8 x float> splat (float 0x3F56A23B40000000), <8 x float> %v64, <8 x float> splat (float 0x3F8123A260000000))
  %v68 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v67, <8 x float> %v64, <8 x float> splat (float 0x3FA5558F40000000))
  %v69 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v68, <8 x float> %v64, <8 x float> splat (float 0x3FC5554900000000))
  %v70 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v69, <8 x float> %v64, <8 x float> splat (float 0x3FDFFFFFC0000000))
  %v71 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v66, <8 x float> %v70, <8 x float> %v64)
  %v72 = add <8 x i32> %v65, splat (i32 127)
  %v73 = shl <8 x i32> %v72, splat (i32 23)
  %v74 = bitcast <8 x i32> %v73 to <8 x float>
  %v75 = fsub <8 x float> %v74, splat (float 0x3FF0000000000000)
  %v76 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v71, <8 x float> %v74, <8 x float> %v75)
  %v77 = fadd <8 x float> %v76, splat (float 0x4000000000000000)
  %v78 = fdiv <8 x float> %v76, %v77
  %v79 = fmul <8 x float> %v56, %v56
  %v80 = call <8 x float> @llvm.fma.v8f32(<8 x float> splat (float 0x3F9426F4A0000000), <8 x float> %v79, <8 x float> splat (float 0xBFAB8A37E0000000))
  %v81 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v80, <8 x float> %v79, <8 x float> splat (float 0x3FC110EA80000000))
  %v82 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v81, <8 x float> %v79, <8 x float> splat (float 0xBFD5555560000000))
  %v83 = fmul <8 x float> %v82, %v79
  %v84 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v83, <8 x float> %v56, <8 x float> %v56)
  %v85 = fcmp olt <8 x float> %v56, splat (float 0x3FD6666660000000)
  %v86 = select <8 x i1> %v85, <8 x float> %v84, <8 x float> %v78
  %v87 = call <8 x float> @llvm.copysign.v8f32(<8 x float> %v86, <8 x float> %v25)
  %v88 = fadd <8 x float> %v55, %v87
  %v89 = getelementptr float, ptr %v14, i64 %v21
  store <8 x float> %v88, ptr %v89, align 4
  %v90 = add i64 %v21, 8
  %v91 = icmp slt i64 %v90, %v17
  br i1 %v91, label %loop18, label %end19
end19:
  %v94 = icmp slt i64 %v17, %v3
  br i1 %v94, label %loop92, label %end93
loop92:
  %v95 = phi i64 [ %v17, %end19 ], [ %v169, %loop92 ]
  %v96 = sub i64 %v3, %v95
  %v97 = trunc i64 %v96 to i32
  %v98 = insertelement <8 x i32> poison, i32 %v97, i64 0
  %v99 = shufflevector <8 x i32> %v98, <8 x i32> poison, <8 x i32> zeroinitializer
  %v100 = icmp ugt <8 x i32> %v99, <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %v101 = getelementptr float, ptr %v12, i64 %v95
  %v102 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v101, i32 4, <8 x i1> %v100, <8 x float> zeroinitializer)
  %v103 = getelementptr float, ptr %v13, i64 %v95
  %v104 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v103, i32 4, <8 x i1> %v100, <8 x float> zeroinitializer)
  %v105 = fmul <8 x float> %v102, %v8
  %v106 = fcmp ogt <8 x float> splat (float 0xC05A000000000000), %v105
  %v107 = select <8 x i1> %v106, <8 x float> splat (float 0xC05A000000000000), <8 x float> %v105
  %v108 = fcmp olt <8 x float> splat (float 0x4056400000000000), %v107
  %v109 = select <8 x i1> %v108, <8 x float> splat (float 0x4056400000000000), <8 x float> %v107
  %v110 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v109, <8 x float> splat (float 0x3FF7154760000000), <8 x float> splat (float 0x4168000000000000))
  %v111 = fsub <8 x float> %v110, splat (float 0x4168000000000000)
  %v112 = bitcast <8 x float> %v110 to <8 x i32>
  %v113 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v111, <8 x float> splat (float 0xBFE62E4300000000), <8 x float> %v109)
  %v114 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v111, <8 x float> splat (float 0x3E205C6100000000), <8 x float> %v113)
  %v115 = sub <8 x i32> %v112, splat (i32 1262485504)
  %v116 = fmul <8 x float> %v114, %v114
  %v117 = call <8 x float> @llvm.fma.v8f32(<8 x float> splat (float 0x3F56A23B40000000), <8 x float> %v114, <8 x float> splat (float 0x3F8123A260000000))
  %v118 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v117, <8 x float> %v114, <8 x float> splat (float 0x3FA5558F40000000))
  %v119 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v118, <8 x float> %v114, <8 x float> splat (float 0x3FC5554900000000))
  %v120 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v119, <8 x float> %v114, <8 x float> splat (float 0x3FDFFFFFC0000000))
  %v121 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v116, <8 x float> %v120, <8 x float> %v114)
  %v122 = fadd <8 x float> %v121, splat (float 0x3FF0000000000000)
  %v123 = ashr <8 x i32> %v115, splat (i32 1)
  %v124 = add <8 x i32> %v123, splat (i32 127)
  %v125 = shl <8 x i32> %v124, splat (i32 23)
  %v126 = bitcast <8 x i32> %v125 to <8 x float>
  %v127 = fmul <8 x float> %v122, %v126
  %v128 = sub <8 x i32> %v115, %v123
  %v129 = add <8 x i32> %v128, splat (i32 127)
  %v130 = shl <8 x i32> %v129, splat (i32 23)
  %v131 = bitcast <8 x i32> %v130 to <8 x float>
  %v132 = fmul <8 x float> %v127, %v131
  %v133 = fadd <8 x float> %v132, %v10
  %v134 = fdiv <8 x float> %v102, %v133
  %v135 = call <8 x float> @llvm.fabs.v8f32(<8 x float> %v104)
  %v136 = fcmp olt <8 x float> splat (float 0x4024000000000000), %v135
  %v137 = select <8 x i1> %v136, <8 x float> splat (float 0x4024000000000000), <8 x float> %v135
  %v138 = fmul <8 x float> %v137, splat (float 0x4000000000000000)
  %v139 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v138, <8 x float> splat (float 0x3FF7154760000000), <8 x float> splat (float 0x4168000000000000))
  %v140 = fsub <8 x float> %v139, splat (float 0x4168000000000000)
  %v141 = bitcast <8 x float> %v139 to <8 x i32>
  %v142 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v140, <8 x float> splat (float 0xBFE62E4300000000), <8 x float> %v138)
  %v143 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v140, <8 x float> splat (float 0x3E205C6100000000), <8 x float> %v142)
  %v144 = sub <8 x i32> %v141, splat (i32 1262485504)
  %v145 = fmul <8 x float> %v143, %v143
  %v146 = call <8 x float> @llvm.fma.v8f32(<8 x float> splat (float 0x3F56A23B40000000), <8 x float> %v143, <8 x float> splat (float 0x3F8123A260000000))
  %v147 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v146, <8 x float> %v143, <8 x float> splat (float 0x3FA5558F40000000))
  %v148 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v147, <8 x float> %v143, <8 x float> splat (float 0x3FC5554900000000))
  %v149 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v148, <8 x float> %v143, <8 x float> splat (float 0x3FDFFFFFC0000000))
  %v150 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v145, <8 x float> %v149, <8 x float> %v143)
  %v151 = add <8 x i32> %v144, splat (i32 127)
  %v152 = shl <8 x i32> %v151, splat (i32 23)
  %v153 = bitcast <8 x i32> %v152 to <8 x float>
  %v154 = fsub <8 x float> %v153, splat (float 0x3FF0000000000000)
  %v155 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v150, <8 x float> %v153, <8 x float> %v154)
  %v156 = fadd <8 x float> %v155, splat (float 0x4000000000000000)
  %v157 = fdiv <8 x float> %v155, %v156
  %v158 = fmul <8 x float> %v135, %v135
  %v159 = call <8 x float> @llvm.fma.v8f32(<8 x float> splat (float 0x3F9426F4A0000000), <8 x float> %v158, <8 x float> splat (float 0xBFAB8A37E0000000))
  %v160 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v159, <8 x float> %v158, <8 x float> splat (float 0x3FC110EA80000000))
  %v161 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v160, <8 x float> %v158, <8 x float> splat (float 0xBFD5555560000000))
  %v162 = fmul <8 x float> %v161, %v158
  %v163 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v162, <8 x float> %v135, <8 x float> %v135)
  %v164 = fcmp olt <8 x float> %v135, splat (float 0x3FD6666660000000)
  %v165 = select <8 x i1> %v164, <8 x float> %v163, <8 x float> %v157
  %v166 = call <8 x float> @llvm.copysign.v8f32(<8 x float> %v165, <8 x float> %v104)
  %v167 = fadd <8 x float> %v134, %v166
  %v168 = getelementptr float, ptr %v14, i64 %v95
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v167, ptr %v168, i32 4, <8 x i1> %v100)
  %v169 = add i64 %v95, 8
  %v170 = icmp slt i64 %v169, %v3
  br i1 %v170, label %loop92, label %end93
end93:
  br label %end6
end6:
  ret void
}

attributes #0 = { nounwind "no-trapping-math"="true" "prefer-vector-width"="256" "min-legal-vector-width"="256" }

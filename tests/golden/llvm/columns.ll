declare void @llvm.masked.store.v8f32.p0(<8 x float>, ptr, i32, <8 x i1>)
declare i64 @llvm.smin.i64(i64, i64)
declare <8 x float> @llvm.masked.load.v8f32.p0(ptr, i32, <8 x i1>, <8 x float>)
declare <8 x float> @llvm.fabs.v8f32(<8 x float>)
define void @columns(ptr noalias %args, i64 %lo, i64 %hi) #0 {
entry:
  %w0p = getelementptr i64, ptr %args, i64 9
  %w0 = load i64, ptr %w0p, align 8
  %w1p = getelementptr i64, ptr %args, i64 18
  %w1 = load i64, ptr %w1p, align 8
  %w2p = getelementptr i64, ptr %args, i64 2
  %w2 = load ptr, ptr %w2p, align 8
  %w3p = getelementptr i64, ptr %args, i64 3
  %w3 = load ptr, ptr %w3p, align 8
  %w4p = getelementptr i64, ptr %args, i64 19
  %w4 = load i64, ptr %w4p, align 8
  %w5p = getelementptr i64, ptr %args, i64 20
  %w5 = load i64, ptr %w5p, align 8
  %w6p = getelementptr i64, ptr %args, i64 6
  %w6 = load i64, ptr %w6p, align 8
  %w7p = getelementptr i64, ptr %args, i64 5
  %w7 = load i64, ptr %w7p, align 8
  %w8p = getelementptr i64, ptr %args, i64 8
  %w8 = load i64, ptr %w8p, align 8
  %w9p = getelementptr i64, ptr %args, i64 7
  %w9 = load i64, ptr %w9p, align 8
  %w10p = getelementptr i64, ptr %args, i64 4
  %w10 = load i64, ptr %w10p, align 8
  %w11p = getelementptr i64, ptr %args, i64 10
  %w11 = load i64, ptr %w11p, align 8
  %w12p = getelementptr i64, ptr %args, i64 11
  %w12 = load i64, ptr %w12p, align 8
  %w13p = getelementptr i64, ptr %args, i64 12
  %w13 = load i64, ptr %w13p, align 8
  %w14p = getelementptr i64, ptr %args, i64 0
  %w14 = load ptr, ptr %w14p, align 8
  %v3 = icmp slt i64 %lo, %hi
  br i1 %v3, label %loop1, label %end2
loop1:
  %v4 = phi i64 [ %lo, %entry ], [ %v213, %end194 ]
  %v5 = mul i64 %v4, %w0
  %v6 = add i64 %v5, %w1
  %v7 = getelementptr i8, ptr %w2, i64 %v6
  %v8 = getelementptr i8, ptr %w3, i64 %w4
  %v9 = getelementptr i8, ptr %w3, i64 %w5
  %v10 = and i64 %w6, -8
  %v13 = icmp slt i64 0, %v10
  br i1 %v13, label %loop11, label %end12
loop11:
  %v14 = phi i64 [ 0, %loop1 ], [ %v21, %loop11 ]
  %v15 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v16 = getelementptr float, ptr %v7, i64 %v14
  store <8 x float> %v15, ptr %v16, align 4
  %v17 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v18 = getelementptr float, ptr %v8, i64 %v14
  store <8 x float> %v17, ptr %v18, align 4
  %v19 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v20 = getelementptr float, ptr %v9, i64 %v14
  store <8 x float> %v19, ptr %v20, align 4
  %v21 = add i64 %v14, 8
  %v22 = icmp slt i64 %v21, %v10
  br i1 %v22, label %loop11, label %end12
end12:
  %v25 = icmp slt i64 %v10, %w6
  br i1 %v25, label %loop23, label %end24
loop23:
  %v26 = phi i64 [ %v10, %end12 ], [ %v38, %loop23 ]
  %v27 = sub i64 %w6, %v26
  %v28 = trunc i64 %v27 to i32
  %v29 = insertelement <8 x i32> poison, i32 %v28, i64 0
  %v30 = shufflevector <8 x i32> %v29, <8 x i32> poison, <8 x i32> zeroinitializer
  %v31 = icmp ugt <8 x i32> %v30, <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %v32 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v33 = getelementptr float, ptr %v7, i64 %v26
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v32, ptr %v33, i32 4, <8 x i1> %v31)
  %v34 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v35 = getelementptr float, ptr %v8, i64 %v26
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v34, ptr %v35, i32 4, <8 x i1> %v31)
  %v36 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v37 = getelementptr float, ptr %v9, i64 %v26
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v36, ptr %v37, i32 4, <8 x i1> %v31)
  %v38 = add i64 %v26, 8
  %v39 = icmp slt i64 %v38, %w6
  br i1 %v39, label %loop23, label %end24
end24:
  %v40 = bitcast i64 1 to i64
  %v41 = mul i64 %v40, %w7
  %v42 = udiv i64 %v4, %w8
  %v43 = mul i64 %v42, %w8
  %v44 = sub i64 %v4, %v43
  %v45 = mul i64 %v44, %w9
  %v46 = add i64 %v45, %w9
  %v47 = call i64 @llvm.smin.i64(i64 %v46, i64 %v41)
  %v48 = mul i64 %v42, %v41
  %v49 = add i64 %v48, %v45
  %v50 = add i64 %v48, %v47
  %v53 = icmp slt i64 %v49, %v50
  br i1 %v53, label %loop51, label %end52
loop51:
  %v54 = phi i64 [ %v49, %end24 ], [ %v175, %end148 ]
  %v55 = add i64 %v54, 64
  %v56 = call i64 @llvm.smin.i64(i64 %v55, i64 %v50)
  %v57 = bitcast i64 0 to i64
  %v58 = bitcast i64 0 to i64
  %v59 = icmp slt i64 %v54, %v56
  br i1 %v59, label %then60, label %end61
then60:
  %v62 = udiv i64 %v54, %w7
  %v63 = mul i64 %v62, %w7
  %v64 = sub i64 %v54, %v63
  %v67 = icmp slt i64 %v54, %v56
  br i1 %v67, label %loop65, label %end66
loop65:
  %v68 = phi i64 [ %v54, %then60 ], [ %v119, %end98 ]
  %v69 = phi i64 [ %v62, %then60 ], [ %v118, %end98 ]
  %v70 = phi i64 [ %v64, %then60 ], [ %v116, %end98 ]
  %v71 = bitcast i64 0 to i64
  %v72 = mul i64 %v69, %w12
  %v73 = add i64 %w11, %v72
  %v74 = mul i64 %v70, %w13
  %v75 = add i64 %v73, %v74
  %v76 = getelementptr float, ptr %w14, i64 %v75
  %v77 = and i64 %w6, -16
  %v80 = icmp slt i64 0, %v77
  br i1 %v80, label %loop78, label %end79
loop78:
  %v81 = phi i64 [ 0, %loop65 ], [ %v95, %loop78 ]
  %v82 = add i64 %v81, 8
  %v83 = getelementptr float, ptr %v76, i64 %v81
  %v84 = load <8 x float>, ptr %v83, align 4
  %v85 = getelementptr float, ptr %v7, i64 %v81
  %v86 = load <8 x float>, ptr %v85, align 4
  %v87 = fadd <8 x float> %v86, %v84
  %v88 = getelementptr float, ptr %v7, i64 %v81
  store <8 x float> %v87, ptr %v88, align 4
  %v89 = getelementptr float, ptr %v76, i64 %v82
  %v90 = load <8 x float>, ptr %v89, align 4
  %v91 = getelementptr float, ptr %v7, i64 %v82
  %v92 = load <8 x float>, ptr %v91, align 4
  %v93 = fadd <8 x float> %v92, %v90
  %v94 = getelementptr float, ptr %v7, i64 %v82
  store <8 x float> %v93, ptr %v94, align 4
  %v95 = add i64 %v81, 16
  %v96 = icmp slt i64 %v95, %v77
  br i1 %v96, label %loop78, label %end79
end79:
  %v99 = icmp slt i64 %v77, %w6
  br i1 %v99, label %loop97, label %end98
loop97:
  %v100 = phi i64 [ %v77, %end79 ], [ %v112, %loop97 ]
  %v101 = sub i64 %w6, %v100
  %v102 = trunc i64 %v101 to i32
  %v103 = insertelement <8 x i32> poison, i32 %v102, i64 0
  %v104 = shufflevector <8 x i32> %v103, <8 x i32> poison, <8 x i32> zeroinitializer
  %v105 = icmp ugt <8 x i32> %v104, <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %v106 = getelementptr float, ptr %v76, i64 %v100
  %v107 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v106, i32 4, <8 x i1> %v105, <8 x float> zeroinitializer)
  %v108 = getelementptr float, ptr %v7, i64 %v100
  %v109 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v108, i32 4, <8 x i1> %v105, <8 x float> zeroinitializer)
  %v110 = fadd <8 x float> %v109, %v107
  %v111 = getelementptr float, ptr %v7, i64 %v100
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v110, ptr %v111, i32 4, <8 x i1> %v105)
  %v112 = add i64 %v100, 8
  %v113 = icmp slt i64 %v112, %w6
  br i1 %v113, label %loop97, label %end98
end98:
  %v114 = add i64 %v70, 1
  %v115 = icmp eq i64 %v114, %w7
  %v116 = select i1 %v115, i64 0, i64 %v114
  %v117 = zext i1 %v115 to i64
  %v118 = add i64 %v69, %v117
  %v119 = add i64 %v68, 1
  %v120 = icmp slt i64 %v119, %v56
  br i1 %v120, label %loop65, label %end66
end66:
  %v121 = phi i64 [ %v62, %then60 ], [ %v118, %end98 ]
  %v122 = phi i64 [ %v64, %then60 ], [ %v116, %end98 ]
  br label %end61
end61:
  %v123 = and i64 %w6, -8
  %v126 = icmp slt i64 0, %v123
  br i1 %v126, label %loop124, label %end125
loop124:
  %v127 = phi i64 [ 0, %end61 ], [ %v145, %loop124 ]
  %v128 = getelementptr float, ptr %v7, i64 %v127
  %v129 = load <8 x float>, ptr %v128, align 4
  %v130 = getelementptr float, ptr %v8, i64 %v127
  %v131 = load <8 x float>, ptr %v130, align 4
  %v132 = fadd <8 x float> %v131, %v129
  %v133 = fsub <8 x float> %v132, %v131
  %v134 = fsub <8 x float> %v132, %v133
  %v135 = fsub <8 x float> %v131, %v134
  %v136 = fsub <8 x float> %v129, %v133
  %v137 = fadd <8 x float> %v135, %v136
  %v138 = getelementptr float, ptr %v8, i64 %v127
  store <8 x float> %v132, ptr %v138, align 4
  %v139 = getelementptr float, ptr %v9, i64 %v127
  %v140 = load <8 x float>, ptr %v139, align 4
  %v141 = fadd <8 x float> %v140, %v137
  %v142 = getelementptr float, ptr %v9, i64 %v127
  store <8 x float> %v141, ptr %v142, align 4
  %v143 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v144 = getelementptr float, ptr %v7, i64 %v127
  store <8 x float> %v143, ptr %v144, align 4
  %v145 = add i64 %v127, 8
  %v146 = icmp slt i64 %v145, %v123
  br i1 %v146, label %loop124, label %end125
end125:
  %v149 = icmp slt i64 %v123, %w6
  br i1 %v149, label %loop147, label %end148
loop147:
  %v150 = phi i64 [ %v123, %end125 ], [ %v173, %loop147 ]
  %v151 = sub i64 %w6, %v150
  %v152 = trunc i64 %v151 to i32
  %v153 = insertelement <8 x i32> poison, i32 %v152, i64 0
  %v154 = shufflevector <8 x i32> %v153, <8 x i32> poison, <8 x i32> zeroinitializer
  %v155 = icmp ugt <8 x i32> %v154, <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %v156 = getelementptr float, ptr %v7, i64 %v150
  %v157 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v156, i32 4, <8 x i1> %v155, <8 x float> zeroinitializer)
  %v158 = getelementptr float, ptr %v8, i64 %v150
  %v159 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v158, i32 4, <8 x i1> %v155, <8 x float> zeroinitializer)
  %v160 = fadd <8 x float> %v159, %v157
  %v161 = fsub <8 x float> %v160, %v159
  %v162 = fsub <8 x float> %v160, %v161
  %v163 = fsub <8 x float> %v159, %v162
  %v164 = fsub <8 x float> %v157, %v161
  %v165 = fadd <8 x float> %v163, %v164
  %v166 = getelementptr float, ptr %v8, i64 %v150
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v160, ptr %v166, i32 4, <8 x i1> %v155)
  %v167 = getelementptr float, ptr %v9, i64 %v150
  %v168 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v167, i32 4, <8 x i1> %v155, <8 x float> zeroinitializer)
  %v169 = fadd <8 x float> %v168, %v165
  %v170 = getelementptr float, ptr %v9, i64 %v150
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v169, ptr %v170, i32 4, <8 x i1> %v155)
  %v171 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v172 = getelementptr float, ptr %v7, i64 %v150
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v171, ptr %v172, i32 4, <8 x i1> %v155)
  %v173 = add i64 %v150, 8
  %v174 = icmp slt i64 %v173, %w6
  br i1 %v174, label %loop147, label %end148
end148:
  %v175 = add i64 %v54, 64
  %v176 = icmp slt i64 %v175, %v50
  br i1 %v176, label %loop51, label %end52
end52:
  %v177 = and i64 %w6, -8
  %v180 = icmp slt i64 0, %v177
  br i1 %v180, label %loop178, label %end179
loop178:
  %v181 = phi i64 [ 0, %end52 ], [ %v191, %loop178 ]
  %v182 = getelementptr float, ptr %v8, i64 %v181
  %v183 = load <8 x float>, ptr %v182, align 4
  %v184 = getelementptr float, ptr %v9, i64 %v181
  %v185 = load <8 x float>, ptr %v184, align 4
  %v186 = call <8 x float> @llvm.fabs.v8f32(<8 x float> %v183)
  %v187 = fcmp olt <8 x float> %v186, splat (float 0x7FF0000000000000)
  %v188 = fadd <8 x float> %v183, %v185
  %v189 = select <8 x i1> %v187, <8 x float> %v188, <8 x float> %v183
  %v190 = getelementptr float, ptr %v7, i64 %v181
  store <8 x float> %v189, ptr %v190, align 4
  %v191 = add i64 %v181, 8
  %v192 = icmp slt i64 %v191, %v177
  br i1 %v192, label %loop178, label %end179
end179:
  %v195 = icmp slt i64 %v177, %w6
  br i1 %v195, label %loop193, label %end194
loop193:
  %v196 = phi i64 [ %v177, %end179 ], [ %v211, %loop193 ]
  %v197 = sub i64 %w6, %v196
  %v198 = trunc i64 %v197 to i32
  %v199 = insertelement <8 x i32> poison, i32 %v198, i64 0
  %v200 = shufflevector <8 x i32> %v199, <8 x i32> poison, <8 x i32> zeroinitializer
  %v201 = icmp ugt <8 x i32> %v200, <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %v202 = getelementptr float, ptr %v8, i64 %v196
  %v203 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v202, i32 4, <8 x i1> %v201, <8 x float> zeroinitializer)
  %v204 = getelementptr float, ptr %v9, i64 %v196
  %v205 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v204, i32 4, <8 x i1> %v201, <8 x float> zeroinitializer)
  %v206 = call <8 x float> @llvm.fabs.v8f32(<8 x float> %v203)
  %v207 = fcmp olt <8 x float> %v206, splat (float 0x7FF0000000000000)
  %v208 = fadd <8 x float> %v203, %v205
  %v209 = select <8 x i1> %v207, <8 x float> %v208, <8 x float> %v203
  %v210 = getelementptr float, ptr %v7, i64 %v196
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v209, ptr %v210, i32 4, <8 x i1> %v201)
  %v211 = add i64 %v196, 8
  %v212 = icmp slt i64 %v211, %w6
  br i1 %v212, label %loop193, label %end194
end194:
  %v213 = add i64 %v4, 1
  %v214 = icmp slt i64 %v213, %hi
  br i1 %v214, label %loop1, label %end2
end2:
  ret void
}
define void @columns_combine(ptr noalias %args, i64 %lo, i64 %hi) #0 {
entry:
  %w0p = getelementptr i64, ptr %args, i64 4
  %w0 = load i64, ptr %w0p, align 8
  %w1p = getelementptr i64, ptr %args, i64 8
  %w1 = load i64, ptr %w1p, align 8
  %w2p = getelementptr i64, ptr %args, i64 14
  %w2 = load i64, ptr %w2p, align 8
  %w3p = getelementptr i64, ptr %args, i64 15
  %w3 = load i64, ptr %w3p, align 8
  %w4p = getelementptr i64, ptr %args, i64 16
  %w4 = load i64, ptr %w4p, align 8
  %w5p = getelementptr i64, ptr %args, i64 1
  %w5 = load ptr, ptr %w5p, align 8
  %w6p = getelementptr i64, ptr %args, i64 6
  %w6 = load i64, ptr %w6p, align 8
  %w7p = getelementptr i64, ptr %args, i64 9
  %w7 = load i64, ptr %w7p, align 8
  %w8p = getelementptr i64, ptr %args, i64 18
  %w8 = load i64, ptr %w8p, align 8
  %w9p = getelementptr i64, ptr %args, i64 2
  %w9 = load ptr, ptr %w9p, align 8
  %v1 = bitcast i64 0 to i64
  %v2 = icmp slt i64 %lo, %hi
  br i1 %v2, label %then3, label %end4
then3:
  %v5 = bitcast i64 0 to i64
  %v8 = icmp slt i64 %lo, %hi
  br i1 %v8, label %loop6, label %end7
loop6:
  %v9 = phi i64 [ %lo, %then3 ], [ %v96, %end55 ]
  %v10 = phi i64 [ %lo, %then3 ], [ %v95, %end55 ]
  %v11 = mul i64 %v9, %w1
  %v12 = mul i64 %v10, %w3
  %v13 = add i64 %w2, %v12
  %v14 = mul i64 %v5, %w4
  %v15 = add i64 %v13, %v14
  %v16 = getelementptr float, ptr %w5, i64 %v15
  %v17 = and i64 %w6, -8
  %v20 = icmp slt i64 0, %v17
  br i1 %v20, label %loop18, label %end19
loop18:
  %v21 = phi i64 [ 0, %loop6 ], [ %v52, %end25 ]
  %v22 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v23 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v26 = icmp slt i64 0, %w1
  br i1 %v26, label %loop24, label %end25
loop24:
  %v27 = phi i64 [ 0, %loop18 ], [ %v43, %loop24 ]
  %v28 = phi <8 x float> [ %v22, %loop18 ], [ %v36, %loop24 ]
  %v29 = phi <8 x float> [ %v23, %loop18 ], [ %v42, %loop24 ]
  %v30 = add i64 %v27, %v11
  %v31 = mul i64 %v30, %w7
  %v32 = add i64 %v31, %w8
  %v33 = getelementptr i8, ptr %w9, i64 %v32
  %v34 = getelementptr float, ptr %v33, i64 %v21
  %v35 = load <8 x float>, ptr %v34, align 4
  %v36 = fadd <8 x float> %v28, %v35
  %v37 = fsub <8 x float> %v36, %v28
  %v38 = fsub <8 x float> %v36, %v37
  %v39 = fsub <8 x float> %v28, %v38
  %v40 = fsub <8 x float> %v35, %v37
  %v41 = fadd <8 x float> %v39, %v40
  %v42 = fadd <8 x float> %v29, %v41
  %v43 = add i64 %v27, 1
  %v44 = icmp slt i64 %v43, %w1
  br i1 %v44, label %loop24, label %end25
end25:
  %v45 = phi <8 x float> [ %v22, %loop18 ], [ %v36, %loop24 ]
  %v46 = phi <8 x float> [ %v23, %loop18 ], [ %v42, %loop24 ]
  %v47 = call <8 x float> @llvm.fabs.v8f32(<8 x float> %v45)
  %v48 = fcmp olt <8 x float> %v47, splat (float 0x7FF0000000000000)
  %v49 = fadd <8 x float> %v45, %v46
  %v50 = select <8 x i1> %v48, <8 x float> %v49, <8 x float> %v45
  %v51 = getelementptr float, ptr %v16, i64 %v21
  store <8 x float> %v50, ptr %v51, align 4
  %v52 = add i64 %v21, 8
  %v53 = icmp slt i64 %v52, %v17
  br i1 %v53, label %loop18, label %end19
end19:
  %v56 = icmp slt i64 %v17, %w6
  br i1 %v56, label %loop54, label %end55
loop54:
  %v57 = phi i64 [ %v17, %end19 ], [ %v93, %end66 ]
  %v58 = sub i64 %w6, %v57
  %v59 = trunc i64 %v58 to i32
  %v60 = insertelement <8 x i32> poison, i32 %v59, i64 0
  %v61 = shufflevector <8 x i32> %v60, <8 x i32> poison, <8 x i32> zeroinitializer
  %v62 = icmp ugt <8 x i32> %v61, <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %v63 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v64 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v67 = icmp slt i64 0, %w1
  br i1 %v67, label %loop65, label %end66
loop65:
  %v68 = phi i64 [ 0, %loop54 ], [ %v84, %loop65 ]
  %v69 = phi <8 x float> [ %v63, %loop54 ], [ %v77, %loop65 ]
  %v70 = phi <8 x float> [ %v64, %loop54 ], [ %v83, %loop65 ]
  %v71 = add i64 %v68, %v11
  %v72 = mul i64 %v71, %w7
  %v73 = add i64 %v72, %w8
  %v74 = getelementptr i8, ptr %w9, i64 %v73
  %v75 = getelementptr float, ptr %v74, i64 %v57
  %v76 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v75, i32 4, <8 x i1> %v62, <8 x float> zeroinitializer)
  %v77 = fadd <8 x float> %v69, %v76
  %v78 = fsub <8 x float> %v77, %v69
  %v79 = fsub <8 x float> %v77, %v78
  %v80 = fsub <8 x float> %v69, %v79
  %v81 = fsub <8 x float> %v76, %v78
  %v82 = fadd <8 x float> %v80, %v81
  %v83 = fadd <8 x float> %v70, %v82
  %v84 = add i64 %v68, 1
  %v85 = icmp slt i64 %v84, %w1
  br i1 %v85, label %loop65, label %end66
end66:
  %v86 = phi <8 x float> [ %v63, %loop54 ], [ %v77, %loop65 ]
  %v87 = phi <8 x float> [ %v64, %loop54 ], [ %v83, %loop65 ]
  %v88 = call <8 x float> @llvm.fabs.v8f32(<8 x float> %v86)
  %v89 = fcmp olt <8 x float> %v88, splat (float 0x7FF0000000000000)
  %v90 = fadd <8 x float> %v86, %v87
  %v91 = select <8 x i1> %v89, <8 x float> %v90, <8 x float> %v86
  %v92 = getelementptr float, ptr %v16, i64 %v57
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v91, ptr %v92, i32 4, <8 x i1> %v62)
  %v93 = add i64 %v57, 8
  %v94 = icmp slt i64 %v93, %w6
  br i1 %v94, label %loop54, label %end55
end55:
  %v95 = add i64 %v10, 1
  %v96 = add i64 %v9, 1
  %v97 = icmp slt i64 %v96, %hi
  br i1 %v97, label %loop6, label %end7
end7:
  %v98 = phi i64 [ %lo, %then3 ], [ %v95, %end55 ]
  br label %end4
end4:
  ret void
}

attributes #0 = { nounwind "no-trapping-math"="true" "prefer-vector-width"="256" "min-legal-vector-width"="256" }

declare <8 x float> @llvm.masked.load.v8f32.p0(ptr, i32, <8 x i1>, <8 x float>)
declare i64 @llvm.smin.i64(i64, i64)
declare <8 x float> @llvm.fma.v8f32(<8 x float>, <8 x float>, <8 x float>)
declare void @llvm.masked.store.v8f32.p0(<8 x float>, ptr, i32, <8 x i1>)
declare float @llvm.fabs.f32(float)
define void @softmax(ptr noalias %args, i64 %lo, i64 %hi) #0 {
entry:
  %w0p = getelementptr i64, ptr %args, i64 4
  %w0 = load i64, ptr %w0p, align 8
  %w1p = getelementptr i64, ptr %args, i64 6
  %w1 = load i64, ptr %w1p, align 8
  %w2p = getelementptr i64, ptr %args, i64 7
  %w2 = load i64, ptr %w2p, align 8
  %w3p = getelementptr i64, ptr %args, i64 0
  %w3 = load ptr, ptr %w3p, align 8
  %w4p = getelementptr i64, ptr %args, i64 5
  %w4 = load i64, ptr %w4p, align 8
  %w5p = getelementptr i64, ptr %args, i64 3
  %w5 = load ptr, ptr %w5p, align 8
  %w6p = getelementptr i64, ptr %args, i64 12
  %w6 = load i64, ptr %w6p, align 8
  %w7p = getelementptr i64, ptr %args, i64 9
  %w7 = load i64, ptr %w7p, align 8
  %w8p = getelementptr i64, ptr %args, i64 10
  %w8 = load i64, ptr %w8p, align 8
  %w9p = getelementptr i64, ptr %args, i64 1
  %w9 = load ptr, ptr %w9p, align 8
  %v1 = bitcast i64 0 to i64
  %v2 = icmp slt i64 %lo, %hi
  br i1 %v2, label %then3, label %end4
then3:
  %v7 = icmp slt i64 %lo, %hi
  br i1 %v7, label %loop5, label %end6
loop5:
  %v8 = phi i64 [ %lo, %then3 ], [ %v315, %end300 ]
  %v9 = phi i64 [ %lo, %then3 ], [ %v314, %end300 ]
  %v10 = bitcast <8 x float> splat (float 0xFFF0000000000000) to <8 x float>
  %v11 = bitcast i64 0 to i64
  %v12 = mul i64 %v9, %w2
  %v13 = add i64 %w1, %v12
  %v14 = getelementptr float, ptr %w3, i64 %v13
  %v15 = and i64 %w4, -32
  %v18 = icmp slt i64 0, %v15
  br i1 %v18, label %loop16, label %end17
loop16:
  %v19 = phi i64 [ 0, %loop5 ], [ %v51, %loop16 ]
  %v20 = phi <8 x float> [ %v10, %loop5 ], [ %v29, %loop16 ]
  %v21 = phi <8 x float> [ %v10, %loop5 ], [ %v36, %loop16 ]
  %v22 = phi <8 x float> [ %v10, %loop5 ], [ %v43, %loop16 ]
  %v23 = phi <8 x float> [ %v10, %loop5 ], [ %v50, %loop16 ]
  %v24 = getelementptr float, ptr %v14, i64 %v19
  %v25 = load <8 x float>, ptr %v24, align 4
  %v26 = fcmp ogt <8 x float> %v20, %v25
  %v27 = select <8 x i1> %v26, <8 x float> %v20, <8 x float> %v25
  %v28 = fcmp uno <8 x float> %v20, %v20
  %v29 = select <8 x i1> %v28, <8 x float> %v20, <8 x float> %v27
  %v30 = add i64 %v19, 8
  %v31 = getelementptr float, ptr %v14, i64 %v30
  %v32 = load <8 x float>, ptr %v31, align 4
  %v33 = fcmp ogt <8 x float> %v21, %v32
  %v34 = select <8 x i1> %v33, <8 x float> %v21, <8 x float> %v32
  %v35 = fcmp uno <8 x float> %v21, %v21
  %v36 = select <8 x i1> %v35, <8 x float> %v21, <8 x float> %v34
  %v37 = add i64 %v19, 16
  %v38 = getelementptr float, ptr %v14, i64 %v37
  %v39 = load <8 x float>, ptr %v38, align 4
  %v40 = fcmp ogt <8 x float> %v22, %v39
  %v41 = select <8 x i1> %v40, <8 x float> %v22, <8 x float> %v39
  %v42 = fcmp uno <8 x float> %v22, %v22
  %v43 = select <8 x i1> %v42, <8 x float> %v22, <8 x float> %v41
  %v44 = add i64 %v19, 24
  %v45 = getelementptr float, ptr %v14, i64 %v44
  %v46 = load <8 x float>, ptr %v45, align 4
  %v47 = fcmp ogt <8 x float> %v23, %v46
  %v48 = select <8 x i1> %v47, <8 x float> %v23, <8 x float> %v46
  %v49 = fcmp uno <8 x float> %v23, %v23
  %v50 = select <8 x i1> %v49, <8 x float> %v23, <8 x float> %v48
  %v51 = add i64 %v19, 32
  %v52 = icmp slt i64 %v51, %v15
  br i1 %v52, label %loop16, label %end17
end17:
  %v53 = phi <8 x float> [ %v10, %loop5 ], [ %v29, %loop16 ]
  %v54 = phi <8 x float> [ %v10, %loop5 ], [ %v36, %loop16 ]
  %v55 = phi <8 x float> [ %v10, %loop5 ], [ %v43, %loop16 ]
  %v56 = phi <8 x float> [ %v10, %loop5 ], [ %v50, %loop16 ]
  %v59 = icmp slt i64 %v15, %w4
  br i1 %v59, label %loop57, label %end58
loop57:
  %v60 = phi i64 [ %v15, %end17 ], [ %v77, %loop57 ]
  %v61 = phi <8 x float> [ %v53, %end17 ], [ %v76, %loop57 ]
  %v62 = phi <8 x float> [ %v54, %end17 ], [ %v62, %loop57 ]
  %v63 = phi <8 x float> [ %v55, %end17 ], [ %v63, %loop57 ]
  %v64 = phi <8 x float> [ %v56, %end17 ], [ %v64, %loop57 ]
  %v65 = sub i64 %w4, %v60
  %v66 = trunc i64 %v65 to i32
  %v67 = insertelement <8 x i32> poison, i32 %v66, i64 0
  %v68 = shufflevector <8 x i32> %v67, <8 x i32> poison, <8 x i32> zeroinitializer
  %v69 = icmp ugt <8 x i32> %v68, <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %v70 = getelementptr float, ptr %v14, i64 %v60
  %v71 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v70, i32 4, <8 x i1> %v69, <8 x float> zeroinitializer)
  %v72 = select <8 x i1> %v69, <8 x float> %v71, <8 x float> splat (float 0xFFF0000000000000)
  %v73 = fcmp ogt <8 x float> %v61, %v72
  %v74 = select <8 x i1> %v73, <8 x float> %v61, <8 x float> %v72
  %v75 = fcmp uno <8 x float> %v61, %v61
  %v76 = select <8 x i1> %v75, <8 x float> %v61, <8 x float> %v74
  %v77 = add i64 %v60, 8
  %v78 = icmp slt i64 %v77, %w4
  br i1 %v78, label %loop57, label %end58
end58:
  %v79 = phi <8 x float> [ %v53, %end17 ], [ %v76, %loop57 ]
  %v80 = phi <8 x float> [ %v54, %end17 ], [ %v62, %loop57 ]
  %v81 = phi <8 x float> [ %v55, %end17 ], [ %v63, %loop57 ]
  %v82 = phi <8 x float> [ %v56, %end17 ], [ %v64, %loop57 ]
  %v83 = fcmp ogt <8 x float> %v79, %v80
  %v84 = select <8 x i1> %v83, <8 x float> %v79, <8 x float> %v80
  %v85 = fcmp uno <8 x float> %v79, %v79
  %v86 = select <8 x i1> %v85, <8 x float> %v79, <8 x float> %v84
  %v87 = fcmp ogt <8 x float> %v81, %v82
  %v88 = select <8 x i1> %v87, <8 x float> %v81, <8 x float> %v82
  %v89 = fcmp uno <8 x float> %v81, %v81
  %v90 = select <8 x i1> %v89, <8 x float> %v81, <8 x float> %v88
  %v91 = fcmp ogt <8 x float> %v86, %v90
  %v92 = select <8 x i1> %v91, <8 x float> %v86, <8 x float> %v90
  %v93 = fcmp uno <8 x float> %v86, %v86
  %v94 = select <8 x i1> %v93, <8 x float> %v86, <8 x float> %v92
  %v95 = shufflevector <8 x float> %v94, <8 x float> poison, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
  %v96 = shufflevector <8 x float> %v94, <8 x float> poison, <4 x i32> <i32 4, i32 5, i32 6, i32 7>
  %v97 = fcmp ogt <4 x float> %v95, %v96
  %v98 = select <4 x i1> %v97, <4 x float> %v95, <4 x float> %v96
  %v99 = fcmp uno <4 x float> %v95, %v95
  %v100 = select <4 x i1> %v99, <4 x float> %v95, <4 x float> %v98
  %v101 = shufflevector <4 x float> %v100, <4 x float> poison, <2 x i32> <i32 0, i32 1>
  %v102 = shufflevector <4 x float> %v100, <4 x float> poison, <2 x i32> <i32 2, i32 3>
  %v103 = fcmp ogt <2 x float> %v101, %v102
  %v104 = select <2 x i1> %v103, <2 x float> %v101, <2 x float> %v102
  %v105 = fcmp uno <2 x float> %v101, %v101
  %v106 = select <2 x i1> %v105, <2 x float> %v101, <2 x float> %v104
  %v107 = extractelement <2 x float> %v106, i64 0
  %v108 = extractelement <2 x float> %v106, i64 1
  %v109 = fcmp ogt float %v107, %v108
  %v110 = select i1 %v109, float %v107, float %v108
  %v111 = fcmp uno float %v107, %v107
  %v112 = select i1 %v111, float %v107, float %v110
  %v113 = insertelement <8 x float> poison, float %v112, i64 0
  %v114 = shufflevector <8 x float> %v113, <8 x float> poison, <8 x i32> zeroinitializer
  %v115 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v116 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v117 = bitcast <8 x float> splat (float 0x0000000000000000) to <8 x float>
  %v118 = bitcast i64 0 to i64
  %v119 = mul i64 %v9, %w2
  %v120 = add i64 %w1, %v119
  %v121 = getelementptr float, ptr %w3, i64 %v120
  %v122 = getelementptr i8, ptr %w5, i64 %w6
  %v123 = and i64 %w4, -8
  %v126 = icmp slt i64 0, %v123
  br i1 %v126, label %loop124, label %end125
loop124:
  %v127 = phi i64 [ 0, %end58 ], [ %v196, %end183 ]
  %v128 = phi <8 x float> [ %v115, %end58 ], [ %v192, %end183 ]
  %v129 = phi <8 x float> [ %v116, %end58 ], [ %v193, %end183 ]
  %v130 = phi <8 x float> [ %v117, %end58 ], [ %v194, %end183 ]
  %v131 = phi i64 [ %v118, %end58 ], [ %v195, %end183 ]
  %v132 = add i64 %v127, 224
  %v133 = call i64 @llvm.smin.i64(i64 %v132, i64 %v123)
  %v136 = icmp slt i64 %v127, %v133
  br i1 %v136, label %loop134, label %end135
loop134:
  %v137 = phi i64 [ %v127, %loop124 ], [ %v173, %loop134 ]
  %v138 = phi <8 x float> [ %v128, %loop124 ], [ %v172, %loop134 ]
  %v139 = phi <8 x float> [ %v129, %loop124 ], [ %v139, %loop134 ]
  %v140 = phi <8 x float> [ %v130, %loop124 ], [ %v140, %loop134 ]
  %v141 = getelementptr float, ptr %v121, i64 %v137
  %v142 = load <8 x float>, ptr %v141, align 4
  %v143 = fsub <8 x float> %v142, %v114
  %v144 = fcmp ogt <8 x float> splat (float 0xC05A000000000000), %v143
  %v145 = select <8 x i1> %v144, <8 x float> splat (float 0xC05A000000000000), <8 x float> %v143
  %v146 = fcmp olt <8 x float> splat (float 0x4056400000000000), %v145
  %v147 = select <8 x i1> %v146, <8 x float> splat (float 0x4056400000000000), <8 x float> %v145
  %v148 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v147, <8 x float> splat (float 0x3FF7154760000000), <8 x float> splat (float 0x4168000000000000))
  %v149 = fsub <8 x float> %v148, splat (float 0x4168000000000000)
  %v150 = bitcast <8 x float> %v148 to <8 x i32>
  %v151 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v149, <8 x float> splat (float 0xBFE62E4300000000), <8 x float> %v147)
  %v152 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v149, <8 x float> splat (float 0x3E205C6100000000), <8 x float> %v151)
  %v153 = sub <8 x i32> %v150, splat (i32 1262485504)
  %v154 = fmul <8 x float> %v152, %v152
  %v155 = call <8 x float> @llvm.fma.v8f32(<8 x float> splat (float 0x3F56A23B40000000), <8 x float> %v152, <8 x float> splat (float 0x3F8123A260000000))
  %v156 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v155, <8 x float> %v152, <8 x float> splat (float 0x3FA5558F40000000))
  %v157 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v156, <8 x float> %v152, <8 x float> splat (float 0x3FC5554900000000))
  %v158 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v157, <8 x float> %v152, <8 x float> splat (float 0x3FDFFFFFC0000000))
  %v159 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v154, <8 x float> %v158, <8 x float> %v152)
  %v160 = fadd <8 x float> %v159, splat (float 0x3FF0000000000000)
  %v161 = ashr <8 x i32> %v153, splat (i32 1)
  %v162 = add <8 x i32> %v161, splat (i32 127)
  %v163 = shl <8 x i32> %v162, splat (i32 23)
  %v164 = bitcast <8 x i32> %v163 to <8 x float>
  %v165 = fmul <8 x float> %v160, %v164
  %v166 = sub <8 x i32> %v153, %v161
  %v167 = add <8 x i32> %v166, splat (i32 127)
  %v168 = shl <8 x i32> %v167, splat (i32 23)
  %v169 = bitcast <8 x i32> %v168 to <8 x float>
  %v170 = fmul <8 x float> %v165, %v169
  %v171 = getelementptr float, ptr %v122, i64 %v137
  store <8 x float> %v170, ptr %v171, align 4
  %v172 = fadd <8 x float> %v138, %v170
  %v173 = add i64 %v137, 8
  %v174 = icmp slt i64 %v173, %v133
  br i1 %v174, label %loop134, label %end135
end135:
  %v175 = phi <8 x float> [ %v128, %loop124 ], [ %v172, %loop134 ]
  %v176 = phi <8 x float> [ %v129, %loop124 ], [ %v139, %loop134 ]
  %v177 = phi <8 x float> [ %v130, %loop124 ], [ %v140, %loop134 ]
  %v178 = sub i64 %v133, %v127
  %v179 = lshr i64 %v178, 3
  %v180 = add i64 %v131, %v179
  %v181 = icmp sge i64 %v180, 32
  br i1 %v181, label %then182, label %end183
then182:
  %v184 = fadd <8 x float> %v176, %v175
  %v185 = fsub <8 x float> %v184, %v176
  %v186 = fsub <8 x float> %v184, %v185
  %v187 = fsub <8 x float> %v176, %v186
  %v188 = fsub <8 x float> %v175, %v185
  %v189 = fadd <8 x float> %v187, %v188
  %v190 = fadd <8 x float> %v177, %v189
  %v191 = bitcast i64 0 to i64
  br label %end183
end183:
  %v192 = phi <8 x float> [ %v175, %end135 ], [ %v115, %then182 ]
  %v193 = phi <8 x float> [ %v176, %end135 ], [ %v184, %then182 ]
  %v194 = phi <8 x float> [ %v177, %end135 ], [ %v190, %then182 ]
  %v195 = phi i64 [ %v180, %end135 ], [ %v191, %then182 ]
  %v196 = add i64 %v127, 224
  %v197 = icmp slt i64 %v196, %v123
  br i1 %v197, label %loop124, label %end125
end125:
  %v198 = phi <8 x float> [ %v115, %end58 ], [ %v192, %end183 ]
  %v199 = phi <8 x float> [ %v116, %end58 ], [ %v193, %end183 ]
  %v200 = phi <8 x float> [ %v117, %end58 ], [ %v194, %end183 ]
  %v201 = phi i64 [ %v118, %end58 ], [ %v195, %end183 ]
  %v204 = icmp slt i64 %v123, %w4
  br i1 %v204, label %loop202, label %end203
loop202:
  %v205 = phi i64 [ %v123, %end125 ], [ %v247, %loop202 ]
  %v206 = phi <8 x float> [ %v198, %end125 ], [ %v246, %loop202 ]
  %v207 = phi <8 x float> [ %v199, %end125 ], [ %v207, %loop202 ]
  %v208 = phi <8 x float> [ %v200, %end125 ], [ %v208, %loop202 ]
  %v209 = sub i64 %w4, %v205
  %v210 = trunc i64 %v209 to i32
  %v211 = insertelement <8 x i32> poison, i32 %v210, i64 0
  %v212 = shufflevector <8 x i32> %v211, <8 x i32> poison, <8 x i32> zeroinitializer
  %v213 = icmp ugt <8 x i32> %v212, <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %v214 = getelementptr float, ptr %v121, i64 %v205
  %v215 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v214, i32 4, <8 x i1> %v213, <8 x float> zeroinitializer)
  %v216 = fsub <8 x float> %v215, %v114
  %v217 = fcmp ogt <8 x float> splat (float 0xC05A000000000000), %v216
  %v218 = select <8 x i1> %v217, <8 x float> splat (float 0xC05A000000000000), <8 x float> %v216
  %v219 = fcmp olt <8 x float> splat (float 0x4056400000000000), %v218
  %v220 = select <8 x i1> %v219, <8 x float> splat (float 0x4056400000000000), <8 x float> %v218
  %v221 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v220, <8 x float> splat (float 0x3FF7154760000000), <8 x float> splat (float 0x4168000000000000))
  %v222 = fsub <8 x float> %v221, splat (float 0x4168000000000000)
  %v223 = bitcast <8 x float> %v221 to <8 x i32>
  %v224 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v222, <8 x float> splat (float 0xBFE62E4300000000), <8 x float> %v220)
  %v225 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v222, <8 x float> splat (float 0x3E205C6100000000), <8 x float> %v224)
  %v226 = sub <8 x i32> %v223, splat (i32 1262485504)
  %v227 = fmul <8 x float> %v225, %v225
  %v228 = call <8 x float> @llvm.fma.v8f32(<8 x float> splat (float 0x3F56A23B40000000), <8 x float> %v225, <8 x float> splat (float 0x3F8123A260000000))
  %v229 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v228, <8 x float> %v225, <8 x float> splat (float 0x3FA5558F40000000))
  %v230 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v229, <8 x float> %v225, <8 x float> splat (float 0x3FC5554900000000))
  %v231 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v230, <8 x float> %v225, <8 x float> splat (float 0x3FDFFFFFC0000000))
  %v232 = call <8 x float> @llvm.fma.v8f32(<8 x float> %v227, <8 x float> %v231, <8 x float> %v225)
  %v233 = fadd <8 x float> %v232, splat (float 0x3FF0000000000000)
  %v234 = ashr <8 x i32> %v226, splat (i32 1)
  %v235 = add <8 x i32> %v234, splat (i32 127)
  %v236 = shl <8 x i32> %v235, splat (i32 23)
  %v237 = bitcast <8 x i32> %v236 to <8 x float>
  %v238 = fmul <8 x float> %v233, %v237
  %v239 = sub <8 x i32> %v226, %v234
  %v240 = add <8 x i32> %v239, splat (i32 127)
  %v241 = shl <8 x i32> %v240, splat (i32 23)
  %v242 = bitcast <8 x i32> %v241 to <8 x float>
  %v243 = fmul <8 x float> %v238, %v242
  %v244 = getelementptr float, ptr %v122, i64 %v205
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v243, ptr %v244, i32 4, <8 x i1> %v213)
  %v245 = select <8 x i1> %v213, <8 x float> %v243, <8 x float> splat (float 0x0000000000000000)
  %v246 = fadd <8 x float> %v206, %v245
  %v247 = add i64 %v205, 8
  %v248 = icmp slt i64 %v247, %w4
  br i1 %v248, label %loop202, label %end203
end203:
  %v249 = phi <8 x float> [ %v198, %end125 ], [ %v246, %loop202 ]
  %v250 = phi <8 x float> [ %v199, %end125 ], [ %v207, %loop202 ]
  %v251 = phi <8 x float> [ %v200, %end125 ], [ %v208, %loop202 ]
  %v252 = fadd <8 x float> %v250, %v249
  %v253 = fsub <8 x float> %v252, %v250
  %v254 = fsub <8 x float> %v252, %v253
  %v255 = fsub <8 x float> %v250, %v254
  %v256 = fsub <8 x float> %v249, %v253
  %v257 = fadd <8 x float> %v255, %v256
  %v258 = fadd <8 x float> %v251, %v257
  %v259 = shufflevector <8 x float> %v252, <8 x float> poison, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
  %v260 = shufflevector <8 x float> %v252, <8 x float> poison, <4 x i32> <i32 4, i32 5, i32 6, i32 7>
  %v261 = fadd <4 x float> %v259, %v260
  %v262 = shufflevector <4 x float> %v261, <4 x float> poison, <2 x i32> <i32 0, i32 1>
  %v263 = shufflevector <4 x float> %v261, <4 x float> poison, <2 x i32> <i32 2, i32 3>
  %v264 = fadd <2 x float> %v262, %v263
  %v265 = extractelement <2 x float> %v264, i64 0
  %v266 = extractelement <2 x float> %v264, i64 1
  %v267 = fadd float %v265, %v266
  %v268 = shufflevector <8 x float> %v258, <8 x float> poison, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
  %v269 = shufflevector <8 x float> %v258, <8 x float> poison, <4 x i32> <i32 4, i32 5, i32 6, i32 7>
  %v270 = fadd <4 x float> %v268, %v269
  %v271 = shufflevector <4 x float> %v270, <4 x float> poison, <2 x i32> <i32 0, i32 1>
  %v272 = shufflevector <4 x float> %v270, <4 x float> poison, <2 x i32> <i32 2, i32 3>
  %v273 = fadd <2 x float> %v271, %v272
  %v274 = extractelement <2 x float> %v273, i64 0
  %v275 = extractelement <2 x float> %v273, i64 1
  %v276 = fadd float %v274, %v275
  %v277 = call float @llvm.fabs.f32(float %v267)
  %v278 = fcmp olt float %v277, 0x7FF0000000000000
  %v279 = fadd float %v267, %v276
  %v280 = select i1 %v278, float %v279, float %v267
  %v281 = insertelement <8 x float> poison, float %v280, i64 0
  %v282 = shufflevector <8 x float> %v281, <8 x float> poison, <8 x i32> zeroinitializer
  %v283 = bitcast i64 0 to i64
  %v284 = mul i64 %v9, %w8
  %v285 = add i64 %w7, %v284
  %v286 = getelementptr float, ptr %w9, i64 %v285
  %v287 = getelementptr i8, ptr %w5, i64 %w6
  %v288 = and i64 %w4, -8
  %v291 = icmp slt i64 0, %v288
  br i1 %v291, label %loop289, label %end290
loop289:
  %v292 = phi i64 [ 0, %end203 ], [ %v297, %loop289 ]
  %v293 = getelementptr float, ptr %v287, i64 %v292
  %v294 = load <8 x float>, ptr %v293, align 4
  %v295 = fdiv <8 x float> %v294, %v282
  %v296 = getelementptr float, ptr %v286, i64 %v292
  store <8 x float> %v295, ptr %v296, align 4
  %v297 = add i64 %v292, 8
  %v298 = icmp slt i64 %v297, %v288
  br i1 %v298, label %loop289, label %end290
end290:
  %v301 = icmp slt i64 %v288, %w4
  br i1 %v301, label %loop299, label %end300
loop299:
  %v302 = phi i64 [ %v288, %end290 ], [ %v312, %loop299 ]
  %v303 = sub i64 %w4, %v302
  %v304 = trunc i64 %v303 to i32
  %v305 = insertelement <8 x i32> poison, i32 %v304, i64 0
  %v306 = shufflevector <8 x i32> %v305, <8 x i32> poison, <8 x i32> zeroinitializer
  %v307 = icmp ugt <8 x i32> %v306, <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %v308 = getelementptr float, ptr %v287, i64 %v302
  %v309 = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %v308, i32 4, <8 x i1> %v307, <8 x float> zeroinitializer)
  %v310 = fdiv <8 x float> %v309, %v282
  %v311 = getelementptr float, ptr %v286, i64 %v302
  call void @llvm.masked.store.v8f32.p0(<8 x float> %v310, ptr %v311, i32 4, <8 x i1> %v307)
  %v312 = add i64 %v302, 8
  %v313 = icmp slt i64 %v312, %w4
  br i1 %v313, label %loop299, label %end300
end300:
  %v314 = add i64 %v9, 1
  %v315 = add i64 %v8, 1
  %v316 = icmp slt i64 %v315, %hi
  br i1 %v316, label %loop5, label %end6
end6:
  %v317 = phi i64 [ %lo, %then3 ], [ %v314, %end300 ]
  br label %end4
end4:
  ret void
}

attributes #0 = { nounwind "no-trapping-math"="true" "prefer-vector-width"="256" "min-legal-vector-width"="256" }

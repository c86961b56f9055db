/* Encoders of GGUF's formats for AVX2: the bodies of fmt/, eight lanes wide. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/gemm.h"
#include "cpu/kern.h"

#include "cpu/target_avx2.h"

#include "cpu/lanes_avx2.h"

#include "fmt/gguf_iq_write_kern.h"
#include "fmt/gguf_k_write_kern.h"
#include "fmt/gguf_q_write_kern.h"
#include "fmt/gguf_tq_write_kern.h"

#define WRITE(name, by_snap) .format = #name, .fit = fit_##name, .snap = by_snap, .store = store_##name
const sr_encoder sr_encoders_avx2[] = {
    {WRITE(q4_0, snap_affine), .encode = encode_q4_0},
    {WRITE(q4_1, snap_affine), .encode = encode_q4_1},
    {WRITE(q5_0, snap_affine), .encode = encode_q5_0},
    {WRITE(q5_1, snap_affine), .encode = encode_q5_1},
    {WRITE(q8_0, snap_affine), .encode = encode_q8_0},
    {WRITE(q8_1, snap_affine), .encode = encode_q8_1},
    {WRITE(q2_k, snap_affine)},
    {WRITE(q3_k, snap_affine)},
    {WRITE(q4_k, snap_affine)},
    {WRITE(q5_k, snap_affine)},
    {WRITE(q6_k, snap_affine)},
    {WRITE(q8_k, snap_affine)},
    {WRITE(iq1_s, snap_iq1_s)},
    {WRITE(iq1_m, snap_iq1_m)},
    {WRITE(iq2_xxs, snap_iq2_xxs)},
    {WRITE(iq2_xs, snap_iq2_xs)},
    {WRITE(iq2_s, snap_iq2_s)},
    {WRITE(iq3_xxs, snap_iq3_xxs)},
    {WRITE(iq3_s, snap_iq3_s)},
    {WRITE(iq4_nl, snap_iq4)},
    {WRITE(iq4_xs, snap_iq4)},
    {WRITE(tq1_0, snap_affine), .encode = encode_tq1_0},
    {WRITE(tq2_0, snap_affine), .encode = encode_tq2_0},
    {WRITE(q1_0, snap_q1_0), .encode = encode_q1_0},
    {WRITE(q2_0, snap_affine), .encode = encode_q2_0},
    {WRITE(mxfp4, snap_fp4), .encode = encode_mxfp4},
    {WRITE(nvfp4, snap_fp4), .encode = encode_nvfp4},
    {0},
};

#include "cpu/target_end.h"
#endif

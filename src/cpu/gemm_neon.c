/* int8 GEMM on AArch64 with the dot product of bytes: a lane is a row, and a product takes four columns of K of one
 * column of x, picked from its register. */
#if defined(__aarch64__)

#include "cpu/target_neon.h"

#include <arm_neon.h>
#include <string.h>

#include "cpu/gemm.h"

#define INLINE static inline __attribute__((always_inline))
#define GEMM(name) sr_gemm_neon_##name

/* Rows 0 .. 3 and 4 .. 7 of the first column, then of the second. */
struct sums {
    int32x4_t a, b, c, d;
};
struct floats {
    float32x4_t a, b, c, d;
};
/* Rows 0 .. 3 and 4 .. 7 with the first four columns of K, then with the last four. */
struct rows {
    int8x16_t a, b, c, d;
};

/* From rows 0 1, 2 3, 4 5, 6 7. */
INLINE struct rows arranged(int8x16_t r01, int8x16_t r23, int8x16_t r45, int8x16_t r67) {
    int32x4_t a = vreinterpretq_s32_s8(r01), b = vreinterpretq_s32_s8(r23), c = vreinterpretq_s32_s8(r45),
              d = vreinterpretq_s32_s8(r67);
    return (struct rows){vreinterpretq_s8_s32(vuzp1q_s32(a, b)), vreinterpretq_s8_s32(vuzp1q_s32(c, d)),
                         vreinterpretq_s8_s32(vuzp2q_s32(a, b)), vreinterpretq_s8_s32(vuzp2q_s32(c, d))};
}

/* Asm, as arm_neon.h of clang before 16 has the name only where the command line allows the instruction. */
#define DOT(sum, w, x, i) __asm__("sdot %0.4s, %1.16b, %2.4b[" #i "]" : "+w"(sum) : "w"(w), "w"(x))
INLINE struct sums product(struct sums s, struct rows w, int8x16_t x) {
    DOT(s.a, w.a, x, 0);
    DOT(s.b, w.b, x, 0);
    DOT(s.c, w.a, x, 2);
    DOT(s.d, w.b, x, 2);
    DOT(s.a, w.c, x, 1);
    DOT(s.b, w.d, x, 1);
    DOT(s.c, w.c, x, 3);
    DOT(s.d, w.d, x, 3);
    return s;
}

/* What belongs to rows, and to the two columns at p, where sums have it. */
INLINE struct floats by_row(float32x4_t first, float32x4_t last) {
    return (struct floats){first, last, first, last};
}
INLINE struct floats of_pair(const float *p) {
    float32x4_t p0 = vdupq_n_f32(p[0]), p1 = vdupq_n_f32(p[1]);
    return (struct floats){p0, p0, p1, p1};
}
/* Rows 0 .. 3 and 4 .. 7 of the first column, then of the second. */
INLINE struct floats by_column(struct floats f) {
    return f;
}

enum { PROBE_STEPS = sr_gemm_neon_probe_ops / (6 * 8 * 32) };

#include "cpu/gemm_arm_kern.h"

#include "cpu/target_end.h"

#endif

/* int8 GEMM on AArch64 with products of matrices of bytes: 2 rows times 2 columns over eight columns of K an
 * instruction, twice the work of a dot product. */
#if defined(__aarch64__)

#include "cpu/target_i8mm.h"

#include <arm_neon.h>
#include <string.h>

#include "cpu/gemm.h"

#define INLINE static inline __attribute__((always_inline))
#define GEMM(name) sr_gemm_i8mm_##name

/* Rows 0 1, 2 3, 4 5, 6 7: of each the first row's two columns, then the second's. */
struct sums {
    int32x4_t a, b, c, d;
};
struct floats {
    float32x4_t a, b, c, d;
};
/* Rows 0 1, 2 3, 4 5, 6 7: of each the first row's eight columns of K, then the second's. */
struct rows {
    int8x16_t a, b, c, d;
};

INLINE struct rows arranged(int8x16_t r01, int8x16_t r23, int8x16_t r45, int8x16_t r67) {
    return (struct rows){r01, r23, r45, r67};
}

/* Asm, as arm_neon.h of clang before 16 has the name only where the command line allows the instruction. */
#define MATRIX(sum, w, x) __asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(w), "w"(x))
INLINE struct sums product(struct sums s, struct rows w, int8x16_t x) {
    MATRIX(s.a, w.a, x);
    MATRIX(s.b, w.b, x);
    MATRIX(s.c, w.c, x);
    MATRIX(s.d, w.d, x);
    return s;
}

/* What belongs to rows, and to the two columns at p, where sums have it. */
INLINE struct floats by_row(float32x4_t first, float32x4_t last) {
    return (struct floats){vzip1q_f32(first, first), vzip2q_f32(first, first), vzip1q_f32(last, last),
                           vzip2q_f32(last, last)};
}
INLINE struct floats of_pair(const float *p) {
    float32x2_t two = vld1_f32(p);
    float32x4_t v = vcombine_f32(two, two);
    return (struct floats){v, v, v, v};
}
/* Rows 0 .. 3 and 4 .. 7 of the first column, then of the second. */
INLINE struct floats by_column(struct floats f) {
    return (struct floats){vuzp1q_f32(f.a, f.b), vuzp1q_f32(f.c, f.d), vuzp2q_f32(f.a, f.b), vuzp2q_f32(f.c, f.d)};
}

enum { PROBE_STEPS = sr_gemm_i8mm_probe_ops / (6 * 4 * 64) };

#include "cpu/gemm_arm_kern.h"

#include "cpu/target_end.h"

#endif

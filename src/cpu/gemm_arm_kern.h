/* int8 GEMM on AArch64: 8 rows by up to 12 columns, written once for both of its products of bytes. An accumulator, a
 * register of weights and one of x are, with the names of gemm_neon.c and gemm_i8mm.c, which say how lanes lie:
 *
 *   struct sums   the products of 8 rows and 2 columns, in four registers
 *   struct rows   8 rows of 8 columns of K, in four registers
 *   int8x16_t     8 columns of K of 2 columns of x, one after the other
 *
 * Steps of the inner loop, 8 columns of K of all 12 columns, are 48 sdot or 24 smmla with 5 loads of two registers
 * each, one addition and what ends a loop over two of them; of 6 columns where groups are smaller than a block. */

enum {
    KC = SR_TILE_KC,
    MR = 8,                  /* rows of a kernel */
    N_BLOCK = SR_PAIR / MR,  /* of rows in a pair of tiles */
    STEP = 8,                /* columns of K */
    NR = sr_gemm_arm_columns /* columns of x */
};

/* A pair of tiles. Groups past KC / group are not used. */
struct tile {
    int8_t code[N_BLOCK][KC / STEP][MR * STEP];
    float scale[N_BLOCK][KC / 16][MR];
    float min[N_BLOCK][KC / 16][MR]; /* negated */
};
_Static_assert(sizeof(struct tile) == sr_gemm_arm_tile_bytes, "a pair of tiles");

/* Packed x: chunk of KC columns of K after chunk, and in it blocks of 12 columns of T (the last one 4, 8 or 12):
 *   code int8 [KC/8][nr][8], then in another place, since most formats read little of it:
 *   side f32 [KC/256][32][nr], see sr_pack_side. */
static int padded(int T) {
    return (T + 3) / 4 * 4;
}
static int width(int T, int t0) {
    return T - t0 >= NR ? NR : padded(T - t0);
}

struct columns {
    const int8_t *code;
    const float *side;
};

static struct columns columns_at(const void *packed, int T, int64_t n_block, int64_t chunk, int t0) {
    int64_t n_chunk = (n_block * SR_KC + KC - 1) / KC, t = padded(T);
    const int8_t *code = packed;
    const float *side = (const float *)(const void *)(code + n_chunk * t * KC);
    return (struct columns){code + (chunk * t + t0) * KC, side + (chunk * t + t0) * (KC / SR_KC * SR_SIDE)};
}

size_t GEMM(packed_bytes)(int T, int64_t n_block) {
    size_t n_chunk = ((size_t)n_block * SR_KC + KC - 1) / KC;
    return n_chunk * (size_t)padded(T) * (KC + KC / SR_KC * SR_SIDE * sizeof(float));
}

/* ---- pack ---- */

/* Eight bytes of each, the first or the last ones. */
INLINE int8x16_t first_of(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
INLINE int8x16_t last_of(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

INLINE void store_rows(int8_t *to, struct rows w) {
    vst1q_s8(to, w.a);
    vst1q_s8(to + 16, w.b);
    vst1q_s8(to + 32, w.c);
    vst1q_s8(to + 48, w.d);
}

void GEMM(pack_w)(const sr_panel *p, int half, int group, bool has_min, void *tile) {
    struct tile *w = tile;
    for (int r0 = 0, b = half * N_BLOCK / 2; r0 < SR_MR; r0 += MR, b++) {
        for (int k = 0; k < KC; k += 2 * STEP) {
            int8x16_t r[MR];
            for (int i = 0; i < MR; i++) r[i] = vld1q_s8(&p->code[r0 + i][k]);
            store_rows(w->code[b][k / STEP], arranged(first_of(r[0], r[1]), first_of(r[2], r[3]), first_of(r[4], r[5]),
                                                      first_of(r[6], r[7])));
            store_rows(w->code[b][k / STEP + 1],
                       arranged(last_of(r[0], r[1]), last_of(r[2], r[3]), last_of(r[4], r[5]), last_of(r[6], r[7])));
        }
        for (int g = 0; g < KC / group; g++)
            for (int i = 0; i < MR; i++) {
                w->scale[b][g][i] = p->scale[r0 + i][g];
                if (has_min) w->min[b][g][i] = -p->min[r0 + i][g];
            }
    }
}

void GEMM(pack_x)(const sr_x8 *x, int item, void *packed) {
    static const int8_t zero_code[SR_KC];
    static const int16_t zero_sum[SR_KC / SR_SUM];
    const int t0 = item * NR, nr = width(x->T, t0);
    for (int64_t b = 0; b < x->n_block; b++) {
        struct columns c = columns_at(packed, x->T, x->n_block, b * SR_KC / KC, t0);
        const int64_t in = b * SR_KC % KC / SR_KC;
        const int8_t *code[NR];
        for (int t = 0; t < nr; t++) {
            const bool real = t0 + t < x->T;
            const int64_t from = (t0 + t) * x->n_block + b;
            code[t] = real ? x->code + from * SR_KC : zero_code;
            sr_pack_side(real ? x->sum + from * (SR_KC / SR_SUM) : zero_sum, real ? x->scale[from] : 0, nr,
                         (float *)c.side + in * SR_SIDE * nr + t);
        }
        int8_t *to = (int8_t *)c.code + in * SR_KC * nr;
        for (int t = 0; t < nr; t += 2)
            for (int k = 0; k < SR_KC; k += 2 * STEP) {
                int8x16_t v = vld1q_s8(code[t] + k), w = vld1q_s8(code[t + 1] + k);
                vst1q_s8(to + k * nr + t * STEP, first_of(v, w));
                vst1q_s8(to + (k + STEP) * nr + t * STEP, last_of(v, w));
            }
    }
}

/* ---- kernels ---- */

/* Named accumulators instead of an array: only so do both compilers keep them in registers. */
#define PAIRS(f)                                                                                                       \
    do {                                                                                                               \
        f(0);                                                                                                          \
        f(1);                                                                                                          \
        if (pairs > 2) f(2);                                                                                           \
        if (pairs > 3) f(3);                                                                                           \
        if (pairs > 4) {                                                                                               \
            f(4);                                                                                                      \
            f(5);                                                                                                      \
        }                                                                                                              \
    } while (0)

INLINE struct sums no_sums(void) {
    const int32x4_t zero = vdupq_n_s32(0);
    return (struct sums){zero, zero, zero, zero};
}
INLINE struct rows load_rows(const int8_t *p) {
    return (struct rows){vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)};
}
INLINE struct floats scaled(struct sums c, struct floats s) {
    return (struct floats){vmulq_f32(vcvtq_f32_s32(c.a), s.a), vmulq_f32(vcvtq_f32_s32(c.b), s.b),
                           vmulq_f32(vcvtq_f32_s32(c.c), s.c), vmulq_f32(vcvtq_f32_s32(c.d), s.d)};
}
INLINE struct floats plus(struct floats f, struct floats v, struct floats s) {
    return (struct floats){vfmaq_f32(f.a, v.a, s.a), vfmaq_f32(f.b, v.b, s.b), vfmaq_f32(f.c, v.c, s.c),
                           vfmaq_f32(f.d, v.d, s.d)};
}
INLINE struct floats plus_scaled(struct floats f, struct sums c, struct floats s) {
    const struct floats v = {vcvtq_f32_s32(c.a), vcvtq_f32_s32(c.b), vcvtq_f32_s32(c.c), vcvtq_f32_s32(c.d)};
    return plus(f, v, s);
}
/* y[0 .. 1][8] += the columns of f times x */
INLINE void add_columns(float *y, struct floats f, const float *x) {
    const float32x4_t x0 = vdupq_n_f32(x[0]), x1 = vdupq_n_f32(x[1]);
    f = by_column(f);
    vst1q_f32(y, vfmaq_f32(vld1q_f32(y), f.a, x0));
    vst1q_f32(y + 4, vfmaq_f32(vld1q_f32(y + 4), f.b, x0));
    vst1q_f32(y + SR_PAIR, vfmaq_f32(vld1q_f32(y + SR_PAIR), f.c, x1));
    vst1q_f32(y + SR_PAIR + 4, vfmaq_f32(vld1q_f32(y + SR_PAIR + 4), f.d, x1));
}

/* y[2 * pairs][SR_PAIR] += a block of rows times x over n_block blocks. pitch: columns that x's block of columns holds,
 * of which a kernel may take a part. */
#define ARGS const int8_t *w, const float *scale, const float *min, struct columns x, int pitch, int n_block, float *y

/* Half the columns where groups are smaller than a block, so that its sums have registers beside those of a group. */
INLINE void multiply(const int pairs, const int group, const bool has_min, ARGS) {
    struct sums c0, c1, c2, c3, c4, c5;
    struct floats f0, f1, f2, f3, f4, f5;
    for (int b = 0; b < n_block; b++, x.side += SR_SIDE * pitch) {
        __asm__("" : "+r"(y)); /* opaque: gcc 12 would carry y from block to block in registers that sums need */
        const float *total = x.side + sr_side_sum(group) * pitch, *xs = x.side + SR_SIDE_SCALE * pitch;
        for (int g = 0; g < SR_KC / group; g++, scale += MR, min += MR, total += pitch) {
#define START(i) c##i = no_sums()
            PAIRS(START);
#define ADD(i) c##i = product(c##i, r, vld1q_s8(x.code + 2 * STEP * i))
#define ADVANCE()                                                                                                      \
    do {                                                                                                               \
        const struct rows r = load_rows(w);                                                                            \
        PAIRS(ADD);                                                                                                    \
        w += MR * STEP, x.code += STEP * pitch;                                                                        \
    } while (0)
            for (int k = 0; k < group; k += pairs < 6 ? 2 * STEP : STEP) {
                ADVANCE();
                if (pairs < 6) ADVANCE();
            }
            const struct floats s = by_row(vld1q_f32(scale), vld1q_f32(scale + 4));
#define FIRST(i) f##i = scaled(c##i, s)
#define GATHER(i) f##i = plus_scaled(f##i, c##i, s)
            if (g == 0)
                PAIRS(FIRST);
            else
                PAIRS(GATHER);
            if (has_min) {
                const struct floats m = by_row(vld1q_f32(min), vld1q_f32(min + 4));
#define GATHER_MIN(i) f##i = plus(f##i, of_pair(total + 2 * i), m)
                PAIRS(GATHER_MIN);
            }
        }
#define KEEP(i) add_columns(y + 2 * i * SR_PAIR, f##i, xs + 2 * i)
        PAIRS(KEEP);
    }
}

typedef void kernel(ARGS);

#define KERNEL(group, pairs)                                                                                           \
    static void g##group##_x##pairs(ARGS) {                                                                            \
        multiply(pairs, group, false, w, scale, min, x, pitch, n_block, y);                                            \
    }                                                                                                                  \
    static void g##group##_min_x##pairs(ARGS) {                                                                        \
        multiply(pairs, group, true, w, scale, min, x, pitch, n_block, y);                                             \
    }
KERNEL(16, 3)
KERNEL(16, 2)
KERNEL(32, 3)
KERNEL(32, 2)
KERNEL(64, 3)
KERNEL(64, 2)
KERNEL(128, 3)
KERNEL(128, 2)
KERNEL(256, 6)
KERNEL(256, 4)
KERNEL(256, 2)

/* By log2(group) - 4, width / 4 - 1, and has_min; pairs: of columns that one call takes. */
static const struct {
    kernel *run[2];
    int pairs;
} kernels[5][3] = {
#define RUN(group, pairs)                                                                                              \
    { {g##group##_x##pairs, g##group##_min_x##pairs}, pairs }
    {RUN(16, 2), RUN(16, 2), RUN(16, 3)},    {RUN(32, 2), RUN(32, 2), RUN(32, 3)},
    {RUN(64, 2), RUN(64, 2), RUN(64, 3)},    {RUN(128, 2), RUN(128, 2), RUN(128, 3)},
    {RUN(256, 2), RUN(256, 4), RUN(256, 6)},
};

void GEMM(gemm_i8)(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                   bool first, float *acc, sr_ahead next) {
    const struct tile *w = tile;
    const int64_t left = x->n_block - k0 / SR_KC;
    const int n_block = left < KC / SR_KC ? (int)left : KC / SR_KC, row = __builtin_ctz((unsigned)group) - 4;
    for (int t0 = 0; t0 < x->T; t0 += NR) {
        const int nr = width(x->T, t0), real = x->T - t0 < nr ? x->T - t0 : nr;
        const int pairs = kernels[row][nr / 4 - 1].pairs;
        sr_prefetch(next, t0 / NR, (x->T + NR - 1) / NR);
        kernel *run = kernels[row][nr / 4 - 1].run[has_min];
        const struct columns c = columns_at(packed, x->T, x->n_block, k0 / KC, t0);
        float edge[NR * SR_PAIR], *y = real < nr ? edge : acc + (size_t)t0 * SR_PAIR;
        if (first || y == edge) memset(y, 0, sizeof *y * (size_t)(nr * SR_PAIR));
        if (!first && y == edge) memcpy(edge, acc + (size_t)t0 * SR_PAIR, sizeof *acc * (size_t)(real * SR_PAIR));
        for (int b = 0; b < N_BLOCK; b++)
            for (int t = 0; t < nr; t += 2 * pairs)
                run(w->code[b][0], w->scale[b][0], w->min[b][0], (struct columns){c.code + STEP * t, c.side + t}, nr,
                    n_block, y + t * SR_PAIR + b * MR);
        if (y == edge) memcpy(acc + (size_t)t0 * SR_PAIR, edge, sizeof *acc * (size_t)(real * SR_PAIR));
    }
}

/* 24 independent chains. */
void GEMM(probe)(int64_t n) {
    const int8x16_t one = vdupq_n_s8(1);
    for (; n > 0; n--) {
        struct sums c0 = no_sums(), c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0;
        const struct rows w = {one, one, one, one};
        for (int i = 0; i < PROBE_STEPS; i++) {
            c0 = product(c0, w, one), c1 = product(c1, w, one), c2 = product(c2, w, one);
            c3 = product(c3, w, one), c4 = product(c4, w, one), c5 = product(c5, w, one);
        }
        __asm__ volatile("" ::"w"(c0.a), "w"(c1.a), "w"(c2.a), "w"(c3.a), "w"(c4.a), "w"(c5.a));
    }
}

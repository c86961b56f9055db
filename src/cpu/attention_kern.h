/* One chunk of attention, written once in the f32 vocabulary and its wider part, vw, of VW lanes. Many rows go by tiles
 * of keys as f32, which all of them share; up to four straight from what is stored. Where rows go together, the last
 * ones may name one twice, which then gets the same numbers twice. */

#ifndef VW
#define VW 8
typedef vf vw;
#define vw_load vf_load
#define vw_store vf_store
#define vw_set1 vf_set1
#define vw_add vf_add
#define vw_sub vf_sub
#define vw_mul vf_mul
#define vw_fma vf_fma
#define vw_max vf_max
#define vw_min vf_min
#define vw_round vf_round
#define vw_pow2 vf_pow2
#define vw_sum vf_sum
#define vw_reduce_max vf_reduce_max
#define vw_from_f16 vf_from_f16
#define vw_transpose vf_transpose8
#define exp_vw exp_vf
#else
EXP(vw)
#endif

/* TILE_ROWS x TILE_KEYS scores are so many registers that a tile's sums stay in them. */
enum { FOUR = 4, TILE_KEYS = 2 * VW, TILE_ROWS = VW == 16 ? 8 : 4, VALUE_KEYS = 32 };
#if VW == 16
#define TILE(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7)
#else
#define TILE(f) f(0) f(1) f(2) f(3)
#endif

/* packed[d][TILE_KEYS] = the first TILE_KEYS keys of k, zeros past n_key: lanes are keys, so that no sum crosses them.
 */
static void pack_keys(const uint16_t *k, int n_key, int hd, float *packed) {
    static const uint16_t zeros[VW];
    for (int j = 0; j < TILE_KEYS; j += VW) {
        int d = 0;
        for (; d + VW <= hd; d += VW) {
            vw r[VW];
            for (int i = 0; i < VW; i++) r[i] = vw_from_f16(j + i < n_key ? k + (int64_t)(j + i) * hd + d : zeros);
            vw_transpose(r);
            for (int i = 0; i < VW; i++) vw_store(packed + (d + i) * TILE_KEYS + j, r[i]);
        }
        for (; d < hd; d++)
            for (int i = 0; i < VW; i++)
                packed[d * TILE_KEYS + j + i] = j + i < n_key ? sr_f16_to_f32(k[(int64_t)(j + i) * hd + d]) : 0;
    }
}

/* score[i][0 .. TILE_KEYS) = q[i] . packed */
static void score_tile(const float *const *q, const float *packed, int hd, float *const *score) {
#define Q(i) const float *const q##i = q[i];
#define ZERO(i) vw a##i = vw_set1(0), b##i = a##i;
    TILE(Q)
    TILE(ZERO)
    for (int d = 0; d < hd; d++, packed += TILE_KEYS) {
        const vw a = vw_load(packed), b = vw_load(packed + VW);
#define ADD(i) a##i = vw_fma(a, vw_set1(q##i[d]), a##i), b##i = vw_fma(b, vw_set1(q##i[d]), b##i);
        TILE(ADD)
    }
#define KEEP(i) vw_store(score[i], a##i), vw_store(score[i] + VW, b##i);
    TILE(KEEP)
#undef Q
#undef ZERO
#undef ADD
#undef KEEP
}

/* o[i][0 .. 2 * VW) += the sum over keys of p[i][j] * v[j], for n keys as f32 */
static void weigh_wide(const float *const *p, const float *v, int n, int ld, float *const *o) {
#define P(i) const float *const p##i = p[i];
#define LOAD(i) vw a##i = vw_load(o[i]), b##i = vw_load(o[i] + VW);
    TILE(P)
    TILE(LOAD)
    for (int j = 0; j < n; j++, v += ld) {
        const vw a = vw_load(v), b = vw_load(v + VW);
#define ADD(i) a##i = vw_fma(a, vw_set1(p##i[j]), a##i), b##i = vw_fma(b, vw_set1(p##i[j]), b##i);
        TILE(ADD)
    }
#define KEEP(i) vw_store(o[i], a##i), vw_store(o[i] + VW, b##i);
    TILE(KEEP)
#undef P
#undef LOAD
#undef ADD
#undef KEEP
}

/* score[j] = q . key j, eight keys at a time: one row, straight from the stored keys. */
static void score_one(const float *q, const uint16_t *k, int n_key, int hd, float *score) {
    for (int j = 0; j < n_key; j += 8) {
        const uint16_t *key[8];
        vf r[8];
        for (int i = 0; i < 8; i++) key[i] = k + (int64_t)(j + i < n_key ? j + i : n_key - 1) * hd;
        vf s0 = vf_set1(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
        int d = 0;
        for (; d + 8 <= hd; d += 8) {
            vf v = vf_load(q + d);
            s0 = vf_fma(vf_from_f16(key[0] + d), v, s0), s1 = vf_fma(vf_from_f16(key[1] + d), v, s1);
            s2 = vf_fma(vf_from_f16(key[2] + d), v, s2), s3 = vf_fma(vf_from_f16(key[3] + d), v, s3);
            s4 = vf_fma(vf_from_f16(key[4] + d), v, s4), s5 = vf_fma(vf_from_f16(key[5] + d), v, s5);
            s6 = vf_fma(vf_from_f16(key[6] + d), v, s6), s7 = vf_fma(vf_from_f16(key[7] + d), v, s7);
        }
        r[0] = s0, r[1] = s1, r[2] = s2, r[3] = s3, r[4] = s4, r[5] = s5, r[6] = s6, r[7] = s7;
        float sum[8];
        vf_store(sum, vf_sum8(r));
        for (; d < hd; d++)
            for (int i = 0; i < 8; i++) sum[i] += sr_f16_to_f32(key[i][d]) * q[d];
        memcpy(score + j, sum, sizeof sum); /* scores of keys that are not there are overwritten */
    }
}

/* The same for four rows, two keys at a time. */
static void score_four(const float *const q[FOUR], const uint16_t *k, int n_key, int hd, float *const score[FOUR]) {
    const float *q0 = q[0], *q1 = q[1], *q2 = q[2], *q3 = q[3];
    for (int j = 0; j < n_key; j += 2) {
        const uint16_t *key = k + (int64_t)j * hd, *next = j + 1 < n_key ? key + hd : key;
        vf r[8];
        vf a0 = vf_set1(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        int d = 0;
        for (; d + 8 <= hd; d += 8) {
            vf a = vf_from_f16(key + d), b = vf_from_f16(next + d), v = vf_load(q0 + d);
            a0 = vf_fma(a, v, a0), b0 = vf_fma(b, v, b0), v = vf_load(q1 + d);
            a1 = vf_fma(a, v, a1), b1 = vf_fma(b, v, b1), v = vf_load(q2 + d);
            a2 = vf_fma(a, v, a2), b2 = vf_fma(b, v, b2), v = vf_load(q3 + d);
            a3 = vf_fma(a, v, a3), b3 = vf_fma(b, v, b3);
        }
        r[0] = a0, r[1] = a1, r[2] = a2, r[3] = a3, r[4] = b0, r[5] = b1, r[6] = b2, r[7] = b3;
        float sum[8];
        vf_store(sum, vf_sum8(r));
        for (; d < hd; d++)
            for (int i = 0; i < FOUR; i++) {
                sum[i] += sr_f16_to_f32(key[d]) * q[i][d];
                sum[FOUR + i] += sr_f16_to_f32(next[d]) * q[i][d];
            }
        for (int i = 0; i < FOUR; i++) score[i][j] = sum[i], score[i][j + 1] = sum[FOUR + i];
    }
}

/* o[i][0 .. 16) += the sum over keys of p[i][j] * v[j], for n keys */
static void weigh_tile(const float *const p[FOUR], const uint16_t *v, int n, int ld, float *const o[FOUR]) {
    const float *p0 = p[0], *p1 = p[1], *p2 = p[2], *p3 = p[3];
    vf a0 = vf_load(o[0]), a1 = vf_load(o[1]), a2 = vf_load(o[2]), a3 = vf_load(o[3]);
    vf b0 = vf_load(o[0] + 8), b1 = vf_load(o[1] + 8), b2 = vf_load(o[2] + 8), b3 = vf_load(o[3] + 8);
    for (int j = 0; j < n; j++, v += ld) {
        vf a = vf_from_f16(v), b = vf_from_f16(v + 8), s = vf_set1(p0[j]);
        a0 = vf_fma(a, s, a0), b0 = vf_fma(b, s, b0), s = vf_set1(p1[j]);
        a1 = vf_fma(a, s, a1), b1 = vf_fma(b, s, b1), s = vf_set1(p2[j]);
        a2 = vf_fma(a, s, a2), b2 = vf_fma(b, s, b2), s = vf_set1(p3[j]);
        a3 = vf_fma(a, s, a3), b3 = vf_fma(b, s, b3);
    }
    vf_store(o[0], a0), vf_store(o[0] + 8, b0), vf_store(o[1], a1), vf_store(o[1] + 8, b1);
    vf_store(o[2], a2), vf_store(o[2] + 8, b2), vf_store(o[3], a3), vf_store(o[3] + 8, b3);
}

/* One row: o[0 .. 8 * n_vec) += ..., n_vec at most 8. */
static void weigh_one(const float *p, const uint16_t *v, int n, int ld, int n_vec, float *o) {
    for (int d = 0; d < n_vec; d += 4) {
        int e1 = d + 1 < n_vec ? 8 : 0, e2 = d + 2 < n_vec ? 16 : 0, e3 = d + 3 < n_vec ? 24 : 0;
        const uint16_t *at = v + 8 * d;
        float *out = o + 8 * d;
        vf a0 = vf_load(out), a1 = vf_load(out + e1), a2 = vf_load(out + e2), a3 = vf_load(out + e3);
        for (int j = 0; j < n; j++, at += ld) {
            vf s = vf_set1(p[j]);
            a0 = vf_fma(vf_from_f16(at), s, a0), a1 = vf_fma(vf_from_f16(at + e1), s, a1);
            a2 = vf_fma(vf_from_f16(at + e2), s, a2), a3 = vf_fma(vf_from_f16(at + e3), s, a3);
        }
        vf_store(out, a0);
        if (e1) vf_store(out + 8, a1);
        if (e2) vf_store(out + 16, a2);
        if (e3) vf_store(out + 24, a3);
    }
}

/* Up to four rows of p, keys from .. to; so few keys at a time that their values stay in L1. */
static void weigh(const float *const p[FOUR], int rows, const uint16_t *v, int from, int to, int hd, int ld,
                  float *const o[FOUR]) {
    for (int j = from; j < to; j += VALUE_KEYS) {
        int n = to - j < VALUE_KEYS ? to - j : VALUE_KEYS, d = 0;
        const float *pj[FOUR] = {p[0] + j, p[1] + j, p[2] + j, p[3] + j};
        const uint16_t *vj = v + (int64_t)j * ld;
        if (rows > 1)
            for (; d + 16 <= hd; d += 16) {
                float *const at[FOUR] = {o[0] + d, o[1] + d, o[2] + d, o[3] + d};
                weigh_tile(pj, vj + d, n, ld, at);
            }
        for (int i = 0; i < rows; i++) {
            weigh_one(pj[i], vj + d, n, ld, (hd - d) / 8, o[i] + d);
            for (int e = hd / 8 * 8; e < hd; e++)
                for (int t = 0; t < n; t++) o[i][e] += pj[i][t] * sr_f16_to_f32(vj[(int64_t)t * ld + e]);
        }
    }
}

/* Scores of a row, of which from .. to count, to probabilities; the rest of VW from / VW .. to become 0. */
static void softmax_row(float *row, int from, int to, float cap, float *m, float *s, float *o, int hd) {
    int begin = from / VW * VW, end = (to + VW - 1) / VW * VW;
    for (int j = begin; cap > 0 && j < end; j += 8) vf_store(row + j, soft_cap_vf(vf_load(row + j), cap));
    for (int j = begin; j < from; j++) row[j] = -INFINITY;
    for (int j = to; j < end; j++) row[j] = -INFINITY;
    vw top = vw_set1(-INFINITY), sum = vw_set1(0);
    for (int j = begin; j < end; j += VW) top = vw_max(vw_load(row + j), top);
    float most = vw_reduce_max(top), max = *m > most ? *m : most, keep = *m == -INFINITY ? 0 : expf(*m - max);
    for (int j = begin; j < end; j += VW) {
        vw p = exp_vw(vw_sub(vw_load(row + j), vw_set1(max)));
        vw_store(row + j, p);
        sum = vw_add(sum, p);
    }
    *s = *s * keep + vw_sum(sum);
    *m = max;
    if (keep != 1)
        for (int d = 0; d < hd; d++) o[d] *= keep;
}

/* Probabilities times values of all rows, keys from .. to; so few keys at a time that their values stay near. */
static void weigh_rows(const float *score, int n_q, const uint16_t *v, int from, int to, int hd, int ld, float *o,
                       float *values) {
    const int whole = hd / (2 * VW) * (2 * VW);
    for (int j = from; j < to; j += VALUE_KEYS) {
        const int n = to - j < VALUE_KEYS ? to - j : VALUE_KEYS;
        for (int t = 0; t < n; t++) {
            const uint16_t *x = v + (int64_t)(j + t) * ld;
            int d = 0;
            for (; d + VW <= hd; d += VW) vw_store(values + t * hd + d, vw_from_f16(x + d));
            for (; d < hd; d++) values[t * hd + d] = sr_f16_to_f32(x[d]);
        }
        for (int i = 0; i < n_q; i += TILE_ROWS) {
            const float *p[TILE_ROWS];
            float *out[TILE_ROWS], *at[TILE_ROWS];
            for (int r = 0; r < TILE_ROWS; r++) {
                const int row = i + r < n_q ? i + r : n_q - 1;
                p[r] = score + row * SR_KV_PAGE + j, out[r] = o + (int64_t)row * hd;
            }
            for (int d = 0; d < whole; d += 2 * VW) {
                for (int r = 0; r < TILE_ROWS; r++) at[r] = out[r] + d;
                weigh_wide(p, values + d, n, hd, at);
            }
            for (int r = 0; r < TILE_ROWS && i + r < n_q; r++)
                for (int t = 0; whole < hd && t < n; t++)
                    for (int d = whole; d < hd; d++) out[r][d] += p[r][t] * values[t * hd + d];
        }
    }
}

static void attend_chunk(const float *const *q, int n_q, const uint16_t *k, const uint16_t *v, int n_key, int hd,
                         int hd_v, int ld_v, const int *lo, const int *hi, float cap, float *m, float *s, float *o,
                         float *scratch) {
    float *packed = scratch + SR_ATTEND_ROWS * SR_KV_PAGE;
    int first = n_key, last = 0; /* keys that any row sees */
    for (int i = 0; i < n_q; i++)
        if (lo[i] < hi[i]) {
            first = lo[i] < first ? lo[i] : first;
            last = hi[i] > last ? hi[i] : last;
        }
    first = first / TILE_KEYS * TILE_KEYS;
    if (first >= last) return;

#define ROW(i) ((i) < n_q ? (i) : n_q - 1)
    if (n_q == 1) score_one(q[0], k + (int64_t)first * hd, last - first, hd, scratch + first);
    if (n_q > 1 && n_q <= FOUR) {
        const float *const rows[FOUR] = {q[0], q[ROW(1)], q[ROW(2)], q[ROW(3)]};
        float *const to[FOUR] = {scratch + first, scratch + ROW(1) * SR_KV_PAGE + first,
                                 scratch + ROW(2) * SR_KV_PAGE + first, scratch + ROW(3) * SR_KV_PAGE + first};
        score_four(rows, k + (int64_t)first * hd, last - first, hd, to);
    }
    for (int j = first; n_q > FOUR && j < last; j += TILE_KEYS) {
        pack_keys(k + (int64_t)j * hd, n_key - j, hd, packed);
        for (int i = 0; i < n_q; i += TILE_ROWS) {
            const float *rows[TILE_ROWS];
            float *to[TILE_ROWS];
            for (int r = 0; r < TILE_ROWS; r++) {
                rows[r] = q[ROW(i + r)];
                to[r] = scratch + ROW(i + r) * SR_KV_PAGE + j;
            }
            score_tile(rows, packed, hd, to);
        }
    }
    int from = n_key, to = 0; /* what any row sees */
    for (int r = 0; r < n_q; r++)
        if (lo[r] < hi[r]) {
            from = lo[r] < from ? lo[r] : from;
            to = hi[r] > to ? hi[r] : to;
        }
    for (int r = 0; r < n_q; r++) {
        float *row = scratch + r * SR_KV_PAGE;
        if (lo[r] < hi[r]) softmax_row(row, lo[r], hi[r], cap, &m[r], &s[r], o + (int64_t)r * hd_v, hd_v);
        /* what another sees and this one does not */
        for (int j = from; j < to && j < lo[r]; j++) row[j] = 0;
        for (int j = hi[r] > from ? hi[r] : from; j < to; j++) row[j] = 0;
    }
    if (n_q > FOUR) {
        weigh_rows(scratch, n_q, v, from, to, hd_v, ld_v, o, packed);
        return;
    }
    const float *const p[FOUR] = {scratch, scratch + ROW(1) * SR_KV_PAGE, scratch + ROW(2) * SR_KV_PAGE,
                                  scratch + ROW(3) * SR_KV_PAGE};
    float *const out[FOUR] = {o, o + (int64_t)ROW(1) * hd_v, o + (int64_t)ROW(2) * hd_v, o + (int64_t)ROW(3) * hd_v};
    weigh(p, n_q, v, from, to, hd_v, ld_v, out);
#undef ROW
}

/* The GEMM of f32: scores of 32 rows of weights with the tokens as queries. */
static void gemm_f32(const float (*panel)[SR_TILE_KC], int64_t n, const float *x, int64_t ld_x, int T, bool first,
                     float *acc) {
    enum { KC = 128 }; /* both operands stay in L1, where rows of x may fall onto the same lines */
    _Alignas(64) float packed[KC * TILE_KEYS], sum[TILE_ROWS][TILE_KEYS];
    float *to[TILE_ROWS];
    for (int i = 0; i < TILE_ROWS; i++) to[i] = sum[i];
    for (int r0 = 0; r0 < SR_PAIR; r0 += TILE_KEYS)
        for (int64_t k0 = 0; k0 < n; k0 += KC) {
            const int m = n - k0 < KC ? (int)(n - k0) : KC;
            for (int j = 0; j < TILE_KEYS; j += VW)
                for (int k = 0; k < m; k += VW) {
                    vw r[VW];
                    for (int i = 0; i < VW; i++) r[i] = vw_load(panel[r0 + j + i] + k0 + k);
                    vw_transpose(r);
                    for (int i = 0; i < VW; i++) vw_store(packed + (k + i) * TILE_KEYS + j, r[i]);
                }
            for (int t = 0; t < T; t += TILE_ROWS) {
                const float *rows[TILE_ROWS];
                for (int i = 0; i < TILE_ROWS; i++) rows[i] = x + (t + i < T ? t + i : T - 1) * ld_x + k0;
                score_tile(rows, packed, m, to);
                for (int i = 0; i < TILE_ROWS && t + i < T; i++)
                    for (int j = 0; j < TILE_KEYS; j += VW) {
                        float *a = acc + (int64_t)(t + i) * SR_PAIR + r0 + j;
                        vw_store(a, first && k0 == 0 ? vw_load(sum[i] + j) : vw_add(vw_load(a), vw_load(sum[i] + j)));
                    }
            }
        }
}

/* What the bodies of rows_kern.h and this file give to a row of any instruction set. */
#define SR_KERN_ROWS                                                                                                   \
    .quantize = quantize, .gemm_f32 = gemm_f32, .dot_f32 = dot_f32, .rms_norm = rms_norm, .layer_norm = layer_norm,    \
    .add = add_rows,                                                                                                   \
    .act = {[SR_ACT_SILU] = silu,                                                                                      \
            [SR_ACT_GELU_TANH] = gelu_tanh,                                                                            \
            [SR_ACT_RELU2] = relu2,                                                                                    \
            [SR_ACT_SWIGLU] = swiglu,                                                                                  \
            [SR_ACT_SWIGLU_PAIRS] = swiglu_pairs},                                                                     \
    .soft_cap = soft_cap_rows, .axpy = axpy, .rope_halves = rope_halves, .rope_adjacent = rope_adjacent,               \
    .to_f16 = to_f16, .attend_chunk = attend_chunk
#define SR_FAST_PLAIN                                                                                                  \
    {.format = "f32", .dot_float = dot_f32_rows}, {.format = "f16", .dot_float = dot_f16_rows, .decode = decode_f16},  \
    {                                                                                                                  \
        .format = "bf16", .dot_float = dot_bf16_rows, .decode = decode_bf16                                            \
    }

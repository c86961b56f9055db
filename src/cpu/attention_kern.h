/* One page of attention, written once in the vocabulary and its wider part, vw, of VW lanes. Many rows go by tiles of
 * keys as f32, which all of them share; up to four straight from what is stored. Where rows go together, the last ones
 * may name one twice, which then gets the same numbers twice. What is kept as codes: attention_codes_kern.h. */

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
#ifdef V_DOTS
typedef vi wi;
#define wi_load vi_load
#define wi_set1 vi_set1
#define wi_four vb_four
#define wi_add vi_add
#define wi_sub vi_sub
#define wi_right vi_right
#define wi_shift vi_shift
#define wi_dot vi_dot
#define wi_low4 vb_low4
#define wi_high4 vb_high4
#define wi_store_bytes vi_store_bytes
#define wi_nearest vi_nearest
#define vw_from_i32 vf_from_i32
#endif
#else
EXP(vw)
#endif

/* TILE_ROWS x TILE_KEYS scores are so many registers that a tile's sums stay in them. */
enum { FOUR = SR_FEW_QUERIES, TILE_KEYS = 2 * VW, TILE_ROWS = VW == 16 ? 8 : 4, VALUE_KEYS = 32 };
#if VW == 16
#define TILE(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7)
#else
#define TILE(f) f(0) f(1) f(2) f(3)
#endif

/* packed[d][TILE_KEYS] = TILE_KEYS rows of k[TILE_KEYS][hd]: lanes are keys, so that no sum crosses them. */
static void pack_keys(const float *k, int hd, float *packed) {
    for (int j = 0; j < TILE_KEYS; j += VW) {
        int d = 0;
        for (; d + VW <= hd; d += VW) {
            vw r[VW];
            for (int i = 0; i < VW; i++) r[i] = vw_load(k + (int64_t)(j + i) * hd + d);
            vw_transpose(r);
            for (int i = 0; i < VW; i++) vw_store(packed + (d + i) * TILE_KEYS + j, r[i]);
        }
        for (; d < hd; d++)
            for (int i = 0; i < VW; i++) packed[d * TILE_KEYS + j + i] = k[(int64_t)(j + i) * hd + d];
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

/* Brings what is read next nearer: the processor does not see so far over the ends of pages. */
V_INLINE void bring(const void *p, int bytes) {
    for (int b = 0; b < bytes; b += 64) __builtin_prefetch((const char *)p + b, 0, 2);
}

/* A kind of plain numbers: eight of them, and one. Constant wherever a body below is instantiated. */
struct plain {
    int bytes;
    vf (*get)(const uint8_t *p);
    float (*one)(const uint8_t *p);
};

/* score[j] = q . key j, eight keys at a time: one row, straight from the stored keys. */
V_INLINE void score_one(struct plain e, const float *q, const uint8_t *k, int n_key, int hd, float *score) {
    for (int j = 0; j < n_key; j += 8) {
        const uint8_t *key[8];
        vf r[8];
        for (int i = 0; i < 8; i++) key[i] = k + (int64_t)(j + i < n_key ? j + i : n_key - 1) * hd * e.bytes;
        vf s0 = vf_set1(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
        int d = 0;
        for (; d + 8 <= hd; d += 8) {
            vf v = vf_load(q + d);
            s0 = vf_fma(e.get(key[0] + d * e.bytes), v, s0), s1 = vf_fma(e.get(key[1] + d * e.bytes), v, s1);
            s2 = vf_fma(e.get(key[2] + d * e.bytes), v, s2), s3 = vf_fma(e.get(key[3] + d * e.bytes), v, s3);
            s4 = vf_fma(e.get(key[4] + d * e.bytes), v, s4), s5 = vf_fma(e.get(key[5] + d * e.bytes), v, s5);
            s6 = vf_fma(e.get(key[6] + d * e.bytes), v, s6), s7 = vf_fma(e.get(key[7] + d * e.bytes), v, s7);
        }
        r[0] = s0, r[1] = s1, r[2] = s2, r[3] = s3, r[4] = s4, r[5] = s5, r[6] = s6, r[7] = s7;
        float sum[8];
        vf_store(sum, vf_sum8(r));
        for (; d < hd; d++)
            for (int i = 0; i < 8; i++) sum[i] += e.one(key[i] + d * e.bytes) * q[d];
        memcpy(score + j, sum, sizeof sum); /* scores of keys that are not there are overwritten */
    }
}

/* The same for four rows, two keys at a time. */
V_INLINE void score_four(struct plain e, const float *const q[FOUR], const uint8_t *k, int n_key, int hd,
                         float *const score[FOUR]) {
    const float *q0 = q[0], *q1 = q[1], *q2 = q[2], *q3 = q[3];
    for (int j = 0; j < n_key; j += 2) {
        const uint8_t *key = k + (int64_t)j * hd * e.bytes, *next = j + 1 < n_key ? key + hd * e.bytes : key;
        vf r[8];
        vf a0 = vf_set1(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
        int d = 0;
        for (; d + 8 <= hd; d += 8) {
            vf a = e.get(key + d * e.bytes), b = e.get(next + d * e.bytes), v = vf_load(q0 + d);
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
                sum[i] += e.one(key + d * e.bytes) * q[i][d];
                sum[FOUR + i] += e.one(next + d * e.bytes) * q[i][d];
            }
        for (int i = 0; i < FOUR; i++) score[i][j] = sum[i], score[i][j + 1] = sum[FOUR + i];
    }
}

/* o[i][0 .. 16) += the sum over keys of p[i][j] * v[j], for n keys; ld in bytes. */
V_INLINE void weigh_tile(struct plain e, const float *const p[FOUR], const uint8_t *v, int n, int64_t ld,
                         float *const o[FOUR]) {
    const float *p0 = p[0], *p1 = p[1], *p2 = p[2], *p3 = p[3];
    vf a0 = vf_load(o[0]), a1 = vf_load(o[1]), a2 = vf_load(o[2]), a3 = vf_load(o[3]);
    vf b0 = vf_load(o[0] + 8), b1 = vf_load(o[1] + 8), b2 = vf_load(o[2] + 8), b3 = vf_load(o[3] + 8);
    for (int j = 0; j < n; j++, v += ld) {
        vf a = e.get(v), b = e.get(v + 8 * e.bytes), s = vf_set1(p0[j]);
        a0 = vf_fma(a, s, a0), b0 = vf_fma(b, s, b0), s = vf_set1(p1[j]);
        a1 = vf_fma(a, s, a1), b1 = vf_fma(b, s, b1), s = vf_set1(p2[j]);
        a2 = vf_fma(a, s, a2), b2 = vf_fma(b, s, b2), s = vf_set1(p3[j]);
        a3 = vf_fma(a, s, a3), b3 = vf_fma(b, s, b3);
    }
    vf_store(o[0], a0), vf_store(o[0] + 8, b0), vf_store(o[1], a1), vf_store(o[1] + 8, b1);
    vf_store(o[2], a2), vf_store(o[2] + 8, b2), vf_store(o[3], a3), vf_store(o[3] + 8, b3);
}

/* One row: o[0 .. 8 * n_vec) += ..., n_vec at most 8. */
V_INLINE void weigh_one(struct plain e, const float *p, const uint8_t *v, int n, int64_t ld, int n_vec, float *o) {
    for (int d = 0; d < n_vec; d += 4) {
        int e1 = d + 1 < n_vec ? 8 : 0, e2 = d + 2 < n_vec ? 16 : 0, e3 = d + 3 < n_vec ? 24 : 0;
        const uint8_t *at = v + 8 * d * e.bytes;
        float *out = o + 8 * d;
        vf a0 = vf_load(out), a1 = vf_load(out + e1), a2 = vf_load(out + e2), a3 = vf_load(out + e3);
        for (int j = 0; j < n; j++, at += ld) {
            vf s = vf_set1(p[j]);
            a0 = vf_fma(e.get(at), s, a0), a1 = vf_fma(e.get(at + e1 * e.bytes), s, a1);
            a2 = vf_fma(e.get(at + e2 * e.bytes), s, a2), a3 = vf_fma(e.get(at + e3 * e.bytes), s, a3);
        }
        vf_store(out, a0);
        if (e1) vf_store(out + 8, a1);
        if (e2) vf_store(out + 16, a2);
        if (e3) vf_store(out + 24, a3);
    }
}

/* n_q rows of p, keys from .. to; so few keys at a time that their values stay in L1. */
V_INLINE void weigh_plain(struct plain e, const float *p, int n_q, const uint8_t *v, int from, int to, int hd, int hd_v,
                          float *o, int ld_o) {
    const int64_t ld = (int64_t)hd * e.bytes;
    for (int j = from; j < to; j += VALUE_KEYS) {
        int n = to - j < VALUE_KEYS ? to - j : VALUE_KEYS, d = 0;
        const float *pj[FOUR];
        for (int i = 0; i < FOUR; i++) pj[i] = p + (i < n_q ? i : n_q - 1) * SR_KV_PAGE + j;
        const uint8_t *vj = v + j * ld;
        if (n_q > 1)
            for (; d + 16 <= hd_v; d += 16) {
                float *at[FOUR];
                for (int i = 0; i < FOUR; i++) at[i] = o + (i < n_q ? i : n_q - 1) * ld_o + d;
                weigh_tile(e, pj, vj + d * e.bytes, n, ld, at);
            }
        for (int i = 0; i < n_q; i++) {
            weigh_one(e, pj[i], vj + d * e.bytes, n, ld, (hd_v - d) / 8, o + i * ld_o + d);
            for (int c = hd_v / 8 * 8; c < hd_v; c++)
                for (int t = 0; t < n; t++) o[i * ld_o + c] += pj[i][t] * e.one(vj + t * ld + c * e.bytes);
        }
    }
}

V_INLINE void score_plain(struct plain e, const float *const *q, int n_q, const uint8_t *k, int from, int to, int hd,
                          float *score) {
    k += (int64_t)from * hd * e.bytes;
    if (n_q == 1) {
        score_one(e, q[0], k, to - from, hd, score + from);
        return;
    }
    const float *rows[FOUR];
    float *at[FOUR];
    for (int i = 0; i < FOUR; i++)
        rows[i] = q[i < n_q ? i : n_q - 1], at[i] = score + (i < n_q ? i : n_q - 1) * SR_KV_PAGE + from;
    score_four(e, rows, k, to - from, hd, at);
}

V_INLINE void load_plain(struct plain e, const uint8_t *page, int j, int n, int hd, int features, float *out,
                         int64_t ld) {
    for (int t = 0; t < n; t++, out += ld) {
        const uint8_t *x = page + (int64_t)(j + t) * hd * e.bytes;
        int d = 0;
        for (; d + 8 <= features; d += 8) vf_store(out + d, e.get(x + d * e.bytes));
        for (; d < features; d++) out[d] = e.one(x + d * e.bytes);
    }
}

static inline float one_f32(const uint8_t *p) {
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline float one_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return sr_f16_to_f32(h);
}
static inline float one_bf16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return sr_bf16_to_f32(h);
}
static void store_f32(const float *x, int hd, void *page, int j) {
    memcpy((float *)page + (int64_t)j * hd, x, (size_t)hd * sizeof *x);
}
static void store_f16(const float *x, int hd, void *page, int j) {
    uint16_t *to = (uint16_t *)page + (int64_t)j * hd;
    int d = 0;
    for (; d + 8 <= hd; d += 8) vf_to_f16(to + d, vf_load(x + d));
    for (; d < hd; d++) to[d] = sr_f32_to_f16(x[d]);
}
static void store_bf16(const float *x, int hd, void *page, int j) {
    uint16_t *to = (uint16_t *)page + (int64_t)j * hd;
    for (int d = 0; d < hd; d++) to[d] = sr_f32_to_bf16(x[d]);
}

/* The row of a plain kind, whose loads are rows_kern.h's. */
#define PLAIN_BODIES(kind, n)                                                                                          \
    static const struct plain plain_##kind = {n, load_##kind, one_##kind};                                             \
    static void load_rows_##kind(const void *page, int j, int rows, int hd, int features, float *out, int64_t ld) {    \
        load_plain(plain_##kind, page, j, rows, hd, features, out, ld);                                                \
    }                                                                                                                  \
    static void score_##kind(const float *const *q, int n_q, const void *page, int from, int to, int hd,               \
                             float *score) {                                                                           \
        score_plain(plain_##kind, q, n_q, page, from, to, hd, score);                                                  \
    }                                                                                                                  \
    static void weigh_##kind(const float *p, int n_q, const void *page, int from, int to, int hd, int hd_v, float *o,  \
                             int ld_o) {                                                                               \
        weigh_plain(plain_##kind, p, n_q, page, from, to, hd, hd_v, o, ld_o);                                          \
    }
#define PLAIN_ROW(kind, n)                                                                                             \
    {                                                                                                                  \
        .type = {#kind, 1, n}, .store = {store_##kind, store_##kind}, .load = {load_rows_##kind, load_rows_##kind},    \
        .score_few = score_##kind, .weigh_few = weigh_##kind                                                           \
    }
PLAIN_BODIES(f32, 4)
PLAIN_BODIES(f16, 2)
PLAIN_BODIES(bf16, 2)

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
static void weigh_rows(const sr_kv_row *kv, int which, const float *score, int n_q, const void *page, int from, int to,
                       int hd, int hd_v, float *o, int ld_o, float *values) {
    const int whole = hd_v / (2 * VW) * (2 * VW);
    for (int j = from; j < to; j += VALUE_KEYS) {
        const int n = to - j < VALUE_KEYS ? to - j : VALUE_KEYS;
        kv->load[which](page, j, n, hd, hd_v, values, hd_v);
        for (int i = 0; i < n_q; i += TILE_ROWS) {
            const float *p[TILE_ROWS];
            float *out[TILE_ROWS], *at[TILE_ROWS];
            for (int r = 0; r < TILE_ROWS; r++) {
                const int row = i + r < n_q ? i + r : n_q - 1;
                p[r] = score + row * SR_KV_PAGE + j, out[r] = o + (int64_t)row * ld_o;
            }
            for (int d = 0; d < whole; d += 2 * VW) {
                for (int r = 0; r < TILE_ROWS; r++) at[r] = out[r] + d;
                weigh_wide(p, values + d, n, hd_v, at);
            }
            for (int r = 0; r < TILE_ROWS && i + r < n_q; r++)
                for (int t = 0; whole < hd_v && t < n; t++)
                    for (int d = whole; d < hd_v; d++) out[r][d] += p[r][t] * values[t * hd_v + d];
        }
    }
}

/* Scores of all rows with keys from .. to, from a multiple of TILE_KEYS. */
static void score_rows(const sr_kv_row *kv, const float *const *q, int n_q, const void *page, int from, int to,
                       int n_key, int hd, float *score, float *work) {
    float *keys = work + TILE_KEYS * hd;
    for (int j = from; j < to; j += TILE_KEYS) {
        const int n = n_key - j < TILE_KEYS ? n_key - j : TILE_KEYS;
        kv->load[0](page, j, n, hd, hd, keys, hd);
        if (n < TILE_KEYS) memset(keys + n * hd, 0, (size_t)((TILE_KEYS - n) * hd) * sizeof *keys);
        pack_keys(keys, hd, work);
        for (int i = 0; i < n_q; i += TILE_ROWS) {
            const float *rows[TILE_ROWS];
            float *to_row[TILE_ROWS];
            for (int r = 0; r < TILE_ROWS; r++) {
                const int row = i + r < n_q ? i + r : n_q - 1;
                rows[r] = q[row], to_row[r] = score + row * SR_KV_PAGE + j;
            }
            score_tile(rows, work, hd, to_row);
        }
    }
}

#include "cpu/attention_codes_kern.h"

static void attend_page(const sr_kv_row *kv, const float *const *q, int n_q, const void *k, const void *v,
                        const void *next, int n_key, int hd, int hd_v, const int *lo, const int *hi, float cap,
                        float *m, float *s, float *o, int ld_o, float *scratch) {
    float *work = scratch + SR_ATTEND_ROWS * SR_KV_PAGE;
    const bool few = n_q <= SR_FEW_QUERIES;
    int from = n_key, to = 0; /* keys that any row sees */
    for (int i = 0; i < n_q; i++)
        if (lo[i] < hi[i]) {
            from = lo[i] < from ? lo[i] : from;
            to = hi[i] > to ? hi[i] : to;
        }
    if (from >= to) return;
    const int first = from / TILE_KEYS * TILE_KEYS, last = (to + TILE_KEYS - 1) / TILE_KEYS * TILE_KEYS;

    if (kv->score)
        kv->score(scratch, n_q, k, v, first, to, hd, scratch);
    else if (few && kv->score_few)
        kv->score_few(q, n_q, k, first, to, hd, scratch);
    else
        score_rows(kv, q, n_q, k, first, to, n_key, hd, scratch, work);
    for (int r = 0; r < n_q; r++) {
        float *row = scratch + r * SR_KV_PAGE;
        if (lo[r] < hi[r]) softmax_row(row, lo[r], hi[r], cap, &m[r], &s[r], o + (int64_t)r * ld_o, hd_v);
        /* what another sees and this one does not, and what none sees but goes with it */
        for (int j = first; j < last && j < lo[r]; j++) row[j] = 0;
        for (int j = hi[r] > first ? hi[r] : first; j < last; j++) row[j] = 0;
    }
    if (kv->weigh && v)
        kv->weigh(scratch, n_q, v, next, from, to, hd_v, o, ld_o);
    else if (few && kv->weigh_few)
        kv->weigh_few(scratch, n_q, v ? v : k, from, to, v ? hd_v : hd, hd_v, o, ld_o);
    else
        weigh_rows(kv, v != NULL, scratch, n_q, v ? v : k, from, to, v ? hd_v : hd, hd_v, o, ld_o, work);
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

static const sr_kv_row kv_rows[] = {
    PLAIN_ROW(f16, 2), PLAIN_ROW(bf16, 2), CODES_ROW(q8_0, 8), CODES_ROW(q4_0, 4), PLAIN_ROW(f32, 4), {.type = {0}},
};

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
    .kv = kv_rows, .hadamard = hadamard, .attend_page = attend_page
#define SR_FAST_PLAIN                                                                                                  \
    {.format = "f32", .dot_float = dot_f32_rows}, {.format = "f16", .dot_float = dot_f16_rows, .decode = decode_f16},  \
    {                                                                                                                  \
        .format = "bf16", .dot_float = dot_bf16_rows, .decode = decode_bf16                                            \
    }

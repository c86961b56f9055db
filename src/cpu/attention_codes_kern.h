/* Attention over keys and values that are kept as codes, by integer products; part of attention_kern.h.
 *
 * A page of a head: its codes, then its scales, f16 [group][SR_KV_PAGE], a group being 32 features; P features with the
 * padding, which is zero. Lanes are keys where scores are computed, and features where values are added up, so that no
 * sum crosses lanes, and every 32-bit lane holds the four numbers that one integer product adds:
 *
 *   keys, 8 bits     [SR_KV_PAGE / 16][P / 4][16 keys][4 features]   code + 128
 *   keys, 4 bits     [SR_KV_PAGE / 16][P / 8][16 keys][4 bytes]      code + 8; features 8 i + b low, 8 i + 4 + b high
 *   values, 8 bits   [SR_KV_PAGE / 4][P][4 positions]                code, signed
 *   values, 4 bits   [SR_KV_PAGE / 8][P][4 bytes]                    code + 8; positions 8 i + b low, 8 i + 4 + b high
 *
 * What meets them, a query or, for a page and a group, probabilities times the scales of the values, becomes numbers of
 * 14 bits with one scale: value = 128 * high + low, two bytes each. Their rounding is far below that of keys and
 * values, and all sums of integers are exact: the instruction sets differ only in how they add up groups. */

enum { LANES = 16 };

#ifdef V_DOTS
/* CODE_ROWS rows by CODE_VECTORS vectors, high and low each: so many sums stay in registers, and hide their latency. */
enum { HALF = 128, CODE_ROWS = 4, CODE_VECTORS = VW == 16 ? 2 : 1, MOST_Q = 63 * HALF + 63, MOST_P = 127 * HALF + 127 };

/* Numbers in two bytes: [n / VW][2][VW], high and low. */
V_INLINE void put_two(wi v, wi high, uint8_t *to) {
    wi_store_bytes(to, high);
    wi_store_bytes(to + VW, wi_sub(v, wi_shift(high, 7)));
}

/* What `ask` leaves in the scratch. */
struct asked {
    uint8_t *code; /* [row][2 * P] */
    float *scale;  /* [row] */
    int32_t *fix;  /* [row][group]: takes off the bias of the keys */
};
static struct asked asked_in(float *scratch, int hd) {
    const int P = sr_attend_padded(hd);
    struct asked a;
    a.scale = scratch + SR_ATTEND_ROWS * SR_KV_PAGE + SR_KV_PAGE * P;
    a.fix = (int32_t *)(void *)(a.scale + SR_ATTEND_ROWS);
    a.code = (uint8_t *)(a.fix + SR_ATTEND_ROWS * P / SR_KV_GROUP);
    return a;
}
_Static_assert(4 + 4 + 2 * SR_KV_GROUP <= SR_KV_GROUP * 4, "what a group of q becomes fits in its place");

/* Group g of a row of hd features, zeros behind it. */
static const float *group_of(const float *q, int hd, int g, float *copy) {
    const int n = hd - g * SR_KV_GROUP;
    if (n >= SR_KV_GROUP) return q + g * SR_KV_GROUP;
    memset(copy, 0, SR_KV_GROUP * sizeof *copy);
    memcpy(copy, q + g * SR_KV_GROUP, (size_t)n * sizeof *copy);
    return copy;
}

V_INLINE void ask_codes(const int bits, const float *const *q, int n_q, int hd, float *scratch) {
    const int P = sr_attend_padded(hd), groups = P / SR_KV_GROUP;
    struct asked a = asked_in(scratch, hd);
    for (int i = 0; i < n_q; i++, a.code += 2 * P) {
        float copy[SR_KV_GROUP];
        vw top = vw_set1(0), none = top; /* none: 0, or NaN where something is not finite, so that it shows */
        for (int g = 0; g < groups; g++) {
            const float *x = group_of(q[i], hd, g, copy);
            for (int d = 0; d < SR_KV_GROUP; d += VW) {
                const vw v = vw_load(x + d);
                top = vw_max(vw_max(v, vw_sub(vw_set1(0), v)), top);
                none = vw_fma(v, vw_set1(0), none);
            }
        }
        const float most = vw_reduce_max(top), by = most > 0 ? MOST_Q / most : 0;
        a.scale[i] = most / MOST_Q + vw_sum(none);
        for (int g = 0; g < groups; g++) {
            const float *x = group_of(q[i], hd, g, copy);
            wi sum = wi_set1(0);
            for (int d = 0; d < SR_KV_GROUP; d += VW) {
                const wi v = wi_nearest(vw_mul(vw_load(x + d), vw_set1(by)));
                put_two(v, wi_right(wi_add(v, wi_set1(HALF / 2)), 7), a.code + 2 * (g * SR_KV_GROUP + d));
                sum = wi_add(sum, v);
            }
            a.fix[i * groups + g] = -(1 << (bits - 1)) * (int32_t)vw_sum(vw_from_i32(sum)); /* below 2^24: exact */
        }
    }
}

/* h and l += numbers w[row] times codes, n of each, a multiple of VW: vectors of codes lie `apart` bytes from each
 * other, those of the next 32 / bits bytes of a lane `step` bytes on. `keys`: codes are what has no sign. */
V_INLINE void add_products(const int bits, const bool keys, const uint8_t *code, int64_t apart, int64_t step,
                           const uint8_t *const w[CODE_ROWS], int n, wi h[CODE_ROWS][CODE_VECTORS],
                           wi l[CODE_ROWS][CODE_VECTORS]) {
    for (int j = 0; j < 2 * n; j += 2 * VW)
#pragma GCC unroll 4
        for (int i = 0; i < VW; i += 32 / bits, code += step) {
            wi c[CODE_VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < CODE_VECTORS; v++) c[v] = wi_load(code + v * apart);
#pragma GCC unroll 2
            for (int half = 0; half < 8 / bits; half++)
#pragma GCC unroll 4
                for (int r = 0; r < CODE_ROWS; r++) {
                    const wi high = wi_four(w[r] + j + i + 4 * half), low = wi_four(w[r] + j + VW + i + 4 * half);
#pragma GCC unroll 2
                    for (int v = 0; v < CODE_VECTORS; v++) {
                        const wi x = bits == 8 ? c[v] : half ? wi_high4(c[v]) : wi_low4(c[v]);
                        h[r][v] = keys ? wi_dot(h[r][v], x, high) : wi_dot(h[r][v], high, x);
                        l[r][v] = keys ? wi_dot(l[r][v], x, low) : wi_dot(l[r][v], low, x);
                    }
                }
        }
}

/* Scores of CODE_VECTORS * VW keys from j on with rows i .. i+n, n at most CODE_ROWS. */
V_INLINE void score_codes_tile(const int bits, const struct asked *a, int i, int n, const uint8_t *page, int j, int P,
                               float *score) {
    const int groups = P / SR_KV_GROUP;
    const uint8_t *k = page + (int64_t)(j / LANES) * LANES * P * bits / 8 + j % LANES * 4, *w[CODE_ROWS];
    const uint16_t *scale = (const uint16_t *)(const void *)(page + (int64_t)SR_KV_PAGE * P * bits / 8) + j;
    int row[CODE_ROWS];
    vw sum[CODE_ROWS][CODE_VECTORS];
#pragma GCC unroll 4
    for (int r = 0; r < CODE_ROWS; r++) {
        row[r] = r < n ? i + r : i + n - 1;
        w[r] = a->code + (int64_t)row[r] * 2 * P;
#pragma GCC unroll 2
        for (int v = 0; v < CODE_VECTORS; v++) sum[r][v] = vw_set1(0);
    }
    for (int g = 0; g < groups; g++, scale += SR_KV_PAGE, k += (int64_t)SR_KV_GROUP * LANES * bits / 8) {
        wi h[CODE_ROWS][CODE_VECTORS], l[CODE_ROWS][CODE_VECTORS];
#pragma GCC unroll 4
        for (int r = 0; r < CODE_ROWS; r++)
#pragma GCC unroll 2
            for (int v = 0; v < CODE_VECTORS; v++) h[r][v] = wi_set1(0), l[r][v] = wi_set1(a->fix[row[r] * groups + g]);
        add_products(bits, true, k, (int64_t)LANES * P * bits / 8, 4 * LANES, w, SR_KV_GROUP, h, l);
#pragma GCC unroll 4
        for (int r = 0; r < CODE_ROWS; r++) {
            w[r] += 2 * SR_KV_GROUP;
#pragma GCC unroll 2
            for (int v = 0; v < CODE_VECTORS; v++)
                sum[r][v] =
                    vw_fma(vw_from_i32(wi_add(wi_shift(h[r][v], 7), l[r][v])), vw_from_f16(scale + v * VW), sum[r][v]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < CODE_ROWS; r++)
#pragma GCC unroll 2
        for (int v = 0; v < CODE_VECTORS; v++) /* a row that is there twice gets the same twice */
            vw_store(score + row[r] * SR_KV_PAGE + j + v * VW, vw_mul(sum[r][v], vw_set1(a->scale[row[r]])));
}

V_INLINE void score_codes(const int bits, const float *scratch, int n_q, const uint8_t *page, const uint8_t *next,
                          int from, int to, int hd, float *score) {
    const int P = sr_attend_padded(hd), bytes = P * bits / 8 + 2 * P / SR_KV_GROUP; /* of a position */
    const struct asked a = asked_in((float *)scratch, hd);
    for (int i = 0; i < n_q; i += CODE_ROWS)
        for (int j = from; j < to; j += CODE_VECTORS * VW) {
            if (next && i == 0) bring(next + (int64_t)j * bytes, CODE_VECTORS * VW * bytes);
            score_codes_tile(bits, &a, i, n_q - i < CODE_ROWS ? n_q - i : CODE_ROWS, page, j, P, score);
        }
}

/* A row's p times the scales of one group of values, positions from .. to, multiples of LANES, as code [2 * (to -
 * from)]. Gives their sum. */
static int32_t weights_of(const float *p, const float *scale, int from, int to, uint8_t *code, float *step) {
    vw top = vw_set1(0);
    for (int j = from; j < to; j += VW) top = vw_max(vw_mul(vw_load(p + j), vw_load(scale + j)), top);
    const float most = vw_reduce_max(top);
    const vw by = vw_set1(most > 0 ? MOST_P / most : 0);
    wi sum = wi_set1(0);
    for (int j = from; j < to; j += VW, code += 2 * VW) {
        const wi v = wi_nearest(vw_mul(vw_mul(vw_load(p + j), vw_load(scale + j)), by));
        put_two(v, wi_right(v, 7), code);
        sum = wi_add(sum, v);
    }
    *step = most / MOST_P;
    return (int32_t)vw_sum(vw_from_i32(sum)); /* below 2^24: exact */
}

V_INLINE void weigh_codes(const int bits, const float *p, int n_q, const uint8_t *page, const uint8_t *next, int from,
                          int to, int hd, float *o, int ld_o) {
    const int P = sr_attend_padded(hd), groups = P / SR_KV_GROUP,
              share = SR_KV_PAGE * (P * bits / 8 + 2 * groups) / groups;
    const uint16_t *stored = (const uint16_t *)(const void *)(page + (int64_t)SR_KV_PAGE * P * bits / 8);
    const int begin = from / LANES * LANES, end = (to + LANES - 1) / LANES * LANES, bias = bits == 8 ? 0 : 8;
    for (int g = 0; g < groups; g++, stored += SR_KV_PAGE) {
        float scale[SR_KV_PAGE], none = 0; /* NaN where a scale is, so that it shows */
        for (int j = begin; j < end; j += VW) vw_store(scale + j, vw_from_f16(stored + j));
        for (int j = begin; j < from; j++) scale[j] = 0;
        for (int j = to; j < end; j++) scale[j] = 0;
        for (int j = from; j < to; j++) none += 0 * scale[j];
        if (next) bring(next + (int64_t)g * share, share);
        for (int i = 0; i < n_q; i += CODE_ROWS) {
            uint8_t code[CODE_ROWS][2 * SR_KV_PAGE];
            const uint8_t *w[CODE_ROWS];
            float step[CODE_ROWS];
            int32_t sum[CODE_ROWS];
            const int n = n_q - i < CODE_ROWS ? n_q - i : CODE_ROWS;
            for (int r = 0; r < CODE_ROWS; r++) {
                w[r] = code[r < n ? r : n - 1];
                if (r < n) sum[r] = weights_of(p + (i + r) * SR_KV_PAGE, scale, begin, end, code[r], &step[r]);
            }
            for (int d = g * SR_KV_GROUP; d < (g + 1) * SR_KV_GROUP; d += CODE_VECTORS * VW) {
                wi h[CODE_ROWS][CODE_VECTORS], l[CODE_ROWS][CODE_VECTORS];
#pragma GCC unroll 4
                for (int r = 0; r < CODE_ROWS; r++)
#pragma GCC unroll 2
                    for (int v = 0; v < CODE_VECTORS; v++)
                        h[r][v] = wi_set1(0), l[r][v] = wi_set1(r < n ? -bias * sum[r] : 0);
                add_products(bits, false, page + (int64_t)begin * P * bits / 8 + 4 * d, 4 * VW, 4 * P, w, end - begin,
                             h, l);
#pragma GCC unroll 4
                for (int r = 0; r < CODE_ROWS; r++)
#pragma GCC unroll 2
                    for (int v = 0; v < CODE_VECTORS && r < n; v++) {
                        float *at = o + (int64_t)(i + r) * ld_o + d + v * VW;
                        const vw x = vw_from_i32(wi_add(wi_shift(h[r][v], 7), l[r][v]));
                        vw_store(at, vw_fma(x, vw_set1(step[r] + none), vw_load(at)));
                    }
            }
        }
    }
}

#define CODES_PRODUCTS(kind, bits)                                                                                     \
    static void ask_##kind(const float *const *q, int n_q, int hd, float *scratch) {                                   \
        ask_codes(bits, q, n_q, hd, scratch);                                                                          \
    }                                                                                                                  \
    static void score_##kind(const float *scratch, int n_q, const void *page, const void *next, int from, int to,      \
                             int hd, float *score) {                                                                   \
        score_codes(bits, scratch, n_q, page, next, from, to, hd, score);                                              \
    }                                                                                                                  \
    static void weigh_##kind(const float *p, int n_q, const void *page, const void *next, int from, int to, int hd,    \
                             float *o, int ld_o) {                                                                     \
        weigh_codes(bits, p, n_q, page, next, from, to, hd, o, ld_o);                                                  \
    }
#define CODES_SLOTS(kind) .ask = ask_##kind, .score = score_##kind, .weigh = weigh_##kind,
CODES_PRODUCTS(q8_0, 8)
CODES_PRODUCTS(q4_0, 4)
#else
#define CODES_SLOTS(kind)
#endif

/* ---- storing and loading ---- */

/* 32 features to codes of -127 .. 127: one step is the largest magnitude / 127, as f16. */
static uint16_t round_q8_0(const float *x, bool value, int8_t *code) {
    float most = 0;
    (void)value;
    bool fine = true;
    for (int d = 0; d < SR_KV_GROUP; d++) {
        most = fabsf(x[d]) > most ? fabsf(x[d]) : most;
        fine = fine && fabsf(x[d]) <= FLT_MAX;
    }
    const uint16_t scale = sr_f32_to_f16(fine ? most / 127 : NAN);
    const float step = sr_f16_to_f32(scale), by = step > 0 ? 1 / step : 0;
    for (int d = 0; d < SR_KV_GROUP; d++) {
        const float c = fine ? x[d] * by : 0;
        code[d] = (int8_t)(c < -127 ? -127 : c > 127 ? 127 : (int)(c + 12582912.0f - 12582912.0f));
    }
    return scale;
}

/* 32 features to codes of -8 .. 7, by that step of a few which leaves the least squared error. A key's step may be
 * negative, so that the feature of largest magnitude is near -8; a value's is not, since weights have no sign. */
static uint16_t round_q4_0(const float *x, bool value, int8_t *code) {
    enum { TRIES = 8 };
    float most = 0, least = INFINITY;
    bool fine = true;
    for (int d = 0; d < SR_KV_GROUP; d++) {
        most = fabsf(x[d]) > fabsf(most) ? x[d] : most;
        fine = fine && fabsf(x[d]) <= FLT_MAX;
    }
    uint16_t best = sr_f32_to_f16(fine ? 0 : NAN);
    memset(code, 0, SR_KV_GROUP);
    for (int t = 0; t < TRIES && fine && most != 0; t++) {
        const uint16_t scale = sr_f32_to_f16((value ? -fabsf(most) : most) / (0.35f * (float)t - 8.75f));
        const float step = sr_f16_to_f32(scale), by = step != 0 ? 1 / step : 0;
        float sum = 0, c[SR_KV_GROUP];
        for (int d = 0; d < SR_KV_GROUP; d++) {
            const float v = x[d] * by < -8 ? -8 : x[d] * by > 7 ? 7 : x[d] * by;
            c[d] = v + 12582912.0f - 12582912.0f;
            sum += (x[d] - step * c[d]) * (x[d] - step * c[d]);
        }
        if (!(sum < least)) continue;
        least = sum, best = scale;
        for (int d = 0; d < SR_KV_GROUP; d++) code[d] = (int8_t)c[d];
    }
    return best;
}

/* Where the code of feature d of position j lies: a byte, and how far its bits are to the left there. */
static inline int64_t code_at(int bits, bool value, int P, int j, int d, int *left) {
    *left = bits == 8 ? 0 : value ? j % 8 / 4 * 4 : d % 8 / 4 * 4;
    if (value) return bits == 8 ? (int64_t)(j / 4 * P + d) * 4 + j % 4 : (int64_t)(j / 8 * P + d) * 4 + j % 4;
    const int fours = bits == 8 ? d / 4 : d / 8;
    return (int64_t)(j / LANES) * LANES * P * bits / 8 + (fours * LANES + j % LANES) * 4 + d % 4;
}

V_INLINE void store_codes(const int bits, const bool value, const float *x, int hd, uint8_t *page, int j) {
    const int P = sr_attend_padded(hd), bias = bits == 4 ? 8 : value ? 0 : 128;
    uint16_t *scale = (uint16_t *)(void *)(page + (int64_t)SR_KV_PAGE * P * bits / 8) + j;
    for (int g = 0; g < P / SR_KV_GROUP; g++) {
        float part[SR_KV_GROUP] = {0};
        int8_t code[SR_KV_GROUP];
        const int n = hd - g * SR_KV_GROUP < SR_KV_GROUP ? hd - g * SR_KV_GROUP : SR_KV_GROUP;
        memcpy(part, x + g * SR_KV_GROUP, (size_t)n * sizeof *part);
        scale[g * SR_KV_PAGE] = (bits == 8 ? round_q8_0 : round_q4_0)(part, value, code);
        for (int d = 0; d < SR_KV_GROUP; d++) {
            int left;
            uint8_t *at = page + code_at(bits, value, P, j, g * SR_KV_GROUP + d, &left);
            const int kept = bits == 8 ? 0 : *at & (0xf0 >> left);
            *at = (uint8_t)(kept | ((code[d] + bias) & ((1 << bits) - 1)) << left);
        }
    }
}

V_INLINE void load_codes(const int bits, const bool value, const uint8_t *page, int j, int n, int hd, int features,
                         float *out, int64_t ld) {
    const int P = sr_attend_padded(hd), bias = bits == 4 ? 8 : value ? 0 : 128;
    const uint16_t *scale = (const uint16_t *)(const void *)(page + (int64_t)SR_KV_PAGE * P * bits / 8);
    for (int t = j; t < j + n; t++, out += ld)
        for (int g = 0; g * SR_KV_GROUP < features; g++) {
            const float step = sr_f16_to_f32(scale[g * SR_KV_PAGE + t]);
            const int end = (g + 1) * SR_KV_GROUP < features ? (g + 1) * SR_KV_GROUP : features;
            for (int d = g * SR_KV_GROUP; d < end; d++) {
                int left;
                const int c = page[code_at(bits, value, P, t, d, &left)] >> left & ((1 << bits) - 1);
                out[d] = step * (float)(bits == 8 && value ? (int8_t)c : c - bias);
            }
        }
}

#define CODES_BODIES(kind, bits)                                                                                       \
    static void store_key_##kind(const float *x, int hd, void *page, int j) {                                          \
        store_codes(bits, false, x, hd, page, j);                                                                      \
    }                                                                                                                  \
    static void store_value_##kind(const float *x, int hd, void *page, int j) {                                        \
        store_codes(bits, true, x, hd, page, j);                                                                       \
    }                                                                                                                  \
    static void load_keys_##kind(const void *page, int j, int n, int hd, int features, float *out, int64_t ld) {       \
        load_codes(bits, false, page, j, n, hd, features, out, ld);                                                    \
    }                                                                                                                  \
    static void load_values_##kind(const void *page, int j, int n, int hd, int features, float *out, int64_t ld) {     \
        load_codes(bits, true, page, j, n, hd, features, out, ld);                                                     \
    }
#define CODES_ROW(kind, bits)                                                                                          \
    {                                                                                                                  \
        .type = {#kind, SR_KV_GROUP, SR_KV_GROUP * bits / 8 + 2}, .rotated = true, .code_bits = bits,                  \
        CODES_SLOTS(kind).store = {store_key_##kind, store_value_##kind}, .load = {                                    \
            load_keys_##kind,                                                                                          \
            load_values_##kind                                                                                         \
        }                                                                                                              \
    }
CODES_BODIES(q8_0, 8)
CODES_BODIES(q4_0, 4)

/* ---- rotation ---- */

/* Of 64 features: over the eights, then, turned, over what is in each of them. */
static void hadamard64(float *x) {
    vf r[8];
    for (int i = 0; i < 8; i++) r[i] = vf_load(x + 8 * i);
    for (int turn = 0; turn < 2; turn++) {
        for (int half = 1; half < 8; half *= 2)
            for (int i = 0; i < 8; i++)
                if (!(i & half)) {
                    const vf a = r[i], b = r[i + half];
                    r[i] = vf_add(a, b), r[i + half] = vf_sub(a, b);
                }
        vf_transpose8(r);
    }
    for (int i = 0; i < 8; i++) vf_store(x + 8 * i, r[i]);
}

static void hadamard(float *x, int n, int block) {
    for (int b = 0; b < n; b += block) {
        float *at = x + b;
        for (int i = 0; block >= 64 && i < block; i += 64) hadamard64(at + i);
        for (int half = block >= 64 ? 64 : 1; half < block; half *= 2)
            for (int i = 0; i < block; i++)
                if (!(i & half)) {
                    const float u = at[i], v = at[i + half];
                    at[i] = u + v, at[i + half] = u - v;
                }
    }
    const float scale = 1 / sqrtf((float)block);
    for (int i = 0; i < n; i++) x[i] *= scale;
}

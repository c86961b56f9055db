/* Reading: every row of the format table against golden blocks, against a derivation of its own, and at the edges. */
#define _DEFAULT_SOURCE /* mkstemps, MAP_ANONYMOUS */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/half.h"
#include "base/map.h"
#include "fmt/fmt.h"
#include "gguf_iq_layout.h"
#include "guard.h"
#include "noise.h"
#include "results.h"
#include "support.h"
#include "written.h"

/* <name>.bin of tests/vectors/gguf or ggml; NULL when the type has none. Owned by the caller. */
static uint8_t *read_vectors(const char *name, size_t *n) {
    static const char *const dirs[] = {"gguf", "ggml"};
    enum { CAP = 1 << 20 };
    char path[512];
    FILE *f = NULL;
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs && !f; i++) {
        snprintf(path, sizeof path, "%s/tests/vectors/%s/%s.bin", SR_SOURCE_DIR, dirs[i], name);
        f = fopen(path, "rb");
    }
    if (!f) return NULL;
    uint8_t *data = malloc(CAP);
    *n = fread(data, 1, CAP, f);
    fclose(f);
    return data;
}

static uint32_t u32_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static uint16_t u16_at(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

/* A weight of N rows over bytes that belong to somebody else. */
static sr_weight weight_over(const sr_format *fmt, int64_t N, int64_t K, uint8_t *data) {
    const sr_stored *type = sr_stored_by_name(fmt->name);
    sr_weight w = {.fmt = fmt, .N = N, .K = K, .group = fmt->group, .tile = fmt->tile};
    w.plane[0].data = data;
    w.plane[0].stride = K / type->block * type->bytes;
    w.plane[0].bytes = N * w.plane[0].stride;
    return w;
}
static int64_t row_bytes(const sr_format *fmt, int64_t K) {
    const sr_stored *type = sr_stored_by_name(fmt->name);
    return K / type->block * type->bytes;
}
static bool same_bits(float a, float b) {
    return sr_bits_from_f32(a) == sr_bits_from_f32(b) || (a != a && b != b);
}

/* What a config has to describe has its own test (checkpoints_test.c): rows with a method are passed over here. */

static void decode_gives_the_golden_values_to_the_bit(void **state) {
    (void)state;
    int seen = 0;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (fmt->spec.method) continue;
        size_t n;
        uint8_t *file = read_vectors(fmt->name, &n);
        if (!file) continue;
        seen++;
        uint32_t blocks = u32_at(file), bytes = u32_at(file + 4), elems = u32_at(file + 8);
        assert_int_equal(elems, fmt->block);
        assert_int_equal(n, 12 + (size_t)blocks * (bytes + 4 * elems));
        assert_int_equal(bytes, row_bytes(fmt, fmt->block));
        sr_weight w = weight_over(fmt, 1, (int64_t)blocks * elems, file + 12);
        float *got = malloc(sizeof *got * (size_t)w.K);
        fmt->decode(&w, 0, 0, w.K, got);
        const uint8_t *want = file + 12 + (size_t)blocks * bytes;
        for (int64_t i = 0; i < w.K; i++)
            if (sr_bits_from_f32(got[i]) != u32_at(want + 4 * i))
                fail_msg("%s block %d element %d: got %a, want %a", fmt->name, (int)(i / elems), (int)(i % elems),
                         (double)got[i], (double)sr_f32_from_bits(u32_at(want + 4 * i)));
        record("blocks\t%s\t%d", fmt->name, (int)blocks);
        free(got);
        free(file);
    }
    assert_true(seen >= 38);
}

/* ---- element e of a block once more, straight from the description of the layout, in double ---- */

static double half_at(const uint8_t *p) {
    return (double)sr_f16_to_f32(u16_at(p));
}
/* Bit i of a little-endian bit string. */
static int bit(const uint8_t *p, int i) {
    return p[i / 8] >> i % 8 & 1;
}
static int nibble(const uint8_t *qs, int e) {
    return e < 16 ? qs[e] & 15 : qs[e - 16] >> 4;
}
static double q4_0(const uint8_t *b, int e) {
    return half_at(b) * (nibble(b + 2, e) - 8);
}
static double q4_1(const uint8_t *b, int e) {
    return half_at(b) * nibble(b + 4, e) + half_at(b + 2);
}
static double q5_0(const uint8_t *b, int e) {
    return half_at(b) * (nibble(b + 6, e) + 16 * bit(b + 2, e) - 16);
}
static double q5_1(const uint8_t *b, int e) {
    return half_at(b) * (nibble(b + 8, e) + 16 * bit(b + 4, e)) + half_at(b + 2);
}
static double q8_0(const uint8_t *b, int e) {
    return half_at(b) * (int8_t)b[2 + e];
}
static double q8_1(const uint8_t *b, int e) {
    return half_at(b) * (int8_t)b[4 + e];
}
/* Two-bit code of Q2_K and Q3_K: four layers of 32 elements lie in each 32 bytes. */
static int two_bits(const uint8_t *qs, int e) {
    int byte = e / 128 * 32 + e % 32, layer = e % 128 / 32;
    return bit(qs + byte, 2 * layer) + 2 * bit(qs + byte, 2 * layer + 1);
}
static double q2_k(const uint8_t *b, int e) {
    int s = b[e / 16];
    return half_at(b + 80) * (s % 16) * two_bits(b + 16, e) - half_at(b + 82) * (s / 16);
}
static double q3_k(const uint8_t *b, int e) {
    int j = e / 16, low = j < 8 ? b[96 + j] % 16 : b[96 + j - 8] / 16;
    int high = bit(b + 104 + j % 4, j / 4 * 2) + 2 * bit(b + 104 + j % 4, j / 4 * 2 + 1);
    int q = two_bits(b + 32, e) - (bit(b + e % 32, e / 32) ? 0 : 4);
    return half_at(b + 108) * (low + 16 * high - 32) * q;
}
static void k4(const uint8_t *s, int j, int *sc, int *mn) {
    if (j < 4) {
        *sc = s[j] % 64;
        *mn = s[j + 4] % 64;
    } else {
        *sc = s[j + 4] % 16 + s[j - 4] / 64 * 16;
        *mn = s[j + 4] / 16 + s[j] / 64 * 16;
    }
}
static int k4_nibble(const uint8_t *qs, int e) {
    int byte = qs[e / 64 * 32 + e % 32];
    return e % 64 < 32 ? byte % 16 : byte / 16;
}
static double q4_k(const uint8_t *b, int e) {
    int sc, mn;
    k4(b + 4, e / 32, &sc, &mn);
    return half_at(b) * sc * k4_nibble(b + 16, e) - half_at(b + 2) * mn;
}
static double q5_k(const uint8_t *b, int e) {
    int sc, mn;
    k4(b + 4, e / 32, &sc, &mn);
    return half_at(b) * sc * (k4_nibble(b + 48, e) + 16 * bit(b + 16 + e % 32, e / 32)) - half_at(b + 2) * mn;
}
static double q6_k(const uint8_t *b, int e) {
    int half = e / 128, k = e % 128 / 32, l = e % 32, byte = b[64 * half + 32 * (k & 1) + l];
    int q = (k < 2 ? byte % 16 : byte / 16) + 16 * (b[128 + 32 * half + l] / (1 << 2 * k) % 4) - 32;
    return half_at(b + 208) * (int8_t)b[192 + e / 16] * q;
}
static double q8_k(const uint8_t *b, int e) {
    return (double)sr_f32_from_bits(u32_at(b)) * (int8_t)b[4 + e];
}
/* Before GGUF. A product with an f32 factor is rounded before m is added. */
static double single_at(const uint8_t *p) {
    return (double)sr_f32_from_bits(u32_at(p));
}
static double times_plus(double d, int q, double m) {
    float product = (float)(d * q);
    return (double)(product + (float)m);
}
static int adjacent(const uint8_t *qs, int e) {
    return e % 2 ? qs[e / 2] >> 4 : qs[e / 2] & 15;
}
static double q4_0_v1(const uint8_t *b, int e) {
    return single_at(b) * (adjacent(b + 4, e) - 8);
}
static double q4_1_v1(const uint8_t *b, int e) {
    return times_plus(single_at(b), adjacent(b + 8, e), single_at(b + 4));
}
static double q4_2(const uint8_t *b, int e) {
    return half_at(b) * (adjacent(b + 2, e) - 8);
}
static double q4_3(const uint8_t *b, int e) {
    return times_plus(half_at(b), adjacent(b + 4, e), half_at(b + 2));
}
static double q5_0_v1(const uint8_t *b, int e) {
    return half_at(b) * (adjacent(b + 6, e) + 16 * bit(b + 2, e) - 16);
}
static double q5_1_v1(const uint8_t *b, int e) {
    return times_plus(half_at(b), adjacent(b + 8, e) + 16 * bit(b + 4, e), half_at(b + 2));
}
static double q8_0_v1(const uint8_t *b, int e) {
    return single_at(b) * (int8_t)b[4 + e];
}
static double f8q8(const uint8_t *b, int e) {
    int x = b[0] >> 3 & 15, m = b[0] & 7;
    double d = x == 15 && m == 7 ? NAN : x ? ldexp(8 + m, x - 10) : ldexp(m, -9);
    float scale = (float)((b[0] & 0x80 ? -d : d) / 448);
    return (double)scale * (int8_t)b[1 + e];
}
static double q4_0_v2(const uint8_t *b, int e) {
    return single_at(b) * (nibble(b + 4, e) - 8);
}
static double q4_1_v2(const uint8_t *b, int e) {
    return times_plus(single_at(b), nibble(b + 8, e), single_at(b + 4));
}
static double f32(const uint8_t *b, int e) {
    (void)e;
    return (double)sr_f32_from_bits(u32_at(b));
}
static double f16(const uint8_t *b, int e) {
    (void)e;
    int sign = b[1] >> 7, exponent = b[1] >> 2 & 31, m = (b[1] & 3) * 256 + b[0];
    double v = exponent == 31 ? (m ? NAN : INFINITY) : exponent ? ldexp(1024 + m, exponent - 25) : ldexp(m, -24);
    return sign ? -v : v;
}
static double bf16(const uint8_t *b, int e) {
    (void)e;
    return (double)sr_f32_from_bits((uint32_t)u16_at(b) << 16);
}

static const struct derivation {
    const char *name;
    double (*element)(const uint8_t *block, int e);
} derivations[] = {
    {"f32", f32},         {"f16", f16},         {"bf16", bf16},       {"q4_0", q4_0},       {"q4_1", q4_1},
    {"q5_0", q5_0},       {"q5_1", q5_1},       {"q8_0", q8_0},       {"q8_1", q8_1},       {"q2_k", q2_k},
    {"q3_k", q3_k},       {"q4_k", q4_k},       {"q5_k", q5_k},       {"q6_k", q6_k},       {"q8_k", q8_k},
    {"q4_0_v1", q4_0_v1}, {"q4_1_v1", q4_1_v1}, {"q4_2", q4_2},       {"q4_3", q4_3},       {"q5_0_v1", q5_0_v1},
    {"q5_1_v1", q5_1_v1}, {"q8_0_v1", q8_0_v1}, {"q4_0_v2", q4_0_v2}, {"q4_1_v2", q4_1_v2}, {"iq1_s", iq1_s},
    {"iq1_m", iq1_m},     {"iq2_xxs", iq2_xxs}, {"iq2_xs", iq2_xs},   {"iq2_s", iq2_s},     {"iq3_xxs", iq3_xxs},
    {"iq3_s", iq3_s},     {"iq4_nl", iq4_nl},   {"iq4_xs", iq4_xs},   {"tq1_0", tq1_0},     {"tq2_0", tq2_0},
    {"q1_0", q1_0},       {"q2_0", q2_0},       {"mxfp4", mxfp4},     {"nvfp4", nvfp4},     {"f8q8", f8q8},
};

static void decode_of_random_blocks_equals_the_layout_read_element_by_element(void **state) {
    (void)state;
    enum { BLOCKS = 2000 };
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (fmt->spec.method) continue;
        const struct derivation *want = NULL;
        for (size_t i = 0; i < sizeof derivations / sizeof *derivations; i++)
            if (!strcmp(derivations[i].name, fmt->name)) want = &derivations[i];
        if (!want) fail_msg("%s has no derivation in this test", fmt->name);
        noise r = {77u + (unsigned)f};
        size_t bytes = (size_t)row_bytes(fmt, fmt->block), n = bytes * BLOCKS;
        uint8_t *data = malloc(n);
        float *got = malloc(sizeof *got * fmt->block * BLOCKS);
        for (size_t i = 0; i < n; i++) data[i] = (uint8_t)noise_below(&r, 256);
        sr_weight w = weight_over(fmt, 1, (int64_t)fmt->block * BLOCKS, data);
        fmt->decode(&w, 0, 0, w.K, got);
        for (int b = 0; b < BLOCKS; b++)
            for (int e = 0; e < fmt->block; e++) {
                float v = got[b * fmt->block + e], x = (float)want->element(data + bytes * (size_t)b, e);
                if (!(v == x || (v != v && x != x)))
                    fail_msg("%s block %d element %d: got %a, want %a", fmt->name, b, e, (double)v, (double)x);
            }
        free(got);
        free(data);
    }
}

static void decode_of_a_part_of_a_row_equals_that_part_of_the_row(void **state) {
    (void)state;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (fmt->spec.method) continue;
        enum { N = 3, BLOCKS = 5 };
        int64_t K = BLOCKS * fmt->block;
        noise r = {5};
        uint8_t *data = malloc((size_t)(N * row_bytes(fmt, K)));
        for (int64_t i = 0; i < N * row_bytes(fmt, K); i++) data[i] = (uint8_t)noise_below(&r, 256);
        sr_weight w = weight_over(fmt, N, K, data);
        float *whole = malloc(sizeof *whole * (size_t)K), *part = malloc(sizeof *part * (size_t)K);
        for (int row = 0; row < N; row++) {
            fmt->decode(&w, row, 0, K, whole);
            for (int b = 0; b < BLOCKS; b++)
                for (int m = 1; b + m <= BLOCKS; m++) {
                    fmt->decode(&w, row, b * fmt->block, m * fmt->block, part);
                    for (int i = 0; i < m * fmt->block; i++) assert_true(same_bits(part[i], whole[b * fmt->block + i]));
                }
        }
        free(whole);
        free(part);
        free(data);
    }
}

static void unpack_times_scale_minus_min_is_decode(void **state) {
    (void)state;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (fmt->spec.method) continue;
        if (fmt->tile != SR_TILE_I8) continue;
        enum { COLUMNS = 1024 };
        noise r = {9};
        uint8_t *data = malloc((size_t)row_bytes(fmt, COLUMNS));
        for (int64_t i = 0; i < row_bytes(fmt, COLUMNS); i++) data[i] = (uint8_t)noise_below(&r, 256);
        sr_weight w = weight_over(fmt, 1, COLUMNS, data);
        static int8_t code[COLUMNS];
        float scale[COLUMNS / 16], min[COLUMNS / 16], want[COLUMNS];
        fmt->unpack(&w, 0, 0, COLUMNS, code, scale, min);
        fmt->decode(&w, 0, 0, COLUMNS, want);
        for (int i = 0; i < COLUMNS; i++) {
            float v = scale[i / fmt->group] * (float)code[i];
            if (fmt->has_min) v -= min[i / fmt->group];
            assert_true(same_bits(v, want[i]));
        }
        free(data);
    }
}

/* Every slot that reads, on rows that end at a guard page, writing to buffers that end at one. */
static void reading_stays_inside_the_row_and_the_buffers(void **state) {
    (void)state;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (fmt->spec.method) continue;
        for (int blocks = 1; blocks <= 4; blocks++) {
            int64_t K = blocks * fmt->block;
            guard plane = guard_alloc((size_t)(2 * row_bytes(fmt, K))), out = guard_alloc((size_t)K * 4);
            noise r = {(uint64_t)K};
            for (int64_t i = 0; i < 2 * row_bytes(fmt, K); i++) plane.at[i] = (uint8_t)noise_below(&r, 256);
            sr_weight w = weight_over(fmt, 2, K, plane.at);
            for (int row = 0; row < 2; row++) fmt->decode(&w, row, 0, K, (float *)(void *)out.at);
            if (fmt->tile == SR_TILE_I8) {
                size_t groups = (size_t)(K / fmt->group);
                guard code = guard_alloc((size_t)K), scale = guard_alloc(4 * groups), min = guard_alloc(4 * groups);
                fmt->unpack(&w, 1, 0, K, (int8_t *)code.at, (float *)(void *)scale.at, (float *)(void *)min.at);
                guard_free(code);
                guard_free(scale);
                guard_free(min);
                size_t padded = (size_t)(K + SR_KC - 1) / SR_KC * SR_KC;
                size_t n_scales = (size_t)(K + sr_panel_group(&w) - 1) / (size_t)sr_panel_group(&w);
                code = guard_alloc(padded), scale = guard_alloc(4 * n_scales), min = guard_alloc(4 * n_scales);
                sr_panel_row(&w, 1, 0, K, (int8_t *)code.at, (float *)(void *)scale.at, (float *)(void *)min.at);
                for (size_t i = (size_t)K; i < padded; i++) assert_int_equal(code.at[i], 0);
                guard_free(code);
                guard_free(scale);
                guard_free(min);
            }
            guard_free(plane);
            guard_free(out);
        }
    }
}

static void panel_is_within_its_stated_distance_of_decode(void **state) {
    (void)state;
    enum { N = 64, K = 768 };
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (fmt->spec.method) continue;
        /* normal rows need an encoder; the panels of types that are only read are bounded by the next test */
        if (fmt->tile != SR_TILE_I8 || !sr_format_writable(fmt)) continue;
        noise r = {21};
        sr_arena arena = {0};
        sr_weight w;
        static float src[N * K];
        for (int i = 0; i < N * K; i++) src[i] = noise_normal(&r);
        assert_int_equal(sr_weight_create(fmt, N, K, NULL, &arena, &w, NULL), SR_OK);
        if (!write_weight(&w, src, 0, NULL, 1)) sr_weight_sample(&w, 5);
        double error = 0, power = 0;
        for (int row = 0; row < N; row++) {
            int8_t code[K];
            float scale[K / 16], min[K / 16], want[K];
            sr_panel_row(&w, row, 0, K, code, scale, min);
            fmt->decode(&w, row, 0, K, want);
            for (int i = 0; i < K; i++) {
                float v = scale[i / sr_panel_group(&w)] * (float)code[i];
                if (sr_panel_has_min(&w)) v -= min[i / sr_panel_group(&w)];
                if (fmt->panel_err == 0) assert_true(v == want[i]);
                error += ((double)v - want[i]) * ((double)v - want[i]);
                power += (double)want[i] * want[i];
            }
        }
        if (sqrt(error / power) > (double)fmt->panel_err)
            fail_msg("%s: panel differs from decode by %g, stated %g", fmt->name, sqrt(error / power),
                     (double)fmt->panel_err);
        sr_arena_free(&arena);
    }
}

/* Of a step: half, and what tables made of integers round before. */
static float most_of_a_step(const sr_format *fmt) {
    if (strcmp(fmt->name, "q4_k") == 0) return 0.5001f + 16.0f / 512;
    if (strcmp(fmt->name, "iq4_xs") == 0) return 0.5001f + 127.0f / 65536;
    return 0.5001f;
}

/* Any bytes: finite blocks within half a step of their scale, which reaches not much further than they do; blocks that
 * are not finite not finite. */
static void panel_of_any_bytes_is_near_decode_or_not_finite_like_it(void **state) {
    (void)state;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (fmt->spec.method) continue;
        if (fmt->tile != SR_TILE_I8) continue;
        noise r = {34};
        uint8_t *data = malloc((size_t)row_bytes(fmt, SR_KC));
        for (int pass = 0; pass < 3000; pass++) {
            for (int64_t i = 0; i < row_bytes(fmt, SR_KC); i++) data[i] = (uint8_t)noise_below(&r, 256);
            sr_weight w = weight_over(fmt, 1, SR_KC, data);
            int8_t code[SR_KC];
            float scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS], want[SR_KC], max = 0;
            fmt->decode(&w, 0, 0, SR_KC, want);
            sr_panel_row(&w, 0, 0, SR_KC, code, scale, min);
            bool finite = true;
            for (int i = 0; i < SR_KC; i++) {
                finite = finite && isfinite(want[i]);
                max = fabsf(want[i]) > max ? fabsf(want[i]) : max;
            }
            for (int i = 0; i < SR_KC; i++) {
                const float step = scale[i / sr_panel_group(&w)];
                float v = step * (float)code[i];
                if (sr_panel_has_min(&w)) v -= min[i / sr_panel_group(&w)];
                const float most = max / 127 < fabsf(step) ? max / 127 * 1.5f : fabsf(step);
                if (finite && !(fabsf(v - want[i]) <= most_of_a_step(fmt) * most))
                    fail_msg("%s pass %d element %d: got %a, want %a", fmt->name, pass, i, (double)v, (double)want[i]);
                if (!isfinite(want[i])) assert_true(!isfinite(v));
            }
        }
        free(data);
    }
}

/* ---------------------------------------------------------------- the table */

static void every_row_is_complete_and_its_names_resolve(void **state) {
    (void)state;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        const sr_stored *type = sr_stored_by_name(fmt->name);
        assert_true(fmt->claim && fmt->layout && fmt->decode && fmt->block && fmt->lane);
        assert_ptr_equal(sr_format_by_name(fmt->name), fmt);
        if (fmt->alias) assert_ptr_equal(sr_format_by_name(fmt->alias), fmt);
        if (fmt->promote) assert_non_null(sr_format_by_name(fmt->promote));
        for (int i = 0; i < 2; i++)
            if (fmt->fallback[i]) {
                const sr_format *to = sr_format_by_name(fmt->fallback[i]);
                assert_non_null(to);
                assert_true(to->block < fmt->block && sr_format_writable(to));
            }
        if (type) assert_int_equal(type->block, fmt->block);
        assert_true(!fmt->fit == !fmt->snap && !fmt->fit == !fmt->store);
        if (fmt->tile == SR_TILE_I8) assert_true(fmt->unpack && (fmt->spec.method || fmt->block % fmt->group == 0));
        assert_true(!fmt->spec.method || fmt->spec.bits > 0);
    }
    assert_null(sr_format_by_name("q4"));
    assert_null(sr_format_by_name(""));
    assert_null(sr_format_by_name(NULL));
    assert_ptr_equal(sr_format_by_name("Q4_K"), sr_format_by_name("q4k"));
}

static void promotion_and_fallback_are_those_of_the_reference(void **state) {
    (void)state;
    static const char *const expected[][3] = {
        {"q2_k", "q6_k", "q4_0"}, {"q3_k", "q6_k", "q4_0"}, {"q4_k", "q6_k", "q4_1"}, {"q5_k", "q8_0", "q5_0"},
        {"q6_k", "q8_0", "q5_1"}, {"q8_k", "q8_0", "q8_1"}, {"q4_0", "q6_k", NULL},   {"q4_1", "q6_k", NULL},
        {"q5_0", "q8_0", NULL},   {"q5_1", "q8_0", NULL},   {"q8_0", "q8_0", NULL},   {"q8_1", "q8_0", NULL},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const sr_format *fmt = sr_format_by_name(expected[i][0]);
        assert_string_equal(fmt->promote, expected[i][1]);
        if (expected[i][2])
            assert_string_equal(fmt->fallback[0], expected[i][2]);
        else
            assert_null(fmt->fallback[0]);
    }
}

static void created_weights_have_the_stored_size_and_are_zero(void **state) {
    (void)state;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (fmt->spec.method) continue;
        sr_arena arena = {0};
        sr_weight w;
        assert_int_equal(sr_weight_create(fmt, 7, 3 * fmt->block, NULL, &arena, &w, NULL), SR_OK);
        assert_int_equal(sr_weight_bytes(&w), 7 * row_bytes(fmt, 3 * fmt->block));
        assert_int_equal(w.plane[0].stride, row_bytes(fmt, 3 * fmt->block));
        float out[SR_KC];
        fmt->decode(&w, 6, 2 * fmt->block, fmt->block, out);
        for (int i = 0; i < fmt->block; i++) assert_true(out[i] == 0);
        sr_arena_free(&arena);
    }
}

/* Planes of a megabyte and more are pages of a file: not the process's own, and no two of them the same ones. */
static void created_weights_can_be_in_a_file(void **state) {
    enum { N = 8192, K = 4096 };
    const char *dir = *state;
    sr_arena arena = {0};
    sr_weight w;
    sr_err err = {0};
    sr_memory before, after;
    assert_int_equal(sr_weight_create(sr_format_by_name("mlx8"), N, K, NULL, &arena, &w, NULL), SR_OK);
    if (sr_weight_to_file(&w, dir, &err) != SR_OK) fail_msg("%s", err.msg);
    assert_int_equal(rmdir(dir), 0); /* the file has no name any more */
    sr_memory_now(&before);
    for (int p = 0; p < SR_MAX_PLANES; p++)
        for (int64_t i = 0; i < w.plane[p].bytes; i++) assert_int_equal(w.plane[p].data[i], 0);
    for (int p = 0; p < SR_MAX_PLANES; p++)
        if (w.plane[p].bytes) memset(w.plane[p].data, p + 1, (size_t)w.plane[p].bytes);
    sr_memory_now(&after);
    int large = 0;
    for (int p = 0; p < SR_MAX_PLANES; p++) {
        large += w.plane[p].bytes >= 1 << 20;
        for (int64_t i = 0; i < w.plane[p].bytes; i++) assert_int_equal(w.plane[p].data[i], p + 1);
    }
    assert_int_equal(large, 3);
    assert_true(after.rss_anon < before.rss_anon + (1 << 20));
    sr_arena_free(&arena);
    assert_int_equal(sr_weight_create(sr_format_by_name("mlx8"), N, K, NULL, &arena, &w, NULL), SR_OK);
    assert_int_equal(sr_weight_to_file(&w, dir, &err), SR_IO);
    assert_non_null(strstr(err.msg, dir));
    sr_arena_free(&arena);
}

static void create_refuses_sizes_that_cannot_be(void **state) {
    (void)state;
    sr_arena arena = {0};
    sr_weight w;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        sr_err err = {0};
        if (fmt->block > 1) {
            assert_int_equal(sr_weight_create(fmt, 2, fmt->block + 1, NULL, &arena, &w, &err), SR_INVALID);
            assert_non_null(strstr(err.msg, fmt->name));
        }
        assert_int_equal(sr_weight_create(fmt, 0, fmt->block, NULL, &arena, &w, NULL), SR_INVALID);
        assert_int_equal(sr_weight_create(fmt, 2, 0, NULL, &arena, &w, NULL), SR_INVALID);
        assert_int_equal(sr_weight_create(fmt, 4, (int64_t)1 << 31, NULL, &arena, &w, NULL), SR_INVALID);
        assert_int_equal(sr_weight_create(fmt, INT64_MAX / 2, 512, NULL, &arena, &w, NULL), SR_INVALID);
    }
    sr_arena_free(&arena);
}

/* ---------------------------------------------------------------- binding */

static sr_file *open_vectors(const char *name) {
    char path[512];
    sr_file *file = NULL;
    sr_err err = {0};
    snprintf(path, sizeof path, "%s/tests/vectors/tiny/%s", SR_SOURCE_DIR, name);
    if (sr_file_open(path, NULL, &file, &err) != SR_OK) fail_msg("%s", err.msg);
    return file;
}

/* A safetensors file of one's own: `entries` is the header without its braces, `bytes` the size of the data. */
static sr_file *open_made(const char *entries, size_t bytes) {
    char path[] = "formats_test_XXXXXX.safetensors", header[2048];
    int fd = mkstemps(path, 12);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "wb");
    uint64_t n = (uint64_t)snprintf(header, sizeof header, "{%s}", entries);
    fwrite(&n, 1, 8, f);
    fwrite(header, 1, n, f);
    for (size_t i = 0; i < bytes; i++) fputc(0, f);
    fclose(f);
    sr_file *file = NULL;
    sr_err err = {0};
    sr_status st = sr_file_open(path, NULL, &file, &err);
    unlink(path);
    if (st != SR_OK) fail_msg("%s", err.msg);
    return file;
}

static void bind_points_into_the_map_and_takes_the_shape_that_is_there(void **state) {
    (void)state;
    sr_file *file = open_vectors("mixed.gguf");
    int matrices = 0;
    for (int i = 0; i < file->n_parts; i++) {
        const sr_part *part = &file->part[i];
        size_t n = strlen(part->name);
        if (part->n_dims != 2 || n < 7 || strcmp(part->name + n - 7, ".weight")) continue;
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)(n - 7), part->name);
        sr_weight w, again;
        sr_err err = {0};
        if (sr_weight_bind(file, NULL, name, -1, -1, NULL, &w, &err) != SR_OK) fail_msg("%s", err.msg);
        assert_string_equal(w.fmt->name, part->type->name);
        assert_int_equal(w.N, part->shape[0]);
        assert_int_equal(w.K, part->shape[1]);
        assert_ptr_equal(w.plane[0].data, part->data);
        assert_int_equal(sr_weight_bytes(&w), part->bytes);
        assert_int_equal(w.plane[0].stride * w.N, part->bytes);
        assert_int_equal(sr_weight_bind(file, NULL, name, w.N, w.K, NULL, &again, &err), SR_OK);
        matrices++;
    }
    assert_true(matrices > 5);
    sr_file_close(file);
}

static void expect_bind_error(const sr_file *file, const char *name, int64_t N, int64_t K, sr_status code,
                              const char *const *words) {
    sr_weight w;
    sr_err err = {0};
    assert_int_equal(sr_weight_bind(file, NULL, name, N, K, NULL, &w, &err), code);
    assert_int_equal(err.code, code);
    for (; *words; words++)
        if (!strstr(err.msg, *words)) fail_msg("'%s' does not say '%s'", err.msg, *words);
}

static void bind_errors_say_which_file_tensor_and_what_was_expected(void **state) {
    (void)state;
    sr_file *file = open_vectors("mixed.gguf");
    expect_bind_error(file, "blk.0.attn_q", 128, 999, SR_CORRUPT,
                      (const char *const[]){"mixed.gguf", "blk.0.attn_q", NULL});
    sr_weight w;
    assert_int_equal(sr_weight_bind(file, NULL, "blk.0.attn_q", -1, -1, NULL, &w, NULL), SR_OK);
    char found[64], expected[64];
    snprintf(found, sizeof found, "[%d, %d]", (int)w.N, (int)w.K);
    snprintf(expected, sizeof expected, "[%d, %d]", (int)w.N + 1, (int)w.K);
    expect_bind_error(file, "blk.0.attn_q", w.N + 1, w.K, SR_CORRUPT,
                      (const char *const[]){"mixed.gguf", "blk.0.attn_q.weight", found, expected, NULL});
    expect_bind_error(file, "blk.0.no_such", -1, -1, SR_CORRUPT,
                      (const char *const[]){"mixed.gguf", "blk.0.no_such", "missing", NULL});
    expect_bind_error(file, "output_norm", -1, -1, SR_CORRUPT, (const char *const[]){"output_norm", "two", NULL});
    sr_file_close(file);
}

static void bind_lists_the_parts_that_no_format_claims(void **state) {
    (void)state;
    sr_file *file = open_made("\"a.qweight\":{\"dtype\":\"I32\",\"shape\":[2,4],\"data_offsets\":[0,32]},"
                              "\"a.scales\":{\"dtype\":\"F16\",\"shape\":[1,4],\"data_offsets\":[32,40]},"
                              "\"a.bias\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[40,48]},"
                              "\"b.weight\":{\"dtype\":\"I8\",\"shape\":[2,4],\"data_offsets\":[48,56]},"
                              "\"c.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[56,64]},"
                              "\"c.SCB\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[64,68]}",
                              68);
    expect_bind_error(
        file, "a", -1, -1, SR_UNSUPPORTED,
        (const char *const[]){"formats_test_", "'a'", "no format", "qweight (i32)", "scales (f16)", NULL});
    expect_bind_error(file, "b", -1, -1, SR_UNSUPPORTED, (const char *const[]){"no format", "weight (i8)", NULL});
    expect_bind_error(file, "c", -1, -1, SR_UNSUPPORTED, (const char *const[]){"weight (f32)", "SCB (f32)", NULL});
    sr_file_close(file);
}

static void bind_refuses_names_longer_than_any(void **state) {
    (void)state;
    sr_file *file = open_vectors("mixed.gguf");
    char name[2000];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = 0;
    expect_bind_error(file, name, -1, -1, SR_INVALID, (const char *const[]){"mixed.gguf", NULL});
    sr_file_close(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_gives_the_golden_values_to_the_bit),
        cmocka_unit_test(decode_of_random_blocks_equals_the_layout_read_element_by_element),
        cmocka_unit_test(decode_of_a_part_of_a_row_equals_that_part_of_the_row),
        cmocka_unit_test(unpack_times_scale_minus_min_is_decode),
        cmocka_unit_test(reading_stays_inside_the_row_and_the_buffers),
        cmocka_unit_test(panel_is_within_its_stated_distance_of_decode),
        cmocka_unit_test(panel_of_any_bytes_is_near_decode_or_not_finite_like_it),
        cmocka_unit_test(every_row_is_complete_and_its_names_resolve),
        cmocka_unit_test(promotion_and_fallback_are_those_of_the_reference),
        cmocka_unit_test(created_weights_have_the_stored_size_and_are_zero),
        cmocka_unit_test_setup_teardown(created_weights_can_be_in_a_file, make_scratch, remove_scratch),
        cmocka_unit_test(create_refuses_sizes_that_cannot_be),
        cmocka_unit_test(bind_points_into_the_map_and_takes_the_shape_that_is_there),
        cmocka_unit_test(bind_errors_say_which_file_tensor_and_what_was_expected),
        cmocka_unit_test(bind_lists_the_parts_that_no_format_claims),
        cmocka_unit_test(bind_refuses_names_longer_than_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

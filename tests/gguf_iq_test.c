/* GGUF's IQ, ternary and 4-bit float types: their tables, and what other readers get wrong. */
#include "support.h"

#include <math.h>

#include "base/half.h"
#include "fmt/gguf_iq.h"
#include "fmt/gguf_iq_bits.h"
#include "fmt/gguf_tq_bits.h"
#include "noise.h"

/* ---------------------------------------------------------------- tables */

static uint32_t rotate(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}
/* First eight bytes of the SHA-256 (FIPS 180-4). */
static uint64_t sha256_start(const uint8_t *data, size_t n) {
    uint32_t k[64], h[8];
    int primes = 0;
    for (int p = 2; primes < 64; p++) { /* fractions of the roots of the first primes */
        bool prime = true;
        for (int q = 2; q * q <= p; q++) prime = prime && p % q;
        if (!prime) continue;
        long double third = cbrtl(p), second = sqrtl(p);
        if (primes < 8) h[primes] = (uint32_t)((second - floorl(second)) * 4294967296.0L);
        k[primes++] = (uint32_t)((third - floorl(third)) * 4294967296.0L);
    }
    struct bytes b = {0};
    put(&b, data, n);
    put(&b, "\x80", 1);
    while (b.n % 64 != 56) put(&b, "", 1);
    for (int i = 7; i >= 0; i--) put_int(&b, (uint64_t)n * 8 >> 8 * i & 255, 1);
    for (size_t at = 0; at < b.n; at += 64) {
        uint32_t w[64], v[8];
        for (size_t i = 0; i < 16; i++) {
            const uint8_t *p = b.data + at + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
                   (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 64; i++) {
            uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
            uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
            uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
            uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 7 * sizeof *v);
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++) h[i] += v[i];
    }
    drop(&b);
    return (uint64_t)h[0] << 32 | h[1];
}

static void grids_have_the_published_sha256(void **state) {
    (void)state;
    static const struct {
        const void *table;
        size_t entries;
        unsigned width;
        uint64_t digest;
    } grids[] = {
        {sr_iq2xxs_grid, 256, 8, 0x05826b5d3e472a3a}, {sr_iq2xs_grid, 512, 8, 0x06e47aaca60b4dc1},
        {sr_iq2s_grid, 1024, 8, 0xe1aa1473412b0552},  {sr_iq1s_grid, 2048, 8, 0x07540ffc1aeaf6ad},
        {sr_iq3xxs_grid, 256, 4, 0x46e35f5a997efdee}, {sr_iq3s_grid, 512, 4, 0xbd1af4945a1717c6},
    };
    assert_true(sha256_start((const uint8_t *)"abc", 3) == 0xba7816bf8f01cfea);
    for (size_t g = 0; g < sizeof grids / sizeof *grids; g++) {
        struct bytes b = {0};
        for (size_t i = 0; i < grids[g].entries; i++)
            put_int(&b,
                    grids[g].width == 8 ? ((const uint64_t *)grids[g].table)[i] : ((const uint32_t *)grids[g].table)[i],
                    grids[g].width);
        uint64_t got = sha256_start(b.data, b.n);
        if (got != grids[g].digest)
            fail_msg("grid %zu: got %016llx, want %016llx", g, (unsigned long long)got,
                     (unsigned long long)grids[g].digest);
        drop(&b);
    }
}

/* Element k of vector i, from its digit. */
static int of_digit(const uint8_t *digits, const int8_t *values, int n, int dim, int i, int k) {
    const int half = n / 2;
    if (dim == 8) return values[(digits[i] | digits[n + i] << 8) >> 2 * k & 3];
    const int upper = digits[n + i % half] >> (i < half ? 0 : 4) & 15;
    return values[(digits[i] | upper << 8) >> 3 * k & 7];
}
static void digits_are_those_of_the_grids(void **state) {
    (void)state;
    static const int8_t v2[4] = {8, 25, 43, 0}, v1[4] = {-1, 0, 1, 0}, v3x[8] = {4, 12, 20, 28, 36, 44, 52, 62},
                        v3[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    const struct {
        const void *table;
        const uint8_t *digits;
        const int8_t *values;
        int n, dim;
    } grids[] = {
        {sr_iq2xxs_grid, sr_iq2xxs_digits, v2, 256, 8},  {sr_iq2xs_grid, sr_iq2xs_digits, v2, 512, 8},
        {sr_iq2s_grid, sr_iq2s_digits, v2, 1024, 8},     {sr_iq1s_grid, sr_iq1s_digits, v1, 2048, 8},
        {sr_iq3xxs_grid, sr_iq3xxs_digits, v3x, 256, 4}, {sr_iq3s_grid, sr_iq3s_digits, v3, 512, 4},
    };
    for (size_t g = 0; g < sizeof grids / sizeof *grids; g++)
        for (int i = 0; i < grids[g].n; i++)
            for (int k = 0; k < grids[g].dim; k++) {
                const int got = of_digit(grids[g].digits, grids[g].values, grids[g].n, grids[g].dim, i, k);
                const int want = ((const int8_t *)grids[g].table)[grids[g].dim * i + k];
                if (got != want) fail_msg("grid %zu, vector %d, element %d: got %d, want %d", g, i, k, got, want);
            }
}

static void any_bytes_index_inside_their_grid(void **state) {
    (void)state;
    uint8_t b[128];
    noise r = {3};
    for (int pass = 0; pass < 3000; pass++) {
        for (size_t i = 0; i < sizeof b; i++) b[i] = pass ? (uint8_t)noise_below(&r, 256) : 0xff;
        for (int n = 0; n < 32; n++) {
            assert_in_range(sr_iq2_xxs_index(b, n), 0, 255);
            assert_in_range(sr_iq2_xs_index(b, n), 0, 511);
            assert_in_range(sr_iq2_s_index(b, n), 0, 1023);
            assert_in_range(sr_iq1_s_index(b, n), 0, 2047);
            assert_in_range(sr_iq1_m_index(b, n), 0, 2047);
        }
        for (int q = 0; q < 64; q++) {
            assert_in_range(sr_iq3_xxs_index(b, q), 0, 255);
            assert_in_range(sr_iq3_s_index(b, q), 0, 511);
        }
        for (int e = 0; e < 256; e++) {
            assert_in_range(sr_tq1_0_code(b, e) + 1, 0, 2);
            assert_in_range(sr_tq2_0_code(b, e) + 1, 0, 3);
        }
    }
}

static void fp4_table_is_that_of_the_nibbles(void **state) {
    (void)state;
    for (int i = 0; i < 16; i++) assert_int_equal(sr_fp4_values[i], sr_fp4_code(i));
}

/* ---------------------------------------------------------------- traps */

/* Block of `name` decoded to out. */
static void decode_one(const char *name, uint8_t *block, float *out) {
    const sr_format *fmt = sr_format_by_name(name);
    const sr_stored *type = sr_stored_by_name(name);
    sr_weight w = {.fmt = fmt, .N = 1, .K = fmt->block, .group = fmt->group, .tile = fmt->tile};
    w.plane[0].data = block;
    w.plane[0].stride = w.plane[0].bytes = type->bytes;
    fmt->decode(&w, 0, 0, fmt->block, out);
}

static const struct {
    const char *name;
    int d_at;
} with_half[] = {
    {"iq1_s", 0},  {"iq2_xxs", 0}, {"iq2_xs", 0}, {"iq2_s", 0},  {"iq3_xxs", 0}, {"iq3_s", 0},
    {"iq4_nl", 0}, {"iq4_xs", 0},  {"tq1_0", 52}, {"tq2_0", 64}, {"q1_0", 0},    {"q2_0", 0},
};
enum { LATTICES = 6, WITH_HALF = sizeof with_half / sizeof *with_half };

static void lattice_types_have_no_zero_unless_d_is_zero(void **state) {
    (void)state;
    noise r = {8};
    for (int f = 0; f < LATTICES; f++)
        for (int pass = 0; pass < 100; pass++) {
            uint8_t b[128];
            float v[256];
            for (size_t i = 0; i < sizeof b; i++) b[i] = pass ? (uint8_t)noise_below(&r, 256) : 0;
            b[0] = 0, b[1] = 0x3c; /* d = 1 */
            decode_one(with_half[f].name, b, v);
            for (int e = 0; e < 256; e++) assert_true(v[e] != 0);
            b[1] = 0;
            decode_one(with_half[f].name, b, v);
            for (int e = 0; e < 256; e++) assert_true(v[e] == 0);
        }
    /* all bytes zero but d: the smallest that these types can say */
    uint8_t b[128] = {0, 0x3c};
    float v[256];
    decode_one("iq1_s", b, v);
    assert_true(v[0] == -0.875f);
    b[35] = 0x80; /* delta -1/8 */
    decode_one("iq1_s", b, v);
    assert_true(v[0] == -1.125f && v[32] == -0.875f);
    memset(b + 2, 0, sizeof b - 2);
    decode_one("iq2_xxs", b, v);
    assert_true(v[0] == 1);
}

static void iq1_m_collects_d_from_four_scale_words(void **state) {
    (void)state;
    for (unsigned d = 0; d < 65536; d += 7) {
        uint8_t b[56] = {0};
        float v[256];
        for (int i = 0; i < 4; i++) b[49 + 2 * i] = (uint8_t)(d >> 4 * i << 4 & 0xf0);
        decode_one("iq1_m", b, v);
        float want = sr_f16_to_f32((uint16_t)d) * -0.875f; /* the first vector of the grid is all -1, delta 1/8 */
        assert_true(v[0] == want || (v[0] != v[0] && want != want));
    }
}

static void mxfp4_scale_is_half_of_e8m0(void **state) {
    (void)state;
    for (int e = 0; e < 256; e++) {
        uint8_t b[17] = {(uint8_t)e, 0x72}; /* code 2 is 1.0, code 7 is 6.0 */
        float v[32];
        decode_one("mxfp4", b, v);
        assert_true(v[0] == (float)ldexp(1, e - 127));
        assert_true(v[16] == (float)ldexp(6, e - 127)); /* infinite for 253 and more */
        assert_true(v[1] == 0 && !signbit(v[1]));
    }
}

static void tq1_0_bytes_are_fractions_rounded_up(void **state) {
    (void)state;
    for (int number = 0; number < 243; number++) {
        uint8_t b[54] = {(uint8_t)((number * 256 + 242) / 243)}; /* digits of base 3, the first element's highest */
        float v[256];
        b[53] = 0x3c;
        decode_one("tq1_0", b, v);
        for (int k = 0, power = 81; k < 5; k++, power /= 3) assert_true(v[32 * k] == (float)(number / power % 3 - 1));
    }
    for (int number = 0; number < 81; number++) { /* the last bytes hold four, above an empty fifth */
        uint8_t b[54] = {0};
        float v[256];
        b[48] = (uint8_t)((number * 3 * 256 + 242) / 243), b[53] = 0x3c;
        decode_one("tq1_0", b, v);
        for (int k = 0, power = 27; k < 4; k++, power /= 3)
            assert_true(v[240 + 4 * k] == (float)(number / power % 3 - 1));
    }
}

static void a_scale_that_is_no_number_spoils_its_block_only(void **state) {
    (void)state;
    static const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e00, 0x7c01};
    noise r = {13};
    for (int f = 0; f < WITH_HALF; f++)
        for (int i = 0; i < 4; i++) {
            const sr_format *fmt = sr_format_by_name(with_half[f].name);
            const sr_stored *type = sr_stored_by_name(fmt->name);
            uint8_t b[3 * 136];
            float v[3 * 256];
            for (size_t n = 0; n < sizeof b; n++) b[n] = (uint8_t)noise_below(&r, 256);
            for (int n = 0; n < 3; n++) {
                uint16_t d = n == 1 ? bad[i] : 0x3c00;
                b[n * type->bytes + with_half[f].d_at] = (uint8_t)d;
                b[n * type->bytes + with_half[f].d_at + 1] = (uint8_t)(d >> 8);
            }
            /* rows follow each other without padding: three blocks are also three rows of one */
            sr_weight w = {.fmt = fmt, .N = 3, .K = fmt->block, .group = fmt->group, .tile = fmt->tile};
            w.plane[0].data = b;
            w.plane[0].stride = type->bytes;
            for (int n = 0; n < 3; n++) fmt->decode(&w, n, 0, fmt->block, v + n * fmt->block);
            for (int e = 0; e < 3 * fmt->block; e++) assert_true(!isfinite(v[e]) == (e / fmt->block == 1));
        }
}

static void samples_look_like_weights(void **state) {
    (void)state;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!fmt->sample || !sr_stored_by_name(fmt->name)) continue;
        enum { N = 16, K = 1024 };
        sr_arena arena = {0};
        sr_weight w;
        float v[K];
        double power = 0;
        assert_int_equal(sr_weight_create(fmt, N, K, NULL, &arena, &w, NULL), SR_OK);
        sr_weight_sample(&w, 5);
        for (int row = 0; row < N; row++) {
            fmt->decode(&w, row, 0, K, v);
            for (int k = 0; k < K; k++) power += (double)v[k] * (double)v[k];
        }
        double rms = sqrt(power / (N * K));
        if (!(rms > 0.015 && rms < 0.027)) fail_msg("%s: samples have rms %g, want about 0.02", fmt->name, rms);
        sr_arena_free(&arena);
    }
}

/* ---------------------------------------------------------------- NVFP4's own factor */

/* A file with "a.weight" of NVFP4 [3][64] and, unless type is negative, "a.scale" of n elements. */
static sr_arena arena; /* of what adopt derives */

static sr_file *nvfp4_file(struct bytes *b, int type, uint64_t n, float factor) {
    uint32_t word = sr_bits_from_f32(factor);
    sr_file *file = NULL;
    sr_err err = {0};
    noise r = {17};
    g_header(b, 3, type < 0 ? 1 : 2, 0);
    g_tensor(b, "a.weight", 64, 3, 40, 0);
    if (type >= 0) g_tensor(b, "a.scale", n, 0, (uint32_t)type, 128);
    pad_to(b, 32);
    for (int i = 0; i < 108; i++) put_int(b, (uint64_t)noise_below(&r, 256), 1);
    pad_to(b, 32);
    for (int i = 0; i < 8; i++) put_int(b, word, 4);
    if (sr_file_from_memory(b->data, b->n, "t.gguf", &file, &err) != SR_OK) fail_msg("%s", err.msg);
    return file;
}

static void nvfp4_takes_a_scale_an_expert(void **state) {
    (void)state;
    struct bytes plain = {0}, scaled = {0};
    sr_weight w, s;
    sr_file *a = nvfp4_file(&plain, -1, 0, 0), *b = nvfp4_file(&scaled, 0, 3, 1);
    for (int i = 0; i < 3; i++) { /* the file ends with eight words of them */
        uint32_t word = sr_bits_from_f32((float)(2 << i));
        memcpy(scaled.data + scaled.n - 32 + 4 * i, &word, 4);
    }
    assert_int_equal(sr_weight_bind(a, NULL, "a", -1, -1, &arena, &w, NULL), SR_OK);
    assert_int_equal(sr_weight_bind(b, NULL, "a", -1, -1, &arena, &s, NULL), SR_OK);
    for (int row = 0; row < 3; row++) {
        float v[64], u[64];
        w.fmt->decode(&w, row, 0, 64, v);
        s.fmt->decode(&s, row, 0, 64, u);
        for (int e = 0; e < 64; e++) assert_true(u[e] == v[e] * (float)(2 << row));
    }
    sr_file_close(a);
    sr_file_close(b);
    drop(&plain);
    drop(&scaled);
}

static void nvfp4_multiplies_by_the_scale_tensor_of_the_same_name(void **state) {
    (void)state;
    static const float factors[] = {1, 0.5f, 0x1.234p-9f, 3e5f};
    for (int i = 0; i < 4; i++) {
        struct bytes plain = {0}, scaled = {0};
        sr_weight w, s;
        sr_err err = {0};
        sr_file *a = nvfp4_file(&plain, -1, 0, 0), *b = nvfp4_file(&scaled, 0, 1, factors[i]);
        if (sr_weight_bind(a, NULL, "a", -1, -1, &arena, &w, &err) != SR_OK) fail_msg("%s", err.msg);
        if (sr_weight_bind(b, NULL, "a", 3, 64, &arena, &s, &err) != SR_OK) fail_msg("%s", err.msg);
        assert_int_equal(sr_weight_bytes(&w), 108);
        assert_int_equal(sr_weight_bytes(&s), 112);
        for (int row = 0; row < 3; row++) {
            float v[64], u[64];
            w.fmt->decode(&w, row, 0, 64, v);
            s.fmt->decode(&s, row, 0, 64, u);
            for (int e = 0; e < 64; e++) /* the scale of a group is rounded, and its product with the code */
                assert_true(fabsf(u[e] - v[e] * factors[i]) <= 0x1p-23f * fabsf(u[e]));
        }
        sr_file_close(a);
        sr_file_close(b);
        drop(&plain);
        drop(&scaled);
    }
}

static void nvfp4_refuses_a_scale_of_another_type_or_size(void **state) {
    (void)state;
    static const struct {
        int type;
        uint64_t n;
        const char *found;
    } bad[] = {{1, 1, "stored as f16, expected f32"}, {0, 2, "has 2 elements"}};
    for (int i = 0; i < 2; i++) {
        struct bytes b = {0};
        sr_weight w;
        sr_err err = {0};
        sr_file *file = nvfp4_file(&b, bad[i].type, bad[i].n, 1);
        check_error("scale", sr_weight_bind(file, NULL, "a", -1, -1, &arena, &w, &err), &err, SR_CORRUPT, "t.gguf",
                    "'a", bad[i].found, NULL);
        sr_file_close(file);
        drop(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grids_have_the_published_sha256),
        cmocka_unit_test(digits_are_those_of_the_grids),
        cmocka_unit_test(any_bytes_index_inside_their_grid),
        cmocka_unit_test(fp4_table_is_that_of_the_nibbles),
        cmocka_unit_test(lattice_types_have_no_zero_unless_d_is_zero),
        cmocka_unit_test(iq1_m_collects_d_from_four_scale_words),
        cmocka_unit_test(mxfp4_scale_is_half_of_e8m0),
        cmocka_unit_test(tq1_0_bytes_are_fractions_rounded_up),
        cmocka_unit_test(a_scale_that_is_no_number_spoils_its_block_only),
        cmocka_unit_test(samples_look_like_weights),
        cmocka_unit_test(nvfp4_multiplies_by_the_scale_tensor_of_the_same_name),
        cmocka_unit_test(nvfp4_takes_a_scale_an_expert),
        cmocka_unit_test(nvfp4_refuses_a_scale_of_another_type_or_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Writing: every writable row of the format table, on ordinary and on absurd weights. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "fmt/fmt.h"
#include "guard.h"
#include "noise.h"

enum { K = 768 };

static uint32_t u32_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static uint16_t u16_at(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static sr_weight create(const sr_format *fmt, int64_t n, int64_t k, sr_arena *arena) {
    sr_weight w;
    sr_err err = {0};
    if (sr_weight_create(fmt, n, k, NULL, arena, &w, &err) != SR_OK) fail_msg("%s", err.msg);
    return w;
}

/* ---------------------------------------------------------------- kinds of rows */

typedef struct row_kind {
    const char *name;
    void (*fill)(noise *r, float *row);
} row_kind;

static void fill_normal(noise *r, float *row) {
    for (int i = 0; i < K; i++) row[i] = noise_normal(r);
}
static void fill_laplace(noise *r, float *row) {
    for (int i = 0; i < K; i++) row[i] = 0.02f * noise_laplace(r);
}
static void fill_zero(noise *r, float *row) {
    (void)r;
    for (int i = 0; i < K; i++) row[i] = i % 3 ? 0.0f : -0.0f;
}
static void fill_constant(noise *r, float *row) {
    (void)r;
    for (int i = 0; i < K; i++) row[i] = 0.7f;
}
static void fill_negative_constant(noise *r, float *row) {
    (void)r;
    for (int i = 0; i < K; i++) row[i] = -0.7f;
}
static void fill_positive(noise *r, float *row) {
    for (int i = 0; i < K; i++) row[i] = 1 + fabsf(noise_normal(r));
}
static void fill_alternating(noise *r, float *row) {
    (void)r;
    for (int i = 0; i < K; i++) row[i] = i % 2 ? -1.0f : 1.0f;
}
static void fill_ties(noise *r, float *row) {
    for (int i = 0; i < K; i++) row[i] = 0.5f * (float)(noise_below(r, 17) - 8);
}
static void fill_outlier(noise *r, float *row) {
    fill_normal(r, row);
    row[77] = 3e4f;
    row[600] = -6e4f;
}
static void fill_sparse(noise *r, float *row) {
    for (int i = 0; i < K; i++) row[i] = noise_below(r, 20) ? 0 : noise_normal(r);
}
static void fill_tiny(noise *r, float *row) { /* stored scales are subnormal or zero */
    for (int i = 0; i < K; i++) row[i] = 1e-6f * noise_normal(r);
}
static void fill_subnormal(noise *r, float *row) {
    for (int i = 0; i < K; i++) row[i] = 1e-40f * noise_normal(r);
}
static void fill_largest(noise *r, float *row) {
    for (int i = 0; i < K; i++) row[i] = noise_below(r, 2) ? 65504.0f : -65504.0f;
}
static void fill_bits(noise *r, float *row) { /* any float at all */
    for (int i = 0; i < K; i++) row[i] = sr_f32_from_bits((uint32_t)(noise_u64(r) >> 32));
}
static void fill_not_finite(noise *r, float *row) {
    static const float odd[] = {NAN, INFINITY, -INFINITY, -NAN};
    fill_normal(r, row);
    for (int i = 0; i < K; i++)
        if (i / 64 % 2 == 0) row[i] = odd[noise_below(r, 4)];
}

static const row_kind kinds[] = {
    {"normal", fill_normal},
    {"Laplace", fill_laplace},
    {"zero", fill_zero},
    {"constant", fill_constant},
    {"negative constant", fill_negative_constant},
    {"positive", fill_positive},
    {"alternating", fill_alternating},
    {"ties", fill_ties},
    {"outlier", fill_outlier},
    {"sparse", fill_sparse},
    {"tiny", fill_tiny},
    {"subnormal", fill_subnormal},
    {"largest", fill_largest},
    {"any bits", fill_bits},
    {"not finite", fill_not_finite},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

/* Importances: none, ordinary, mostly zero, absurd. */
enum { N_IMPORTANCES = 4 };
static const float *importance_of(int kind, float *v) {
    noise r = {99};
    static const float odd[] = {NAN, INFINITY, -1, 0, 1e30f, 1e-30f};
    if (kind == 0) return NULL;
    for (int i = 0; i < K; i++) {
        float x = noise_normal(&r);
        v[i] = kind == 1 ? expf(x) : kind == 2 ? (i % 50 ? 0 : 1) : odd[noise_below(&r, 6)];
    }
    return v;
}

static double rms_error(const float *want, const float *got, int n) {
    double e = 0, p = 0;
    for (int i = 0; i < n; i++) {
        e += ((double)want[i] - got[i]) * ((double)want[i] - got[i]);
        p += (double)want[i] * want[i];
    }
    return sqrt(e / p);
}

/* ---------------------------------------------------------------- tests */

static void rounding_to_nearest_gives_the_reference_bytes(void **state) {
    (void)state;
    static const char *const names[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        enum { CAP = 1 << 18 };
        char path[512];
        snprintf(path, sizeof path, "%s/tests/vectors/gguf/%s_rtn.bin", SR_SOURCE_DIR, names[i]);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        uint8_t *file = malloc(CAP);
        size_t n = fread(file, 1, CAP, f);
        fclose(f);
        uint32_t rows = u32_at(file), k = u32_at(file + 4);
        sr_arena arena = {0};
        sr_weight w = create(sr_format_by_name(names[i]), rows, k, &arena);
        assert_int_equal(n, 8 + 4 * rows * k + (size_t)w.plane[0].bytes);
        float *x = malloc(4 * rows * k);
        memcpy(x, file + 8, 4 * rows * k);
        sr_rtn_rows(&w, 0, rows, x, NULL);
        const uint8_t *want = file + 8 + 4 * rows * k;
        for (int64_t b = 0; b < w.plane[0].bytes; b++)
            if (w.plane[0].data[b] != want[b])
                fail_msg("%s row %d byte %d: got %d, want %d", names[i], (int)(b / w.plane[0].stride),
                         (int)(b % w.plane[0].stride), w.plane[0].data[b], want[b]);
        free(x);
        free(file);
        sr_arena_free(&arena);
    }
}

static void error_of_normal_rows_is_what_the_row_states(void **state) {
    (void)state;
    enum { N = 256 };
    static float src[N * K], back[N * K];
    noise r = {1};
    for (int i = 0; i < N * K; i++) src[i] = noise_normal(&r);
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!sr_format_writable(fmt)) continue;
        sr_arena arena = {0};
        sr_weight w = create(fmt, N, K, &arena);
        sr_rtn_rows(&w, 0, N, src, NULL);
        for (int row = 0; row < N; row++) fmt->decode(&w, row, 0, K, back + row * K);
        double error = rms_error(src, back, N * K);
        if (error > (double)fmt->rtn_err || error < 0.9 * (double)fmt->rtn_err)
            fail_msg("%s: error %.6f, stated %.6f", fmt->name, error, (double)fmt->rtn_err);
        sr_arena_free(&arena);
    }
}

/* What a solver relies on, for every kind of row and importance. */
static void decode_of_store_of_snap_is_back_and_snap_is_idempotent(void **state) {
    (void)state;
    float row[K], importance[K];
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!fmt->fit) continue;
        sr_arena arena = {0};
        sr_weight w = create(fmt, 1, K, &arena);
        for (int kind = 0; kind < N_KINDS * N_IMPORTANCES; kind++) {
            noise r = {(uint64_t)kind + 3};
            const float *imp = importance_of(kind % N_IMPORTANCES, importance);
            kinds[kind / N_IMPORTANCES].fill(&r, row);
            for (int k = 0; k < K; k += fmt->block) {
                sr_grid grid;
                int8_t code[SR_KC], again[SR_KC], one;
                float back[SR_KC], twice[SR_KC], got[SR_KC], single;
                fmt->fit(&(sr_fit){&w, 0, k, fmt->block, row + k, imp ? imp + k : NULL, 1}, &grid);
                fmt->snap(&grid, 0, fmt->block, row + k, code, back);
                fmt->snap(&grid, 0, fmt->block, back, again, twice);
                fmt->store(&w, 0, k, fmt->block, &grid, code);
                fmt->decode(&w, 0, k, fmt->block, got);
                for (int i = 0; i < fmt->block; i++) {
                    const char *what = kinds[kind / N_IMPORTANCES].name;
                    if (!isfinite(back[i])) fail_msg("%s, %s: %g at %d", fmt->name, what, (double)back[i], k + i);
                    if (sr_bits_from_f32(got[i]) != sr_bits_from_f32(back[i]))
                        fail_msg("%s, %s, element %d: decoded %a, snapped %a", fmt->name, what, k + i, (double)got[i],
                                 (double)back[i]);
                    if (sr_bits_from_f32(twice[i]) != sr_bits_from_f32(back[i]))
                        fail_msg("%s, %s, element %d: snapped %a, again %a", fmt->name, what, k + i, (double)back[i],
                                 (double)twice[i]);
                    assert_true(code[i] >= grid.lo && code[i] <= grid.hi);
                    fmt->snap(&grid, i, 1, row + k + i, &one, &single);
                    assert_int_equal(one, code[i]);
                }
            }
        }
        sr_arena_free(&arena);
    }
}

static void snap_takes_the_nearest_code(void **state) {
    (void)state;
    float row[K];
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!fmt->fit || fmt->lane != 1) continue;
        noise r = {8};
        fill_normal(&r, row);
        for (int k = 0; k < K; k += fmt->block) {
            sr_grid grid;
            int8_t code[SR_KC];
            float back[SR_KC];
            fmt->fit(&(sr_fit){NULL, 0, k, fmt->block, row + k, NULL, 1}, &grid);
            fmt->snap(&grid, 0, fmt->block, row + k, code, back);
            for (int i = 0; i < fmt->block; i++) {
                double scale = grid.scale[i / grid.group], min = grid.min[i / grid.group];
                double mine = fabs(scale * code[i] - min - row[k + i]);
                for (int q = grid.lo; q <= grid.hi; q++)
                    assert_true(mine <= fabs(scale * q - min - row[k + i]) * 1.0001 + 1e-7);
            }
        }
    }
}

static void every_input_decodes_to_finite_values_near_it(void **state) {
    (void)state;
    float row[K], importance[K], back[K], clean[K];
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!fmt->fit) continue; /* plain types keep what is not finite */
        sr_arena arena = {0};
        sr_weight w = create(fmt, 1, K, &arena);
        for (int kind = 0; kind < N_KINDS; kind++)
            for (int imp = 0; imp < N_IMPORTANCES; imp++) {
                noise r = {(uint64_t)kind + 3};
                kinds[kind].fill(&r, row);
                sr_rtn_rows(&w, 0, 1, row, importance_of(imp, importance));
                fmt->decode(&w, 0, 0, K, back);
                for (int b = 0; b < K; b += fmt->block) {
                    float max = 0;
                    for (int i = b; i < b + fmt->block; i++) {
                        clean[i] = sr_weight_finite(row[i]);
                        max = fabsf(clean[i]) > max ? fabsf(clean[i]) : max;
                    }
                    /* f16's underflow aside. Weights that do not count may end outside their block's range. */
                    float bound = (imp < 2 ? 1.6f : 4) * max + 1e-5f;
                    for (int i = b; i < b + fmt->block; i++)
                        if (!(fabsf(back[i] - clean[i]) <= bound))
                            fail_msg("%s, %s, importance %d, element %d: %a became %a", fmt->name, kinds[kind].name,
                                     imp, i, (double)row[i], (double)back[i]);
                }
            }
        sr_arena_free(&arena);
    }
}

static void zero_rows_stay_zero_and_constant_rows_constant(void **state) {
    (void)state;
    float row[K], back[K];
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!sr_format_writable(fmt)) continue;
        sr_arena arena = {0};
        sr_weight w = create(fmt, 1, K, &arena);
        fill_zero(NULL, row);
        sr_rtn_rows(&w, 0, 1, row, NULL);
        fmt->decode(&w, 0, 0, K, back);
        for (int i = 0; i < K; i++) assert_true(back[i] == 0);
        for (int sign = 0; sign < 2; sign++) {
            (sign ? fill_constant : fill_negative_constant)(NULL, row);
            sr_rtn_rows(&w, 0, 1, row, NULL);
            fmt->decode(&w, 0, 0, K, back);
            if (rms_error(row, back, K) > 0.01)
                fail_msg("%s: %g became %g", fmt->name, (double)row[0], (double)back[0]);
        }
        sr_arena_free(&arena);
    }
}

static void nan_counts_as_zero_and_infinity_as_the_largest_half(void **state) {
    (void)state;
    float row[K], clean[K], importance[K];
    noise r = {6};
    fill_not_finite(&r, row);
    for (int i = 0; i < K; i++)
        clean[i] = row[i] != row[i] ? 0 : row[i] > 65504 ? 65504 : row[i] < -65504 ? -65504 : row[i];
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!fmt->fit) continue;
        sr_arena arena = {0};
        sr_weight a = create(fmt, 1, K, &arena), b = create(fmt, 1, K, &arena);
        for (int imp = 0; imp < 2; imp++) {
            sr_rtn_rows(&a, 0, 1, row, importance_of(imp, importance));
            sr_rtn_rows(&b, 0, 1, clean, importance_of(imp, importance));
            assert_memory_equal(a.plane[0].data, b.plane[0].data, (size_t)a.plane[0].bytes);
        }
        sr_arena_free(&arena);
    }
}

static void four_times_the_weights_give_the_same_codes(void **state) {
    (void)state;
    float row[K], big[K], back[K], back_big[K];
    noise r = {12};
    fill_normal(&r, row);
    for (int i = 0; i < K; i++) big[i] = 4 * row[i];
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!sr_format_writable(fmt)) continue;
        sr_arena arena = {0};
        sr_weight a = create(fmt, 1, K, &arena), b = create(fmt, 1, K, &arena);
        sr_rtn_rows(&a, 0, 1, row, NULL);
        sr_rtn_rows(&b, 0, 1, big, NULL);
        fmt->decode(&a, 0, 0, K, back);
        fmt->decode(&b, 0, 0, K, back_big);
        double apart = 0;
        for (int i = 0; i < K; i++) apart = fmax(apart, fabs(4 * (double)back[i] - back_big[i]));
        /* Scales below f16's normal range lose bits that four times as large ones keep: a few ulps of 2^-14. */
        if (apart > 0.01) fail_msg("%s: %g apart", fmt->name, apart);
        sr_arena_free(&arena);
    }
}

static void importance_lowers_the_error_that_it_weighs(void **state) {
    (void)state;
    enum { N = 32 };
    static float src[N * K];
    float importance[K], back[K];
    noise r = {15};
    for (int i = 0; i < N * K; i++) src[i] = noise_normal(&r);
    importance_of(1, importance);
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!fmt->fit) continue;
        sr_arena arena = {0};
        sr_weight w = create(fmt, N, K, &arena);
        double error[2] = {0};
        for (int with = 0; with < 2; with++) {
            sr_rtn_rows(&w, 0, N, src, with ? importance : NULL);
            for (int row = 0; row < N; row++) {
                fmt->decode(&w, row, 0, K, back);
                for (int i = 0; i < K; i++) {
                    double e = (double)back[i] - src[row * K + i];
                    error[with] += (double)importance[i] * e * e;
                }
            }
        }
        if (error[1] > error[0] * 1.001) fail_msg("%s: %g without, %g with", fmt->name, error[0], error[1]);
        sr_arena_free(&arena);
    }
}

static void unpack_gives_back_what_was_stored(void **state) {
    (void)state;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!fmt->store) continue;
        sr_arena arena = {0};
        sr_weight w = create(fmt, 1, K, &arena);
        noise r = {31};
        for (int pass = 0; pass < 200; pass++)
            for (int k = 0; k < K; k += fmt->block) {
                sr_grid grid;
                float x[SR_KC], scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS];
                int8_t code[SR_KC], got[SR_KC];
                /* Scales that can be stored, from a block of random size; then any codes. */
                for (int i = 0; i < fmt->block; i++) x[i] = noise_normal(&r) * (float)(1 + noise_below(&r, 9));
                fmt->fit(&(sr_fit){&w, 0, k, fmt->block, x, NULL, 1}, &grid);
                for (int i = 0; i < fmt->block; i++)
                    code[i] = (int8_t)(grid.lo + noise_below(&r, grid.hi - grid.lo + 1));
                fmt->store(&w, 0, k, fmt->block, &grid, code);
                fmt->unpack(&w, 0, k, fmt->block, got, scale, min);
                assert_memory_equal(got, code, fmt->block);
                assert_int_equal(grid.n, fmt->block);
                assert_int_equal(grid.group, fmt->group);
                for (int g = 0; g < fmt->block / fmt->group; g++) {
                    assert_true(scale[g] == grid.scale[g]);
                    assert_true((fmt->has_min ? min[g] : 0) == grid.min[g]);
                }
            }
        sr_arena_free(&arena);
    }
}

static void rows_are_independent_and_writing_stays_inside_them(void **state) {
    (void)state;
    enum { N = 3 };
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!sr_format_writable(fmt)) continue;
        for (int blocks = 1; blocks <= 3; blocks++) {
            int64_t k = blocks * fmt->block;
            sr_arena arena = {0};
            sr_weight w = create(fmt, N, k, &arena), g = w;
            guard src = guard_alloc((size_t)(N * k) * 4), out = guard_alloc((size_t)w.plane[0].bytes),
                  importance = guard_alloc((size_t)k * 4);
            float *x = (void *)src.at, *imp = (void *)importance.at;
            noise r = {2};
            for (int64_t i = 0; i < N * k; i++) x[i] = noise_normal(&r);
            for (int64_t i = 0; i < k; i++) imp[i] = (float)(1 + i % 5);
            g.plane[0].data = out.at;
            for (int with = 0; with < 2; with++) {
                sr_rtn_rows(&w, 0, N, x, with ? imp : NULL);
                for (int row = N - 1; row >= 0; row--) sr_rtn_rows(&g, row, 1, x + row * k, with ? imp : NULL);
                assert_memory_equal(w.plane[0].data, out.at, (size_t)w.plane[0].bytes);
            }
            guard_free(src);
            guard_free(out);
            guard_free(importance);
            sr_arena_free(&arena);
        }
    }
}

static void plain_types_round_to_nearest_even_and_keep_nan(void **state) {
    (void)state;
    static const float x[] = {1, 1.00390625f, 1.01171875f, -0.0f, 65519.996f, 1e-8f, 3.3895314e38f, NAN};
    static const uint16_t f16[] = {0x3c00, 0x3c04, 0x3c0c, 0x8000, 0x7bff, 0x0000, 0x7c00, 0x7e00};
    static const uint16_t bf16[] = {0x3f80, 0x3f80, 0x3f82, 0x8000, 0x4780, 0x322c, 0x7f7f, 0x7fc0};
    enum { N = sizeof x / sizeof *x };
    sr_arena arena = {0};
    sr_weight h = create(sr_format_by_name("f16"), 1, N, &arena), b = create(sr_format_by_name("bf16"), 1, N, &arena),
              s = create(sr_format_by_name("f32"), 1, N, &arena);
    sr_rtn_rows(&h, 0, 1, x, NULL);
    sr_rtn_rows(&b, 0, 1, x, NULL);
    sr_rtn_rows(&s, 0, 1, x, NULL);
    assert_memory_equal(s.plane[0].data, x, sizeof x);
    for (int i = 0; i < N; i++) {
        assert_int_equal(u16_at(h.plane[0].data + 2 * i), f16[i]);
        assert_int_equal(u16_at(b.plane[0].data + 2 * i), bf16[i]);
    }
    sr_arena_free(&arena);
}

static void redundant_sums_are_those_of_the_codes(void **state) {
    (void)state;
    float row[K], v[K];
    noise r = {4};
    fill_normal(&r, row);
    sr_arena arena = {0};
    sr_weight q8_1 = create(sr_format_by_name("q8_1"), 1, K, &arena),
              q8_k = create(sr_format_by_name("q8_k"), 1, K, &arena);
    sr_rtn_rows(&q8_1, 0, 1, row, NULL);
    sr_rtn_rows(&q8_k, 0, 1, row, NULL);
    q8_1.fmt->decode(&q8_1, 0, 0, K, v);
    for (int b = 0; b < K / 32; b++) {
        double sum = 0, s = (double)sr_f16_to_f32(u16_at(q8_1.plane[0].data + 36 * b + 2));
        for (int i = 0; i < 32; i++) sum += v[32 * b + i];
        assert_true(fabs(sum - s) <= 0.002 * fabs(sum) + 1e-3);
    }
    for (int b = 0; b < K / 256; b++)
        for (int g = 0; g < 16; g++) {
            const uint8_t *block = q8_k.plane[0].data + 292 * b;
            int sum = 0;
            for (int i = 0; i < 16; i++) sum += (int8_t)block[4 + 16 * g + i];
            assert_int_equal((int16_t)u16_at(block + 260 + 2 * g), sum);
        }
    sr_arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_to_nearest_gives_the_reference_bytes),
        cmocka_unit_test(error_of_normal_rows_is_what_the_row_states),
        cmocka_unit_test(decode_of_store_of_snap_is_back_and_snap_is_idempotent),
        cmocka_unit_test(snap_takes_the_nearest_code),
        cmocka_unit_test(every_input_decodes_to_finite_values_near_it),
        cmocka_unit_test(zero_rows_stay_zero_and_constant_rows_constant),
        cmocka_unit_test(nan_counts_as_zero_and_infinity_as_the_largest_half),
        cmocka_unit_test(four_times_the_weights_give_the_same_codes),
        cmocka_unit_test(importance_lowers_the_error_that_it_weighs),
        cmocka_unit_test(unpack_gives_back_what_was_stored),
        cmocka_unit_test(rows_are_independent_and_writing_stays_inside_them),
        cmocka_unit_test(plain_types_round_to_nearest_even_and_keep_nan),
        cmocka_unit_test(redundant_sums_are_those_of_the_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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
#include "base/random.h"
#include "cpu/kern.h"
#include "fmt/fmt.h"
#include "guard.h"
#include "noise.h"
#include "sanitized.h"
#include "written.h"

enum { K = 768 };

static uint32_t u32_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static uint16_t u16_at(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
/* ---------------------------------------------------------------- what is written */

/* A format with a spec of its own: other groups, zero points, one scale a tensor. */
typedef struct variant {
    const sr_format *fmt;
    sr_qspec spec;
    int N, K; /* the fewest rows that it can have */
    char name[64];
} variant;
enum { MOST_VARIANTS = 600, MOST_ROWS = 32 };

static bool creates(variant *v) {
    static const int rows[] = {1, 4, 8, MOST_ROWS};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sr_arena arena = {0};
        sr_weight w;
        bool ok = sr_weight_create(v->fmt, rows[i], v->K, &v->spec, &arena, &w, NULL) == SR_OK;
        sr_arena_free(&arena);
        v->N = rows[i];
        if (ok) return true;
    }
    return false;
}
static void add_variant(variant *v, int *n, const sr_format *fmt, sr_qspec spec, int k, const char *what) {
    v[*n] = (variant){.fmt = fmt, .spec = spec, .K = k};
    snprintf(v[*n].name, sizeof v[*n].name, "%s%s", fmt->name, what);
    *n += creates(&v[*n]);
    assert_true(*n < MOST_VARIANTS);
}

/* Each writable row as it is, and what a checkpoint's config may ask of it; those that can be. */
static const variant *variants(void) {
    static variant v[MOST_VARIANTS];
    int n = 0;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        sr_qspec s = fmt->spec;
        if (!sr_format_writable(fmt)) continue;
        add_variant(v, &n, fmt, s, K, "");
        if (!s.method || fmt->group) continue;
        s.group = 32, add_variant(v, &n, fmt, s, K, ", groups of 32"), s = fmt->spec;
        s.group = 24, add_variant(v, &n, fmt, s, K, ", groups of 24"), s = fmt->spec;
        s.group = -1, add_variant(v, &n, fmt, s, 744, ", a group a row"), s = fmt->spec;
        add_variant(v, &n, fmt, s, 744, ", 744 columns");
        s.sym = !s.sym, add_variant(v, &n, fmt, s, K, s.sym ? ", symmetric" : ", asymmetric"), s = fmt->spec;
        s.nested = true, add_variant(v, &n, fmt, s, K, ", nested"), s = fmt->spec;
        s.group_n = 1, add_variant(v, &n, fmt, s, K, ", rows apart"), s = fmt->spec;
        s.group = -1, s.group_n = INT32_MAX, add_variant(v, &n, fmt, s, K, ", one scale");
    }
    v[n].fmt = NULL;
    return v;
}
static sr_weight create(const variant *v, int64_t n, sr_arena *arena) {
    sr_weight w;
    sr_err err = {0};
    if (sr_weight_create(v->fmt, n, v->K, &v->spec, arena, &w, &err) != SR_OK) fail_msg("%s: %s", v->name, err.msg);
    return w;
}
static sr_weight create_named(const char *name, int64_t n, int64_t k, sr_arena *arena) {
    sr_weight w;
    sr_err err = {0};
    if (sr_weight_create(sr_format_by_name(name), n, k, NULL, arena, &w, &err) != SR_OK) fail_msg("%s", err.msg);
    return w;
}

static bool begins(sr_weight *w, const float *row) {
    written_rows r = {row, w->K, 1};
    return sr_encode_begin(w, &(sr_source){.rows = written_read, .ctx = &r}, 1, NULL) == SR_OK;
}
static bool encodes(sr_weight *w, const float *src, bool same, const float *importance, int threads) {
    return write_weight(w, src, same, importance, threads);
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
    static const char *const names[] = {"q4_0",  "q4_1", "q5_0", "q5_1",  "q8_0", "tq1_0",
                                        "tq2_0", "q1_0", "q2_0", "mxfp4", "nvfp4"};
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
        sr_weight w = create_named(names[i], rows, k, &arena);
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

/* What the packages themselves make of the same weights: tests/vectors/encode, made by make_encode.py. */
static void rounding_to_nearest_gives_the_packages_parts(void **state) {
    (void)state;
    static const char *const families[] = {"mlx", "bnb", "hqq", "gptq", "awq", "ct", "modelopt"};
    int modules = 0;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char path[512];
        sr_file *file;
        sr_err err = {0};
        snprintf(path, sizeof path, "%s/tests/vectors/encode/%s.safetensors", SR_SOURCE_DIR, families[i]);
        if (sr_file_open(path, NULL, &file, &err) != SR_OK) fail_msg("%s", err.msg);
        const sr_part *x = sr_file_part(file, "x");
        const int64_t n = x->shape[0], k = x->shape[1];
        float *src = malloc((size_t)(n * k) * sizeof *src), *back = malloc((size_t)k * sizeof *back);
        for (int64_t j = 0; j < n * k; j++) src[j] = sr_bf16_to_f32(u16_at(x->data + 2 * j));
        for (int part = 0; part < file->n_parts; part++) {
            char name[64], format[32], full[96];
            const size_t length = strlen(file->part[part].name);
            if (length < 6 || strcmp(file->part[part].name + length - 5, ".spec")) continue;
            snprintf(name, sizeof name, "%.*s", (int)length - 5, file->part[part].name);
            snprintf(format, sizeof format, "%.*s", (int)strcspn(name, "."), name);
            int32_t ask[4];
            memcpy(ask, file->part[part].data, sizeof ask);
            const sr_format *fmt = sr_format_by_name(format);
            sr_qspec s = fmt->spec;
            s.group = ask[0], s.group_n = ask[1], s.sym = ask[2], s.nested = ask[3];
            if (s.layout && !strcmp(s.layout, "gptq"))
                s.layout = "gptq_v2"; /* as its modules pack; saving makes v1 of it */
            sr_arena arena = {0};
            sr_weight w;
            sr_planes planes = {0};
            assert_int_equal(sr_weight_create(fmt, n, k, &s, &arena, &w, NULL), SR_OK);
            assert_true(write_weight(&w, src, 0, NULL, 2));
            modules++;
            snprintf(full, sizeof full, "%s.expected", name);
            const sr_part *expected = sr_file_part(file, full);
            if (expected) {
                double mine = 0, theirs = 0;
                for (int64_t row = 0; row < n; row++) {
                    fmt->decode(&w, row, 0, k, back);
                    for (int64_t j = 0; j < k; j++) {
                        double e = (double)back[j] - src[row * k + j];
                        double f = (double)sr_f16_to_f32(u16_at(expected->data + 2 * (row * k + j))) - src[row * k + j];
                        mine += e * e, theirs += f * f;
                    }
                }
                /* Theirs stops where the error of the whole matrix does. */
                if (!(mine <= 1.02 * theirs)) fail_msg("%s: error %g, the package's %g", name, mine, theirs);
            }
            assert_int_equal(fmt->layout(fmt, n, k, &w.spec, &planes, NULL), SR_OK);
            int compared = expected != NULL;
            for (int p = 0; p < planes.n; p++) {
                snprintf(full, sizeof full, "%s.%.*s", name, (int)strcspn(planes.plane[p].suffix, "|"),
                         planes.plane[p].suffix);
                const sr_part *want = sr_file_part(file, full);
                if (!want) continue;
                compared++;
                if (want->bytes != w.plane[p].bytes)
                    fail_msg("%s: %lld bytes, want %lld", full, (long long)w.plane[p].bytes, (long long)want->bytes);
                for (int64_t b = 0; b < want->bytes; b++)
                    if (w.plane[p].data[b] != want->data[b])
                        fail_msg("%s: byte %lld is %02x, want %02x", full, (long long)b, w.plane[p].data[b],
                                 want->data[b]);
            }
            assert_true(compared > 0);
            sr_arena_free(&arena);
        }
        free(src);
        free(back);
        sr_file_close(file);
    }
    assert_true(modules > 60);
}

static void error_of_normal_rows_is_what_the_row_states(void **state) {
    (void)state;
    enum { N = 256 };
    static float src[N * K], back[N * K];
    noise r = {1};
    int wrong = 0;
    for (int i = 0; i < N * K; i++) src[i] = noise_normal(&r);
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!sr_format_writable(fmt)) continue;
        sr_arena arena = {0};
        sr_weight w = create_named(fmt->name, N, K, &arena);
        assert_true(encodes(&w, src, false, NULL, 1));
        for (int row = 0; row < N; row++) fmt->decode(&w, row, 0, K, back + row * K);
        double error = rms_error(src, back, N * K);
        if (error > (double)fmt->rtn_err || error < 0.9 * (double)fmt->rtn_err)
            print_error("%s: error %.6f, stated %.6f\n", fmt->name, error, (double)fmt->rtn_err), wrong++;
        sr_arena_free(&arena);
    }
    assert_int_equal(wrong, 0);
}

/* What a solver relies on, for every kind of row and importance. */
static void decode_of_store_of_snap_is_back_and_snap_is_idempotent(void **state) {
    (void)state;
    float row[K], importance[K];
    for (const variant *v = variants(); v->fmt; v++) {
        const sr_format *fmt = v->fmt;
        const int piece = SR_KC / fmt->block * fmt->block;
        if (!fmt->fit) continue;
        sr_arena arena = {0};
        sr_weight w = create(v, v->N, &arena);
        const int64_t unit = sr_weight_unit(&w);
        for (int kind = 0; kind < N_KINDS * N_IMPORTANCES; kind++) {
            noise r = {(uint64_t)kind + 3};
            const float *imp = importance_of(kind % N_IMPORTANCES, importance);
            kinds[kind / N_IMPORTANCES].fill(&r, row);
            if (!begins(&w, row)) break;
            for (int64_t k = 0; k < v->K; k += unit) {
                sr_grid grid;
                int n = (int)(v->K - k < unit ? v->K - k : unit);
                fmt->fit(&(sr_fit){&w, 0, k, n, row + k, imp ? imp + k : NULL, 1}, &grid);
                for (int at = 0; at < n; at += piece) {
                    int8_t code[SR_KC], again[SR_KC], one[SR_KC];
                    float back[SR_KC], twice[SR_KC], got[SR_KC], single[SR_KC];
                    int m = n - at < piece ? n - at : piece;
                    const float *x = row + k + at;
                    fmt->snap(&grid, at, m, x, code, back);
                    fmt->snap(&grid, at, m, back, again, twice);
                    fmt->store(&w, 0, k + at, m, &grid, code);
                    fmt->decode(&w, 0, k + at, m, got);
                    for (int i = 0; i < m; i++) {
                        const char *what = kinds[kind / N_IMPORTANCES].name;
                        int column = (int)k + at + i;
                        if (!isfinite(back[i])) fail_msg("%s, %s: %g at %d", v->name, what, (double)back[i], column);
                        if (sr_bits_from_f32(got[i]) != sr_bits_from_f32(back[i]))
                            fail_msg("%s, %s, element %d: decoded %a, snapped %a", v->name, what, column,
                                     (double)got[i], (double)back[i]);
                        if (twice[i] != back[i])
                            fail_msg("%s, %s, element %d: snapped %a, again %a", v->name, what, column, (double)back[i],
                                     (double)twice[i]);
                        assert_true(code[i] >= grid.lo && code[i] <= grid.hi);
                    }
                    for (int i = 0; i < m; i += fmt->lane) {
                        fmt->snap(&grid, at + i, fmt->lane, x + i, one, single);
                        assert_memory_equal(one, code + i, fmt->lane);
                    }
                }
            }
        }
        sr_arena_free(&arena);
    }
}

/* What each code of a grid means is what decode makes of it. */
static void snap_takes_the_nearest_code(void **state) {
    (void)state;
    float row[K], value[SR_KC];
    for (const variant *v = variants(); v->fmt; v++) {
        const sr_format *fmt = v->fmt;
        if (!fmt->fit || fmt->lane != 1) continue;
        noise r = {8};
        fill_normal(&r, row);
        sr_arena arena = {0};
        sr_weight w = create(v, v->N, &arena);
        const int64_t unit = sr_weight_unit(&w);
        const int piece = SR_KC / fmt->block * fmt->block;
        for (int64_t k = 0; k < v->K && begins(&w, row); k += unit) {
            sr_grid grid;
            int8_t code[SR_KC], all[SR_KC];
            float back[SR_KC];
            int n = (int)(v->K - k < unit ? v->K - k : unit), m = n < piece ? n : piece;
            fmt->fit(&(sr_fit){&w, 0, k, n, row + k, NULL, 1}, &grid);
            fmt->snap(&grid, 0, m, row + k, code, back);
            const int group = grid.group < m ? grid.group : m;
            for (int i = 0; i < m; i++) {
                float best = INFINITY;
                if (i % group == 0) /* the codes, one a column of the group, in turns */
                    for (int q = grid.lo; q <= grid.hi; q += group) {
                        memset(all, grid.lo, sizeof all);
                        for (int j = 0; j < group; j++) all[i + j] = (int8_t)(q + j < grid.hi ? q + j : grid.hi);
                        fmt->store(&w, 0, k, m, &grid, all);
                        float got[SR_KC];
                        fmt->decode(&w, 0, k, m, got);
                        for (int j = 0; j < group && q + j <= grid.hi; j++) value[q + j - grid.lo] = got[i + j];
                    }
                for (int q = 0; q <= grid.hi - grid.lo; q++) best = fminf(best, fabsf(value[q] - row[k + i]));
                if (!(fabsf(back[i] - row[k + i]) <= best * 1.0001f + 1e-7f))
                    fail_msg("%s, element %d: %a became %a, and %a is nearest", v->name, (int)k + i, (double)row[k + i],
                             (double)back[i], (double)best);
            }
        }
        sr_arena_free(&arena);
    }
}

static void every_input_decodes_to_finite_values_near_it(void **state) {
    (void)state;
    float row[K], importance[K], back[K], clean[K];
    for (const variant *v = variants(); v->fmt; v++) {
        if (!v->fmt->fit) continue; /* plain types keep what is not finite */
        sr_arena arena = {0};
        sr_weight w = create(v, v->N, &arena);
        /* What shares a scale: a unit, or the whole row where the matrix decides. */
        const int unit = v->fmt->begin ? v->K : (int)sr_weight_unit(&w);
        for (int kind = 0; kind < N_KINDS; kind++)
            for (int imp = 0; imp < N_IMPORTANCES; imp++) {
                noise r = {(uint64_t)kind + 3};
                kinds[kind].fill(&r, row);
                if (!encodes(&w, row, true, importance_of(imp, importance), 1)) break;
                v->fmt->decode(&w, 0, 0, v->K, back);
                for (int b = 0; b < v->K; b += unit) {
                    const int end = b + unit < v->K ? b + unit : v->K;
                    float max = 0;
                    for (int i = b; i < end; i++) {
                        clean[i] = sr_weight_finite(row[i]);
                        max = fabsf(clean[i]) > max ? fabsf(clean[i]) : max;
                    }
                    /* f16's underflow aside. Weights that do not count may end outside their block's range, and a
                     * lattice may lack a vector's signs. */
                    float bound = (imp < 2 && v->fmt->lane == 1 ? 1.6f : 4) * max + 1e-5f;
                    for (int i = b; i < end; i++)
                        if (!(fabsf(back[i] - clean[i]) <= bound))
                            fail_msg("%s, %s, importance %d, element %d: %a became %a", v->name, kinds[kind].name, imp,
                                     i, (double)row[i], (double)back[i]);
                }
            }
        sr_arena_free(&arena);
    }
}

static void zero_rows_stay_zero_and_constant_rows_constant(void **state) {
    (void)state;
    float row[K], back[K];
    for (const variant *v = variants(); v->fmt; v++) {
        sr_arena arena = {0};
        sr_weight w = create(v, v->N, &arena);
        fill_zero(NULL, row);
        if (!encodes(&w, row, true, NULL, 1)) {
            sr_arena_free(&arena);
            continue;
        }
        v->fmt->decode(&w, 0, 0, v->K, back);
        for (int i = 0; i < v->K; i++) assert_true(back[i] == 0);
        for (int sign = 0; sign < 2; sign++) {
            (sign ? fill_constant : fill_negative_constant)(NULL, row);
            encodes(&w, row, true, NULL, 1);
            v->fmt->decode(&w, 0, 0, v->K, back);
            /* Symmetric grids and floats of a few bits need not have a value's multiple; lattices are made for weights
             * that differ. */
            double bound = (v->fmt->lane > 1 ? 1.5 : 1) * fmax(0.01, (double)v->fmt->rtn_err);
            if (rms_error(row, back, v->K) > bound)
                fail_msg("%s: %g became %g", v->name, (double)row[0], (double)back[0]);
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
    for (const variant *v = variants(); v->fmt; v++) {
        if (!v->fmt->fit) continue;
        sr_arena arena = {0};
        sr_weight a = create(v, v->N, &arena), b = create(v, v->N, &arena);
        for (int imp = 0; imp < 2; imp++) {
            if (!encodes(&a, row, true, importance_of(imp, importance), 1)) continue;
            encodes(&b, clean, true, importance_of(imp, importance), 1);
            for (int p = 0; p < SR_MAX_PLANES; p++)
                if (a.plane[p].data) assert_memory_equal(a.plane[p].data, b.plane[p].data, (size_t)a.plane[p].bytes);
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
    for (const variant *v = variants(); v->fmt; v++) {
        if (!strcmp(v->fmt->spec.method ? v->fmt->spec.method : "", "hqq")) continue; /* its norm is no such function */
        sr_arena arena = {0};
        sr_weight a = create(v, v->N, &arena), b = create(v, v->N, &arena);
        if (!encodes(&a, row, true, NULL, 1)) {
            sr_arena_free(&arena);
            continue;
        }
        encodes(&b, big, true, NULL, 1);
        v->fmt->decode(&a, 0, 0, v->K, back);
        v->fmt->decode(&b, 0, 0, v->K, back_big);
        double apart = 0;
        for (int i = 0; i < v->K; i++) apart = fmax(apart, fabs(4 * (double)back[i] - back_big[i]));
        /* Scales below f16's normal range lose bits that four times as large ones keep: a few ulps of 2^-14. */
        if (apart > 0.01) fail_msg("%s: %g apart", v->name, apart);
        sr_arena_free(&arena);
    }
}

/* Ranges that leave out a group's ends are worth most with few bits: 0.61 to 0.83 of the error there. */
static void importance_lowers_the_error_that_it_weighs(void **state) {
    (void)state;
    static const char *const few_bits[] = {"gptq4", "gptq3", "awq4", "ct_pack4", "hqq4",   "mlx4",    "nf4",
                                           "fp4",   "q4_0",  "q4_1", "q4_k",     "iq4_nl", "ct_nvfp4"};
    enum { N = 32, N_FEW = sizeof few_bits / sizeof *few_bits };
    int seen = 0;
    static float src[N * K];
    float importance[K], back[K];
    noise r = {15};
    for (int i = 0; i < N * K; i++) src[i] = noise_normal(&r);
    importance_of(1, importance);
    for (const variant *v = variants(); v->fmt; v++) {
        if (!v->fmt->fit) continue;
        sr_arena arena = {0};
        sr_weight w = create(v, N, &arena);
        double error[2] = {0};
        for (int with = 0; with < 2; with++) {
            if (!encodes(&w, src, false, with ? importance : NULL, 1)) break;
            for (int row = 0; row < N; row++) {
                v->fmt->decode(&w, row, 0, v->K, back);
                for (int i = 0; i < v->K; i++) {
                    double e = (double)back[i] - src[row * v->K + i];
                    error[with] += (double)importance[i] * e * e;
                }
            }
        }
        bool few = false;
        for (int i = 0; i < N_FEW; i++) few = few || strcmp(v->name, few_bits[i]) == 0;
        seen += few;
        if (error[1] > error[0] * (few ? 0.9 : 1.001)) fail_msg("%s: %g without, %g with", v->name, error[0], error[1]);
        sr_arena_free(&arena);
    }
    assert_int_equal(seen, N_FEW);
}

static void unpack_gives_back_what_was_stored(void **state) {
    (void)state;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        if (!fmt->store || fmt->spec.method) continue;
        sr_arena arena = {0};
        sr_weight w = create_named(fmt->name, 1, K, &arena);
        noise r = {31};
        for (int pass = 0; pass < 200; pass++)
            for (int k = 0; k < K; k += fmt->block) {
                sr_grid grid;
                float x[SR_KC], back[SR_KC], scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS];
                int8_t code[SR_KC], got[SR_KC];
                /* Scales that can be stored, from a block of random size; then any codes that there are. */
                for (int i = 0; i < fmt->block; i++) x[i] = noise_normal(&r) * (float)(1 + noise_below(&r, 9));
                fmt->fit(&(sr_fit){&w, 0, k, fmt->block, x, NULL, 1}, &grid);
                for (int i = 0; i < fmt->block; i++)
                    x[i] = grid.scale[i / grid.group] * (float)(grid.lo + noise_below(&r, grid.hi - grid.lo + 1)) -
                           grid.min[i / grid.group];
                fmt->snap(&grid, 0, fmt->block, x, code, back);
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

/* Storing any codes keeps what other columns and rows have: words are shared in many ways. */
static void storing_one_piece_leaves_the_others(void **state) {
    (void)state;
    enum { N = 96 };
    static float src[N * K], want[N * K], got[K];
    noise r = {77};
    for (int i = 0; i < N * K; i++) src[i] = noise_normal(&r);
    for (const variant *v = variants(); v->fmt; v++) {
        const sr_format *fmt = v->fmt;
        if (!fmt->fit) continue;
        sr_arena arena = {0};
        sr_weight w = create(v, N, &arena);
        if (!encodes(&w, src, false, NULL, 1)) {
            sr_arena_free(&arena);
            continue;
        }
        for (int row = 0; row < N; row++) fmt->decode(&w, row, 0, v->K, want + row * v->K);
        const int64_t unit = sr_weight_unit(&w), units = (v->K - 1) / unit + 1;
        for (int pass = 0; pass < 40; pass++) {
            const int row = noise_below(&r, N);
            const int64_t k = unit * noise_below(&r, (int)units);
            const int n = (int)(v->K - k < unit ? v->K - k : unit), piece = SR_KC / fmt->block * fmt->block;
            float *x = src + row * v->K + k, *back = want + row * v->K + k;
            int8_t code[SR_KC];
            sr_grid grid;
            for (int i = 0; i < n; i++) x[i] = 0.8f * noise_normal(&r);
            fmt->fit(&(sr_fit){&w, row, k, n, x, NULL, 1}, &grid);
            for (int i = 0; i < n; i += piece) {
                int m = n - i < piece ? n - i : piece;
                fmt->snap(&grid, i, m, x + i, code, back + i);
                fmt->store(&w, row, k + i, m, &grid, code);
            }
        }
        for (int row = 0; row < N; row++) {
            fmt->decode(&w, row, 0, v->K, got);
            for (int i = 0; i < v->K; i++)
                if (got[i] != want[row * v->K + i])
                    fail_msg("%s, row %d, column %d: %a, want %a", v->name, row, i, (double)got[i],
                             (double)want[row * v->K + i]);
        }
        sr_arena_free(&arena);
    }
}

static void the_number_of_threads_does_not_matter(void **state) {
    (void)state;
    enum { N = 96 };
    static float src[N * K];
    float importance[K];
    noise r = {5};
    for (int i = 0; i < N * K; i++) src[i] = noise_normal(&r);
    importance_of(1, importance);
    for (const variant *v = variants(); v->fmt; v++)
        for (int with = SANITIZED; with < 2; with++) {
            sr_arena arena = {0};
            sr_weight a = create(v, N, &arena), b = create(v, N, &arena);
            const float *imp = with ? importance : NULL;
            if (encodes(&a, src, false, imp, 1)) {
                assert_true(encodes(&b, src, false, imp, 4));
                for (int p = 0; p < SR_MAX_PLANES; p++)
                    if (a.plane[p].data && memcmp(a.plane[p].data, b.plane[p].data, (size_t)a.plane[p].bytes))
                        fail_msg("%s: plane %d differs", v->name, p);
            }
            sr_arena_free(&arena);
        }
}

/* Bytes through sr_rtn_rows, and what a solver sees. */
static void every_instruction_set_writes_the_same_bytes(void **state) {
    (void)state;
    float row[K], importance[K];
    for (int s = 0; sr_kerns[s]; s++)
        for (const sr_encoder *e = sr_kerns[s]->encoders; e && e->format && sr_kerns[s]->usable(); e++) {
            const sr_format *fmt = sr_format_by_name(e->format);
            sr_arena arena = {0};
            sr_weight a = create_named(e->format, 1, K, &arena), b = create_named(e->format, 1, K, &arena);
            b.encoder = e;
            for (int kind = 0; kind < N_KINDS * N_IMPORTANCES; kind++) {
                noise r = {(uint64_t)kind + 3};
                const float *imp = importance_of(kind % N_IMPORTANCES, importance);
                kinds[kind / N_IMPORTANCES].fill(&r, row);
                sr_rtn_rows(&a, 0, 1, row, imp);
                sr_rtn_rows(&b, 0, 1, row, imp);
                for (int64_t i = 0; i < a.plane[0].bytes; i++)
                    if (a.plane[0].data[i] != b.plane[0].data[i])
                        fail_msg("%s, %s, %s, importance %d: byte %d is %d, expected %d", sr_kerns[s]->name, fmt->name,
                                 kinds[kind / N_IMPORTANCES].name, kind % N_IMPORTANCES, (int)i, b.plane[0].data[i],
                                 a.plane[0].data[i]);
                for (int k = 0; k < K; k += fmt->block) {
                    const sr_fit in = {&a, 0, k, fmt->block, row + k, imp ? imp + k : NULL, 1};
                    sr_grid grid, same;
                    int8_t code[SR_KC], same_code[SR_KC];
                    float back[SR_KC], same_back[SR_KC];
                    fmt->fit(&in, &grid);
                    e->fit(&in, &same);
                    for (int g = 0; g < fmt->block / fmt->group; g++) {
                        assert_true(grid.scale[g] == same.scale[g]);
                        assert_true(grid.min[g] == same.min[g]);
                    }
                    fmt->snap(&grid, 0, fmt->block, row + k, code, back);
                    e->snap(&same, 0, fmt->block, row + k, same_code, same_back);
                    assert_memory_equal(code, same_code, fmt->block);
                    assert_memory_equal(back, same_back, fmt->block * sizeof *back);
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
        if (!sr_format_writable(fmt) || fmt->spec.method) continue;
        for (int blocks = 1; blocks <= 3; blocks++) {
            int64_t k = blocks * fmt->block;
            sr_arena arena = {0};
            sr_weight w = create_named(fmt->name, N, k, &arena), g = w;
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

/* HQQ's axis 0: the same numbers as units in the rows of the turned matrix have, whatever rows they begin in. */
static void units_across_rows_are_those_of_the_turned_matrix(void **state) {
    (void)state;
    enum { GROUP = 64 };
    static const int shapes[][2] = {{64, 96}, {128, 96}, {32, 96}, {40, 80}, {72, 80}, {192, 64}};
    static const char *const names[] = {"hqq8", "hqq4", "hqq3", "hqq2", "hqq1"};
    for (size_t f = 0; f < sizeof names / sizeof *names; f++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int threads = 1; threads < 4; threads += 2) {
                const int64_t n = shapes[i][0], k = shapes[i][1], units = n * k / GROUP;
                const sr_format *fmt = sr_format_by_name(names[f]);
                sr_qspec s = fmt->spec, turned = fmt->spec;
                s.axis = 0;
                s.floats = turned.floats = "f32";
                sr_arena arena = {0};
                sr_weight a, b;
                sr_err err = {0};
                float *x = malloc((size_t)(2 * n * k + k + GROUP) * sizeof *x), *y = x + n * k, *row = y + n * k;
                noise r = {7};
                for (int64_t at = 0; at < n * k; at++) y[at % units * GROUP + at / units] = x[at] = noise_normal(&r);
                if (sr_weight_create(fmt, n, k, &s, &arena, &a, &err) != SR_OK ||
                    sr_weight_create(fmt, units, GROUP, &turned, &arena, &b, &err) != SR_OK)
                    fail_msg("%s", err.msg);
                assert_true(write_weight(&a, x, 0, NULL, threads));
                assert_true(write_weight(&b, y, 0, NULL, 1));
                for (int64_t at = 0; at < n * k; at++) {
                    float *other = row + k;
                    if (at % k == 0) fmt->decode(&a, at / k, 0, k, row);
                    fmt->decode(&b, at % units, 0, GROUP, other);
                    if (row[at % k] != other[at / units])
                        fail_msg("%s, %d x %d, number %d: got %g, want %g", names[f], (int)n, (int)k, (int)at,
                                 (double)row[at % k], (double)other[at / units]);
                }
                free(x);
                sr_arena_free(&arena);
            }
}

static void plain_types_round_to_nearest_even_and_keep_nan(void **state) {
    (void)state;
    static const float x[] = {1, 1.00390625f, 1.01171875f, -0.0f, 65519.996f, 1e-8f, 3.3895314e38f, NAN};
    static const uint16_t f16[] = {0x3c00, 0x3c04, 0x3c0c, 0x8000, 0x7bff, 0x0000, 0x7c00, 0x7e00};
    static const uint16_t bf16[] = {0x3f80, 0x3f80, 0x3f82, 0x8000, 0x4780, 0x322c, 0x7f7f, 0x7fc0};
    enum { N = sizeof x / sizeof *x };
    sr_arena arena = {0};
    sr_weight h = create_named("f16", 1, N, &arena), b = create_named("bf16", 1, N, &arena),
              s = create_named("f32", 1, N, &arena);
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
    sr_weight q8_1 = create_named("q8_1", 1, K, &arena), q8_k = create_named("q8_k", 1, K, &arena);
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

/* Importances of two experts in one matrix: each half as if it were encoded alone, though a thread's rows meet both. */
static void experts_are_encoded_by_importances_of_their_own(void **state) {
    (void)state;
    enum { EACH = SR_ENCODE_ROWS + 4 };
    noise r = {91};
    float *rows = malloc(2 * EACH * K * sizeof *rows), importance[2 * K];
    assert_non_null(rows);
    for (int i = 0; i < 2 * EACH; i++) fill_normal(&r, rows + i * K);
    for (int i = 0; i < 2 * K; i++) importance[i] = 0.01f + 3 * fabsf(noise_normal(&r));
    sr_arena arena = {0};
    sr_weight all = create_named("q4_k", 2 * EACH, K, &arena);
    written_rows from = {rows, K, 0};
    assert_int_equal(sr_encode(&all, &(sr_source){.rows = written_read, .ctx = &from}, importance, 2, 2, NULL), SR_OK);
    for (int e = 0; e < 2; e++) {
        sr_weight one = create_named("q4_k", EACH, K, &arena);
        assert_true(write_weight(&one, rows + e * EACH * K, 0, importance + e * K, 1));
        assert_memory_equal(all.plane[0].data + e * EACH * all.plane[0].stride, one.plane[0].data,
                            (size_t)one.plane[0].bytes);
    }
    sr_arena_free(&arena);
    free(rows);
}

/* ---------------------------------------------------------------- MXFP4 under four names */

static bool bits_of(void *ctx, int64_t row, int64_t k0, sr_mxfp4 *out) {
    const sr_weight *w = ctx;
    w->fmt->take_mxfp4(w, row, k0, out);
    return true;
}
static void decoded_rows(void *ctx, int64_t row0, int64_t n, float *out) {
    const sr_weight *w = ctx;
    for (int64_t i = 0; i < n; i++) w->fmt->decode(w, row0 + i, 0, w->K, out + i * w->K);
}
/* From each to each: negative zeros, scales at both ends and blocks of small codes, which no encoder would choose. */
static void mxfp4_keeps_its_bits(void **state) {
    static const char *const names[] = {"mxfp4", "gptoss_mxfp4", "ct_mxfp4", "mlx_mxfp4"};
    enum { ROWS = 9, COLS = 96, N_NAMES = 4 };
    (void)state;
    for (int a = 0; a < N_NAMES; a++)
        for (int b = 0; b < N_NAMES; b++) {
            sr_arena arena = {0};
            sr_weight from, to;
            sr_mxfp4 was, is;
            float x[COLS], y[COLS];
            uint64_t seed = 7;
            assert_int_equal(sr_weight_create(sr_format_by_name(names[a]), ROWS, COLS, NULL, &arena, &from, NULL),
                             SR_OK);
            assert_int_equal(sr_weight_create(sr_format_by_name(names[b]), ROWS, COLS, NULL, &arena, &to, NULL), SR_OK);
            for (int r = 0; r < ROWS; r++)
                for (int k = 0; k < COLS; k += 32) {
                    const uint8_t scale[] = {0, 1, 2, 127, 253, 254};
                    for (int i = 0; i < 32; i++) was.element[i] = (uint8_t)(sr_random(&seed) >> 32) & (r % 3 ? 15 : 9);
                    was.scale = scale[(3 * r + k / 32) % 6];
                    from.fmt->put_mxfp4(&from, r, k, &was);
                }
            const sr_source source = {.rows = decoded_rows, .ctx = &from, .mxfp4 = bits_of};
            assert_int_equal(sr_encode(&to, &source, NULL, 0, 2, NULL), SR_OK);
            for (int r = 0; r < ROWS; r++) {
                for (int k = 0; k < COLS; k += 32) {
                    from.fmt->take_mxfp4(&from, r, k, &was);
                    to.fmt->take_mxfp4(&to, r, k, &is);
                    if (memcmp(&was, &is, sizeof was) != 0) fail_msg("%s to %s: row %d", names[a], names[b], r);
                }
                from.fmt->decode(&from, r, 0, COLS, x);
                to.fmt->decode(&to, r, 0, COLS, y);
                if (memcmp(x, y, sizeof x) != 0) fail_msg("%s to %s: values of row %d", names[a], names[b], r);
            }
            sr_arena_free(&arena);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_are_encoded_by_importances_of_their_own),
        cmocka_unit_test(rounding_to_nearest_gives_the_reference_bytes),
        cmocka_unit_test(rounding_to_nearest_gives_the_packages_parts),
        cmocka_unit_test(error_of_normal_rows_is_what_the_row_states),
        cmocka_unit_test(decode_of_store_of_snap_is_back_and_snap_is_idempotent),
        cmocka_unit_test(snap_takes_the_nearest_code),
        cmocka_unit_test(every_input_decodes_to_finite_values_near_it),
        cmocka_unit_test(zero_rows_stay_zero_and_constant_rows_constant),
        cmocka_unit_test(nan_counts_as_zero_and_infinity_as_the_largest_half),
        cmocka_unit_test(four_times_the_weights_give_the_same_codes),
        cmocka_unit_test(importance_lowers_the_error_that_it_weighs),
        cmocka_unit_test(unpack_gives_back_what_was_stored),
        cmocka_unit_test(storing_one_piece_leaves_the_others),
        cmocka_unit_test(the_number_of_threads_does_not_matter),
        cmocka_unit_test(every_instruction_set_writes_the_same_bytes),
        cmocka_unit_test(rows_are_independent_and_writing_stays_inside_them),
        cmocka_unit_test(units_across_rows_are_those_of_the_turned_matrix),
        cmocka_unit_test(plain_types_round_to_nearest_even_and_keep_nan),
        cmocka_unit_test(redundant_sums_are_those_of_the_codes),
        cmocka_unit_test(mxfp4_keeps_its_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

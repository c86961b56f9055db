/* Kernels of weights: fast panels against the portable one bit for bit, dots and products against double. */
#include "kernels.h"

#include "base/half.h"
#include "base/path.h"
#include "sanitized.h"
#include "written.h"

static const sr_kern *portable(void) {
    int i = 0;
    while (sr_kerns[i + 1]) i++;
    return sr_kerns[i];
}

/* What formats bring to a set; nothing where an earlier one brought the same. */
static const sr_fast *fast_of(int i) {
    static const sr_fast none[1];
    for (int before = 0; before < i; before++)
        if (tested(before) && sr_kerns[before]->fast == sr_kerns[i]->fast) return none;
    return tested(i) ? sr_kerns[i]->fast : none;
}

/* ---------------------------------------------------------------- weights */

/* What a weight points to besides its planes. */
static void keep_arena(const sr_arena *arena) {
    guarded(1);
    map[n_maps - 1].arena = *arena;
}

/* A weight whose planes are guarded copies: round-to-nearest of normal numbers (samples where the format cannot be
 * written), or random bytes where bytes are all there is to it. group 0: the row's. */
static bool make_grouped(const sr_format *fmt, int64_t N, int64_t K, int group, bool random_bytes, sr_weight *w) {
    sr_arena arena = {0};
    sr_err err;
    sr_qspec spec = fmt->spec;
    if (group && (!spec.method || spec.group < 1 || spec.group == group)) return false;
    if (group) spec.group = group;
    if (K % fmt->block || sr_weight_create(fmt, N, K, group ? &spec : NULL, &arena, w, &err) != SR_OK) {
        sr_arena_free(&arena);
        return false;
    }
    bool ok = !random_bytes || (fmt->spec.method == NULL && !w->plane[1].data);
    if (ok && !random_bytes) {
        float *rows = malloc((size_t)(N * K) * sizeof *rows);
        fill_normal(rows, N * K, 0.05f);
        if (!write_weight(w, rows, 0, NULL, 1)) sr_weight_sample(w, (uint64_t)(N * 7919 + K));
        free(rows);
    }
    for (int p = 0; ok && p < SR_MAX_PLANES && w->plane[p].data; p++) {
        uint8_t *copy = guarded((size_t)w->plane[p].bytes);
        for (int64_t i = 0; i < w->plane[p].bytes; i++)
            copy[i] = random_bytes ? (uint8_t)next_u32() : w->plane[p].data[i];
        w->plane[p].data = copy;
    }
    keep_arena(&arena);
    return ok;
}

static void forget_rows(void); /* see decoded */
static bool make_weight(const sr_format *fmt, int64_t N, int64_t K, bool random_bytes, sr_weight *w) {
    forget_rows();
    return !passed_over() && make_grouped(fmt, N, K, 0, random_bytes, w);
}
/* The same for a kernel: false where it is no weight that the kernel takes. */
static bool make_for(const sr_fast *f, int64_t N, int64_t K, int group, bool random_bytes, sr_weight *w) {
    int mark = n_maps;
    forget_rows();
    if (passed_over()) return false;
    if (make_grouped(sr_format_by_name(f->format), N, K, group, random_bytes, w) && (!f->fits || f->fits(w)))
        return true;
    release_to(mark);
    return false;
}
/* Groups of columns that a weight is tried with, besides its row's. */
static const int other_groups[] = {0, 32, 64, 96, 128, 256};
enum { N_GROUPS = sizeof other_groups / sizeof *other_groups };
/* Of so many rows of results one is computed again: what sanitizers look at is how they were made. */
enum { CHECKED = SANITIZED ? 3 : 1 };

static sr_x8 make_x8(const float *x, int T, int64_t K) {
    sr_x8 v = {.T = T, .K = K, .n_block = (K + SR_KC - 1) / SR_KC};
    v.code = guarded((size_t)(T * v.n_block * SR_KC));
    v.scale = guarded((size_t)(T * v.n_block) * sizeof *v.scale);
    v.sum = guarded((size_t)(T * v.n_block * (SR_KC / SR_SUM)) * sizeof *v.sum);
    v.dealt = guarded((size_t)(T * v.n_block * SR_KC));
    for (int t = 0; t < T; t++) {
        portable()->quantize(x + t * K, K, v.code + t * v.n_block * SR_KC, v.scale + t * v.n_block,
                             v.sum + t * v.n_block * (SR_KC / SR_SUM));
        sr_x8_deal(&v, t);
    }
    return v;
}

/* A row of the weight that is tested, decoded; until the next call. forget_rows: before another weight. */
static const sr_weight *row_of;
static int64_t row_kept;
static void forget_rows(void) {
    row_of = NULL;
}
static const float *decoded(const sr_weight *w, int64_t row) {
    static float v[1 << 16];
    assert_true(w->K <= (int64_t)(sizeof v / sizeof *v));
    if (row_of != w || row_kept != row) w->fmt->decode(w, row, 0, w->K, v);
    row_of = w, row_kept = row;
    return v;
}

/* Row . x[t] as decoded, in double; *size is the sum of the magnitudes of what an int8 kernel adds: for a format with
 * groups |scale * code * x| + |min * x|, else |w * x|. */
static double reference(const sr_weight *w, int64_t row, const sr_x8 *x, int t, double *size) {
    const float *v = decoded(w, row);
    double sum = 0;
    *size = 0;
    for (int64_t k = 0; k < w->K; k++) {
        double xv = (double)x->code[t * x->n_block * SR_KC + k] * (double)x->scale[t * x->n_block + k / SR_KC];
        sum += xv * (double)v[k];
        *size += fabs(xv * (double)v[k]);
    }
    if (w->fmt->unpack && w->fmt->has_min)
        for (int64_t k0 = 0; k0 < w->K; k0 += SR_KC) {
            int8_t code[SR_KC];
            float scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS];
            int n = w->K - k0 < SR_KC ? (int)(w->K - k0) : SR_KC;
            w->fmt->unpack(w, row, k0, n, code, scale, min);
            for (int k = 0; k < n; k++)
                *size += 2 * fabs((double)min[k / w->group] * x->code[t * x->n_block * SR_KC + k0 + k] *
                                  (double)x->scale[t * x->n_block + k0 / SR_KC]);
        }
    return sum;
}

/* The sum of |scale * x|. */
static double size_of_steps(const sr_weight *w, int64_t row, const sr_x8 *x, int t) {
    double sum = 0;
    for (int64_t k0 = 0; k0 < w->K; k0 += SR_KC) {
        int8_t code[SR_KC];
        float scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS];
        int n = w->K - k0 < SR_KC ? (int)(w->K - k0) : SR_KC;
        w->fmt->unpack(w, row, k0, n, code, scale, min);
        for (int k = 0; k < n; k++)
            sum += fabs((double)scale[k / w->group] * x->code[t * x->n_block * SR_KC + k0 + k] *
                        (double)x->scale[t * x->n_block + k0 / SR_KC]);
    }
    return sum;
}

/* rms(row) * |x[t]|: six of these times a relative error of the weights bound what it does to the sum. */
static double length_of(const sr_weight *w, int64_t row, const sr_x8 *x, int t) {
    const float *v = decoded(w, row);
    double ww = 0, xx = 0;
    for (int64_t k = 0; k < w->K; k++) {
        double xv = (double)x->code[t * x->n_block * SR_KC + k] * (double)x->scale[t * x->n_block + k / SR_KC];
        ww += (double)v[k] * (double)v[k], xx += xv * xv;
    }
    return sqrt(ww / (double)w->K * xx);
}

static float float_at(const uint8_t *p) {
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

static bool same_or_both_nan(float a, float b) {
    return sr_bits_from_f32(a) == sr_bits_from_f32(b) || (a != a && b != b);
}

/* ---------------------------------------------------------------- panels */

typedef void unpack_fn(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);

static void compare_codes(const sr_kern *kern, unpack_fn *fast, unpack_fn *portable_one, int group, bool has_min,
                          const sr_weight *w, int64_t k0, int64_t n) {
    int64_t groups = (n + group - 1) / group;
    int mark = n_maps;
    int8_t want[SR_TILE_KC], *got = guarded((size_t)n);
    float want_scale[SR_TILE_KC / 16], want_min[SR_TILE_KC / 16];
    float *scale = guarded((size_t)groups * sizeof *scale), *min = guarded((size_t)groups * sizeof *min);
    for (int64_t r = 0; r < w->N; r++) {
        portable_one(w, r, k0, n, want, want_scale, want_min);
        fast(w, r, k0, n, got, scale, min);
        for (int64_t k = 0; k < n; k++)
            if (got[k] != want[k])
                fail_msg("%s %s row %d column %d: code %d, want %d", kern->name, w->fmt->name, (int)r, (int)(k0 + k),
                         got[k], want[k]);
        for (int64_t g = 0; g < groups; g++) {
            if (!same_or_both_nan(scale[g], want_scale[g]))
                fail_msg("%s %s row %d group %d: scale %a, want %a", kern->name, w->fmt->name, (int)r, (int)g,
                         (double)scale[g], (double)want_scale[g]);
            if (has_min && !same_or_both_nan(min[g], want_min[g]))
                fail_msg("%s %s row %d group %d: min %a, want %a", kern->name, w->fmt->name, (int)r, (int)g,
                         (double)min[g], (double)want_min[g]);
        }
    }
    release_to(mark);
}

/* The bytes of the tile that pack_w makes of unpacked rows, or of coarse ones, whatever the weights are. */
static void tiles_equal_packed_panels(void **s) {
    enum { K = 3 * SR_TILE_KC, N = 3 * SR_MR };
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *f = fast_of(i); sr_kerns[i]->tiles && f->format; f = sr_fast_next(f))
            for (int pass = 0; f->tile && pass < 4; pass++) {
                sr_weight w;
                int mark = n_maps;
                if (!make_for(f, N, K, 0, pass & 2, &w)) continue;
                for (int64_t b = 0; pass & 1 && b < w.plane[0].bytes; b++)
                    w.plane[0].data[b] = (uint8_t)(next_u32() >> 8);
                const size_t bytes = sr_kerns[i]->tile_bytes;
                uint8_t *want = calloc(1, bytes), *got = calloc(1, bytes);
                sr_panel *panel = calloc(1, sizeof *panel);
                for (int64_t row0 = 0; row0 < N; row0 += SR_MR)
                    for (int64_t k0 = 0; k0 < K; k0 += SR_TILE_KC) {
                        for (int r = 0; r < SR_MR; r++)
                            (f->tile_coarse ? w.fmt->panel : w.fmt->unpack)(
                                &w, row0 + r, k0, SR_TILE_KC, panel->code[r], panel->scale[r], panel->min[r]);
                        if (f->tile_coarse)
                            sr_kerns[i]->pack_w(panel, 1, sr_panel_group(&w), sr_panel_has_min(&w), want);
                        else
                            sr_kerns[i]->pack_w(panel, 1, w.group, w.fmt->has_min, want);
                        f->tile(&w, row0, k0, got + bytes / 2, (sr_ahead){w.plane[0].data, w.plane[0].bytes});
                        for (size_t b = 0; b < bytes; b += 4)
                            if (memcmp(want + b, got + b, 4) &&
                                !same_or_both_nan(float_at(want + b), float_at(got + b)))
                                fail_msg("%s %s row %d column %d: byte %d of %d of the tile", sr_kerns[i]->name,
                                         f->format, (int)row0, (int)k0, (int)(b - bytes / 2), (int)bytes / 2);
                    }
                free(want), free(got), free(panel);
                release_to(mark);
            }
}

static void fast_panels_and_unpackers_equal_the_portable_ones(void **s) {
    static const int64_t sizes[] = {32, 256, 288, 512, 736, 1024, 1312};
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *f = fast_of(i); f->format; f = sr_fast_next(f))
            for (size_t k = 0; (f->panel || f->unpack) && k < sizeof sizes / sizeof *sizes; k++)
                for (int pass = 0; pass < 4 * N_GROUPS; pass++) { /* some formats take whole words of rows only */
                    sr_weight w;
                    int mark = n_maps;
                    if (!make_for(f, pass & 1 ? 41 : 48, sizes[k], other_groups[pass / 4], pass & 2, &w)) continue;
                    for (int64_t k0 = 0; k0 < w.K; k0 += SR_TILE_KC) {
                        int64_t n = w.K - k0 < SR_TILE_KC ? w.K - k0 : SR_TILE_KC;
                        if (f->panel)
                            compare_codes(sr_kerns[i], f->panel, sr_panel_row, sr_panel_group(&w), sr_panel_has_min(&w),
                                          &w, k0, n);
                        if (f->unpack)
                            compare_codes(sr_kerns[i], f->unpack, w.fmt->unpack, w.group, w.fmt->has_min, &w, k0, n);
                    }
                    release_to(mark);
                }
}

static void compare_panel_rows(const sr_fast *f, const sr_weight *w) {
    sr_panel *got = guarded(sizeof *got), want;
    for (int64_t k0 = 0; k0 < w->K; k0 += SR_TILE_KC)
        for (int64_t row = 0; row + SR_MR <= w->N; row += SR_MR) {
            size_t n = w->K - k0 < SR_TILE_KC ? (size_t)(w->K - k0) : SR_TILE_KC;
            f->panel_rows(w, row, k0, (int64_t)n, got, (sr_ahead){w->plane[0].data, w->plane[0].bytes});
            for (int r = 0; r < SR_MR; r++) {
                sr_panel_row(w, row + r, k0, (int64_t)n, want.code[r], want.scale[r], want.min[r]);
                assert_memory_equal(got->code[r], want.code[r], n);
                assert_memory_equal(got->scale[r], want.scale[r], (n + SR_KC - 1) / SR_KC * sizeof(float));
            }
        }
}

static void panels_of_sixteen_rows_equal_those_of_one(void **s) {
    static const int64_t sizes[] = {32, 256, 288, 512, 736, 1024};
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *f = fast_of(i); f->format; f = sr_fast_next(f))
            for (size_t k = 0; f->panel_rows && k < N_GROUPS * (sizeof sizes / sizeof *sizes); k++) {
                sr_weight w;
                int mark = n_maps;
                if (!make_for(f, 40, sizes[k / N_GROUPS], other_groups[k % N_GROUPS], false, &w)) continue;
                compare_panel_rows(f, &w);
                release_to(mark);
            }
}

static void coarsening_equals_the_portable_one(void **s) {
    static const int groups[] = {16, 32, 64, 128, 256}, columns[] = {16, 48, 112, 256};
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (int pass = 0; tested(i) && sr_kerns[i]->coarse && pass < 400; pass++) {
            int group = groups[pass % 5], n = columns[pass / 5 % 4], mark = n_maps;
            bool has_min = pass & 1;
            int8_t *code = guarded((size_t)n), *got = guarded(SR_KC), want[SR_KC] = {0};
            float scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS], got_scale, want_scale;
            for (int k = 0; k < n; k++) code[k] = (int8_t)next_u32();
            fill_normal(scale, SR_MAX_GROUPS, pass % 7 ? 0.01f : 0);
            fill_normal(min, SR_MAX_GROUPS, 0.1f);
            if (pass % 11 == 10) scale[0] = NAN;
            if (pass % 13 == 12) scale[0] = INFINITY;
            sr_coarse_block(code, scale, has_min ? min : NULL, group, n, want, &want_scale);
            sr_kerns[i]->coarse(code, scale, has_min ? min : NULL, group, n, got, &got_scale);
            if (!same_or_both_nan(got_scale, want_scale) || memcmp(got, want, SR_KC))
                fail_msg("%s pass %d: scale %a, want %a", sr_kerns[i]->name, pass, (double)got_scale,
                         (double)want_scale);
            release_to(mark);
        }
}

/* ---------------------------------------------------------------- dots */

/* What a dot should give, and how far from it it may be. */
struct exact {
    double want, bound;
};
/* [n_rows][x->T] */
static struct exact *exact_dots(const sr_fast *fast, const sr_weight *w, const sr_x8 *x, int64_t row0, int n_rows) {
    struct exact *e = malloc((size_t)(n_rows * x->T) * sizeof *e);
    forget_rows();
    for (int i = 0; i < n_rows * x->T; i++) {
        const int64_t row = row0 + i / x->T;
        const int t = i % x->T;
        double size;
        e[i].want = reference(w, row, x, t, &size);
        if (fast->dot_offset) size += 2 * fast->dot_offset * size_of_steps(w, row, x, t);
        /* a lane adds K / 32 products and what ends a block; decode itself rounds once a weight */
        e[i].bound = U * ((double)w->K / 32 + 16) * size + 1e-30;
        if (fast->dot_err > 0) e[i].bound += 6 * (double)fast->dot_err * length_of(w, row, x, t);
    }
    return e;
}

/* e: of row0, and of `pitch` columns a row. */
static void compare_dot(const sr_kern *kern, const sr_fast *fast, const sr_weight *w, const sr_x8 *x, int row0,
                        int n_rows, const struct exact *e, int pitch) {
    int mark = n_maps;
    int64_t ld = n_rows + 3;
    float *y = guarded((size_t)((x->T - 1) * ld + n_rows) * sizeof *y);
    fast->dot(w, row0, n_rows, x, y, ld);
    for (int t = 0; t < x->T; t++)
        for (int i = 0; i < n_rows; i++) {
            const struct exact *one = &e[i * pitch + t];
            if (!(fabs((double)y[t * ld + i] - one->want) <= one->bound))
                fail_msg("%s %s K %d row %d of %d, column %d of %d: got %.9g, want %.9g, bound %.3g", kern->name,
                         w->fmt->name, (int)w->K, i, n_rows, t, x->T, (double)y[t * ld + i], one->want, one->bound);
        }
    release_to(mark);
}

static void dots_equal_decoded_weights_times_x(void **s) {
    static const int64_t sizes[] = {32, 256, 288, 512, 2304};
    static const int rows[] = {1, 63, 64, 130};
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *f = fast_of(i); f->format; f = sr_fast_next(f))
            for (size_t k = 0; f->dot && k < N_GROUPS * (sizeof sizes / sizeof *sizes); k++) {
                sr_weight w;
                int mark = n_maps;
                int64_t K = sizes[k / N_GROUPS];
                if (!make_for(f, 136, K, other_groups[k % N_GROUPS], false, &w)) continue;
                float *x = malloc((size_t)(SR_DOT_MAX * K) * sizeof *x);
                fill_normal(x, SR_DOT_MAX * K, 1);
                x[K / 2] = 30;
                const sr_x8 all = make_x8(x, SR_DOT_MAX, K);
                struct exact *e = exact_dots(f, &w, &all, 0, 130);
                for (int T = 1; T <= sr_kerns[i]->dot_max_t; T++)
                    for (size_t n = 0; n < 4; n++) {
                        int before = n_maps, row0 = n < 3 ? 64 - rows[n] : 0;
                        sr_x8 x8 = make_x8(x, T, K);
                        compare_dot(sr_kerns[i], f, &w, &x8, row0, rows[n], e + row0 * SR_DOT_MAX, SR_DOT_MAX);
                        release_to(before);
                    }
                free(e);
                free(x);
                release_to(mark);
            }
}

static void dots_do_not_depend_on_how_rows_are_split(void **s) {
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *f = fast_of(i); f->format; f = sr_fast_next(f)) {
            sr_weight w;
            int mark = n_maps;
            if (!f->dot || !make_for(f, 64, 1024, 0, false, &w)) continue;
            float x[3 * 1024], all[3 * 64], part[3 * 64];
            fill_normal(x, 3 * 1024, 1);
            sr_x8 x8 = make_x8(x, 3, 1024);
            f->dot(&w, 0, 64, &x8, all, 64);
            for (int row = 0, n = 1; row < 64; row += n, n = n % 7 + 1) {
                int take = row + n <= 64 ? n : 64 - row;
                f->dot(&w, row, take, &x8, part + row, 64);
            }
            assert_memory_equal(all, part, sizeof all);
            release_to(mark);
        }
}

/* The weights of tests/vectors/checkpoints: every stored type, group and nesting that created weights do not have. */
static bool compare_checkpoint(void *ctx, const char *folder) {
    char path[512], name[256];
    int *compared = ctx;
    sr_file *file;
    sr_err err = {0};
    sr_arena arena = {0};
    sr_qconfig *config;
    snprintf(path, sizeof path, SR_SOURCE_DIR "/tests/vectors/checkpoints/%s", folder);
    if (folder[0] == '.') return true;
    if (sr_file_open(path, NULL, &file, &err) != SR_OK || sr_qconfig_read(file, &arena, &config, &err) != SR_OK)
        fail_msg("%s: %s", folder, err.msg);
    for (int p = 0; p < file->n_parts; p++) {
        sr_weight w;
        const char *end = strstr(file->part[p].name, ".expected");
        if (!end) continue;
        snprintf(name, sizeof name, "%.*s", (int)(end - file->part[p].name), file->part[p].name);
        if (sr_weight_bind(file, config, name, -1, -1, &arena, &w, &err) != SR_OK) fail_msg("%s: %s", folder, err.msg);
        if (w.tile != SR_TILE_I8) continue;
        bool finite = true;
        float *v = malloc((size_t)w.K * sizeof *v), *x = malloc((size_t)(2 * w.K) * sizeof *x);
        for (int64_t r = 0; r < w.N; r++) {
            w.fmt->decode(&w, r, 0, w.K, v);
            for (int64_t k = 0; k < w.K; k++) finite = finite && isfinite(v[k]);
        }
        fill_normal(x, 2 * w.K, 1);
        int n = w.N < SR_DOT_ROWS ? (int)w.N : SR_DOT_ROWS, mark = n_maps;
        sr_x8 x8 = make_x8(x, 2, w.K);
        for (int i = 0; sr_kerns[i]; i++)
            for (const sr_fast *f = fast_of(i); f->format; f = sr_fast_next(f)) {
                if (sr_format_by_name(f->format) != w.fmt || (f->fits && !f->fits(&w))) continue;
                int64_t columns = w.K < SR_TILE_KC ? w.K : SR_TILE_KC;
                if (f->unpack)
                    compare_codes(sr_kerns[i], f->unpack, w.fmt->unpack, w.group, w.fmt->has_min, &w, 0, columns);
                if (f->panel)
                    compare_codes(sr_kerns[i], f->panel, sr_panel_row, sr_panel_group(&w), sr_panel_has_min(&w), &w, 0,
                                  columns);
                if (f->panel_rows) compare_panel_rows(f, &w);
                if (f->dot && finite) {
                    struct exact *e = exact_dots(f, &w, &x8, w.N - n, n);
                    compare_dot(sr_kerns[i], f, &w, &x8, (int)w.N - n, n, e, x8.T);
                    free(e);
                }
                ++*compared;
            }
        release_to(mark);
        free(v);
        free(x);
    }
    sr_file_close(file);
    sr_arena_free(&arena);
    return true;
}

static void kernels_agree_on_what_packages_wrote(void **s) {
    int compared = 0;
    sr_err err = {0};
    (void)s;
    if (sr_path_list(SR_SOURCE_DIR "/tests/vectors/checkpoints", compare_checkpoint, &compared, &err) != SR_OK)
        fail_msg("%s", err.msg);
    bool any = false; /* portable C has no kernels of formats */
    for (int i = 0; sr_kerns[i + 1]; i++) any = any || tested(i);
    assert_true(compared > 0 || !any);
}

/* Where the f16 factors of a block lie, and the upper byte of the d (1, 4 or 8) with which, with a scale of x of one,
 * every product is a whole number. */
static const struct factors {
    const char *format;
    int bytes, d, dmin, one;
} factors[] = {
    {"q4_0", 18, 0, -1, 0x3c},    {"q4_1", 20, 0, 2, 0x3c},    {"q5_0", 22, 0, -1, 0x3c},
    {"q5_1", 24, 0, 2, 0x3c},     {"q8_0", 34, 0, -1, 0x3c},   {"q2_k", 84, 80, 82, 0x3c},
    {"q3_k", 110, 108, -1, 0x3c}, {"q4_k", 144, 0, 2, 0x3c},   {"q5_k", 176, 0, 2, 0x3c},
    {"q6_k", 210, 208, -1, 0x3c}, {"iq1_s", 50, 0, -1, 0x48},  {"iq2_xxs", 66, 0, -1, 0x48},
    {"iq2_xs", 74, 0, -1, 0x48},  {"iq2_s", 82, 0, -1, 0x48},  {"iq3_xxs", 98, 0, -1, 0x44},
    {"iq3_s", 110, 0, -1, 0x3c},  {"iq4_nl", 18, 0, -1, 0x3c}, {"iq4_xs", 136, 0, -1, 0x3c},
    {"tq1_0", 54, 52, -1, 0x3c},  {"tq2_0", 66, 64, -1, 0x3c},
};

/* bytes: -1 random, else all of them; x likewise. What is below 2^24 must come back exactly. */
static void whole_numbers(const struct factors *f, int byte, int x_code, int largest_x) {
    enum { N = 8, K = 256 };
    sr_weight w;
    int mark = n_maps;
    assert_true(make_grouped(sr_format_by_name(f->format), N, K, 0, true, &w));
    for (int64_t b = 0; b < w.plane[0].bytes; b += f->bytes) {
        uint8_t *p = w.plane[0].data + b;
        if (byte >= 0) memset(p, byte, (size_t)f->bytes);
        p[f->d] = 0, p[f->d + 1] = (uint8_t)f->one;
        if (f->dmin >= 0) p[f->dmin] = 0, p[f->dmin + 1] = 0x3c;
    }
    int8_t code[K];
    int16_t sum[K / SR_SUM] = {0};
    float scale = 1, v[K];
    for (int k = 0; k < K; k++) {
        code[k] = (int8_t)(x_code ? x_code : (int)(next_u32() % (2 * (unsigned)largest_x + 1)) - largest_x);
        sum[k / SR_SUM] = (int16_t)(sum[k / SR_SUM] + code[k]);
    }
    sr_x8 x = {.T = 1, .K = K, .n_block = 1, .code = code, .scale = &scale, .sum = sum};
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *k = fast_of(i); k->format; k = sr_fast_next(k)) {
            if (strcmp(k->format, f->format) || !k->dot) continue;
            float y[N];
            k->dot(&w, 0, N, &x, y, N);
            for (int r = 0; r < N; r++) {
                int64_t want = 0;
                w.fmt->decode(&w, r, 0, K, v);
                for (int e = 0; e < K; e++) want += (int64_t)v[e] * code[e];
                /* past 2^24 the int32 of a lane rounds once, and so do their sums */
                int64_t bound = want < 1 << 24 && want > -(1 << 24) ? 0 : llabs(want) >> 20;
                if (llabs((int64_t)y[r] - want) > bound)
                    fail_msg("%s %s row %d, bytes %d, x %d: got %.9g, want %lld", sr_kerns[i]->name, f->format, r, byte,
                             x_code, (double)y[r], (long long)want);
            }
        }
    release_to(mark);
}

static void integer_sums_are_exact_on_every_instruction_set(void **s) {
    (void)s;
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        for (int n = 0; n < 20; n++) whole_numbers(&factors[i], -1, 0, 7);
        static const int bytes[] = {0xff, 0x80, 0x7f, 0x00};
        for (int b = 0; b < 4; b++) {
            whole_numbers(&factors[i], bytes[b], 127, 0);
            whole_numbers(&factors[i], bytes[b], -127, 0);
        }
    }
}

static void float_dots_equal_double(void **s) {
    static const int64_t sizes[] = {1, 7, 32, 100, 1024};
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *f = fast_of(i); f->format; f = sr_fast_next(f))
            for (size_t n = 0; f->dot_float && n < sizeof sizes / sizeof *sizes; n++)
                for (int T = 1; T <= SR_DOT_MAX; T++) {
                    sr_weight w;
                    int mark = n_maps;
                    int64_t K = sizes[n];
                    if (!make_for(f, 5, K, 0, false, &w)) continue;
                    float *x = guarded((size_t)(T * K) * sizeof *x), y[5 * SR_DOT_MAX], v[1024];
                    fill_normal(x, T * K, 1);
                    f->dot_float(&w, 0, 5, x, K, T, y, 5);
                    for (int t = 0; t < T; t++)
                        for (int r = 0; r < 5; r++) {
                            double want = 0, size = 0;
                            w.fmt->decode(&w, r, 0, K, v);
                            for (int64_t k = 0; k < K; k++) {
                                double p = (double)v[k] * (double)x[t * K + k];
                                want += p, size += fabs(p);
                            }
                            if (!(fabs((double)y[t * 5 + r] - want) <= U * ((double)K / 8 + 8) * size + 1e-30))
                                fail_msg("%s %s K %d row %d column %d: got %.9g, want %.9g", sr_kerns[i]->name,
                                         f->format, (int)K, r, t, (double)y[t * 5 + r], want);
                        }
                    release_to(mark);
                }
}

/* NaN for NaN. Weights also with every code there is, and scales of other blocks than the row's default. */
static void fast_decoding_equals_decode(void **s) {
    static const int64_t sizes[] = {8, 100, 512, 1000};
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *f = fast_of(i); f->format; f = sr_fast_next(f))
            for (int n = 0; f->decode && n < 8; n++) {
                sr_weight w;
                int mark = n_maps;
                int64_t K = sizes[n / 2];
                if (!make_for(f, 6, K, 0, false, &w)) continue;
                for (int64_t b = 0; n % 2 && b < w.plane[0].bytes; b++) w.plane[0].data[b] = (uint8_t)(next_u32() >> 8);
                float *got = guarded((size_t)K * sizeof *got);
                float want[1000];
                for (int64_t r = 0; r < w.N; r++)
                    for (int64_t k0 = 0; k0 < K; k0 += SR_TILE_KC) {
                        int64_t m = K - k0 < SR_TILE_KC ? K - k0 : SR_TILE_KC;
                        f->decode(&w, r, k0, m, got + K - m);
                        w.fmt->decode(&w, r, k0, m, want);
                        for (int64_t k = 0; k < m; k++) {
                            const float a = got[K - m + k], b = want[k];
                            if (!same_or_both_nan(a, b))
                                fail_msg("%s %s K %d row %d column %d: got %a, want %a", sr_kerns[i]->name, f->format,
                                         (int)K, (int)r, (int)(k0 + k), (double)a, (double)b);
                        }
                    }
                release_to(mark);
            }
}

static void a_nan_among_the_weights_of_a_float_dot_shows(void **s) {
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *f = fast_of(i); f->format; f = sr_fast_next(f))
            for (int at = 0; f->dot_float && at < 40; at += 13) {
                sr_weight w;
                int mark = n_maps;
                if (!make_for(f, 3, 40, 0, false, &w)) continue;
                int64_t size = w.plane[0].stride / 40;
                float v;
                for (int nan = 0xff; nan >= 0x80; nan -= 0x7f) { /* one of the two, whatever the type */
                    memset(w.plane[0].data + w.plane[0].stride + at * size, nan, (size_t)size);
                    w.fmt->decode(&w, 1, at, 1, &v);
                    if (v != v) break;
                }
                float x[2 * 40], y[2 * 3];
                for (int k = 0; k < 80; k++) x[k] = 1;
                f->dot_float(&w, 0, 3, x, 40, 2, y, 3);
                for (int j = 0; j < 6; j++) assert_int_equal(y[j] != y[j], j % 3 == 1);
                release_to(mark);
            }
}

/* ---------------------------------------------------------------- whole products through the device */

static sr_dev *open_device(sr_dev_options o) {
    sr_dev *dev = NULL;
    sr_err err = {0};
    assert_int_equal(sr_device_by_name("cpu")->open(&o, &dev, &err), SR_OK);
    return dev;
}
static sr_dev *open_cpu(const sr_kern *kern, int threads, int batch) {
    return open_device((sr_dev_options){.threads = threads, .batch = batch, .isa = kern->name});
}

static void multiply(const sr_kern *kern, int threads, sr_weight *w, const float *x, int T, float *y) {
    sr_err err = {0};
    sr_dev *dev = open_cpu(kern, threads, T);
    const sr_weight *list[1] = {w};
    int64_t ld = w->N;
    assert_int_equal(dev->ops->place(dev, w, &err), SR_OK);
    assert_int_equal(dev->ops->reserve(dev, w->K, w->N, 1, 64, &err), SR_OK);
    dev->ops->begin(dev);
    dev->ops->matmul(dev, list, 1, x, T, w->K, &y, &ld);
    assert_int_equal(dev->ops->end(dev, &err), SR_OK);
    dev->ops->close(dev);
}

/* x that quantize keeps: whole multiples of a power of two, 127 the largest of each block. With every other token so
 * small beside it that the device adds a column for its (here zero) residual. */
static void fill_whole(float *x, int T, int64_t K) {
    for (int t = 0; t < T; t++)
        for (int64_t k = 0; k < K; k++) {
            float v = k % SR_KC ? nearbyintf((t % 2 ? 4.0f : 40.0f) * normal()) : 127;
            x[t * K + k] = 0x1p-5f * (v > 127 ? 127 : v < -127 ? -127 : v);
        }
}

/* Six sigmas of independent errors a weight, each times |x|, plus rounding: of the panel, panel_err * rms(w); where
 * groups become two planes of 8 bits (gemm_amx.c), 2^-12 of the largest w of a block. */
static double product_bound(const sr_kern *kern, const sr_weight *w, const sr_x8 *x, int row, int t, double size) {
    const float *v = decoded(w, row);
    double ww = 0, xx = 0, most = 0;
    for (int64_t k = 0; k < w->K; k++) {
        double xv = (double)x->code[t * x->n_block * SR_KC + k] * (double)x->scale[t * x->n_block + k / SR_KC];
        ww += (double)v[k] * (double)v[k], xx += xv * xv;
        if (fabs((double)v[k]) > most) most = fabs((double)v[k]);
    }
    double sigma =
        (double)w->fmt->panel_err * sqrt(ww / (double)w->K) + (strcmp(kern->name, "amx") ? 0 : 0x1p-12 * most);
    return 6 * sigma * sqrt(xx) + U * ((double)w->K / 16 + 32) * size;
}

enum { GEMM_CHUNKS = 2, GEMM_K = GEMM_CHUNKS * SR_TILE_KC, GEMM_BLOCKS = GEMM_K / SR_KC };

static void fill_panels(sr_panel panel[2], int group) {
    for (int r = 0; r < SR_PAIR; r++) {
        sr_panel *q = &panel[r / SR_MR];
        for (int k = 0; k < SR_TILE_KC; k++) q->code[r % SR_MR][k] = (int8_t)(next_u32() % 255 - 127);
        fill_normal(q->scale[r % SR_MR], SR_TILE_KC / group, 0.01f);
        fill_normal(q->min[r % SR_MR], SR_TILE_KC / group, 0.5f);
    }
}

static void *aligned_guarded(size_t n) {
    return (void *)(((uintptr_t)guarded(n + 64) + 63) / 64 * 64);
}

/* One product of the row's, of T columns. */
static void compare_gemm(const sr_kern *kern, int T, int group, bool has_min) {
    static sr_panel panel[GEMM_CHUNKS][2] __attribute__((aligned(64)));
    const int mark = n_maps, K = GEMM_K, room = kern->panels ? (T + kern->pack_columns) : T;
    const bool panels = kern->panels && sr_one_scale(group, has_min);
    float *x = malloc((size_t)T * GEMM_K * sizeof *x), *acc = guarded((size_t)room * SR_PAIR * sizeof *acc);
    fill_normal(x, T * K, 1);
    const sr_x8 x8 = make_x8(x, T, K);
    void *tile = aligned_guarded(kern->tile_bytes), *packed = aligned_guarded(kern->packed_bytes(T, GEMM_BLOCKS));
    for (int item = 0; item * (int64_t)kern->pack_columns < T; item++) kern->pack_x(&x8, item, packed);
    if (kern->begin) kern->begin(T, group, has_min);
    for (int c = 0; c < GEMM_CHUNKS; c++) {
        fill_panels(panel[c], group);
        for (int h = 0; h < 2 && !panels; h++) kern->pack_w(&panel[c][h], h, group, has_min, tile);
        kern->gemm_i8(panels ? (void *)panel[c] : tile, group, has_min, &x8, packed, c * SR_TILE_KC, c == 0, acc,
                      (sr_ahead){0});
    }
    if (kern->end) kern->end();
    for (int t = 0; t < T; t++)
        for (int r = 0; r < SR_PAIR; r++) {
            double want = 0, size = 0, xx = 0, most = 0;
            for (int k = 0; k < K; k++) {
                const sr_panel *q = &panel[k / SR_TILE_KC][r / SR_MR];
                const int g = k % SR_TILE_KC / group;
                double w = (double)q->scale[r % SR_MR][g] * q->code[r % SR_MR][k % SR_TILE_KC];
                double m = has_min ? (double)q->min[r % SR_MR][g] : 0;
                double v = x8.code[t * K + k] * (double)x8.scale[t * GEMM_BLOCKS + k / SR_KC];
                want += (w - m) * v, size += (fabs(w) + fabs(m)) * fabs(v);
                xx += v * v, most = fmax(most, fabs(w));
            }
            /* groups of two planes as in product_bound */
            double planes = strcmp(kern->name, "amx") ? 0 : 6 * 0x1p-12 * most * sqrt(xx);
            near(kern, has_min ? "gemm with mins" : "gemm", 1000 * group + T, t * SR_PAIR + r,
                 (double)acc[t * SR_PAIR + r], want, U * (K / 16 + 32) * size + planes);
        }
    free(x);
    release_to(mark);
}

/* Tiles of any group, with mins and without, whatever formats make of them: against double. */
static void gemms_equal_double(void **s) {
    static const int batches[] = {1, 4, 6, 12, 16, 23, 33};
    enum { N = sizeof batches / sizeof *batches };
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (int pass = 0; tested(i) && pass < 10 * N; pass++)
            for (const sr_kern *kern = sr_kerns[i]; kern; kern = kern->few)
                compare_gemm(kern, batches[pass % N], 16 << pass / (2 * N), pass / N % 2);
}

static void batches_equal_decoded_weights_times_x(void **s) {
    static const int batches[] = {1, 5, 17, 33}, rows[] = {1, 15, 16, 31, 32, 33, 100};
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (int f = 0; tested(i) && sr_formats[f]; f++)
            for (size_t n = 0; sr_formats[f]->tile == SR_TILE_I8 && n < sizeof rows / sizeof *rows; n++) {
                sr_weight w;
                int mark = n_maps;
                int64_t K = sr_formats[f]->block == 32 && n % 2 ? 800 : 768;
                if (!make_weight(sr_formats[f], rows[n], K, false, &w)) continue;
                int T = batches[(size_t)(f + i) % 4 == 0 ? 1 : (n + (size_t)f) % 4];
                float *x = guarded((size_t)(T * K) * sizeof *x), *y = malloc((size_t)T * (size_t)w.N * sizeof *y);
                fill_whole(x, T, K);
                multiply(sr_kerns[i], 2, &w, x, T, y);
                sr_x8 x8 = make_x8(x, T, K);
                for (int r = 0; r < w.N; r += CHECKED)
                    for (int t = 0; t < T; t++) {
                        double size, want = reference(&w, r, &x8, t, &size), got = (double)y[t * w.N + r];
                        double bound = product_bound(sr_kerns[i], &w, &x8, r, t, size);
                        if (!(fabs(got - want) <= bound))
                            fail_msg("%s %s K %d N %d T %d row %d column %d: got %.9g, want %.9g, bound %.3g",
                                     sr_kerns[i]->name, w.fmt->name, (int)K, (int)w.N, T, r, t, got, want, bound);
                    }
                free(y);
                release_to(mark);
            }
}

/* Any x, odd shapes and tails. Columns of a tile are added in turn, tiles after them: at most 256 + K / 256 roundings.
 * Where there is a GEMM of bfloat16, x is rounded to that first, and weights of up to 16 bits are sums of two. */
static void batches_on_float_types_round_as_f32_sums_do(void **s) {
    static const int batches[] = {5, 12, 33}, rows[] = {1, 31, 33};
    static const int64_t columns[] = {6, 500, 1030};
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (int f = 0; tested(i) && sr_formats[f]; f++)
            for (int n = 0; sr_formats[f]->tile != SR_TILE_I8 && n < 9; n++) {
                sr_weight w;
                int mark = n_maps, T = batches[n % 3], N = rows[n / 3];
                int64_t K = columns[(n + n / 3) % 3];
                if (!make_weight(sr_formats[f], N, K, false, &w)) continue;
                float *x = guarded((size_t)(T * K) * sizeof *x), *y = malloc((size_t)(T * N) * sizeof *y);
                float *v = malloc((size_t)K * sizeof *v);
                fill_normal(x, (int)(T * K), 1);
                multiply(sr_kerns[i], 2, &w, x, T, y);
                const bool halves = sr_kerns[i]->gemm_bf16 && sr_weight_bytes(&w) <= 2 * w.N * w.K;
                for (int64_t k = 0; halves && k < T * K; k++) x[k] = sr_bf16_to_f32(sr_f32_to_bf16(x[k]));
                const double unit = U * ((double)SR_TILE_KC + 32) + (halves ? 0x1p-16 : 0);
                for (int r = 0; r < N; r++) {
                    w.fmt->decode(&w, r, 0, K, v);
                    for (int t = 0; t < T; t++) {
                        double want = 0, size = 0;
                        for (int64_t k = 0; k < K; k++) {
                            want += (double)v[k] * (double)x[t * K + k];
                            size += fabs((double)v[k] * (double)x[t * K + k]);
                        }
                        if (!(fabs((double)y[t * N + r] - want) <= unit * size))
                            fail_msg("%s %s K %d N %d T %d row %d column %d: got %.9g, want %.9g", sr_kerns[i]->name,
                                     w.fmt->name, (int)K, N, T, r, t, (double)y[t * N + r], want);
                    }
                }
                free(v);
                free(y);
                release_to(mark);
            }
}

static void a_batch_equals_single_steps_and_threads_change_nothing(void **s) {
    enum { N = 150, K = 1024, T = 9 };
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (int f = 0; tested(i) && sr_formats[f]; f++) {
            sr_weight w;
            int mark = n_maps;
            if (!make_weight(sr_formats[f], N, K, false, &w)) continue;
            static float x[T * K], y[3][T * N], one[T][N];
            static const int threads[] = {1, 2, 8};
            fill_whole(x, T, K);
            for (int batch = 1; batch <= T; batch += 4)
                for (int n = 0; n < 3; n++) {
                    memset(y[n], 0, sizeof y[n]);
                    multiply(sr_kerns[i], threads[n], &w, x, batch, y[n]);
                    assert_memory_equal(y[n], y[0], sizeof y[0]);
                }
            sr_x8 x8 = make_x8(x, T, K);
            for (int t = 0; t < T; t++) multiply(sr_kerns[i], 1, &w, x + t * K, 1, one[t]);
            for (int r = 0; r < N; r += CHECKED)
                for (int t = 0; t < T; t++) {
                    double size;
                    reference(&w, r, &x8, t, &size);
                    if (!(fabs((double)y[0][t * N + r] - (double)one[t][r]) <=
                          product_bound(sr_kerns[i], &w, &x8, r, t, size)))
                        fail_msg("%s %s row %d column %d: %.9g in a batch, %.9g alone", sr_kerns[i]->name, w.fmt->name,
                                 r, t, (double)y[0][t * N + r], (double)one[t][r]);
                }
            release_to(mark);
        }
}

/* A stack of experts: each row of each choice is to the bit what the product of the whole stack with the tokens of that
 * expert gives, whoever else shares the step; a choice's own rows (by_choice) likewise. Experts of 0, 1, a few and many
 * tokens, rows that no 16 divides where the format has its rows for itself. */
static void experts_multiply_the_tokens_that_chose_them(void **s) {
    enum { E = 4, K = 512, T = 9, CHOICES = 16, MOST_N = 64 };
    static const int32_t firsts[2][E + 1] = {{0, 1, 1, 7, 16}, {0, 1, 2, 2, 3}},
                                       tokens[2][CHOICES] = {{4, 0, 1, 3, 5, 6, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8},
                                                             {3, 3, 3}};
    static float x[CHOICES * K], own[CHOICES * K], y[CHOICES * (2 * MOST_N + 3)], whole[T * E * MOST_N];
    (void)s;
    fill_normal(x, CHOICES * K, 1);
    for (int f = 0; sr_formats[f]; f++) {
        const int64_t N = sr_formats[f]->spec.method ? 64 : 37, ld = 2 * N + 3;
        int mark = n_maps;
        sr_weight w;
        if (!make_weight(sr_formats[f], E * N, K, false, &w)) continue;
        for (int i = 0; sr_kerns[i]; i++)
            for (int variant = 0; tested(i) && variant < 8; variant++) {
                const bool exact = variant & 1, by_choice = variant & 2;
                const int32_t *first = firsts[variant / 4], *token = tokens[variant / 4];
                const sr_choices choices = {first[E], E, first, token};
                sr_err err = {0};
                sr_dev *dev =
                    open_device((sr_dev_options){.threads = 2, .batch = T, .isa = sr_kerns[i]->name, .exact = exact});
                assert_int_equal(dev->ops->place(dev, &w, &err), SR_OK);
                assert_int_equal(dev->ops->reserve(dev, K, E * N, 1, 64, &err), SR_OK);
                const sr_experts stack = {&w, 1, N, K, N, 0};
                const sr_experts *both[2] = {&stack, &stack};
                dev->ops->begin(dev);
                dev->ops->matmul_experts(dev, both, 2, &choices, x, K, by_choice, (float *[]){y, y + N},
                                         (int64_t[]){ld, ld});
                for (int e = 0; e < E; e++) {
                    const int n = first[e + 1] - first[e];
                    const sr_weight *list[1] = {&w};
                    if (n == 0) continue;
                    for (int t = 0; t < n; t++)
                        memcpy(own + t * K, x + (by_choice ? first[e] + t : token[first[e] + t]) * K, K * sizeof *x);
                    dev->ops->matmul(dev, list, 1, own, n, K, (float *[]){whole}, (int64_t[]){E * N});
                    for (int t = 0; t < n; t++)
                        for (int twice = 0; twice < 2; twice++)
                            if (memcmp(y + (first[e] + t) * ld + twice * N, whole + t * E * N + e * N,
                                       (size_t)N * sizeof *y))
                                fail_msg("%s %s%s: expert %d, its token %d", sr_kerns[i]->name, w.fmt->name,
                                         exact ? " exact" : "", e, t);
                }
                assert_int_equal(dev->ops->end(dev, &err), SR_OK);
                dev->ops->close(dev);
            }
        release_to(mark);
    }
}

/* A matrix a head, in a stack with other rows between: to the bit what the product of the whole stack with the features
 * of that head gives. Few tokens go together, more than one loop's worth of columns, many go head by head. */
static void heads_are_multiplied_by_matrices_of_their_own(void **s) {
    enum { H = 17, K = 256, T = 9, N = 15, PITCH = 32, ROW0 = 16, LD_X = H * K + 5, LD_Y = H * (N + 3) + 2 };
    static float x[T * LD_X], y[T * LD_Y], whole[T * H * PITCH];
    static const int tokens[] = {1, 4, T, 3}; /* the last one exact */
    (void)s;
    fill_normal(x, T * LD_X, 1);
    for (int f = 0; sr_formats[f]; f++) {
        int mark = n_maps;
        sr_weight w;
        if (!make_weight(sr_formats[f], H * PITCH, K, false, &w)) continue;
        for (int i = 0; sr_kerns[i]; i++)
            for (int variant = 0; tested(i) && variant < 4; variant++) {
                const int n = tokens[variant];
                const bool exact = variant == 3;
                sr_err err = {0};
                sr_dev *dev =
                    open_device((sr_dev_options){.threads = 2, .batch = T, .isa = sr_kerns[i]->name, .exact = exact});
                assert_int_equal(dev->ops->place(dev, &w, &err), SR_OK);
                assert_int_equal(dev->ops->reserve(dev, K, H * PITCH, 1, 64, &err), SR_OK);
                const sr_experts heads = {&w, 1, N, K, PITCH, ROW0};
                const sr_weight *list[1] = {&w};
                dev->ops->begin(dev);
                dev->ops->matmul_heads(dev, &heads, H, x, n, LD_X, K, y, LD_Y, N + 3);
                for (int h = 0; h < H; h += 8) {
                    dev->ops->matmul(dev, list, 1, x + h * K, n, LD_X, (float *[]){whole}, (int64_t[]){H * PITCH});
                    for (int t = 0; t < n; t++)
                        if (memcmp(y + t * LD_Y + h * (N + 3), whole + (t * H + h) * PITCH + ROW0, N * sizeof *y))
                            fail_msg("%s %s%s: head %d, token %d of %d", sr_kerns[i]->name, w.fmt->name,
                                     exact ? " exact" : "", h, t, n);
                }
                assert_int_equal(dev->ops->end(dev, &err), SR_OK);
                dev->ops->close(dev);
            }
        release_to(mark);
    }
}

static void mixing_adds_the_rows_in_order(void **s) {
    enum { D = 37, T = 3, N = 3 };
    static const int32_t row[T * N] = {4, 0, 2, 1, 3, 5, 8, 7, 6};
    float y[T * N * D], weight[T * N], out[T * D];
    (void)s;
    fill_normal(y, T * N * D, 1);
    fill_normal(weight, T * N, 1);
    for (int i = 0; sr_kerns[i]; i++) {
        if (!tested(i)) continue;
        sr_dev *dev = open_cpu(sr_kerns[i], 2, T);
        dev->ops->mix(dev, y, row, weight, N, T, D, out);
        for (int t = 0; t < T; t++)
            for (int d = 0; d < D; d++) {
                double want = 0;
                for (int n = t * N; n < (t + 1) * N; n++) want += (double)weight[n] * (double)y[row[n] * D + d];
                assert_true(fabs((double)out[t * D + d] - want) < 1e-5);
            }
        dev->ops->close(dev);
    }
}

/* Act-order: the codes that adopt sorts, in more strips of rows and tiles of columns than one, against those of the
 * file, each with the scale of its own group; and products with x, whose columns are in the file's order. Codes are
 * what decode gives with scales of 1, scales what it gives with the stored ones, over that. */
static void act_order_is_that_of_the_file(void **s) {
    enum { N = 1056, K = 2304, GROUP = 128, T = 5 };
    static const char *const names[] = {"gptq3", "gptq4", "gptq8", "ct_pack3", "ct_pack4", "ct_int8"};
    static float x[T * K], gathered[T * K], y[T * N], code[K], scaled[K];
    int32_t *g_idx = malloc(K * sizeof *g_idx);
    float *want = malloc((size_t)N * K * sizeof *want);
    (void)s;
    for (int k = 0; k < K; k++) g_idx[k] = k / GROUP;
    for (int k = K - 1; k > 0; k--) {
        int other = (int)(next_u32() % (uint32_t)(k + 1));
        int32_t g = g_idx[k];
        g_idx[k] = g_idx[other], g_idx[other] = g;
    }
    for (int i = 0; i < T * K; i++) x[i] = 127 * (float)((int)(next_u32() % 3) - 1); /* a step in any order */
    for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
        const sr_format *fmt = sr_format_by_name(names[f]);
        const bool ct = !strncmp(names[f], "ct", 2);
        sr_qspec spec = fmt->spec;
        sr_arena arena = {0};
        sr_weight w, ones;
        sr_err err = {0};
        spec.group = GROUP;
        assert_int_equal(sr_weight_create(fmt, N, K, &spec, &arena, &w, &err), SR_OK);
        sr_weight_sample(&w, f);
        ones = w;
        ones.plane[1].data = malloc((size_t)w.plane[1].bytes);
        for (int64_t i = 0; i < w.plane[1].bytes; i += 2) {
            uint16_t one = strcmp(w.plane[1].type->name, "f16") ? sr_f32_to_bf16(1) : sr_f32_to_f16(1);
            memcpy(ones.plane[1].data + i, &one, 2);
        }
        for (int r = 0; r < N; r++) {
            float scale[K / GROUP] = {0};
            fmt->decode(&ones, r, 0, K, code);
            fmt->decode(&w, r, 0, K, scaled);
            for (int k = 0; k < K; k++)
                if (code[k] != 0) scale[k / GROUP] = scaled[k] / code[k]; /* exact, as the product is */
            for (int k = 0; k < K; k++) want[r * K + k] = scale[g_idx[k]] * code[k];
        }
        free(ones.plane[1].data);

        sr_part part = {.name = "g_idx", .type = sr_stored_by_name("i32"), .n_dims = 1, .shape = {K}};
        part.n_elements = K, part.bytes = 4 * K, part.data = (const uint8_t *)g_idx;
        sr_parts parts = {.name = "w", .n = 1, .item = {{ct ? "weight_g_idx" : "g_idx", &part}}};
        if (ct) w.plane[3].data = (uint8_t *)g_idx;
        if (fmt->adopt(&parts, &w, &arena, &err) != SR_OK) fail_msg("%s: %s", names[f], err.msg);
        assert_non_null(w.perm);
        forget_rows();
        for (int r = 0; r < N; r++) {
            fmt->decode(&w, r, 0, K, scaled);
            for (int k = 0; k < K; k++)
                if (scaled[k] != want[r * K + w.perm[k]])
                    fail_msg("%s row %d column %d: got %a, want %a", names[f], r, w.perm[k], (double)scaled[k],
                             (double)want[r * K + w.perm[k]]);
        }
        for (int t = 0; t < T; t++)
            for (int k = 0; k < K; k++) gathered[t * K + k] = x[t * K + w.perm[k]];
        int mark = n_maps;
        sr_x8 x8 = make_x8(gathered, T, K);
        for (int i = 0; sr_kerns[i]; i++)
            for (int batch = 1; tested(i) && batch <= T; batch += 4) {
                multiply(sr_kerns[i], 2, &w, x, batch, y);
                for (int r = 0; r < N; r += r < 1000 ? 50 : 3)
                    for (int t = 0; t < batch; t++) {
                        double sum = 0, size;
                        for (int k = 0; k < K; k++) sum += (double)want[r * K + k] * (double)x[t * K + k];
                        reference(&w, r, &x8, t, &size);
                        near(sr_kerns[i], names[f], N, r, (double)y[t * N + r], sum,
                             product_bound(sr_kerns[i], &w, &x8, r, t, size));
                    }
            }
        release_to(mark);
        w.plane[3].data = NULL;
        sr_arena_free(&arena);
    }
    free(g_idx);
    free(want);
}

/* Any x: what rounding x to a step leaves is step^2 / 12 a column, and six sigmas of that times w are allowed. A token
 * whose outlier would make that large has its residual multiplied too, so its step is a 127th. */
static void outliers_of_x_cost_no_more_than_ordinary_rounding(void **s) {
    enum { N = 40, K = 1024, T = 6 };
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (int f = 0; tested(i) && sr_formats[f]; f++) {
            sr_weight w;
            int mark = n_maps;
            if (sr_formats[f]->tile != SR_TILE_I8 || !make_weight(sr_formats[f], N, K, false, &w)) continue;
            static float x[T * K], y[T * N];
            for (int batch = 1; batch <= T; batch += 5) {
                fill_normal(x, T * K, 1);
                for (int t = 0; t < T; t += 2) x[t * K + 100 * t] = 100;
                sr_x8 x8 = make_x8(x, T, K);
                multiply(sr_kerns[i], 2, &w, x, batch, y);
                for (int r = 0; r < N; r++)
                    for (int t = 0; t < batch; t++) {
                        double want = 0, size, ww = 0;
                        const float *v = decoded(&w, r);
                        reference(&w, r, &x8, t, &size);
                        for (int k = 0; k < K; k++)
                            want += (double)v[k] * (double)x[t * K + k], ww += (double)v[k] * (double)v[k];
                        double step = 5.0 / 127; /* of a block without an outlier */
                        double bound = product_bound(sr_kerns[i], &w, &x8, r, t, size) + 6 * step / sqrt(12) * sqrt(ww);
                        near(sr_kerns[i], w.fmt->name, N, r, (double)y[t * N + r], want, bound);
                    }
            }
            release_to(mark);
        }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_equal_packed_panels),
        cmocka_unit_test(fast_panels_and_unpackers_equal_the_portable_ones),
        cmocka_unit_test(panels_of_sixteen_rows_equal_those_of_one),
        cmocka_unit_test(coarsening_equals_the_portable_one),
        cmocka_unit_test(dots_equal_decoded_weights_times_x),
        cmocka_unit_test(dots_do_not_depend_on_how_rows_are_split),
        cmocka_unit_test(kernels_agree_on_what_packages_wrote),
        cmocka_unit_test(integer_sums_are_exact_on_every_instruction_set),
        cmocka_unit_test(float_dots_equal_double),
        cmocka_unit_test(fast_decoding_equals_decode),
        cmocka_unit_test(a_nan_among_the_weights_of_a_float_dot_shows),
        cmocka_unit_test(gemms_equal_double),
        cmocka_unit_test(batches_equal_decoded_weights_times_x),
        cmocka_unit_test(batches_on_float_types_round_as_f32_sums_do),
        cmocka_unit_test(a_batch_equals_single_steps_and_threads_change_nothing),
        cmocka_unit_test(experts_multiply_the_tokens_that_chose_them),
        cmocka_unit_test(heads_are_multiplied_by_matrices_of_their_own),
        cmocka_unit_test(mixing_adds_the_rows_in_order),
        cmocka_unit_test(act_order_is_that_of_the_file),
        cmocka_unit_test(outliers_of_x_cost_no_more_than_ordinary_rounding),
    };
    return RUN_KERNELS(tests, argc, argv);
}

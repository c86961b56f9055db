/* Quantized checkpoints as their own packages write and read them: every folder of tests/vectors/checkpoints is a model
 * directory (config.json with a quantization config, model.safetensors) whose tensors "<module>.expected" hold what the
 * reference decodes the parts of <module> to, [N][K] in the reference's own type. decode must equal it to the bit after
 * the same rounding, and what tiles are made of must stay near it.
 *
 * "<module>.error" instead, a U8 tensor of text: binding must fail with a message that holds this text. */
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
#include "base/path.h"
#include "fmt/fmt.h"
#include "results.h"

#define ROOT SR_SOURCE_DIR "/tests/vectors/checkpoints"

struct checkpoint {
    sr_file *file;
    sr_arena arena;
    sr_qconfig *config;
};

static void open_checkpoint(const char *folder, struct checkpoint *c) {
    char path[512];
    sr_err err = {0};
    *c = (struct checkpoint){0};
    snprintf(path, sizeof path, ROOT "/%s", folder);
    if (sr_file_open(path, NULL, &c->file, &err) != SR_OK) fail_msg("%s: %s", folder, err.msg);
    if (sr_qconfig_read(c->file, &c->arena, &c->config, &err) != SR_OK) fail_msg("%s: %s", folder, err.msg);
}
static void close_checkpoint(struct checkpoint *c) {
    sr_file_close(c->file);
    sr_arena_free(&c->arena);
}

/* Row of a weight in the order of x. */
static void decode_row(const sr_weight *w, int64_t row, float *out) {
    float *stored = malloc((size_t)w->K * sizeof *stored);
    w->fmt->decode(w, row, 0, w->K, stored);
    for (int64_t k = 0; k < w->K; k++) out[w->perm ? w->perm[k] : k] = stored[k];
    free(stored);
}

/* Element i of the expectation, and ours rounded to its type, as bits. */
static uint32_t expected_bits(const sr_part *p, int64_t i) {
    uint32_t b = 0;
    memcpy(&b, p->data + i * p->type->bytes, p->type->bytes);
    return b;
}
static uint32_t rounded_bits(const sr_part *p, float v) {
    if (!strcmp(p->type->name, "f16")) return sr_f32_to_f16(v);
    if (!strcmp(p->type->name, "bf16")) return sr_f32_to_bf16(v);
    return sr_bits_from_f32(v);
}
static float value_of(const sr_part *p, uint32_t bits) {
    if (!strcmp(p->type->name, "f16")) return sr_f16_to_f32((uint16_t)bits);
    if (!strcmp(p->type->name, "bf16")) return sr_bf16_to_f32((uint16_t)bits);
    return sr_f32_from_bits(bits);
}

static void check_decode(const char *folder, const sr_weight *w, const sr_part *p) {
    float *row = malloc((size_t)w->K * sizeof *row);
    for (int64_t r = 0; r < w->N; r++) {
        decode_row(w, r, row);
        for (int64_t k = 0; k < w->K; k++) {
            uint32_t want = expected_bits(p, r * w->K + k), got = rounded_bits(p, row[k]);
            float a = value_of(p, want), b = value_of(p, got);
            if (want != got && !(a != a && b != b) && !(a == 0 && b == 0))
                fail_msg("%s: %s (%s) row %lld column %lld: got %a, want %a", folder, p->name, w->fmt->name,
                         (long long)r, (long long)k, (double)b, (double)a);
        }
    }
    free(row);
}

/* A part of a row is that part of the row: starts and lengths that are multiples of the block. */
static void check_pieces(const char *folder, const sr_weight *w) {
    float *whole = malloc((size_t)w->K * sizeof *whole), *piece = malloc((size_t)w->K * sizeof *piece);
    int64_t row = w->N - 1, step = w->fmt->block;
    w->fmt->decode(w, row, 0, w->K, whole);
    for (int64_t k0 = 0; k0 < w->K; k0 += 3 * step)
        for (int64_t n = step; k0 + n <= w->K; n += 5 * step) {
            w->fmt->decode(w, row, k0, n, piece);
            if (memcmp(piece, whole + k0, (size_t)n * sizeof *piece))
                fail_msg("%s: %s: columns %lld + %lld differ from those of the whole row", folder, w->fmt->name,
                         (long long)k0, (long long)n);
        }
    free(whole);
    free(piece);
}

/* rms(tile - decode) / rms(decode) of the whole matrix within what the row states. */
static void check_panel(const char *folder, const sr_weight *w) {
    if (w->tile != SR_TILE_I8) return;
    int64_t padded = (w->K + SR_KC - 1) / SR_KC * SR_KC;
    int8_t *code = malloc((size_t)padded);
    float *scale = malloc((size_t)padded / 16 * sizeof *scale), *min = malloc((size_t)padded / 16 * sizeof *min);
    float *want = malloc((size_t)w->K * sizeof *want);
    double error = 0, power = 0, unpacked = 0;
    for (int64_t r = 0; r < w->N; r++) {
        w->fmt->decode(w, r, 0, w->K, want);
        for (int pass = 0; pass < 2; pass++) {
            int group = pass ? w->group : sr_panel_group(w);
            bool has_min = pass ? w->fmt->has_min : sr_panel_has_min(w);
            if (pass)
                w->fmt->unpack(w, r, 0, w->K, code, scale, min);
            else
                sr_panel_row(w, r, 0, w->K, code, scale, min);
            for (int64_t k = 0; k < w->K; k++) {
                double v = (double)scale[k / group] * code[k] - (has_min ? (double)min[k / group] : 0);
                *(pass ? &unpacked : &error) += (v - (double)want[k]) * (v - (double)want[k]);
                if (!pass) power += (double)want[k] * (double)want[k];
            }
        }
    }
    /* The row's bound is that of many N(0, 1) rows; a few of other weights scatter around it. unpack may round a scale
     * or a min once where decode rounds the product: 2^-23 of numbers up to 256 steps. */
    double stated = 1.3 * (double)w->fmt->panel_err + 1e-4;
    if (sqrt(unpacked) > stated * sqrt(power))
        fail_msg("%s: %s: unpack differs from decode by %g of its size", folder, w->fmt->name, sqrt(unpacked / power));
    if (sqrt(error) > stated * sqrt(power))
        fail_msg("%s: %s: panel differs from decode by %g of its size, stated %g", folder, w->fmt->name,
                 sqrt(error / power), (double)w->fmt->panel_err);
    free(code);
    free(scale);
    free(min);
    free(want);
}

struct seen {
    int folders, matrices, errors;
};

static bool check_folder(void *ctx, const char *folder) {
    struct seen *seen = ctx;
    struct checkpoint c;
    if (folder[0] == '.') return true;
    open_checkpoint(folder, &c);
    int before = seen->matrices + seen->errors;
    for (int i = 0; i < c.file->n_parts; i++) {
        const sr_part *p = &c.file->part[i];
        const char *dot = strrchr(p->name, '.');
        bool is_error = dot && !strcmp(dot, ".error");
        if (!dot || (!is_error && strcmp(dot, ".expected"))) continue;
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)(dot - p->name), p->name);
        sr_weight w;
        sr_err err = {0};
        sr_status s = sr_weight_bind(c.file, c.config, name, -1, -1, &c.arena, &w, &err);
        if (is_error) {
            char want[256];
            snprintf(want, sizeof want, "%.*s", (int)p->bytes, (const char *)p->data);
            if (s == SR_OK || !strstr(err.msg, want)) fail_msg("%s: got '%s', want '%s'", folder, err.msg, want);
            seen->errors++;
            continue;
        }
        if (s != SR_OK) fail_msg("%s: %s", folder, err.msg);
        assert_int_equal(p->n_elements, w.N * w.K);
        /* The same when the caller says what it expects; another shape is refused. */
        assert_int_equal(sr_weight_bind(c.file, c.config, name, w.N, w.K, &c.arena, &w, NULL), SR_OK);
        sr_weight other;
        assert_int_not_equal(sr_weight_bind(c.file, c.config, name, w.N, 2 * w.K, &c.arena, &other, NULL), SR_OK);
        check_decode(folder, &w, p);
        check_pieces(folder, &w);
        check_panel(folder, &w);
        record("matrix\t%s\t%s\t%s", w.fmt->name,
               strstr(name, "random") || strstr(folder, "random") ? "random" : "written",
               w.K % SR_KC || w.N % SR_MR ? "tail" : "whole");
        seen->matrices++;
    }
    if (seen->matrices + seen->errors == before) fail_msg("%s: nothing is expected of it", folder);
    seen->folders++;
    close_checkpoint(&c);
    return true;
}

static void every_checkpoint_decodes_to_what_its_package_says(void **state) {
    (void)state;
    struct seen seen = {0};
    sr_err err = {0};
    if (sr_path_look(ROOT) == SR_PATH_ABSENT) skip();
    if (sr_path_list(ROOT, check_folder, &seen, &err) != SR_OK) fail_msg("%s", err.msg);
    print_message("%d checkpoints, %d matrices, %d refusals\n", seen.folders, seen.matrices, seen.errors);
    assert_true(seen.matrices > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_checkpoint_decodes_to_what_its_package_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

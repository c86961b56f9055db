/* LLaMA files from before GGUF: what the directory says of them, the logits of tiny models in every version, joining of
 * several files, and a hostile file for each rule. Vectors: tests/vectors/ggml, made by make_ggml.py. */
#include <math.h>

#include "support.h"

#include "draft.h"
#include "file/file.h"
#include "fmt/fmt.h"
#include "noise.h"

#define GGML SR_SOURCE_DIR "/tests/vectors/ggml/"
#define TINY SR_SOURCE_DIR "/tests/vectors/tiny/"

static sr_file *open_file(const char *path) {
    sr_file *f = NULL;
    sr_err err = {0};
    if (sr_file_open(path, NULL, &f, &err) != SR_OK) fail_msg("%s", err.msg);
    return f;
}

/* ---------------------------------------------------------------- the directory */

static void expect_int(const sr_file *f, const char *key, int64_t want) {
    int64_t got = -1;
    sr_err err = {0};
    if (!sr_value_int(f, key, INT64_MIN, INT64_MAX, &got, &err) || got != want)
        fail_msg("%s: %s: got %lld, want %lld", f->path, key, (long long)got, (long long)want);
}
static void expect_part(const sr_file *f, const char *name, const char *type, int64_t rows, int64_t columns) {
    const sr_part *p = sr_file_part(f, name);
    if (!p) fail_msg("%s: no %s", f->path, name);
    assert_string_equal(p->type->name, type);
    assert_int_equal(p->shape[0], rows);
    assert_int_equal(p->n_dims, columns ? 2 : 1);
    if (columns) assert_int_equal(p->shape[1], columns);
}

static void names_keys_and_shapes_are_those_of_gguf(void **state) {
    (void)state;
    sr_file *f = open_file(GGML "ggml_f16.bin");
    assert_true(f->gguf);
    assert_string_equal(f->container, "GGML");
    expect_part(f, "token_embd.weight", "f16", 336, 32);
    expect_part(f, "output.weight", "f16", 336, 32);
    expect_part(f, "output_norm.weight", "f32", 32, 0);
    for (int layer = 0; layer < 2; layer++) {
        static const struct {
            const char *name;
            int64_t rows, columns;
        } parts[] = {{"attn_norm", 32, 0}, {"attn_q", 32, 32},      {"attn_k", 32, 32},
                     {"attn_v", 32, 32},   {"attn_output", 32, 32}, {"ffn_norm", 32, 0},
                     {"ffn_gate", 96, 32}, {"ffn_down", 32, 96},    {"ffn_up", 96, 32}};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", layer, parts[i].name);
            expect_part(f, name, parts[i].columns ? "f16" : "f32", parts[i].rows, parts[i].columns);
        }
    }
    assert_int_equal(f->n_parts, 3 + 2 * 9);
    expect_int(f, "llama.vocab_size", 336);
    expect_int(f, "llama.context_length", 2048);
    expect_int(f, "llama.embedding_length", 32);
    expect_int(f, "llama.block_count", 2);
    expect_int(f, "llama.feed_forward_length", 96);
    expect_int(f, "llama.rope.dimension_count", 8);
    expect_int(f, "llama.attention.head_count", 4);
    expect_int(f, "llama.attention.head_count_kv", 4);
    expect_int(f, "general.file_type", 1);
    expect_int(f, "tokenizer.ggml.unknown_token_id", 0);
    expect_int(f, "tokenizer.ggml.bos_token_id", 1);
    expect_int(f, "tokenizer.ggml.eos_token_id", 2);
    sr_file_close(f);
}

static void epsilon_is_that_of_the_time(void **state) {
    (void)state;
    static const struct {
        const char *path;
        double eps;
    } files[] = {{GGML "ggml_f16.bin", 1e-6},
                 {GGML "ggjt_v1.bin", 1e-6},
                 {GGML "ggjt_v2.bin", 1e-6},
                 {GGML "ggjt_v3.bin", 5e-6},
                 {GGML "ggjt_gqa.bin", 1e-5}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        sr_file *f = open_file(files[i].path);
        double eps = 0;
        assert_true(sr_value_float(f, "llama.attention.layer_norm_rms_epsilon", &eps, NULL));
        assert_true(eps == files[i].eps);
        sr_file_close(f);
    }
}

/* The same vocabulary as GGUF spells it: tests/vectors/tiny/phi3.gguf. These files do not tell a token that was added
 * behind the vocabulary from others; the oldest have no scores. */
static void the_vocabulary_is_that_of_gguf(void **state) {
    (void)state;
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"};
    static const char *const files[] = {GGML "ggml_f16.bin", GGML "ggmf_two.bin", GGML "ggjt_v1.bin",
                                        GGML "ggjt_v3.bin"};
    enum { NORMAL = 1, CONTROL = 3 };
    sr_file *gguf = open_file(TINY "phi3.gguf");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        sr_file *f = open_file(files[i]);
        sr_array got[3], want[3];
        int n_added = 0;
        for (int k = 0; k < 3; k++) {
            const sr_value *a = sr_file_value(f, keys[k]), *b = sr_file_value(gguf, keys[k]);
            assert_non_null(a);
            assert_true(a->kind == b->kind && a->stored == b->stored && a->v.a.kind == b->v.a.kind);
            assert_int_equal(a->v.a.n, b->v.a.n);
            got[k] = sr_array_over(a);
            want[k] = sr_array_over(b);
        }
        for (int id = 0; id < 336; id++) {
            const char *a, *b;
            size_t na, nb = 0;
            double x, y;
            int64_t s, t;
            assert_true(sr_array_string(&got[0], &a, &na) && sr_array_string(&want[0], &b, &nb));
            assert_true(sr_array_float(&got[1], &x) && sr_array_float(&want[1], &y));
            assert_true(sr_array_int(&got[2], &s) && sr_array_int(&want[2], &t));
            if (na != nb || memcmp(a, b, na) != 0)
                fail_msg("%s: token %d: got %.*s, want %.*s", files[i], id, (int)na, a, (int)nb, b);
            bool added = id > 2 && t == CONTROL;
            n_added += added;
            assert_int_equal(s, added ? NORMAL : t);
            if (added) y = i == 0 ? 259 - id : -1000;
            if (x != y) fail_msg("%s: token %d: score %g, want %g", files[i], id, x, y);
        }
        assert_int_equal(n_added, 1);
        sr_file_close(f);
    }
    sr_file_close(gguf);
}

static void numbers_of_types_mean_what_they_meant_at_the_time(void **state) {
    (void)state;
    sr_file *v1 = open_file(GGML "ggjt_v1.bin"), *v2 = open_file(GGML "ggjt_v2.bin"),
            *v3 = open_file(GGML "ggjt_v3.bin");
    static const char *const names[] = {"token_embd.weight",    "output.weight",       "blk.0.attn_q.weight",
                                        "blk.0.attn_k.weight",  "blk.0.attn_v.weight", "blk.0.attn_output.weight",
                                        "blk.0.ffn_gate.weight"};
    static const char *const old[] = {"q4_0_v1", "q4_1_v1", "q4_2", "q4_3", "q5_0_v1", "q5_1_v1", "q8_0_v1"};
    static const char *const second[] = {"q4_0_v2", "q4_1_v2", "q5_0", "q5_1", "q8_0_v1"};
    static const char *const third[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0"};
    for (int i = 0; i < 7; i++) assert_string_equal(sr_file_part(v1, names[i])->type->name, old[i]);
    for (int i = 0; i < 5; i++) assert_string_equal(sr_file_part(v2, names[i])->type->name, second[i]);
    for (int i = 0; i < 5; i++) assert_string_equal(sr_file_part(v3, names[i])->type->name, third[i]);
    assert_string_equal(v1->container, "GGJT v1");
    assert_string_equal(v2->container, "GGJT v2");
    assert_string_equal(v3->container, "GGJT v3");
    sr_file_close(v1);
    sr_file_close(v2);
    sr_file_close(v3);
}

/* ---------------------------------------------------------------- whole models */

static void logits_of_every_version_match_the_reference(void **state) {
    (void)state;
    static const char *const files[] = {"ggml_f16", "ggmf_two", "ggjt_v1", "ggjt_v2", "ggjt_v3", "ggjt_gqa"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[512];
        uint32_t n, V = 0;
        snprintf(path, sizeof path, GGML "%s.logits", files[i]);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        assert_true(fread(&n, 4, 1, f) == 1 && fread(&V, 4, 1, f) == 1);
        int32_t *ids = malloc(n * sizeof *ids), got_V;
        float *want = malloc((size_t)n * V * sizeof *want);
        assert_true(fread(ids, 4, n, f) == n && fread(want, 4, (size_t)n * V, f) == (size_t)n * V);
        fclose(f);
        snprintf(path, sizeof path, GGML "%s.bin", files[i]);
        float *got = logits_of(path, ids, (int32_t)n, &got_V);
        assert_int_equal(got_V, V);
        double worst = 0;
        for (size_t k = 0; k < (size_t)n * V; k++) worst = fmax(worst, fabs((double)got[k] - (double)want[k]));
        if (!(worst < 1e-4)) fail_msg("%s: logits differ by %g", files[i], worst); /* f32 against f64, logits below 8 */
        free(ids);
        free(want);
        free(got);
    }
}

/* ---------------------------------------------------------------- files of one's own */

enum {
    E = 64,
    HEADS = 4,
    FF = 192,
    VOCAB = 260,
    LAYERS = 1
}; /* widths: with 256 columns for the K types: see `wide` */
enum { MAGIC_GGML = 0x67676d6c, MAGIC_GGMF = 0x67676d66, MAGIC_GGJT = 0x67676a74 };

struct spec {
    uint32_t magic, version;
    uint32_t n_embd, n_ff, kv_rows;
    uint32_t id; /* of every matrix */
    const char *type;
};

static void write_head(struct bytes *b, const struct spec *s) {
    put_int(b, s->magic, 4);
    if (s->version) put_int(b, s->version, 4);
    const uint32_t h[] = {VOCAB, s->n_embd, 32, HEADS, LAYERS, s->n_embd / HEADS, 2};
    for (int i = 0; i < 7; i++) put_int(b, h[i], 4);
    for (int id = 0; id < VOCAB; id++) {
        char text[8] = {(char)(id - 3), 0};
        size_t n = id < 3 ? 0 : 1;
        if (id > 258) text[0] = 'a', text[1] = 'b', n = 2;
        put_int(b, n, 4);
        put(b, text, n);
        float score = -(float)id;
        if (s->version) put(b, &score, 4);
    }
}
/* The record of a tensor up to its data. columns 0: one dimension. */
static void write_record(struct bytes *b, const struct spec *s, const char *name, uint32_t id, int64_t rows,
                         int64_t columns) {
    put_int(b, columns ? 2 : 1, 4);
    put_int(b, strlen(name), 4);
    put_int(b, id, 4);
    if (columns) put_int(b, (uint64_t)columns, 4);
    put_int(b, (uint64_t)rows, 4);
    put(b, name, strlen(name));
    if (s->magic == MAGIC_GGJT) pad_to(b, 32);
}

struct matrix {
    const char *old, *gguf;
    uint32_t rows, columns; /* columns 0: a vector of ones */
    bool by_columns;
};
static int matrices(const struct spec *s, struct matrix *m) {
    const struct matrix all[] = {
        {"tok_embeddings.weight", "token_embd.weight", VOCAB, s->n_embd, true},
        {"norm.weight", "output_norm.weight", s->n_embd, 0, false},
        {"output.weight", "output.weight", VOCAB, s->n_embd, false},
        {"layers.0.attention_norm.weight", "blk.0.attn_norm.weight", s->n_embd, 0, false},
        {"layers.0.attention.wq.weight", "blk.0.attn_q.weight", s->n_embd, s->n_embd, false},
        {"layers.0.attention.wk.weight", "blk.0.attn_k.weight", s->kv_rows, s->n_embd, false},
        {"layers.0.attention.wv.weight", "blk.0.attn_v.weight", s->kv_rows, s->n_embd, false},
        {"layers.0.attention.wo.weight", "blk.0.attn_output.weight", s->n_embd, s->n_embd, true},
        {"layers.0.ffn_norm.weight", "blk.0.ffn_norm.weight", s->n_embd, 0, false},
        {"layers.0.feed_forward.w1.weight", "blk.0.ffn_gate.weight", s->n_ff, s->n_embd, false},
        {"layers.0.feed_forward.w2.weight", "blk.0.ffn_down.weight", s->n_embd, s->n_ff, true},
        {"layers.0.feed_forward.w3.weight", "blk.0.ffn_up.weight", s->n_ff, s->n_embd, false}};
    memcpy(m, all, sizeof all);
    return sizeof all / sizeof *all;
}
enum { N_MATRICES = 12 };

/* Random weights in a format, [rows][columns]. */
static struct bytes random_matrix(const sr_format *fmt, int64_t rows, int64_t columns, noise *r) {
    struct bytes b = {0};
    sr_arena arena = {0};
    sr_weight w;
    float *row = malloc((size_t)columns * sizeof *row);
    OK(sr_weight_create(fmt, rows, columns, NULL, &arena, &w, e_));
    sr_weight_sample(&w, noise_u64(r));
    for (int64_t i = 0; i < rows && sr_format_writable(fmt); i++) {
        for (int64_t k = 0; k < columns; k++) row[k] = 0.2f * noise_normal(r);
        sr_rtn_rows(&w, i, 1, row, NULL);
    }
    put(&b, w.plane[0].data, (size_t)w.plane[0].bytes);
    sr_arena_free(&arena);
    free(row);
    return b;
}

/* The same model three times: in one file, in `pieces`, and as GGUF with the decoded weights in F32. */
static void write_three(const char *dir, const struct spec *s, int pieces) {
    struct matrix m[N_MATRICES];
    struct bytes whole = {0}, piece[8] = {{0}}, gguf = {0};
    const sr_format *fmt = sr_format_by_name(s->type);
    noise r = {s->id + 1};
    int n = matrices(s, m);
    write_head(&whole, s);
    for (int i = 0; i < pieces; i++) write_head(&piece[i], s);
    g_header(&gguf, 3, (uint64_t)n, 12);
    g_string(&gguf, "general.architecture", "llama");
    g_string(&gguf, "tokenizer.ggml.model", "none");
    const struct {
        const char *key;
        uint32_t v;
    } ints[] = {{"llama.context_length", 2048},
                {"llama.embedding_length", s->n_embd},
                {"llama.block_count", LAYERS},
                {"llama.feed_forward_length", s->n_ff},
                {"llama.attention.head_count", HEADS},
                {"llama.attention.head_count_kv", s->kv_rows / (s->n_embd / HEADS)},
                {"llama.rope.dimension_count", s->n_embd / HEADS},
                {"llama.vocab_size", VOCAB},
                {"general.alignment", 32}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) g_u32(&gguf, ints[i].key, ints[i].v);
    float eps = s->version < 3 ? 1e-6f : s->kv_rows != s->n_embd ? 1e-5f : 5e-6f;
    g_key(&gguf, "llama.attention.layer_norm_rms_epsilon", G_F32);
    put(&gguf, &eps, 4);
    uint64_t at = 0;
    for (int i = 0; i < n; i++) {
        g_tensor(&gguf, m[i].gguf, m[i].columns ? m[i].columns : m[i].rows, m[i].columns ? m[i].rows : 0, 0, at);
        at += 4 * (uint64_t)m[i].rows * (m[i].columns ? m[i].columns : 1);
        at = (at + 31) / 32 * 32;
    }
    for (int i = 0; i < n; i++) {
        if (!m[i].columns) {
            float one = 1;
            pad_to(&gguf, 32);
            for (int k = -1; k < pieces; k++) write_record(k < 0 ? &whole : &piece[k], s, m[i].old, 0, m[i].rows, 0);
            for (uint32_t e = 0; e < m[i].rows; e++) {
                put(&gguf, &one, 4);
                for (int k = -1; k < pieces; k++) put(k < 0 ? &whole : &piece[k], &one, 4);
            }
            continue;
        }
        struct bytes b = random_matrix(fmt, m[i].rows, m[i].columns, &r);
        size_t row = b.n / m[i].rows;
        write_record(&whole, s, m[i].old, s->id, m[i].rows, m[i].columns);
        put(&whole, b.data, b.n);
        for (int k = 0; k < pieces; k++) {
            size_t part = (m[i].by_columns ? row : b.n) / (size_t)pieces;
            write_record(&piece[k], s, m[i].old, s->id, m[i].by_columns ? m[i].rows : m[i].rows / (uint32_t)pieces,
                         m[i].by_columns ? m[i].columns / (uint32_t)pieces : m[i].columns);
            for (uint32_t e = 0; e < (m[i].by_columns ? m[i].rows : 1); e++)
                put(&piece[k], b.data + e * row + (size_t)k * part, part);
        }
        sr_weight w = {.fmt = fmt, .N = m[i].rows, .K = m[i].columns, .group = fmt->group};
        w.plane[0].data = b.data;
        w.plane[0].stride = (int64_t)row;
        float *out = malloc(m[i].columns * sizeof *out);
        pad_to(&gguf, 32);
        for (uint32_t e = 0; e < m[i].rows; e++) {
            fmt->decode(&w, e, 0, m[i].columns, out);
            put(&gguf, out, m[i].columns * sizeof *out);
        }
        free(out);
        drop(&b);
    }
    write_file(in(dir, "decoded.gguf"), gguf.data, gguf.n);
    write_file(in(dir, "whole.bin"), whole.data, whole.n);
    for (int k = 0; k < pieces; k++) {
        char name[16];
        snprintf(name, sizeof name, k ? "p.bin.%d" : "p.bin", k);
        write_file(in(dir, name), piece[k].data, piece[k].n);
        drop(&piece[k]);
    }
    drop(&whole);
    drop(&gguf);
}

static void a_model_in_pieces_equals_the_whole_and_the_decoded_weights(void **state) {
    static const struct spec specs[] = {
        {MAGIC_GGMF, 1, E, FF, E, 1, "f16"},        {MAGIC_GGML, 0, E, FF, E, 0, "f32"},
        {MAGIC_GGJT, 1, E, FF, E, 4, "q4_2"},       {MAGIC_GGJT, 2, E, FF, E, 7, "q5_1"},
        {MAGIC_GGJT, 3, E, FF, E / 2, 8, "q8_0"},   {MAGIC_GGJT, 3, 512, 512, 512, 12, "q4_k"},
        {MAGIC_GGJT, 3, 512, 512, 512, 14, "q6_k"},
    };
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        for (int pieces = 2; pieces <= (i < 3 ? 4 : 2); pieces += 2) {
            int32_t ids[6] = {1, 5, 259, 0, 77, 30}, V[3];
            write_three(*state, &specs[i], pieces);
            static const char *const names[] = {"decoded.gguf", "whole.bin", "p.bin"};
            float *logits[3];
            for (int k = 0; k < 3; k++) logits[k] = logits_of(in(*state, names[k]), ids, 6, &V[k]);
            assert_true(V[0] == VOCAB && V[1] == VOCAB && V[2] == VOCAB);
            for (int e = 0; e < 6 * VOCAB; e++) {
                if (!(fabs((double)logits[0][e] - (double)logits[1][e]) < 1e-4))
                    fail_msg("%s: logit %d: %g from the decoded weights, %g here", specs[i].type, e,
                             (double)logits[0][e], (double)logits[1][e]);
                if (logits[1][e] != logits[2][e])
                    fail_msg("%s in %d pieces: logit %d: %g whole, %g joined", specs[i].type, pieces, e,
                             (double)logits[1][e], (double)logits[2][e]);
            }
            for (int k = 0; k < 3; k++) free(logits[k]);
        }
}

/* ---------------------------------------------------------------- hostile files */

enum { SMALL = 8 };
static const struct spec small = {MAGIC_GGJT, 3, SMALL, SMALL, SMALL, 0, "f32"};
/* Offsets in a version 3 file. */
enum { AT_VERSION = 4, AT_VOCAB = 8, AT_EMBD = 12, AT_HEAD = 20, AT_LAYER = 24, AT_TOKENS = 36 };

static void put_record(struct bytes *b, const struct spec *s, const char *name, uint32_t id, int64_t rows,
                       int64_t columns, size_t bytes) {
    write_record(b, s, name, id, rows, columns);
    put_zeros(b, bytes);
}
/* All tensors of zeros; *ends gets the offsets behind each. */
static struct bytes good(const struct spec *s, size_t *ends) {
    struct bytes b = {0};
    struct matrix m[N_MATRICES];
    write_head(&b, s);
    for (int i = 0; i < matrices(s, m); i++) {
        put_record(&b, s, m[i].old, 0, m[i].rows, m[i].columns, 4u * m[i].rows * (m[i].columns ? m[i].columns : 1));
        if (ends) ends[i] = b.n;
    }
    return b;
}

static sr_status parse(const struct bytes *b, sr_err *err) {
    sr_file *f;
    *err = (sr_err){0};
    sr_status s = sr_file_from_memory(b->data, b->n, "t.bin", &f, err);
    if ((s == SR_OK) != (f != NULL)) fail_msg("status %d, file %p", s, (void *)f);
    sr_file_close(f);
    return s;
}

/* `b` is dropped. */
static void reject(struct bytes *b, sr_status want, const char *word, const char *other) {
    sr_err err;
    check_error(word, parse(b, &err), &err, want, "t.bin", word, other, NULL);
    drop(b);
}
static struct bytes with_u32(size_t at, uint32_t v) {
    struct bytes b = good(&small, NULL);
    memcpy(b.data + at, &v, 4);
    return b;
}

static void every_cut_of_a_good_file_is_refused(void **state) {
    (void)state;
    static const struct spec specs[] = {{MAGIC_GGML, 0, SMALL, SMALL, SMALL, 0, "f32"},
                                        {MAGIC_GGJT, 1, SMALL, SMALL, SMALL, 0, "f32"}};
    for (int s = 0; s < 2; s++) {
        size_t ends[N_MATRICES];
        struct bytes b = good(&specs[s], ends), cut = b;
        sr_err err;
        struct bytes vocab = {0};
        write_head(&vocab, &specs[s]);
        assert_int_equal(parse(&b, &err), SR_OK);
        for (cut.n = 0; cut.n < b.n; cut.n += cut.n < 4000 || cut.n % 512 > 480 ? 1 : 7) {
            bool between = cut.n == vocab.n; /* a vocabulary alone is a file too */
            for (int i = 9; i < N_MATRICES; i++) between = between || cut.n == ends[i];
            sr_status got = parse(&cut, &err); /* behind w1 it can be told only that matrices are missing */
            if (between ? got != SR_OK : got == SR_OK) fail_msg("cut at %zu: %s", cut.n, err.msg);
        }
        drop(&vocab);
        drop(&b);
    }
}

static void headers_that_cannot_be_are_refused(void **state) {
    (void)state;
    static const struct {
        size_t at;
        uint32_t v;
        sr_status status;
        const char *says, *other;
    } bad[] = {
        {AT_VERSION, 0, SR_UNSUPPORTED, "GGJT version 0", "1 to 3"},
        {AT_VERSION, 4, SR_UNSUPPORTED, "GGJT version 4", "1 to 3"},
        {AT_VERSION, UINT32_MAX, SR_UNSUPPORTED, "4294967295", NULL},
        {AT_VOCAB, 0, SR_CORRUPT, "vocabulary of 0", NULL},
        {AT_VOCAB, 2, SR_CORRUPT, "vocabulary of 2", "3 to"},
        {AT_VOCAB, 1 << 24, SR_CORRUPT, "16777216", "bytes are left"},
        {AT_VOCAB, UINT32_MAX, SR_CORRUPT, "4294967295", "bytes are left"},
        {AT_VOCAB, VOCAB + 1, SR_CORRUPT, "t.bin", NULL},
        {AT_EMBD, 0, SR_CORRUPT, "embedding of 0", NULL},
        {AT_EMBD, 9, SR_CORRUPT, "embedding of 9 for 4 heads", NULL},
        {AT_HEAD, 0, SR_CORRUPT, "0 heads", NULL},
        {AT_HEAD, UINT32_MAX, SR_CORRUPT, "4294967295 heads", NULL},
        {AT_LAYER, 0, SR_CORRUPT, "0 layers", NULL},
        {AT_LAYER, 1025, SR_CORRUPT, "1025 layers", "1024"},
        {AT_TOKENS, UINT32_MAX, SR_CORRUPT, "vocabulary", "ends at byte"},
        {AT_TOKENS, 1 << 30, SR_CORRUPT, "vocabulary", "ends at byte"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bytes b = with_u32(bad[i].at, bad[i].v);
        reject(&b, bad[i].status, bad[i].says, bad[i].other);
    }
    struct bytes b = {0};
    put(&b, "fmgg\2\0\0\0", 8);
    reject(&b, SR_UNSUPPORTED, "GGMF version 2", "expected 1");
}

static void tensors_that_cannot_be_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t id;
        int64_t rows, columns;
        size_t bytes;
        sr_status status;
        const char *says, *other;
    } bad[] = {
        {"layers.0.attention.wx.weight", 0, 8, 8, 256, SR_UNSUPPORTED, "wx", "LLaMA's in 1 layers"},
        {"layers.1.attention.wq.weight", 0, 8, 8, 256, SR_UNSUPPORTED, "layers.1.", NULL},
        {"layers.00.attention.wq.weight", 0, 8, 8, 256, SR_UNSUPPORTED, "layers.00", NULL},
        {"layers.4294967296.ffn_norm.weight", 0, 8, 8, 256, SR_UNSUPPORTED, "4294967296", NULL},
        {"layers..ffn_norm.weight", 0, 8, 8, 256, SR_UNSUPPORTED, "layers..", NULL},
        {"layers.", 0, 8, 8, 256, SR_UNSUPPORTED, "layers.", NULL},
        {"norm.weight2", 0, 8, 0, 32, SR_UNSUPPORTED, "norm.weight2", NULL},
        {"layers.0.norm.weight", 0, 8, 0, 32, SR_UNSUPPORTED, "layers.0.norm", NULL},
        {"wq\n\xff", 0, 8, 0, 32, SR_UNSUPPORTED, "wq", NULL},
        {"layers.0.attention.wq.weight", 4, 8, 32, 256, SR_UNSUPPORTED, "type number 4", "GGJT v3"},
        {"layers.0.attention.wq.weight", 15, 8, 256, 256, SR_UNSUPPORTED, "type number 15", "GGJT v3"},
        {"layers.0.attention.wq.weight", UINT32_MAX, 8, 8, 256, SR_UNSUPPORTED, "4294967295", NULL},
        {"layers.0.attention.wq.weight", 2, 8, 8, 256, SR_CORRUPT, "rows of 8", "multiple of 32"},
        {"layers.0.attention.wq.weight", 0, 0, 8, 0, SR_CORRUPT, "ne[1] = 0", NULL},
        {"layers.0.attention.wq.weight", 0, UINT32_MAX, UINT32_MAX, 64, SR_CORRUPT, "4294967295", "below 2^63"},
        {"layers.0.attention.wq.weight", 0, 1 << 30, UINT32_MAX, 64, SR_CORRUPT, "more than 2^63 bytes", NULL},
        {"layers.0.attention.wq.weight", 0, 1 << 20, 1 << 20, 64, SR_CORRUPT, "4398046511104 bytes", "cut off"},
        {"layers.0.attention.wq.weight", 0, 8, 8, 255, SR_CORRUPT, "256 bytes", "cut off"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bytes b = {0};
        write_head(&b, &small);
        put_record(&b, &small, bad[i].name, bad[i].id, bad[i].rows, bad[i].columns, bad[i].bytes);
        reject(&b, bad[i].status, bad[i].says, bad[i].other);
    }
    static const struct {
        uint32_t n_dims, name_len;
        const char *says;
    } counts[] = {{0, 11, "0 dimensions"}, {3, 11, "3 dimensions"}, {UINT32_MAX, 11, "4294967295 dimensions"},
                  {1, 0, "name of 0"},     {1, 257, "name of 257"}, {1, UINT32_MAX, "name of 4294967295"}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct bytes b = {0};
        write_head(&b, &small);
        put_int(&b, counts[i].n_dims, 4);
        put_int(&b, counts[i].name_len, 4);
        put_zeros(&b, 512);
        reject(&b, SR_CORRUPT, counts[i].says, "tensor at byte");
    }
}

static void tensors_that_are_missing_twice_or_of_a_wrong_shape_are_refused(void **state) {
    (void)state;
    struct bytes b = {0};
    write_head(&b, &small);
    put_record(&b, &small, "norm.weight", 0, 8, 0, 32);
    reject(&b, SR_CORRUPT, "tok_embeddings", NULL);
    size_t ends[N_MATRICES];
    b = good(&small, ends);
    b.n = ends[8];
    reject(&b, SR_CORRUPT, "feed_forward.w1", NULL);
    b = good(&small, ends);
    b.n = ends[10];
    put_record(&b, &small, "norm.weight", 0, 8, 0, 32);
    reject(&b, SR_CORRUPT, "output_norm.weight", "twice");
    b = good(&small, NULL);
    for (int i = 0; i < 10; i++) put_record(&b, &small, "norm.weight", 0, 8, 0, 32);
    reject(&b, SR_CORRUPT, "more tensors", "1 layers");
    struct spec odd = small;
    odd.kv_rows = 7;
    b = good(&odd, NULL);
    reject(&b, SR_CORRUPT, "attention.wk.weight", "7 rows");
    odd = small;
    b = good(&odd, NULL); /* the embedding is as wide as one of three files' */
    memcpy(b.data + AT_EMBD, &(uint32_t){24}, 4);
    reject(&b, SR_UNSUPPORTED, "one of 3 files", NULL);
    b = good(&odd, NULL);
    memcpy(b.data + AT_EMBD, &(uint32_t){12}, 4);
    reject(&b, SR_CORRUPT, "8 columns", "expected 12");
    b = good(&odd, NULL);
    memcpy(b.data + AT_EMBD, &(uint32_t){8 << 20}, 4);
    reject(&b, SR_CORRUPT, "8 columns", "at most 64 files");
}

static void pieces_that_do_not_fit_are_refused(void **state) {
    static const struct spec whole = {MAGIC_GGMF, 1, E, FF, E, 1, "f16"};
    const char *dir = *state;
    sr_file *f;
    sr_err err = {0};
    write_three(dir, &whole, 2);
    check_error("piece", sr_file_open(in(dir, "p.bin.1"), NULL, &f, &err), &err, SR_IO, "p.bin.1.1", "missing", NULL);
    struct bytes b = {0};
    FILE *in_file = fopen(in(dir, "p.bin.1"), "rb");
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, in_file)) > 0;) put(&b, chunk, n);
    fclose(in_file);
    static const struct {
        size_t at;
        const char *says;
    } bad[] = {{8 + 4, "header or vocabulary"}, {36 + 20, "header or vocabulary"}, {0, "tok_embeddings"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bytes other = {0};
        put(&other, b.data, b.n);
        if (bad[i].at) {
            other.data[bad[i].at + (i == 0 ? 4 : 0)] ^= 1; /* n_mult; a score */
        } else { /* one row fewer in norm.weight's place: the first tensor gets another name of equal length */
            other.n = 0;
            write_head(&other, &whole);
            put_record(&other, &whole, "norm.weight", 0, E, 0, 4 * E);
        }
        write_file(in(dir, "p.bin.1"), other.data, other.n);
        sr_err_clear(&err);
        sr_status s = sr_file_open(in(dir, "p.bin"), NULL, &f, &err);
        check_error(bad[i].says, s, &err, SR_CORRUPT, "p.bin.1", i < 2 ? bad[i].says : "found 1 tensors", NULL);
        drop(&other);
    }
    size_t at = 0; /* the name of the last tensor: as often, but another */
    for (size_t i = 0; i + 12 < b.n; i++)
        if (memcmp(b.data + i, "w3.weight", 9) == 0) at = i;
    b.data[at + 1] = '1';
    write_file(in(dir, "p.bin.1"), b.data, b.n);
    sr_err_clear(&err);
    check_error("name", sr_file_open(in(dir, "p.bin"), NULL, &f, &err), &err, SR_CORRUPT, "p.bin.1", "ffn_up", NULL);
    unlink(in(dir, "p.bin.1"));
    sr_err_clear(&err);
    check_error("absent", sr_file_open(in(dir, "p.bin"), NULL, &f, &err), &err, SR_IO, "p.bin.1", "of 2 files", NULL);
    drop(&b);
}

static void gqa_and_format_must_agree_with_the_file(void **state) {
    (void)state;
    static const struct {
        const char *path, *format;
        int gqa;
        const char *says; /* NULL: opens */
    } cases[] = {
        {GGML "ggjt_gqa.bin", "ggml", 2, NULL},
        {GGML "ggjt_gqa.bin", NULL, 4, "2 key-value heads for 4 heads"},
        {GGML "ggjt_v3.bin", NULL, 1, NULL},
        {GGML "ggjt_v3.bin", NULL, 2, "expected 1 for 2"},
        {TINY "llama.gguf", NULL, 2, "only a GGML file"},
        {TINY "llama", NULL, 2, "only a GGML file"},
        {TINY "llama.gguf", "ggml", 0, "found a GGUF file, expected GGML"},
        {GGML "ggjt_v3.bin", "gguf", 0, "found a GGML file, expected GGUF"},
        {GGML "ggjt_v3.bin", "plain", 0, "found a GGML file, expected safetensors"},
        {TINY "llama", "ggml", 0, "found a directory, expected a GGML file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sr_file *f;
        sr_err err = {0};
        sr_file_options o = {.format = cases[i].format, .gqa = cases[i].gqa};
        sr_status s = sr_file_open(cases[i].path, &o, &f, &err);
        if (cases[i].says)
            check_error(cases[i].says, s, &err, SR_INVALID, cases[i].says, NULL);
        else
            assert_int_equal(s, SR_OK);
        sr_file_close(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_keys_and_shapes_are_those_of_gguf),
        cmocka_unit_test(epsilon_is_that_of_the_time),
        cmocka_unit_test(the_vocabulary_is_that_of_gguf),
        cmocka_unit_test(numbers_of_types_mean_what_they_meant_at_the_time),
        cmocka_unit_test(logits_of_every_version_match_the_reference),
        cmocka_unit_test_setup_teardown(a_model_in_pieces_equals_the_whole_and_the_decoded_weights, make_scratch,
                                        remove_scratch),
        cmocka_unit_test(every_cut_of_a_good_file_is_refused),
        cmocka_unit_test(headers_that_cannot_be_are_refused),
        cmocka_unit_test(tensors_that_cannot_be_are_refused),
        cmocka_unit_test(tensors_that_are_missing_twice_or_of_a_wrong_shape_are_refused),
        cmocka_unit_test_setup_teardown(pieces_that_do_not_fit_are_refused, make_scratch, remove_scratch),
        cmocka_unit_test(gqa_and_format_must_agree_with_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

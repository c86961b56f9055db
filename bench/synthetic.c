/* Writes a Llama-shaped GGUF of any size with random weights of one type, the same bytes for the same arguments, to
 * time engines on one file: bench/synthetic TYPE OUT.gguf [layers d_model heads kv_heads d_ff vocab]. The default is
 * the shape that docs/architecture.md reports: 16 layers, 2048, 32 / 8 heads, 8192, 32000; 1.10 B parameters. Rows
 * repeat a pool of encoded N(0, 0.02) rows, so that writing takes seconds; the head and the embedding have the same
 * type. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fmt/fmt.h"

enum { POOL = 64, ALIGNMENT = 32 };

static FILE *out;
static int64_t written;

static void put(const void *p, size_t n) {
    if (fwrite(p, 1, n, out) != n) {
        perror("synthetic");
        exit(1);
    }
    written += (int64_t)n;
}
static void put_u32(uint32_t v) {
    put(&v, 4);
}
static void put_u64(uint64_t v) {
    put(&v, 8);
}
static void put_string(const char *s) {
    put_u64(strlen(s));
    put(s, strlen(s));
}
static void key_u32(const char *key, uint32_t v) {
    put_string(key);
    put_u32(4);
    put_u32(v);
}
static void key_f32(const char *key, float v) {
    put_string(key);
    put_u32(6);
    put(&v, 4);
}
static void key_string(const char *key, const char *v) {
    put_string(key);
    put_u32(8);
    put_string(v);
}
static void key_array(const char *key, uint32_t type, uint64_t n) {
    put_string(key);
    put_u32(9);
    put_u32(type);
    put_u64(n);
}

static float gauss(uint64_t *state) { /* Box and Muller over a splitmix sequence */
    double u[2];
    for (int i = 0; i < 2; i++) {
        uint64_t z = *state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        u[i] = ((double)((z ^ z >> 31) >> 11) + 0.5) * 0x1p-53;
    }
    return (float)(sqrt(-2 * log(u[0])) * cos(6.283185307179586 * u[1]));
}

struct tensor {
    char name[64];
    const sr_format *fmt;
    int64_t n, k; /* n == 0: a vector of ones */
};

static int64_t bytes_of(const struct tensor *t) {
    return t->n ? t->n * (t->k / t->fmt->block) * sr_stored_by_name(t->fmt->name)->bytes : t->k * 4;
}
static int64_t padded(int64_t n) {
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void put_tensor(const struct tensor *t) {
    int64_t start = written;
    if (t->n) {
        sr_arena arena = {0};
        sr_weight pool;
        sr_err err = {0};
        float *rows = malloc((size_t)(POOL * t->k) * sizeof *rows);
        uint64_t state = (uint64_t)t->k;
        if (!rows || sr_weight_create(t->fmt, POOL, t->k, NULL, &arena, &pool, &err) != SR_OK) {
            fprintf(stderr, "synthetic: %s\n", err.msg[0] ? err.msg : "out of memory");
            exit(1);
        }
        for (int64_t i = 0; i < POOL * t->k; i++) rows[i] = 0.02f * gauss(&state);
        sr_rtn_rows(&pool, 0, POOL, rows, NULL);
        for (int64_t r = 0; r < t->n; r++)
            put(pool.plane[0].data + r % POOL * pool.plane[0].stride, (size_t)pool.plane[0].stride);
        free(rows);
        sr_arena_free(&arena);
    } else
        for (int64_t i = 0; i < t->k; i++) put(&(float){1}, 4);
    static const char zero[ALIGNMENT];
    put(zero, (size_t)(padded(written - start) - (written - start)));
}

int main(int argc, char **argv) {
    int64_t shape[6] = {16, 2048, 32, 8, 8192, 32000};
    const sr_format *fmt = argc > 2 ? sr_format_by_name(argv[1]) : NULL;
    if (!fmt) {
        fprintf(stderr, "usage: synthetic TYPE OUT.gguf [layers d_model heads kv_heads d_ff vocab]\n");
        return 2;
    }
    for (int i = 0; i < 6 && 3 + i < argc; i++) shape[i] = atoll(argv[3 + i]);
    int64_t layers = shape[0], d = shape[1], kv = d / shape[2] * shape[3], ff = shape[4], vocab = shape[5];
    struct tensor *t = calloc((size_t)(9 * layers + 3), sizeof *t);
    int n = 0;
    if (!t || !(out = fopen(argv[2], "wb"))) {
        perror(argv[2]);
        return 1;
    }
    t[n++] = (struct tensor){"token_embd.weight", fmt, vocab, d};
    t[n++] = (struct tensor){"output_norm.weight", NULL, 0, d};
    t[n++] = (struct tensor){"output.weight", fmt, vocab, d};
    for (int i = 0; i < layers; i++) {
        const struct {
            const char *name;
            int64_t n, k;
        } parts[9] = {{"attn_norm", 0, d}, {"attn_q", d, d},      {"attn_k", kv, d},
                      {"attn_v", kv, d},   {"attn_output", d, d}, {"ffn_norm", 0, d},
                      {"ffn_gate", ff, d}, {"ffn_up", ff, d},     {"ffn_down", d, ff}};
        for (int p = 0; p < 9; p++, n++) {
            snprintf(t[n].name, sizeof t[n].name, "blk.%d.%s.weight", i, parts[p].name);
            t[n].fmt = fmt;
            t[n].n = parts[p].n;
            t[n].k = parts[p].k;
        }
    }
    put("GGUF", 4);
    put_u32(3);
    put_u64((uint64_t)n);
    put_u64(18);
    key_string("general.architecture", "llama");
    key_string("general.name", "synthetic");
    key_u32("general.quantization_version", 2);
    key_u32("general.file_type", 0);
    key_u32("llama.context_length", 32768);
    key_u32("llama.embedding_length", (uint32_t)d);
    key_u32("llama.block_count", (uint32_t)layers);
    key_u32("llama.feed_forward_length", (uint32_t)ff);
    key_u32("llama.attention.head_count", (uint32_t)shape[2]);
    key_u32("llama.attention.head_count_kv", (uint32_t)shape[3]);
    key_u32("llama.vocab_size", (uint32_t)vocab);
    key_u32("llama.rope.dimension_count", (uint32_t)(d / shape[2]));
    key_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    key_f32("llama.rope.freq_base", 10000);
    key_string("tokenizer.ggml.model", "llama");
    key_array("tokenizer.ggml.tokens", 8, (uint64_t)vocab);
    for (int64_t i = 0; i < vocab; i++) {
        char piece[24];
        static const char *const first[] = {"<unk>", "<s>", "</s>"};
        if (i < 259)
            snprintf(piece, sizeof piece, "<0x%02X>", (unsigned)(i - 3) & 255);
        else
            snprintf(piece, sizeof piece, "w%lld", (long long)i);
        put_string(i < 3 ? first[i] : piece);
    }
    key_array("tokenizer.ggml.scores", 6, (uint64_t)vocab);
    for (int64_t i = 0; i < vocab; i++) put(&(float){i < 259 ? 0 : (float)-i}, 4);
    key_array("tokenizer.ggml.token_type", 5, (uint64_t)vocab);
    for (int64_t i = 0; i < vocab; i++) put_u32(i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
    int64_t offset = 0;
    for (int i = 0; i < n; i++) {
        put_string(t[i].name);
        put_u32(t[i].n ? 2 : 1);
        put_u64((uint64_t)t[i].k);
        if (t[i].n) put_u64((uint64_t)t[i].n);
        put_u32(t[i].n ? (uint32_t)sr_stored_by_name(fmt->name)->gguf_id : 0);
        put_u64((uint64_t)offset);
        offset += padded(bytes_of(&t[i]));
    }
    static const char zero[ALIGNMENT];
    put(zero, (size_t)(padded(written) - written));
    for (int i = 0; i < n; i++) put_tensor(&t[i]);
    if (fclose(out) != 0) {
        perror(argv[2]);
        return 1;
    }
    free(t);
    return 0;
}

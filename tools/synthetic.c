/* Writes a Llama-shaped checkpoint of any size with random weights in any format that sirocco reads, the same bytes for
 * the same arguments, to time engines on one file:
 *
 *     synthetic [--group N] [--seed N] [--experts N [--used N] [--latent N]] FORMAT OUT [layers d_model heads kv_heads
 *     d_ff vocab]
 *
 * Formats that GGUF stores make OUT a .gguf file, the others a Hugging Face directory of config.json and
 * model.safetensors. The default is the shape that docs/architecture.md reports: 16 layers, 2048, 32 / 8 heads, 8192,
 * 32000; 1.10 B parameters. Head and embedding have the format too, but for families that never quantize the embedding:
 * it is bf16 there. With --experts it is a Mixtral of as many, --used (2) of a token, in GGUF alone, or with
 * --latent a DeepSeek-V2 whose heads share latents of as many features. No tokenizer: ids in, ids out (`sirocco
 * bench`). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fmt/fmt.h"

enum { ALIGNMENT = 32, NAME = 80 };

static FILE *out;
static int64_t written;
static const char *out_path;

static void fail(const char *why) {
    fprintf(stderr, "synthetic: %s: %s\n", out_path, why);
    exit(1);
}
static void put(const void *p, size_t n) {
    if (fwrite(p, 1, n, out) != n) fail(strerror(errno));
    written += (int64_t)n;
}
static void put_u32(uint32_t v) {
    put(&v, 4);
}
static void put_u64(uint64_t v) {
    put(&v, 8);
}

struct shape {
    int64_t layers, d, heads, kv_heads, ff, vocab, experts, used, latent; /* experts 0: dense */
};

struct tensor {
    char name[NAME]; /* of the module */
    int64_t n, k;    /* n == 0: a vector of ones */
    bool embedding;
    int64_t stack;   /* 0: no stack; else n is of all of them */
    const char *fmt; /* NULL: the model's */
};

/* Of DeepSeek's heads: features that rotate, that do not, and of values. */
enum { ROPE = 64, NOPE = 128, VALUE = 128 };

struct model {
    const sr_format *fmt, *plain; /* plain: of an embedding that is not quantized */
    sr_qspec spec;
    uint64_t seed;
    struct tensor *t;
    int n;
};

static const sr_format *format_of(const struct model *m, const struct tensor *t) {
    return t->fmt ? sr_format_by_name(t->fmt) : t->embedding && m->plain ? m->plain : m->fmt;
}

/* The tensors of a Llama; the words of each pair are GGUF's and Hugging Face's. */
static void list_tensors(struct model *m, const struct shape *s, bool gguf) {
    const int64_t d = s->d, kv = d / s->heads * s->kv_heads, ff = s->ff;
    const struct {
        const char *name[2];
        int64_t n, k;
    } parts[9] = {{{"attn_norm", "input_layernorm"}, 0, d},    {{"attn_q", "self_attn.q_proj"}, d, d},
                  {{"attn_k", "self_attn.k_proj"}, kv, d},     {{"attn_v", "self_attn.v_proj"}, kv, d},
                  {{"attn_output", "self_attn.o_proj"}, d, d}, {{"ffn_norm", "post_attention_layernorm"}, 0, d},
                  {{"ffn_gate", "mlp.gate_proj"}, ff, d},      {{"ffn_up", "mlp.up_proj"}, ff, d},
                  {{"ffn_down", "mlp.down_proj"}, d, ff}};
    m->t = calloc((size_t)(12 * s->layers + 3), sizeof *m->t);
    if (!m->t) fail("out of memory");
    m->t[m->n++] = gguf ? (struct tensor){"token_embd", s->vocab, d, true, 0, NULL}
                        : (struct tensor){"model.embed_tokens", s->vocab, d, true, 0, NULL};
    m->t[m->n++] = gguf ? (struct tensor){"output_norm", 0, d, false, 0, NULL}
                        : (struct tensor){"model.norm", 0, d, false, 0, NULL};
    m->t[m->n++] = gguf ? (struct tensor){"output", s->vocab, d, false, 0, NULL}
                        : (struct tensor){"lm_head", s->vocab, d, false, 0, NULL};
    for (int i = 0; i < s->layers; i++)
        for (int p = 0; p < 9; p++) {
            struct tensor *t = &m->t[m->n++];
            t->stack = p > 5 ? s->experts : 0;
            snprintf(t->name, NAME, gguf ? "blk.%d.%s%s" : "model.layers.%d.%s%s", i, parts[p].name[!gguf],
                     t->stack ? "_exps" : "");
            t->n = parts[p].n * (t->stack ? t->stack : 1);
            t->k = parts[p].k;
        }
    for (int i = 0; i < s->layers && s->experts; i++) {
        struct tensor *t = &m->t[m->n++];
        snprintf(t->name, NAME, "blk.%d.ffn_gate_inp", i);
        t->n = s->experts;
        t->k = d;
        t->fmt = "f32";
    }
}

/* Latent attention instead of the four matrices of a Llama. */
static void add_latents(struct model *m, const struct shape *s) {
    const int64_t d = s->d, h = s->heads;
    const struct {
        const char *name;
        int64_t n, k, stack;
        const char *fmt;
    } parts[] = {{"attn_q", h * (NOPE + ROPE), d, 0, NULL},
                 {"attn_kv_a_mqa", s->latent + ROPE, d, 0, NULL},
                 {"attn_kv_a_norm", 0, s->latent, 0, NULL},
                 {"attn_k_b", h * s->latent, NOPE, h, "q8_0"}, /* narrower than blocks of 256 */
                 {"attn_v_b", h * VALUE, s->latent, h, NULL},
                 {"attn_output", d, h * VALUE, 0, NULL}};
    int kept = 0;
    for (int i = 0; i < m->n; i++)
        if (!strstr(m->t[i].name, "attn_") || strstr(m->t[i].name, "attn_norm")) m->t[kept++] = m->t[i];
    m->n = kept;
    for (int i = 0; i < s->layers; i++)
        for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
            struct tensor *t = &m->t[m->n++];
            *t = (struct tensor){.n = parts[p].n, .k = parts[p].k, .stack = parts[p].stack, .fmt = parts[p].fmt};
            snprintf(t->name, NAME, "blk.%d.%s", i, parts[p].name);
        }
}

/* ---------------------------------------------------------------- planes */

static void layout_of(const struct model *m, const struct tensor *t, sr_planes *planes) {
    const sr_format *fmt = format_of(m, t);
    sr_qspec spec = fmt == m->fmt ? m->spec : fmt->spec;
    sr_err err = {0};
    if (spec.group < 0 || spec.group > t->k) spec.group = (int32_t)t->k;
    memset(planes, 0, sizeof *planes);
    if (fmt->layout(fmt, t->n, t->k, &spec, planes, &err) != SR_OK) fail(err.msg);
}

static int64_t bytes_of(const sr_planes *planes, int i) {
    int64_t bytes = sr_plane_bytes(planes, i, sr_plane_stored(planes, i, NULL));
    if (bytes < 0) fail("a size that its type cannot have");
    return bytes;
}

/* Calls each(plane, data) for the planes of one tensor, filled. */
static void write_planes(const struct model *m, const struct tensor *t) {
    sr_arena arena = {0};
    sr_weight w;
    sr_err err = {0};
    const sr_format *fmt = format_of(m, t);
    if (sr_weight_create(fmt, t->n, t->k, fmt == m->fmt ? &m->spec : NULL, &arena, &w, &err) != SR_OK) fail(err.msg);
    sr_weight_sample(&w, m->seed + (uint64_t)(t - m->t));
    for (int p = 0; p < SR_MAX_PLANES; p++)
        if (w.plane[p].data) put(w.plane[p].data, (size_t)w.plane[p].bytes);
    sr_arena_free(&arena);
}

static void write_ones(int64_t n) {
    for (int64_t i = 0; i < n; i++) put(&(float){1}, 4);
}

/* ---------------------------------------------------------------- GGUF */

static void put_string(const char *s) {
    put_u64(strlen(s));
    put(s, strlen(s));
}
static const char *prefix; /* for keys that start with a dot */
static void put_key(const char *key) {
    char whole[96];
    snprintf(whole, sizeof whole, "%s%s", *key == '.' ? prefix : "", key);
    put_string(whole);
}
static void key_u32(const char *key, uint32_t v) {
    put_key(key);
    put_u32(4);
    put_u32(v);
}
static void key_f32(const char *key, float v) {
    put_key(key);
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
static int64_t padded(int64_t n) {
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}
static void pad(void) {
    static const char zero[ALIGNMENT];
    put(zero, (size_t)(padded(written) - written));
}

static int64_t gguf_bytes(const struct model *m, const struct tensor *t) {
    sr_planes planes;
    if (!t->n) return 4 * t->k;
    layout_of(m, t, &planes);
    return bytes_of(&planes, 0);
}

/* KEYS values, then a vocabulary of made-up words, so that engines that want one take the file. */
static void write_keys(const struct shape *s) {
    prefix = s->latent ? "deepseek2" : "llama";
    key_string("general.architecture", prefix);
    key_u32("general.alignment", ALIGNMENT);
    key_u32("general.quantization_version", 2);
    key_u32(".block_count", (uint32_t)s->layers);
    key_u32(".context_length", 16384);
    key_u32(".embedding_length", (uint32_t)s->d);
    key_u32(".feed_forward_length", (uint32_t)s->ff);
    key_u32(".attention.head_count", (uint32_t)s->heads);
    key_u32(".attention.head_count_kv", (uint32_t)s->kv_heads);
    key_u32(".rope.dimension_count", s->latent ? ROPE : (uint32_t)(s->d / s->heads));
    if (s->latent) {
        key_u32(".attention.kv_lora_rank", (uint32_t)s->latent);
        key_u32(".attention.key_length", (uint32_t)s->latent + ROPE);
        key_u32(".attention.value_length", (uint32_t)s->latent);
        key_u32(".attention.key_length_mla", NOPE + ROPE);
        key_u32(".attention.value_length_mla", VALUE);
    }
    key_u32(".vocab_size", (uint32_t)s->vocab);
    key_u32(".expert_count", (uint32_t)s->experts);
    key_u32(".expert_used_count", (uint32_t)(s->experts ? s->used : 0));
    key_f32(".attention.layer_norm_rms_epsilon", 1e-5f);
    key_f32(".rope.freq_base", 10000);
    key_string("tokenizer.ggml.model", "llama");
    key_array("tokenizer.ggml.tokens", 8, (uint64_t)s->vocab);
    for (int64_t i = 0; i < s->vocab; i++) {
        char word[32];
        if (i >= 3 && i < 259)
            snprintf(word, sizeof word, "<0x%02X>", (unsigned)(i - 3));
        else
            snprintf(word, sizeof word,
                     i == 0   ? "<unk>"
                     : i == 1 ? "<s>"
                     : i == 2 ? "</s>"
                              : "\xe2\x96\x81w%d",
                     (int)i);
        put_string(word);
    }
    key_array("tokenizer.ggml.scores", 6, (uint64_t)s->vocab);
    for (int64_t i = 0; i < s->vocab; i++) put(&(float){(float)-i}, 4);
    key_array("tokenizer.ggml.token_type", 5, (uint64_t)s->vocab);
    for (int64_t i = 0; i < s->vocab; i++) put_u32(i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
    key_u32("tokenizer.ggml.bos_token_id", 1);
    key_u32("tokenizer.ggml.eos_token_id", 2);
}
enum { KEYS = 21, LATENT_KEYS = 5 };

static void write_gguf(const struct model *m, const struct shape *s) {
    out = fopen(out_path, "wb");
    if (!out) fail(strerror(errno));
    put("GGUF", 4);
    put_u32(3);
    put_u64((uint64_t)m->n);
    put_u64(KEYS + (s->latent ? LATENT_KEYS : 0));
    write_keys(s);
    int64_t offset = 0;
    for (int i = 0; i < m->n; i++) {
        char name[NAME + 8];
        const struct tensor *t = &m->t[i];
        snprintf(name, sizeof name, "%s.weight", t->name);
        put_string(name);
        put_u32(t->stack ? 3 : t->n ? 2 : 1);
        put_u64((uint64_t)t->k);
        if (t->n) put_u64((uint64_t)(t->stack ? t->n / t->stack : t->n));
        if (t->stack) put_u64((uint64_t)t->stack);
        put_u32(t->n ? (uint32_t)sr_stored_by_name(format_of(m, t)->name)->gguf_id : 0);
        put_u64((uint64_t)offset);
        offset += padded(gguf_bytes(m, t));
    }
    pad();
    for (int i = 0; i < m->n; i++) {
        if (m->t[i].n)
            write_planes(m, &m->t[i]);
        else
            write_ones(m->t[i].k);
        pad();
    }
    if (fclose(out) != 0) fail(strerror(errno));
}

/* ---------------------------------------------------------------- Hugging Face */

static FILE *open_in(const char *name) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", out_path, name) >= (int)sizeof path) fail("the path is too long");
    FILE *f = fopen(path, "wb");
    if (!f) fail(strerror(errno));
    return f;
}

/* Every method's spelling of the same facts: each reads its own keys. */
static void write_quantization(FILE *f, const sr_qspec *q) {
    const char *layout = q->layout ? q->layout : "", *yes = q->sym ? "true" : "false", *no = q->sym ? "false" : "true";
    fprintf(f,
            ", \"quantization_config\": {\"quant_method\": \"%s\", \"bits\": %d, \"group_size\": %d, \"sym\": %s, "
            "\"desc_act\": false, \"zero_point\": %s, \"checkpoint_format\": \"%s\", \"version\": \"%s\", "
            "\"mode\": \"%s\", \"fmt\": \"%s\", \"lm_head\": true",
            q->method, q->bits ? q->bits : 4, q->group ? q->group : -1, yes, no, layout, layout, layout, layout);
    if (q->writer) fprintf(f, ", \"meta\": {\"quantizer\": \"%s\"}", q->writer);
    if (q->group_n > 1) fprintf(f, ", \"weight_block_size\": [%d, %d]", q->group_n, q->group);
    fprintf(f,
            ", \"load_in_8bit\": %s, \"bnb_4bit_quant_type\": \"%s\", \"quant_algo\": \"%s\", \"quant_config\": "
            "{\"weight_quant_params\": {\"nbits\": %d, \"group_size\": %d, \"axis\": %d}}",
            q->bits == 8 ? "true" : "false", layout, layout, q->bits ? q->bits : 4, q->group > 0 ? q->group : 64,
            q->axis);
    fprintf(f,
            ", \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"format\": \"%s\", \"weights\": "
            "{\"num_bits\": %d, \"group_size\": %d, \"symmetric\": %s, \"type\": \"int\"}}}, \"format\": \"%s\"}",
            layout, q->bits ? q->bits : 4, q->group ? q->group : -1, yes, layout);
}

static void write_config(const struct model *m, const struct shape *s) {
    FILE *f = open_in("config.json");
    fprintf(f,
            "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": %" PRId64
            ", \"intermediate_size\": %" PRId64 ", \"num_hidden_layers\": %" PRId64
            ", \"num_attention_heads\": %" PRId64 ", \"num_key_value_heads\": %" PRId64 ", \"vocab_size\": %" PRId64
            ", \"max_position_embeddings\": 16384, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, "
            "\"tie_word_embeddings\": false, \"torch_dtype\": \"float16\"",
            s->d, s->ff, s->layers, s->heads, s->kv_heads, s->vocab);
    if (m->spec.method) write_quantization(f, &m->spec);
    fputs("}\n", f);
    if (fclose(f) != 0) fail(strerror(errno));
}

static size_t entry(char *to, size_t cap, const char *name, const char *suffix, const sr_stored *type, int n_dims,
                    const int64_t *shape, int64_t *offset, int64_t bytes) {
    size_t n =
        (size_t)snprintf(to, cap, "\"%s%s%.*s\":{\"dtype\":\"%s\",\"shape\":[", name, suffix[0] == '_' ? "" : ".",
                         (int)strcspn(suffix, "|"), suffix, type->st_id ? type->st_id : "U8");
    for (int d = 0; d < n_dims; d++) n += (size_t)snprintf(to + n, cap - n, "%s%" PRId64, d ? "," : "", shape[d]);
    n += (size_t)snprintf(to + n, cap - n, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]},", *offset, *offset + bytes);
    *offset += bytes;
    return n;
}

static void write_safetensors(const struct model *m) {
    size_t cap = (size_t)m->n * 2400 + 64, n = 1;
    char *header = malloc(cap);
    int64_t offset = 0;
    if (!header) fail("out of memory");
    header[0] = '{';
    for (int i = 0; i < m->n; i++) {
        const struct tensor *t = &m->t[i];
        sr_planes planes;
        if (!t->n) {
            n += entry(header + n, cap - n, t->name, "weight", sr_stored_by_name("f32"), 1, &t->k, &offset, 4 * t->k);
            continue;
        }
        layout_of(m, t, &planes);
        for (int p = 0; p < planes.n; p++)
            if (sr_plane_created(&planes, p))
                n += entry(header + n, cap - n, t->name, planes.plane[p].suffix, sr_plane_stored(&planes, p, NULL),
                           planes.plane[p].n_dims, planes.plane[p].shape, &offset, bytes_of(&planes, p));
    }
    header[n - 1] = '}';
    while (n % 8) header[n++] = ' ';
    out = open_in("model.safetensors");
    put_u64(n);
    put(header, n);
    free(header);
    for (int i = 0; i < m->n; i++) {
        if (m->t[i].n)
            write_planes(m, &m->t[i]);
        else
            write_ones(m->t[i].k);
    }
    if (fclose(out) != 0) fail(strerror(errno));
}

/* ---------------------------------------------------------------- command line */

static int usage(void) {
    fputs("usage: synthetic [--group N] [--seed N] [--experts N [--used N] [--latent N]] FORMAT OUT [layers d_model "
          "heads kv_heads d_ff vocab]\n"
          "FORMAT: a name of `sirocco formats`\n",
          stderr);
    return 2;
}

int main(int argc, char **argv) {
    struct model m = {.seed = 1};
    struct shape s = {16, 2048, 32, 8, 8192, 32000, 0, 2, 0};
    int64_t *sizes[6] = {&s.layers, &s.d, &s.heads, &s.kv_heads, &s.ff, &s.vocab}, group = 0;
    int at = 1;
    for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
        if (!strcmp(argv[at], "--group"))
            group = atoll(argv[at + 1]);
        else if (!strcmp(argv[at], "--seed"))
            m.seed = strtoull(argv[at + 1], NULL, 10) << 20;
        else if (!strcmp(argv[at], "--experts"))
            s.experts = atoll(argv[at + 1]);
        else if (!strcmp(argv[at], "--used"))
            s.used = atoll(argv[at + 1]);
        else if (!strcmp(argv[at], "--latent"))
            s.latent = atoll(argv[at + 1]);
        else
            return usage();
    }
    if (argc < at + 2 || !(m.fmt = sr_format_by_name(argv[at]))) return usage();
    out_path = argv[at + 1];
    for (int i = 0; i < 6 && at + 2 + i < argc; i++) *sizes[i] = atoll(argv[at + 2 + i]);
    for (int i = 0; i < 6; i++)
        if (*sizes[i] < 1 || *sizes[i] > 1 << 24) return usage();
    if (s.d % s.heads || s.heads % s.kv_heads) return usage();
    if (s.experts < 0 || s.experts > 1024 || s.used < 1 || (s.experts && s.used > s.experts)) return usage();
    m.spec = m.fmt->spec;
    if (group) m.spec.group = (int32_t)group;
    const sr_stored *type = sr_stored_by_name(m.fmt->name);
    bool gguf = type && type->gguf_id >= 0;
    if (!gguf && (!m.fmt->spec.method || strcmp(m.fmt->spec.method, "mlx"))) m.plain = sr_format_by_name("bf16");
    if (s.experts && !gguf) fail("--experts needs a format that GGUF stores");
    if (s.latent < 0 || s.latent > 4096 || (s.latent && !s.experts)) return usage();
    list_tensors(&m, &s, gguf);
    if (s.latent) add_latents(&m, &s);
    if (gguf)
        write_gguf(&m, &s);
    else {
        if (mkdir(out_path, 0777) != 0 && errno != EEXIST) fail(strerror(errno));
        write_config(&m, &s);
        write_safetensors(&m);
    }
    free(m.t);
    return 0;
}

/* The LLaMA files from before GGUF: GGML, GGMF version 1, and GGJT versions 1 to 3. Filled in as a GGUF file would be,
 * so that nothing above knows: GGUF's tensor names and keys, rows of q and k in adjacent-pair order (they are stored
 * so).
 *
 *   u32 magic  [GGMF, GGJT: u32 version]  u32 n_vocab, n_embd, n_mult, n_head, n_layer, n_rot, ftype
 *   n_vocab times:  u32 length, bytes  [GGMF, GGJT: f32 score]
 *   to the end:     u32 n_dims, u32 name length, u32 type, u32 ne[n_dims] (ne[0] is K), name,
 *                   [GGJT: zeros up to a multiple of 32 in the file]  data
 *
 * Missing in them, and where it comes from here:
 *   feed-forward width    the shape of the first w1
 *   key-value heads       the shape of the first wk
 *   epsilon of the norms  by the version: the programs of the time had 1e-6 built in (LLaMA 1 was all there was), and
 *                         5e-6, between LLaMA 1 and 2, when version 3 was the last; grouped heads are LLaMA 2's: 1e-5
 *   context               2048, LLaMA 1's and the converter's default
 *   scores (GGML)         LLaMA's tokenizer has minus the rank behind the 259 ids of specials and bytes
 *
 * A model in several files (FILE, FILE.1, ...) has the same header and the same tensors in each: of a matrix a slice of
 * columns (the embedding, wo, w2) or of rows (the others), of a vector a copy. ne[0] of the embedding tells the number.
 *
 * Source: llama.cpp's own history, llama.cpp and ggml.c from 2023-03 to 2023-08 (5 numbers of a type changed meaning:
 * fmt/ggml_old.c), and ik_llama.cpp: convert_llama_ggml_to_gguf.py. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/path.h"
#include "file/inner.h"

enum { GGML = 0x67676d6c, GGMF = 0x67676d66, GGJT = 0x67676a74 }; /* read little-endian */

enum {
    N_BYTE_FIRST = 3, /* ids of the 256 bytes: 3 to 258 */
    N_BYTE_LAST = 258,
    MAX_PIECES = 64, /* LLaMA 65B had 8 */
    MAX_VOCAB = 1 << 24,
    MAX_LAYERS = 1024,
    ALIGNMENT = 32
};

typedef struct header {
    uint32_t magic, version; /* version 0: GGML */
    uint32_t n_vocab, n_embd, n_mult, n_head, n_layer, n_rot, ftype;
    size_t vocab_at, tensors_at; /* offsets in the file */
} header;

/* One file while it is parsed. */
struct piece {
    sr_file *file;
    int shard, first_part;
    sr_cursor c;
    const char *path; /* for messages */
    sr_err *err;
    header h;
};

static sr_status past_end(const struct piece *p, const char *what) {
    return sr_fail(p->err, SR_CORRUPT,
                   "%s: file ends at byte %td inside %s; it is cut off, or no LLaMA model of before GGUF", p->path,
                   p->c.end - p->c.base, what);
}

/* ---------------------------------------------------------------- header */

static sr_status read_header(struct piece *p) {
    header *h = &p->h;
    h->magic = sr_cursor_u32(&p->c);
    uint32_t last = h->magic == GGJT ? 3 : h->magic == GGMF ? 1 : 0;
    if (last) {
        h->version = sr_cursor_u32(&p->c);
        if (!p->c.failed && (h->version < 1 || h->version > last))
            return sr_fail(p->err, SR_UNSUPPORTED, "%s: found %s version %" PRIu32 ", expected 1%s", p->path,
                           h->magic == GGJT ? "GGJT" : "GGMF", h->version, last > 1 ? " to 3" : "");
    }
    uint32_t *const field[] = {&h->n_vocab, &h->n_embd, &h->n_mult, &h->n_head, &h->n_layer, &h->n_rot, &h->ftype};
    for (size_t i = 0; i < sizeof field / sizeof *field; i++) *field[i] = sr_cursor_u32(&p->c);
    if (p->c.failed) return past_end(p, "the header");
    h->vocab_at = sr_cursor_offset(&p->c);
    if (h->n_vocab < 3 || h->n_vocab > MAX_VOCAB || h->n_vocab > sr_cursor_left(&p->c) / (h->version ? 8 : 4))
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: found a vocabulary of %" PRIu32 ", expected 3 to %d; %zu bytes are left", p->path,
                       h->n_vocab, MAX_VOCAB, sr_cursor_left(&p->c));
    if (h->n_head == 0 || h->n_embd == 0 || h->n_embd % h->n_head != 0)
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: found an embedding of %" PRIu32 " for %" PRIu32 " heads, expected a multiple of them",
                       p->path, h->n_embd, h->n_head);
    if (h->n_layer == 0 || h->n_layer > MAX_LAYERS)
        return sr_fail(p->err, SR_CORRUPT, "%s: found %" PRIu32 " layers, expected 1 to %d", p->path, h->n_layer,
                       MAX_LAYERS);
    return SR_OK;
}

/* ---------------------------------------------------------------- vocabulary */

/* Spaces are plain in these files; the bytes have one byte, the specials nothing or a picture of themselves. `out` gets
 * GGUF's spelling; NULL: only its length. */
static size_t spell(uint32_t id, const uint8_t *text, uint32_t n, char *out) {
    static const char special[][8] = {"<unk>", "<s>", "</s>"};
    char byte[8];
    size_t used = 0;
    if (id < 3) {
        used = strlen(special[id]);
        if (out) memcpy(out, special[id], used);
        return used;
    }
    if (id <= N_BYTE_LAST && n == 1) {
        used = (size_t)snprintf(byte, sizeof byte, "<0x%02X>", (unsigned)*text);
        if (out) memcpy(out, byte, used);
        return used;
    }
    for (uint32_t i = 0; i < n; i++) {
        bool space = text[i] == ' ';
        if (out) memcpy(out + used, space ? "\xe2\x96\x81" : (const char *)text + i, space ? 3 : 1);
        used += space ? 3 : 1;
    }
    return used;
}

static int32_t token_type(uint32_t id, uint32_t n) {
    enum { NORMAL = 1, UNKNOWN, CONTROL, BYTE = 6 };
    if (id == 0) return UNKNOWN;
    if (id < 3 || n == 0) return CONTROL;
    return id <= N_BYTE_LAST && n == 1 ? BYTE : NORMAL;
}

/* Passes over the vocabulary: how many bytes it takes in GGUF's spelling. */
static sr_status skip_vocab(struct piece *p, uint64_t *bytes) {
    *bytes = 0;
    for (uint32_t id = 0; id < p->h.n_vocab; id++) {
        uint32_t n = sr_cursor_u32(&p->c);
        const uint8_t *text = sr_cursor_bytes(&p->c, n);
        if (p->h.version) sr_cursor_u32(&p->c);
        if (p->c.failed) return past_end(p, "the vocabulary");
        *bytes += 8 + spell(id, text, n, NULL);
    }
    p->h.tensors_at = sr_cursor_offset(&p->c);
    return SR_OK;
}

static sr_value *add_value(const struct piece *p, const char *key, sr_kind kind, uint8_t stored) {
    sr_value *v = sr_file_add_value(p->file, p->err);
    if (!v) return NULL;
    v->key = key;
    v->kind = kind;
    v->stored = stored;
    return v;
}
static void add_int(const struct piece *p, const char *key, uint64_t u) {
    sr_value *v = add_value(p, key, SR_KIND_U64, 4);
    if (v) v->v.u = u;
}
static void add_text(const struct piece *p, const char *key, const char *text) {
    sr_value *v = add_value(p, key, SR_KIND_STRING, 8);
    if (!v) return;
    v->v.s.text = text;
    v->v.s.n = strlen(text);
}
static void add_array(const struct piece *p, const char *key, sr_kind kind, uint8_t stored, const uint8_t *data,
                      uint64_t bytes) {
    sr_value *v = add_value(p, key, SR_KIND_ARRAY, stored);
    if (!v) return;
    v->v.a.data = data;
    v->v.a.n = p->h.n_vocab;
    v->v.a.bytes = bytes;
    v->v.a.kind = kind;
}

/* `bytes` as skip_vocab counted them. */
static sr_status add_vocab(const struct piece *p, uint64_t bytes) {
    sr_arena *a = &p->file->arena;
    uint32_t n_vocab = p->h.n_vocab;
    uint8_t *tokens = sr_arena_alloc(a, (size_t)bytes, 1), *to = tokens;
    float *score = sr_arena_alloc(a, n_vocab, sizeof *score);
    int32_t *type = sr_arena_alloc(a, n_vocab, sizeof *type);
    if (!tokens || !score || !type)
        return sr_fail(p->err, SR_NOMEM, "%s: no memory for a vocabulary of %" PRIu32, p->path, n_vocab);
    sr_cursor c = sr_cursor_over(p->c.base + p->h.vocab_at, p->h.tensors_at - p->h.vocab_at);
    for (uint32_t id = 0; id < n_vocab; id++) {
        uint32_t n = sr_cursor_u32(&c);
        const uint8_t *text = sr_cursor_bytes(&c, n);
        uint64_t len = spell(id, text, n, (char *)to + 8);
        memcpy(to, &len, 8); /* the host is little-endian */
        to += 8 + len;
        type[id] = token_type(id, n);
        if (p->h.version)
            memcpy(&score[id], sr_cursor_bytes(&c, 4), 4);
        else
            score[id] = id <= N_BYTE_LAST ? 0 : -(float)(id - N_BYTE_LAST - 1);
    }
    add_text(p, "tokenizer.ggml.model", "llama");
    add_array(p, "tokenizer.ggml.tokens", SR_KIND_STRING, 8, tokens, bytes);
    add_array(p, "tokenizer.ggml.scores", SR_KIND_F64, 6, (const uint8_t *)score, 4 * (uint64_t)n_vocab);
    add_array(p, "tokenizer.ggml.token_type", SR_KIND_I64, 5, (const uint8_t *)type, 4 * (uint64_t)n_vocab);
    add_int(p, "tokenizer.ggml.unknown_token_id", 0);
    add_int(p, "tokenizer.ggml.bos_token_id", 1);
    add_int(p, "tokenizer.ggml.eos_token_id", 2);
    return p->err->code;
}

/* ---------------------------------------------------------------- tensors */

static const struct {
    const char *old, *gguf;
    bool columns; /* of a model in several files each has some columns, else some rows */
} names[] = {
    {"tok_embeddings.weight", "token_embd.weight", true},
    {"norm.weight", "output_norm.weight", false},
    {"output.weight", "output.weight", false},
    {"attention_norm.weight", "attn_norm.weight", false}, /* the rest behind "layers.N." */
    {"attention.wq.weight", "attn_q.weight", false},
    {"attention.wk.weight", "attn_k.weight", false},
    {"attention.wv.weight", "attn_v.weight", false},
    {"attention.wo.weight", "attn_output.weight", true},
    {"ffn_norm.weight", "ffn_norm.weight", false},
    {"feed_forward.w1.weight", "ffn_gate.weight", false},
    {"feed_forward.w2.weight", "ffn_down.weight", true},
    {"feed_forward.w3.weight", "ffn_up.weight", false},
};
enum { N_NAMES = sizeof names / sizeof *names, N_GLOBAL = 3 };

/* "layers.12.attention.wq.weight" to "blk.12.attn_q.weight". *name NULL: none of LLaMA's, or a layer past the last. */
static sr_status translate(const struct piece *p, const char *text, size_t n, const char **name) {
    static const char prefix[] = "layers.";
    size_t at = sizeof prefix - 1;
    uint32_t layer = 0;
    char full[64];
    *name = NULL;
    bool global = n < at || memcmp(text, prefix, at) != 0;
    if (!global) {
        size_t first = at;
        for (; at < n && at - first < 5 && text[at] >= '0' && text[at] <= '9'; at++)
            layer = 10 * layer + (uint32_t)(text[at] - '0');
        if (at == first || at == n || text[at] != '.' || layer >= p->h.n_layer ||
            (text[first] == '0' && at > first + 1))
            return SR_OK;
        at++;
    } else {
        at = 0;
    }
    for (int i = global ? 0 : N_GLOBAL; i < (global ? N_GLOBAL : N_NAMES); i++) {
        if (strlen(names[i].old) != n - at || memcmp(names[i].old, text + at, n - at) != 0) continue;
        int len = global ? snprintf(full, sizeof full, "%s", names[i].gguf)
                         : snprintf(full, sizeof full, "blk.%" PRIu32 ".%s", layer, names[i].gguf);
        *name = sr_arena_strndup(&p->file->arena, full, (size_t)len);
        return *name ? SR_OK : sr_fail(p->err, SR_NOMEM, "%s: no memory for a name", p->path);
    }
    return SR_OK;
}

static bool by_columns(const char *gguf_name) {
    for (int i = 0; i < N_NAMES; i++)
        if (names[i].columns && sr_ends_with(gguf_name, names[i].gguf)) return true;
    return false;
}

/* What a type number meant at the time. */
static const sr_stored *stored_type(const header *h, uint32_t id) {
    static const char *const v1[] = {"f32",  "f16",     "q4_0_v1", "q4_1_v1", "q4_2",
                                     "q4_3", "q5_0_v1", "q5_1_v1", "q8_0_v1"};
    static const char *const v2[] = {"f32", "f16", "q4_0_v2", "q4_1_v2", NULL, NULL, "q5_0", "q5_1", "q8_0_v1"};
    enum { N_OLD = sizeof v1 / sizeof *v1, LAST_V3 = 14 /* q6_k */ };
    bool third = h->magic == GGJT && h->version == 3, second = h->magic == GGJT && h->version == 2;
    if (third) return id <= LAST_V3 ? sr_stored_by_gguf(id) : NULL;
    const char *name = id < N_OLD ? (second ? v2 : v1)[id] : NULL;
    return name ? sr_stored_by_name(name) : NULL;
}

static const char *container(const header *h) {
    static const char *const ggjt[] = {"GGJT v1", "GGJT v2", "GGJT v3"};
    return h->magic == GGJT ? ggjt[h->version - 1] : h->magic == GGMF ? "GGMF v1" : "GGML";
}

static sr_status read_dims(struct piece *p, sr_part *part, const char *shown) {
    part->n_elements = 1;
    for (int i = part->n_dims - 1; i >= 0; i--) { /* stored innermost first */
        uint32_t ne = sr_cursor_u32(&p->c);
        if (p->c.failed) return past_end(p, "a tensor");
        if (ne == 0 || !sr_times(part->n_elements, ne, &part->n_elements))
            return sr_fail(p->err, SR_CORRUPT,
                           "%s: %s: found dimension ne[%d] = %" PRIu32 ", expected at least 1 and a product below 2^63",
                           p->path, shown, part->n_dims - 1 - i, ne);
        part->shape[i] = ne;
    }
    return SR_OK;
}

/* No more than there are names: a hostile file could else repeat one a million times.
 *
 * A record has its dimensions before its name, so messages about those say where it begins. */
static sr_status read_tensor(struct piece *p) {
    char shown[96];
    snprintf(shown, sizeof shown, "tensor at byte %zu", sr_cursor_offset(&p->c));
    uint32_t n_dims = sr_cursor_u32(&p->c), name_len = sr_cursor_u32(&p->c), id = sr_cursor_u32(&p->c);
    if (p->c.failed) return past_end(p, "a tensor");
    if (n_dims < 1 || n_dims > 2)
        return sr_fail(p->err, SR_CORRUPT, "%s: %s: found %" PRIu32 " dimensions, expected 1 or 2", p->path, shown,
                       n_dims);
    if (name_len < 1 || name_len > SR_NAME_CAP)
        return sr_fail(p->err, SR_CORRUPT, "%s: %s: found a name of %" PRIu32 " bytes, expected 1 to %d", p->path,
                       shown, name_len, SR_NAME_CAP);
    if ((uint32_t)(p->file->n_parts - p->first_part) >= N_GLOBAL + (N_NAMES - N_GLOBAL) * p->h.n_layer)
        return sr_fail(p->err, SR_CORRUPT, "%s: found more tensors than LLaMA has in %" PRIu32 " layers", p->path,
                       p->h.n_layer);
    sr_part *part = sr_file_add_part(p->file, p->err);
    if (!part) return p->err->code;
    part->shard = (uint16_t)p->shard;
    part->n_dims = (int)n_dims;
    sr_status s = read_dims(p, part, shown);
    if (s != SR_OK) return s;
    const char *text = (const char *)sr_cursor_bytes(&p->c, name_len);
    if (!text) return past_end(p, "a tensor");
    snprintf(shown, sizeof shown, "tensor \"%s\"", sr_show(text, name_len).text);
    s = translate(p, text, name_len, &part->name);
    if (s != SR_OK) return s;
    if (!part->name)
        return sr_fail(p->err, SR_UNSUPPORTED, "%s: found %s, expected one of LLaMA's in %" PRIu32 " layers", p->path,
                       shown, p->h.n_layer);
    part->type = stored_type(&p->h, id);
    if (!part->type)
        return sr_fail(p->err, SR_UNSUPPORTED, "%s: %s: found type number %" PRIu32 ", which %s does not have", p->path,
                       shown, id, container(&p->h));
    int64_t K = part->shape[n_dims - 1];
    if (K % part->type->block != 0)
        return sr_fail(p->err, SR_CORRUPT, "%s: %s: found rows of %" PRId64 ", expected a multiple of %d (%s)", p->path,
                       shown, K, part->type->block, part->type->name);
    if (!sr_stored_bytes(part->type, part->n_elements, &part->bytes))
        return sr_fail(p->err, SR_CORRUPT, "%s: %s: found %" PRId64 " elements of %s, more than 2^63 bytes", p->path,
                       shown, part->n_elements, part->type->name);
    if (p->h.magic == GGJT) sr_cursor_bytes(&p->c, -sr_cursor_offset(&p->c) & (ALIGNMENT - 1));
    size_t at = sr_cursor_offset(&p->c);
    part->data = sr_cursor_bytes(&p->c, (uint64_t)part->bytes);
    if (!part->data)
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: %s: found %" PRId64 " bytes at %zu, the file ends at %td; it is cut off", p->path, shown,
                       part->bytes, at, p->c.end - p->c.base);
    return SR_OK;
}

/* Parses file->shard[p->shard] and appends its parts. */
static sr_status parse(struct piece *p, uint64_t *vocab_bytes) {
    const sr_shard *shard = &p->file->shard[p->shard];
    p->path = sr_show_path(shard->path);
    p->first_part = p->file->n_parts;
    p->c = sr_cursor_over(shard->map.data, shard->map.size);
    sr_status s = read_header(p);
    if (s == SR_OK) s = skip_vocab(p, vocab_bytes);
    while (s == SR_OK && sr_cursor_left(&p->c) > 0) s = read_tensor(p);
    return s;
}

/* ---------------------------------------------------------------- several files */

/* Index of a part among the n from `first` on, before the tables of names exist; -1 when there is none. */
static int find(const sr_file *file, int first, int n, const char *name) {
    for (int i = first; i < first + n; i++)
        if (strcmp(file->part[i].name, name) == 0) return i;
    return -1;
}

/* In how many files the model lies: each has as many columns of the embedding. */
static sr_status count_pieces(const struct piece *p, int *count) {
    const sr_file *file = p->file;
    *count = 1;
    if (file->n_parts == 0) return SR_OK; /* a vocabulary alone */
    int i = find(file, 0, file->n_parts, "token_embd.weight");
    if (i < 0 || file->part[i].n_dims != 2)
        return sr_fail(p->err, SR_CORRUPT, "%s: found no matrix tok_embeddings.weight", p->path);
    int64_t columns = file->part[i].shape[1];
    if (p->h.n_embd % columns != 0 || p->h.n_embd / columns > MAX_PIECES)
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: tok_embeddings.weight: found %" PRId64 " columns, expected %" PRIu32
                       " or, in each of at most %d files, an equal share",
                       p->path, columns, p->h.n_embd, MAX_PIECES);
    *count = (int)(p->h.n_embd / columns);
    return SR_OK;
}

/* A further piece has the header and vocabulary of the first one, and its n tensors with equal shapes and types. Brings
 * its parts into the order of the first one's. */
static sr_status match_piece(const struct piece *first, int n, struct piece *p) {
    sr_file *file = p->file;
    size_t head = first->h.tensors_at;
    if (p->h.tensors_at != head || memcmp(first->c.base, p->c.base, head) != 0)
        return sr_fail(p->err, SR_CORRUPT, "%s: its header or vocabulary is not that of %s", p->path,
                       sr_path_base(file->shard[0].path));
    if (file->n_parts - p->first_part != n)
        return sr_fail(p->err, SR_CORRUPT, "%s: found %d tensors, %s has %d", p->path, file->n_parts - p->first_part,
                       sr_path_base(file->shard[0].path), n);
    for (int i = 0; i < n; i++) {
        const sr_part *a = &file->part[i];
        int at = p->first_part + i, k = find(file, at, n - i, a->name);
        if (k < 0)
            return sr_fail(p->err, SR_CORRUPT, "%s: found no tensor %s, which %s has", p->path, a->name,
                           sr_path_base(file->shard[0].path));
        sr_part swap = file->part[k];
        file->part[k] = file->part[at];
        file->part[at] = swap;
        if (swap.type != a->type || swap.n_dims != a->n_dims || memcmp(swap.shape, a->shape, sizeof a->shape) != 0)
            return sr_fail(p->err, SR_CORRUPT, "%s: tensor %s has another type or shape than in %s", p->path, a->name,
                           sr_path_base(file->shard[0].path));
    }
    return SR_OK;
}

/* Copies the slices of every matrix of the n parts that each of `count` files has into one piece of memory, which takes
 * the place of the files but the first: a shard of its own, so that every span still lies in one. */
static sr_status join(const struct piece *p, int n, int count) {
    sr_file *file = p->file;
    int64_t total = 0;
    for (int i = 0; i < n; i++) /* no more than the files' sizes together, so it fits */
        if (file->part[i].n_dims == 2) total += file->part[i].bytes * count + ALIGNMENT;
    size_t len = strlen(file->shard[0].path) + 40;
    char *path = sr_arena_small(&file->arena, len, 1);
    uint8_t *memory = sr_arena_alloc(&file->arena, (size_t)total, 1), *to = memory;
    if (!path || !memory)
        return sr_fail(p->err, SR_NOMEM, "%s: no memory for %" PRId64 " bytes to join %d files", p->path, total, count);
    snprintf(path, len, "%s (joined with %d more)", file->shard[0].path, count - 1);
    for (int i = 0; i < n; i++) {
        sr_part *part = &file->part[i];
        if (part->n_dims != 2) continue;
        bool columns = by_columns(part->name);
        int64_t rows = columns ? part->shape[0] : 1, bytes = part->bytes / rows; /* what each file gives at a time */
        uint8_t *at = to;
        for (int64_t r = 0; r < rows; r++)
            for (int k = 0; k < count; k++, at += bytes)
                memcpy(at, file->part[i + k * n].data + r * bytes, (size_t)bytes);
        part->data = to;
        part->bytes *= count;
        part->n_elements *= count;
        part->shape[columns] *= count;
        part->shard = 1;
        to += (part->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    for (int k = 1; k < count; k++) sr_map_close(&file->shard[k].map);
    file->shard[1] = (sr_shard){.path = path, .map = {memory, (size_t)total}, .borrowed = true};
    file->n_shards = 2;
    file->n_parts = n;
    return SR_OK;
}

static sr_status open_others(const struct piece *first, const char *path, int count) {
    sr_file *file = first->file;
    int n = file->n_parts;
    sr_status s = SR_OK;
    for (int k = 1; k < count && s == SR_OK; k++) {
        size_t len = strlen(path) + 16;
        char *other = sr_arena_small(&file->arena, len, 1);
        if (!other) return sr_fail(first->err, SR_NOMEM, "%s: no memory to open it", first->path);
        snprintf(other, len, "%s.%d", path, k);
        if (sr_path_look(other) == SR_PATH_ABSENT)
            return sr_fail(first->err, SR_IO, "%s: missing, expected it beside %s, the first of %d files",
                           sr_show_path(other), sr_path_base(path), count);
        s = sr_file_add_shard(file, other, first->err);
        if (s != SR_OK) return s;
        struct piece p = {.file = file, .shard = k, .err = first->err};
        uint64_t vocab_bytes;
        s = parse(&p, &vocab_bytes);
        if (s == SR_OK) s = match_piece(first, n, &p);
    }
    return s == SR_OK ? join(first, n, count) : s;
}

/* ---------------------------------------------------------------- what GGUF would say */

/* Rows of a layer's matrix, from the first one; 0 and err when it is absent. */
static int64_t rows_of(const struct piece *p, const char *gguf_name, const char *old_name) {
    int i = find(p->file, 0, p->file->n_parts, gguf_name);
    if (i >= 0 && p->file->part[i].n_dims == 2) return p->file->part[i].shape[0];
    sr_fail(p->err, SR_CORRUPT, "%s: found no matrix %s", p->path, old_name);
    return 0;
}

static sr_status add_values(const struct piece *p, int gqa) {
    const header *h = &p->h;
    int64_t d_ff = rows_of(p, "blk.0.ffn_gate.weight", "layers.0.feed_forward.w1.weight");
    int64_t k_rows = rows_of(p, "blk.0.attn_k.weight", "layers.0.attention.wk.weight");
    if (p->err->code != SR_OK) return p->err->code;
    int64_t head_dim = h->n_embd / h->n_head, n_kv = k_rows / head_dim;
    if (k_rows % head_dim != 0)
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: layers.0.attention.wk.weight: found %" PRId64 " rows, expected a multiple of %" PRId64,
                       p->path, k_rows, head_dim);
    if (gqa && h->n_head != (uint64_t)gqa * (uint64_t)n_kv)
        return sr_fail(p->err, SR_INVALID,
                       "%s: found %" PRId64 " key-value heads for %" PRIu32 " heads, expected 1 for %d (gqa)", p->path,
                       n_kv, h->n_head, gqa);
    add_int(p, "llama.vocab_size", h->n_vocab);
    add_int(p, "llama.context_length", 2048);
    add_int(p, "llama.embedding_length", h->n_embd);
    add_int(p, "llama.block_count", h->n_layer);
    add_int(p, "llama.feed_forward_length", (uint64_t)d_ff);
    add_int(p, "llama.rope.dimension_count", h->n_rot);
    add_int(p, "llama.attention.head_count", h->n_head);
    add_int(p, "llama.attention.head_count_kv", (uint64_t)n_kv);
    sr_value *eps = add_value(p, "llama.attention.layer_norm_rms_epsilon", SR_KIND_F64, 6);
    if (eps) eps->v.f = n_kv != h->n_head ? 1e-5 : h->version == 3 ? 5e-6 : 1e-6;
    return p->err->code;
}

static sr_status fill(struct piece *p, const char *path, int gqa) {
    uint64_t vocab_bytes;
    int count;
    sr_status s = parse(p, &vocab_bytes);
    if (s != SR_OK) return s;
    p->file->gguf = true;
    p->file->container = container(&p->h);
    s = count_pieces(p, &count);
    if (s == SR_OK && count > 1)
        s = path ? open_others(p, path, count)
                 : sr_fail(p->err, SR_UNSUPPORTED, "%s: found one of %d files, expected a whole model", p->path, count);
    if (s != SR_OK) return s;
    add_text(p, "general.architecture", "llama");
    add_int(p, "general.file_type", p->h.ftype);
    if (p->file->n_parts) add_values(p, gqa);
    if (p->err->code == SR_OK) add_vocab(p, vocab_bytes);
    return p->err->code;
}

sr_status sr_ggml_parse_alone(sr_file *file, sr_err *err) {
    struct piece p = {.file = file, .err = err};
    return fill(&p, NULL, 0);
}

sr_status sr_ggml_open(sr_file *file, const char *path, int gqa, sr_err *err) {
    struct piece p = {.file = file, .err = err};
    sr_status s = sr_file_add_shard(file, path, err);
    if (s == SR_OK) s = fill(&p, path, gqa);
    return s == SR_OK ? sr_file_index(file, err) : s;
}

/* Byte pair encoding by ranks: tiktoken's files, a line "BASE64 RANK" for each token, and Mistral's tekken.json. A rank
 * is an id (behind the special tokens in tekken.json), and whatever two pieces give the token of the lowest rank are
 * merged (tiktoken src/lib.rs, byte_pair_merge, at 0.9.0). Pieces are kept in GPT-2's alphabet. */
#include "text/load.h"

#include <stdio.h>

#include "base/base64.h"
#include "base/log.h"

enum { TOKEN_MAX = 1 << 16 /* bytes of a token */ };

/* Adds the token with this id, whose bytes are given as base64. `at`: "line" or "vocab entry", and its number. */
static sr_status add_token(sr_loader *l, sr_filler *f, sr_buffer *b, const char *text, size_t n, int32_t id,
                           const char *at, int64_t number) {
    sr_tokenizer *t = l->t;
    size_t n_bytes = 0;
    if (n > TOKEN_MAX)
        return sr_fail(l->err, SR_LIMIT, "%s: %s %lld: found a token of %zu characters, the limit is %d", l->where, at,
                       (long long)number, n, TOKEN_MAX);
    if (!sr_buffer_reserve(b, 3 * n + 8)) return sr_load_no_memory(l);
    uint8_t *bytes = (uint8_t *)b->at + 2 * n; /* behind the alphabet's spelling, two bytes each */
    if (!sr_base64_decode(text, n, bytes, &n_bytes) || !n_bytes)
        return sr_fail(l->err, SR_CORRUPT, "%s: %s %lld: found \"%.*s\", expected a token in base64", l->where, at,
                       (long long)number, (int)(n < 40 ? n : 40), text);
    char *spelled = b->at;
    for (size_t i = 0; i < n_bytes; i++) spelled += sr_utf8_put(sr_byte_to_char(bytes[i]), spelled);
    size_t n_spelled = (size_t)(spelled - b->at);
    if (t->vocab.piece[id].text)
        return sr_fail(l->err, SR_CORRUPT, "%s: %s %lld: found rank %d a second time", l->where, at, (long long)number,
                       id);
    sr_fill_piece(f, id, b->at, n_spelled, SR_PIECE_NORMAL, 0);
    t->score_rank[id] = (uint32_t)id;
    return SR_OK;
}

/* Without a token for each byte some text could not be written. */
static sr_status check_bytes(sr_loader *l) {
    for (int byte = 0; byte < 256; byte++) {
        char s[4];
        if (sr_vocab_find(&l->t->vocab, s, sr_utf8_put(sr_byte_to_char((uint8_t)byte), s)) < 0)
            return sr_fail(l->err, SR_CORRUPT, "%s: found no token for the byte 0x%02X, expected all 256", l->where,
                           (unsigned)byte);
    }
    return SR_OK;
}

/* ---------------------------------------------------------------- tiktoken */

/* What the programs have in code that models with rank files are published with: by tokenizer_config.json's
 * tokenizer_class. The first row serves a file alone, and classes that are not listed. */
static const struct publisher {
    const char *classes, *pre; /* pre: a name of tokenizer.ggml.pre */
    int32_t n_ranks;           /* of the vocabulary that the special tokens belong to */
    const char *special[12];   /* from n_ranks on; "" has no name */
    int32_t n_extra;           /* "<|extra_0|>" and so on, behind them */
    const char *bos, *eos;
} publishers[] = {
    /* the names that both of Llama 3's and 3.1's lists have */
    {"PreTrainedTokenizerFast LlamaTokenizer LlamaTokenizerFast TokenizersBackend",
     "llama-bpe",
     128000,
     {"<|begin_of_text|>", "<|end_of_text|>", "", "", "", "", "<|start_header_id|>", "<|end_header_id|>", "",
      "<|eot_id|>"},
     0,
     "<|begin_of_text|>",
     "<|end_of_text|>"},
    {"QWenTokenizer", "qwen2", 151643, {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}, 205, NULL, "<|endoftext|>"},
    {"TikTokenTokenizer", "kimi-k2", 0, {NULL}, 0, NULL, NULL},
    {"ChatGLM4Tokenizer", "glm4", 0, {NULL}, 0, NULL, NULL},
    {"TiktokenTokenizerWrapper", "dbrx", 0, {NULL}, 0, NULL, NULL},
};
enum { N_PUBLISHERS = sizeof publishers / sizeof *publishers };

static const struct publisher *find_publisher(sr_loader *l) {
    const char *name;
    size_t n;
    if (!sr_value_string(l->file, "tokenizer_config.tokenizer_class", &name, &n, NULL)) {
        bool qwen = !strcmp(l->where, "qwen.tiktoken");
        return &publishers[qwen ? 1 : 0];
    }
    for (int i = 0; i < N_PUBLISHERS; i++)
        if (sr_load_is_word(publishers[i].classes, name, n)) return &publishers[i];
    sr_log(SR_LOG_WARNING, "%s: tokenizer_class is \"%.*s\": using Llama 3's split, which may be wrong", l->where,
           (int)(n < 60 ? n : 60), name);
    return &publishers[0];
}

/* The next line that is not empty: its token and rank. False at the end, and at a line of another form (*bad). */
static bool next_line(const char **at, const char *end, int64_t *number, const char **token, size_t *n, int64_t *rank,
                      bool *bad) {
    *bad = false;
    while (*at < end) {
        const char *line = *at, *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        *at = stop < end ? stop + 1 : end;
        ++*number;
        if (stop > line && stop[-1] == '\r') stop--;
        if (stop == line) continue;
        const char *space = memchr(line, ' ', (size_t)(stop - line));
        *token = line;
        *n = space ? (size_t)(space - line) : 0;
        *rank = 0;
        *bad = !space || space + 1 == stop || stop - space > 10;
        for (const char *p = *bad ? stop : space + 1; p < stop && !*bad; p++) {
            *bad = *p < '0' || *p > '9';
            *rank = 10 * *rank + (*p - '0');
        }
        return !*bad;
    }
    return false;
}

static sr_status bad_line(sr_loader *l, const char *line, const char *end, int64_t number) {
    const char *stop = memchr(line, '\n', (size_t)(end - line));
    size_t n = (size_t)((stop ? stop : end) - line);
    return sr_fail(l->err, SR_CORRUPT,
                   "%s: line %lld: found \"%.*s\", expected a token in base64, a space and its rank", l->where,
                   (long long)number, (int)(n < 60 ? n : 60), line);
}

static sr_status read_tiktoken(sr_loader *l, sr_filler *f, sr_buffer *b) {
    sr_tokenizer *t = l->t;
    const struct publisher *p = find_publisher(l);
    const char *from = (const char *)l->file->tokenizer.data, *end = from + l->file->tokenizer.size, *at = from, *token;
    int64_t number = 0, rank, largest = -1, n_tokens = 0;
    int32_t n_more, n_vocab, n_special = 0;
    size_t n;
    bool bad;
    while (next_line(&at, end, &number, &token, &n, &rank, &bad)) {
        if (rank > largest) largest = rank;
        n_tokens++;
    }
    if (bad) return bad_line(l, token, end, number);
    if (!n_tokens) return sr_load_corrupt(l, "the file", "a list of tokens and ranks: it is empty");
    /* an id is left out where a special token stands */
    if (largest >= n_tokens + 1024)
        return sr_fail(l->err, SR_CORRUPT, "%s: found rank %lld among %lld tokens, expected ranks without large gaps",
                       l->where, (long long)largest, (long long)n_tokens);
    int32_t n_ranks = n_vocab = (int32_t)largest + 1;
    sr_status status = sr_count_more_added(l, &n_more, &n_vocab);
    if (status != SR_OK) return status;
    if (!n_more && n_ranks == p->n_ranks)
        while (n_special < 12 && p->special[n_special]) n_special++;
    n_special += n_special ? p->n_extra : 0;
    if (n_ranks + n_special > n_vocab) n_vocab = n_ranks + n_special;
    /* the alphabet has up to 2 bytes for one of 3/4 of a character */
    if ((status = sr_fill_begin(f, l, n_vocab, 2 * (uint64_t)l->file->tokenizer.size)) != SR_OK) return status;
    at = from;
    number = 0;
    while (next_line(&at, end, &number, &token, &n, &rank, &bad) && status == SR_OK)
        status = add_token(l, f, b, token, n, (int32_t)rank, "line", number);
    if (status == SR_OK) status = sr_fill_end(f, l, n_more + n_special);
    if (status == SR_OK) status = check_bytes(l);
    if (status != SR_OK) return status;
    for (int32_t i = 0; i < n_special; i++) {
        int32_t n_named = n_special - p->n_extra;
        char extra[32];
        int len = snprintf(extra, sizeof extra, "<|extra_%d|>", i - n_named);
        const char *name = i < n_named ? p->special[i] : sr_arena_strndup(&t->arena, extra, (size_t)len);
        if (!name) return sr_load_no_memory(l);
        if (name[0]) sr_load_special(t, n_ranks + i, name, strlen(name));
    }
    sr_append_more_added(l);
    if (p->bos) t->bos = sr_find_token(t, p->bos, strlen(p->bos));
    if (p->eos) t->eos = sr_find_token(t, p->eos, strlen(p->eos));
    bool add_bos;
    if ((status = sr_load_split(l, p->pre, strlen(p->pre), &add_bos)) != SR_OK) return status;
    if ((status = sr_added_index(t, l->err)) != SR_OK) return status;
    return sr_load_frame(l, add_bos && n_special, false);
}

sr_status sr_load_tiktoken(sr_loader *l) {
    sr_filler f = {.spelling = SR_SPELLED_BYTES, .unique = true};
    sr_buffer b = {0};
    l->t->encode = sr_ranks;
    sr_status status = read_tiktoken(l, &f, &b);
    sr_fill_drop(&f);
    sr_buffer_free(&b);
    return status;
}

/* ---------------------------------------------------------------- tekken.json */

/* The special tokens of files that list none (mistral-common 1.13.1, DEPRECATED_SPECIAL_TOKENS). */
static const char *const old_special[] = {"<unk>",
                                          "<s>",
                                          "</s>",
                                          "[INST]",
                                          "[/INST]",
                                          "[AVAILABLE_TOOLS]",
                                          "[/AVAILABLE_TOOLS]",
                                          "[TOOL_RESULTS]",
                                          "[/TOOL_RESULTS]",
                                          "[TOOL_CALLS]",
                                          "[IMG]",
                                          "<pad>",
                                          "[IMG_BREAK]",
                                          "[IMG_END]",
                                          "[PREFIX]",
                                          "[MIDDLE]",
                                          "[SUFFIX]",
                                          "[SYSTEM_PROMPT]",
                                          "[/SYSTEM_PROMPT]",
                                          "[TOOL_CONTENT]"};

static sr_status config_int(sr_loader *l, const sr_json *config, const char *name, int64_t *out) {
    sr_json_value v;
    if (!sr_json_field(config, name, &v, NULL) || !sr_json_int64(&v, out) || *out < 0 || *out > 1 << 24)
        return sr_fail(l->err, SR_CORRUPT, "%s: config.%s: found no number from 0 to 2^24", l->where, name);
    return SR_OK;
}

/* "special_tokens": [{"rank": 0, "token_str": "<unk>", "is_control": true}, ...]; those that are not listed are called
 * <SPECIAL_n>. */
static sr_status read_special(sr_loader *l, const sr_json *list, int32_t n) {
    sr_tokenizer *t = l->t;
    sr_json_value v, number;
    int32_t listed = 0;
    if (list) {
        sr_json j = *list;
        sr_json_kind kind;
        for (; (kind = sr_json_next(&j, &v)) == SR_JSON_OBJECT; listed++) {
            size_t len;
            int64_t rank;
            if (!sr_json_field(&j, "rank", &number, NULL) || !sr_json_int64(&number, &rank) || rank < 0 || rank >= n)
                return sr_fail(l->err, SR_CORRUPT, "%s: special_tokens entry %d: found no rank below %d", l->where,
                               listed, n);
            if (t->vocab.piece[rank].text)
                return sr_fail(l->err, SR_CORRUPT, "%s: special_tokens entry %d: found rank %lld a second time",
                               l->where, listed, (long long)rank);
            const char *text = sr_json_text(l, &j, "token_str", &len);
            if (!text || !len || len > SR_MAX_ADDED_LEN)
                return sr_fail(l->err, SR_CORRUPT, "%s: special_tokens entry %d: found no token_str of 1 to %d bytes",
                               l->where, listed, SR_MAX_ADDED_LEN);
            sr_load_special(t, (int32_t)rank, text, len);
            sr_json_leave(&j);
        }
        if (kind != SR_JSON_END) return sr_load_corrupt(l, "special_tokens", "an array of objects");
    } else {
        int32_t known = (int32_t)(sizeof old_special / sizeof *old_special);
        for (; listed < known && listed < n; listed++)
            sr_load_special(t, listed, old_special[listed], strlen(old_special[listed]));
    }
    for (int32_t id = 0; id < n; id++) {
        char name[32];
        if (t->vocab.piece[id].text) continue;
        int len = snprintf(name, sizeof name, "<SPECIAL_%d>", (int)id);
        const char *text = sr_arena_strndup(&t->arena, name, (size_t)len);
        if (!text) return sr_load_no_memory(l);
        sr_load_special(t, id, text, (size_t)len);
    }
    return SR_OK;
}

typedef struct tekken {
    int64_t n_vocab, n_special;
    const char *pattern;
    size_t n_pattern;
    sr_json special, vocab;
    bool has_config, has_special, has_vocab;
} tekken;

/* "vocab": [{"rank": 0, "token_bytes": "AA==", "token_str": null}, ...], in order; the first n count. */
static sr_status read_vocab(sr_loader *l, sr_json *j, sr_filler *f, sr_buffer *b, const tekken *k) {
    int32_t n_special = (int32_t)k->n_special, n = (int32_t)k->n_vocab - n_special;
    sr_json_value key, v;
    for (int32_t i = 0; i < n; i++) {
        sr_json_value token = {.kind = SR_JSON_NULL};
        int64_t rank = -1;
        sr_json_kind kind = sr_json_next(j, &v);
        if (kind == SR_JSON_END)
            return sr_fail(l->err, SR_CORRUPT, "%s: vocab: found %d entries, expected at least %d", l->where, i, n);
        if (kind != SR_JSON_OBJECT) return sr_load_corrupt(l, "vocab", "an array of objects");
        while ((kind = sr_json_next_pair(j, &key, &v)) != SR_JSON_END) {
            if (kind == SR_JSON_ERROR) return sr_load_corrupt(l, "vocab", "readable");
            if (sr_json_equals(&key, "rank") && !sr_json_int64(&v, &rank)) rank = -1;
            if (sr_json_equals(&key, "token_bytes")) token = v;
            sr_json_skip(j, &v);
        }
        if (rank != i)
            return sr_fail(l->err, SR_CORRUPT, "%s: vocab entry %d: found rank %lld, expected %d", l->where, i,
                           (long long)rank, i);
        if (token.kind != SR_JSON_STRING)
            return sr_fail(l->err, SR_CORRUPT, "%s: vocab entry %d: found no token_bytes", l->where, i);
        size_t len = token.n;
        const char *text = token.text;
        if (token.escaped && !(text = sr_json_string(j, &token, &l->t->arena, &len))) /* "\/" */
            return sr_load_corrupt(l, "vocab", "readable");
        sr_status status = add_token(l, f, b, text, len, n_special + i, "vocab entry", i);
        if (status != SR_OK) return status;
    }
    return SR_OK;
}

static sr_status read_config(sr_loader *l, const sr_json *config, tekken *k) {
    sr_status status = config_int(l, config, "default_vocab_size", &k->n_vocab);
    if (status == SR_OK) status = config_int(l, config, "default_num_special_tokens", &k->n_special);
    if (status != SR_OK) return status;
    k->pattern = sr_json_text(l, config, "pattern", &k->n_pattern);
    if (!k->pattern) return sr_load_corrupt(l, "config.pattern", "a string");
    if (k->n_special >= k->n_vocab)
        return sr_fail(l->err, SR_CORRUPT, "%s: config: found %lld special tokens among %lld", l->where,
                       (long long)k->n_special, (long long)k->n_vocab);
    /* an entry takes more than a byte, so a count alone cannot ask for memory */
    if ((uint64_t)k->n_vocab > 65536 + l->file->tokenizer.size)
        return sr_fail(l->err, SR_CORRUPT, "%s: config.default_vocab_size: found %lld in a file of %zu bytes", l->where,
                       (long long)k->n_vocab, l->file->tokenizer.size);
    return SR_OK;
}

static sr_status read_tekken(sr_loader *l, sr_filler *f, sr_buffer *b) {
    sr_tokenizer *t = l->t;
    const sr_map *map = &l->file->tokenizer;
    sr_json j = sr_json_over((const char *)map->data, map->size, l->where, l->err);
    sr_json_value key, v;
    tekken k = {0};
    bool read = false;
    sr_status status = SR_OK;
    if (sr_json_next(&j, &v) != SR_JSON_OBJECT) return sr_load_corrupt(l, "the file", "a JSON object");
    for (;;) {
        sr_json_kind kind = sr_json_next_pair(&j, &key, &v);
        if (kind == SR_JSON_END) break;
        if (kind == SR_JSON_ERROR) return sr_load_corrupt(l, "the file", "valid JSON");
        if (sr_json_equals(&key, "config") && kind == SR_JSON_OBJECT && !k.has_config) {
            k.has_config = true;
            if ((status = read_config(l, &j, &k)) != SR_OK) return status;
            status = sr_fill_begin(f, l, (int32_t)k.n_vocab, 2 * (uint64_t)map->size);
            if (status != SR_OK) return status;
        } else if (sr_json_equals(&key, "special_tokens") && kind == SR_JSON_ARRAY) {
            k.has_special = true;
            k.special = j;
        } else if (sr_json_equals(&key, "vocab") && kind == SR_JSON_ARRAY && !k.has_vocab) {
            k.has_vocab = true;
            k.vocab = j;
            read = k.has_config;
            if (read && (status = read_vocab(l, &j, f, b, &k)) != SR_OK) return status;
            if (read) { /* what is behind those that count */
                sr_json_leave(&j);
                continue;
            }
        }
        sr_json_skip(&j, &v);
    }
    if (!k.has_config) return sr_load_corrupt(l, "config", "an object that is there");
    if (!k.has_vocab) return sr_load_corrupt(l, "vocab", "an array that is there");
    if (!read && (status = read_vocab(l, &k.vocab, f, b, &k)) != SR_OK) return status;
    if ((status = sr_fill_end(f, l, (int32_t)k.n_special)) != SR_OK) return status;
    if ((status = check_bytes(l)) != SR_OK) return status;
    if ((status = read_special(l, k.has_special ? &k.special : NULL, (int32_t)k.n_special)) != SR_OK) return status;
    sr_stage *split = sr_stages_add(&t->pre_tokenizers, l->err), *bytes = sr_stages_add(&t->pre_tokenizers, l->err);
    if (!split || !bytes) return SR_LIMIT;
    split->kind = SR_STAGE_SPLIT;
    split->behavior = SR_SPLIT_ISOLATED;
    bytes->kind = SR_STAGE_BYTES;
    if ((status = sr_regex_compile(k.pattern, k.n_pattern, false, &split->regex, l->err)) != SR_OK) return status;
    t->bos = sr_find_token(t, "<s>", 3);
    t->eos = sr_find_token(t, "</s>", 4);
    t->unk = sr_find_token(t, "<unk>", 5);
    if ((status = sr_added_index(t, l->err)) != SR_OK) return status;
    return sr_load_frame(l, true, false);
}

sr_status sr_load_tekken(sr_loader *l) {
    sr_filler f = {.spelling = SR_SPELLED_BYTES, .unique = true};
    sr_buffer b = {0};
    l->t->encode = sr_ranks;
    sr_status status = read_tekken(l, &f, &b);
    sr_fill_drop(&f);
    sr_buffer_free(&b);
    return status == SR_OK ? SR_OK : l->err->code; /* the reader may have failed first */
}

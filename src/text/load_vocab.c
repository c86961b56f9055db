/* vocab.json ("piece": id) and merges.txt ("a b" in each line), as GPT-2's tokenizer was published: BPE over the
 * alphabet of bytes. How a text is split, and which tokens are special, is in the code of the class that
 * tokenizer_config.json names (transformers 5.24.0, models/.../tokenization_*.py). */
#include "text/load.h"

#include "base/log.h"

static const struct publisher {
    const char *classes, *pre; /* pre: a name of tokenizer.ggml.pre */
    bool nfc;
    const char *bos, *eos; /* where the configuration names none */
} publishers[] = {
    {"GPT2Tokenizer GPT2TokenizerFast CodeGenTokenizer CodeGenTokenizerFast", "gpt-2", false, "<|endoftext|>",
     "<|endoftext|>"},
    {"GPTNeoXTokenizer GPTNeoXTokenizerFast", "gpt-2", true, "<|endoftext|>", "<|endoftext|>"},
    {"Qwen2Tokenizer Qwen2TokenizerFast", "qwen2", true, NULL, "<|endoftext|>"},
};

static const struct publisher *find_publisher(sr_loader *l) {
    const char *name;
    size_t n;
    if (!sr_value_string(l->file, "tokenizer_config.tokenizer_class", &name, &n, NULL)) return &publishers[0];
    for (size_t i = 0; i < sizeof publishers / sizeof *publishers; i++)
        if (sr_load_is_word(publishers[i].classes, name, n)) return &publishers[i];
    sr_log(SR_LOG_WARNING, "%s: tokenizer_class is \"%.*s\": using GPT-2's split, which may be wrong", l->where,
           (int)(n < 60 ? n : 60), name);
    return &publishers[0];
}

/* ---------------------------------------------------------------- the two files */

/* Calls for each entry of the vocabulary: with `f` NULL it counts them and finds the largest id. */
static sr_status read_pieces(sr_loader *l, sr_filler *f, sr_buffer *b, int32_t *n, int32_t *largest) {
    const sr_map *map = &l->file->tokenizer;
    sr_json j = sr_json_over((const char *)map->data, map->size, l->where, l->err);
    sr_json_value key, v;
    sr_json_kind kind = sr_json_next(&j, &v);
    if (kind != SR_JSON_ERROR && kind != SR_JSON_OBJECT) return sr_load_corrupt(l, "the file", "a JSON object");
    *n = 0;
    *largest = -1;
    while ((kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        int64_t id;
        size_t len;
        if (!sr_json_int64(&v, &id) || id < 0 || id >= INT32_MAX / 4)
            return sr_fail(l->err, SR_CORRUPT, "%s: \"%.*s\": found the id %.*s, expected a number from 0 to 2^29",
                           l->where, (int)(key.n < 60 ? key.n : 60), key.text, (int)(v.n < 20 ? v.n : 20),
                           v.text ? v.text : "");
        if (id > *largest) *largest = (int32_t)id;
        ++*n;
        if (!f) continue;
        if (f->t->vocab.piece[id].text)
            return sr_fail(l->err, SR_CORRUPT, "%s: found token id %lld a second time, as \"%.*s\"", l->where,
                           (long long)id, (int)(key.n < 60 ? key.n : 60), key.text);
        if (!sr_buffer_reserve(b, key.n + 1)) return sr_load_no_memory(l);
        if (!sr_json_unescape(&j, &key, b->at, &len)) break;
        sr_fill_piece(f, (int32_t)id, b->at, len, SR_PIECE_NORMAL, 0);
    }
    if (!j.failed && !sr_json_at_end(&j)) return sr_load_corrupt(l, "what follows the object", "white space");
    return j.failed ? l->err->code : SR_OK;
}

static sr_status read_merges(sr_loader *l) {
    const char *at = (const char *)l->file->merges.data, *end = at + l->file->merges.size;
    sr_pairs p = {.last_counts = true};
    sr_status status = SR_OK;
    for (int64_t number = 1; at < end && status == SR_OK; number++) {
        const char *line = at, *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        at = stop < end ? stop + 1 : end;
        if (stop > line && stop[-1] == '\r') stop--;
        size_t n = (size_t)(stop - line);
        if (!n || (n >= 8 && !memcmp(line, "#version", 8))) continue;
        const char *space = memchr(line, ' ', n);
        if (!space || memchr(space + 1, ' ', (size_t)(stop - space) - 1))
            status =
                sr_fail(l->err, SR_CORRUPT, "%s: line %lld: found \"%.*s\", expected two pieces with a space between",
                        l->where, (long long)number, (int)(n < 60 ? n : 60), line);
        else
            status = sr_pairs_add(l, &p, line, (size_t)(space - line), space + 1, (size_t)(stop - space) - 1);
    }
    return sr_pairs_end(l, &p, status);
}

/* ---------------------------------------------------------------- special tokens */

/* A piece that is a special token: looked for in texts. Those that the vocabulary lacks have no id. */
static int32_t add_special(sr_tokenizer *t, const char *text, size_t n) {
    int32_t id = n <= SR_MAX_ADDED_LEN ? sr_vocab_find(&t->vocab, text, n) : -1;
    if (id >= 0 && !(t->flags[id] & SR_TOKEN_SPECIAL)) sr_load_special(t, id, t->vocab.piece[id].text, (uint32_t)n);
    return id;
}

/* ---------------------------------------------------------------- all of it */

static sr_status read_all(sr_loader *l, sr_filler *f, sr_buffer *b) {
    sr_tokenizer *t = l->t;
    const struct publisher *p = find_publisher(l);
    sr_named named = {0};
    const char *text;
    size_t len;
    int32_t n, largest, n_more, n_named = 2;
    sr_status status = read_pieces(l, NULL, NULL, &n, &largest);
    if (status != SR_OK) return status;
    if (!n) return sr_load_corrupt(l, "the file", "a vocabulary: it is empty");
    if (largest >= 65536 + 4 * (int64_t)n)
        return sr_fail(l->err, SR_CORRUPT, "%s: found token id %d among %d tokens, expected ids without large gaps",
                       l->where, largest, n);
    int32_t n_vocab = largest + 1;
    if ((status = sr_count_more_added(l, &n_more, &n_vocab)) != SR_OK) return status;
    while (sr_load_named(l->file, &named, &text, &len)) n_named++;
    if ((status = sr_fill_begin(f, l, n_vocab, l->file->tokenizer.size)) != SR_OK) return status;
    if ((status = read_pieces(l, f, b, &n, &largest)) != SR_OK) return status;
    if ((status = sr_fill_end(f, l, n_more + n_named)) != SR_OK) return status;
    l->where = "merges.txt";
    if ((status = read_merges(l)) != SR_OK) return status;
    l->where = l->file->tokenizer_name;
    sr_find_short_ids(t);

    if (p->bos) t->bos = add_special(t, p->bos, strlen(p->bos));
    if (p->eos) t->eos = add_special(t, p->eos, strlen(p->eos));
    named = (sr_named){0};
    while (sr_load_named(l->file, &named, &text, &len)) add_special(t, text, len);
    sr_append_more_added(l);

    bool space_first = false, add_bos;
    sr_value_bool(l->file, "tokenizer_config.add_prefix_space", &space_first, NULL);
    sr_stage *s;
    if (p->nfc) {
        if (!(s = sr_stages_add(&t->normalizers, l->err))) return SR_LIMIT;
        s->kind = SR_STAGE_NORMAL_FORM;
        s->form = SR_NFC;
    }
    if (space_first) {
        if (!(s = sr_stages_add(&t->pre_tokenizers, l->err))) return SR_LIMIT;
        s->kind = SR_STAGE_SPACE_FIRST;
    }
    if ((status = sr_load_split(l, p->pre, strlen(p->pre), &add_bos)) != SR_OK) return status;
    if ((status = sr_added_index(t, l->err)) != SR_OK) return status;
    return sr_load_frame(l, add_bos, false);
}

sr_status sr_load_vocab(sr_loader *l) {
    sr_filler f = {.spelling = SR_SPELLED_BYTES, .unique = true};
    sr_buffer b = {0};
    l->t->encode = sr_bpe;
    sr_status status = read_all(l, &f, &b);
    sr_fill_drop(&f);
    sr_buffer_free(&b);
    return status;
}

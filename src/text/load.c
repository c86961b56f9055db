#include "text/load.h"

#include <math.h>
#include <stdio.h>

sr_status sr_load_no_memory(sr_loader *l) {
    return sr_fail(l->err, SR_NOMEM, "%s: out of memory", l->where);
}
sr_status sr_load_corrupt(sr_loader *l, const char *what, const char *expected) {
    return sr_fail(l->err, SR_CORRUPT, "%s: %s is not %s", l->where, what, expected);
}

/* ---------------------------------------------------------------- JSON */

bool sr_json_field(const sr_json *object, const char *name, sr_json_value *v, sr_json *inside) {
    sr_json j = *object;
    sr_json_value key;
    for (;;) {
        sr_json_kind kind = sr_json_next_pair(&j, &key, v);
        if (kind == SR_JSON_END || kind == SR_JSON_ERROR) return false;
        if (sr_json_equals(&key, name)) {
            if (inside) *inside = j;
            return true;
        }
        sr_json_skip(&j, v);
    }
}

bool sr_json_flag(const sr_json *object, const char *name, bool absent) {
    sr_json_value v;
    bool b;
    return sr_json_field(object, name, &v, NULL) && sr_json_bool(&v, &b) ? b : absent;
}

const char *sr_json_text(sr_loader *l, const sr_json *object, const char *name, size_t *n) {
    sr_json_value v;
    sr_json j;
    *n = 0;
    if (!sr_json_field(object, name, &v, &j) || v.kind != SR_JSON_STRING) return NULL;
    return sr_json_string(&j, &v, &l->t->arena, n);
}

/* ---------------------------------------------------------------- pieces of a vocabulary with types */

sr_status sr_fill_begin(sr_filler *f, sr_loader *l, int32_t n, uint64_t text_bytes) {
    sr_tokenizer *t = f->t = l->t;
    /* each piece and its bytes, with their zeros */
    uint64_t room = 2 * (text_bytes + (uint64_t)n) + 16;
    f->min = f->max = NAN;
    f->type = calloc((size_t)n + 1, 1);
    f->blob = room < SIZE_MAX / 2 ? sr_arena_alloc(&t->arena, (size_t)room, 1) : NULL;
    t->flags = sr_arena_alloc(&t->arena, (size_t)n + 1, 1);
    t->bytes = sr_arena_alloc(&t->arena, (size_t)n + 1, sizeof *t->bytes);
    t->words_apart = true;
    if (!f->type || !f->blob || !t->flags || !t->bytes || !sr_vocab_init(&t->vocab, n, &t->arena))
        return sr_load_no_memory(l);
    if (t->encode == sr_spm || t->encode == sr_ranks)
        t->score_rank = sr_arena_alloc(&t->arena, (size_t)n + 1, sizeof *t->score_rank);
    if (t->encode == sr_unigram) t->score = sr_arena_alloc(&t->arena, (size_t)n + 1, sizeof *t->score);
    return (t->encode == sr_spm || t->encode == sr_ranks) && !t->score_rank ? sr_load_no_memory(l)
           : t->encode == sr_unigram && !t->score                           ? sr_load_no_memory(l)
                                                                            : SR_OK;
}

static size_t from_spaces(const char *s, size_t n, char *out) {
    size_t n_out = 0;
    for (size_t i = 0; i < n;) {
        bool space = n - i >= 3 && !memcmp(s + i, SR_SPACE, 3);
        out[n_out++] = space ? ' ' : s[i];
        i += space ? 3 : 1;
    }
    return n_out;
}

/* A piece with a character outside of the alphabet stands for itself. */
static size_t from_alphabet(const char *s, size_t n, char *out) {
    size_t n_out = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        unsigned step = sr_utf8_step(s + i, n - i);
        if (step) sr_utf8_get(s + i, &cp);
        int byte = step ? sr_char_to_byte(cp) : -1;
        if (byte < 0) {
            memcpy(out, s, n);
            return n;
        }
        out[n_out++] = (char)byte;
        i += step;
    }
    return n_out;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* Backslash and x without two digits, or at the end, stand for themselves. */
static size_t from_escapes(const char *s, size_t n, char *out) {
    size_t n_out = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] != '\\' || i + 1 == n) {
            out[n_out++] = s[i];
            continue;
        }
        char c = s[++i];
        int high = c == 'x' && n - i > 2 ? hex_digit(s[i + 1]) : -1, low = high >= 0 ? hex_digit(s[i + 2]) : -1;
        if (low >= 0) {
            out[n_out++] = (char)(16 * high + low);
            i += 2;
        } else {
            out[n_out++] = c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c;
        }
    }
    return n_out;
}

void sr_fill_piece(sr_filler *f, int32_t id, const char *text, size_t n, int64_t type, double score) {
    sr_tokenizer *t = f->t;
    char *s = f->blob, *out = s + n + 1;
    size_t n_out = n;
    if (n) memcpy(s, text, n);
    f->type[id] = type > 0 && type <= SR_PIECE_BYTE ? (uint8_t)type : 0;
    t->vocab.piece[id] = (sr_piece){s, (uint32_t)n};
    if (n && sr_spm_border(s, n, 0) < n) t->words_apart = false;
    if (t->score_rank) t->score_rank[id] = sr_score_rank((float)score);
    if (t->score) t->score[id] = score;
    if (type == SR_PIECE_NORMAL) {
        f->min = fmin(f->min, score);
        f->max = fmax(f->max, score);
    }
    int byte = type == SR_PIECE_BYTE || f->all_bytes ? sr_byte_token(s, n) : -1;
    if (byte >= 0) {
        t->flags[id] |= SR_TOKEN_BYTE | SR_TOKEN_UNSPOKEN;
        if (t->byte_id[byte] < 0) t->byte_id[byte] = id;
        out[0] = (char)byte;
        n_out = 1;
    } else if (type == SR_PIECE_CONTROL || type == SR_PIECE_UNKNOWN || type == SR_PIECE_USER_DEFINED) {
        if (type != SR_PIECE_USER_DEFINED) t->flags[id] |= SR_TOKEN_SPECIAL;
        if (n) memcpy(out, s, n);
    } else {
        n_out = (f->spelling == SR_SPELLED_SPACE   ? from_spaces
                 : f->spelling == SR_SPELLED_BYTES ? from_alphabet
                                                   : from_escapes)(s, n, out);
    }
    t->bytes[id] = (sr_piece){out, (uint32_t)n_out};
    f->blob = out + n_out + 1;
}

void sr_fill_drop(sr_filler *f) {
    free(f->type);
    f->type = NULL;
}

static bool is_added(uint8_t type, uint32_t n) {
    /* too long: not looked for in a text */
    return n && n <= SR_MAX_ADDED_LEN &&
           (type == SR_PIECE_CONTROL || type == SR_PIECE_UNKNOWN || type == SR_PIECE_USER_DEFINED);
}

sr_status sr_fill_end(sr_filler *f, sr_loader *l, int32_t n_more) {
    enum { AHEAD = 8 }; /* pieces whose slot is asked for before it is needed */
    sr_tokenizer *t = f->t;
    sr_vocab *v = &t->vocab;
    size_t n = (size_t)n_more + 1;
    for (int32_t id = 0; id < v->n; id++) {
        if (id + AHEAD < v->n && v->piece[id + AHEAD].text)
            SR_PREFETCH(
                &v->slot[(uint32_t)sr_vocab_hash(v, v->piece[id + AHEAD].text, v->piece[id + AHEAD].n) & v->mask]);
        if (!v->piece[id].text) continue;
        int32_t known = sr_vocab_add(v, id, v->piece[id].text, v->piece[id].n, false);
        if (known >= 0 && f->unique)
            return sr_fail(l->err, SR_CORRUPT, "%s: found \"%.*s\" as token %d and a second time as token %d", l->where,
                           (int)(v->piece[id].n < 60 ? v->piece[id].n : 60), v->piece[id].text, known, id);
    }
    for (int32_t id = 0; id < t->vocab.n; id++) n += is_added(f->type[id], t->vocab.piece[id].n);
    t->added = sr_arena_small(&t->arena, n, sizeof *t->added);
    for (int32_t id = 0; id < t->vocab.n && t->added; id++) {
        const sr_piece *p = &t->vocab.piece[id];
        if (is_added(f->type[id], p->n))
            t->added[t->n_added++] =
                (sr_added){.id = id, .text = p->text, .n = p->n, .special = f->type[id] != SR_PIECE_USER_DEFINED};
    }
    sr_fill_drop(f);
    return t->added ? SR_OK : sr_load_no_memory(l);
}

/* ---------------------------------------------------------------- merges */

static sr_status look_up(sr_loader *l, sr_pairs *p) {
    const sr_tokenizer *t = l->t;
    for (int i = 0; i < p->n; i++) {
        const char *s = p->text.at + p->batch[i].at;
        size_t n[3] = {p->batch[i].left, p->batch[i].right, p->batch[i].left + p->batch[i].right};
        for (int k = 0; k < 3; k++) {
            p->batch[i].hash[k] = sr_vocab_hash(&t->vocab, k == 1 ? s + n[0] : s, n[k]);
            SR_PREFETCH(&t->vocab.slot[(uint32_t)p->batch[i].hash[k] & t->vocab.mask]);
        }
    }
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < p->n; i++)
            for (int k = 0; k < 3; k++) sr_vocab_prefetch(&t->vocab, p->batch[i].hash[k], pass);
    for (int i = 0; i < p->n; i++) {
        char *s = p->text.at + p->batch[i].at;
        size_t left = p->batch[i].left, right = p->batch[i].right;
        int32_t x = sr_vocab_find_hashed(&t->vocab, s, left, p->batch[i].hash[0]), id = -1;
        int32_t y = sr_vocab_find_hashed(&t->vocab, s + left, right, p->batch[i].hash[1]);
        if (x >= 0 && y >= 0) {
            if (t->n_prefix && right >= t->n_prefix) {
                right -= t->n_prefix;
                memmove(s + left, s + left + t->n_prefix, right);
                id = sr_vocab_find(&t->vocab, s, left + right);
            } else {
                id = sr_vocab_find_hashed(&t->vocab, s, left + right, p->batch[i].hash[2]);
            }
        }
        uint32_t rank = p->count - (uint32_t)(p->n - i);
        if (id < 0 && !p->lenient)
            return sr_fail(l->err, SR_CORRUPT, "%s: merge %u: \"%.*s\" or a part of it is not in the vocabulary",
                           l->where, rank, (int)(left + right < 60 ? left + right : 60), s);
        if (id < 0) {
            p->skipped++;
            continue;
        }
        if (p->n_merge == p->cap_merge) {
            size_t cap = 2 * p->cap_merge + 1024;
            sr_merge *merge = realloc(p->merge, cap * sizeof *merge);
            if (!merge) return sr_load_no_memory(l);
            p->merge = merge;
            p->cap_merge = cap;
        }
        p->merge[p->n_merge++] = (sr_merge){(uint64_t)(uint32_t)x << 32 | (uint32_t)y, rank, id};
    }
    p->n = 0;
    p->text.n = 0;
    return SR_OK;
}

sr_status sr_pairs_add(sr_loader *l, sr_pairs *p, const char *left, size_t n_left, const char *right, size_t n_right) {
    p->batch[p->n].at = p->text.n;
    p->batch[p->n].left = n_left;
    p->batch[p->n++].right = n_right;
    p->count++;
    if (!sr_buffer_add(&p->text, left, n_left) || !sr_buffer_add(&p->text, right, n_right)) return sr_load_no_memory(l);
    return p->n == SR_PAIRS ? look_up(l, p) : SR_OK;
}

sr_status sr_pairs_end(sr_loader *l, sr_pairs *p, sr_status status) {
    enum { AHEAD = 8 };
    sr_merges *m = &l->t->merges;
    if (status == SR_OK) status = look_up(l, p);
    if (status == SR_OK && !sr_merges_init(m, p->n_merge, &l->t->arena)) status = sr_load_no_memory(l);
    for (size_t i = 0; i < p->n_merge && status == SR_OK; i++) {
        if (i + AHEAD < p->n_merge) SR_PREFETCH(&m->slot[sr_merges_slot(m, p->merge[i + AHEAD].pair)]);
        sr_merges_add(m, &p->merge[i], p->last_counts);
    }
    free(p->merge);
    sr_buffer_free(&p->text);
    sr_buffer_free(&p->spelled[0]);
    sr_buffer_free(&p->spelled[1]);
    return status;
}

/* ---------------------------------------------------------------- the rest of a model directory */

sr_status sr_load_added(sr_loader *l, const sr_json *object, sr_added *a) {
    size_t n;
    a->text = sr_json_text(l, object, "content", &n);
    if (!a->text || n > INT32_MAX) return sr_load_corrupt(l, "an added token's content", "a string");
    a->n = (uint32_t)n;
    a->single_word = sr_json_flag(object, "single_word", false);
    a->left = sr_json_flag(object, "lstrip", false);
    a->right = sr_json_flag(object, "rstrip", false);
    a->special = sr_json_flag(object, "special", false);
    a->normalized = sr_json_flag(object, "normalized", !a->special);
    return SR_OK;
}

bool sr_special_spelling(const sr_file *file, const char *name, const char **text, size_t *n) {
    static const char *const files[] = {"special_tokens_map.", "tokenizer_config."};
    char key[64];
    for (int i = 0; i < 4; i++) {
        snprintf(key, sizeof key, "%s%s%s", files[i / 2], name, i % 2 ? "" : ".content");
        if (sr_value_string(file, key, text, n, NULL)) return true;
    }
    return false;
}

bool sr_load_named(const sr_file *file, sr_named *at, const char **text, size_t *n) {
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                        "sep_token", "cls_token", "mask_token"};
    static const char *const lists[] = {"special_tokens_map.additional_special_tokens",
                                        "tokenizer_config.additional_special_tokens",
                                        "tokenizer_config.extra_special_tokens"};
    enum { N_NAMES = sizeof names / sizeof *names, N_LISTS = sizeof lists / sizeof *lists };
    while (at->key < N_NAMES)
        if (sr_special_spelling(file, names[at->key++], text, n)) return true;
    while (!sr_array_string(&at->list, text, n)) {
        if (at->n_lists == N_LISTS) return false;
        at->list = sr_array_over(sr_file_value(file, lists[at->n_lists++]));
    }
    return true;
}

void sr_load_special(sr_tokenizer *t, int32_t id, const char *text, size_t n) {
    t->added[t->n_added++] = (sr_added){.id = id, .text = text, .n = (uint32_t)n, .special = true};
    t->vocab.piece[id] = t->bytes[id] = (sr_piece){text, (uint32_t)n};
    t->flags[id] |= SR_TOKEN_SPECIAL;
}

bool sr_load_is_word(const char *words, const char *word, size_t n) {
    while (*words) {
        size_t len = strcspn(words, " ");
        if (len == n && !memcmp(words, word, n)) return true;
        words += len + (words[len] == ' ');
    }
    return false;
}

static bool is_named(const sr_file *file, const char *s, size_t n) {
    sr_named at = {0};
    const char *text;
    size_t len;
    while (sr_load_named(file, &at, &text, &len))
        if (len == n && !memcmp(text, s, n)) return true;
    return false;
}

/* One entry: "ID": {"content": ...} of added_tokens_decoder, or "CONTENT": ID of added_tokens.json. */
static sr_status more_added(sr_loader *l, sr_json *j, const sr_json_value *key, const sr_json_value *v, bool decoder,
                            sr_added *a) {
    int64_t id;
    size_t n;
    sr_json_value number = *key;
    number.kind = SR_JSON_NUMBER;
    if (!sr_json_int64(decoder ? &number : v, &id) || id < 0 || id >= INT32_MAX / 4)
        return sr_load_corrupt(l, "an added token's id", "a number from 0 to 2^29");
    *a = (sr_added){.id = (int32_t)id};
    if (decoder)
        return v->kind == SR_JSON_OBJECT ? sr_load_added(l, j, a) : sr_load_corrupt(l, "an added token", "an object");
    a->text = sr_json_string(j, key, &l->t->arena, &n);
    if (!a->text || n > INT32_MAX) return sr_load_corrupt(l, "an added token", "a string");
    a->n = (uint32_t)n;
    a->special = is_named(l->file, a->text, n);
    return SR_OK;
}

/* The reader inside the list of tokens; false: there is none, or an error. */
static bool find_more_added(sr_loader *l, bool decoder, sr_json *inside) {
    const sr_map *map = decoder ? &l->file->tokenizer_config : &l->file->added_tokens;
    sr_json_value v;
    if (!map->size) return false;
    *inside = sr_json_over((const char *)map->data, map->size, l->where, l->err);
    if (sr_json_next(inside, &v) != SR_JSON_OBJECT) return sr_load_corrupt(l, "the file", "a JSON object"), false;
    sr_json top = *inside;
    return !decoder || (sr_json_field(&top, "added_tokens_decoder", &v, inside) && v.kind == SR_JSON_OBJECT);
}

/* Counts the entries, or fills l->more where it is there. */
static sr_status walk_added(sr_loader *l, bool decoder, sr_json j) {
    sr_json_value key, v;
    sr_json_kind kind;
    l->n_more = 0;
    while ((kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END) {
        if (kind == SR_JSON_ERROR) return sr_load_corrupt(l, "the file", "valid JSON");
        if (l->more && more_added(l, &j, &key, &v, decoder, &l->more[l->n_more]) != SR_OK) return l->err->code;
        l->n_more++;
        sr_json_skip(&j, &v);
    }
    return SR_OK;
}

sr_status sr_read_more_added(sr_loader *l) {
    const char *where = l->where;
    sr_json j;
    bool found = false, decoder = true;
    sr_status status = SR_OK;
    for (int i = 0; i < 2 && !found && status == SR_OK; i++) {
        decoder = i == 0;
        l->where = decoder ? "tokenizer_config.json" : "added_tokens.json";
        found = find_more_added(l, decoder, &j);
        status = l->err->code;
    }
    if (found) status = walk_added(l, decoder, j);
    if (found && status == SR_OK) {
        l->more = sr_arena_small(&l->t->arena, (size_t)l->n_more + 1, sizeof *l->more);
        status = l->more ? walk_added(l, decoder, j) : sr_load_no_memory(l);
    }
    l->where = where;
    return status == SR_OK ? SR_OK : l->err->code;
}

sr_status sr_count_more_added(sr_loader *l, int32_t *n, int32_t *n_vocab) {
    int32_t pieces = *n_vocab;
    sr_status status = sr_read_more_added(l);
    *n = l->n_more;
    for (int32_t i = 0; i < l->n_more && status == SR_OK; i++)
        if (l->more[i].id >= *n_vocab) *n_vocab = l->more[i].id + 1;
    if (status == SR_OK && *n_vocab - pieces > 65536 + 4 * *n)
        status = sr_fail(l->err, SR_CORRUPT, "%s: found added token id %d, expected ids without large gaps behind %d",
                         l->where, *n_vocab - 1, pieces);
    return status;
}

void sr_append_more_added(sr_loader *l) {
    sr_tokenizer *t = l->t;
    int32_t kept = 0;
    for (int32_t i = 0; i < l->n_more; i++) {
        const sr_added *a = &l->more[i];
        t->added[t->n_added++] = *a;
        t->vocab.piece[a->id] = t->bytes[a->id] = (sr_piece){a->text, a->n};
        t->flags[a->id] =
            (uint8_t)((t->flags[a->id] & ~SR_TOKEN_SPECIAL) | SR_TOKEN_UNSPOKEN | (a->special ? SR_TOKEN_SPECIAL : 0));
    }
    /* one of equal ids: the last */
    for (int32_t i = 0; i < t->n_added; i++)
        if (t->vocab.piece[t->added[i].id].text == t->added[i].text) t->added[kept++] = t->added[i];
    t->n_added = kept;
}

/* What is named so, if the tokenizer has it; then config.json's id. As it was when there is none. */
static void special_id(sr_loader *l, const char *name, const char *id_key, int32_t *out) {
    const sr_tokenizer *t = l->t;
    const char *text;
    size_t n;
    int64_t id;
    int32_t found = sr_special_spelling(l->file, name, &text, &n) ? sr_find_token(t, text, n) : -1;
    if (found >= 0) {
        *out = found;
        return;
    }
    const sr_value *v = sr_file_value(l->file, id_key);
    if (!v) return;
    if (v->kind == SR_KIND_ARRAY) { /* a list: the first */
        sr_array a = sr_array_over(v);
        if (!sr_array_int(&a, &id)) return;
    } else if (!sr_value_int(l->file, id_key, -1, INT32_MAX, &id, NULL)) {
        return;
    }
    if (id >= 0 && id < t->vocab.n) *out = (int32_t)id;
}

/* Ids that end a generation: a number or a list. */
static void end_ids(sr_loader *l, const char *key) {
    const sr_value *v = sr_file_value(l->file, key);
    int64_t id;
    if (!v) return;
    if (v->kind == SR_KIND_ARRAY) {
        sr_array a = sr_array_over(v);
        while (sr_array_int(&a, &id))
            if (id >= 0 && id <= INT32_MAX) sr_tokenizer_add_end(l->t, (int32_t)id);
    } else if (sr_value_int(l->file, key, 0, INT32_MAX, &id, NULL)) {
        sr_tokenizer_add_end(l->t, (int32_t)id);
    }
}

sr_status sr_load_frame(sr_loader *l, bool add_bos, bool add_eos) {
    sr_tokenizer *t = l->t;
    special_id(l, "bos_token", "bos_token_id", &t->bos);
    special_id(l, "eos_token", "eos_token_id", &t->eos);
    if (!l->framed) { /* a post-processor that only trims offsets says nothing about BOS either */
        sr_value_bool(l->file, "tokenizer_config.add_bos_token", &add_bos, NULL);
        sr_value_bool(l->file, "tokenizer_config.add_eos_token", &add_eos, NULL);
        sr_status status = sr_set_frame(t, add_bos, add_eos, l->err);
        if (status != SR_OK) return status;
    }
    sr_mark_ends(t);
    end_ids(l, "eos_token_id");
    end_ids(l, "generation_config.eos_token_id");
    return SR_OK;
}

/* ---------------------------------------------------------------- small things */

bool sr_is_byte_level(const sr_tokenizer *t) {
    for (int i = 0; i < t->pre_tokenizers.n; i++)
        if (t->pre_tokenizers.v[i].kind == SR_STAGE_BYTES) return true;
    return false;
}

int sr_byte_token(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int high = hex_digit(s[3]), low = hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

void sr_find_byte_tokens(sr_tokenizer *t) {
    for (int b = 0; b < 256; b++) {
        static const char hex[] = "0123456789ABCDEF";
        char name[6] = {'<', '0', 'x', hex[b >> 4], hex[b & 15], '>'};
        t->byte_id[b] = sr_vocab_find(&t->vocab, name, 6);
    }
}

uint32_t sr_score_rank(float score) {
    uint32_t u;
    if (isnan(score)) return UINT32_MAX - 1;
    score += 0.0f; /* -0 to 0 */
    memcpy(&u, &score, 4);
    u = u & 0x80000000u ? u : ~u & 0x7FFFFFFFu; /* larger floats become smaller integers */
    return u < UINT32_MAX - 1 ? u : UINT32_MAX - 1;
}

void sr_find_short_ids(sr_tokenizer *t) {
    char s[8];
    for (uint32_t cp = 0; cp < 0x800; cp++) t->short_id[cp] = sr_vocab_find(&t->vocab, s, sr_utf8_put(cp, s));
}

int32_t sr_find_token(const sr_tokenizer *t, const char *text, size_t n) {
    for (int32_t i = 0; i < t->n_added; i++)
        if (t->added[i].n == n && !memcmp(t->added[i].text, text, n)) return t->added[i].id;
    return sr_vocab_find(&t->vocab, text, n);
}

void sr_mark_ends(sr_tokenizer *t) {
    static const char *const ends[] = {
        "<|eot_id|>", "<|im_end|>",    "<|end|>",         "<|return|>",         "<|call|>",   "<|flush|>",
        "<|calls|>",  "<end_of_turn>", "<turn|>",         "<|endoftext|>",      "<|eom_id|>", "<EOT>",
        "[EOT]",      "[EOS]",         "<|end_of_text|>", "<end_of_utterance>", "<eos>",      "</s>"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int32_t id = sr_find_token(t, ends[i], strlen(ends[i]));
        if (id >= 0 && t->flags[id] & SR_TOKEN_SPECIAL) t->flags[id] |= SR_TOKEN_END;
    }
    /* gpt-oss: a message ends with <|end|>, the generation with one of the other two */
    int32_t ret = sr_find_token(t, "<|return|>", 10), call = sr_find_token(t, "<|call|>", 8);
    int32_t end = sr_find_token(t, "<|end|>", 7);
    if (ret >= 0 && call >= 0 && end >= 0) t->flags[end] &= (uint8_t)~SR_TOKEN_END;
    sr_tokenizer_add_end(t, t->eos);
}

sr_status sr_set_frame(sr_tokenizer *t, bool add_bos, bool add_eos, sr_err *err) {
    t->front = sr_arena_small(&t->arena, 1, sizeof *t->front);
    t->back = sr_arena_small(&t->arena, 1, sizeof *t->back);
    if (!t->front || !t->back) return sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
    t->n_front = t->n_back = 0;
    if (add_bos && t->bos >= 0) t->front[t->n_front++] = t->bos;
    if (add_eos && t->eos >= 0) t->back[t->n_back++] = t->eos;
    return SR_OK;
}

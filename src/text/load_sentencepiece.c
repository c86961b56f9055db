/* tokenizer.model: SentencePiece's ModelProto, in protocol buffers' wire format. Fields by the numbers of sentencepiece
 * src/sentencepiece_model.proto at v0.2.0; what is not listed below is skipped. Messages are read to a fixed depth of
 * two, so nesting costs nothing. */
#include "text/load.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>

enum wire { VARINT, EIGHT, BYTES, FOUR = 5 };

typedef struct record {
    uint64_t field, number; /* number: of VARINT and FOUR */
    enum wire wire;
    sr_cursor inside; /* of BYTES */
    size_t at;        /* of its tag, in the enclosing message */
} record;

static uint64_t varint(sr_cursor *c) {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t byte = sr_cursor_u8(c);
        v |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128)) return v;
    }
    c->failed = true;
    return 0;
}

/* The next record; false at the end of the message, and when it is broken (c->failed). */
static bool next(sr_cursor *c, record *r) {
    if (c->failed || c->at == c->end) return false;
    r->at = sr_cursor_offset(c);
    uint64_t tag = varint(c);
    r->field = tag >> 3;
    r->wire = (enum wire)(tag & 7);
    r->number = 0;
    r->inside = sr_cursor_over(NULL, 0);
    if (r->wire == VARINT) {
        r->number = varint(c);
    } else if (r->wire == EIGHT) {
        sr_cursor_u64(c);
    } else if (r->wire == FOUR) {
        r->number = sr_cursor_u32(c);
    } else if (r->wire == BYTES) {
        uint64_t n = varint(c);
        const uint8_t *p = sr_cursor_bytes(c, n);
        if (p) r->inside = sr_cursor_over(p, (size_t)n);
    } else {
        c->failed = true;
    }
    if (!r->field) c->failed = true;
    return !c->failed;
}

typedef struct settings {
    uint64_t type; /* 1 Unigram, 2 BPE, 3 words, 4 characters */
    bool byte_fallback, suffix, prefix, strip, escape;
    int64_t bos, eos;
    const uint8_t *map;
    size_t n_map;
} settings;

static sr_status broken(sr_loader *l, const char *message, const sr_cursor *c, const record *r) {
    return sr_fail(l->err, SR_CORRUPT,
                   "%s: %s: found a record of wire type %d at its byte %zu that is cut off or no protobuf (%zu bytes)",
                   l->where, message, (int)r->wire, r->at, (size_t)(c->end - c->base));
}

static sr_status wrong_wire(sr_loader *l, const char *what, const record *r, enum wire expected) {
    return sr_fail(l->err, SR_CORRUPT, "%s: %s: found wire type %d, expected %d", l->where, what, (int)r->wire,
                   (int)expected);
}

/* A message's fields, for one of the two below. */
typedef struct slot {
    uint64_t field;
    const char *name;
    enum wire wire;
    bool *flag;
    uint64_t *number;
    int64_t *id;
    bool map;
} slot;

static sr_status read_message(sr_loader *l, const char *message, sr_cursor c, const slot *slots, size_t n,
                              settings *s) {
    record r = {.field = 0};
    while (next(&c, &r))
        for (size_t i = 0; i < n; i++) {
            const slot *x = &slots[i];
            if (x->field != r.field) continue;
            if (x->wire != r.wire) return wrong_wire(l, x->name, &r, x->wire);
            if (x->flag) *x->flag = r.number != 0;
            if (x->number) *x->number = r.number;
            if (x->id) *x->id = (int32_t)(uint32_t)r.number; /* int32: negative ones have ten bytes */
            if (!x->map) continue;
            s->map = r.inside.base;
            s->n_map = sr_cursor_left(&r.inside);
        }
    return c.failed ? broken(l, message, &c, &r) : SR_OK;
}

static sr_status read_trainer(sr_loader *l, sr_cursor c, settings *s) {
    const slot slots[] = {
        {.field = 3, .name = "trainer_spec.model_type", .number = &s->type},
        {.field = 24, .name = "trainer_spec.treat_whitespace_as_suffix", .flag = &s->suffix},
        {.field = 35, .name = "trainer_spec.byte_fallback", .flag = &s->byte_fallback},
        {.field = 41, .name = "trainer_spec.bos_id", .id = &s->bos},
        {.field = 42, .name = "trainer_spec.eos_id", .id = &s->eos},
    };
    return read_message(l, "trainer_spec", c, slots, sizeof slots / sizeof *slots, s);
}

static sr_status read_normalizer(sr_loader *l, sr_cursor c, settings *s) {
    const slot slots[] = {
        {.field = 2, .name = "normalizer_spec.precompiled_charsmap", .wire = BYTES, .map = true},
        {.field = 3, .name = "normalizer_spec.add_dummy_prefix", .flag = &s->prefix},
        {.field = 4, .name = "normalizer_spec.remove_extra_whitespaces", .flag = &s->strip},
        {.field = 5, .name = "normalizer_spec.escape_whitespaces", .flag = &s->escape},
    };
    return read_message(l, "normalizer_spec", c, slots, sizeof slots / sizeof *slots, s);
}

typedef struct piece {
    const char *text;
    size_t n;
    float score;
    int64_t type;
} piece;

static sr_status read_piece(sr_loader *l, sr_cursor c, int32_t id, piece *p) {
    record r = {.field = 0};
    *p = (piece){.text = "", .type = SR_PIECE_NORMAL};
    while (next(&c, &r)) {
        static const enum wire expected[] = {0, BYTES, FOUR, VARINT};
        if (r.field > 3) continue;
        if (r.wire != expected[r.field]) return wrong_wire(l, "a piece's text, score or type", &r, expected[r.field]);
        if (r.field == 1) {
            p->text = (const char *)r.inside.base;
            p->n = sr_cursor_left(&r.inside);
        } else if (r.field == 2) {
            uint32_t bits = (uint32_t)r.number;
            memcpy(&p->score, &bits, 4);
        } else {
            p->type = r.number <= SR_PIECE_BYTE ? (int64_t)r.number : 0;
        }
    }
    if (c.failed) return broken(l, "pieces", &c, &r);
    if (!p->n || p->n > INT32_MAX || !sr_utf8_valid(p->text, p->n) || memchr(p->text, 0, p->n))
        return sr_fail(l->err, SR_CORRUPT, "%s: piece %d: found no text in UTF-8 (%zu bytes)", l->where, id, p->n);
    if (p->type < SR_PIECE_NORMAL)
        return sr_fail(l->err, SR_CORRUPT, "%s: piece %d: found an unknown type, expected 1 to 6", l->where, id);
    if (!isfinite(p->score))
        return sr_fail(l->err, SR_CORRUPT, "%s: piece %d: found a score that is not finite", l->where, id);
    return SR_OK;
}

/* What is not a piece, and how many pieces there are, with the bytes of all. */
static sr_status survey(sr_loader *l, settings *s, int32_t *n, uint64_t *bytes) {
    sr_cursor c = sr_cursor_over(l->file->tokenizer.data, l->file->tokenizer.size);
    record r = {.field = 0};
    while (next(&c, &r)) {
        if (r.field < 1 || r.field > 3) continue;
        if (r.wire != BYTES) return wrong_wire(l, "pieces, trainer_spec or normalizer_spec", &r, BYTES);
        sr_status status = SR_OK;
        if (r.field == 1) {
            if (*n == 1 << 24) return sr_fail(l->err, SR_LIMIT, "%s: found more than 2^24 pieces", l->where);
            ++*n;
            *bytes += sr_cursor_left(&r.inside);
        } else {
            status = (r.field == 2 ? read_trainer : read_normalizer)(l, r.inside, s);
        }
        if (status != SR_OK) return status;
    }
    if (c.failed) return broken(l, "the file", &c, &r);
    if (!*n) return sr_load_corrupt(l, "the file", "a SentencePiece model: it has no pieces");
    return SR_OK;
}

static sr_status read_pieces(sr_loader *l, const settings *s, sr_filler *f) {
    sr_tokenizer *t = l->t;
    sr_cursor c = sr_cursor_over(l->file->tokenizer.data, l->file->tokenizer.size);
    record r;
    int32_t id = 0;
    while (next(&c, &r)) {
        piece p;
        if (r.field != 1) continue;
        sr_status status = read_piece(l, r.inside, id, &p);
        if (status != SR_OK) return status;
        if (p.type == SR_PIECE_BYTE && sr_byte_token(p.text, p.n) < 0)
            return sr_fail(l->err, SR_CORRUPT, "%s: piece %d: found \"%.*s\", expected a byte as <0xHH>", l->where, id,
                           (int)(p.n < 60 ? p.n : 60), p.text);
        if (p.type == SR_PIECE_UNKNOWN) {
            if (t->unk >= 0)
                return sr_fail(l->err, SR_CORRUPT, "%s: piece %d: found a second unknown piece beside %d", l->where, id,
                               t->unk);
            t->unk = id;
        }
        sr_fill_piece(f, id, p.text, p.n, p.type, p.score);
        if (p.type == SR_PIECE_UNUSED) t->flags[id] |= SR_TOKEN_UNSPOKEN;
        id++;
    }
    if (t->unk < 0) return sr_load_corrupt(l, "one piece", "of type unknown, as a model has");
    if (s->bos >= 0 && s->bos < id) t->bos = (int32_t)s->bos;
    if (s->eos >= 0 && s->eos < id) t->eos = (int32_t)s->eos;
    if (!t->score) return SR_OK;
    /* unigram_model.cc: user-defined pieces outweigh what else could stand there */
    double max = isnan(f->max) ? 0 : f->max;
    for (int32_t i = 0; i < id; i++)
        if (f->type[i] == SR_PIECE_USER_DEFINED) t->score[i] = (float)(t->vocab.piece[i].n * max - 0.1);
    t->unk_score = (float)((isnan(f->min) ? 0 : f->min) - 10); /* kUnkPenalty */
    t->single_precision = true;
    return SR_OK;
}

static sr_status read_all(sr_loader *l, sr_filler *f) {
    sr_tokenizer *t = l->t;
    settings s = {.type = 1, .prefix = true, .strip = true, .escape = true, .bos = 1, .eos = 2};
    int32_t n = 0, n_more, n_vocab;
    uint64_t bytes = 0;
    sr_status status = survey(l, &s, &n, &bytes);
    if (status != SR_OK) return status;
    if (s.type != 1 && s.type != 2)
        return sr_fail(l->err, SR_UNSUPPORTED,
                       "%s: trainer_spec.model_type: found %llu, expected 1 (Unigram) or 2 (BPE)", l->where,
                       (unsigned long long)s.type);
    t->encode = s.type == 1 ? sr_unigram : sr_spm;
    t->byte_fallback = t->fffd_per_byte = s.byte_fallback;
    n_vocab = n;
    if ((status = sr_count_more_added(l, &n_more, &n_vocab)) != SR_OK) return status;
    if ((status = sr_fill_begin(f, l, n_vocab, bytes)) != SR_OK) return status;
    if ((status = read_pieces(l, &s, f)) != SR_OK) return status;
    if ((status = sr_fill_end(f, l, n_more)) != SR_OK) return status;
    sr_append_more_added(l);
    sr_find_short_ids(t);

    /* the newer of transformers' two behaviours puts a space in front of the text alone, not behind special tokens */
    bool legacy = true;
    sr_value_bool(l->file, "tokenizer_config.legacy", &legacy, NULL);
    sr_value_bool(l->file, "tokenizer_config.add_prefix_space", &s.prefix, NULL);
    sr_stage *stage = sr_stages_add(&t->normalizers, l->err);
    if (!stage) return SR_LIMIT;
    stage->kind = SR_STAGE_SENTENCE;
    stage->scheme = !s.prefix ? SR_PREPEND_NEVER : legacy ? SR_PREPEND_ALWAYS : SR_PREPEND_FIRST;
    stage->strip = s.strip;
    stage->escape = s.escape;
    stage->suffix = s.suffix;
    sr_charsmap *map;
    char where[192];
    snprintf(where, sizeof where, "%s: normalizer_spec.precompiled_charsmap", l->where);
    status = sr_charsmap_create(s.map, s.n_map, where, &t->arena, &map, l->err);
    if (status != SR_OK) return status;
    stage->map = map;
    if (s.prefix || s.strip) {
        t->lead = SR_LEAD_STRIP;
        t->lead_text = " ";
        t->lead_len = 1;
        t->lead_n = s.strip ? INT_MAX : 1;
    }
    if ((status = sr_added_index(t, l->err)) != SR_OK) return status;
    if (t->encode == sr_unigram && (status = sr_pieces_index(t, l->err)) != SR_OK) return status;
    return sr_load_frame(l, s.type == 2, s.type == 1); /* as Llama's and T5's are used */
}

sr_status sr_load_sentencepiece(sr_loader *l) {
    sr_filler f = {.unique = true};
    sr_status status = read_all(l, &f);
    sr_fill_drop(&f);
    return status;
}

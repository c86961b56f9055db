/* Inside of sr_tokenizer. A tokenizer is data: a list of normalizer stages, a list of pre-tokenizer stages, the model
 * that makes ids of a word, ids in front and behind, and for each id the bytes it stands for. load_*.c fill it;
 * tokenizer.c runs it. */
#ifndef SR_TEXT_TOKENIZER_H
#define SR_TEXT_TOKENIZER_H

#include "base/arena.h"
#include "text/charsmap.h"
#include "text/regex.h"
#include "text/text.h"
#include "text/unicode.h"
#include "text/vocab.h"

typedef enum sr_stage_kind {
    /* normalizers */
    SR_STAGE_NORMAL_FORM, /* form */
    SR_STAGE_LOWERCASE,
    SR_STAGE_STRIP, /* left, right */
    SR_STAGE_STRIP_ACCENTS,
    SR_STAGE_REPLACE, /* regex by text */
    SR_STAGE_PREPEND, /* text */
    SR_STAGE_BYTES,   /* bytes to GPT-2's alphabet; also the second half of the pre-tokenizer ByteLevel */
    SR_STAGE_BERT,    /* clean, chinese, accents, lower */
    SR_STAGE_NMT,
    SR_STAGE_CHARSMAP, /* map, grapheme by grapheme */
    SR_STAGE_SENTENCE, /* SentencePiece's: map or NULL, scheme (a space in front), strip, escape, suffix */
    /* pre-tokenizers */
    SR_STAGE_SPLIT,       /* regex, behavior, invert */
    SR_STAGE_CHARS,       /* is, behavior: each character of a class is a match */
    SR_STAGE_THREES,      /* threes: runs of digits, in threes from the right */
    SR_STAGE_SPACE_FIRST, /* a space in front of pieces without one */
    SR_STAGE_METASPACE    /* text (the replacement), scheme */
} sr_stage_kind;

typedef enum sr_behavior {
    SR_SPLIT_REMOVED,
    SR_SPLIT_ISOLATED,
    SR_SPLIT_WITH_PREVIOUS,
    SR_SPLIT_WITH_NEXT,
    SR_SPLIT_CONTIGUOUS
} sr_behavior;

typedef enum sr_prepend { SR_PREPEND_NEVER, SR_PREPEND_FIRST, SR_PREPEND_ALWAYS } sr_prepend;

typedef struct sr_stage {
    sr_stage_kind kind;
    sr_normal_form form;
    sr_behavior behavior;
    sr_prepend scheme;
    bool invert, left, right;
    bool clean, chinese, accents, lower; /* SR_STAGE_BERT */
    bool strip, escape, suffix;          /* SR_STAGE_SENTENCE: extra spaces; as U+2581; the space goes behind */
    sr_regex *regex;                     /* owned */
    const sr_charsmap *map;
    const char *text;
    size_t n;
    bool (*is)(uint32_t cp);
    const struct sr_threes *threes;
} sr_stage;

enum {
    SR_MAX_STAGES = 64,
    SR_MAX_ADDED_LEN = 1024,
    SR_MAX_PIECE_LEN = 512 /* where the text is searched for pieces */
};

typedef struct sr_stages {
    sr_stage v[SR_MAX_STAGES];
    int n;
} sr_stages;

/* An added token: matched in the text before the model sees it. */
typedef struct sr_added {
    int32_t id;
    const char *text;
    uint32_t n;
    bool single_word, left, right, normalized, special;
} sr_added;

#define SR_SPACE "\xE2\x96\x81" /* U+2581, SentencePiece's space */

enum {                       /* flags of an id */
       SR_TOKEN_SPECIAL = 1, /* adds nothing to decoded text */
       SR_TOKEN_BYTE = 2,    /* stands for one byte, written "<0xHH>" */
       SR_TOKEN_END = 4,     /* ends a generation */
       SR_TOKEN_UNSPOKEN = 8 /* no text becomes it, unless it is an added token */
};

/* How the first piece of a decoded text loses what the encoder put in front of it. */
typedef enum sr_lead {
    SR_LEAD_KEEP,
    SR_LEAD_STRIP,     /* up to lead_n times the character lead_text */
    SR_LEAD_METASPACE, /* the first token loses all its replacement characters (lead_text) */
    SR_LEAD_PIECE      /* the first token is written as it is spelled */
} sr_lead;

struct sr_work;

struct sr_tokenizer {
    sr_arena arena;
    sr_status (*encode)(struct sr_work *w, const char *word, size_t n); /* the model: sr_bpe and so on */
    sr_vocab vocab;
    uint8_t *flags; /* [n_vocab] */

    sr_stages normalizers, pre_tokenizers;
    sr_added *added;
    int32_t n_added;
    sr_trie raw, normalized; /* indices of added, by where they are matched: before or after the normalizers */
    bool in_raw[256], in_normalized[256]; /* first bytes of those */

    int32_t unk, byte_id[256];
    bool byte_fallback;
    /* BPE */
    sr_merges merges;
    const char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix; "" when there is none */
    size_t n_prefix, n_suffix;
    bool fuse_unk, ignore_merges;
    bool whole_lines;        /* as ignore_merges, for runs of line feeds */
    int32_t short_id[0x800]; /* ids of the one- and two-byte characters, by code point; -1: none */
    /* SPM and ranks */
    uint32_t *score_rank; /* [n_vocab] smaller is better */
    bool words_apart;     /* no piece holds a space behind another character */
    /* Unigram, WordPiece, longest match */
    sr_trie pieces; /* ids */
    double *score;  /* [n_vocab], Unigram's */
    double unk_score;
    bool single_precision; /* sums of scores are rounded to float, as SentencePiece does */
    uint32_t tail;         /* node behind the prefix, where the pieces begin that continue a word */
    size_t max_word_chars;

    int32_t bos, eos;
    int32_t *front, *back;
    int n_front, n_back;

    sr_piece *bytes;    /* [n_vocab] what an id stands for in mid-text */
    bool fffd_per_byte; /* decoding: byte tokens that do not make a character give one U+FFFD each */
    bool space_between; /* decoding: a space at the end of a token is written when another token follows */
    bool repeats_merge; /* decoding: a token right behind itself adds nothing */
    sr_lead lead;
    const char *lead_text;
    size_t lead_len; /* bytes of lead_text */
    int lead_n;
};

/* A zeroed stage at the end of a list; NULL (and `err`) when the list is full. */
sr_stage *sr_stages_add(sr_stages *s, sr_err *err);
/* Gives a split by a pattern that would look ahead from every digit a stage that does the same in one pass. */
void sr_stage_recognize(sr_stage *stage);
/* Adds an isolated split by a pattern of Oniguruma's syntax. */
sr_status sr_stages_add_regex(sr_stages *s, const char *pattern, sr_err *err);
/* Builds the tries of t->added. */
sr_status sr_added_index(sr_tokenizer *t, sr_err *err);
/* Builds the trie of pieces from the vocabulary and the flags, for the models that search one. */
sr_status sr_pieces_index(sr_tokenizer *t, sr_err *err);

/* ---- running: tokenizer.c drives, stages.c and merge.c do ---- */

typedef struct sr_span {
    uint32_t at, n; /* in sr_work.text */
    int32_t id;     /* an added token, or -1: text */
    bool first;     /* begins where the whole text began */
} sr_span;

typedef struct sr_spans {
    sr_span *v;
    size_t n, cap;
} sr_spans;

typedef struct sr_symbol {
    uint32_t at, n; /* bytes of the word */
    int32_t id, prev, next;
    uint32_t rank; /* of the pair (this, next); UINT32_MAX: none */
    int32_t merged;
} sr_symbol;

typedef struct sr_node { /* of Viterbi's lattice: the best way to a place of the word */
    double score;
    uint32_t from, next; /* where its last piece begins; where the piece behind it ends */
    int32_t id;          /* of the last piece, -1: an unknown character */
} sr_node;

typedef struct sr_work {
    const sr_tokenizer *t;
    sr_err *err;
    sr_buffer text, other; /* current text, and the one being written */
    sr_spans spans, other_spans;
    sr_scan scan;
    sr_symbol *symbol;
    size_t cap_symbols;
    uint64_t *heap;
    size_t n_heap, cap_heap;
    sr_node *node;
    size_t cap_nodes;
    int32_t *ids; /* the caller's */
    size_t cap, n;
} sr_work;

bool sr_spans_add(sr_spans *s, uint32_t at, uint32_t n, int32_t id, bool first);
/* Runs one stage over all text spans of w. */
sr_status sr_stage_run(sr_work *w, const sr_stage *stage);
/* The models: ids of one word, appended through sr_emit. */
sr_status sr_bpe(sr_work *w, const char *word, size_t n);       /* merges by rank */
sr_status sr_spm(sr_work *w, const char *text, size_t n);       /* merges whatever gives the piece of the best score */
sr_status sr_ranks(sr_work *w, const char *word, size_t n);     /* a known word is one token; else as sr_spm */
sr_status sr_unigram(sr_work *w, const char *text, size_t n);   /* the pieces of the largest sum of scores */
sr_status sr_wordpiece(sr_work *w, const char *word, size_t n); /* the longest pieces from the left */
sr_status sr_word(sr_work *w, const char *word, size_t n);      /* whole words */
sr_status sr_longest(sr_work *w, const char *text, size_t n);   /* the longest pieces, of any bytes */
/* First place behind `from` where a space follows another character; n when there is none. */
size_t sr_spm_border(const char *text, size_t n, size_t from);
static inline void sr_emit(sr_work *w, int32_t id) {
    if (w->n < w->cap) w->ids[w->n] = id;
    w->n++;
}

#endif

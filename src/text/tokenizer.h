/* Inside of sr_tokenizer. A tokenizer is data: a list of normalizer stages, a list of pre-tokenizer stages, one of two
 * merging models, ids in front and behind, and for each id the bytes it stands for. load_json.c and load_gguf.c fill
 * it; tokenizer.c runs it. */
#ifndef SR_TEXT_TOKENIZER_H
#define SR_TEXT_TOKENIZER_H

#include "base/arena.h"
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
    /* pre-tokenizers */
    SR_STAGE_SPLIT,       /* regex, behavior, invert */
    SR_STAGE_CHARS,       /* is, behavior: each character of a class is a match */
    SR_STAGE_SPACE_FIRST, /* a space in front of pieces without one */
    SR_STAGE_METASPACE    /* text (the replacement), scheme, split */
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
    bool invert, split, left, right;
    sr_regex *regex; /* owned */
    const char *text;
    size_t n;
    bool (*is)(uint32_t cp);
} sr_stage;

enum { SR_MAX_STAGES = 64, SR_MAX_ADDED_LEN = 1024 };

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

/* Trie over added tokens. Children of a node are a linked list; those of the root also an array by first byte. */
typedef struct sr_trie_node {
    uint8_t byte;
    int32_t child, sibling; /* index or 0 */
    int32_t added;          /* index of the token that ends here, -1: none */
} sr_trie_node;

typedef struct sr_trie {
    sr_trie_node *node;
    int32_t n, cap;
    int32_t root[256];
} sr_trie;

#define SR_SPACE "\xE2\x96\x81" /* U+2581, SentencePiece's space */

typedef enum sr_model_kind { SR_MODEL_BPE, SR_MODEL_SPM } sr_model_kind;

enum {                       /* flags of an id */
       SR_TOKEN_SPECIAL = 1, /* adds nothing to decoded text */
       SR_TOKEN_BYTE = 2,    /* stands for one byte, written "<0xHH>" */
       SR_TOKEN_END = 4      /* ends a generation */
};

/* How the first piece of a decoded text loses what the encoder put in front of it. */
typedef enum sr_lead {
    SR_LEAD_KEEP,
    SR_LEAD_STRIP,    /* up to lead_n times the character lead_text */
    SR_LEAD_METASPACE /* the first token loses all its replacement characters (lead_text) */
} sr_lead;

struct sr_tokenizer {
    sr_arena arena;
    sr_model_kind model;
    sr_vocab vocab;
    uint8_t *flags; /* [n_vocab] */

    sr_stages normalizers, pre_tokenizers;
    sr_added *added;
    int32_t n_added;
    sr_trie raw, normalized; /* added tokens by where they are matched: before or after the normalizers */

    /* BPE */
    sr_merges merges;
    const char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix; "" when there is none */
    size_t n_prefix, n_suffix;
    bool byte_fallback, fuse_unk, ignore_merges;
    int32_t short_id[0x800]; /* ids of the one- and two-byte characters, by code point; -1: none */
    /* SPM */
    uint32_t *score_rank; /* [n_vocab] smaller is better */
    bool space_prefix;
    bool words_apart; /* no piece holds a space behind another character */
    /* both */
    int32_t unk, byte_id[256];

    int32_t bos, eos;
    int32_t *front, *back;
    int n_front, n_back;

    sr_piece *bytes;    /* [n_vocab] what an id stands for in mid-text */
    bool fffd_per_byte; /* decoding: byte tokens that do not make a character give one U+FFFD each */
    sr_lead lead;
    const char *lead_text;
    size_t lead_len; /* bytes of lead_text */
    int lead_n;

    char *chat_template;
};

/* What the loaders share. */
sr_status sr_load_json(sr_tokenizer *t, const sr_file *file, sr_err *err);
sr_status sr_load_gguf(sr_tokenizer *t, const sr_file *file, sr_err *err);
/* A zeroed stage at the end of a list; NULL (and `err`) when the list is full. */
sr_stage *sr_stages_add(sr_stages *s, sr_err *err);
/* Adds an isolated split by a pattern of Oniguruma's syntax. */
sr_status sr_stages_add_regex(sr_stages *s, const char *pattern, sr_err *err);
/* Builds both tries from t->added. */
sr_status sr_added_index(sr_tokenizer *t, sr_err *err);
/* Fills short_id from the vocabulary. */
void sr_tokenizer_finish(sr_tokenizer *t);
/* Value of "<0xHH>", -1 when the text is not exactly that. */
int sr_byte_token(const char *text, size_t n);
/* Id of an added token or else of a piece, -1: neither. */
int32_t sr_find_token(const sr_tokenizer *t, const char *text, size_t n);
/* Marks ids that end a generation by their usual spelling, where they are special. */
void sr_mark_ends(sr_tokenizer *t);
/* Ids of front and back from add_bos and add_eos. */
sr_status sr_set_frame(sr_tokenizer *t, bool add_bos, bool add_eos, sr_err *err);

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
    int32_t *ids; /* the caller's */
    size_t cap, n;
} sr_work;

bool sr_spans_add(sr_spans *s, uint32_t at, uint32_t n, int32_t id, bool first);
/* Runs one stage over all text spans of w. */
sr_status sr_stage_run(sr_work *w, const sr_stage *stage);
/* Ids of one word, appended through sr_emit. */
sr_status sr_bpe(sr_work *w, const char *word, size_t n);
sr_status sr_spm(sr_work *w, const char *text, size_t n);
/* First place behind `from` where a space follows another character; n when there is none. */
size_t sr_spm_border(const char *text, size_t n, size_t from);
static inline void sr_emit(sr_work *w, int32_t id) {
    if (w->n < w->cap) w->ids[w->n] = id;
    w->n++;
}

#endif

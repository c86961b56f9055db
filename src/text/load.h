/* What the loaders of tokenizers share. load_json.c reads tokenizer.json, load_gguf.c the keys of a GGUF file,
 * load_sentencepiece.c SentencePiece's tokenizer.model, load_ranks.c the files of tiktoken and tekken.json,
 * load_vocab.c vocab.json with merges.txt. */
#ifndef SR_TEXT_LOAD_H
#define SR_TEXT_LOAD_H

#include "base/json.h"
#include "text/tokenizer.h"

typedef struct sr_loader {
    sr_tokenizer *t;
    const sr_file *file;
    sr_err *err;       /* never NULL */
    const char *where; /* for messages: the file's name */
    bool framed;       /* what stands in front and behind is known */
    sr_added *more;    /* tokens of files beside the vocabulary's: sr_read_more_added */
    int32_t n_more;
} sr_loader;

sr_status sr_load_json(sr_loader *l);
sr_status sr_load_gguf(sr_loader *l);
sr_status sr_load_sentencepiece(sr_loader *l);
sr_status sr_load_tiktoken(sr_loader *l);
sr_status sr_load_tekken(sr_loader *l);
sr_status sr_load_vocab(sr_loader *l);

sr_status sr_load_no_memory(sr_loader *l);
/* "%s: WHAT is not EXPECTED" */
sr_status sr_load_corrupt(sr_loader *l, const char *what, const char *expected);

/* ---- JSON ---- */

/* Looks for a field of the object that `object` has just entered. `inside` is the reader behind the value (inside it,
 * for an array or object); may be NULL. */
bool sr_json_field(const sr_json *object, const char *name, sr_json_value *v, sr_json *inside);
bool sr_json_flag(const sr_json *object, const char *name, bool absent);
/* A string field into the arena; NULL when there is none (or the reader failed). */
const char *sr_json_text(sr_loader *l, const sr_json *object, const char *name, size_t *n);

/* ---- pieces of a vocabulary with types ---- */

/* GGUF's and SentencePiece's numbers */
enum { SR_PIECE_NORMAL = 1, SR_PIECE_UNKNOWN, SR_PIECE_CONTROL, SR_PIECE_USER_DEFINED, SR_PIECE_UNUSED, SR_PIECE_BYTE };

typedef enum sr_spelling {
    SR_SPELLED_SPACE,   /* U+2581 is a space */
    SR_SPELLED_BYTES,   /* GPT-2's alphabet */
    SR_SPELLED_ESCAPED, /* RWKV: \n, \t, \r, \xHH */
} sr_spelling;

typedef struct sr_filler {
    sr_tokenizer *t;
    sr_spelling spelling;
    bool all_bytes; /* pieces called <0xHH> are bytes, whatever their type */
    bool unique;    /* equal pieces are an error */
    char *blob;
    uint8_t *type;   /* [n] */
    double min, max; /* scores of normal pieces */
} sr_filler;

/* Tables for n ids whose pieces have text_bytes bytes in all. */
sr_status sr_fill_begin(sr_filler *f, sr_loader *l, int32_t n, uint64_t text_bytes);
/* Copies the piece. `score` goes to t->score and t->score_rank where they are. */
void sr_fill_piece(sr_filler *f, int32_t id, const char *text, size_t n, int64_t type, double score);
/* Builds the vocabulary, in which of equal pieces the first id counts, and the added tokens of those pieces that are
 * looked for in a text, with room for n_more. Frees what begin took, which must happen after errors too. */
sr_status sr_fill_end(sr_filler *f, sr_loader *l, int32_t n_more);
void sr_fill_drop(sr_filler *f);

/* ---- merges ---- */

enum { SR_PAIRS = 32 };

/* Merges on their way from text to the table of ids. Nearly all of the time is waiting for memory, so they are looked
 * up in batches, and each batch asks for what it needs before it reads it. Zero it before the first. */
typedef struct sr_pairs {
    bool last_counts, lenient; /* of equal pairs the last, not the first; unknown pieces are counted, not an error */
    sr_buffer text;            /* left and right of each merge of the batch, one behind the other */
    struct {
        size_t at, left, right; /* left and right: bytes */
        uint64_t hash[3];       /* of left, right and both */
    } batch[SR_PAIRS];
    int n;
    uint32_t count;  /* merges so far */
    size_t skipped;  /* of those, with unknown pieces */
    sr_merge *merge; /* found */
    size_t n_merge, cap_merge;
    sr_buffer spelled[2]; /* the caller's, for the two sides of one */
} sr_pairs;

sr_status sr_pairs_add(sr_loader *l, sr_pairs *p, const char *left, size_t n_left, const char *right, size_t n_right);
/* Builds t->merges, unless `status` is a failure, and frees the rest. */
sr_status sr_pairs_end(sr_loader *l, sr_pairs *p, sr_status status);

/* ---- the rest of a model directory ---- */

/* Spelling of the special token called `name` ("bos_token") in special_tokens_map.json, where that counts, or in
 * tokenizer_config.json: a string, or an object's content. */
bool sr_special_spelling(const sr_file *file, const char *name, const char **text, size_t *n);
/* The texts that these files name as special tokens, one after the other; zero it before the first. */
typedef struct sr_named {
    int key, n_lists;
    sr_array list;
} sr_named;
bool sr_load_named(const sr_file *file, sr_named *at, const char **text, size_t *n);
/* Makes a token special and looked for in texts, which t->added has room for. */
void sr_load_special(sr_tokenizer *t, int32_t id, const char *text, size_t n);
/* Whether `word` is one of words with spaces between. */
bool sr_load_is_word(const char *words, const char *word, size_t n);

/* Reads the fields of one added token, whose object was just entered, into *a; its id is not read. */
sr_status sr_load_added(sr_loader *l, const sr_json *object, sr_added *a);
/* Tokens that tokenizer_config.json (added_tokens_decoder), or else added_tokens.json, list: into l->more. */
sr_status sr_read_more_added(sr_loader *l);
/* The same for a vocabulary of *n_vocab ids: *n is their number, and *n_vocab grows to hold them. Then they are
 * appended to t->added, which has room; one whose id is a piece's takes its place. */
sr_status sr_count_more_added(sr_loader *l, int32_t *n, int32_t *n_vocab);
void sr_append_more_added(sr_loader *l);
/* Special ids and what stands around a text, where the vocabulary's file did not say (add_bos, add_eos: where the
 * configuration does not either), and the ids that end a generation. */
sr_status sr_load_frame(sr_loader *l, bool add_bos, bool add_eos);

/* ---- small things ---- */

/* Adds a split by the patterns that GGUF's tokenizer.ggml.pre calls so, and the stage from bytes to the alphabet.
 * *add_bos: whether files with that name begin a text with BOS. Unknown names warn and split as "default". */
sr_status sr_load_split(sr_loader *l, const char *name, size_t n, bool *add_bos);
/* The name of a split that is the tokenizer's own, *n bytes; NULL: there is none. */
const char *sr_split_called(const sr_tokenizer *t, size_t *n);
/* Whether its pieces are spelled in GPT-2's alphabet of bytes. */
bool sr_is_byte_level(const sr_tokenizer *t);
/* Value of "<0xHH>", -1 when the text is not exactly that. */
int sr_byte_token(const char *text, size_t n);
/* Fills byte_id from the pieces called <0xHH>. */
void sr_find_byte_tokens(sr_tokenizer *t);
/* Fills short_id from the vocabulary. */
void sr_find_short_ids(sr_tokenizer *t);
/* Id of an added token or else of a piece, -1: neither. */
int32_t sr_find_token(const sr_tokenizer *t, const char *text, size_t n);
/* Marks ids that end a generation by their usual spelling, where they are special. */
void sr_mark_ends(sr_tokenizer *t);
/* Ids of front and back from bos and eos. */
sr_status sr_set_frame(sr_tokenizer *t, bool add_bos, bool add_eos, sr_err *err);
/* SentencePiece's scores as ranks: equal scores share one, the largest score has rank 0, NaN counts as the smallest. */
uint32_t sr_score_rank(float score);

#endif

/* Containers: bytes on disk to one directory of named parts and named values. This layer knows where every byte of a
 * checkpoint lies and checks each span once; it knows nothing of quantization beyond the size of a stored block.
 *
 * The containers: GGUF (one file, or the numbered pieces of a split one), the LLaMA files before it (GGML, GGMF, GGJT),
 * and the Hugging Face directory (config.json, generation_config.json, tokenizer files, safetensors single or sharded,
 * UQFF, or the zip archives of torch.save).
 * All fill the same sr_file, so
 * nothing above asks which one it was, except where names or conventions differ (sr_file.gguf). */
#ifndef SR_FILE_FILE_H
#define SR_FILE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/cursor.h"
#include "base/err.h"
#include "base/map.h"

enum { SR_MAX_DIMS = 8 };

/* How elements lie on disk: the one table of block sizes in the project (file/stored.c). */
typedef struct sr_stored {
    const char *name;  /* "q4_k", "bf16", "i32": lower case, as printed */
    int16_t gguf_id;   /* ggml type number, -1 when GGUF has none */
    const char *st_id; /* safetensors dtype, NULL when it has none */
    uint16_t block;    /* elements a block */
    uint16_t bytes;    /* bytes a block; 0 for the sub-byte safetensors types (F4, F6) */
    uint8_t bits;      /* of those: bits an element, packed without gaps over the whole tensor; else 0 */
} sr_stored;

const sr_stored *sr_stored_by_gguf(uint32_t id);            /* NULL: unknown or removed number */
const sr_stored *sr_stored_by_st(const char *id, size_t n); /* NULL: unknown dtype */
const sr_stored *sr_stored_by_name(const char *name);       /* NULL: no such type */
/* Bytes that n elements take. False: no whole number of blocks (bytes), or more than an int64_t holds. */
bool sr_stored_bytes(const sr_stored *type, int64_t n, int64_t *bytes);

/* Copies whole blocks from a file of the other endianness: every number of more than a byte, where its block has one,
 * changes the order of its bytes. False, with nothing written: that order is defined by no program. */
bool sr_stored_swap(const sr_stored *type, const uint8_t *from, int64_t bytes, uint8_t *to);

/* One tensor on disk. shape is in torch order (outermost first, K last). All memory is borrowed from the sr_file. */
typedef struct sr_part {
    const char *name;
    const sr_stored *type;
    int n_dims;
    int64_t shape[SR_MAX_DIMS];
    int64_t n_elements;
    const uint8_t *data; /* `bytes` bytes inside a read-only map, at any alignment; in the arena where bytes were
                          * swapped, and for a PyTorch file's values that are no tensors (numbers, texts) */
    int64_t bytes;
    uint16_t shard; /* index into sr_file.shard */
} sr_part;

typedef enum sr_kind {
    SR_KIND_U64 = 1, /* every unsigned integer type, and JSON integers >= 0 */
    SR_KIND_I64,     /* every signed integer type, and negative JSON integers */
    SR_KIND_F64,     /* also JSON integers past 63 bits, such as 10^30 written out */
    SR_KIND_BOOL,
    SR_KIND_STRING,
    SR_KIND_ARRAY
} sr_kind;

/* A metadata value: a GGUF key-value, or a scalar or flat array of config.json. JSON keys are flattened with dots
 * ("rope_scaling.factor"); keys of generation_config.json, tokenizer_config.json, special_tokens_map.json (where it
 * counts: hf.c), processor_config.json and chat_template.json get the prefixes "generation_config.",
 * "tokenizer_config.", "special_tokens_map.", "processor_config." and "chat_template_json.", those of a safetensors
 * header "__metadata__.". JSON numbers that are not finite become NaN. JSON null, arrays of mixed kinds or of objects,
 * and tokenizer_config.json's added_tokens_decoder (it is for the tokenizer) are left out. chat_template_jinja is the
 * text of chat_template.jinja, chat_template_jinja.tool_use that of additional_chat_templates/tool_use.jinja; of a list
 * of named templates a key
 * ...chat_template is the one called "default", the others are ...chat_template.<name>.
 */
typedef struct sr_value {
    const char *key; /* zero-terminated, without embedded zeros */
    sr_kind kind;
    uint8_t stored; /* GGUF value type number (0..12), or 255 when it came from JSON; for arrays that of the elements */
    union {
        uint64_t u;
        int64_t i;
        double f;
        bool b;
        struct {
            const char *text; /* not zero-terminated for GGUF; n bytes, valid UTF-8 */
            uint64_t n;
        } s;
        struct {
            const uint8_t *data; /* elements as GGUF stores them: numbers packed little-endian, strings u64 length +
                                  * bytes. From JSON: u64, i64 or f64 of 8 bytes, bool of 1 */
            uint64_t n;          /* elements */
            uint64_t bytes;      /* of data; checked: walking n elements stays inside */
            sr_kind kind;        /* of each element */
        } a;
    } v;
} sr_value;

typedef struct sr_shard {
    const char *path;
    sr_map map;
    bool borrowed; /* the bytes belong to the caller of sr_file_from_memory */
    bool swapped;  /* a big-endian file: its parts are copies in the arena */
} sr_shard;

typedef struct sr_file {
    bool gguf;             /* GGUF conventions (names, permuted heads, norms with 1 added) apply; else Hugging Face's */
    const char *path;      /* for messages */
    const char *container; /* "GGUF v3", "safetensors": for people */
    sr_shard *shard;
    int n_shards;
    sr_part *part; /* in file order */
    int n_parts;
    sr_value *value;
    int n_values;
    sr_map tokenizer;                      /* the raw file; empty when the directory has none */
    const char *tokenizer_name;            /* of that file, without its directory; NULL when there is none */
    sr_map merges;                         /* raw: merges.txt, where that file is vocab.json */
    sr_map tokenizer_config, added_tokens; /* raw, where there is a tokenizer: tokens that its file may not have */
    bool added_decoder;                    /* tokenizer_config.json has an added_tokens_decoder */
    sr_arena arena;
    struct sr_names {
        uint32_t *slot, mask;
    } part_names, value_names; /* private to file/: inner.h */
} sr_file;

typedef struct sr_file_options {
    const char *format; /* "gguf", "ggml", "plain" or NULL: by content */
    int gqa;            /* GGML: heads a key-value head that the file must have, 0: as the shape of wk says */
    bool no_weights;    /* a directory's weights are not looked for (tokenizer, config) */
    int threads;        /* for reading cold files ahead; 0 = do not */
} sr_file_options;

/* Opens a .gguf file (any piece of a split one), a GGML file, a .safetensors, .uqff or PyTorch file, or a directory. On
 * failure nothing is left open. Errors: SR_IO, SR_CORRUPT (bytes contradict the format), SR_UNSUPPORTED (version,
 * removed type), SR_LIMIT. */
sr_status sr_file_open(const char *path, const sr_file_options *options, sr_file **file, sr_err *err);
void sr_file_close(sr_file *file); /* NULL is allowed */
/* A JSON file alone, under the keys that tokenizer_config.json has: a directory without tensors. */
sr_status sr_file_open_config(const char *path, sr_file **file, sr_err *err);
/* The text of a config.json alone: a directory without tensors. `name` is for messages. */
sr_status sr_file_from_config(const char *text, size_t n, const char *name, sr_file **file, sr_err *err);
/* The same for the bytes of one GGUF, GGML, safetensors, PyTorch or UQFF (by its name) file in memory, borrowed until
 * sr_file_close. `name` is for messages. */
sr_status sr_file_from_memory(const void *data, size_t n, const char *name, sr_file **file, sr_err *err);

/* A path in a message: its last 64 bytes. */
const char *sr_show_path(const char *path);

const sr_part *sr_file_part(const sr_file *file, const char *name);  /* NULL when absent */
const sr_value *sr_file_value(const sr_file *file, const char *key); /* NULL when absent */

/* Typed reads of a value. Absent key: returns false with err untouched. Present with a kind that cannot be read so
 * (sign, range, fraction): records SR_CORRUPT naming file, key, found and expected, and returns false: check err->code
 * once after a group of reads. A bool reads as an integer 0/1 nowhere; a float without a fraction reads as an integer.
 */
bool sr_value_int(const sr_file *file, const char *key, int64_t lo, int64_t hi, int64_t *out, sr_err *err);
bool sr_value_float(const sr_file *file, const char *key, double *out, sr_err *err); /* integers too; finite only */
bool sr_value_bool(const sr_file *file, const char *key, bool *out, sr_err *err);
bool sr_value_string(const sr_file *file, const char *key, const char **text, size_t *n, sr_err *err);

/* ---- UQFF: how a layer is stored ---- */

enum { SR_UQFF_MAJOR = 1, SR_UQFF_MINOR = 2 };
/* The numbers in the file. */
enum sr_uqff_tag {
    SR_UQFF_GGUF,
    SR_UQFF_UNQUANT,
    SR_UQFF_HQQ,
    SR_UQFF_FP8,
    SR_UQFF_AFQ,
    SR_UQFF_F8Q8,
    SR_UQFF_MXFP4,
    SR_UQFF_TAGS
};
typedef struct sr_uqff_entry {
    const char *suffix, *type; /* of "<module>.weight.<suffix>"; stored types, or NULL: any */
    bool one;                  /* a single number */
    const char *to;            /* what the format's own files call it; NULL: nothing there */
} sr_uqff_entry;
/* What such a layer has beside its weight and format, for i = 0, 1, ...; NULL: no more. */
const sr_uqff_entry *sr_uqff_entry_at(enum sr_uqff_tag tag, int i);
/* What the format's own files call the weight. */
const char *sr_uqff_weight(enum sr_uqff_tag tag);

/* ---- writing: what a file will hold, before any of its bytes are there ---- */

typedef struct sr_content {
    bool gguf;           /* else safetensors */
    const sr_part *part; /* [n_parts]: name, type, shape and bytes count */
    int n_parts;
    const sr_value *value; /* [n_values] of GGUF's metadata, with GGUF's type numbers; for safetensors texts, which
                              become its __metadata__ */
    int n_values;
    /* Filled by sr_content_lay: what stands in front of the data, where each part begins, and the size of the file.
     * Between parts are zeros. Parts whose elements are larger come first in safetensors files, so that each is
     * aligned. */
    uint8_t *head; /* [n_head], of malloc; sr_content_free */
    size_t n_head;
    int64_t *offset, size;
} sr_content;
/* SR_INVALID: a part or value that the container cannot hold. */
sr_status sr_content_lay(sr_content *c, sr_err *err);
void sr_content_free(sr_content *c);

/* Walks an array value: each call reads one element; false at the end, and for good once an element is not of that kind
 * (signed and unsigned read as each other where the number fits; integers read as floats). A string is any bytes,
 * borrowed from the file. */
typedef struct sr_array {
    const sr_value *value;
    sr_cursor cursor;
    uint64_t index;
} sr_array;
sr_array sr_array_over(const sr_value *v); /* v may be NULL or no array: then it is empty */
bool sr_array_string(sr_array *a, const char **text, size_t *n);
bool sr_array_int(sr_array *a, int64_t *out);
bool sr_array_float(sr_array *a, double *out); /* may be infinite or NaN */
bool sr_array_bool(sr_array *a, bool *out);

#endif

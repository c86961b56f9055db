/* Containers: bytes on disk to one directory of named parts and named values. This layer knows where every byte of a
 * checkpoint lies and checks each span once; it knows nothing of quantization beyond the size of a stored block.
 *
 * Two containers are read: GGUF (one file, or the numbered pieces of a split one) and the Hugging Face directory
 * (config.json, generation_config.json, tokenizer files, safetensors single or sharded). Both fill the same sr_file, so
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
    uint16_t bytes;    /* bytes a block; 0 for sub-byte types whose size is block * bits / 8 with bits below */
    uint8_t bits;      /* only for sub-byte safetensors types (F4, F6): bits an element, else 0 */
} sr_stored;

const sr_stored *sr_stored_by_gguf(uint32_t id);            /* NULL: unknown or removed number */
const sr_stored *sr_stored_by_st(const char *id, size_t n); /* NULL: unknown dtype */
const sr_stored *sr_stored_by_name(const char *name);       /* NULL: no such type */

/* One tensor on disk. shape is in torch order (outermost first, K last). All memory is borrowed from the sr_file. */
typedef struct sr_part {
    const char *name;
    const sr_stored *type;
    int n_dims;
    int64_t shape[SR_MAX_DIMS];
    int64_t n_elements;
    const uint8_t *data; /* `bytes` bytes inside a read-only map, at any alignment */
    int64_t bytes;
    uint16_t shard; /* index into sr_file.shard */
} sr_part;

typedef enum sr_kind {
    SR_KIND_U64 = 1, /* every unsigned integer type and bool-free JSON integers >= 0 */
    SR_KIND_I64,     /* negative or signed integers */
    SR_KIND_F64,
    SR_KIND_BOOL,
    SR_KIND_STRING,
    SR_KIND_ARRAY
} sr_kind;

/* A metadata value: a GGUF key-value, or a scalar or flat array of config.json. JSON keys are flattened with dots
 * ("rope_scaling.factor"); keys of generation_config.json and tokenizer_config.json get the prefixes
 * "generation_config." and "tokenizer_config.". JSON null and arrays of objects are left out of the directory. */
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
            const uint8_t
                *data;      /* elements as GGUF stores them: numbers packed little-endian, strings u64 length + bytes */
            uint64_t n;     /* elements */
            uint64_t bytes; /* of data; checked: walking n elements stays inside */
            sr_kind kind;   /* of each element */
        } a;
    } v;
} sr_value;

typedef struct sr_shard {
    const char *path;
    sr_map map;
} sr_shard;

typedef struct sr_file {
    bool gguf;             /* GGUF conventions (names, permuted heads, norms with 1 added) apply; else Hugging Face's */
    const char *path;      /* as given */
    const char *container; /* "GGUF v3", "safetensors": for people */
    sr_shard *shard;
    int n_shards;
    sr_part *part; /* in file order */
    int n_parts;
    sr_value *value;
    int n_values;
    sr_map tokenizer_json; /* the raw file; empty when the directory has none */
    sr_arena arena;
    uint32_t *part_hash, *value_hash; /* open addressing over names; private to file/ */
    uint32_t part_mask, value_mask;
} sr_file;

typedef struct sr_file_options {
    const char *format; /* "gguf", "plain" or NULL: by content */
    bool no_weights;    /* a directory without weights is fine (tokenizer, config) */
    int threads;        /* for reading cold files ahead; 0 = do not */
} sr_file_options;

/* Opens a .gguf file (any piece of a split one), a .safetensors file, or a directory. On failure nothing is left open.
 * Errors: SR_IO, SR_CORRUPT (bytes contradict the format), SR_UNSUPPORTED (version, removed type), SR_LIMIT. */
sr_status sr_file_open(const char *path, const sr_file_options *options, sr_file **file, sr_err *err);
void sr_file_close(sr_file *file); /* NULL is allowed */

const sr_part *sr_file_part(const sr_file *file, const char *name);  /* NULL when absent */
const sr_value *sr_file_value(const sr_file *file, const char *key); /* NULL when absent */

/* Typed reads of a value. Absent key: returns false with err untouched. Present with a kind that cannot be read so
 * (sign, range, fraction): records SR_CORRUPT naming file, key, found and expected, and returns false: check err->code
 * once after a group of reads. A bool reads as an integer 0/1 nowhere. */
bool sr_value_int(const sr_file *file, const char *key, int64_t lo, int64_t hi, int64_t *out, sr_err *err);
bool sr_value_float(const sr_file *file, const char *key, double *out, sr_err *err); /* integers too; finite only */
bool sr_value_bool(const sr_file *file, const char *key, bool *out, sr_err *err);
bool sr_value_string(const sr_file *file, const char *key, const char **text, size_t *n, sr_err *err);

/* Walks an array value. Start with *at = 0 offset; each call reads one element; false at the end or on a kind mismatch.
 */
typedef struct sr_array {
    const sr_value *value;
    sr_cursor cursor;
    uint64_t index;
} sr_array;
sr_array sr_array_over(const sr_value *v); /* v may be NULL or no array: then it is empty */
bool sr_array_string(sr_array *a, const char **text, size_t *n);
bool sr_array_int(sr_array *a, int64_t *out);
bool sr_array_float(sr_array *a, double *out);

/* ---- private to file/: what a container's reader uses to fill the directory ---- */
sr_status sr_gguf_open(sr_file *file, const char *path, sr_err *err);
sr_status sr_hf_open(sr_file *file, const char *path, bool no_weights, sr_err *err);
/* Reads one safetensors file, already mapped as file->shard[shard], appending its parts. */
sr_status sr_safetensors_parse(sr_file *file, int shard, sr_err *err);
/* Growable directory while parsing: returns a zeroed slot or NULL when out of memory. */
sr_part *sr_file_add_part(sr_file *file, int *cap);
sr_value *sr_file_add_value(sr_file *file, int *cap);
/* Builds both hash tables; a duplicate name is SR_CORRUPT naming it. */
sr_status sr_file_index(sr_file *file, sr_err *err);

#endif

/* Private to file/: what the readers of containers share. Here `err` is never NULL. */
#ifndef SR_FILE_INNER_H
#define SR_FILE_INNER_H

#include "base/json.h"
#include "base/path.h"
#include "file/file.h"

/* Limits. They are far above any model seen (largest: 210,000 tensors, 160 shards, 20 MB of GGUF metadata) and keep the
 * directory small beside the file that it describes. */
enum {
    SR_NAME_CAP = 256, /* bytes of a tensor name or GGUF key; ggml's own limit is 63 */
    SR_MAX_PARTS = 1 << 20,
    SR_MAX_VALUES = 1 << 18,
    SR_MAX_SHARDS = 4096,
    SR_GGUF_METADATA_CAP = 256 << 20,
    SR_ST_HEADER_CAP = 100 * 1000 * 1000, /* the reference implementation's */
    SR_CONFIG_CAP = 16 << 20,
    SR_INDEX_CAP = 64 << 20,
    SR_PICKLE_CAP = 64 << 20 /* 20 numbers a matrix in HQQ's: 1.5 KB */
};

/* ---- table.c: the directory while it is being filled ---- */

/* Appends a zeroed slot; NULL when full or out of memory, and err says which. */
sr_part *sr_file_add_part(sr_file *file, sr_err *err);
sr_value *sr_file_add_value(sr_file *file, sr_err *err);
/* Maps `path` (copied) as the next shard, file->shard[file->n_shards - 1]. */
sr_status sr_file_add_shard(sr_file *file, const char *path, sr_err *err);
/* Builds both tables of names. A tensor that is there twice is SR_CORRUPT and names the one or two files. */
sr_status sr_file_index(sr_file *file, sr_err *err);
/* Sorts out spans that are not in order: SR_CORRUPT when two tensors of this shard, among the parts from `first` on,
 * share a byte. With `dense`, also when there are holes, or bytes of [data, end) that belong to none. */
sr_status sr_file_check_spans(const sr_file *file, int first, const uint8_t *data, const uint8_t *end, bool dense,
                              sr_err *err);

/* ---- names.c: tables of unique names ---- */

/* Items are n structs of `stride` bytes whose first member is their name. SR_CORRUPT: items dup[0] < dup[1] have the
 * same name (err is left to the caller). SR_LIMIT: a file made so that its names collide. */
sr_status sr_names_build(struct sr_names *t, const void *items, size_t stride, int n, int dup[2]);
/* Index of the item, -1 when there is none. */
int sr_names_find(const struct sr_names *t, const void *items, size_t stride, const char *name);
void sr_names_free(struct sr_names *t);
uint32_t sr_names_hash(const char *name); /* for the test that makes names collide */

/* Bytes from a file, made fit for a message: cut at 64 bytes, and '?' for what is not UTF-8. Use inside one expression:
 * sr_show(name, n).text. */
typedef struct sr_shown {
    char text[72];
} sr_shown;
sr_shown sr_show(const char *text, size_t n);
sr_shown sr_show_name(const char *name); /* zero-terminated */
/* a * b for numbers >= 0; false when it does not fit. */
static inline bool sr_times(int64_t a, int64_t b, int64_t *out) {
    if (b != 0 && a > INT64_MAX / b) return false;
    *out = a * b;
    return true;
}

/* prefix-00002-of-00005.suffix: length of the prefix, 0 < no <= count. False when the name has another form. */
bool sr_split_name(const char *path, const char *suffix, size_t *prefix, int *no, int *count);
/* Path of another piece, in the arena; NULL when out of memory. */
char *sr_split_path(sr_arena *a, const char *path, size_t prefix, int no, int count, const char *suffix);

/* ---- zip.c: an archive's directory ---- */

typedef struct sr_zip_entry {
    const char *name;    /* "archive/data/0": relative, UTF-8, without ".." */
    const uint8_t *data; /* stored as it is, inside the map */
    int64_t bytes;
} sr_zip_entry;
typedef struct sr_zip {
    sr_zip_entry *at; /* in the order of the directory */
    int n;
    struct sr_names names;
} sr_zip;
/* Names go to `arena`; sr_names_free(&zip->names) also after a failure. Errors: SR_CORRUPT (cut off, contradicting
 * itself, overlapping), SR_UNSUPPORTED (compressed), SR_LIMIT, SR_NOMEM. */
sr_status sr_zip_read(const sr_map *map, const char *path, sr_arena *arena, sr_zip *zip, sr_err *err);
const sr_zip_entry *sr_zip_find(const sr_zip *zip, const char *name); /* NULL when absent */

/* ---- the readers ---- */

/* Fills the directory of a GGUF file, with all pieces where it is split. */
sr_status sr_gguf_open(sr_file *file, const char *path, sr_err *err);
/* Parses file->shard[0], which must not be split. */
sr_status sr_gguf_parse_alone(sr_file *file, sr_err *err);
/* Fills the directory of a LLaMA file from before GGUF, with all pieces where there are several. gqa: heads a key-value
 * head that the file must have, 0: whatever it has. */
sr_status sr_ggml_open(sr_file *file, const char *path, int gqa, sr_err *err);
/* The same for file->shard[0], which must be whole, without building the tables of names. */
sr_status sr_ggml_parse_alone(sr_file *file, sr_err *err);
/* Appends the parts of file->shard[shard]. */
sr_status sr_safetensors_parse(sr_file *file, int shard, sr_err *err);
/* By the first bytes: a zip archive, or what torch.save wrote before 1.6 (which sr_pickle_parse refuses). */
bool sr_pickle_is(const uint8_t *data, size_t n);
/* Appends the tensors of file->shard[shard], an archive that torch.save wrote, under dotted names. Nothing in it is
 * executed. */
sr_status sr_pickle_parse(sr_file *file, int shard, sr_err *err);
/* Opens the UQFF files of a directory with their residual.safetensors; want: name of one of them, or NULL for the only
 * ones there. *found is false when there are none. */
sr_status sr_uqff_open(sr_file *file, const char *dir, const char *want, bool *found, sr_err *err);
/* The same for file->shard[0] alone, without building the tables of names. */
sr_status sr_uqff_parse_alone(sr_file *file, sr_err *err);
/* uqff0.c: the parts from `first` on, one or more, are all layers of a UQFF 0.x; makes entries of 1.x of them, named by
 * the order of the model in config.json; alone: by their numbers. */
sr_status sr_uqff0_split(sr_file *file, int first, bool alone, sr_err *err);
/* A model directory, or a lone safetensors file with whatever config files lie beside it. */
sr_status sr_hf_open(sr_file *file, const char *path, bool no_weights, sr_err *err);
/* Appends the values of a JSON object, their keys behind `prefix`. */
sr_status sr_config_flatten(sr_file *file, const char *prefix, const char *text, size_t n, const char *where,
                            sr_err *err);

/* Name of a removed or foreign ggml type number, for the message; NULL for one that nobody is known to use. */
const char *sr_stored_not_read(uint32_t gguf_id);

#endif

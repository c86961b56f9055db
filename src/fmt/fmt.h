/* Formats: how the numbers of one weight matrix are stored, and how to get them back.
 *
 * A format is one const row of the table in fmt/table.c. The row's address is its identity: there is no format enum, so
 * no switch over formats can exist. Three functions (claim, layout, decode) make a format run everywhere, slowly and
 * correctly; `unpack` lets it share the int8 tile; the rest makes it writable and fast.
 *
 * Convention everywhere: y[T][N] = x[T][K] * w[N][K]^T. A row is one output feature, K is contiguous.
 *
 * The tile. All generic code multiplies tiles, never formats: SR_MR weight rows by SR_KC columns in one of three kinds,
 *     SR_TILE_I8    w = scale * code - min, code int8; an f32 scale (and min) a group of 16, 32, 64, 128 or 256
 *     SR_TILE_BF16  w = value, bfloat16
 *     SR_TILE_F32   w = value
 */
#ifndef SR_FMT_FMT_H
#define SR_FMT_FMT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "file/file.h"

enum {
    SR_KC = 256,        /* columns of a panel, and of a block of quantized activations */
    SR_MR = 16,         /* weight rows of a panel */
    SR_MAX_GROUPS = 16, /* groups in SR_KC columns: the smallest group has 16 */
    SR_MAX_PLANES = 8,
    SR_MOST_PARTS = 16,
};

typedef struct sr_format sr_format;
typedef struct sr_weight sr_weight;

typedef enum sr_tile_kind { SR_TILE_I8, SR_TILE_BF16, SR_TILE_F32 } sr_tile_kind;

/* What a checkpoint's configuration says about one quantized matrix (sr_qconfig_resolve). All zero for GGUF and for
 * plain checkpoints, whose tensors describe themselves. A row carries one as example and default: what it is written
 * with. */
typedef struct sr_qspec {
    const char *method; /* quant_method: "gptq", "awq", "fp8", "mlx", ...; NULL when there is none */
    const char *layout; /* the method's own variant: gptq "gptq_v2", awq "gemv", mlx "mxfp4", "pack-quantized", ...; or
                           NULL */
    const char *writer; /* the tool that wrote it, where the bits depend on that; or NULL */
    bool skip;          /* listed among the modules that were not converted. Informs: tensors decide */
    bool sym;           /* no zero points count */
    bool act_order;
    bool static_groups; /* columns were rounded in an order, and belong to their groups as ever: how, not what */
    bool nested;        /* scales are quantized too: bitsandbytes' double quantization. Only written weights ask */
    uint8_t bits;       /* 0: not said */
    uint8_t axis;       /* of HQQ's groups */
    int32_t group;      /* columns a scale as stored; -1: the whole row; 0: not said */
    int32_t group_n;    /* rows a scale (blocks of FP8); 0 and 1: one */
    const char *floats; /* stored type of the scales of a weight that is written, where its format has several ("f16");
                           NULL: the format's first */
} sr_qspec;

/* A checkpoint's quantization config, its rules for single modules included. Allocated in the arena it was read into.
 */
typedef struct sr_qconfig sr_qconfig;
/* *out is NULL when the checkpoint has none. SR_CORRUPT, SR_UNSUPPORTED (method) name file and key. */
sr_status sr_qconfig_read(const sr_file *file, sr_arena *arena, sr_qconfig **out, sr_err *err);
/* What it says about the module `name` ("model.layers.0.self_attn.q_proj"). config may be NULL. Not thread-safe: the
 * work on all of its rules is bounded together (SR_LIMIT). */
sr_status sr_qconfig_resolve(const sr_qconfig *config, const char *name, sr_qspec *spec, sr_err *err);

/* A module that is of another format than the others, or grouped otherwise. */
typedef struct sr_qmodule {
    const char *name;
    const sr_format *fmt;
    sr_qspec spec;
} sr_qmodule;
/* The other way: the object "quantization_config" of config.json that the loaders of this format want (for mlx, also
 * called "quantization"). spec NULL: the row's; skip: modules left as they are ("lm_head"); own: modules that have
 * their own type. JSON text in the arena. SR_UNSUPPORTED: no config describes this format, or several of its method. */
sr_status sr_qconfig_write(const sr_format *fmt, const sr_qspec *spec, const char *const *skip, int n_skip,
                           const sr_qmodule *own, int n_own, sr_arena *arena, const char **text, sr_err *err);
/* Whether the config of this format's method says a type module by module. */
bool sr_qconfig_mixes(const sr_format *fmt);

/* The stored tensors that share one name: "blk.0.attn_q" has the part "weight"; other families have several. */
typedef struct sr_parts {
    const char *name;
    const sr_file *file;
    int n;
    struct {
        const char *suffix; /* "weight" (or nothing), "scales", ...; one that starts with '_' follows the name without
                               a dot */
        const sr_part *part;
    } item[SR_MOST_PARTS];
} sr_parts;
const sr_part *sr_parts_get(const sr_parts *parts, const char *suffix); /* NULL when absent; parts may be NULL */

/* N and K as a part of two integers, i64 or i32, holds them: "weight_shape", or several names, "shape|weight.shape". */
bool sr_parts_dims(const sr_parts *parts, const char *suffix, int64_t *N, int64_t *K);

/* What the planes of an N x K weight must look like: checked when reading, allocated when writing. */
typedef struct sr_planes {
    int n;
    struct {
        const char *suffix; /* or several, "weight_scale|weight_scale_inv": the first that is there */
        const char *stored; /* stored types (file/stored.c) that it may have, "f16|bf16|f32"; the first is written */
        bool optional;      /* a file may lack it: the plane's data is NULL. Not created, but for the next two */
        bool created;       /* though optional */
        bool any_shape;     /* shape is what a created weight gets; a file's is left to adopt */
        bool scalar;        /* of one element: files of the format's own tools give it no dimension */
        int n_dims;         /* 0: not compared with the file; adopt looks at it */
        int64_t shape[4];   /* dimensions of 1 do not count, and a file may have the first one split in several */
    } plane[SR_MAX_PLANES];
} sr_planes;
static inline bool sr_plane_created(const sr_planes *planes, int i) {
    return !planes->plane[i].optional || planes->plane[i].created || planes->plane[i].any_shape;
}
/* The type that a plane is written with; NULL: none of that name. spec may be NULL. */
const sr_stored *sr_plane_stored(const sr_planes *planes, int i, const sr_qspec *spec);
/* The plane that a part of this suffix may be; -1: none. */
int sr_planes_find(const sr_planes *planes, const char *suffix);
/* Bytes of a plane in that type; -1: no type, no whole number of blocks, or more than 63 bits hold. */
int64_t sr_plane_bytes(const sr_planes *planes, int i, const sr_stored *type);
/* Appends a plane of two dimensions (cols 0: of one). */
void sr_planes_add(sr_planes *planes, const char *suffix, const char *stored, bool optional, int64_t rows,
                   int64_t cols);

/* One weight matrix, bound to its bytes. Planes point into the checkpoint's map or into the model's arena; nothing is
 * owned here. Immutable once placed. */
struct sr_weight {
    const sr_format *fmt;
    int64_t N, K;
    struct {
        uint8_t *data;  /* written only while encoding, and then only in memory that the model owns */
        int64_t stride; /* bytes from one row to the next */
        int64_t bytes;
        const sr_stored *type;
    } plane[SR_MAX_PLANES];     /* in the order of layout */
    sr_qspec spec;              /* resolved: group is at least 1 where the checkpoint says it */
    uint8_t tile;               /* sr_tile_kind; the row's, or SR_TILE_F32 where this weight's groups fit no tile */
    int32_t group;              /* columns a scale as unpack gives them: 16, 32, 64, 128 or 256; divides spec.group */
    const int32_t *perm;        /* [K] or NULL: stored column k (decode, unpack) multiplies x[perm[k]] */
    const void *aux;            /* what adopt derived, in the model's arena */
    const float *bias;          /* [N], or NULL */
    const struct sr_fast *fast; /* set by the CPU device's place */
    const struct sr_encoder *encoder; /* while it is written: an instruction set's own, or NULL */
    void *placed;                     /* another device's own data */
};

/* The largest magnitudes of a whole matrix, over tiles of rows x cols; the last ones are smaller. */
typedef struct sr_peaks {
    int64_t rows, cols;
    int64_t n_down, n_across; /* tiles */
    const float *most;        /* [n_down][n_across] */
} sr_peaks;

/* A small tensor that a checkpoint has beside the planes of a weight: its shape, what HQQ says of the packing. */
typedef struct sr_extra {
    const char *suffix, *stored;
    int n_dims; /* 0: a scalar */
    int64_t shape[2];
    int bytes;
    uint8_t data[32];
} sr_extra;

/* What fit looks at: columns k0 .. k0+n of a row, one unit of it (the last may be shorter). */
typedef struct sr_fit {
    const sr_weight *w; /* created; whatever begin stored is there */
    int64_t row, k0;
    int n;
    const float *x;          /* [n] the weights */
    const float *importance; /* [n] or NULL */
    float row_ms;            /* mean square of the whole row */
} sr_fit;

/* The stored columns of one unit as a solver sees them: the scales that can be stored, already rounded, and the codes
 * that exist. w = scale[g] * code - min[g], lo <= code <= hi; formats whose codes are not evenly spaced know better. */
typedef struct sr_grid {
    int n, group;
    int lo, hi;
    float scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS];
    uint16_t d, dmin; /* the block's stored f16 (or f32 in d32) factors */
    float d32;
    uint8_t sc[SR_MAX_GROUPS], mn[SR_MAX_GROUPS]; /* stored group scales and mins (zero points), where there are some */
    /* Lattices: how snap weighs the errors of one vector. Borrowed from sr_fit for as long as the unit is worked on. */
    const float *importance; /* [n] or NULL */
    float ms;                /* mean square of the unit */
} sr_grid;

/* The slots of sr_format that write, made for an instruction set: the same results, faster. NULL: the row's own. */
typedef struct sr_encoder {
    const char *format; /* name of its row; NULL ends a list */
    void (*fit)(const sr_fit *in, sr_grid *grid);
    void (*snap)(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back);
    void (*store)(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code);
    void (*encode)(sr_weight *w, int64_t row, const float *src, const float *importance);
} sr_encoder;

/* 32 columns of MXFP4 as they are stored, wherever a format has their bits: E2M1 in nibbles, and their scale as E8M0.
 */
typedef struct sr_mxfp4 {
    uint8_t element[32], scale;
} sr_mxfp4;
/* Elements in nibbles, the lower one first. */
static inline void sr_mxfp4_from_nibbles(const uint8_t *p, sr_mxfp4 *out) {
    for (int i = 0; i < 32; i++) out->element[i] = p[i / 2] >> 4 * (i % 2) & 15;
}
static inline void sr_mxfp4_to_nibbles(const sr_mxfp4 *in, uint8_t *p) {
    for (int i = 0; i < 32; i += 2) p[i / 2] = (uint8_t)(in->element[i] | in->element[i + 1] << 4);
}

struct sr_format {
    const char
        *name; /* "q4_k": command line, logs, tests; equal to the stored type's name where one tensor is the weight */
    const char *alias; /* "q4k", or NULL */
    uint16_t block;    /* columns a stored block */
    uint16_t group;    /* columns a scale; 0 when the checkpoint says */
    uint16_t lane;     /* columns a code point (1; lattices 4 or 8) */
    sr_qspec spec;     /* what a checkpoint in this format says by default; zero where tensors describe themselves */
    const char *reference; /* package that the golden vectors were made with; NULL: no reference ran */
    const char *container; /* the only one that has it, where neither `spec` nor its stored type says so; or NULL */
    uint8_t tile;          /* sr_tile_kind that unpack, panel or decode produce */
    bool has_min;          /* I8: unpack writes mins */
    float rtn_err; /* bound on rms(w - decoded) / rms(w) of N(0,1) rows, round to nearest; tests and docs read it */

    /* Required. */
    bool (*claim)(const sr_format *self, const sr_parts *parts, const sr_qspec *spec); /* pure: are these parts mine? */
    sr_status (*layout)(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                        sr_err *err);
    /* Columns k0 .. k0+n of one row as f32; k0 and n are multiples of block. Bit-exact with the reference. The oracle.
     */
    void (*decode)(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out);

    /* I8 only: the same columns as code[n], scale[n / group], min[n / group] (min only when has_min). decode and the
     * portable panel are this plus arithmetic. */
    void (*unpack)(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);

    /* Optional: N and K from the parts, where the first part's shape is not the weight's. False: cannot tell. */
    bool (*dims)(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K);
    /* Optional: checks and derives what planes alone do not say (perm, aux, tile, group), once, when planes are set.
     * parts is NULL for a weight that was created, whose planes are still zero. Memory from the arena. */
    sr_status (*adopt)(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err);
    /* Optional: fills the planes of a created weight with random weights of about N(0, 0.02), the same for the same
     * seed. sr_weight_sample has a default. */
    void (*sample)(sr_weight *w, uint64_t seed);

    /* Optional: the grid whose stored factors are nearest to this scale and min, instead of fit's: for weights that
     * come of another format and may be held as they are. */
    void (*hold)(const sr_fit *in, float scale, float min, sr_grid *grid);
    /* Optional: the bits of columns k0 .. k0 + 32, in all the formats that are MXFP4 by other names: what one of them
     * holds another holds without a change. */
    void (*take_mxfp4)(const sr_weight *w, int64_t row, int64_t k0, sr_mxfp4 *out);
    void (*put_mxfp4)(sr_weight *w, int64_t row, int64_t k0, const sr_mxfp4 *in);
    /* Optional: what is known before any row is fitted. begin refuses shapes that cannot be written (SR_INVALID), and
     * stores into the planes what the whole matrix decides (one scale for the tensor, or a block of rows), where fit
     * reads it. tiles says over how many rows and columns it wants the largest magnitudes; NULL or false: peaks is
     * NULL. */
    bool (*tiles)(const sr_weight *w, int64_t *rows, int64_t *cols);
    sr_status (*begin)(sr_weight *w, const sr_peaks *peaks, sr_err *err);
    /* Optional: of weights whose units lie across rows, how far apart a unit's numbers are in the matrix as one array;
     * 0: they lie in rows. Unit u then has the numbers u, u + across, u + 2 * across, ..., and fit and store get the
     * row and column of its first, and count columns by its numbers. Only sr_encode writes such weights. */
    int64_t (*across)(const sr_weight *w);
    /* Optional: the act-order of a created weight (sr_weight_reorder). */
    void (*reorder)(sr_weight *w);
    /* Optional: the small tensors that a checkpoint has beside the planes, for i = 0, 1, ... until it returns false. */
    bool (*extra)(const sr_weight *w, int i, sr_extra *out);

    /* Optional, all or none: writing through a solver.
     * fit chooses the stored scales of one unit (sr_weight_unit) of a row. snap gives the nearest codes for columns
     * i0 .. i0+n of the unit and what they decode to; n is a multiple of lane. store packs the bits of columns
     * k0 .. k0+n, whole blocks of one unit, n <= SR_KC, and the scales with each of them. decode(store(snap)) equals
     * back bit for bit. */
    void (*fit)(const sr_fit *in, sr_grid *grid);
    void (*snap)(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back);
    void (*store)(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code);
    /* Optional: a whole row at once, by the reference's rule to the bit where it promises one (plain types, the first
     * GGUF types). Beside fit it serves sr_rtn_rows when there is no importance; importance[K] may be NULL. */
    void (*encode)(sr_weight *w, int64_t row, const float *src, const float *importance);

    /* Names resolved at start: what embeddings and the head take when a model is quantized to this format, and what a
     * row takes that the block does not divide (tried in order, then left unquantized). NULL: the format itself / none.
     */
    const char *promote, *fallback[2];

    /* Optional: the panel that all instruction sets produce, when it is not unpack's own groups. Coarsening: it may
     * fold group scales into one per SR_KC columns only where that is exact or adds at most 2 % to the format's own
     * error energy. Fast panels equal it bit for bit. */
    void (*panel)(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);
    uint16_t panel_group; /* columns a scale of `panel`, which has no mins */
    float panel_err; /* rms(panel - decode) / rms(w) of N(0,1) rows that coarsening, or rounding to bfloat16, may cost;
                        0: exact */
};

/* All rows, NULL-terminated. table.c is the only file that names implementations. */
extern const sr_format *const sr_formats[];
/* By name or alias, case ignored; NULL when there is none. */
const sr_format *sr_format_by_name(const char *name);
/* By what people ask for: a name, also as --to has it ("mlx:4"), or a number of bits, which names the type that suits
 * the kernels of the CPU and of CUDA. sr_format_number lists the numbers for i = 0, 1, ... until NULL. */
const sr_format *sr_format_asked(const char *name);
const char *sr_format_number(int i, const char **format);

/* The stored tensors of one matrix: fills parts, n == 0 when there are none. False when the name is longer than any
 * checkpoint's. */
bool sr_weight_parts(const sr_file *file, const char *name, sr_parts *parts);
/* The module that a part of this name belongs to: "a.b" for "a.b.qweight". False when it has no known suffix, or the
 * module's name does not fit. */
bool sr_part_module(const char *part, char *module, size_t cap);
/* Gathers the parts called `name`.* of the checkpoint, finds the one row that claims them, checks shapes against layout
 * and points the planes into the map; what adopt derives goes to the arena (NULL: adopt is left out; such a weight can
 * be looked at, but only formats without adopt can be multiplied). config may be NULL. N or K of -1 take what the
 * checkpoint has. A stack of experts [E][N][K] is a matrix of E * N rows. Errors name the tensor and file: absent
 * (SR_CORRUPT), shape (found, expected), no claim or two (lists the parts). */
sr_status sr_weight_bind(const sr_file *file, const sr_qconfig *config, const char *name, int64_t N, int64_t K,
                         sr_arena *arena, sr_weight *w, sr_err *err);
/* A new weight of that format in the arena, zeroed, to be written by encode or store. spec NULL: the row's. SR_INVALID
 * when block does not divide K. */
sr_status sr_weight_create(const sr_format *fmt, int64_t N, int64_t K, const sr_qspec *spec, sr_arena *arena,
                           sr_weight *w, sr_err *err);
/* The pages of a created weight that is untouched yet become those of a file without a name, which goes with them:
 * memory that is short gets them back. It is made in the folder `dir`. SR_IO when the disk is too full. */
sr_status sr_weight_to_file(sr_weight *w, const char *dir, sr_err *err);
/* Random weights for a created one: fmt->sample, or random bits in planes of integers and small numbers in planes of
 * floats. */
void sr_weight_sample(sr_weight *w, uint64_t seed);
/* Columns that fit takes at once: the format's block, or the group of this weight where that is more. */
int64_t sr_weight_unit(const sr_weight *w);
/* Act-order for a created weight whose spec has act_order, before anything is stored in it. perm [K] is borrowed and
 * becomes w->perm. Planes hold columns in the order of x, as files do, and the plane g_idx says which group each is of
 * (until this call, and without it: groups of consecutive columns); fit, store and decode count stored columns, which
 * are perm's. Such a weight is for a file: it decodes, but has no fast kernels. SR_UNSUPPORTED: the format has no g_idx
 * (a weight of any format may have its w->perm set by hand, but no file keeps it). */
sr_status sr_weight_reorder(sr_weight *w, const int32_t *perm, sr_err *err);
/* Bytes of all planes. */
int64_t sr_weight_bytes(const sr_weight *w);

/* Weights as the encoders of scaled formats take them: NaN is 0, and what lies outside f16's finite range is its end.
 * So no input makes a scale that is not finite. (Plain types keep what they can represent.) */
static inline float sr_weight_finite(float w) {
    return w > 65504 ? 65504 : w < -65504 ? -65504 : w == w ? w : 0;
}
/* An importance likewise: below 0 and NaN count as 0, and 1e12 is the most. */
static inline float sr_importance(float v) {
    return v > 0 ? v < 1e12f ? v : 1e12f : 0;
}

/* The slots that write w: its encoder's, or else its row's. */
sr_encoder sr_weight_encoder(const sr_weight *w);
/* Where the rows of a matrix come from: out[n][K] of rows row0 .. row0+n. Called from several threads, and for a row
 * as often as it is needed, always with the same result. */
typedef struct sr_source {
    void (*rows)(void *ctx, int64_t row0, int64_t n, float *out);
    void *ctx;
    /* Optional: the scale and min of columns k0 .. k0+n of a row, and the lowest of their codes, where these are
     * codes of one scale. */
    bool (*grid)(void *ctx, int64_t row, int64_t k0, int64_t n, float *scale, float *min, int *low);
    /* Optional: the bits of columns k0 .. k0 + 32 of a row, where they are MXFP4. */
    bool (*mxfp4)(void *ctx, int64_t row, int64_t k0, sr_mxfp4 *out);
} sr_source;
enum { SR_ENCODE_ROWS = 8 }; /* formats that pack rows into bytes pack so many: threads share no byte */
/* Rows of f32 that a thread holds while a weight of this spec is encoded. */
int64_t sr_encode_scratch(const sr_format *fmt, const sr_qspec *spec);
/* A created weight's begin, where it has one, with the peaks of these rows. What a solver calls before fit. */
sr_status sr_encode_begin(sr_weight *w, const sr_source *from, int threads, sr_err *err);
/* Round to nearest of a whole created weight: begin, then sr_rtn_rows, in parallel. The same for any number of threads.
 * importance [n_importance][K], each for as many rows (of an expert), or NULL. The format must be writable. SR_INVALID:
 * this shape cannot be written. */
sr_status sr_encode(sr_weight *w, const sr_source *from, const float *importance, int n_importance, int threads,
                    sr_err *err);
/* Rows row0 .. row0 + n of a weight that has begun, in parallel; row0 is a multiple of SR_ENCODE_ROWS. importance [K]
 * or NULL. */
sr_status sr_encode_rows(sr_weight *w, const sr_source *from, int64_t row0, int64_t n, const float *importance,
                         int threads, sr_err *err);
/* Round to nearest (fit, snap, store or encode) of rows row0 .. row0+n of a weight made by sr_weight_create, begun
 * already. src[n][K]. Thread-safe on distinct rows, where row0 is a multiple of SR_ENCODE_ROWS. The format must be
 * writable. */
void sr_rtn_rows(sr_weight *w, int64_t row0, int64_t n, const float *src, const float *importance);
/* The same for rows of a source that may know their scales: what w can hold without any change it gets so. */
void sr_rtn_rows_of(sr_weight *w, int64_t row0, int64_t n, const float *src, const float *importance,
                    const sr_source *from);
bool sr_format_writable(const sr_format *fmt);

/* Shared slots for families (bind.c; the snap in rtn.c). */
bool sr_claim_single(const sr_format *self, const sr_parts *parts,
                     const sr_qspec *spec); /* one part "weight" of stored type self->name */
sr_status sr_layout_single(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                           sr_err *err);
void sr_decode_i8(const sr_weight *w, int64_t row, int64_t k0, int64_t n,
                  float *out); /* unpack, then scale * code - min */
void sr_snap_affine(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back);
/* Act-order. g_idx (i32 [K], any alignment) says which group of `group` columns each column belongs to; *perm [K] lists
 * the columns group by group, in their order inside each: what sr_weight.perm wants, in the arena. NULL when they are
 * in order already. SR_CORRUPT: a group that does not exist, or with other than its `group` columns (the last: the
 * rest). */
sr_status sr_perm_sort(const sr_part *g_idx, int64_t K, int64_t group, sr_arena *arena, const int32_t **perm,
                       sr_err *err);
/* Sets w->group to the most columns that a tile can give one scale when the checkpoint gives one to `stored` columns,
 * and w->tile to SR_TILE_F32 where no tile can. */
void sr_weight_set_group(sr_weight *w, int64_t stored);
/* Element i of a plane of f32, f16, bf16, f8_e4m3 or E8M0 (f8_e8m0, u8). */
float sr_plane_float(const sr_weight *w, int plane, int64_t i);
/* What a plane of f32, f16 or bf16 makes of a finite number: rounded, and no infinity. sr_plane_put stores it. */
float sr_plane_round(const sr_weight *w, int plane, float v);
void sr_plane_put(sr_weight *w, int plane, int64_t i, float v);
/* sr_weight_sample without the format's own: random bits, and small floats. */
void sr_sample_planes(sr_weight *w, uint64_t seed);
/* Columns a scale of a weight's panels, and whether they come with mins (of the same columns). */
static inline int sr_panel_group(const sr_weight *w) {
    return w->fmt->panel ? w->fmt->panel_group : w->group;
}
static inline bool sr_panel_has_min(const sr_weight *w) {
    return !w->fmt->panel && w->fmt->has_min;
}
/* Coarse panel of any format with groups: each SR_KC columns on an 8-bit grid of their own, step max|w| / 127. Columns
 * with anything not finite have the scale NaN and codes 0. */
void sr_panel_coarse(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);
/* One block of it from unpacked codes; min may be NULL. n <= SR_KC columns. */
void sr_coarse_block(const int8_t *code, const float *scale, const float *min, int group, int n, int8_t *out,
                     float *out_scale);
/* Portable panel of one row: fmt->panel or, without one, unpack. code is zero-padded to a multiple of SR_KC
 * columns. */
void sr_panel_row(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);

#endif

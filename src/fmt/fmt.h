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
};

typedef struct sr_format sr_format;
typedef struct sr_weight sr_weight;

typedef enum sr_tile_kind { SR_TILE_I8, SR_TILE_BF16, SR_TILE_F32 } sr_tile_kind;

/* What a checkpoint's configuration says about its quantized tensors; filled once by bind.c. All zero for GGUF and for
 * plain checkpoints, whose tensors describe themselves. */
typedef struct sr_qspec {
    const char *method; /* quant_method of config.json, NULL when there is none */
    uint8_t bits, axis, sym, zero_kind, order, version;
    int32_t group, group_n;
} sr_qspec;

/* The stored tensors that share one name: "blk.0.attn_q" has the part "weight"; other families have several. */
typedef struct sr_parts {
    const char *name;
    int n;
    struct {
        const char *suffix; /* "weight", "scales", ... */
        const sr_part *part;
    } item[SR_MAX_PLANES];
} sr_parts;

/* What the planes of an N x K weight must look like: checked when reading, allocated when writing. */
typedef struct sr_planes {
    int n;
    struct {
        const char *suffix;
        const char *stored; /* name of the stored type (file/stored.c) */
        int n_dims;
        int64_t shape[4];
    } plane[SR_MAX_PLANES];
} sr_planes;

/* One weight matrix, bound to its bytes. Planes point into the checkpoint's map or into the model's arena; nothing is
 * owned here. Immutable once placed. */
struct sr_weight {
    const sr_format *fmt;
    int64_t N, K;
    struct {
        uint8_t *data;  /* written only while encoding, and then only in memory that the model owns */
        int64_t stride; /* bytes from one row to the next */
        int64_t bytes;
    } plane[SR_MAX_PLANES];
    int32_t group;              /* columns a scale */
    const int32_t *perm;        /* [K] order of x that the stored columns want, or NULL */
    const float *bias;          /* [N], or NULL */
    const struct sr_fast *fast; /* set by the CPU device's place */
    void *placed;               /* another device's own data */
};

/* The stored columns of one block (the format's `block`) as a solver sees them: the scales that can be stored, already
 * rounded, and the codes that exist. w = scale[g] * code - min[g], lo <= code <= hi. */
typedef struct sr_grid {
    int n, group;
    int lo, hi;
    float scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS];
    uint16_t d, dmin; /* the block's stored f16 (or f32 in d32) factors */
    float d32;
    uint8_t sc[SR_MAX_GROUPS], mn[SR_MAX_GROUPS]; /* stored group scales and mins, where the format has them */
} sr_grid;

struct sr_format {
    const char
        *name; /* "q4_k": command line, logs, tests; equal to the stored type's name where one tensor is the weight */
    const char *alias; /* "q4k", or NULL */
    uint16_t block;    /* columns a stored block */
    uint16_t group;    /* columns a scale; 0 when the checkpoint says */
    uint16_t lane;     /* columns a code point (1; lattices 4 or 8) */
    uint8_t tile;      /* sr_tile_kind that unpack, panel or decode produce */
    bool has_min;      /* I8: unpack writes mins */
    float rtn_err;     /* bound on rms(w - decoded) / rms(w) of N(0,1) rows, round to nearest; tests and docs read it */

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

    /* Optional: parts that need parsing of their own. */
    sr_status (*adopt)(const sr_parts *parts, const sr_qspec *spec, sr_weight *w, sr_err *err);

    /* Optional, all or none: writing through a solver.
     * fit chooses the stored scales of one block from w[block]; importance[block] may be NULL; row_ms is the mean
     * square of the whole row. snap gives the nearest codes for columns i0 .. i0+n of the block and what they decode
     * to; n is a multiple of lane. store packs one block's bits. decode(store(snap)) equals back bit for bit. */
    void (*fit)(const float *w, const float *importance, float row_ms, sr_grid *grid);
    void (*snap)(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back);
    void (*store)(sr_weight *w, int64_t row, int64_t k0, const sr_grid *grid, const int8_t *code);
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
    float panel_err;      /* rms(panel - decode) / rms(w) of N(0,1) rows that coarsening may cost; 0: exact */
};

/* All rows, NULL-terminated. table.c is the only file that names implementations. */
extern const sr_format *const sr_formats[];
/* By name or alias, case ignored; NULL when there is none. */
const sr_format *sr_format_by_name(const char *name);

/* The stored tensors of one matrix: fills parts, n == 0 when there are none. False when the name is longer than any
 * checkpoint's. */
bool sr_weight_parts(const sr_file *file, const char *name, sr_parts *parts);
/* Gathers the parts called `name`.* of the checkpoint, finds the one row that claims them, checks shapes against layout
 * and points the planes into the map. N or K of -1 take what the checkpoint has. Rank-2 only, [N][K]. Errors name the
 * tensor and file: absent (SR_CORRUPT), shape (found, expected), no claim or two (lists the parts). */
sr_status sr_weight_bind(const sr_file *file, const char *name, int64_t N, int64_t K, const sr_qspec *spec,
                         sr_weight *w, sr_err *err);
/* A new weight of that format in the arena, zeroed, to be written by encode or store. SR_INVALID when block does not
 * divide K. */
sr_status sr_weight_create(const sr_format *fmt, int64_t N, int64_t K, sr_arena *arena, sr_weight *w, sr_err *err);
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

/* Round to nearest (fit, snap, store or encode) of rows row0 .. row0+n of a weight made by sr_weight_create. src[n][K].
 * Thread-safe on distinct rows. The format must be writable. */
void sr_rtn_rows(sr_weight *w, int64_t row0, int64_t n, const float *src, const float *importance);
bool sr_format_writable(const sr_format *fmt);

/* Shared slots for families (bind.c; the snap in rtn.c). */
bool sr_claim_single(const sr_format *self, const sr_parts *parts,
                     const sr_qspec *spec); /* one part "weight" of stored type self->name */
sr_status sr_layout_single(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                           sr_err *err);
void sr_decode_i8(const sr_weight *w, int64_t row, int64_t k0, int64_t n,
                  float *out); /* unpack, then scale * code - min */
void sr_snap_affine(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back);
/* Columns a scale of a format's panels, and whether they come with mins (of the same columns). */
static inline int sr_panel_group(const sr_format *fmt) {
    return fmt->panel ? fmt->panel_group : fmt->group;
}
static inline bool sr_panel_has_min(const sr_format *fmt) {
    return !fmt->panel && fmt->has_min;
}
/* Coarse panel of any format with groups: each SR_KC columns on an 8-bit grid of their own, step max|w| / 127. Columns
 * with anything not finite have the scale NaN and codes 0. */
void sr_panel_coarse(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);
/* Portable panel of one row: fmt->panel or, without one, unpack. code is zero-padded to a multiple of SR_KC
 * columns. */
void sr_panel_row(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);

#endif

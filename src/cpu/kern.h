/* The CPU's kernels: one const row per instruction set, chosen at run time. Kernels cannot fail: bind, place and
 * reserve guarantee their preconditions. Nothing in a row knows a format; what a format brings is in sr_fast.
 *
 * y[T][N] = x[T][K] * w[N][K]^T, two ways:
 *   T <= dot_max_t   fast->dot walks stored rows against int8 x: memory-bound, no tile in between.
 *   larger T         16 rows at a time, `panel` unpacks SR_TILE_KC columns to int8 codes (L1), pack_w transposes two
 * panels, one after the other, to the order the micro-kernel wants, gemm_i8 multiplies them with all columns of x; or
 * it takes panels as they are, see sr_kern.panels. x is int8 with one f32 scale a block of SR_KC columns, and int16
 * sums of 16 columns for formats with a min. */
#ifndef SR_CPU_KERN_H
#define SR_CPU_KERN_H

#include <float.h>
#include <string.h>

#include "dev/dev.h"

enum {
    SR_TILE_KC = 256,    /* columns of a panel: an x block */
    SR_PAIR = 2 * SR_MR, /* rows that gemm_i8 takes */
    SR_DOT_MAX = 4,      /* most columns of x that fast->dot takes */
    SR_DOT_ROWS = 1024,  /* most rows a call of fast->dot gets */
    SR_FEW_ROWS = 256,   /* and as many as it gets mostly: see sr_fast.wide */
    SR_FEW_COLUMNS = 64, /* of x, that the dots of one parallel loop take, of all experts together */
    SR_SUM = 16,         /* columns of a sum of x */
    SR_BF16_COLUMNS = 32 /* of x, that one pack_bf16 item takes */
};

/* Quantized activations, row-major. K is padded with zeros to whole blocks. x ~ scale * code. */
typedef struct sr_x8 {
    int T;
    int64_t K, n_block; /* n_block = ceil(K / SR_KC) */
    int8_t *code;       /* [T][n_block * SR_KC], -127 .. 127 */
    float *scale;       /* [T][n_block] */
    int16_t *sum;       /* [T][n_block * SR_KC / SR_SUM] */
    int8_t *dealt;      /* as code, of each 64 columns first the even ones, then the odd ones; for dots alone */
} sr_x8;

static inline void sr_x8_deal(sr_x8 *x, int t) {
    const int8_t *from = x->code + t * x->n_block * SR_KC;
    int8_t *to = x->dealt + t * x->n_block * SR_KC;
    for (int64_t k = 0; k < x->n_block * SR_KC; k += 64)
        for (int i = 0; i < 32; i++) {
            uint16_t pair;
            memcpy(&pair, from + k + 2 * i, 2); /* little-endian */
            to[k + i] = (int8_t)pair;
            to[k + 32 + i] = (int8_t)(pair >> 8);
        }
}

/* SR_MR rows of SR_TILE_KC columns as panels write them: w = scale * code - min. The pitch keeps equal columns of
 * different rows out of the same cache set. Columns past K are zero. */
typedef struct sr_panel {
    int8_t code[SR_MR][SR_TILE_KC + 64];
    float scale[SR_MR][SR_TILE_KC / 16 + 4]; /* [SR_TILE_KC / group] */
    float min[SR_MR][SR_TILE_KC / 16 + 4];   /* likewise, when the format has mins */
} sr_panel;

/* Stored bytes that this thread will want when it is done with an item, as well as that can be told: the next one's.
 * They are asked for evenly in time, in the order of memory, which is faster than that of chunks: a core has so few
 * requests under way that a burst of them would wait for memory, and nothing be hidden behind arithmetic. */
typedef struct sr_ahead {
    const uint8_t *at;
    int64_t bytes;
} sr_ahead;

/* What lies between from / of and to / of of it. */
static inline sr_ahead sr_part_of(sr_ahead a, int64_t from, int64_t to, int64_t of) {
    if (!a.at) return a;
    const int64_t first = a.bytes * from / of / 64 * 64;
    return (sr_ahead){a.at + first, a.bytes * to / of - first};
}

/* Part i of n. Inline, or gcc takes it for a function without effect and drops the call. */
static inline __attribute__((always_inline)) void sr_prefetch(sr_ahead a, int i, int n) {
    const sr_ahead part = sr_part_of(a, i, i + 1, n);
    for (int64_t at = 0; at < part.bytes; at += 64) __builtin_prefetch(part.at + at, 0, 2);
}

/* What one format brings for one instruction set. Either slot may be NULL: then the portable panel, or gemm, serves. */
typedef struct sr_fast {
    const char *format; /* name of its row; NULL: the list ends, or goes on in `more` */
    const struct sr_fast *more;
    /* Whether it can serve this weight; NULL: every one of the format with its row's tile. */
    bool (*fits)(const sr_weight *w);
    /* As sr_format.unpack, equal to it bit for bit: alone it serves few tokens through dot_codes, and panels where the
     * row has no coarse one. */
    void (*unpack)(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);
    /* As sr_format.panel, equal to it bit for bit. */
    void (*panel)(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);
    /* The same for SR_MR rows at once, where they share words or work. row0 is a multiple of 16, n of SR_KC or ends at
     * K. */
    void (*panel_rows)(const sr_weight *w, int64_t row0, int64_t k0, int64_t n, sr_panel *panel, sr_ahead next);
    /* Half a pair of tiles, as unpack and pack_w make it, of whole SR_MR rows and SR_TILE_KC columns: see
     * sr_kern.tiles. */
    void (*tile)(const sr_weight *w, int64_t row0, int64_t k0, void *tile, sr_ahead next);
    bool tile_coarse; /* as panel and pack_w make it */
    /* y[t * ld_y + i] = row (row0 + i) . x[t] for i < n_rows <= SR_DOT_ROWS, t < x->T <= SR_DOT_MAX. Weights as decoded
     * (no coarsening), within dot_err. Bias not included. */
    void (*dot)(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y);
    int dot_offset; /* steps at most by which dot's codes exceed unpack's: scale * steps * x is taken off in f32 */
    int share; /* rows r, r + N / share, .. lie in the same bytes: a thread takes them together. 0: each has its own */
    bool wide; /* a column's rows lie together, and the next column far away: dot wants many rows */
    float dot_err; /* rms(w as dot takes it - decoded) / rms(w) of N(0, 1) rows; 0: as decoded */
    /* The same for plain floats, against x[T][K] in f32, T <= SR_DOT_MAX. */
    void (*dot_float)(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T, float *y,
                      int64_t ld_y);
    /* As sr_format.decode, equal to it bit for bit, for gemm_f32. */
    void (*decode)(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out);
} sr_fast;
static inline const sr_fast *sr_fast_next(const sr_fast *f) {
    f++;
    return !f->format && f->more ? f->more : f;
}

/* Rows of one part that a thread takes before those of the next part: their bytes stay in the first cache. */
static inline int sr_shared_rows(int64_t K) {
    const int64_t rows = (1 << 14) / K;
    return rows < 1 ? 1 : (int)rows;
}

/* How keys and values are kept, a row a type; a head's page is SR_KV_PAGE * sr_kv_bytes. What is stored in it of
 * another position does not change. */
typedef struct sr_kv_row {
    sr_kv_type type;
    bool rotated;  /* by `hadamard` before they are stored: outliers spread, so that few bits lose less */
    int code_bits; /* kept as codes of so many bits in the order of integer products, see attention_codes_kern.h; or 0
                    */
    /* A key [0], a value [1] of hd features, as position j of a page. */
    void (*store[2])(const float *x, int hd, void *page, int j);
    /* The first `features` of positions j .. j+n as f32, out [n][ld]. */
    void (*load[2])(const void *page, int j, int n, int hd, int features, float *out, int64_t ld);
    /* Up to SR_FEW_QUERIES rows straight from what is stored: scores of positions from .. to, and
     * o[i * ld_o + d] += p[i] . values. p and score have SR_KV_PAGE a row. NULL: through `load`, as more rows. */
    void (*score_few)(const float *const *q, int n_q, const void *page, int from, int to, int hd, float *score);
    void (*weigh_few)(const float *p, int n_q, const void *page, int from, int to, int hd, int hd_v, float *o,
                      int ld_o);
    /* Any number of rows by integer products, NULL: through `load`. `ask` leaves q in the scratch of attend_page, for
     * all pages. score[SR_KV_PAGE] a row; `from` begins a tile of keys, and p is 0 outside of from .. to in the same
     * tiles. What is read next, `next`, is brought nearer unless it is NULL. */
    void (*ask)(const float *const *q, int n_q, int hd, float *scratch);
    void (*score)(const float *scratch, int n_q, const void *page, const void *next, int from, int to, int hd,
                  float *score);
    void (*weigh)(const float *p, int n_q, const void *page, const void *next, int from, int to, int hd, float *o,
                  int ld_o);
} sr_kv_row;

/* One scale a block of x and no mins: sums of a block are all that is scaled. */
static inline bool sr_one_scale(int group, bool has_min) {
    return group == SR_KC && !has_min;
}

typedef struct sr_kern {
    const char *name;
    bool (*usable)(void);
    int dot_max_t;       /* 0 .. SR_DOT_MAX */
    const sr_fast *fast; /* walked by sr_fast_next, until format == NULL */

    const sr_encoder *encoders; /* until format == NULL; or NULL */

    /* One row of x: code[n_block * SR_KC], scale[n_block], sum[n_block * 16]. A block of zeros, or with anything not
     * finite in it, has scale 0 (not finite: NaN, so that it shows). code = round to nearest even of x * 127 / max|x|.
     */
    void (*quantize)(const float *x, int64_t K, int8_t *code, float *scale, int16_t *sum);

    /* acc[t] += (scale * code - min) . x[t] over block `block` of x, in eight partial sums; t < x->T <= SR_DOT_MAX.
     * code [SR_KC], scale and min (or NULL) one a group. */
    void (*dot_codes)(const int8_t *code, const float *scale, const float *min, int group, const sr_x8 *x,
                      int64_t block, float (*acc)[8]);

    /* One block of sr_panel_coarse from unpacked codes: n <= SR_KC columns, a multiple of 16; out [SR_KC] is zero
     * behind them. NULL: the portable one serves. */
    void (*coarse)(const int8_t *code, const float *scale, const float *min, int group, int n, int8_t *out,
                   float *out_scale);

    const struct sr_kern *few; /* whose GEMM is faster for up to most_columns of x; or NULL, and 0 */
    int few_columns;           /* what its most_columns is at most */
    int (*most_columns)(int group, bool has_min);
    bool tiles; /* sr_fast.tile makes the tiles of this row */
    /* Its gemm_i8 takes a pair of panels instead of tiles where sr_one_scale is true, and multiplies them so much
     * faster that few columns are enough to make them coarse. acc then has room for T rounded up to multiples of
     * pack_columns. */
    bool panels;
    /* gemm_i8. group is 16, 32, 64, 128 or 256 columns a scale. */
    size_t tile_bytes;                                                                    /* of a pair of tiles */
    void (*pack_w)(const sr_panel *panel, int half, int group, bool has_min, void *tile); /* half 0 or 1 of the pair */
    size_t (*packed_bytes)(int T, int64_t n_block);
    int pack_columns; /* columns of x that one pack_x item takes */
    void (*pack_x)(const sr_x8 *x, int item, void *packed);
    /* Around gemm_i8 with the same number of columns and kind of groups, by the thread that calls it; or NULL. */
    void (*begin)(int T, int group, bool has_min);
    void (*end)(void);
    /* Between them, often while gemm_i8 waits for w, so that its unit does not fall asleep; or NULL. */
    void (*awake)(void);
    /* acc[T][SR_PAIR] (+)= 32 rows x SR_TILE_KC columns from column k0 (a multiple of it; x blocks past n_block count
     * as zero); first: acc is overwritten. `next` is asked for meanwhile. */
    void (*gemm_i8)(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                    bool first, float *acc, sr_ahead next);

    /* y[t * ld_y + r] = acc[t][r] for r < n_rows: finished rows leave, past the caches where y is larger than they are.
     */
    void (*store)(const float *acc, int T, int n_rows, float *y, int64_t ld_y);

    /* acc[T][SR_PAIR] (+)= panel[SR_PAIR][SR_TILE_KC] * x[T][n] in f32, n <= SR_TILE_KC: the exact path, and what has
     * no better tile. A token's sums do not depend on T. */
    void (*gemm_f32)(const float (*panel)[SR_TILE_KC], int64_t n, const float *x, int64_t ld_x, int T, bool first,
                     float *acc);

    /* The same in bfloat16: x as pack_bf16 leaves it, rounded; a weight that is none as the sum of two. k0 is a
     * multiple of SR_TILE_KC, and the panel zero behind K; or the weights lie in `stored` as bfloat16, SR_PAIR rows
     * `stride` bytes apart, SR_TILE_KC columns. NULL: gemm_f32 serves. */
    size_t (*bf16_bytes)(int T, int64_t K);
    void (*pack_bf16)(const float *x, int64_t ld_x, int T, int64_t K, int item, void *packed);
    void (*gemm_bf16)(const float (*panel)[SR_TILE_KC], const uint8_t *stored, int64_t stride, const void *packed,
                      int T, int64_t k0, bool first, float *acc);

    /* y[i] = row . x[i * ld_x] for n_x vectors. */
    void (*dot_f32)(const float *row, const float *x, int64_t ld_x, int n_x, int64_t K, float *y);

    /* Rows. out may be x. */
    void (*rms_norm)(const float *x, int d, const float *weight, float eps, float *out);
    void (*layer_norm)(const float *x, int d, const float *weight, const float *bias, float eps, float *out);
    void (*add)(float *x, const float *y, int64_t n);
    void (*axpy)(float *x, const float *y, int64_t n, float scale); /* x += scale * y */
    void (*act[SR_N_ACTS])(const float *gate, const float *up, int n, float *out);
    void (*soft_cap)(float *x, int64_t n, float scale, float cap);
    /* x[head_dim] of one head; cos and sin [n_pair] of its position. */
    void (*rope_halves)(float *x, int n_pair, const float *cos, const float *sin);
    void (*rope_adjacent)(float *x, int n_pair, const float *cos, const float *sin);

    const sr_kv_row *kv; /* until name == NULL */
    /* In place, x[n] in blocks of `block` features, a power of two that divides n: the Walsh-Hadamard transform over
     * sqrt(block), which is its own inverse. */
    void (*hadamard)(float *x, int n, int block);
    /* Attention of n_q query rows (heads that share a KV head, over one or more tokens) against one page of a KV head,
     * of which positions 0 .. n_key count; row i sees keys lo[i] <= j < hi[i]. Online softmax state: m[i] largest score
     * so far, s[i] sum of exp(score - m), o[i * ld_o] weighted values (sr_attend_padded of them, the last ones of no
     * use); to be merged in order by the caller. q rows are n_q pointers, already scaled; v NULL: the first hd_v
     * features of the keys; next: the page of keys that will be read behind this one, or NULL. scratch holds
     * sr_attend_scratch floats, and belongs to one set of rows from kv->ask, which comes first, to their last page. */
    void (*attend_page)(const sr_kv_row *kv, const float *const *q, int n_q, const void *k, const void *v,
                        const void *next, int n_key, int hd, int hd_v, const int *lo, const int *hi, float cap,
                        float *m, float *s, float *o, int ld_o, float *scratch);
    /* int8 multiply-add steps on registers alone, for the probe: does n * probe_ops of them. */
    void (*probe)(int64_t n);
    double probe_ops;
} sr_kern;

enum {
    SR_ATTEND_ROWS = 64, /* most query rows of an attend_page call */
    SR_FEW_QUERIES = 4,
    SR_KV_GROUP = 32 /* features, or codes, of one scale */
};
static inline int sr_attend_padded(int hd) {
    return (hd + SR_KV_GROUP - 1) / SR_KV_GROUP * SR_KV_GROUP;
}
/* Scores of all rows, a page of keys as f32, and what `ask` makes of q. */
static inline size_t sr_attend_scratch(int hd) {
    return (size_t)SR_ATTEND_ROWS * SR_KV_PAGE + (size_t)(SR_KV_PAGE + SR_ATTEND_ROWS) * (size_t)sr_attend_padded(hd);
}

/* Fastest first, NULL-terminated (cpu/table.c); portable is last and always usable. */
extern const sr_kern *const sr_kerns[];

/* matmul.c */
void sr_cpu_matmul(sr_dev *dev, const sr_weight *const *w, int n, const float *x, int T, int64_t ld_x, float *const *y,
                   const int64_t *ld_y);
void sr_cpu_matmul_experts(sr_dev *dev, const sr_experts *const *w, int n, const sr_choices *c, const float *x,
                           int64_t ld_x, bool by_choice, float *const *y, const int64_t *ld_y);
void sr_cpu_matmul_heads(sr_dev *dev, const sr_experts *w, int n_head, const float *x, int T, int64_t ld_x,
                         int64_t step_x, float *y, int64_t ld_y, int64_t step_y);
/* attention.c */
void sr_cpu_attend(sr_dev *dev, const sr_attend *a);
size_t sr_cpu_matmul_thread_bytes(const sr_kern *kern, int batch, int64_t max_k);
size_t sr_cpu_attend_thread_bytes(int head_dim);
/* Floats of sr_cpu.partial. */
size_t sr_cpu_attend_partials(int head_dim);

/* The opened device, shared by device.c, matmul.c and attention.c. */
typedef struct sr_cpu {
    sr_dev dev;
    const sr_kern *kern;
    int threads, batch;
    bool exact;
    /* Scratch, sized by reserve: quantized x, packed x, and one arena a thread. */
    int64_t max_k, max_n;
    sr_x8 x8;             /* twice `batch` columns, or SR_FEW_COLUMNS */
    int32_t *residual_of; /* the token that a column of residuals belongs to: see struct columns of matmul.c */
    size_t residual_bytes;
    size_t x8_block[4]; /* bytes behind its arrays */
    void *packed;
    float *packed_f32; /* [ceil(K / SR_TILE_KC)][T][SR_TILE_KC] */
    void *packed_bf16;
    size_t packed_bytes, f32_bytes, bf16_bytes;
    float *gathered; /* [batch][max_k]: x in the order of a weight's columns */
    size_t gathered_bytes;
    float *chosen; /* [batch][max_k]: x of one expert's tokens, or of several few ones */
    size_t chosen_bytes;
    uint8_t *thread; /* [threads][thread_bytes] */
    size_t thread_bytes;
    float *partial; /* what parts of the keys give to few queries: see attention.c */
    size_t partial_bytes;
    float *angle; /* two of: cosines [batch][n_pair], then sines, of the step's positions */
    size_t angle_bytes;
    const sr_rope *angle_of[2]; /* what `angle` holds since begin, or NULL: a model has up to two rotations */
    int angle_next;
} sr_cpu;

#endif

/* Fast unpackers, panels and dots of HQQ's types (hqq.c) with groups along the rows, in the vocabulary of
 * cpu/simd_x86.h. A byte has a column of `per` rows, N / per apart: their codes need no sorting. */

static bool hqq_fits(const sr_weight *w) {
    const sr_hqq *h = w->aux;
    return w->tile == SR_TILE_I8 && h->bytes == 1 && w->K % 32 == 0 && w->group % 32 == 0 &&
           h->words == w->N / h->per * w->K && w->N % h->per == 0 &&
           w->plane[SR_HQQ_SCALES].type == w->plane[SR_HQQ_ZEROS].type;
}

/* The field of a row's codes, which of a byte's it is, and how many rows from it on have the same. */
typedef struct hqq_field {
    const uint8_t *row, *end;
    int shift, mask, rows, at;
} hqq_field;

V_INLINE hqq_field hqq_field_of(const sr_weight *w, int64_t row) {
    const sr_hqq *h = w->aux;
    const int64_t part = w->N / h->per, at = row / part;
    const uint8_t *p = w->plane[SR_HQQ_CODES].data;
    return (hqq_field){p + row % part * w->K,        p + h->words, h->bits * (h->per - 1 - (int)at), (1 << h->bits) - 1,
                       (int)((at + 1) * part - row), (int)at};
}
/* Rows of one field. A thread takes the rows of all fields before the next bytes: each asks for its share of these. */
V_INLINE v_rows hqq_rows(const sr_weight *w, const hqq_field *f, int n) {
    const int per = ((const sr_hqq *)w->aux)->per;
    int shift = 0;
    while (2 << shift <= per) shift++;
    return (v_rows){
        f->row, f->end, w->K, f, per == 1 ? f->row + AHEAD : f->row + n * w->K + (n * w->K >> shift) * f->at, shift};
}

V_INLINE void hqq_groups(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min,
                         const int middle) {
    const sr_hqq *h = w->aux;
    const int64_t group = h->by == SR_HQQ_BY_GROUP ? h->group : w->K * w->N, at = (row * w->K + k0) / group;
    float s[RUN], z[RUN];
    const int m = h->by == SR_HQQ_BY_GROUP ? groups_in(k0, n, group) : 1;
    plane_floats(w, SR_HQQ_SCALES, at, m, s);
    plane_floats(w, SR_HQQ_ZEROS, at, m, z);
    for (int i = 0; i < m; i += 8)
        vf_store(z + i, vf_mul(vf_sub(vf_load(z + i), vf_set1((float)middle)), vf_load(s + i)));
    spread(s, k0, n, group, scale);
    spread(z, k0, n, group, min);
}
static void hqq_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    hqq_groups(w, row, k0, n, scale, min, 0);
}
static void hqq8_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    hqq_groups(w, row, k0, n, scale, min, 128);
}

static void panel_hqq(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const hqq_field f = hqq_field_of(w, row);
    const vb mask = vb_set1(f.mask);
    const uint8_t *p = f.row + k0;
    float s[RUN], lo[RUN];
    hqq_groups32(w, row, k0, (int)n / 32, s, lo);
    for (int g = 0; n >= SR_KC; n -= SR_KC, k0 += SR_KC, g += 8, p += SR_KC, code += SR_KC) {
        vb8 c = {vb_field(vb_load(p), f.shift, mask),       vb_field(vb_load(p + 32), f.shift, mask),
                 vb_field(vb_load(p + 64), f.shift, mask),  vb_field(vb_load(p + 96), f.shift, mask),
                 vb_field(vb_load(p + 128), f.shift, mask), vb_field(vb_load(p + 160), f.shift, mask),
                 vb_field(vb_load(p + 192), f.shift, mask), vb_field(vb_load(p + 224), f.shift, mask)};
        affine_panel(c, f.mask, s + g, lo + g, code, scale++);
    }
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}

V_INLINE vf4 hqq_32_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    const hqq_field *f = aux;
    const vb mask = vb_set1(f->mask);
    vf4 sum = vf4_zero();
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        sum = add_group(sum, vb_field(vb_load(b + 32 * g), f->shift, mask), vf_set1(scale[g]), x, 32 * g, T);
    return sub_mins(sum, vf_load(min), x, T);
}
V_INLINE vf4 hqq_64_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    const hqq_field *f = aux;
    const vb mask = vb_set1(f->mask);
    vf4 sum = vf4_zero();
#pragma GCC unroll 4
    for (int g = 0; g < 8; g += 2)
        sum = add_pair(sum, vb_field(vb_load(b + 32 * g), f->shift, mask),
                       vb_field(vb_load(b + 32 * g + 32), f->shift, mask), vf_set1(scale[g]), x, 32 * g, T);
    return sub_mins(sum, vf_load(min), x, T);
}
static void dot_hqq(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    while (n_rows > 0) {
        const hqq_field f = hqq_field_of(w, row0);
        const int n = n_rows < f.rows ? n_rows : f.rows;
        const v_rows rows = hqq_rows(w, &f, n);
        if (w->group % 64 == 0 && w->K % 64 == 0)
            dot_groups_of(w, row0, n, rows, x, x->code, y, ld_y, 32, 1, hqq_groups32, hqq_64_block);
        else
            dot_groups_of(w, row0, n, rows, x, x->code, y, ld_y, 32, 1, hqq_groups32, hqq_32_block);
        row0 += n, n_rows -= n, y += n;
    }
}

static void unpack_hqq8(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const hqq_field f = hqq_field_of(w, row);
    unpack_scales(w, row, k0, n, scale, min, hqq8_groups32);
    unpack_groups(f.row + k0, f.end, n, code, 32, codes_less_128);
}
static void dot_hqq8(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    const hqq_field f = hqq_field_of(w, row0);
    dot_groups_of(w, row0, n_rows, hqq_rows(w, &f, n_rows), x, x->code, y, ld_y, 32, 1, hqq8_groups32, bytes_block);
}

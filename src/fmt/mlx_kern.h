/* Fast unpackers and dots of MLX's types (mlx.c), in the vocabulary of cpu/simd_x86.h. */

V_INLINE vb mlx2_codes(const uint8_t *p) {
    return vb_stream(p, 2);
}
V_INLINE vb mlx3_codes(const uint8_t *p) {
    return vb_stream(p, 3);
}
V_INLINE vb mlx4_codes(const uint8_t *p) {
    return vb_pairs_low_first(p);
}
V_INLINE vb mlx5_codes(const uint8_t *p) {
    return vb_stream(p, 5);
}
V_INLINE vb mlx6_codes(const uint8_t *p) {
    return vb_stream(p, 6);
}
V_INLINE vb mlx8_codes(const uint8_t *p) { /* less 128 */
    return vb_xor(vb_load(p), vb_set1(-128));
}
/* Twice the value, by table. */
V_INLINE vb fp4_twice(const uint8_t *p) {
    return vb_lookup(vb_twice(sr_e2m1_twice), vb_pairs_low_first(p));
}
V_INLINE vb fp4_twice_plus_12(const uint8_t *p) {
    return vb_add(fp4_twice(p), vb_set1(12));
}

/* ---------------------------------------------------------------- scales */

V_INLINE float mlx_float(const uint8_t *p, int64_t i, const int kind) { /* 0 f32, 1 f16, 2 bf16 */
    uint32_t u;
    uint16_t h;
    float v;
    if (kind == 1) return v_f16(p + 2 * i);
    if (kind == 2) {
        memcpy(&h, p + 2 * i, 2);
        u = (uint32_t)h << 16;
    } else {
        memcpy(&u, p + 4 * i, 4);
    }
    memcpy(&v, &u, 4);
    return v;
}
/* n scales and mins from column k0 on, of which `each` in a row are one of the file's; middle: what the codes have
 * less. All are constants where they matter, so that nothing branches inside. */
V_INLINE void mlx_groups_of(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min,
                            const int each, const int middle, const int kind) {
    const int64_t group = w->spec.group, at = row * (w->K / group) + k0 / group;
    const uint8_t *s = w->plane[1].data, *b = w->plane[2].data;
    for (int i = 0, g = 0; i < n; i += each, g++) {
        float sv = mlx_float(s, at + g, kind), bv = mlx_float(b, at + g, kind);
        float m = middle ? -(bv + sv * (float)middle) : -bv;
        for (int j = 0; j < each; j++) scale[i + j] = sv, min[i + j] = m;
    }
}
V_INLINE void mlx_groups(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min, const int each,
                         const int middle) {
    const char *type = w->plane[1].type->name;
    if (type[0] == 'b')
        mlx_groups_of(w, row, k0, n, scale, min, each, middle, 2);
    else if (type[1] == '1')
        mlx_groups_of(w, row, k0, n, scale, min, each, middle, 1);
    else
        mlx_groups_of(w, row, k0, n, scale, min, each, middle, 0);
}
static void mlx_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    if (w->spec.group == 32) mlx_groups(w, row, k0, n, scale, min, 1, 0);
    if (w->spec.group == 64) mlx_groups(w, row, k0, n, scale, min, 2, 0);
    if (w->spec.group == 128) mlx_groups(w, row, k0, n, scale, min, 4, 0);
}
static void mlx8_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    if (w->spec.group == 32) mlx_groups(w, row, k0, n, scale, min, 1, 128);
    if (w->spec.group == 64) mlx_groups(w, row, k0, n, scale, min, 2, 128);
    if (w->spec.group == 128) mlx_groups(w, row, k0, n, scale, min, 4, 128);
}

/* ---------------------------------------------------------------- unpack */

V_INLINE void mlx_unpack(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min,
                         const int bits, vb (*codes)(const uint8_t *p)) {
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 8 * bits;
    mlx_groups(w, row, k0, (int)((n + w->group - 1) / w->group), scale, min, 1, bits == 8 ? 128 : 0);
    unpack_groups(p, w->plane[0].data + w->plane[0].bytes, n, code, 4 * bits, codes);
}
static void unpack_mlx2(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    mlx_unpack(w, row, k0, n, code, scale, min, 2, mlx2_codes);
}
static void unpack_mlx3(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    mlx_unpack(w, row, k0, n, code, scale, min, 3, mlx3_codes);
}
static void unpack_mlx4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    mlx_unpack(w, row, k0, n, code, scale, min, 4, mlx4_codes);
}
static void unpack_mlx5(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    mlx_unpack(w, row, k0, n, code, scale, min, 5, mlx5_codes);
}
static void unpack_mlx6(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    mlx_unpack(w, row, k0, n, code, scale, min, 6, mlx6_codes);
}
static void unpack_mlx8(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    mlx_unpack(w, row, k0, n, code, scale, min, 8, mlx8_codes);
}

static void unpack_mlx_mxfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                             float *min) {
    const uint8_t *s = w->plane[1].data + row * (w->K / 32) + k0 / 32;
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 2;
    (void)min;
    for (int64_t g = 0; g < n / 32; g++) scale[g] = s[g] == 255 ? INFINITY : 0.5f * sr_e8m0_to_f32(s[g]);
    unpack_groups(p, w->plane[0].data + w->plane[0].bytes, n, code, 16, fp4_twice);
}

/* ---------------------------------------------------------------- coarse panels */

static const float numbers_0_15[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
/* scale * code - min grows or falls with the code, so that the largest is that of the least or the greatest one. */
V_INLINE void mlx_panel(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min,
                        const int bits, codes_fn *codes) {
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 8 * bits;
    const uint8_t *end = w->plane[0].data + w->plane[0].bytes;
    const int top = (1 << bits) - 1;
    for (; n >= SR_KC; n -= SR_KC, k0 += SR_KC, p += SR_KC / 8 * bits, code += SR_KC, scale++) {
        vb8 c = codes_of_block(p, end, 4 * bits, codes);
        float s[8], lo[8];
        mlx_groups32(w, row, k0, 8, s, lo);
        vf sv = vf_load(s), lov = vf_load(lo), most = vf_from_half0(vb_max_of_halves(vb8_max(c)));
        vf least = vf_from_half0(vb_max_of_halves(vb8_max(vb8_xor(c, vb_set1(top)))));
        vf a = vf_sub(vf_mul(sv, most), lov), b = vf_sub(vf_mul(sv, vf_sub(vf_set1((float)top), least)), lov);
        coarse_by_table(c, vf_load(numbers_0_15), vf_load(numbers_0_15 + 8), s, lo, largest_of(a, b), code, scale);
    }
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}
static void panel_mlx2(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    mlx_panel(w, row, k0, n, code, scale, min, 2, mlx2_codes);
}
static void panel_mlx3(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    mlx_panel(w, row, k0, n, code, scale, min, 3, mlx3_codes);
}
static void panel_mlx4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    mlx_panel(w, row, k0, n, code, scale, min, 4, mlx4_codes);
}
#define panel_mlx5 NULL
#define panel_mlx6 NULL
#define panel_mlx8 NULL

/* ---------------------------------------------------------------- dots */

V_INLINE vf4 mlx_block(const uint8_t *b, const float *scale, const float *min, v_x x, const int T, const int bytes,
                       vb (*codes)(const uint8_t *p)) {
    vf4 sum = vf4_zero();
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) sum = add_group(sum, codes(b + g * bytes), vf_set1(scale[g]), x, 32 * g, T);
    return sub_mins(sum, vf_load(min), x, T);
}
V_INLINE vf4 mlx2_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)aux;
    return mlx_block(b, scale, min, x, T, 8, mlx2_codes);
}
V_INLINE vf4 mlx3_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)aux;
    return mlx_block(b, scale, min, x, T, 12, mlx3_codes);
}
V_INLINE vf4 mlx4_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)aux;
    return mlx_block(b, scale, min, x, T, 16, mlx4_codes);
}
V_INLINE vf4 mlx5_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)aux;
    return mlx_block(b, scale, min, x, T, 20, mlx5_codes);
}
V_INLINE vf4 mlx6_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)aux;
    return mlx_block(b, scale, min, x, T, 24, mlx6_codes);
}
V_INLINE vf4 mlx8_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)aux;
    vf4 sum = vf4_zero();
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) sum = add_group_i8(sum, mlx8_codes(b + 32 * g), vf_set1(scale[g]), x, 32 * g, T);
    return sub_mins(sum, vf_load(min), x, T);
}
V_INLINE vf4 mxfp4_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    vf4 sum = vf4_zero();
    (void)min, (void)aux;
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) sum = add_group(sum, fp4_twice_plus_12(b + 16 * g), vf_set1(scale[g]), x, 32 * g, T);
    return sub_mins(sum, vf_mul(vf_load(scale), vf_set1(12)), x, T);
}
static void mxfp4_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    (void)min;
    const uint8_t *s = w->plane[1].data + row * (w->K / 32) + k0 / 32;
    for (int g = 0; g < n; g++) scale[g] = s[g] == 255 ? INFINITY : 0.5f * sr_e8m0_to_f32(s[g]);
}

static const float e2m1_numbers[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static void panel_mlx_mxfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                            float *min) {
    static const int8_t size[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, 1, 2, 3, 4, 6, 8, 12};
    static const float none[8];
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 2;
    for (; n >= SR_KC; n -= SR_KC, k0 += SR_KC, p += SR_KC / 2, code += SR_KC, scale++) {
        vb8 c = codes_of_block(p, p + SR_KC, 16, vb_pairs_low_first);
        float s[8], lo[8];
        mxfp4_groups32(w, row, k0, 8, s, lo);
        vf most = vf_mul(vf_load(s), vf_from_half0(vb_max_of_halves(vb8_max(vb8_lookup(vb_twice(size), c)))));
        coarse_by_table(c, vf_load(e2m1_numbers), vf_load(e2m1_numbers + 8), s, none, largest_of(most, most), code,
                        scale);
    }
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}

static void dot_mlx2(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 8, mlx_groups32, mlx2_block);
}
static void dot_mlx3(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 12, mlx_groups32, mlx3_block);
}
static void dot_mlx4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 16, mlx_groups32, mlx4_block);
}
static void dot_mlx5(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 20, mlx_groups32, mlx5_block);
}
static void dot_mlx6(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 24, mlx_groups32, mlx6_block);
}
static void dot_mlx8(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 32, mlx8_groups32, mlx8_block);
}
static void dot_mlx_mxfp4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 16, mxfp4_groups32, mxfp4_block);
}

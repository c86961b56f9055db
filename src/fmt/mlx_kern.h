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
    uint32_t u = 0;
    if (kind == 1) return v_f16(p + 2 * i);
    memcpy((uint8_t *)&u + kind, p + (kind ? 2 : 4) * i, kind ? 2 : 4);
    float v;
    memcpy(&v, &u, 4);
    return v;
}
/* One scale and min each `step` columns, n of them from column k0 on; middle: what the codes have less. */
V_INLINE void mlx_groups_of(const sr_weight *w, int64_t row, int64_t k0, int n, int step, float *scale, float *min,
                            const int middle, const int kind) {
    const int64_t group = w->spec.group, at = row * (w->K / group) + k0 / group;
    const int each = step < group ? (int)(group / step) : 1;
    const uint8_t *s = w->plane[1].data, *b = w->plane[2].data;
    for (int i = 0, g = 0; i < n; g++) {
        float sv = mlx_float(s, at + g, kind), bv = mlx_float(b, at + g, kind);
        float m = middle ? -(bv + sv * (float)middle) : -bv;
        for (int j = 0; j < each && i < n; j++, i++) scale[i] = sv, min[i] = m;
    }
}
V_INLINE void mlx_groups(const sr_weight *w, int64_t row, int64_t k0, int n, int step, float *scale, float *min,
                         const int middle) {
    const char *type = w->plane[1].type->name;
    if (type[0] == 'b')
        mlx_groups_of(w, row, k0, n, step, scale, min, middle, 2);
    else if (type[1] == '1')
        mlx_groups_of(w, row, k0, n, step, scale, min, middle, 1);
    else
        mlx_groups_of(w, row, k0, n, step, scale, min, middle, 0);
}
static void mlx_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    mlx_groups(w, row, k0, n, 32, scale, min, 0);
}
static void mlx8_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    mlx_groups(w, row, k0, n, 32, scale, min, 128);
}

/* ---------------------------------------------------------------- unpack */

V_INLINE void mlx_unpack(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min,
                         const int bits, vb (*codes)(const uint8_t *p)) {
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 8 * bits;
    mlx_groups(w, row, k0, (int)((n + w->group - 1) / w->group), w->group, scale, min, bits == 8 ? 128 : 0);
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

/* ---------------------------------------------------------------- dots */

V_INLINE vf4 mlx_block(const uint8_t *b, const float *scale, const float *min, v_x x, const int T, const int bytes,
                       vb (*codes)(const uint8_t *p)) {
    vf4 sum = vf4_zero();
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) sum = add_group(sum, codes(b + g * bytes), vf_set1(scale[g]), x, 32 * g, T);
    return sub_mins(sum, min, x, T);
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
    return sub_mins(sum, min, x, T);
}
V_INLINE vf4 mxfp4_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)aux;
    return mlx_block(b, scale, min, x, T, 16, fp4_twice_plus_12);
}
static void mxfp4_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    const uint8_t *s = w->plane[1].data + row * (w->K / 32) + k0 / 32;
    for (int g = 0; g < n; g++) {
        scale[g] = s[g] == 255 ? INFINITY : 0.5f * sr_e8m0_to_f32(s[g]);
        min[g] = 12 * scale[g];
    }
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

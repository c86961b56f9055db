/* Fast unpackers and dots of MLX's types (mlx.c), in the vocabulary of cpu/simd_x86.h. */

V_INLINE vb mlx2_codes(const uint8_t *p) {
    return vb_stream(p, 2);
}
V_INLINE vb mlx3_codes(const uint8_t *p) {
    return vb_stream(p, 3);
}
V_INLINE vb mlx5_codes(const uint8_t *p) {
    return vb_stream(p, 5);
}
V_INLINE vb mlx6_codes(const uint8_t *p) {
    return vb_stream(p, 6);
}
/* ---------------------------------------------------------------- scales */

/* middle: what the codes have less. */
V_INLINE void mlx_groups(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min,
                         const int middle) {
    const int64_t group = w->spec.group, at = row * (w->K / group) + k0 / group;
    const int m = groups_in(k0, n, group);
    float s[RUN], b[RUN];
    plane_floats(w, 1, at, m, s);
    plane_floats(w, 2, at, m, b);
    for (int i = 0; i < m; i += 8) {
        vf bias = vf_load(b + i);
        if (middle) bias = vf_add(bias, vf_mul(vf_load(s + i), vf_set1((float)middle)));
        vf_store(b + i, vf_neg(bias));
    }
    spread(s, k0, n, group, scale);
    spread(b, k0, n, group, min);
}
static void mlx_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    mlx_groups(w, row, k0, n, scale, min, 0);
}
static void mlx8_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    mlx_groups(w, row, k0, n, scale, min, 128);
}
/* 2^(s - 127) / 2; 255 is infinite. */
static void mlx_mxfp4_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    (void)min;
    byte_floats(w->plane[1].data + row * (w->K / 32) + k0 / 32, n, e8m0_half_or_infinite, NULL, scale);
}
static void mlx_nvfp4_groups16(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    (void)min;
    byte_floats(w->plane[1].data + row * (w->K / 16) + k0 / 16, 2 * n, e4m3_half, NULL, scale);
}

/* ---------------------------------------------------------------- unpack */

V_INLINE void mlx_unpack(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min,
                         const int bits, groups_fn *groups, vb (*codes)(const uint8_t *p)) {
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 8 * bits;
    unpack_scales(w, row, k0, n, scale, min, groups);
    unpack_groups(p, w->plane[0].data + w->plane[0].bytes, n, code, 4 * bits, codes);
}
static void unpack_mlx5(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    mlx_unpack(w, row, k0, n, code, scale, min, 5, mlx_groups32, mlx5_codes);
}
static void unpack_mlx6(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    mlx_unpack(w, row, k0, n, code, scale, min, 6, mlx_groups32, mlx6_codes);
}
static void unpack_mlx8(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    mlx_unpack(w, row, k0, n, code, scale, min, 8, mlx8_groups32, codes_less_128);
}

/* ---------------------------------------------------------------- coarse panels */

V_INLINE void mlx_panel(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min,
                        const int bits, codes_fn *codes) {
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 8 * bits;
    const uint8_t *end = w->plane[0].data + w->plane[0].bytes;
    float s[RUN], lo[RUN];
    mlx_groups32(w, row, k0, (int)n / 32, s, lo);
    for (int g = 0; n >= SR_KC; n -= SR_KC, k0 += SR_KC, g += 8, p += SR_KC / 8 * bits, code += SR_KC)
        affine_panel(codes_of_block(p, end, 4 * bits, codes), (1 << bits) - 1, s + g, lo + g, code, scale++);
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}
static void panel_mlx2(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    mlx_panel(w, row, k0, n, code, scale, min, 2, mlx2_codes);
}
static void panel_mlx3(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    mlx_panel(w, row, k0, n, code, scale, min, 3, mlx3_codes);
}
static void panel_mlx4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    nibbles_panel(w, row, k0, n, code, scale, min, mlx_groups32);
}
static void panel_mlx_mxfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                            float *min) {
    e2m1_32_panel(w, row, k0, n, code, scale, min, mlx_mxfp4_groups32);
}
static void panel_mlx_nvfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                            float *min) {
    e2m1_16_panel(w, row, k0, n, code, scale, min, mlx_nvfp4_groups16);
}

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
V_INLINE vf4 mlx5_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)aux;
    return mlx_block(b, scale, min, x, T, 20, mlx5_codes);
}
V_INLINE vf4 mlx6_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)aux;
    return mlx_block(b, scale, min, x, T, 24, mlx6_codes);
}

static void dot_mlx2(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 8, mlx_groups32, mlx2_block);
}
static void dot_mlx3(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 12, mlx_groups32, mlx3_block);
}
static void dot_mlx4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_nibbles(w, row0, n_rows, x, y, ld_y, mlx_groups32);
}
static void dot_mlx5(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 20, mlx_groups32, mlx5_block);
}
static void dot_mlx6(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 24, mlx_groups32, mlx6_block);
}
static void dot_mlx8(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_groups(w, row0, n_rows, x, y, ld_y, 32, mlx8_groups32, bytes_block);
}
static void dot_mlx_mxfp4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_e2m1_32(w, row0, n_rows, x, y, ld_y, mlx_mxfp4_groups32);
}
static void dot_mlx_nvfp4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_e2m1_16(w, row0, n_rows, x, y, ld_y, mlx_nvfp4_groups16);
}

/* Panels and dots of the 4-bit types of safetensors (mx.c, and ct.c's pack-quantized), in the vocabulary of
 * cpu/simd_x86.h: nibbles, the low one first. They differ in where their scales lie. */

static void mxfp4_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    (void)min;
    byte_floats(w->plane[1].data + row * (w->K / 32) + k0 / 32, n, e8m0_half, NULL, scale);
}
static void panel_mx_mxfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                           float *min) {
    e2m1_32_panel(w, row, k0, n, code, scale, min, mxfp4_groups32);
}
static void dot_mx_mxfp4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_e2m1_32(w, row0, n_rows, x, y, ld_y, mxfp4_groups32);
}

/* K may be an odd multiple of 16. */
static bool nvfp4_fits(const sr_weight *w) {
    return w->K % 32 == 0;
}
/* The factor of the tensor, or of a row's expert, divides or multiplies. */
V_INLINE vf e4m3_half_over(const uint8_t *p, const void *factor) {
    return vf_mul(vf_div(vf_from_e4m3(p), vf_set1(*(const float *)factor)), vf_set1(0.5f));
}
V_INLINE vf e4m3_half_times(const uint8_t *p, const void *factor) {
    return vf_mul(vf_mul(vf_from_e4m3(p), vf_set1(*(const float *)factor)), vf_set1(0.5f));
}
V_INLINE void nvfp4_groups16(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale,
                             vf (*from)(const uint8_t *p, const void *ctx)) {
    float factor;
    memcpy(&factor, w->plane[2].data + 4 * (row / (w->N / (w->plane[2].bytes / 4))), 4);
    byte_floats(w->plane[1].data + row * (w->K / 16) + k0 / 16, 2 * n, from, &factor, scale);
}
static void ct_nvfp4_groups16(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    (void)min;
    nvfp4_groups16(w, row, k0, n, scale, e4m3_half_over);
}
static void modelopt_nvfp4_groups16(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    (void)min;
    nvfp4_groups16(w, row, k0, n, scale, e4m3_half_times);
}
static void panel_ct_nvfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                           float *min) {
    e2m1_16_panel(w, row, k0, n, code, scale, min, ct_nvfp4_groups16);
}
static void dot_ct_nvfp4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_e2m1_16(w, row0, n_rows, x, y, ld_y, ct_nvfp4_groups16);
}
static void panel_modelopt_nvfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                                 float *min) {
    e2m1_16_panel(w, row, k0, n, code, scale, min, modelopt_nvfp4_groups16);
}
static void dot_modelopt_nvfp4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_e2m1_16(w, row0, n_rows, x, y, ld_y, modelopt_nvfp4_groups16);
}

/* ---------------------------------------------------------------- whole numbers of 4 bits less their group's zero
 * scale * zero is exact for scales of 16 bits, and so is its difference to scale * code: both ways round alike. */

static bool ct_pack4_fits(const sr_weight *w) {
    return w->tile == SR_TILE_I8 && w->K % 32 == 0 && w->group % 32 == 0 &&
           w->plane[SR_INTEGER_SCALES].type->bytes == 2;
}
static void ct_pack4_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    const sr_integer *a = w->aux;
    const int64_t group = w->spec.group, first = k0 / group, groups = sr_integer_groups(w->K, &w->spec);
    const int m = groups_in(k0, n, group);
    const uint8_t *zeros = w->plane[SR_INTEGER_ZEROS].data;
    float s[RUN], z[RUN];
    plane_floats(w, SR_INTEGER_SCALES, a->scale_at(w, row, first), m, s);
    if (zeros) zeros += 4 * (row / 8 * groups + first) + row % 8 / 2; /* words of eight rows */
    for (int i = 0; i < m; i++) z[i] = zeros ? (float)(zeros[4 * i] >> row % 2 * 4 & 15) : 8;
    for (int i = 0; i < m; i += 8) vf_store(z + i, vf_mul(vf_load(s + i), vf_load(z + i)));
    spread(s, k0, n, group, scale);
    spread(z, k0, n, group, min);
}
static void panel_ct_pack4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                           float *min) {
    nibbles_panel(w, row, k0, n, code, scale, min, ct_pack4_groups32);
}
static void dot_ct_pack4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_nibbles(w, row0, n_rows, x, y, ld_y, ct_pack4_groups32);
}

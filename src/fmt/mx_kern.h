/* Fast unpackers of the 4-bit types of safetensors (mx.c, and ct.c's pack-quantized), in the vocabulary of
 * cpu/simd_x86.h: nibbles, the low one first. Odd ends of rows are left to the portable ones. */

/* E2M1 codes of n columns, a multiple of 32. */
V_INLINE void mx_codes(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code) {
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 2;
    unpack_groups(p, w->plane[0].data + w->plane[0].bytes, n, code, 16, fp4_twice);
}

static void unpack_ct_mxfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                            float *min) {
    const uint8_t *s = w->plane[1].data + row * (w->K / 32) + k0 / 32;
    (void)min;
    for (int64_t g = 0; g < n / 32; g++) scale[g] = 0.5f * sr_e8m0_to_f32(s[g]);
    mx_codes(w, row, k0, n, code);
}
static void unpack_gptoss_mxfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                                float *min) {
    unpack_ct_mxfp4(w, row, k0, n, code, scale, min);
}

V_INLINE void nvfp4_unpack(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                           const bool divides) {
    const uint8_t *s = w->plane[1].data + row * (w->K / 16) + k0 / 16;
    float factor;
    memcpy(&factor, w->plane[2].data + 4 * (row / (w->N / (w->plane[2].bytes / 4))), 4);
    for (int64_t g = 0; g < n / 16; g++) {
        float v = sr_e4m3_to_f32(s[g]);
        scale[g] = 0.5f * (divides ? v / factor : v * factor);
    }
    mx_codes(w, row, k0, n, code);
}
static void unpack_ct_nvfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                            float *min) {
    if (n % 32)
        w->fmt->unpack(w, row, k0, n, code, scale, min);
    else
        nvfp4_unpack(w, row, k0, n, code, scale, true);
}
static void unpack_modelopt_nvfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                                  float *min) {
    if (n % 32)
        w->fmt->unpack(w, row, k0, n, code, scale, min);
    else
        nvfp4_unpack(w, row, k0, n, code, scale, false);
}

/* Whole numbers of 4 bits less their group's zero. */
static void unpack_ct_pack4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                            float *min) {
    const sr_integer *a = (const sr_integer *)w->aux;
    if (n % 32 || w->group % 32) {
        w->fmt->unpack(w, row, k0, n, code, scale, min);
        return;
    }
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 2;
    for (int64_t k = 0; k < n; k += w->group) {
        const int64_t g = (k0 + k) / w->spec.group;
        const vb zero = vb_set1(a->zero(w, row, g));
        *scale++ = sr_plane_float(w, SR_INTEGER_SCALES, a->scale_at(w, row, g));
        for (int64_t i = k; i < k + w->group && i < n; i += 32)
            vb_store(code + i, vb_sub(vb_pairs_low_first(p + i / 2), zero));
    }
}

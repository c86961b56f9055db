/* Unpacked codes against x: what serves every format of int8 tiles for few tokens that has no dot of its own. */

/* acc += (scale * code - min) . x over one block of SR_KC columns, x's scale included. */
V_INLINE void dot_codes_t(const int8_t *code, const float *scale, const float *min, int group, v_x x, float (*acc)[8],
                          const int T) {
    float min16[SR_KC / SR_SUM];
    for (int i = 0; min && i < SR_KC / SR_SUM; i++) min16[i] = min[i * SR_SUM / group];
    for (int t = 0; t < T; t++) {
        vf sum = vf_set1(0);
        if (group == 16) {
            for (int g = 0; g < SR_KC / 16; g++) {
                vi d = vi_madd(vs_from_i8(code + 16 * g), vs_from_i8(x.code + t * x.pitch * SR_KC + 16 * g));
                sum = vf_fma(vf_from_i32(d), vf_set1(scale[g]), sum);
            }
        } else {
            for (int k = 0; k < SR_KC; k += group) {
                vi d = vi_dot_i8(vb_load(code + k), x_code(x, t, k));
                for (int i = k + 32; i < k + group; i += 32)
                    d = vi_add(d, vi_dot_i8(vb_load(code + i), x_code(x, t, i)));
                sum = vf_fma(vf_from_i32(d), vf_set1(scale[k / group]), sum);
            }
        }
        if (min) {
            vs s = x_sum(x, t);
            sum = vf_fnma(vf_from_first8(s), vf_load(min16), sum);
            sum = vf_fnma(vf_from_last8(s), vf_load(min16 + 8), sum);
        }
        vf_store(acc[t], vf_fma(sum, x_scale(x, t), vf_load(acc[t])));
    }
}

static void dot_codes(const int8_t *code, const float *scale, const float *min, int group, const sr_x8 *x,
                      int64_t block, float (*acc)[8]) {
    v_x at = {x->code + block * SR_KC, x->sum + block * (SR_KC / SR_SUM), x->scale + block, x->n_block};
    if (x->T == 1) dot_codes_t(code, scale, min, group, at, acc, 1);
    if (x->T == 2) dot_codes_t(code, scale, min, group, at, acc, 2);
    if (x->T == 3) dot_codes_t(code, scale, min, group, at, acc, 3);
    if (x->T == 4) dot_codes_t(code, scale, min, group, at, acc, 4);
}

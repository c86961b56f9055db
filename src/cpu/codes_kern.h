/* What unpacked codes need: the product with x that serves every format of int8 tiles for few tokens without a dot of
 * its own, and the coarse panel of those without a panel of their own. */

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
    v_x at = {x->code + block * SR_KC, x->sum + block * (SR_KC / SR_SUM), x->scale + block, x->n_block, NULL};
    if (x->T == 1) dot_codes_t(code, scale, min, group, at, acc, 1);
    if (x->T == 2) dot_codes_t(code, scale, min, group, at, acc, 2);
    if (x->T == 3) dot_codes_t(code, scale, min, group, at, acc, 3);
    if (x->T == 4) dot_codes_t(code, scale, min, group, at, acc, 4);
}

/* sr_panel_coarse of one block: the same codes and scale to the bit. n columns, a multiple of 16; the rest is zeroed.
 */
static void coarse_codes(const int8_t *code, const float *scale, const float *min, int group, int n, int8_t *out,
                         float *out_scale) {
    float v[SR_KC];
    vf most = vf_set1(0), odd = vf_set1(0);
    for (int k = 0; k < n; k += 16) {
        vs c = vs_from_i8(code + k);
        vf s = vf_set1(scale[k / group]), m = vf_set1(min ? min[k / group] : 0);
        vf a = vf_sub(vf_mul(s, vf_from_first8(c)), m), b = vf_sub(vf_mul(s, vf_from_last8(c)), m);
        vf_store(v + k, a);
        vf_store(v + k + 8, b);
        most = vf_max(vf_max(vf_abs(a), vf_abs(b)), most);
        odd = vf_fma(a, vf_set1(0), odd); /* NaN once there is anything not finite */
        odd = vf_fma(b, vf_set1(0), odd);
    }
    for (int k = n; k < SR_KC; k++) v[k] = 0;
    float max = vf_reduce_max(most), inverse = max > 0 ? 127 / max : 0;
    if (!isfinite(inverse)) inverse = 0;
    *out_scale = max / 127;
    if (vf_sum(odd) != 0) {
        *out_scale = NAN;
        memset(out, 0, SR_KC);
        return;
    }
    const vf by = vf_set1(inverse);
    for (int k = 0; k < SR_KC; k += 32) {
        vb p = vb_pack4(vi_nearest(vf_mul(vf_load(v + k), by)), vi_nearest(vf_mul(vf_load(v + k + 8), by)),
                        vi_nearest(vf_mul(vf_load(v + k + 16), by)), vi_nearest(vf_mul(vf_load(v + k + 24), by)));
        vb_store(out + k, vb_in_order(p));
    }
}

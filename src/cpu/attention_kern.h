/* One chunk of attention, written once in the f32 vocabulary. */

/* out[j] = q . k[j] for keys 0 .. n_key, several query rows at once so that a converted key serves all of them. */
static void scores(const float *const *q, int n_q, const uint16_t *k, int n_key, int hd,
                   float *out /* [n_q][SR_KV_PAGE] */) {
    for (int i = 0; i < n_q; i += 4) {
        const float *q0 = q[i], *q1 = i + 1 < n_q ? q[i + 1] : q0, *q2 = i + 2 < n_q ? q[i + 2] : q0,
                    *q3 = i + 3 < n_q ? q[i + 3] : q0;
        int rows = n_q - i < 4 ? n_q - i : 4;
        for (int j = 0; j < n_key; j++) {
            const uint16_t *key = k + (int64_t)j * hd;
            vf s0 = vf_set1(0), s1 = s0, s2 = s0, s3 = s0;
            int d = 0;
            for (; d + 8 <= hd; d += 8) {
                vf v = vf_from_f16(key + d);
                s0 = vf_fma(v, vf_load(q0 + d), s0), s1 = vf_fma(v, vf_load(q1 + d), s1);
                s2 = vf_fma(v, vf_load(q2 + d), s2), s3 = vf_fma(v, vf_load(q3 + d), s3);
            }
            float r[4] = {vf_sum(s0), vf_sum(s1), vf_sum(s2), vf_sum(s3)};
            for (; d < hd; d++) {
                float v = sr_f16_to_f32(key[d]);
                r[0] += v * q0[d], r[1] += v * q1[d], r[2] += v * q2[d], r[3] += v * q3[d];
            }
            for (int t = 0; t < rows; t++) out[(i + t) * SR_KV_PAGE + j] = r[t];
        }
    }
}

/* o += p[j] * v[j] over keys lo .. hi */
static void weigh(const float *p, const uint16_t *v, int lo, int hi, int hd, float *o) {
    for (int d = 0; d < hd; d += 8) {
        if (d + 8 > hd) {
            for (int j = lo; j < hi; j++)
                for (int e = d; e < hd; e++) o[e] += p[j] * sr_f16_to_f32(v[(int64_t)j * hd + e]);
            break;
        }
        vf sum = vf_load(o + d);
        for (int j = lo; j < hi; j++) sum = vf_fma(vf_set1(p[j]), vf_from_f16(v + (int64_t)j * hd + d), sum);
        vf_store(o + d, sum);
    }
}

static void attend_chunk(const float *const *q, int n_q, const uint16_t *k, const uint16_t *v, int n_key, int hd,
                         const int *lo, const int *hi, float cap, float *m, float *s, float *o, float *scratch) {
    float *score = scratch; /* [n_q][SR_KV_PAGE] */
    scores(q, n_q, k, n_key, hd, score);
    for (int i = 0; i < n_q; i++) {
        float *row = score + i * SR_KV_PAGE, top = -INFINITY;
        int from = lo[i], to = hi[i];
        if (from >= to) continue;
        if (cap > 0)
            for (int j = from; j < to; j++) row[j] = cap * tanhf(row[j] / cap);
        for (int j = from; j < to; j++) top = row[j] > top ? row[j] : top;
        float max = m[i] > top ? m[i] : top, keep = m[i] == -INFINITY ? 0 : expf(m[i] - max);
        float total = 0;
        for (int j = from; j < to; j += 8) {
            int n = to - j < 8 ? to - j : 8;
            float buf[8];
            vf_store(buf, exp_vf(vf_sub(load_tail(row + j, n), vf_set1(max))));
            for (int e = 0; e < n; e++) {
                row[j + e] = buf[e];
                total += buf[e];
            }
        }
        s[i] = s[i] * keep + total;
        m[i] = max;
        float *out = o + (int64_t)i * hd;
        for (int d = 0; d < hd; d++) out[d] *= keep;
        weigh(row, v, from, to, hd, out);
    }
}

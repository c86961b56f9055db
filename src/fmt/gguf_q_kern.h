/* Fast panels and dots of GGUF's first generation (gguf_q.c), written once in the vocabulary of cpu/simd_x86.h. A block
 * has 32 columns and one f16 scale at its start; 8 of them meet one block of x. */

/* ---------------------------------------------------------------- codes of 32 columns, unsigned */

V_INLINE vb q4_0_codes(const uint8_t *b) {
    return vb_nibbles(b + SR_Q4_0_QS);
}
V_INLINE vb q4_1_codes(const uint8_t *b) {
    return vb_nibbles(b + SR_Q4_1_QS);
}
V_INLINE vb q5_0_codes(const uint8_t *b) {
    return vb_or(vb_nibbles(b + SR_Q5_0_QS), vb_bits(b + SR_Q5_0_QH, 16));
}
V_INLINE vb q5_1_codes(const uint8_t *b) {
    return vb_or(vb_nibbles(b + SR_Q5_1_QS), vb_bits(b + SR_Q5_1_QH, 16));
}
V_INLINE vb q8_0_codes(const uint8_t *b) {
    return vb_load(b + SR_Q8_0_QS);
}

/* ---------------------------------------------------------------- dots
 * codes . x of 32 columns is exact; its products with the scale are added in f32, and the scale of x comes last. */

/* 8 sums of 32 columns of x, times m. */
V_INLINE vi sums32(v_x x, int t, int m) {
    return vi_madd(x_sum(x, t), vs_set1(m));
}

/* sum + scale * (code . x + start), 32 columns from k on. */
V_INLINE vf q_column(vf sum, vb code, vf scale, vi start, v_x x, int t, int k) {
    return vf_fma(vf_from_i32(vi_dot_u6(start, code, x_code(x, t, k))), scale, sum);
}

/* w = d * (code - offset), or d * code + m with m at m_at of the block */
V_INLINE vf4 q_block(const uint8_t *b, v_x x, vf4 acc, const int T, vb (*codes)(const uint8_t *b), const int bytes,
                     const int offset, const int m_at) {
    float d[8];
    int32_t start[4][8]; /* -offset * (the sum of x) of each group */
    vf4 sum = vf4_zero();
    vf_spill(d, vf_gather_f16(b, bytes));
    vi_store(start[0], sums32(x, 0, -offset));
    if (T > 1) vi_store(start[1], sums32(x, 1, -offset));
    if (T > 2) vi_store(start[2], sums32(x, 2, -offset));
    if (T > 3) vi_store(start[3], sums32(x, 3, -offset));
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        vb c = codes(b + g * bytes);
        vf s = vf_set1(d[g]);
        int k = 32 * g;
        sum.t0 = q_column(sum.t0, c, s, offset ? vi_first(&start[0][g]) : vi_zero(), x, 0, k);
        if (T > 1) sum.t1 = q_column(sum.t1, c, s, offset ? vi_first(&start[1][g]) : vi_zero(), x, 1, k);
        if (T > 2) sum.t2 = q_column(sum.t2, c, s, offset ? vi_first(&start[2][g]) : vi_zero(), x, 2, k);
        if (T > 3) sum.t3 = q_column(sum.t3, c, s, offset ? vi_first(&start[3][g]) : vi_zero(), x, 3, k);
    }
    if (m_at) {
        vf m = vf_gather_f16(b + m_at, bytes);
        sum.t0 = vf_fma(m, vf_from_i32(sums32(x, 0, 1)), sum.t0);
        if (T > 1) sum.t1 = vf_fma(m, vf_from_i32(sums32(x, 1, 1)), sum.t1);
        if (T > 2) sum.t2 = vf_fma(m, vf_from_i32(sums32(x, 2, 1)), sum.t2);
        if (T > 3) sum.t3 = vf_fma(m, vf_from_i32(sums32(x, 3, 1)), sum.t3);
    }
    return add_scaled_x(acc, sum, x, T);
}

V_INLINE vf4 q4_0_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return q_block(b, x, acc, T, q4_0_codes, SR_Q4_0_BYTES, 8, 0);
}
V_INLINE vf4 q4_1_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return q_block(b, x, acc, T, q4_1_codes, SR_Q4_1_BYTES, 0, SR_Q4_1_M);
}
V_INLINE vf4 q5_0_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return q_block(b, x, acc, T, q5_0_codes, SR_Q5_0_BYTES, 16, 0);
}
V_INLINE vf4 q5_1_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return q_block(b, x, acc, T, q5_1_codes, SR_Q5_1_BYTES, 0, SR_Q5_1_M);
}
V_INLINE vf4 q8_0_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    float d[8];
    vf4 sum = vf4_zero();
    vf_spill(d, vf_gather_f16(b, SR_Q8_0_BYTES));
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        vb c = q8_0_codes(b + g * SR_Q8_0_BYTES);
        vf s = vf_set1(d[g]);
        sum.t0 = vf_fma(vf_from_i32(vi_dot_i8(c, x_code(x, 0, 32 * g))), s, sum.t0);
        if (T > 1) sum.t1 = vf_fma(vf_from_i32(vi_dot_i8(c, x_code(x, 1, 32 * g))), s, sum.t1);
        if (T > 2) sum.t2 = vf_fma(vf_from_i32(vi_dot_i8(c, x_code(x, 2, 32 * g))), s, sum.t2);
        if (T > 3) sum.t3 = vf_fma(vf_from_i32(vi_dot_i8(c, x_code(x, 3, 32 * g))), s, sum.t3);
    }
    return add_scaled_x(acc, sum, x, T);
}

static void dot_q4_0(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 32, SR_Q4_0_BYTES, q4_0_block);
}
static void dot_q4_1(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 32, SR_Q4_1_BYTES, q4_1_block);
}
static void dot_q5_0(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 32, SR_Q5_0_BYTES, q5_0_block);
}
static void dot_q5_1(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 32, SR_Q5_1_BYTES, q5_1_block);
}
static void dot_q8_0(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 32, SR_Q8_0_BYTES, q8_0_block);
}

/* ---------------------------------------------------------------- panels */

V_INLINE void q_panel(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min,
                      vb (*codes)(const uint8_t *b), const int bytes, const int offset, const int m_at) {
    const uint8_t *b = w->plane[0].data + row * w->plane[0].stride + k0 / 32 * bytes;
    int64_t groups = n / 32, g = 0;
    for (; g + 8 <= groups; g += 8) {
        vf_store(scale + g, vf_gather_f16(b + g * bytes, bytes));
        if (m_at) vf_store(min + g, vf_neg(vf_gather_f16(b + g * bytes + m_at, bytes)));
    }
    for (; g < groups; g++) {
        scale[g] = v_f16(b + g * bytes);
        if (m_at) min[g] = -v_f16(b + g * bytes + m_at);
    }
    for (g = 0; g < groups; g++) {
        vb c = codes(b + g * bytes);
        vb_store(code + 32 * g, offset ? vb_sub(c, vb_set1(offset)) : c);
    }
}

static void panel_q4_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    q_panel(w, row, k0, n, code, scale, min, q4_0_codes, SR_Q4_0_BYTES, 8, 0);
}
static void panel_q4_1(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    q_panel(w, row, k0, n, code, scale, min, q4_1_codes, SR_Q4_1_BYTES, 0, SR_Q4_1_M);
}
static void panel_q5_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    q_panel(w, row, k0, n, code, scale, min, q5_0_codes, SR_Q5_0_BYTES, 16, 0);
}
static void panel_q5_1(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    q_panel(w, row, k0, n, code, scale, min, q5_1_codes, SR_Q5_1_BYTES, 0, SR_Q5_1_M);
}
static void panel_q8_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    q_panel(w, row, k0, n, code, scale, min, q8_0_codes, SR_Q8_0_BYTES, 0, 0);
}

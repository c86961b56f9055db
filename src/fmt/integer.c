/* Decode and unpack of w = scale * (q - z). See integer.h. */
#include "fmt/integer.h"

static float scale_of(const sr_weight *w, int64_t row, int64_t g) {
    const sr_integer *a = w->aux;
    return sr_plane_float(w, SR_INTEGER_SCALES, a->scale_at ? a->scale_at(w, row, g) : g * w->N + row);
}

/* q - z is exact, and so is its product with a scale of 16 bits: every order of operations gives the same bits. */
void sr_integer_decode(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const sr_integer *a = w->aux;
    uint8_t q[SR_KC];
    int64_t group = -1;
    float scale = 0;
    int zero = 0;
    for (int64_t i = 0; i < n; i += SR_KC) {
        int m = n - i < SR_KC ? (int)(n - i) : SR_KC;
        a->codes(w, row, k0 + i, m, q);
        for (int j = 0; j < m; j++) {
            int64_t k = k0 + i + j, g = a->g_idx ? a->g_idx[k] : k / w->spec.group;
            if (g != group) {
                group = g;
                scale = scale_of(w, row, g);
                zero = a->zero(w, row, g);
            }
            out[i + j] = scale * (float)(q[j] - zero);
        }
    }
}

void sr_integer_unpack(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const sr_integer *a = w->aux;
    uint8_t q[SR_KC];
    for (int64_t i = 0; i < n; i += w->group) {
        int m = n - i < w->group ? (int)(n - i) : w->group;
        int64_t g = (k0 + i) / w->spec.group;
        int zero = a->zero(w, row, g);
        *scale = scale_of(w, row, g);
        if (w->fmt->has_min) {
            *min++ = *scale * (float)(zero - 128);
            zero = 128;
        }
        scale++;
        a->codes(w, row, k0 + i, m, q);
        for (int j = 0; j < m; j++) code[i + j] = (int8_t)(q[j] - zero);
    }
}

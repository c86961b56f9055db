/* Round to nearest: one row at a time, no activations, every writable format. */
#include <math.h>
#include <string.h>

#include "fmt/fmt.h"
#include "fmt/write_kern.h"

bool sr_format_writable(const sr_format *fmt) {
    return fmt->encode || (fmt->fit && fmt->snap && fmt->store);
}

/* Mean square in double; what is not finite counts as the encoders take it (fmt.h). */
static float row_mean_square(const float *w, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = sr_weight_finite(w[i]);
        sum += v * v;
    }
    return (float)(sum / (double)n);
}

int64_t sr_weight_unit(const sr_weight *w) {
    int64_t group = w->spec.group < 0 ? w->K : w->spec.group;
    return group > w->fmt->block ? group : w->fmt->block;
}

sr_encoder sr_weight_encoder(const sr_weight *w) {
    const sr_format *f = w->fmt;
    sr_encoder e = w->encoder ? *w->encoder : (sr_encoder){0};
    if (!e.fit) e.fit = f->fit;
    if (!e.snap) e.snap = f->snap;
    if (!e.store) e.store = f->store;
    if (!e.encode) e.encode = f->encode;
    return e;
}

/* The unit under the scale that its source has for it, where every weight stays what it is to the bit. */
static bool held(sr_weight *w, const sr_encoder *by, const sr_fit *in, const sr_source *from) {
    const int64_t piece = SR_KC / w->fmt->block * w->fmt->block;
    int8_t code[SR_KC];
    float back[SR_KC], scale, min;
    sr_grid grid;
    int low;
    sr_mxfp4 bits;
    if (w->fmt->put_mxfp4 && from && from->mxfp4 && from->mxfp4(from->ctx, in->row, in->k0, &bits)) {
        w->fmt->put_mxfp4(w, in->row, in->k0, &bits);
        return true;
    }
    if (!w->fmt->hold || !from || !from->grid || !from->grid(from->ctx, in->row, in->k0, in->n, &scale, &min, &low))
        return false;
    /* Codes as they are, from 0 on, or the middle code 0: 8 * scale needs no more bits than the scale, 7 * scale may.
     */
    for (int t = 0; t < 3; t++) {
        const float half = t == 2 ? (float)((grid.hi - grid.lo + 1) / 2) : 0;
        w->fmt->hold(in, scale, t == 1 ? min - scale * (float)low : min + scale * half, &grid);
        bool same = true;
        for (int pass = 0; pass < 2 && same; pass++)
            for (int64_t i = 0; i < in->n && same; i += piece) {
                const int m = (int)(in->n - i < piece ? in->n - i : piece);
                by->snap(&grid, (int)i, m, in->x + i, code, back);
                for (int j = 0; j < m; j++) same = same && back[j] == in->x[i + j];
                if (pass) by->store(w, in->row, in->k0 + i, m, &grid, code);
            }
        if (same) return true;
    }
    return false;
}

void sr_rtn_rows_of(sr_weight *w, int64_t row0, int64_t n, const float *src, const float *importance,
                    const sr_source *from) {
    const sr_encoder by = sr_weight_encoder(w);
    const int64_t unit = sr_weight_unit(w), piece = SR_KC / w->fmt->block * w->fmt->block;
    const bool may_hold = from && ((w->fmt->hold && from->grid) || (w->fmt->put_mxfp4 && from->mxfp4));
    int8_t code[SR_KC];
    float back[SR_KC];
    sr_grid grid;
    for (int64_t row = row0; row < row0 + n; row++, src += w->K) {
        const bool whole = by.encode && (!importance || !by.fit); /* the row by the reference's rule, or held */
        const float row_ms = whole ? 0 : row_mean_square(src, w->K);
        bool all_held = may_hold;
        for (int64_t k0 = 0; k0 < w->K && (all_held || !whole); k0 += unit) {
            int64_t cols = w->K - k0 < unit ? w->K - k0 : unit;
            sr_fit in = {w, row, k0, (int)cols, src + k0, importance ? importance + k0 : NULL, row_ms};
            if (may_hold && held(w, &by, &in, from)) continue;
            all_held = false;
            if (whole) break;
            by.fit(&in, &grid);
            for (int64_t i = 0; i < cols; i += piece) {
                int m = (int)(cols - i < piece ? cols - i : piece);
                by.snap(&grid, (int)i, m, src + k0 + i, code, back);
                by.store(w, row, k0 + i, m, &grid, code);
            }
        }
        if (whole && !all_held) by.encode(w, row, src, importance);
    }
}

void sr_rtn_rows(sr_weight *w, int64_t row0, int64_t n, const float *src, const float *importance) {
    sr_rtn_rows_of(w, row0, n, src, importance, NULL);
}

/* Shared slot: codes are evenly spaced. */
void sr_snap_affine(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    snap_affine(grid, i0, n, w, code, back);
}

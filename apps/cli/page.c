/* The page of compare: one HTML file with its drawings inline. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/compare.h"

/* Told apart on light and dark ground. */
static const char *const colors[] = {"#3b82c4", "#e07b39", "#3a9d5d", "#c9485b", "#8a63c9", "#a8763e",
                                     "#d665a6", "#6b7a8f", "#8f9a1d", "#18a5a5", "#5a5fe0", "#b08900"};
enum { N_COLORS = sizeof colors / sizeof *colors };

static void add(out_text *t, const char *fmt, ...) SR_PRINTF(2, 3);
static void add(out_text *t, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n > 0) out_text_add(t, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
}

/* Names come from files: as text, whatever they hold. */
static void add_name(out_text *t, const char *name) {
    out_text visible = {0};
    out_text_add_visible(&visible, name, strlen(name), false);
    for (size_t i = 0; i < visible.n; i++) {
        const char c = visible.at[i];
        if (c == '<' || c == '>' || c == '&' || c == '"')
            add(t, "&#%d;", c);
        else
            out_text_add(t, &c, 1);
    }
    out_text_free(&visible);
}

static void add_label(out_text *t, const compared *x) {
    add_name(t, x->name);
    if (!x->isq) return;
    add(t, ", ");
    add_name(t, x->isq);
}

/* ---------------------------------------------------------------- axes */

/* A drawing's frame in pixels, and the ranges that its sides stand for. */
typedef struct frame {
    double left, right, top, bottom, x0, x1, y0, y1;
} frame;

static double at_x(const frame *f, double x) {
    return f->left + (x - f->x0) / (f->x1 - f->x0) * (f->right - f->left);
}
static double at_y(const frame *f, double y) {
    return f->bottom - (y - f->y0) / (f->y1 - f->y0) * (f->bottom - f->top);
}

/* 1, 2 or 5 times a power of ten: about `n` steps in a range. */
static double nice_step(double range, int n) {
    double step = pow(10, floor(log10(range / n)));
    while (range / step > n) step *= range / (step * 2) <= n ? 2 : range / (step * 5) <= n ? 5 : 10;
    return step;
}

static void grid_x(out_text *t, const frame *f, double step, const char *fmt) {
    for (double x = ceil(f->x0 / step) * step; x <= f->x1 + step * 1e-6; x += step) {
        char text[32];
        snprintf(text, sizeof text, strcmp(fmt, "g") == 0 ? "%g" : "1e%g", fabs(x) < step * 1e-6 ? 0 : x);
        add(t, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", at_x(f, x),
            f->bottom + 16, text);
    }
}

static void grid_y(out_text *t, const frame *f, double step, const char *fmt) {
    for (double y = ceil(f->y0 / step) * step; y <= f->y1 + step * 1e-6; y += step) {
        char text[32];
        snprintf(text, sizeof text, strcmp(fmt, "g") == 0 ? "%g" : "1e%g", fabs(y) < step * 1e-6 ? 0 : y);
        add(t, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", f->left, f->right,
            at_y(f, y), at_y(f, y));
        add(t, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", f->left - 6,
            at_y(f, y) + 4, text);
    }
}

static void titles(out_text *t, const frame *f, const char *x, const char *y) {
    add(t, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", (f->left + f->right) / 2,
        f->bottom + 34, x);
    add(t, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", 4.0, f->top - 10, y);
}

/* ---------------------------------------------------------------- drawings */

/* Divergence against size. A divergence of zero has no logarithm: such a model stands on the floor, hollow. */
static void draw_quality(out_text *t, const comparison *c) {
    frame f = {.left = 56, .right = 740, .top = 30, .bottom = 300, .y0 = 0, .y1 = 0};
    struct label {
        double x, y, width;
    } placed[MOST_CANDIDATES];
    double most = (double)c->a.bytes;
    bool any = false;
    for (int i = 0; i < c->n; i++) {
        const double kld = score_mean(&c->candidate[i].score.kld);
        most = fmax(most, (double)c->candidate[i].bytes);
        if (!(kld > 0)) continue;
        f.y0 = any ? fmin(f.y0, floor(log10(kld))) : floor(log10(kld));
        f.y1 = any ? fmax(f.y1, ceil(log10(kld))) : ceil(log10(kld));
        any = true;
    }
    for (int i = 0; i < c->n; i++)
        if (score_mean(&c->candidate[i].score.kld) <= 0) {
            f.y0 -= 1; /* room for the floor */
            break;
        }
    if (f.y1 <= f.y0) f.y1 = f.y0 + 1;
    const double mib = 1024 * 1024;
    f.x1 = fmax(most / mib * 1.08, 1e-3);
    add(t, "<svg viewBox=\"0 0 780 345\" role=\"img\"><title>Divergence against size</title>\n");
    grid_y(t, &f, 1, "e");
    grid_x(t, &f, nice_step(f.x1, 8), "g");
    titles(t, &f, "size of the weights, MiB", "mean KLD, nats");
    const double ax = at_x(&f, (double)c->a.bytes / mib);
    add(t, "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", ax, ax, f.top, f.bottom);
    add(t, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">the reference</text>\n", ax - 5, f.top + 12);
    for (int i = 0; i < c->n; i++) {
        const compared *m = &c->candidate[i];
        const double kld = score_mean(&m->score.kld), half = 1.96 * score_stderr(&m->score.kld);
        const double x = at_x(&f, (double)m->bytes / mib), y = kld > 0 ? at_y(&f, log10(kld)) : f.bottom;
        if (kld > half && half > 0)
            add(t, "<line class=\"bar\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", x, x,
                at_y(&f, log10(kld - half)), at_y(&f, log10(kld + half)));
        add(t, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\" class=\"%s\"><title>", x, y, kld > 0 ? "dot" : "hollow");
        add_label(t, m);
        add(t, ": %.4g nats, %.2f bits a weight</title></circle>\n", kld, m->bits_per_weight);
        /* Labels that would lie over each other move apart. */
        const bool before = x > (f.left + f.right) / 2;
        struct label l = {before ? x - 8 : x + 8, y + 4,
                          6.5 * (double)(out_width(m->name) + (m->isq ? out_width(m->isq) + 2 : 0))};
        const double from = before ? l.x - l.width : l.x;
        for (int k = 0; k < i; k++)
            if (fabs(placed[k].y - l.y) < 13 && from < placed[k].x + placed[k].width && placed[k].x < from + l.width) {
                l.y = placed[k].y - 13;
                k = -1;
            }
        placed[i] = (struct label){from, l.y, l.width};
        add(t, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", l.x, l.y, before ? "end" : "start");
        add_label(t, m);
        add(t, "</text>\n");
    }
    add(t, "</svg>\n");
}

static void draw_line(out_text *t, const frame *f, const compared *x, const char *role, int n_layer, int color) {
    bool open = false;
    for (int l = 0; l < n_layer; l++) {
        const double e = compare_error(x, role, l);
        if (isfinite(e)) {
            if (!open) add(t, "<polyline class=\"line\" stroke=\"%s\" points=\"", colors[color % N_COLORS]);
            add(t, "%.1f,%.1f ", at_x(f, l), at_y(f, 100 * e));
        } else if (open)
            add(t, "\"/>\n");
        open = isfinite(e);
    }
    if (open) add(t, "\"/>\n");
    for (int l = 0; l < n_layer; l++) {
        const double e = compare_error(x, role, l);
        if (!isfinite(e)) continue;
        add(t,
            "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.2\" fill=\"%s\"><title>%s of layer %d: %.3f %%</title></circle>\n",
            at_x(f, l), at_y(f, 100 * e), colors[color % N_COLORS], role, l, 100 * e);
    }
}

/* Error of each role's matrices, layer by layer. What was not changed is named below instead. */
static void draw_layers(out_text *t, const comparison *c, const compared *x) {
    const int n_layer = c->model.info.n_layer;
    frame f = {.left = 48, .right = 500, .top = 30, .bottom = 200, .x1 = n_layer > 1 ? n_layer - 1 : 1};
    const char *role;
    for (int r = 0; (role = compare_role(c, r)); r++)
        for (int l = 0; l < n_layer; l++) {
            const double e = compare_error(x, role, l);
            if (isfinite(e)) f.y1 = fmax(f.y1, 105 * e);
        }
    if (!(f.y1 > 0)) f.y1 = 1;
    add(t, "<figure><svg viewBox=\"0 0 520 240\" role=\"img\"><title>Error by layer</title>\n");
    grid_y(t, &f, nice_step(f.y1, 5), "g");
    grid_x(t, &f, fmax(1, nice_step(f.x1, 10)), "g");
    titles(t, &f, "layer", "relative rms error, %");
    for (int r = 0; (role = compare_role(c, r)); r++)
        if (compare_error(x, role, -2) > 0) draw_line(t, &f, x, role, n_layer, r);
    add(t, "</svg>\n<figcaption>");
    int same = 0;
    for (int r = 0; (role = compare_role(c, r)); r++) {
        const double all = compare_error(x, role, -2), edge = compare_error(x, role, -1);
        same += all == 0;
        if (!(all > 0)) continue;
        if (isfinite(edge))
            add(t, "<span>%s %.3f %%</span> ", role, 100 * edge);
        else
            add(t, "<span><b style=\"background:%s\"></b>%s</span> ", colors[r % N_COLORS], role);
    }
    if (same) add(t, "<span>unchanged:");
    for (int r = 0; (role = compare_role(c, r)); r++)
        if (compare_error(x, role, -2) == 0) add(t, " %s", role);
    add(t, "%s</figcaption></figure>\n", same ? "</span>" : "");
}

/* How the tokens' divergences are spread. */
static void draw_histogram(out_text *t, const score *s) {
    enum { LEAST = -8, MOST = 2, EACH = 4, BINS = (MOST - LEAST) * EACH };
    int64_t bin[BINS] = {0}, most = 1;
    for (int64_t i = 0; i < s->kld.n; i++) {
        const double at = s->each[i] > 0 ? (log10((double)s->each[i]) - LEAST) * EACH : 0;
        const int b = at < 0 ? 0 : at >= BINS ? BINS - 1 : (int)at;
        if (++bin[b] > most) most = bin[b];
    }
    const double total = (double)s->kld.n;
    frame f = {48, 500, 30, 200, LEAST, MOST, 0, 105.0 * (double)most / total};
    add(t, "<figure><svg viewBox=\"0 0 520 240\" role=\"img\"><title>Divergence of the tokens</title>\n");
    grid_y(t, &f, nice_step(f.y1, 5), "g");
    grid_x(t, &f, 1, "e");
    titles(t, &f, "KLD of a token, nats", "tokens, %");
    for (int b = 0; b < BINS; b++) {
        if (!bin[b]) continue;
        const double x0 = LEAST + (double)b / EACH, share = 100 * (double)bin[b] / total, y = at_y(&f, share);
        add(t,
            "<rect class=\"dot\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>%.2g to %.2g: %.2f %% of "
            "the tokens</title></rect>\n",
            at_x(&f, x0) + 0.5, y, at_x(&f, x0 + 1.0 / EACH) - at_x(&f, x0) - 1, f.bottom - y, pow(10, x0),
            pow(10, x0 + 1.0 / EACH), share);
    }
    add(t, "</svg>\n<figcaption><span>median %.3g, 99 %% below %.3g, largest %.3g</span></figcaption></figure>\n",
        score_quantile(s, 0.5), score_quantile(s, 0.99), score_quantile(s, 1));
}

/* ---------------------------------------------------------------- the page */

static const char style[] =
    ":root{--ink:#1f2328;--soft:#5f6b76;--line:#d9dee3;--ground:#fff;--mark:#3b82c4}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e3e7eb;--soft:#98a3ae;--line:#353c44;--ground:#15191e}}\n"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:1080px;margin:2em "
    "auto;padding:0 1em}\n"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .5em}h3{font-size:1em;margin:1.6em 0 .2em}\n"
    "p,figcaption{color:var(--soft)}div.wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.3em .7em;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\n"
    "th:first-child,td:first-child,.left{text-align:left}th{color:var(--soft);font-weight:600}\n"
    "svg{width:100%;height:auto;display:block}figure{margin:0}div.pair{display:grid;gap:1em;"
    "grid-template-columns:repeat(auto-fit,minmax(20em,1fr))}\n"
    "figcaption{font-size:.85em}figcaption span{margin-right:.8em;white-space:nowrap}figcaption b{display:inline-block;"
    "width:.8em;height:.8em;margin-right:.3em;border-radius:2px}\n"
    ".tick,.axis,.name{font-size:11px;fill:var(--soft)}.name{fill:var(--ink)}.grid{stroke:var(--line)}\n"
    ".mark{stroke:var(--soft);stroke-dasharray:4 3}.bar{stroke:var(--mark);stroke-width:1.5}\n"
    ".dot{fill:var(--mark)}.hollow{fill:var(--ground);stroke:var(--mark);stroke-width:2}\n"
    ".line{fill:none;stroke-width:1.6;stroke-linejoin:round}\n";

static void add_table(out_text *t, const comparison *c) {
    char size[OUT_NUMBER];
    double error, half;
    add(t, "<div class=\"wide\"><table><thead><tr><th>model</th><th class=\"left\">type</th><th>size</th><th>bits a "
           "weight</th><th>perplexity</th><th>change</th><th>mean KLD</th><th>95 %%</th><th>99 %% below</th>"
           "<th>largest</th><th>same top</th></tr></thead><tbody>\n");
    for (int i = -1; i < c->n; i++) {
        const compared *x = i < 0 ? &c->a : &c->candidate[i];
        const score *s = i < 0 ? &c->candidate[0].score : &x->score;
        add(t, "<tr><td>");
        add_name(t, x->name);
        add(t, "</td><td class=\"left\">");
        add_name(t, x->type);
        add(t, "</td><td>%s</td><td>%.2f</td><td>%.4f</td>", out_size(size, (double)x->bytes), x->bits_per_weight,
            score_perplexity(i < 0 ? &s->reference_nll : &s->nll, &error));
        if (i < 0) {
            add(t, "<td></td><td></td><td></td><td></td><td></td><td></td></tr>\n");
            continue;
        }
        const double change = compare_change(s, &half), mean = score_mean(&s->kld),
                     width = 1.96 * score_stderr(&s->kld);
        add(t, "<td>%+.3f&#8239;%% &#177; %.3f</td><td>%.4g</td><td>%.3g &#8211; %.3g</td>", 100 * change, 100 * half,
            mean, fmax(mean - width, 0), mean + width);
        add(t, "<td>%.4g</td><td>%.4g</td><td>%.2f&#8239;%%</td></tr>\n", score_quantile(s, 0.99), score_quantile(s, 1),
            100 * (double)s->n_same_top / (double)s->kld.n);
    }
    add(t, "</tbody></table></div>\n");
}

static void add_errors(out_text *t, const comparison *c) {
    const char *role;
    if (!compare_role(c, 0)) return;
    add(t, "<h2>Error of the matrices, relative rms in %%</h2>\n<div class=\"wide\"><table><thead><tr><th></th>");
    for (int i = 0; i < c->n; i++) {
        add(t, "<th>");
        add_label(t, &c->candidate[i]);
        add(t, "</th>");
    }
    add(t, "</tr></thead><tbody>\n");
    for (int r = -1; r < 0 || compare_role(c, r); r++) {
        role = r < 0 ? NULL : compare_role(c, r);
        add(t, "<tr><td>%s</td>", role ? role : "all");
        for (int i = 0; i < c->n; i++) {
            const double e = compare_error(&c->candidate[i], role, -2);
            if (isfinite(e))
                add(t, "<td>%.3f</td>", 100 * e);
            else
                add(t, "<td>-</td>");
        }
        add(t, "</tr>\n");
    }
    add(t, "</tbody></table></div>\n");
}

out_text compare_page(const comparison *c) {
    out_text t = {0};
    add(&t, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n<meta name=\"viewport\" "
            "content=\"width=device-width,initial-scale=1\"/>\n<title>What quantizing cost: ");
    add_name(&t, c->a.name);
    add(&t, "</title>\n<style>\n");
    out_text_add(&t, style, sizeof style - 1);
    add(&t, "</style></head><body>\n<h1>What quantizing cost: ");
    add_name(&t, c->a.name);
    add(&t, "</h1>\n<p>%lld tokens of ", (long long)c->candidate[0].score.kld.n);
    char name[256];
    add_name(&t, open_name(c->args->text, name, sizeof name));
    add(&t,
        ", %lld windows of %d. KLD is the divergence of each model's predictions from those of the first, in nats; "
        "ranges are 95 %% confidence intervals, changes of perplexity those of the same tokens. Sirocco " SR_VERSION
        ", %s.</p>\n",
        (long long)c->text.n_windows, c->text.n_ctx, c->args->exact ? "exact arithmetic" : "fast arithmetic");
    add_table(&t, c);
    add(&t, "<h2>Divergence against size</h2>\n");
    draw_quality(&t, c);
    add_errors(&t, c);
    add(&t, "<h2>Model by model</h2>\n");
    for (int i = 0; i < c->n; i++) {
        const compared *x = &c->candidate[i];
        add(&t, "<h3>");
        add_label(&t, x);
        add(&t, "</h3>\n<div class=\"pair\">\n");
        if (x->n_matrices) draw_layers(&t, c, x);
        draw_histogram(&t, &x->score);
        add(&t, "</div>\n");
    }
    add(&t, "</body></html>\n");
    return t;
}

/* Carrying out a plan: tensors are written one after the other into files of their final size, in a directory beside
 * the result that is renamed when all is done. A journal there says what is complete, so that another run can go on. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/digest.h"
#include "base/disk.h"
#include "base/map.h"
#include "base/path.h"
#include "base/pool.h"
#include "core/core.h"
#include "quant/algebra.h"
#include "quant/quant.h"

enum { SYNC_EVERY = 32 << 20, SAMPLES = 3, LINE = 64 };

struct run {
    sr_quantizer *q;
    char *stage, *journal_path;
    char **path; /* [n_out] */
    sr_slab *slab;
    sr_sink journal;
    int64_t unsynced;
    int *waiting; /* jobs that are written and not in the journal yet */
    int n_waiting;
    bool *done; /* [n_jobs] */
    sr_calibration *calibration;
    sr_err *err;
};

/* ---------------------------------------------------------------- the journal */

/* What a run must have in common with the one that it goes on from. */
static void identity(const sr_quantizer *q, char hex[SR_DIGEST_HEX]) {
    sr_digest d = sr_sha256();
    sr_digest_add(&d, SR_VERSION, sizeof SR_VERSION);
    sr_digest_add(&d, q->target.text, strlen(q->target.text) + 1);
    sr_digest_add(&d, &q->method, sizeof q->method);
    if (q->calibration.ids) {
        sr_digest_add(&d, &q->damp, sizeof q->damp);
        sr_digest_add(&d, &q->calibration.n_ctx, sizeof q->calibration.n_ctx);
        sr_digest_add(&d, q->calibration.ids,
                      (size_t)(q->calibration.n_windows * q->calibration.n_ctx) * sizeof *q->calibration.ids);
    }
    for (int f = 0; f < q->n_out; f++) sr_digest_add(&d, q->out[f].content.head, q->out[f].content.n_head);
    sr_digest_source(q, &d);
    sr_digest_hex(&d, hex);
}

/* Lines "job error" behind the identity; a last line that was cut off does not count. *other: it is of another
 * conversion. Where a run ended before its first line or after its last, there is no journal, and nothing to keep. */
static sr_status read_journal(struct run *r, const char *hex, bool *known, bool *other, sr_err *err) {
    sr_map map;
    *known = *other = false;
    if (sr_path_look(r->journal_path) != SR_PATH_FILE) return SR_OK;
    sr_status s = sr_map_open(r->journal_path, &map, err);
    if (s != SR_OK) return s;
    const char *at = (const char *)map.data, *end = map.size ? at + map.size : at, *line;
    const size_t n = strlen(hex);
    if (map.size > n) *other = !(*known = memcmp(at, hex, n) == 0 && at[n] == '\n');
    if (*known)
        for (at += n + 1; (line = memchr(at, '\n', (size_t)(end - at))); at = line + 1) {
            char text[LINE];
            int job;
            double error;
            if ((size_t)(line - at) >= sizeof text) break;
            memcpy(text, at, (size_t)(line - at));
            text[line - at] = 0;
            if (sscanf(text, "%d %lg", &job, &error) != 2 || job < 0 || job >= r->q->n_jobs) break;
            r->done[job] = true;
            r->q->job[job].error = error;
        }
    sr_map_close(&map);
    return SR_OK;
}

static size_t journal_line(const struct run *r, int job, char line[LINE]) {
    return (size_t)snprintf(line, LINE, "%d %a\n", job, r->q->job[job].error);
}

/* Anew and whole, with what was complete before: a line that was cut off would spoil the next one. */
static sr_status begin_journal(struct run *r, const char *hex) {
    sr_buffer b = {0};
    sr_buffer_text(&b, hex);
    sr_buffer_text(&b, "\n");
    for (int i = 0; i < r->q->n_jobs; i++) {
        char line[LINE];
        if (r->done[i]) sr_buffer_add(&b, line, journal_line(r, i, line));
    }
    sr_status s = b.failed ? sr_fail(r->err, SR_NOMEM, "no memory for the journal of a conversion")
                           : sr_disk_put(r->journal_path, b.at, b.n, r->err);
    sr_buffer_free(&b);
    return s;
}

/* What is on the medium goes into the journal. */
static sr_status settle(struct run *r) {
    for (int f = 0; f < r->q->n_out; f++) {
        sr_status s = sr_slab_sync(&r->slab[f], r->path[f], r->err);
        if (s != SR_OK) return s;
    }
    for (int i = 0; i < r->n_waiting; i++) {
        char line[LINE];
        const size_t n = journal_line(r, r->waiting[i], line);
        sr_status s = sr_sink_write(&r->journal, r->journal_path, line, n, r->err);
        if (s != SR_OK) return s;
    }
    r->n_waiting = 0;
    r->unsynced = 0;
    return SR_OK;
}

/* ---------------------------------------------------------------- tensors */

static sr_status put(struct run *r, int part, const void *data, int64_t n) {
    const sr_quantizer *q = r->q;
    const int f = q->part_file[part];
    r->unsynced += n;
    return sr_slab_write(&r->slab[f], r->path[f], q->out[f].content.offset[q->part_at[part]], data, (size_t)n, r->err);
}

/* Rows of a source beside what was made of them: all, or SAMPLES from the first to the last. */
struct made {
    const sr_source *from;
    const sr_weight *w;
    bool samples;
};
static int64_t row_of(const struct made *m, int64_t i) {
    return m->samples ? i * (m->w->N - 1) / (SAMPLES - 1) : i;
}
static void row_wanted(void *ctx, int64_t i, float *out) {
    const struct made *m = ctx;
    m->from->rows(m->from->ctx, row_of(m, i), 1, out);
}
static void row_made(void *ctx, int64_t i, float *out) {
    const struct made *m = ctx;
    sr_decode_in_order(m->w, row_of(m, i), out);
}
static sr_status compare_made(struct made m, int threads, double *error, double *power, sr_err *err) {
    const sr_rows_pair p = {{row_wanted, row_made}, &m, m.samples ? SAMPLES : m.w->N, m.w->K};
    return sr_rows_compare(&p, threads, error, power, err);
}

sr_status sr_job_error(const sr_source *from, const sr_weight *w, int threads, double *error, sr_err *err) {
    double power;
    sr_status s = compare_made((struct made){from, w, false}, threads, error, &power, err);
    if (s == SR_OK) *error = power > 0 ? *error / power : 0;
    return s;
}

struct matrix_job {
    struct run *r;
    sr_job *job;
};
struct check {
    const sr_job *job;
    const sr_weight *to;
};

sr_status sr_job_importance(const sr_quantizer *q, const sr_job *j, sr_arena *arena, float **importance, int *n,
                            sr_err *err) {
    char name[SR_NAME];
    *importance = NULL;
    *n = 0;
    if (!q->importance || !sr_job_gguf_name(q, j, name)) return SR_OK;
    sr_status s = sr_imatrix_of(q->importance, name, j->K, q->h.gating.n, arena, importance, n, err);
    if (s != SR_OK) return s;
    if (j->expert >= 0 && *n > 1) { /* one of the stack's */
        if (j->expert < *n) *importance += j->expert * j->K;
        *n = 1;
    }
    if (*n > 0 && j->N % *n) *n = 1;
    return SR_OK;
}

static sr_status with_importance(const sr_quantizer *q, const sr_job *j, sr_weight *to, const sr_source *from,
                                 sr_arena *arena, sr_err *err) {
    float *importance = NULL;
    int n = 0;
    sr_status s = SR_OK;
    if (!sr_is_plain(j->fmt)) /* whose columns may be rows */
        s = sr_job_importance(q, j, arena, &importance, &n, err);
    return s == SR_OK ? sr_encode(to, from, importance, n, q->threads, err) : s;
}

/* How columns are sorted (sr_moments_factor): those of all matrices that are multiplied with the same as this one. */
static int lane_of(const sr_quantizer *q, const sr_job *job) {
    int lane = job->spec.act_order || q->target.spec.static_groups;
    for (int i = 0; i < q->n_jobs && lane; i++) {
        const sr_job *j = &q->job[i];
        if (j->fmt && j->layer == job->layer && sr_calibration_place(j->role) == sr_calibration_place(job->role))
            lane = j->fmt->lane > lane ? j->fmt->lane : lane;
    }
    return lane;
}

/* By the moments of what its rows are multiplied with, an expert after the other. */
static sr_status with_moments(struct run *r, sr_job *j, sr_weight *to, const sr_source *from, sr_err *err) {
    const sr_quantizer *q = r->q;
    const int n = sr_job_experts(q, j);
    const int64_t rows = j->N / n;
    int64_t seen = 0;
    sr_status s = SR_OK;
    for (int i = 0; i < n && s == SR_OK; i++) {
        sr_moments *m;
        s = sr_calibration_moments(r->calibration, j->layer, j->role, j->expert >= 0 ? j->expert : i, &m, err);
        if (s == SR_OK && m && m->K != j->K) m = NULL;
        if (s == SR_OK && m) s = sr_moments_factor(m, lane_of(q, j), q->damp, q->threads, err);
        if (s == SR_OK && i == 0) {
            if (m && m->order && j->spec.act_order) s = sr_weight_reorder(to, m->order, err);
            if (s == SR_OK) s = sr_encode_begin(to, from, q->threads, err);
        }
        if (s != SR_OK) break;
        seen += m ? rows : 0;
        s = m ? sr_gptq_rows(to, from, i * rows, rows, m, q->threads, err)
              : sr_encode_rows(to, from, i * rows, rows, NULL, q->threads, err);
    }
    j->seen = (double)seen / (double)j->N;
    return s;
}

/* Scaled columns, and what is left of their inputs' sizes as importance. */
static sr_status with_scales(struct run *r, sr_job *j, sr_weight *to, const sr_source *from, sr_err *err) {
    const sr_quantizer *q = r->q;
    const int n = sr_job_experts(q, j);
    const int64_t rows = j->N / n, K = j->K;
    float *importance = malloc((size_t)K * sizeof *importance);
    int64_t seen = 0;
    sr_status s = importance ? sr_encode_begin(to, from, q->threads, err)
                             : sr_fail(err, SR_NOMEM, "%s: no memory for importances", j->module);
    for (int i = 0; i < n && s == SR_OK; i++) {
        sr_moments *m;
        s = sr_calibration_moments(r->calibration, j->layer, j->role, j->expert >= 0 ? j->expert : i, &m, err);
        if (s == SR_OK && m && m->K != K) m = NULL;
        for (int64_t k = 0; k < K && s == SR_OK && m; k++) {
            const float by = j->by_col ? j->by_col[i * K + k] : 1;
            importance[k] = m->h[sr_upper(k, k)] / (by * by);
        }
        seen += m ? rows : 0;
        if (s == SR_OK) s = sr_encode_rows(to, from, i * rows, rows, m ? importance : NULL, q->threads, err);
    }
    j->seen = (double)seen / (double)j->N;
    free(importance);
    return s;
}

sr_method sr_job_method(const sr_quantizer *q, const sr_job *j, const sr_weight *to) {
    if (to->fmt->across && to->fmt->across(to)) return SR_RTN;
    if (q->method == SR_HQQ && sr_hqq_fits(to->fmt, &j->spec)) return SR_HQQ;
    return sr_job_is_solved(q, j) && to->fmt->fit ? q->method : SR_IMATRIX;
}

static sr_status encode(struct run *r, sr_job *j, sr_weight *to, const sr_source *from, sr_arena *arena, sr_err *err) {
    switch (sr_job_method(r->q, j, to)) {
    case SR_RTN:
        return sr_encode(to, from, NULL, 0, r->q->threads, err);
    case SR_HQQ:
        return sr_hqq_encode(to, from, r->q->threads, err);
    case SR_AWQ:
        return with_scales(r, j, to, from, err);
    case SR_GPTQ:
        return with_moments(r, j, to, from, err);
    default:
        return with_importance(r->q, j, to, from, arena, err);
    }
}

bool sr_job_is_kept(const sr_job *j, const sr_weight *w, const sr_weight *to, int n) {
    if (n != 1 || !sr_job_stays(j, w->fmt) || w->perm) return false;
    if (!w->fmt->spec.method) return true;
    bool same = j->entry && w->spec.axis == to->spec.axis && w->spec.group == to->spec.group;
    for (int p = 0; p < SR_MAX_PLANES; p++)
        same = same && w->plane[p].type == to->plane[p].type && w->plane[p].bytes == to->plane[p].bytes;
    return same;
}

static sr_status write_tensors(struct run *r, const sr_job *j, const sr_weight *w) {
    sr_tensor t;
    sr_status s = SR_OK;
    int i = 0;
    for (; s == SR_OK && i < j->n_parts && sr_job_tensor(j, w, i, &t); i++)
        s = put(r, j->first_part + i, t.data ? t.data : t.own, t.bytes);
    return s != SR_OK || i == j->n_parts
               ? s
               : sr_fail(r->err, SR_INVALID, "%s: %s has other tensors than planned", j->module, j->fmt->name);
}

static sr_status write_matrix(void *ctx, const sr_source *from, const sr_weight *w, int n, sr_err *err) {
    const struct matrix_job *m = ctx;
    struct run *r = m->r;
    sr_job *j = m->job;
    sr_arena arena = {0};
    sr_weight to;
    sr_status s = sr_weight_create(j->fmt, j->N, j->K, &j->spec, &arena, &to, err);
    if (s == SR_OK && sr_job_is_kept(j, w, &to, n)) {
        sr_arena_free(&arena);
        j->error = 0;
        return write_tensors(r, j, w);
    }
    if (s == SR_OK && sr_job_filed(r->q, j)) s = sr_weight_to_file(&to, r->stage, err);
    if (s == SR_OK) to.encoder = sr_dev_encoder(r->q->engine->dev, j->fmt);
    if (s == SR_OK) s = encode(r, j, &to, from, &arena, err);
    if (s == SR_OK) s = sr_job_error(from, &to, r->q->threads, &j->error, err);
    if (s == SR_OK && !isfinite(j->error))
        s = sr_fail(err, SR_CORRUPT, "%s: its weights are not all finite numbers; nothing sensible can be made of them",
                    j->module);
    if (s == SR_OK) s = write_tensors(r, j, &to);
    sr_arena_free(&arena);
    return s;
}

/* A vector that changes: its type, the order of what it has a head each, or its values. */
static sr_status write_vector(struct run *r, const sr_job *j) {
    const sr_format *to = sr_job_vector_format(j);
    const int64_t n = sr_job_elements(j), bytes = r->q->part[j->first_part].bytes;
    float *out = malloc((size_t)n * sizeof *out + 1);
    uint8_t *data = malloc((size_t)bytes + 1);
    sr_status s = out && data ? sr_job_vector(j, out, r->err)
                              : sr_fail(r->err, SR_NOMEM, "%s: no memory to convert it", j->copy->name);
    if (s == SR_OK) {
        sr_weight w = {.fmt = to, .N = 1, .K = n};
        w.plane[0].data = data;
        w.plane[0].stride = w.plane[0].bytes = bytes;
        for (int64_t i = 0; i < n; i++)
            out[i] = out[i] * (j->by_row ? j->by_row[i] : 1) - (j->around1 || j->minus1 ? 1 : 0);
        to->encode(&w, 0, out, NULL);
        s = put(r, j->first_part, data, bytes);
    }
    free(out);
    free(data);
    return s;
}

static sr_status write_job(struct run *r, int i) {
    sr_quantizer *q = r->q;
    sr_job *j = &q->job[i];
    sr_status s = SR_OK;
    if (j->dropped) return SR_OK;
    if (j->copy && (j->as || j->by_row))
        s = write_vector(r, j);
    else if (j->copy)
        s = put(r, j->first_part, j->copy->data, j->copy->bytes);
    else if (j->fmt) {
        struct matrix_job m = {r, j};
        s = sr_job_open(q, j, write_matrix, &m, r->err);
    } else {
        sr_parts parts;
        sr_weight_parts(q->file, j->from[0], &parts);
        for (int p = 0; p < parts.n && s == SR_OK; p++)
            s = put(r, j->first_part + p, parts.item[p].part->data, parts.item[p].part->bytes);
    }
    if (s != SR_OK) return s;
    r->waiting[r->n_waiting++] = i;
    return r->unsynced >= SYNC_EVERY ? settle(r) : SR_OK;
}

/* ---------------------------------------------------------------- the result */

static char *in_stage(struct run *r, const char *name) {
    char *path = sr_path_join(&r->q->arena, r->stage, name);
    if (!path) sr_fail(r->err, SR_NOMEM, "no memory for a path");
    return path;
}

/* Whatever else an earlier run left there: half of a file that it was writing, under a name of its own. */
static bool remove_other(void *ctx, const char *name, int64_t size) {
    struct run *r = ctx;
    bool keep = strcmp(name, "journal") == 0;
    for (int f = 0; f < r->q->n_out && !keep; f++) keep = strcmp(name, r->q->out[f].name) == 0;
    (void)size;
    if (keep) return true;
    const char *path = in_stage(r, name);
    return path && sr_disk_remove(path, r->err) == SR_OK;
}

/* The stage, its files and its journal. */
static sr_status open_stage(struct run *r, bool resume) {
    sr_quantizer *q = r->q;
    const size_t n = strlen(q->result) + sizeof ".part";
    char hex[SR_DIGEST_HEX];
    bool known = false, other = false;
    r->stage = sr_arena_small(&q->arena, n, 1);
    r->path = sr_arena_small(&q->arena, (size_t)q->n_out, sizeof *r->path);
    r->slab = sr_arena_small(&q->arena, (size_t)q->n_out, sizeof *r->slab);
    r->done = sr_arena_small(&q->arena, (size_t)q->n_jobs + 1, sizeof *r->done);
    r->waiting = sr_arena_small(&q->arena, (size_t)q->n_jobs + 1, sizeof *r->waiting);
    if (!r->stage || !r->path || !r->slab || !r->done || !r->waiting) return sr_fail(r->err, SR_NOMEM, "no memory");
    snprintf(r->stage, n, "%s.part", q->result);
    for (int f = 0; f < q->n_out; f++) r->slab[f].fd = -1;
    r->journal.fd = -1;
    if (!(r->journal_path = in_stage(r, "journal"))) return r->err->code;
    identity(q, hex);
    sr_status s = resume ? read_journal(r, hex, &known, &other, r->err) : SR_OK;
    if (s != SR_OK) return s;
    if (other)
        return sr_fail(
            r->err, SR_INVALID,
            "%s holds another conversion (of another source, or with other options): remove it, or leave out "
            "--resume to begin anew",
            r->stage);
    if (!known) s = sr_disk_remove_tree(r->stage, NULL, r->err);
    if (known) s = sr_disk_walk(r->stage, remove_other, r, r->err);
    if (s == SR_OK) s = r->err->code;
    if (s == SR_OK) s = sr_disk_make(r->stage, r->err);
    sr_quantize_info info;
    sr_quantizer_info(q, &info);
    int64_t there = 0, need = info.scratch, room = sr_disk_free(r->stage);
    for (int f = 0; f < q->n_out && s == SR_OK; f++) {
        if (!(r->path[f] = in_stage(r, q->out[f].name))) return r->err->code;
        need += q->out[f].content.size;
    }
    for (int i = 0; i < q->n_jobs; i++)
        for (int p = 0; p < q->job[i].n_parts && r->done[i]; p++) there += q->part[q->job[i].first_part + p].bytes;
    if (s == SR_OK && room >= 0 && need - there > room)
        return sr_fail(r->err, SR_IO,
                       "%s: %" PRId64 " MiB are to be written, and %" PRId64
                       " MiB are free there: free some space or use another disk, then try again",
                       r->stage, (need - there + (1 << 20) - 1) >> 20, room >> 20);
    for (int f = 0; f < q->n_out && s == SR_OK; f++) {
        s = sr_slab_open(r->path[f], q->out[f].content.size, &r->slab[f], r->err);
        if (s == SR_OK)
            s = sr_slab_write(&r->slab[f], r->path[f], 0, q->out[f].content.head, q->out[f].content.n_head, r->err);
    }
    if (s == SR_OK) s = begin_journal(r, hex);
    return s == SR_OK ? sr_sink_open(r->journal_path, &r->journal, r->err) : s;
}

static sr_status close_files(struct run *r, sr_status s) {
    for (int f = 0; r->slab && f < r->q->n_out; f++) {
        sr_err later = {0};
        sr_status closed = sr_slab_close(&r->slab[f], r->path[f], s == SR_OK ? r->err : &later);
        s = s == SR_OK ? closed : s;
    }
    sr_err later = {0};
    sr_status closed = sr_sink_close(&r->journal, r->journal_path, false, s == SR_OK ? r->err : &later);
    return s == SR_OK ? closed : s;
}

/* The stage becomes the result. What stood there goes only once that is certain. */
static sr_status move_in(struct run *r) {
    sr_quantizer *q = r->q;
    sr_status s = sr_disk_remove(r->journal_path, r->err);
    if (s != SR_OK) return s;
    if (q->target.gguf) {
        s = sr_disk_rename(r->path[0], q->result, r->err);
        return s == SR_OK ? sr_disk_remove_tree(r->stage, NULL, r->err) : s;
    }
    bool exchanged = false;
    const bool replaces = sr_path_look(q->result) != SR_PATH_ABSENT;
    if (replaces) s = sr_disk_exchange(r->stage, q->result, &exchanged, r->err);
    if (s == SR_OK && exchanged) return sr_disk_remove_tree(r->stage, NULL, r->err);
    const size_t n = strlen(q->result) + sizeof ".old";
    char *old = sr_arena_small(&q->arena, n, 1);
    if (!old) return sr_fail(r->err, SR_NOMEM, "no memory for a path");
    snprintf(old, n, "%s.old", q->result);
    if (s == SR_OK && replaces) s = sr_disk_remove_tree(old, NULL, r->err);
    if (s == SR_OK && replaces) s = sr_disk_rename(q->result, old, r->err);
    if (s == SR_OK) s = sr_disk_rename(r->stage, q->result, r->err);
    if (s == SR_OK && replaces) s = sr_disk_remove_tree(old, NULL, r->err);
    return s;
}

/* ---------------------------------------------------------------- reading it again */

static sr_status check_rows(void *ctx, const sr_source *from, const sr_weight *w, int n, sr_err *err) {
    const sr_job *j = ((const struct check *)ctx)->job;
    const sr_weight *to = ((const struct check *)ctx)->to;
    double error, power;
    (void)w, (void)n;
    sr_status s = compare_made((struct made){from, to, true}, 1, &error, &power, err);
    if (s != SR_OK) return s;
    const double limit = 16 * (j->error > 0 ? j->error : 0) + 0.01; /* what is misplaced has an error of 1 or 2 */
    /* A bit a weight may miss by more than the weights themselves. */
    const double most = 4 * j->error > 1 ? 4 * j->error : 1;
    if (error <= (limit < most ? limit : most) * power || (j->error < 0 && error < power)) return SR_OK;
    return sr_fail(err, SR_IO, "%s: what was written does not read back as it was (error %.3g)", j->module,
                   power > 0 ? error / power : error);
}

/* Before hours of work: whether the texts of a directory that is made of GGUF say the same. */
static sr_status check_texts(struct run *r) {
    sr_file *file = NULL;
    sr_status s = sr_write_texts(r->q, r->stage, r->err);
    if (s == SR_OK) s = sr_file_open(r->stage, &(sr_file_options){.no_weights = true}, &file, r->err);
    if (s == SR_OK) s = sr_hf_check(r->q, file, r->err);
    sr_file_close(file);
    sr_err later = {0};
    if (s == SR_UNSUPPORTED) sr_disk_remove_tree(r->stage, NULL, &later);
    return s;
}

/* Opens what was written: every tensor is there, and three rows of each matrix are near those of the source. */
static sr_status check_result(struct run *r) {
    const sr_quantizer *q = r->q;
    sr_file *file = NULL;
    sr_arena arena = {0};
    sr_qconfig *config = NULL;
    sr_status s = sr_file_open(q->target.gguf ? r->path[0] : r->stage, &(sr_file_options){0}, &file, r->err);
    if (s == SR_OK) s = sr_qconfig_read(file, &arena, &config, r->err);
    if (s == SR_OK && q->target.gguf && !q->file->gguf) s = sr_gguf_check(q, file, r->err);
    if (s == SR_OK && q->from_gguf) s = sr_hf_check(q, file, r->err);
    for (int i = 0; i < q->n_parts && s == SR_OK; i++) {
        const sr_part *want = &q->part[i], *got = sr_file_part(file, want->name);
        if (q->target.uqff && q->part_file[i] > 0) continue; /* reads as the parts of other containers do */
        if (!got || got->type != want->type || got->bytes != want->bytes)
            s = sr_fail(r->err, SR_IO, "%s: what was written has no such tensor %s", r->stage, want->name);
    }
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        sr_job *j = &q->job[i];
        sr_arena own = {0};
        sr_weight w;
        if (!j->fmt) continue;
        s = sr_weight_bind(file, config, j->module, j->N, j->K, &own, &w, r->err);
        if (s == SR_OK && w.fmt != j->fmt)
            s = sr_fail(r->err, SR_IO, "%s: written as %s, read back as %s", j->module, j->fmt->name, w.fmt->name);
        struct check c = {j, &w};
        if (s == SR_OK) s = sr_job_open(q, j, check_rows, &c, r->err);
        sr_arena_free(&own);
    }
    sr_file_close(file);
    sr_arena_free(&arena);
    return s;
}

/* ---------------------------------------------------------------- */

/* The scales of a layer, unless all of it was written by an earlier run. */
static sr_status begin_layer(struct run *r, int layer) {
    const sr_quantizer *q = r->q;
    bool all = true;
    for (int i = 0; i < q->n_jobs; i++) all = all && (q->job[i].layer != layer || r->done[i]);
    return all ? SR_OK : sr_awq_layer(q, r->calibration, layer, &r->q->arena, r->err);
}

sr_status sr_quantizer_run(sr_quantizer *q, bool resume, sr_err *err) {
    sr_err own = {0};
    struct run r = {.q = q, .err = err ? err : &own};
    if (sr_path_look(q->result) != SR_PATH_ABSENT && !q->overwrite)
        return sr_fail(r.err, SR_INVALID, "%s exists already; choose another name, or --overwrite it", q->result);
    sr_status s = open_stage(&r, resume);
    if (s == SR_OK && q->from_gguf) s = check_texts(&r);
    double total = 1, done = 0;
    for (int i = 0; i < q->n_jobs; i++) total += (double)q->job[i].N * (double)q->job[i].K;
    int layer = -1;
    if (s == SR_OK && sr_method_calibrates(q->method)) s = sr_calibration_open(q, r.stage, &r.calibration, r.err);
    for (int at = 0; at < q->n_jobs && s == SR_OK; at++) {
        const int i = q->order[at];
        if (q->progress && !q->progress(q->user, "quantizing", done, total))
            s = sr_fail(r.err, SR_CANCELLED, "stopped; --resume goes on at %s", q->job[i].module);
        if (s == SR_OK && r.calibration && q->job[i].layer > layer) {
            layer = q->job[i].layer;
            s = settle(&r); /* much was done for what is written by now */
            if (s == SR_OK && q->method == SR_AWQ) s = begin_layer(&r, layer);
        }
        if (s == SR_OK && !r.done[i]) s = write_job(&r, i);
        done += (double)q->job[i].N * (double)q->job[i].K;
    }
    sr_calibration_close(r.calibration);
    if (r.journal.fd >= 0 && (s == SR_OK || s == SR_CANCELLED)) {
        sr_err later = {0};
        sr_err *const keep = r.err;
        if (s != SR_OK) r.err = &later;
        sr_status settled = settle(&r);
        r.err = keep;
        s = s == SR_OK ? settled : s;
    }
    if (s == SR_OK && !q->target.gguf) s = sr_write_companions(q, r.stage, r.err);
    s = r.stage ? close_files(&r, s) : s;
    if (s == SR_OK) s = check_result(&r);
    return s == SR_OK ? move_in(&r) : s;
}

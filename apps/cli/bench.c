/* sirocco bench: prefill and decode speed at several lengths, as a share of what the machine can do. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/map.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/output.h"

typedef struct measurement {
    const char *test; /* "prefill" or "decode" */
    int32_t n_tokens, depth, sessions;
    double least, median, most; /* tokens/s */
    double share;               /* of the nearer of the probe's limits; 0 when unknown */
    bool by_ops;                /* that is arithmetic, not memory */
    double old, ratio;          /* the median of --compare and ours over it; NAN without one */
} measurement;

/* What the results depend on besides this program, as the JSON output spells it. */
enum { ARCH, PARAMS, BYTES, ISQ, ISA, KV_TYPE, THREADS, N_FACTS };
static const char *const fact_name[N_FACTS] = {"arch", "params", "weight_bytes", "isq", "isa", "kv_type", "threads"};

/* The file of --compare. */
typedef struct old_run {
    char *text; /* owned; the facts point into it */
    sr_json_value fact[N_FACTS];
    measurement *at;
    int n;
} old_run;

typedef struct bench {
    const cli_args *args;
    opened model;
    sr_session **session; /* [n_sessions] */
    int n_sessions;
    sr_probe probe;
    int32_t *id; /* n_ctx arbitrary tokens */
    int32_t n_ctx;
    measurement *result;
    int n_results;
    old_run old;
    int n_runs, n_runs_all;
    out_progress progress;
} bench;

/* All of the first n sessions. */
static sr_status step_all(sr_session *const *s, int n, sr_err *err) {
    for (int i = 0; i < n;) {
        if (sr_session_n_pending(s[i]) == 0) {
            i++;
            continue;
        }
        sr_status status = sr_step(s + i, n - i, err);
        if (status != SR_OK) return status;
    }
    return SR_OK;
}

/* Brings n sessions to `depth` evaluated tokens; 0 leaves one pending that no other prefix shares. */
static sr_status rewind_to(bench *b, int n, int32_t depth, sr_err *err) {
    const int32_t other = b->id[0] ? 0 : 1;
    sr_status status = SR_OK;
    for (int i = 0; i < n && status == SR_OK; i++)
        status = sr_session_sync(b->session[i], depth ? b->id : &other, depth ? depth : 1, err);
    return status == SR_OK && depth ? step_all(b->session, n, err) : status;
}

/* Seconds for n tokens behind `depth` others in as few steps as the engine's batch allows. */
static sr_status time_prefill(bench *b, int32_t depth, int32_t n, int sessions, double *seconds, sr_err *err) {
    sr_status status = rewind_to(b, sessions, depth, err);
    if (status == SR_OK) status = sr_session_sync(b->session[0], b->id, depth + n, err);
    double start = sr_clock();
    if (status == SR_OK) status = step_all(b->session, sessions, err);
    *seconds = sr_clock() - start;
    return status;
}

/* Seconds for n tokens of each session, a step for one of each, behind `depth` others (at least one). */
static sr_status time_decode(bench *b, int32_t depth, int32_t n, int sessions, double *seconds, sr_err *err) {
    int32_t from = depth ? depth : 1;
    sr_status status = rewind_to(b, sessions, from, err);
    double start = sr_clock();
    for (int32_t i = 0; i < n && status == SR_OK; i++) {
        for (int k = 0; k < sessions && status == SR_OK; k++)
            status = sr_session_append(b->session[k], b->id[from + i], err);
        if (status == SR_OK) status = step_all(b->session, sessions, err);
    }
    *seconds = sr_clock() - start;
    return status;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef sr_status (*time_fn)(bench *b, int32_t depth, int32_t n, int sessions, double *seconds, sr_err *err);

static sr_status measure(bench *b, const char *test, time_fn time, int64_t depth, int64_t n, int64_t sessions,
                         sr_err *err) {
    int64_t rounds = b->args->iterations;
    double *rate = out_alloc(NULL, (size_t)rounds, sizeof *rate);
    sr_status status = SR_OK;
    for (int64_t i = -b->args->warmup; i < rounds && status == SR_OK; i++) {
        double seconds = 0;
        out_progress_to(&b->progress, "measuring", b->n_runs++, b->n_runs_all);
        status = interrupted() ? sr_fail(err, SR_CANCELLED, "interrupted")
                               : time(b, (int32_t)depth, (int32_t)n, (int)sessions, &seconds, err);
        if (i >= 0 && status == SR_OK) rate[i] = seconds > 0 ? (double)(n * sessions) / seconds : 0;
    }
    if (status == SR_OK) {
        qsort(rate, (size_t)rounds, sizeof *rate, by_value);
        b->result[b->n_results++] = (measurement){
            .test = test,
            .n_tokens = (int32_t)n,
            .depth = (int32_t)depth,
            .sessions = (int32_t)sessions,
            .least = rate[0],
            .median = (rate[(rounds - 1) / 2] + rate[rounds / 2]) / 2,
            .most = rate[rounds - 1],
        };
    }
    free(rate);
    return status;
}

/* Prefill is limited by arithmetic: a multiplication and an addition for each weight that a token passes, but the head,
 * which only the last one does. Decode is limited by memory: a step reads its weights once; or, of many sessions, by
 * arithmetic. */
static void find_shares(bench *b) {
    const sr_model_info *info = &b->model.info;
    const double head = (double)info->n_vocab * info->d_model;
    for (int i = 0; i < b->n_results; i++) {
        measurement *m = &b->result[i];
        const bool prefill = strcmp(m->test, "prefill") == 0;
        const double ops = 2.0 * ((double)info->n_active - (prefill ? head : 0)),
                     of_ops = b->probe.int8_ops_per_s > 0 ? m->median * ops / b->probe.int8_ops_per_s : 0,
                     of_read = b->probe.read_bytes_per_s > 0
                                   ? m->median / m->sessions * (double)info->active_bytes / b->probe.read_bytes_per_s
                                   : 0;
        m->by_ops = prefill || of_ops > of_read;
        m->share = m->by_ops ? of_ops : of_read;
    }
}

/* ---------------------------------------------------------------- comparison with an earlier run */

/* One member of "results", which the reader has just entered. */
static void read_result(old_run *old, sr_json *j) {
    sr_json_value key, v;
    sr_json_kind kind;
    measurement m = {0};
    int64_t tokens = -1, depth = -1, sessions = 1;
    while ((kind = sr_json_next_pair(j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        if (sr_json_equals(&key, "test") && kind == SR_JSON_STRING)
            m.test = sr_json_equals(&v, "prefill") ? "prefill" : sr_json_equals(&v, "decode") ? "decode" : NULL;
        else if (sr_json_equals(&key, "tokens"))
            sr_json_int64(&v, &tokens);
        else if (sr_json_equals(&key, "depth"))
            sr_json_int64(&v, &depth);
        else if (sr_json_equals(&key, "sessions"))
            sr_json_int64(&v, &sessions);
        else if (sr_json_equals(&key, "median_tok_s"))
            sr_json_double(&v, &m.median);
        sr_json_skip(j, &v);
    }
    if (j->failed) return;
    if (!m.test || tokens < 1 || tokens > INT32_MAX || depth < 0 || depth > INT32_MAX || sessions < 1 ||
        sessions > INT32_MAX || !(m.median > 0)) {
        sr_fail(j->err, SR_CORRUPT, "%s: result %d: expected test, tokens, depth and a median_tok_s above 0", j->where,
                old->n + 1);
        j->failed = true;
        return;
    }
    m.n_tokens = (int32_t)tokens;
    m.depth = (int32_t)depth;
    m.sessions = (int32_t)sessions;
    old->at = out_alloc(old->at, (size_t)old->n + 1, sizeof *old->at);
    old->at[old->n++] = m;
}

static int read_old(old_run *old, const char *path) {
    enum { MAX_BYTES = 1 << 20 };
    size_t n;
    sr_err err = {0};
    if (sr_file_read(path, MAX_BYTES, &old->text, &n, &err) != SR_OK) return out_failure_about(path, &err);
    for (int i = 0; i < N_FACTS; i++) old->fact[i] = (sr_json_value){.text = "unknown", .n = strlen("unknown")};
    sr_json j = sr_json_over(old->text, n, path, &err);
    sr_json_value key, v;
    sr_json_kind kind = sr_json_next(&j, &v);
    if (kind == SR_JSON_OBJECT)
        while ((kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
            for (int i = 0; i < N_FACTS; i++)
                if (sr_json_equals(&key, fact_name[i])) old->fact[i] = v;
            if (sr_json_equals(&key, "results") && kind == SR_JSON_ARRAY)
                while (sr_json_next(&j, &v) == SR_JSON_OBJECT && !j.failed) read_result(old, &j);
            else
                sr_json_skip(&j, &v);
        }
    if (!j.failed && (kind != SR_JSON_END || old->n == 0 || !sr_json_at_end(&j)))
        sr_fail(&err, SR_CORRUPT, "%s: found something else than one object with results", path);
    if (err.code == SR_OK) return EXIT_FINE;
    return out_error(EXIT_FAILED, "%s; --compare takes what 'sirocco bench MODEL --json > FILE' wrote", err.msg);
}

/* Ratios between unlike runs may be what was asked for, so they are only pointed out. */
static void warn_of_unlike(const bench *b) {
    const sr_model_info *info = &b->model.info;
    char number[3][OUT_NUMBER];
    snprintf(number[0], OUT_NUMBER, "%lld", (long long)info->n_params);
    snprintf(number[1], OUT_NUMBER, "%lld", (long long)info->weight_bytes);
    snprintf(number[2], OUT_NUMBER, "%d", sr_engine_threads(b->model.engine));
    const char *here[N_FACTS] = {[ARCH] = info->arch,
                                 [PARAMS] = number[0],
                                 [BYTES] = number[1],
                                 [ISQ] = info->isq ? info->isq : "null",
                                 [ISA] = sr_engine_isa(b->model.engine),
                                 [KV_TYPE] = sr_session_kv_type(b->session[0]),
                                 [THREADS] = number[2]};
    out_text unlike = {0};
    for (int i = 0; i < N_FACTS; i++) {
        const sr_json_value *v = &b->old.fact[i];
        if (v->n == strlen(here[i]) && memcmp(v->text, here[i], v->n) == 0) continue;
        char one[160];
        int n = snprintf(one, sizeof one, "%s%s %.*s, here %s", unlike.n ? "; " : "", fact_name[i],
                         v->n < 40 ? (int)v->n : 40, v->text, here[i]);
        out_text_add(&unlike, one, (size_t)n < sizeof one ? (size_t)n : sizeof one - 1);
    }
    if (unlike.n)
        out_warning("%s was not measured alike: it has %s; the ratios show that too", b->args->compare, unlike.at);
    out_text_free(&unlike);
}

static void find_ratios(bench *b) {
    for (int i = 0; i < b->n_results; i++) {
        measurement *m = &b->result[i];
        m->old = NAN;
        for (int k = 0; k < b->old.n; k++) {
            const measurement *o = &b->old.at[k];
            if (strcmp(o->test, m->test) == 0 && o->n_tokens == m->n_tokens && o->depth == m->depth &&
                o->sessions == m->sessions)
                m->old = o->median;
        }
        m->ratio = m->median / m->old;
    }
}

/* ---------------------------------------------------------------- output */

static void print_table(const bench *b) {
    static const char *const head[] = {"test", "tokens", "depth", "sessions", "min tok/s", "median",
                                       "max",  "share",  "of",    "old",      "ratio"};
    bool compare = b->args->compare;
    out_table t = {.align = compare ? "lrrrrrrrlrr" : "lrrrrrrrl"};
    for (int i = 0; i < (compare ? 11 : 9); i++) out_cell(&t, "%s", head[i]);
    for (int i = 0; i < b->n_results; i++) {
        const measurement *m = &b->result[i];
        out_cell(&t, "%s", m->test);
        out_cell(&t, "%d", m->n_tokens);
        out_cell(&t, "%d", m->depth);
        out_cell(&t, "%d", m->sessions);
        out_cell(&t, "%.1f", m->least);
        out_cell(&t, "%.1f", m->median);
        out_cell(&t, "%.1f", m->most);
        out_cell(&t, "%.1f %%", 100 * m->share);
        if (m->by_ops)
            out_cell(&t, "%.0f GOPS", b->probe.int8_ops_per_s / 1e9);
        else
            out_cell(&t, "%.1f GB/s", b->probe.read_bytes_per_s / 1e9);
        if (compare && isnan(m->old)) {
            out_cell(&t, "-");
            out_cell(&t, "-");
        } else if (compare) {
            out_cell(&t, "%.1f", m->old);
            out_cell(&t, "%.2f", m->ratio);
        }
    }
    out_table_print(&t, 0);
}

static void print_csv(const bench *b) {
    printf("test,tokens,depth,min_tok_s,median_tok_s,max_tok_s,share,weight_bytes,read_bytes_per_s,int8_ops_per_s,isa,"
           "threads,sessions%s\n",
           b->args->compare ? ",old_median_tok_s,ratio" : "");
    for (int i = 0; i < b->n_results; i++) {
        const measurement *m = &b->result[i];
        printf("%s,%d,%d,%.3f,%.3f,%.3f,%.4f,%lld,%.4g,%.4g,%s,%d,%d", m->test, m->n_tokens, m->depth, m->least,
               m->median, m->most, m->share, (long long)b->model.info.weight_bytes, b->probe.read_bytes_per_s,
               b->probe.int8_ops_per_s, sr_engine_isa(b->model.engine), sr_engine_threads(b->model.engine),
               m->sessions);
        if (b->args->compare && isnan(m->old))
            printf(",,");
        else if (b->args->compare)
            printf(",%.3f,%.4f", m->old, m->ratio);
        putchar('\n');
    }
}

static void print_json(const bench *b) {
    out_json j = {0};
    json_open(&j, NULL, '{');
    json_text(&j, "version", SR_VERSION);
    json_text(&j, "model", b->model.path);
    json_text(&j, "arch", b->model.info.arch);
    json_text(&j, "isq", b->model.info.isq);
    json_int(&j, "params", b->model.info.n_params);
    json_int(&j, "weight_bytes", b->model.info.weight_bytes);
    json_text(&j, "isa", sr_engine_isa(b->model.engine));
    json_text(&j, "kv_type", sr_session_kv_type(b->session[0]));
    json_int(&j, "threads", sr_engine_threads(b->model.engine));
    json_real(&j, "read_bytes_per_s", b->probe.read_bytes_per_s);
    json_real(&j, "int8_ops_per_s", b->probe.int8_ops_per_s);
    json_open(&j, "results", '[');
    for (int i = 0; i < b->n_results; i++) {
        const measurement *m = &b->result[i];
        json_open(&j, NULL, '{');
        json_text(&j, "test", m->test);
        json_int(&j, "tokens", m->n_tokens);
        json_int(&j, "depth", m->depth);
        json_int(&j, "sessions", m->sessions);
        json_real(&j, "min_tok_s", m->least);
        json_real(&j, "median_tok_s", m->median);
        json_real(&j, "max_tok_s", m->most);
        json_real(&j, "share", m->share);
        if (b->args->compare) {
            json_real(&j, "old_median_tok_s", m->old);
            json_real(&j, "ratio", m->ratio);
        }
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    putchar('\n');
}

/* ---------------------------------------------------------------- the command */

static int64_t largest(const cli_ints *list) {
    int64_t most = 0;
    for (int i = 0; i < list->n; i++)
        if (list->at[i] > most) most = list->at[i];
    return most;
}

static int run_all(bench *b) {
    const cli_args *a = b->args;
    int code = a->compare ? read_old(&b->old, a->compare) : EXIT_FINE;
    if (!code) code = open_model(a, true, &b->model);
    if (code) return code;
    int64_t longest = largest(&a->prompt_len), most_gen = largest(&a->gen_len) + 1;
    b->n_ctx = (int32_t)(largest(&a->depth) + (longest > most_gen ? longest : most_gen));
    const sr_session_options options = {.n_ctx = b->n_ctx, .kv_type = a->kv_type};
    sr_err err = {0};
    const int n_sessions = (int)largest(&a->sessions);
    b->session = out_alloc(NULL, (size_t)n_sessions, sizeof *b->session);
    for (; b->n_sessions < n_sessions; b->n_sessions++)
        if (sr_session_create(b->model.model, &options, &b->session[b->n_sessions], &err) != SR_OK)
            return out_failure(&err);
    open_banner(&b->model, b->session[0]);
    if (a->compare) warn_of_unlike(b);

    b->id = out_alloc(NULL, (size_t)b->n_ctx, sizeof *b->id);
    uint64_t x = 1;
    for (int32_t i = 0; i < b->n_ctx; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator: any tokens will do */
        b->id[i] = (int32_t)((x >> 33) % (uint64_t)b->model.info.n_vocab);
    }
    int kinds = a->depth.n * (a->prompt_len.n + a->gen_len.n * a->sessions.n);
    b->result = out_alloc(NULL, (size_t)kinds, sizeof *b->result);
    b->n_runs_all = kinds * (int)(a->warmup + a->iterations);
    sr_engine_probe(b->model.engine, 1.0, &b->probe);

    sr_status status = SR_OK;
    for (int d = 0; d < a->depth.n; d++) {
        for (int i = 0; i < a->prompt_len.n && status == SR_OK; i++)
            status = measure(b, "prefill", time_prefill, a->depth.at[d], a->prompt_len.at[i], 1, &err);
        for (int i = 0; i < a->gen_len.n * a->sessions.n && status == SR_OK; i++)
            status = measure(b, "decode", time_decode, a->depth.at[d], a->gen_len.at[i / a->sessions.n],
                             a->sessions.at[i % a->sessions.n], &err);
    }
    out_progress_end(&b->progress);
    if (status != SR_OK) return out_failure(&err);
    find_shares(b);
    find_ratios(b);
    if (a->json)
        print_json(b);
    else if (a->csv)
        print_csv(b);
    else
        print_table(b);
    return EXIT_FINE;
}

int command_bench(const cli_args *args) {
    if (args->json && args->csv) return out_error(EXIT_USAGE, "--json and --csv exclude each other; choose one");
    bench b = {.args = args};
    interrupt_catch(false);
    int code = run_all(&b);
    for (int i = 0; i < b.n_sessions; i++) sr_session_free(b.session[i]);
    free(b.session);
    open_release(&b.model);
    free(b.id);
    free(b.result);
    free(b.old.at);
    free(b.old.text);
    return code;
}

/* sirocco inspect: what is in a model file. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/commands.h"
#include "cli/hub.h"
#include "cli/options.h"
#include "cli/output.h"

/* ---------------------------------------------------------------- where the bytes are */

/* The first row whose word is in a tensor's name says what part of the model it belongs to; the last row takes all. */
static const struct {
    const char *word;
    int part;
} part_words[] = {
    {"norm", 4}, {"lm_head", 5}, {"shared_exp", 2},   {"exps", 3}, {"experts", 3}, {"attn", 1}, {"attention", 1},
    {"ffn", 2},  {"mlp", 2},     {"feed_forward", 2}, {"embd", 0}, {"embed", 0},   {"wte", 0},  {"output.", 5},
    {"ssm_", 1}, {"", 6},
};
enum { N_PARTS = 7 };
static const struct {
    char letter;
    const char *name;
} parts[N_PARTS] = {{'E', "embedding"}, {'A', "attention"}, {'F', "feed-forward"}, {'X', "experts"},
                    {'N', "norms"},     {'H', "head"},      {'.', "other"}};

static int part_of(const char *tensor) {
    int i = 0;
    while (!strstr(tensor, part_words[i].word)) i++;
    return part_words[i].part;
}

typedef struct type_sum {
    char name[32];
    int64_t n, elements, bytes;
} type_sum;

typedef struct summary {
    int64_t elements, bytes, file_bytes; /* elements: weights, however they are packed */
    int64_t part[N_PARTS];
    type_sum *type;
    int n_types;
    int n_files;
} summary;

static int by_bytes(const void *a, const void *b) {
    const type_sum *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static type_sum *type_called(summary *s, const char *name) {
    int k = 0;
    while (k < s->n_types && strcmp(s->type[k].name, name) != 0) k++;
    if (k == s->n_types) {
        s->type = out_alloc(s->type, (size_t)k + 1, sizeof *s->type);
        s->type[k] = (type_sum){0};
        snprintf(s->type[k].name, sizeof s->type[k].name, "%s", name);
        s->n_types++;
    }
    return &s->type[k];
}

static void count(summary *s, const char *format, const char *tensor, int64_t elements, int64_t bytes) {
    type_sum *y = type_called(s, format);
    y->n++;
    y->elements += elements;
    y->bytes += bytes;
    s->elements += elements;
    s->bytes += bytes;
    s->part[part_of(tensor)] += bytes;
}

/* Matrices by format, vectors by their stored type. Parts of a matrix that no format takes count as they are stored. */
static void sum_up(sr_checkpoint *ck, const char *path, summary *s) {
    int n = sr_checkpoint_n_tensors(ck), n_matrices = sr_checkpoint_n_matrices(ck);
    const char **file = out_alloc(NULL, (size_t)n + 1, sizeof *file);
    for (int i = 0; i < n; i++) {
        sr_tensor_info t;
        sr_checkpoint_tensor(ck, i, &t);
        if (!t.matrix) count(s, t.type, t.name, t.n_elements, t.bytes);
        int k;
        for (k = s->n_files; k > 0 && strcmp(file[k - 1], t.file) != 0;) k--;
        if (k == 0) file[s->n_files++] = t.file;
    }
    for (int i = 0; i < n_matrices; i++) {
        sr_matrix_info m;
        sr_checkpoint_matrix(ck, i, &m);
        char name[512];
        snprintf(name, sizeof name, "%s.", m.name); /* "output." is the head */
        if (m.format) count(s, m.format, name, m.N * m.K, m.bytes);
    }
    struct stat st;
    for (int k = 0; k < s->n_files; k++)
        if (stat(file[k], &st) == 0) s->file_bytes += st.st_size;
    if (s->n_files == 0 && stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
        s->file_bytes = st.st_size;
        s->n_files = 1;
    }
    free(file);
    if (s->n_types) qsort(s->type, (size_t)s->n_types, sizeof *s->type, by_bytes);
}

static double share(int64_t bytes, const summary *s) {
    int64_t whole = s->file_bytes > s->bytes ? s->file_bytes : s->bytes;
    return whole > 0 ? (double)bytes / (double)whole : 0;
}

static double bits(int64_t bytes, int64_t elements) {
    return elements > 0 ? 8.0 * (double)bytes / (double)elements : 0;
}

/* Largest parts first, each at least one letter: [EEEAAAAFFFFFFFFN] with shares behind. */
static void print_picture(const summary *s) {
    enum { BAR = 40 };
    int order[N_PARTS], n = 0;
    if (s->bytes <= 0) return;
    for (int p = 0; p < N_PARTS; p++) {
        if (s->part[p] <= 0) continue;
        int k = n++;
        for (; k > 0 && s->part[order[k - 1]] < s->part[p]; k--) order[k] = order[k - 1];
        order[k] = p;
    }
    /* Cumulative rounding keeps the bar at its length. */
    char bar[BAR + 1];
    int64_t sum = 0;
    int at = 0;
    for (int k = 0; k < n; k++) {
        sum += s->part[order[k]];
        int until = (int)((double)sum / (double)s->bytes * BAR + 0.5);
        while (at < until && at < BAR) bar[at++] = parts[order[k]].letter;
    }
    bar[at] = 0;
    printf("bytes         [%s]", bar);
    for (int k = 0; k < n; k++)
        printf("%s %s %.1f %%", k ? "," : "", parts[order[k]].name,
               100.0 * (double)s->part[order[k]] / (double)s->bytes);
    putchar('\n');
}

/* ---------------------------------------------------------------- metadata */

enum { KEY = 256, VALUE = 4096, SHOWN = 72 };

/* Value of the first key that is `key` or ends with "." and `key`; false when there is none. */
static bool find_value(const sr_checkpoint *ck, const char *key, char *text, size_t cap) {
    char name[KEY];
    size_t n = strlen(key);
    for (int i = 0; i < sr_checkpoint_n_values(ck); i++) {
        sr_checkpoint_value(ck, i, name, sizeof name, text, cap);
        size_t m = strlen(name);
        if (m >= n && strcmp(name + m - n, key) == 0 && (m == n || name[m - n - 1] == '.')) return true;
    }
    return false;
}

static bool find_any(const sr_checkpoint *ck, const char *const *keys, char *text, size_t cap) {
    for (; *keys; keys++)
        if (find_value(ck, *keys, text, cap)) return true;
    return false;
}

static const struct {
    const char *label;   /* for people */
    const char *json;    /* for programs */
    const char *keys[5]; /* GGUF's, Hugging Face's; ends with NULL */
} facts[] = {
    {"layers", "n_layer", {"block_count", "num_hidden_layers"}},
    {"d_model", "d_model", {"embedding_length", "hidden_size"}},
    {"d_ff", "d_ff", {"feed_forward_length", "intermediate_size"}},
    {"heads", "n_head", {"head_count", "num_attention_heads"}},
    {"KV heads", "n_kv_head", {"head_count_kv", "num_key_value_heads"}},
    {"latent", "kv_latent", {"kv_lora_rank"}},
    {"experts", "n_expert", {"expert_count", "num_local_experts", "num_experts", "n_routed_experts"}},
    {"context", "n_ctx_train", {"context_length", "max_position_embeddings"}},
    {"vocabulary", "n_vocab", {"vocab_size"}},
};
enum { N_FACTS = sizeof facts / sizeof *facts };

static const char *const arch_keys[] = {"general.architecture", "model_type", "architectures", NULL};
static const char *const name_keys[] = {"general.name", "_name_or_path", NULL};

/* ---------------------------------------------------------------- output */

static void print_visible(const char *s) {
    out_text clean = {0};
    out_text_add_visible(&clean, s, strlen(s), false);
    fputs(clean.at ? clean.at : "", stdout);
    out_text_free(&clean);
}

static void shape_text(const sr_tensor_info *t, char *to, size_t cap) {
    size_t n = 0;
    to[0] = 0;
    for (int d = 0; d < t->n_dims && d < 8 && n < cap; d++)
        n += (size_t)snprintf(to + n, cap - n, "%s%lld", d ? " x " : "", (long long)t->shape[d]);
}

/* "groups of 128, asymmetric, act-order": how a matrix is quantized, empty where its format says it all. */
static void scheme_text(const sr_matrix_info *m, char *to, size_t cap) {
    size_t n = 0;
    to[0] = 0;
    if (!m->group) return;
    n += (size_t)snprintf(to, cap, m->group >= m->K ? "a scale a row" : "groups of %d", m->group);
    if (m->group_n > 1 && n < cap) n += (size_t)snprintf(to + n, cap - n, " x %d rows", m->group_n);
    if (!m->symmetric && n < cap) n += (size_t)snprintf(to + n, cap - n, ", asymmetric");
    if (m->act_order && n < cap) n += (size_t)snprintf(to + n, cap - n, ", act-order");
    if (m->static_groups && n < cap) n += (size_t)snprintf(to + n, cap - n, ", static groups");
    if (m->excluded && n < cap) snprintf(to + n, cap - n, ", listed as not quantized");
}

/* One line a way in which matrices are quantized, and one a matrix that cannot be read. */
static void print_schemes(sr_checkpoint *ck) {
    struct {
        char text[160];
        int n;
    } seen[32];
    int n_seen = 0, n_bad = 0, excluded = 0;
    for (int i = 0; i < sr_checkpoint_n_matrices(ck); i++) {
        sr_matrix_info m;
        char scheme[128], line[160];
        sr_checkpoint_matrix(ck, i, &m);
        if (!m.format) {
            if (n_bad++ < 8) printf("%s%s\n", n_bad == 1 ? "\nCannot be read:\n" : "", m.why);
            continue;
        }
        excluded += m.excluded;
        scheme_text(&m, scheme, sizeof scheme);
        if (!*scheme) continue;
        snprintf(line, sizeof line, "%s: %s", m.format, scheme);
        int k = 0;
        while (k < n_seen && strcmp(seen[k].text, line) != 0) k++;
        if (k == (int)(sizeof seen / sizeof *seen)) continue;
        if (k == n_seen) {
            strcpy(seen[k].text, line);
            seen[n_seen++].n = 0;
        }
        seen[k].n++;
    }
    if (n_bad > 8) printf("... and %d more\n", n_bad - 8);
    if (n_seen) putchar('\n');
    for (int k = 0; k < n_seen; k++) printf("%4d x  %s\n", seen[k].n, seen[k].text);
    if (excluded) printf("%4d x  not quantized by the config\n", excluded);
}

static void print_people(sr_checkpoint *ck, const summary *s, bool tensors) {
    char text[VALUE], key[KEY], a[OUT_NUMBER], b[OUT_NUMBER];
    if (find_any(ck, name_keys, text, sizeof text)) {
        fputs("name          ", stdout);
        print_visible(text);
        putchar('\n');
    }
    fputs("architecture  ", stdout);
    print_visible(find_any(ck, arch_keys, text, sizeof text) ? text : "unknown");
    printf("\ncontainer     %s, %d file%s, %s\n", sr_checkpoint_container(ck), s->n_files, s->n_files == 1 ? "" : "s",
           out_size(a, (double)s->file_bytes));
    printf("tensors       %d, %s params, %s, %.2f bits/weight\n", sr_checkpoint_n_tensors(ck),
           out_count(a, (double)s->elements), out_size(b, (double)s->bytes), bits(s->bytes, s->elements));
    int shown = 0;
    for (int i = 0; i < N_FACTS; i++) {
        if (!find_any(ck, facts[i].keys, text, sizeof text)) continue;
        fputs(shown++ ? ", " : "sizes         ", stdout);
        printf("%s ", facts[i].label);
        print_visible(text);
    }
    if (shown) putchar('\n');
    print_picture(s);

    if (s->n_types) {
        out_table t = {.align = "lrrrrr"};
        static const char *const head[] = {"format", "tensors", "params", "size", "bits/weight", "share"};
        putchar('\n');
        for (int i = 0; i < 6; i++) out_cell(&t, "%s", head[i]);
        for (int i = 0; i < s->n_types; i++) {
            const type_sum *y = &s->type[i];
            out_cell(&t, "%s", y->name);
            out_cell(&t, "%lld", (long long)y->n);
            out_cell(&t, "%s", out_count(a, (double)y->elements));
            out_cell(&t, "%s", out_size(a, (double)y->bytes));
            out_cell(&t, "%.2f", bits(y->bytes, y->elements));
            out_cell(&t, "%.1f %%", 100 * share(y->bytes, s));
        }
        out_table_print(&t, 0);
    }
    print_schemes(ck);
    if (sr_checkpoint_n_values(ck)) {
        out_table t = {.align = "ll"};
        putchar('\n');
        for (int i = 0; i < sr_checkpoint_n_values(ck); i++) {
            out_text clean = {0}, name = {0};
            sr_checkpoint_value(ck, i, key, sizeof key, text, SHOWN);
            out_text_add_visible(&name, key, strlen(key), false);
            out_text_add_visible(&clean, text, strlen(text), false);
            out_cell(&t, "%s", name.at ? name.at : "");
            out_cell(&t, "%s", clean.at ? clean.at : "");
            out_text_free(&name);
            out_text_free(&clean);
        }
        out_table_print(&t, 0);
    }
    if (!tensors || !sr_checkpoint_n_tensors(ck)) return;
    out_table t = {.align = "llrrrr"};
    static const char *const head[] = {"tensor", "type", "shape", "size", "bits/weight", "share"};
    putchar('\n');
    for (int i = 0; i < 6; i++) out_cell(&t, "%s", head[i]);
    for (int i = 0; i < sr_checkpoint_n_tensors(ck); i++) {
        sr_tensor_info info;
        out_text name = {0};
        sr_checkpoint_tensor(ck, i, &info);
        out_text_add_visible(&name, info.name, strlen(info.name), false);
        shape_text(&info, text, sizeof text);
        out_cell(&t, "%s", name.at ? name.at : "");
        out_cell(&t, "%s", info.type);
        out_cell(&t, "%s", text);
        out_cell(&t, "%s", out_size(a, (double)info.bytes));
        out_cell(&t, "%.2f", bits(info.bytes, info.n_elements));
        out_cell(&t, "%.2f %%", 100 * share(info.bytes, s));
        out_text_free(&name);
    }
    out_table_print(&t, 0);
}

static bool is_whole(const char *s) {
    size_t n = strspn(s, "0123456789");
    return n > 0 && n < 19 && s[n] == 0 && (s[0] != '0' || n == 1);
}

static void print_json(sr_checkpoint *ck, const summary *s, bool tensors) {
    char text[VALUE], key[KEY];
    out_json j = {0};
    json_open(&j, NULL, '{');
    json_text(&j, "name", find_any(ck, name_keys, text, sizeof text) ? text : NULL);
    json_text(&j, "architecture", find_any(ck, arch_keys, text, sizeof text) ? text : NULL);
    json_text(&j, "container", sr_checkpoint_container(ck));
    json_int(&j, "files", s->n_files);
    json_int(&j, "file_bytes", s->file_bytes);
    json_int(&j, "params", s->elements);
    json_int(&j, "tensor_bytes", s->bytes);
    json_real(&j, "bits_per_weight", bits(s->bytes, s->elements));
    for (int i = 0; i < N_FACTS; i++) {
        if (!find_any(ck, facts[i].keys, text, sizeof text)) continue;
        if (is_whole(text))
            json_int(&j, facts[i].json, strtoll(text, NULL, 10));
        else
            json_text(&j, facts[i].json, text);
    }
    json_open(&j, "parts", '{');
    for (int p = 0; p < N_PARTS; p++) json_int(&j, parts[p].name, s->part[p]);
    json_close(&j, '}');
    json_open(&j, "types", '[');
    for (int i = 0; i < s->n_types; i++) {
        const type_sum *y = &s->type[i];
        json_open(&j, NULL, '{');
        json_text(&j, "type", y->name);
        json_int(&j, "tensors", y->n);
        json_int(&j, "params", y->elements);
        json_int(&j, "bytes", y->bytes);
        json_real(&j, "bits_per_weight", bits(y->bytes, y->elements));
        json_real(&j, "share", share(y->bytes, s));
        json_close(&j, '}');
    }
    json_close(&j, ']');
    if (tensors) {
        json_open(&j, "matrices", '[');
        for (int i = 0; i < sr_checkpoint_n_matrices(ck); i++) {
            sr_matrix_info m;
            sr_checkpoint_matrix(ck, i, &m);
            json_open(&j, NULL, '{');
            json_text(&j, "name", m.name);
            json_text(&j, "format", m.format);
            json_int(&j, "N", m.N);
            json_int(&j, "K", m.K);
            json_int(&j, "bytes", m.bytes);
            json_real(&j, "bits_per_weight", bits(m.bytes, m.N * m.K));
            json_int(&j, "group", m.group);
            json_int(&j, "group_rows", m.group_n);
            json_bool(&j, "symmetric", m.symmetric);
            json_bool(&j, "act_order", m.act_order);
            json_bool(&j, "static_groups", m.static_groups);
            json_bool(&j, "excluded", m.excluded);
            if (!m.format) json_text(&j, "why", m.why);
            json_close(&j, '}');
        }
        json_close(&j, ']');
    }
    json_open(&j, "metadata", '[');
    for (int i = 0; i < sr_checkpoint_n_values(ck); i++) {
        sr_checkpoint_value(ck, i, key, sizeof key, text, sizeof text);
        json_open(&j, NULL, '{');
        json_text(&j, "key", key);
        json_text(&j, "value", text);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    if (tensors) {
        json_open(&j, "tensors", '[');
        for (int i = 0; i < sr_checkpoint_n_tensors(ck); i++) {
            sr_tensor_info t;
            sr_checkpoint_tensor(ck, i, &t);
            json_open(&j, NULL, '{');
            json_text(&j, "name", t.name);
            json_text(&j, "type", t.type);
            json_open(&j, "shape", '[');
            for (int d = 0; d < t.n_dims && d < 8; d++) json_int(&j, NULL, t.shape[d]);
            json_close(&j, ']');
            json_int(&j, "bytes", t.bytes);
            json_real(&j, "bits_per_weight", bits(t.bytes, t.n_elements));
            json_real(&j, "share", share(t.bytes, s));
            json_text(&j, "file", t.file);
            json_int(&j, "offset", t.offset);
            json_close(&j, '}');
        }
        json_close(&j, ']');
    }
    json_close(&j, '}');
    putchar('\n');
}

int command_inspect(const cli_args *args) {
    char *path = NULL;
    sr_checkpoint *ck = NULL;
    sr_err err = {0};
    int code = hub_path(args, args->operand[0], args->quant, false, &path);
    if (code) return code;
    if (sr_checkpoint_open(path, args->format, &ck, &err) != SR_OK) {
        code = out_failure_about(path, &err);
        free(path);
        return code;
    }
    summary s = {0};
    sum_up(ck, path, &s);
    if (args->json)
        print_json(ck, &s, !args->summary);
    else
        print_people(ck, &s, !args->summary);
    free(s.type);
    free(path);
    sr_checkpoint_close(ck);
    return EXIT_FINE;
}

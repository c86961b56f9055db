/* Models by name, against a server in this process: what is fetched, resumed, verified, refused, kept and removed. */
#define _GNU_SOURCE
#include "support.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "hub_server.h"

/* Stands in for the C library's socket in this program, libcurl included. */
static int n_sockets;
__attribute__((visibility("default"))) int socket(int domain, int type, int protocol) {
    n_sockets++;
#if defined(SYS_socket)
    return (int)syscall(SYS_socket, domain, type, protocol);
#else
    (void)domain, (void)type, (void)protocol;
    errno = ENOSYS;
    return -1;
#endif
}

/* ---------------------------------------------------------------- fixture */

enum { WEIGHTS = 300000 };
static const char commit[] = "1111111111111111111111111111111111111111";

struct fixture {
    char *dir; /* scratch: repos/, cache/ */
    char repos[600], cache[600], endpoint[64], weights[WEIGHTS];
    struct server server;
    sr_hub_options o;
    char path[1200];
    sr_err err;
};

static void put_file(struct fixture *f, const char *path, const void *data, size_t n) { /* below repos/ */
    char full[1024];
    snprintf(full, sizeof full, "%s/%s", f->repos, path);
    *strrchr(full, '/') = 0;
    assert_int_equal(sr_disk_make(full, NULL), SR_OK);
    snprintf(full, sizeof full, "%s/%s", f->repos, path);
    write_file(full, data, n);
}

static void put_line(struct fixture *f, const char *path, const char *text) {
    put_file(f, path, text, strlen(text));
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    void *dir = NULL;
    if (!f || make_scratch(&dir) != 0) return -1;
    f->dir = dir;
    snprintf(f->repos, sizeof f->repos, "%s/repos", f->dir);
    snprintf(f->cache, sizeof f->cache, "%s/cache", f->dir);
    uint32_t x = 1;
    for (int i = 0; i < WEIGHTS; i++) f->weights[i] = (char)((x = x * 1664525 + 1013904223) >> 24);
    put_line(f, "org/tiny/config.json", "{\"model_type\":\"llama\"}");
    put_line(f, "org/tiny/tokenizer.json", "{}");
    put_line(f, "org/tiny/README.md", "no part of a model");
    put_line(f, "org/tiny/pytorch_model.bin", "a pickle");
    put_line(f, "org/tiny/sub/other.json", "{}");
    put_file(f, "org/tiny/model.safetensors", f->weights, WEIGHTS);
    if (!server_start(&f->server, f->repos)) return -1;
    snprintf(f->endpoint, sizeof f->endpoint, "http://127.0.0.1:%d", f->server.port[0]);
    f->o = (sr_hub_options){.cache = f->cache, .endpoint = f->endpoint, .timeout = 1, .patience = 2};
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    server_stop(&f->server);
    remove_tree(f->dir);
    free(f->dir);
    free(f);
    return 0;
}

static sr_status resolve(struct fixture *f, const char *name) {
    f->err = (sr_err){0};
    return sr_hub_resolve(name, &f->o, f->path, sizeof f->path, &f->err);
}

static void resolves(struct fixture *f, const char *name) {
    if (resolve(f, name) != SR_OK) fail_msg("%s: %s", name, f->err.msg);
}

static void fault(struct fixture *f, const char *match, int times, enum fault_kind kind, long n, const char *text) {
    pthread_mutex_lock(&f->server.lock);
    assert_true(f->server.n_faults < MOST_FAULTS);
    f->server.fault[f->server.n_faults++] = (struct fault){match, times, kind, n, text};
    pthread_mutex_unlock(&f->server.lock);
}

static void no_faults(struct fixture *f) {
    pthread_mutex_lock(&f->server.lock);
    f->server.n_faults = f->server.n_requests = 0;
    pthread_mutex_unlock(&f->server.lock);
}

/* Requests whose path has `word` in it; the last one is copied to *last (may be NULL). */
static int requests(struct fixture *f, const char *word, struct request *last) {
    int n = 0;
    pthread_mutex_lock(&f->server.lock);
    for (int i = 0; i < f->server.n_requests; i++)
        if (strstr(f->server.request[i].path, word)) {
            n++;
            if (last) *last = f->server.request[i];
        }
    pthread_mutex_unlock(&f->server.lock);
    return n;
}

static char *model(struct fixture *f, const char *path) { /* below the model's folder; a static buffer */
    static char full[1400];
    snprintf(full, sizeof full, "%s/models--org--tiny/%s", f->cache, path);
    return full;
}

static char *snapshot(struct fixture *f, const char *path) {
    char inner[600];
    snprintf(inner, sizeof inner, "snapshots/%s/%s", commit, path);
    return model(f, inner);
}

static char *blob(struct fixture *f, const char *suffix) { /* of the weights */
    char inner[200], hex[SR_DIGEST_HEX];
    sr_digest d = sr_sha256();
    sr_digest_add(&d, f->weights, WEIGHTS);
    sr_digest_hex(&d, hex);
    snprintf(inner, sizeof inner, "blobs/%s%s", hex, suffix);
    return model(f, inner);
}

static void holds(const char *path, const void *data, size_t n) {
    char *text;
    size_t m;
    sr_err err = {0};
    if (sr_file_read(path, 1 << 30, &text, &m, &err) != SR_OK) fail_msg("%s", err.msg);
    if (m != n || memcmp(text, data, n) != 0) fail_msg("%s: another content, %zu bytes", path, m);
    free(text);
}

static void has_weights(struct fixture *f) {
    holds(snapshot(f, "model.safetensors"), f->weights, WEIGHTS);
    assert_int_equal(sr_disk_size(blob(f, ".incomplete")), -1);
}

static void has_no_weights(struct fixture *f) {
    struct stat st;
    assert_int_equal(lstat(snapshot(f, "model.safetensors"), &st), -1);
    assert_int_equal(lstat(blob(f, ""), &st), -1);
}

/* ---------------------------------------------------------------- names */

static void names_are_told_from_paths(void **state) {
    (void)state;
    static const char *const names[] = {"microsoft/Phi-3-mini-4k-instruct", "org/name@main", "o/n@refs/pr/1", "a.b/c_d",
                                        "mlx-community/Llama-3.8-1B-8bit"};
    static const char *const others[] = {"",       "name",      "/a/b",      "./a/b",   "../a",    "a/..",    "a//b",
                                         "a/b/c",  "a/b@",      "a/b@../c",  "a/b@/c",  "a/b@c//", "a--b/c",  "~/a",
                                         "a/b c",  "a/-b",      "a/b.",      "a\\b/c",  "a/b\n",   "a/b@x\n", "C:/x",
                                         "a/b..c", "models/x/", "@main/b@c", "a/@main", NULL};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!sr_hub_is_name(names[i])) fail_msg("no name: %s", names[i]);
    for (int i = 0; others[i]; i++)
        if (sr_hub_is_name(others[i])) fail_msg("a name: %s", others[i]);
    assert_false(sr_hub_is_name(NULL));
}

static void options_that_make_no_sense_are_refused(void **state) {
    struct fixture *f = *state;
    f->o.token = "two\r\nHost: elsewhere";
    check_error("token", resolve(f, "org/tiny"), &f->err, SR_INVALID, "token", NULL);
    f->o.token = NULL;
    f->o.endpoint = "file:///etc";
    check_error("endpoint", resolve(f, "org/tiny"), &f->err, SR_INVALID, "file:///etc", NULL);
    f->o.endpoint = f->endpoint;
    f->o.revision = "../../x";
    check_error("revision", resolve(f, "org/tiny"), &f->err, SR_INVALID, "revision", NULL);
    f->o.revision = "other";
    check_error("two", resolve(f, "org/tiny@main"), &f->err, SR_INVALID, "main", "other", NULL);
    f->o.revision = NULL;
    check_error("name", resolve(f, "../org"), &f->err, SR_INVALID, "../org", NULL);
    assert_int_equal(requests(f, "", NULL), 0);
}

/* ---------------------------------------------------------------- what is fetched */

static void model_is_fetched_once_in_the_layout_of_the_cache(void **state) {
    struct fixture *f = *state;
    char link[300];
    struct stat st;
    resolves(f, "org/tiny");
    assert_true(strncmp(f->path, snapshot(f, ""), strlen(f->path)) == 0 && strlen(f->path) > strlen(f->cache));
    has_weights(f);
    ssize_t n = readlink(snapshot(f, "config.json"), link, sizeof link - 1);
    assert_true(n > 0);
    link[n] = 0;
    char sha1[SR_DIGEST_HEX], want[100];
    git_sha1("{\"model_type\":\"llama\"}", 22, sha1);
    snprintf(want, sizeof want, "../../blobs/%s", sha1);
    assert_string_equal(link, want);
    holds(model(f, "refs/main"), commit, 40);
    assert_int_equal(stat(snapshot(f, "tokenizer.json"), &st), 0);
    assert_int_equal(stat(snapshot(f, "README.md"), &st), -1);
    assert_int_equal(stat(snapshot(f, "pytorch_model.bin"), &st), -1);
    assert_int_equal(stat(snapshot(f, "sub/other.json"), &st), -1);
    /* Again: one question, no file. By commit: nothing at all. */
    no_faults(f);
    resolves(f, "org/tiny");
    assert_int_equal(requests(f, "", NULL), 1);
    no_faults(f);
    f->o.revision = commit;
    resolves(f, "org/tiny");
    assert_int_equal(requests(f, "", NULL), 0);
    /* What is missing is fetched, and only that. */
    assert_int_equal(unlink(snapshot(f, "tokenizer.json")), 0);
    f->o.revision = "refs/pr/1";
    resolves(f, "org/tiny");
    assert_int_equal(requests(f, "/resolve/", NULL), 0); /* its blob is there */
    assert_int_equal(stat(snapshot(f, "tokenizer.json"), &st), 0);
    holds(model(f, "refs/refs/pr/1"), commit, 40);
}

static void branch_that_moved_is_fetched_anew(void **state) {
    struct fixture *f = *state;
    resolves(f, "org/tiny");
    strcpy(f->server.commit, "2222222222222222222222222222222222222222");
    put_line(f, "org/tiny/config.json", "{\"model_type\":\"qwen2\"}");
    no_faults(f);
    resolves(f, "org/tiny");
    assert_non_null(strstr(f->path, f->server.commit));
    assert_int_equal(requests(f, "/resolve/", NULL), 1); /* the weights are the same blob */
    holds(model(f, "refs/main"), f->server.commit, 40);
    holds(snapshot(f, "config.json"), "{\"model_type\":\"llama\"}", 22);
}

static void long_lists_come_in_pages(void **state) {
    struct fixture *f = *state;
    f->server.page = 2;
    resolves(f, "org/tiny");
    assert_int_equal(requests(f, "cursor=", NULL), 2);
    has_weights(f);
}

static void shards_are_those_of_the_index(void **state) {
    struct fixture *f = *state;
    struct stat st;
    put_line(
        f, "org/tiny/model.safetensors.index.json",
        "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\",\"b\":\"model-00002-of-00002.safetensors\"}}");
    put_line(f, "org/tiny/model-00001-of-00002.safetensors", "one");
    put_line(f, "org/tiny/model-00002-of-00002.safetensors", "two");
    put_line(f, "org/tiny/consolidated.safetensors", "the same in other words");
    resolves(f, "org/tiny");
    holds(snapshot(f, "model-00002-of-00002.safetensors"), "two", 3);
    assert_int_equal(stat(snapshot(f, "consolidated.safetensors"), &st), -1);
    assert_int_equal(stat(snapshot(f, "model.safetensors"), &st), -1);
    /* A stale index: the one file that is there, as the reader of directories does. */
    strcpy(f->server.commit, "2222222222222222222222222222222222222222");
    snprintf(f->path, sizeof f->path, "%s/org/tiny/model-00002-of-00002.safetensors", f->repos);
    unlink(f->path);
    resolves(f, "org/tiny");
    snprintf(f->path + strlen(f->path), 100, "/model.safetensors");
    holds(f->path, f->weights, WEIGHTS);
    strcpy(f->server.commit, "3333333333333333333333333333333333333333");
    snprintf(f->path, sizeof f->path, "%s/org/tiny/model.safetensors", f->repos);
    unlink(f->path);
    check_error("stale index", resolve(f, "org/tiny"), &f->err, SR_CORRUPT, "model-00002-of-00002", NULL);
    strcpy(f->server.commit, "4444444444444444444444444444444444444444");
    put_line(f, "org/tiny/model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../../x.safetensors\"}}");
    check_error("index that leads out", resolve(f, "org/tiny"), &f->err, SR_CORRUPT, "../../x", NULL);
}

/* A file of the model that was resolved last. */
static const char *found(struct fixture *f, const char *name) {
    static char path[1400];
    struct stat st;
    char *slash = strrchr(f->path, '/');
    bool directory = stat(f->path, &st) == 0 && S_ISDIR(st.st_mode);
    snprintf(path, sizeof path, "%.*s/%s", directory ? (int)strlen(f->path) : (int)(slash - f->path), f->path, name);
    return path;
}

static void pickles_are_fetched_where_there_is_nothing_else(void **state) {
    struct fixture *f = *state;
    struct stat st;
    put_line(f, "org/old/config.json", "{}");
    put_line(f, "org/old/pytorch_model.bin", "a pickle");
    put_line(f, "org/old/optimizer.pt", "another");
    resolves(f, "org/old");
    holds(found(f, "pytorch_model.bin"), "a pickle", 8);
    assert_int_equal(stat(found(f, "optimizer.pt"), &st), -1);
    put_line(f, "org/hqq/config.json", "{}");
    put_line(f, "org/hqq/qmodel.pt", "a pickle");
    put_line(f, "org/hqq/pytorch_model.bin", "the same in other words");
    put_line(f, "org/hqq/pytorch_model.bin.index.json", "no text");
    resolves(f, "org/hqq");
    assert_int_equal(requests(f, "/data/org/hqq/qmodel.pt", NULL), 1);
    assert_int_equal(requests(f, "/data/org/hqq/pytorch", NULL), 0);
    put_line(f, "org/parts/config.json", "{}");
    put_line(f, "org/parts/pytorch_model-00001-of-00002.bin", "one");
    put_line(f, "org/parts/pytorch_model-00002-of-00002.bin", "two");
    put_line(f, "org/parts/training_args.bin", "more");
    put_line(
        f, "org/parts/pytorch_model.bin.index.json",
        "{\"weight_map\":{\"a\":\"pytorch_model-00001-of-00002.bin\",\"b\":\"pytorch_model-00002-of-00002.bin\"}}");
    resolves(f, "org/parts");
    holds(found(f, "pytorch_model-00001-of-00002.bin"), "one", 3);
    holds(found(f, "pytorch_model-00002-of-00002.bin"), "two", 3);
    assert_int_equal(stat(found(f, "pytorch_model.bin.index.json"), &st), 0);
    assert_int_equal(stat(found(f, "training_args.bin"), &st), -1);
    static const char *const bad[] = {"../../x.bin", "pytorch_model-00003-of-00003.bin", "config.json"};
    for (int i = 0; i < 3; i++) {
        char name[32], path[64], text[128];
        snprintf(name, sizeof name, "org/bad%d", i);
        snprintf(path, sizeof path, "%s/pytorch_model.bin.index.json", name);
        snprintf(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", bad[i]);
        put_line(f, path, text);
        snprintf(path, sizeof path, "%s/config.json", name);
        put_line(f, path, "{}");
        check_error(bad[i], resolve(f, name), &f->err, SR_CORRUPT, "pytorch_model.bin.index.json", bad[i], NULL);
    }
    put_line(f, "org/other/config.json", "{}");
    put_line(f, "org/other/consolidated.00.pth", "a pickle");
    check_error("other", resolve(f, "org/other"), &f->err, SR_UNSUPPORTED, "consolidated.00.pth", "other pickles",
                NULL);
    assert_int_equal(requests(f, ".pth", NULL), 0);
    put_line(f, "org/empty/README.md", "nothing");
    check_error("empty", resolve(f, "org/empty"), &f->err, SR_UNSUPPORTED, "safetensors", "gguf", NULL);
}

static void uqff_is_chosen_by_its_type(void **state) {
    struct fixture *f = *state;
    struct stat st;
    put_line(f, "org/u/config.json", "{}");
    put_line(f, "org/u/tokenizer.json", "{}");
    put_line(f, "org/u/residual.safetensors", "the rest");
    put_line(f, "org/u/llama3.2-3b-q8_0.uqff", "8--------");
    put_line(f, "org/u/llama3.2-3b-q4k.uqff", "4---");
    put_line(f, "org/u/afq4-0.uqff", "a0---");
    put_line(f, "org/u/afq4-1.uqff", "a1---");
    put_line(f, "org/u/sub/q6k-0.uqff", "6");
    check_error("no choice", resolve(f, "org/u"), &f->err, SR_INVALID, "3 UQFF models", "--quant", "q4k, afq4, q8_0",
                NULL);
    static const char *const ask[][2] = {
        {"q4k", "llama3.2-3b-q4k.uqff"},   {"Q4_K", "llama3.2-3b-q4k.uqff"},
        {"4", "llama3.2-3b-q4k.uqff"},     {"8", "llama3.2-3b-q8_0.uqff"},
        {"q8_0", "llama3.2-3b-q8_0.uqff"}, {"llama3.2-3b-q8_0.uqff", "llama3.2-3b-q8_0.uqff"}};
    for (int i = 0; i < 6; i++) {
        f->o.quant = ask[i][0];
        resolves(f, "org/u");
        assert_string_equal(strrchr(f->path, '/') + 1, ask[i][1]);
    }
    holds(found(f, "residual.safetensors"), "the rest", 8);
    assert_int_equal(stat(found(f, "config.json"), &st), 0);
    assert_int_equal(stat(found(f, "tokenizer.json"), &st), 0);
    assert_int_equal(requests(f, "/data/org/u/afq4", NULL), 0);
    f->o.quant = "afq4";
    resolves(f, "org/u");
    assert_string_equal(strrchr(f->path, '/') + 1, "afq4-0.uqff");
    holds(found(f, "afq4-1.uqff"), "a1---", 5);
    f->o.quant = "q6k";
    check_error("none", resolve(f, "org/u"), &f->err, SR_INVALID, "no UQFF", "q6k", NULL);
    f->o.quant = "llama3.2-3b";
    check_error("several", resolve(f, "org/u"), &f->err, SR_INVALID, "more than one UQFF", NULL);
    f->o.quant = NULL;
    f->o.format = "gguf";
    check_error("GGUF", resolve(f, "org/u"), &f->err, SR_UNSUPPORTED, "no GGUF", NULL);
    f->o.format = NULL;
    f->o.tokenizer_only = true;
    resolves(f, "org/u");
    assert_int_equal(stat(found(f, "tokenizer.json"), &st), 0);
    f->o.tokenizer_only = false;

    put_line(f, "org/one/config.json", "{}"); /* the only one needs no word */
    put_line(f, "org/one/residual.safetensors", "the rest");
    put_line(f, "org/one/q4k-0.uqff", "only");
    resolves(f, "org/one");
    holds(f->path, "only", 4);
    put_line(f, "org/both/config.json", "{}"); /* beside a whole model it does */
    put_line(f, "org/both/model.safetensors", "x");
    put_line(f, "org/both/residual.safetensors", "the rest");
    put_line(f, "org/both/q4k-0.uqff", "only");
    resolves(f, "org/both");
    assert_int_equal(requests(f, "/data/org/both/q4k", NULL), 0);
    f->o.quant = "q4k";
    resolves(f, "org/both");
    holds(f->path, "only", 4);
    f->o.quant = NULL;
    put_line(f, "org/gap/residual.safetensors", "the rest");
    put_line(f, "org/gap/q4k-0.uqff", "one");
    put_line(f, "org/gap/q4k-2.uqff", "three");
    check_error("gap", resolve(f, "org/gap"), &f->err, SR_UNSUPPORTED, "2 of 3 pieces", NULL);
    put_line(f, "org/alone/q4k.uqff", "x");
    check_error("alone", resolve(f, "org/alone"), &f->err, SR_UNSUPPORTED, "q4k.uqff", "residual.safetensors", NULL);
}

static void tokenizer_alone_leaves_the_weights(void **state) {
    struct fixture *f = *state;
    f->o.tokenizer_only = true;
    resolves(f, "org/tiny");
    assert_int_equal(requests(f, "model.safetensors", NULL), 0);
    assert_int_equal(requests(f, "tokenizer.json", NULL), 1);
    static const char *const others[] = {"tekken.json", "tokenizer.model", "tiktoken.model", "qwen.tiktoken"};
    for (int i = 0; i < 4; i++) {
        char repo[32], path[64];
        snprintf(repo, sizeof repo, "org/kind%d", i);
        const char *const files[] = {"config.json", "model.safetensors", others[i]};
        for (int k = 0; k < 3; k++) {
            snprintf(path, sizeof path, "%s/%s", repo, files[k]);
            put_line(f, path, files[k]); /* another content each: equal ones are fetched once */
        }
        resolves(f, repo);
        assert_int_equal(requests(f, others[i], NULL), 1);
        assert_int_equal(requests(f, "model.safetensors", NULL), 0);
    }
    /* two files, which nobody needs beside a better one */
    for (int i = 0; i < 2; i++) {
        char repo[32], path[64];
        snprintf(repo, sizeof repo, "org/pair%d", i);
        const char *const files[] = {"config.json", "model.safetensors", "vocab.json", "merges.txt", "tokenizer.json"};
        for (int k = 0; k < 5 - i; k++) {
            snprintf(path, sizeof path, "%s/%s", repo, files[k]);
            put_line(f, path, path);
        }
        int before = requests(f, "merges.txt", NULL);
        resolves(f, repo);
        assert_int_equal(requests(f, "merges.txt", NULL) - before, i);
        assert_int_equal(requests(f, "model.safetensors", NULL), 0);
    }
    f->o.tokenizer_only = false;
    resolves(f, "org/tiny");
    has_weights(f);
}

static void a_template_for_tools_comes_along(void **state) {
    struct fixture *f = *state;
    put_line(f, "org/tiny/additional_chat_templates/tool_use.jinja", "with tools");
    put_line(f, "org/tiny/onnx/tool_use.jinja", "not read");
    resolves(f, "org/tiny");
    assert_int_equal(requests(f, "additional_chat_templates/tool_use.jinja", NULL), 1);
    assert_int_equal(requests(f, "onnx", NULL), 0);
    holds(strcat(f->path, "/additional_chat_templates/tool_use.jinja"), "with tools", 10);
}

/* ---------------------------------------------------------------- GGUF */

static void gguf_is_chosen_by_its_type(void **state) {
    struct fixture *f = *state;
    put_line(f, "org/g/phi-3.Q8_0.gguf", "8--------");
    put_line(f, "org/g/phi-3.Q4_K_M.gguf", "4---");
    put_line(f, "org/g/phi-3.Q4_K_S.gguf", "4s--");
    put_line(f, "org/g/phi-3.IQ2_M.gguf", "2-");
    put_line(f, "org/g/mmproj-phi-3-f16.gguf", "images");
    put_line(f, "org/g/Q5_K_M/phi-3-Q5_K_M-00001-of-00002.gguf", "5a---");
    put_line(f, "org/g/Q5_K_M/phi-3-Q5_K_M-00002-of-00002.gguf", "5b---");
    check_error("no choice", resolve(f, "org/g"), &f->err, SR_INVALID, "--quant", "IQ2_M, Q4_K_M, Q4_K_S, Q5_K_M, Q8_0",
                NULL);
    static const char *const ask[][2] = {{"q4_k_m", "phi-3.Q4_K_M.gguf"},
                                         {"Q8_0", "phi-3.Q8_0.gguf"},
                                         {"4", "phi-3.Q4_K_M.gguf"},
                                         {"2", "phi-3.IQ2_M.gguf"},
                                         {"phi-3.Q4_K_S.gguf", "phi-3.Q4_K_S.gguf"}};
    for (int i = 0; i < 5; i++) {
        f->o.quant = ask[i][0];
        resolves(f, "org/g");
        assert_string_equal(strrchr(f->path, '/') + 1, ask[i][1]);
    }
    assert_int_equal(requests(f, "/data/", NULL), 4);
    f->o.quant = "q5_k_m";
    resolves(f, "org/g");
    assert_string_equal(strrchr(f->path, '/') + 1, "phi-3-Q5_K_M-00001-of-00002.gguf");
    holds(f->path, "5a---", 5);
    strcpy(strrchr(f->path, '/'), "/phi-3-Q5_K_M-00002-of-00002.gguf");
    holds(f->path, "5b---", 5);
    f->o.quant = "q4_k"; /* no whole word in Q4_K_M */
    check_error("part of a word", resolve(f, "org/g"), &f->err, SR_INVALID, "q4_k", "Q4_K_M", NULL);
    f->o.quant = "q6_k";
    check_error("none", resolve(f, "org/g"), &f->err, SR_INVALID, "q6_k", "Q8_0", NULL);
    f->o.quant = "phi-3";
    check_error("several", resolve(f, "org/g"), &f->err, SR_INVALID, "more than one", NULL);
}

static void gguf_beside_safetensors_wants_a_word(void **state) {
    struct fixture *f = *state;
    put_line(f, "org/tiny/tiny-q4_0.gguf", "gguf");
    resolves(f, "org/tiny");
    has_weights(f);
    assert_int_equal(requests(f, ".gguf", NULL), 0);
    f->o.format = "gguf";
    resolves(f, "org/tiny");
    holds(f->path, "gguf", 4);
    f->o.format = NULL;
    f->o.quant = "q4_0";
    resolves(f, "org/tiny");
    holds(f->path, "gguf", 4);
    put_line(f, "org/one/one-f16.gguf", "only");
    f->o.quant = NULL;
    resolves(f, "org/one");
    holds(f->path, "only", 4);
    put_line(f, "org/plain/config.json", "{}");
    put_line(f, "org/plain/model.safetensors", "x");
    f->o.quant = "q4_k_m";
    check_error("no GGUF", resolve(f, "org/plain"), &f->err, SR_UNSUPPORTED, "--isq", NULL);
    put_line(f, "org/cut/x-q4_0-00001-of-00002.gguf", "one");
    f->o.quant = NULL;
    check_error("piece", resolve(f, "org/cut"), &f->err, SR_UNSUPPORTED, "1 of 2 pieces", NULL);
}

/* ---------------------------------------------------------------- connections that fail */

static void cut_transfer_goes_on_where_it_ended(void **state) {
    struct fixture *f = *state;
    struct request last;
    fault(f, "/data/", 2, FAULT_CUT, 100000, NULL);
    resolves(f, "org/tiny");
    has_weights(f);
    assert_int_equal(requests(f, "/data/", &last), 3);
    assert_int_equal(last.from, 200000);
}

static void what_came_before_a_failure_serves_the_next_call(void **state) {
    struct fixture *f = *state;
    struct request last;
    f->o.patience = 0.05;
    fault(f, "/data/", -1, FAULT_CUT, 20000, NULL);
    check_error("cut", resolve(f, "org/tiny"), &f->err, SR_IO, "model.safetensors", "6 attempts", "kept", NULL);
    assert_int_equal(sr_disk_size(blob(f, ".incomplete")), 120000);
    has_no_weights(f);
    no_faults(f);
    resolves(f, "org/tiny");
    has_weights(f);
    requests(f, "/data/", &last);
    assert_int_equal(last.from, 120000);
}

static void server_without_ranges_is_read_from_the_start(void **state) {
    struct fixture *f = *state;
    fault(f, "/data/", 1, FAULT_CUT, 100000, NULL);
    fault(f, "/data/", -1, FAULT_NO_RANGE, 0, NULL);
    resolves(f, "org/tiny");
    has_weights(f);
}

static void wrong_part_is_refused(void **state) {
    struct fixture *f = *state;
    fault(f, "/data/", 1, FAULT_CUT, 100000, NULL);
    fault(f, "/data/", -1, FAULT_WRONG_RANGE, 0, NULL);
    check_error("wrong part", resolve(f, "org/tiny"), &f->err, SR_CORRUPT, "model.safetensors", "part", NULL);
    has_no_weights(f);
}

static void damaged_content_is_fetched_again_and_then_refused(void **state) {
    struct fixture *f = *state;
    fault(f, "/data/", 1, FAULT_FLIP, 1234, NULL);
    resolves(f, "org/tiny");
    has_weights(f);
    put_line(f, "org/bad/config.json", "{\"a\":1}");
    put_line(f, "org/bad/model.safetensors", "weights");
    fault(f, "/org/bad/", -1, FAULT_FLIP, 2, NULL);
    check_error("damage", resolve(f, "org/bad"), &f->err, SR_CORRUPT, "org/bad", "hash", NULL);
    snprintf(f->path, sizeof f->path, "%s/models--org--bad/snapshots/%s/config.json", f->cache, commit);
    assert_int_equal(access(f->path, F_OK), -1);
}

static void foreign_beginning_is_found_by_the_hash(void **state) {
    struct fixture *f = *state;
    char *junk = calloc(2, WEIGHTS);
    assert_int_equal(sr_disk_make(model(f, "blobs"), NULL), SR_OK);
    write_file(blob(f, ".incomplete"), junk, WEIGHTS / 2);
    resolves(f, "org/tiny");
    has_weights(f);
    unlink(blob(f, ""));
    write_file(blob(f, ".incomplete"), junk, 2 * WEIGHTS); /* more than there is */
    resolves(f, "org/tiny");
    has_weights(f);
    unlink(blob(f, ""));
    write_file(blob(f, ".incomplete"), f->weights, WEIGHTS); /* all but the name */
    no_faults(f);
    resolves(f, "org/tiny");
    has_weights(f);
    assert_int_equal(requests(f, "/data/", NULL), 0);
    write_file(blob(f, ""), junk, 10); /* a blob that was cut by other hands */
    resolves(f, "org/tiny");
    has_weights(f);
    free(junk);
}

static void wrong_sizes_are_refused(void **state) {
    struct fixture *f = *state;
    f->o.patience = 0.05;
    fault(f, "/data/", -1, FAULT_LONG, 10, NULL);
    check_error("more", resolve(f, "org/tiny"), &f->err, SR_CORRUPT, "more than the 300000 bytes", NULL);
    no_faults(f);
    has_no_weights(f);
    put_line(f, "org/new/config.json", "{\"model_type\": \"x\"}");
    put_line(f, "org/new/model.safetensors", "x");
    fault(f, "config.json", -1, FAULT_SHORT, 10, NULL);
    check_error("less", resolve(f, "org/new"), &f->err, SR_IO, "config.json", "gave up", NULL);
    no_faults(f);
    /* Attempts that bring much, but come no further, end too. */
    enum { MUCH = 2 << 20 };
    char *much = calloc(1, MUCH);
    put_line(f, "org/much/config.json", "{}");
    put_file(f, "org/much/model.safetensors", much, MUCH);
    free(much);
    fault(f, "/data/org/much/", -1, FAULT_SHORT, 10, NULL);
    check_error("much", resolve(f, "org/much"), &f->err, SR_IO, "model.safetensors", "gave up", NULL);
}

static void busy_server_is_asked_again(void **state) {
    struct fixture *f = *state;
    fault(f, "/revision/", 1, FAULT_STATUS, 429, "Retry-After: 1\r\n");
    fault(f, "/tree/", 2, FAULT_STATUS, 500, NULL);
    fault(f, "/data/", 1, FAULT_STATUS, 503, NULL);
    double began = sr_clock();
    resolves(f, "org/tiny");
    has_weights(f);
    assert_true(sr_clock() - began >= 1);
    no_faults(f);
    fault(f, "/revision/", -1, FAULT_STATUS, 429, "Retry-After: 1000\r\n");
    put_line(f, "org/new/config.json", "{}");
    began = sr_clock();
    check_error("too long", resolve(f, "org/new"), &f->err, SR_IO, "429", "1000 s", NULL);
    assert_true(sr_clock() - began < 1);
}

static void silent_and_slow_servers_cost_a_bounded_time(void **state) {
    struct fixture *f = *state;
    fault(f, "config.json", 1, FAULT_HANG, 0, NULL);
    resolves(f, "org/tiny");
    has_weights(f);
    no_faults(f);
    f->o.patience = 0.05;
    fault(f, "/revision/", -1, FAULT_DRIP, 0, NULL); /* the name of a repository that is not in the cache */
    fault(f, "/org/slow/", -1, FAULT_DRIP, 0, NULL);
    put_line(f, "org/slow/config.json", "{}");
    put_file(f, "org/slow/model.safetensors", f->weights, 2000);
    double began = sr_clock();
    check_error("slow", resolve(f, "org/slow"), &f->err, SR_IO, "model.safetensors", NULL);
    assert_true(sr_clock() - began < 30);
}

/* ---------------------------------------------------------------- redirects and access */

static void token_stays_with_the_hub(void **state) {
    struct fixture *f = *state;
    f->server.want_token = f->o.token = "hf_secret";
    fault(f, "config.json", 1, FAULT_REDIRECT, 0,
          "/org/tiny/resolve/1111111111111111111111111111111111111111/config.json");
    resolves(f, "org/tiny");
    has_weights(f);
    int at_hub = 0, at_storage = 0;
    for (int i = 0; i < f->server.n_requests; i++) {
        const struct request *q = &f->server.request[i];
        if (q->port == 0) {
            assert_true(q->token);
            at_hub++;
        } else {
            assert_false(q->token);
            at_storage++;
        }
    }
    assert_true(at_hub > 3 && at_storage > 0);
}

static void redirects_that_lead_nowhere_end(void **state) {
    struct fixture *f = *state;
    char self[200];
    snprintf(self, sizeof self, "%s/org/tiny/resolve/%s/config.json", f->endpoint, commit);
    fault(f, "config.json", -1, FAULT_REDIRECT, 0, self);
    check_error("circle", resolve(f, "org/tiny"), &f->err, SR_IO, "redirects", "config.json", NULL);
    no_faults(f);
    fault(f, "config.json", -1, FAULT_REDIRECT, 0, "file:///etc/passwd");
    check_error("file", resolve(f, "org/tiny"), &f->err, SR_IO, "no http address", NULL);
    no_faults(f);
    fault(f, "config.json", -1, FAULT_STATUS, 302, ""); /* without a Location */
    check_error("nowhere", resolve(f, "org/tiny"), &f->err, SR_IO, "redirect", NULL);
}

static void refusals_say_what_to_do(void **state) {
    struct fixture *f = *state;
    check_error("no repository", resolve(f, "org/nosuch"), &f->err, SR_INVALID, "org/nosuch", "check the name",
                "HF_TOKEN", NULL);
    check_error("no revision", resolve(f, "org/tiny@nosuch"), &f->err, SR_INVALID, "no revision nosuch", NULL);
    fault(f, "/tree/", 1, FAULT_STATUS, 404, NULL);
    check_error("404", resolve(f, "org/tiny"), &f->err, SR_INVALID, "404", "spelling", NULL);
    fault(f, "model.safetensors", 1, FAULT_STATUS, 404, "X-Error-Code: EntryNotFound\r\n");
    check_error("gone", resolve(f, "org/tiny"), &f->err, SR_INVALID, "model.safetensors", "no more", NULL);
    fault(f, "/revision/", 1, FAULT_STATUS, 418, "X-Error-Message: a teapot\r\n");
    check_error("418", resolve(f, "org/tiny"), &f->err, SR_IO, "418", "a teapot", NULL);
    f->server.want_token = "hf_secret";
    check_error("gated", resolve(f, "org/tiny"), &f->err, SR_INVALID, "accept the terms", "HF_TOKEN", NULL);
    f->o.token = "hf_wrong";
    check_error("wrong token", resolve(f, "org/tiny"), &f->err, SR_INVALID, "token", "401", NULL);
    assert_null(strstr(f->err.msg, "hf_wrong"));
}

static void answers_that_are_no_listing_are_refused(void **state) {
    struct fixture *f = *state;
    static const char *const extra[][2] = {
        {"{\"type\":\"file\",\"path\":\"../../evil.json\",\"size\":1,\"oid\":\"%s\"},", "../../evil.json"},
        {"{\"type\":\"file\",\"path\":\"/etc/evil.json\",\"size\":1,\"oid\":\"%s\"},", "/etc/evil.json"},
        {"{\"type\":\"file\",\"path\":\"a\\\\..\\\\evil.json\",\"size\":1,\"oid\":\"%s\"},", "evil.json"},
        {"{\"type\":\"file\",\"path\":\"a\\u0000b.json\",\"size\":1,\"oid\":\"%s\"},", "path"},
        {"{\"type\":\"file\",\"path\":\"a.json\",\"size\":-1,\"oid\":\"%s\"},", "a.json"},
        {"{\"type\":\"file\",\"path\":\"a.json\",\"size\":1e30,\"oid\":\"%s\"},", "a.json"},
        {"{\"type\":\"file\",\"path\":\"b.json\",\"size\":1,\"oid\":\"../%s\"},", "b.json"},
        {"{\"type\":\"file\",\"size\":1,\"oid\":\"%s\"},", "path"},
        {"7,", "list of files"},
    };
    char text[400];
    for (size_t i = 0; i < sizeof extra / sizeof *extra; i++) {
        snprintf(text, sizeof text, extra[i][0], commit);
        f->server.extra = text;
        check_error(extra[i][0], resolve(f, "org/tiny"), &f->err, SR_CORRUPT, extra[i][1], NULL);
    }
    assert_int_equal(requests(f, "/resolve/", NULL), 0);
    assert_int_equal(access(f->cache, F_OK), -1); /* nothing was written at all */
}

/* ---------------------------------------------------------------- disk, links, other processes */

static void full_disk_leaves_nothing_half_written(void **state) {
    struct fixture *f = *state;
    struct rlimit was, small = {0};
    struct request last;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &was);
    small.rlim_cur = 65536;
    small.rlim_max = was.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    sr_status s = resolve(f, "org/tiny");
    setrlimit(RLIMIT_FSIZE, &was);
    check_error("full", s, &f->err, SR_IO, "cannot write", "free some space", NULL);
    has_no_weights(f);
    assert_int_equal(access(model(f, "refs/main"), F_OK), -1);
    no_faults(f);
    resolves(f, "org/tiny");
    has_weights(f);
    requests(f, "/data/", &last);
    assert_int_equal(last.from, 65536);
}

/* Zero, shared with the map, all there, and gone with both; or an error and nothing. */
static void scratch_files_have_no_name_and_all_their_room(void **state) {
    struct fixture *f = *state;
    enum { SIZE = 300001 };
    struct rlimit was, small = {0};
    struct stat st;
    sr_slab slab;
    sr_err err = {0};
    char path[700];
    uint8_t back[3] = {0};
    snprintf(path, sizeof path, "%s/scratch", f->dir);
    OK(sr_slab_scratch(path, SIZE, &slab, e_));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(fstat(slab.fd, &st), 0);
    assert_int_equal(st.st_size, SIZE);
    assert_true((int64_t)st.st_blocks * 512 >= SIZE);
    /* Behind the first page a part of one: only whole pages are the file's. */
    uint8_t *all = sr_pages_alloc(SIZE + 64), *at = all + 64;
    const int64_t page = sysconf(_SC_PAGESIZE), first = page - 64, end = first + (SIZE - first) / page * page;
    assert_non_null(all);
    assert_true(sr_pages_to_file(at, SIZE, slab.fd, 0));
    for (int i = 0; i < SIZE; i++) assert_int_equal(at[i], 0);
    at[first - 1] = at[end] = 6;
    at[first] = 7;
    at[end - 1] = 8;
    OK(sr_slab_read(&slab, path, 0, back, 1, e_));
    OK(sr_slab_read(&slab, path, end - first - 1, back + 1, 2, e_));
    assert_memory_equal(back, "\7\10\0", 3);
    OK(sr_slab_close(&slab, path, e_));
    assert_int_equal(at[end - 1], 8);
    sr_pages_free(all, SIZE + 64);

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &was);
    small.rlim_cur = 65536;
    small.rlim_max = was.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    sr_status s = sr_slab_scratch(path, SIZE, &slab, &err);
    setrlimit(RLIMIT_FSIZE, &was);
    check_error("full", s, &err, SR_IO, path, "free some space", NULL);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(slab.fd, -1);
}

static void links_in_the_cache_do_not_lead_out(void **state) {
    struct fixture *f = *state;
    char outside[700], victim[800];
    snprintf(outside, sizeof outside, "%s/outside", f->dir);
    snprintf(victim, sizeof victim, "%s/victim", outside);
    assert_int_equal(mkdir(outside, 0700), 0);
    write_text(victim, "keep me");
    /* a folder of the model */
    assert_int_equal(sr_disk_make(model(f, ""), NULL), SR_OK);
    assert_int_equal(symlink(outside, model(f, "snapshots")), 0);
    check_error("snapshots", resolve(f, "org/tiny"), &f->err, SR_IO, "leads out", NULL);
    unlink(model(f, "snapshots"));
    assert_int_equal(symlink(outside, model(f, "refs")), 0);
    assert_int_equal(symlink(outside, model(f, "trees")), 0);
    resolves(f, "org/tiny"); /* works, without remembering either */
    assert_int_equal(unlink(model(f, "trees")), 0);
    resolves(f, "org/tiny");
    unlink(model(f, "refs"));
    /* the file that grows */
    unlink(blob(f, ""));
    assert_int_equal(symlink(victim, blob(f, ".incomplete")), 0);
    check_error("incomplete", resolve(f, "org/tiny"), &f->err, SR_IO, ".incomplete", NULL);
    unlink(blob(f, ".incomplete"));
    /* an entry of the snapshot is replaced, not followed */
    write_file(victim, f->weights, WEIGHTS);
    unlink(snapshot(f, "model.safetensors"));
    assert_int_equal(symlink(victim, snapshot(f, "model.safetensors")), 0);
    resolves(f, "org/tiny");
    has_weights(f);
    char target[300];
    assert_true(readlink(snapshot(f, "model.safetensors"), target, sizeof target) > 12);
    assert_memory_equal(target, "../../blobs/", 12);
    holds(victim, f->weights, WEIGHTS);
    unlink(victim);
    assert_int_equal(rmdir(outside), 0); /* nothing was put there */
}

static void two_processes_do_not_fetch_the_same_file(void **state) {
    struct fixture *f = *state;
    char path[1500];
    sr_lock lock;
    int code;
    f->o.tokenizer_only = true;
    resolves(f, "org/tiny"); /* makes the folders */
    f->o.tokenizer_only = false;
    snprintf(path, sizeof path, "%s/.locks/models--org--tiny%s.lock", f->cache, strrchr(blob(f, ""), '/'));
    assert_int_equal(sr_lock_try(path, &lock, NULL), SR_OK);
    assert_true(lock.fd >= 0);
    pid_t child = fork();
    if (child == 0) {
        sr_lock_drop(&lock); /* its copy: the lock ends when nobody has it open */
        _exit(resolve(f, "org/tiny") == SR_OK ? 0 : 1);
    }
    struct timespec pause = {0, 600000000};
    nanosleep(&pause, NULL);
    assert_int_equal(requests(f, "/data/", NULL), 0); /* it waits */
    write_file(blob(f, ""), f->weights, WEIGHTS);     /* what the holder of the lock does */
    sr_lock_drop(&lock);
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    assert_int_equal(requests(f, "/data/", NULL), 0);
    has_weights(f);
}

struct watch {
    int64_t stop_at;
    double last, total;
};

static bool watch_progress(void *user, const char *what, double done, double total) {
    struct watch *w = user;
    (void)what;
    w->last = done;
    w->total = total;
    return w->stop_at < 0 || done < (double)w->stop_at;
}

static void cancelled_download_goes_on_next_time(void **state) {
    struct fixture *f = *state;
    struct watch w = {.stop_at = 1};
    struct request last;
    fault(f, "/data/", 1, FAULT_CUT, 100000, NULL);
    fault(f, "/data/", -1, FAULT_HANG, 0, NULL);
    f->o.progress = watch_progress;
    f->o.user = &w;
    check_error("cancel", resolve(f, "org/tiny"), &f->err, SR_CANCELLED, "kept", NULL);
    has_no_weights(f);
    int64_t have = sr_disk_size(blob(f, ".incomplete"));
    no_faults(f);
    w.stop_at = -1;
    resolves(f, "org/tiny");
    has_weights(f);
    requests(f, "/data/", &last);
    assert_int_equal(last.from, have > 0 ? have : -1);
    assert_true(w.total <= WEIGHTS); /* what is left, not what was there */
}

static void snapshots_without_links_hold_copies(void **state) {
    struct fixture *f = *state;
    struct stat st;
    put_line(f, "org/tiny/generation_config.json", "{}"); /* the same content as tokenizer.json */
    f->o.copies = true;
    resolves(f, "org/tiny");
    has_weights(f);
    assert_int_equal(lstat(snapshot(f, "model.safetensors"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(access(blob(f, ""), F_OK), -1); /* not twice on the disk */
    holds(snapshot(f, "generation_config.json"), "{}", 2);
    no_faults(f);
    resolves(f, "org/tiny");
    assert_int_equal(requests(f, "/resolve/", NULL), 0);
}

/* ---------------------------------------------------------------- without a network */

static void cache_serves_without_a_network(void **state) {
    struct fixture *f = *state;
    f->o.offline = true;
    check_error("nothing", resolve(f, "org/tiny"), &f->err, SR_IO, "not in the cache", "HF_HUB_OFFLINE", NULL);
    f->o.offline = false;
    resolves(f, "org/tiny");
    no_faults(f);
    f->o.offline = true;
    resolves(f, "org/tiny");
    assert_int_equal(requests(f, "", NULL), 0);
    /* A server that is gone, or ill, is a warning. */
    f->o.offline = false;
    fault(f, "/revision/", -1, FAULT_STATUS, 503, NULL);
    resolves(f, "org/tiny");
    f->o.endpoint = "http://127.0.0.1:1";
    resolves(f, "org/tiny");
    assert_string_equal(f->path + strlen(f->path) - 40, commit);
    /* Not for a model that was never here. */
    f->o.patience = 0.05;
    check_error("gone", resolve(f, "org/other"), &f->err, SR_IO, "org/other", "attempts", NULL);
    /* Without the list, as older tools leave it: what the snapshot holds. */
    f->o.offline = true;
    unlink(model(f, "trees/1111111111111111111111111111111111111111.json"));
    resolves(f, "org/tiny");
    f->o.offline = false;
    resolves(f, "org/tiny"); /* nor the hub */
    f->o.offline = true;
    unlink(snapshot(f, "model.safetensors"));
    check_error("no weights", resolve(f, "org/tiny"), &f->err, SR_IO, "no weights", "cache", NULL);
    unlink(snapshot(f, "config.json"));
    check_error("no weights", resolve(f, "org/tiny"), &f->err, SR_IO, "cache", NULL);
}

static void missing_file_is_named_when_offline(void **state) {
    struct fixture *f = *state;
    resolves(f, "org/tiny");
    unlink(snapshot(f, "model.safetensors"));
    f->o.offline = true;
    check_error("missing", resolve(f, "org/tiny"), &f->err, SR_IO, "model.safetensors", "not in the cache", NULL);
}

static void local_models_open_no_socket(void **state) {
    struct fixture *f = *state;
    sr_engine *e;
    sr_model *m;
    sr_engine_options options = {.threads = 1};
    int before = n_sockets;
    assert_int_equal(sr_engine_create(&options, &e, NULL), SR_OK);
    assert_int_equal(sr_model_open(e, SR_SOURCE_DIR "/tests/vectors/tiny/phi3", NULL, &m, NULL), SR_OK);
    sr_model_close(m);
    sr_engine_free(e);
    assert_int_equal(n_sockets, before);
    resolves(f, "org/tiny"); /* and this would be seen */
    assert_true(n_sockets > before);
    before = n_sockets;
    f->o.offline = true;
    resolves(f, "org/tiny");
    assert_int_equal(n_sockets, before);
}

/* ---------------------------------------------------------------- the stock */

struct found {
    int n;
    char text[2000];
};

static bool note_entry(void *user, const sr_hub_entry *e) {
    struct found *t = user;
    t->n++;
    snprintf(t->text + strlen(t->text), sizeof t->text - strlen(t->text), "%s@%s %d files, %d missing, %s, %lld;",
             e->name, e->revision ? e->revision : "-", e->n_files, e->n_missing, e->format, (long long)e->bytes);
    return true;
}

static void cache_is_listed(void **state) {
    struct fixture *f = *state;
    struct found t = {0};
    assert_int_equal(sr_hub_list(&f->o, note_entry, &t, NULL), SR_OK); /* none yet */
    assert_int_equal(t.n, 0);
    put_line(f, "org/tiny/config.json", "{\"a\":1,\"quantization_config\":{\"bits\":4,\"quant_method\":\"gptq\"}}");
    put_line(f, "a/b/c.gguf", "gguf");
    resolves(f, "org/tiny");
    resolves(f, "a/b");
    assert_int_equal(mkdir(in(f->cache, "datasets--x--y"), 0700), 0);
    assert_int_equal(mkdir(in(f->cache, "models--broken"), 0700), 0);
    unlink(snapshot(f, "tokenizer.json"));
    assert_int_equal(symlink("../../blobs/gone", snapshot(f, "tokenizer.json")), 0);
    assert_int_equal(sr_hub_list(&f->o, note_entry, &t, NULL), SR_OK);
    assert_string_equal(t.text, "a/b@main 1 files, 0 missing, gguf, 4;"
                                "org/tiny@main 3 files, 1 missing, safetensors gptq, 300062;");
}

static void model_is_removed_and_nothing_else(void **state) {
    struct fixture *f = *state;
    int64_t bytes;
    char outside[700], keep[800];
    snprintf(outside, sizeof outside, "%s/outside", f->dir);
    snprintf(keep, sizeof keep, "%s/keep", outside);
    assert_int_equal(mkdir(outside, 0700), 0);
    write_text(keep, "keep me");
    put_line(f, "a/b/c.gguf", "gguf");
    resolves(f, "org/tiny");
    resolves(f, "a/b");
    assert_int_equal(symlink(outside, model(f, "blobs/way-out")), 0);
    assert_int_equal(symlink(outside, in(f->cache, "models--org--linked")), 0);
    static const char *const bad[] = {"..", "../outside", "org/../../outside", "org/tiny@main", "", "org/.", "/", NULL};
    for (int i = 0; bad[i]; i++) {
        sr_err err = {0};
        if (sr_hub_delete(&f->o, bad[i], &bytes, &err) != SR_INVALID) fail_msg("%s: %s", bad[i], err.msg);
    }
    f->err = (sr_err){0};
    check_error("linked", sr_hub_delete(&f->o, "org/linked", &bytes, &f->err), &f->err, SR_IO, "link", NULL);
    f->err = (sr_err){0};
    check_error("absent", sr_hub_delete(&f->o, "org/absent", &bytes, &f->err), &f->err, SR_INVALID, "not in the cache",
                NULL);
    assert_int_equal(sr_hub_delete(&f->o, "org/tiny", &bytes, NULL), SR_OK);
    assert_true(bytes > WEIGHTS);
    assert_int_equal(access(model(f, ""), F_OK), -1);
    assert_int_equal(access(in(f->cache, ".locks/models--org--tiny"), F_OK), -1);
    holds(keep, "keep me", 7);
    struct found t = {0};
    unlink(in(f->cache, "models--org--linked"));
    assert_int_equal(sr_hub_list(&f->o, note_entry, &t, NULL), SR_OK);
    assert_string_equal(t.text, "a/b@main 1 files, 0 missing, gguf, 4;");
}

int main(int argc, char **argv) {
    /* A proxy of the user's would see what is meant for the loopback. */
    static const char *const proxies[] = {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"};
    for (int i = 0; i < 4; i++) unsetenv(proxies[i]);
#define WITH_HUB(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_told_from_paths),
        WITH_HUB(options_that_make_no_sense_are_refused),
        WITH_HUB(model_is_fetched_once_in_the_layout_of_the_cache),
        WITH_HUB(branch_that_moved_is_fetched_anew),
        WITH_HUB(long_lists_come_in_pages),
        WITH_HUB(shards_are_those_of_the_index),
        WITH_HUB(pickles_are_fetched_where_there_is_nothing_else),
        WITH_HUB(tokenizer_alone_leaves_the_weights),
        WITH_HUB(a_template_for_tools_comes_along),
        WITH_HUB(gguf_is_chosen_by_its_type),
        WITH_HUB(uqff_is_chosen_by_its_type),
        WITH_HUB(gguf_beside_safetensors_wants_a_word),
        WITH_HUB(cut_transfer_goes_on_where_it_ended),
        WITH_HUB(what_came_before_a_failure_serves_the_next_call),
        WITH_HUB(server_without_ranges_is_read_from_the_start),
        WITH_HUB(wrong_part_is_refused),
        WITH_HUB(damaged_content_is_fetched_again_and_then_refused),
        WITH_HUB(foreign_beginning_is_found_by_the_hash),
        WITH_HUB(wrong_sizes_are_refused),
        WITH_HUB(busy_server_is_asked_again),
        WITH_HUB(silent_and_slow_servers_cost_a_bounded_time),
        WITH_HUB(token_stays_with_the_hub),
        WITH_HUB(redirects_that_lead_nowhere_end),
        WITH_HUB(refusals_say_what_to_do),
        WITH_HUB(answers_that_are_no_listing_are_refused),
        WITH_HUB(full_disk_leaves_nothing_half_written),
        WITH_HUB(scratch_files_have_no_name_and_all_their_room),
        WITH_HUB(links_in_the_cache_do_not_lead_out),
        WITH_HUB(two_processes_do_not_fetch_the_same_file),
        WITH_HUB(cancelled_download_goes_on_next_time),
        WITH_HUB(snapshots_without_links_hold_copies),
        WITH_HUB(cache_serves_without_a_network),
        WITH_HUB(missing_file_is_named_when_offline),
        WITH_HUB(local_models_open_no_socket),
        WITH_HUB(cache_is_listed),
        WITH_HUB(model_is_removed_and_nothing_else),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    if (!sr_hub_downloads()) {
        const struct CMUnitTest names[] = {cmocka_unit_test(names_are_told_from_paths)};
        puts("hub: this build has no libcurl: only names are tested");
        return cmocka_run_group_tests(names, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

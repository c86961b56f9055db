/* Hostile and broken files against the command itself, numbered as docs/security.md lists them. Each attack ends within
 * 5 seconds of processor time and 1 GiB of memory, with exit code 1, one clear line on standard error and nothing
 * else; what is odd but legal ends with 0 within the same limits. */
#include "draft.h"
#include "torch.h"

#include <fcntl.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/map.h"

#define COMMAND SR_BINARY_DIR "/sirocco"
#define TINY SR_SOURCE_DIR "/tests/vectors/tiny/"
#define TOKENIZERS SR_SOURCE_DIR "/tests/vectors/tokenizer/"

enum { CPU_SECONDS = SANITIZED ? 30 : 5, MEMORY = 1 << 30, DIR_BYTES = 800 };

static char scratch[256];

static int set_up(void **state) {
    char path[300];
    if (make_scratch(state) != 0) return -1;
    snprintf(scratch, sizeof scratch, "%s", (const char *)*state);
    snprintf(path, sizeof path, "%s/cwd", scratch);
    return mkdir(path, 0700);
}

/* The command runs in an empty directory and leaves it empty. */
static int tear_down(void **state) {
    char path[300];
    snprintf(path, sizeof path, "%s/cwd", scratch);
    int left = rmdir(path);
    return remove_scratch(state) || left;
}

static const char *at(const char *name) {
    return in(scratch, name);
}

/* ---------------------------------------------------------------- running the command */

enum verb { INSPECT, RUN, TOKENIZE, TEMPLATE };

struct outcome {
    int code; /* -1: a signal, whose number is in `signal` */
    int signal;
    size_t n_out, n_err;
    char err[4096];
};

static void redirect(int to, const char *path, int flags) {
    int fd = open(path, flags, 0600);
    if (fd < 0 || dup2(fd, to) < 0) _exit(98);
    close(fd);
}

static void limit(int resource, rlim_t most) {
    struct rlimit r = {most, most};
    if (setrlimit(resource, &r) != 0) _exit(97);
}

static size_t read_some(const char *path, char *to, size_t cap) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    assert_non_null(f);
    to[fread(to, 1, cap - 1, f)] = 0;
    assert_int_equal(fstat(fileno(f), &st), 0);
    fclose(f);
    return (size_t)st.st_size;
}

/* text: prompt or text to tokenize; NULL: from the file `input`. */
static struct outcome run(enum verb verb, const char *path, const char *text, const char *input) {
    char out[512], err[512], cwd[512], some[16];
    struct outcome r = {.code = -1};
    snprintf(out, sizeof out, "%s/out", scratch);
    snprintf(err, sizeof err, "%s/err", scratch);
    snprintf(cwd, sizeof cwd, "%s/cwd", scratch);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const char *argv[4][12] = {
            {"sirocco", "inspect", path, NULL},
            {"sirocco", "run", path, "-q", "--threads", "2", "--max-tokens", "2", "-i", text ? text : "-", NULL},
            {"sirocco", "tokenize", path, text, NULL},
            {"sirocco", "template", path, NULL}};
        redirect(0, input ? input : "/dev/null", O_RDONLY);
        redirect(1, out, O_WRONLY | O_CREAT | O_TRUNC);
        redirect(2, err, O_WRONLY | O_CREAT | O_TRUNC);
        if (chdir(cwd) != 0) _exit(96);
        limit(RLIMIT_CPU, CPU_SECONDS);
        if (!SANITIZED) limit(RLIMIT_AS, MEMORY); /* the shadow of the address sanitizer alone is larger */
        limit(RLIMIT_CORE, 0);
        execv(COMMAND, (char *const *)(uintptr_t)argv[verb]);
        _exit(99);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status))
        r.code = WEXITSTATUS(status);
    else
        r.signal = WTERMSIG(status);
    r.n_out = read_some(out, some, sizeof some);
    r.n_err = read_some(err, r.err, sizeof r.err);
    return r;
}

/* Exit code 1, nothing on standard output, one line that names the file and says these words. */
static void check_refusal(const char *what, struct outcome r, const char *word, const char *also) {
    const char *newline = strchr(r.err, '\n');
    if (r.code != 1)
        fail_msg("%s: exit code %d, signal %d, expected 1; standard error: %s", what, r.code, r.signal, r.err);
    if (r.n_out) fail_msg("%s: %zu bytes on standard output; standard error: %s", what, r.n_out, r.err);
    if (strncmp(r.err, "sirocco: error: ", 16) != 0 || !newline || newline[1])
        fail_msg("%s: not one line of error: %s", what, r.err);
    if ((word && !strstr(r.err, word)) || (also && !strstr(r.err, also)))
        fail_msg("%s: \"%s\" does not say \"%s\" and \"%s\"", what, r.err, word ? word : "", also ? also : "");
}

static void refuse(enum verb verb, const char *path, const char *word, const char *also) {
    char what[512];
    snprintf(what, sizeof what, "%s (%s)", path, word ? word : "");
    struct outcome r = run(verb, path, "hello", NULL);
    check_refusal(what, r, strrchr(path, '/') + 1, NULL);
    check_refusal(what, r, word, also);
}

static void check_success(const char *what, struct outcome r) {
    if (r.code != 0 || strstr(r.err, "error"))
        fail_msg("%s: exit code %d, signal %d, expected 0; standard error: %s", what, r.code, r.signal, r.err);
}

static void accept_it(enum verb verb, const char *path) {
    check_success(path, run(verb, path, "hello", NULL));
}

static void refuse_bytes(struct bytes *b, const char *name, const char *word, const char *also) {
    const char *path = at(name);
    write_file(path, b->data, b->n);
    drop(b);
    refuse(INSPECT, path, word, also);
}
static void refuse_gguf(struct bytes *b, const char *word, const char *also) {
    refuse_bytes(b, "t.gguf", word, also);
}

static void refuse_draft(struct draft *d, const char *word, const char *also) {
    const char *path = at("m.gguf");
    draft_write_gguf(d, path);
    draft_close(d);
    refuse(RUN, path, word, also);
}
static void accept_draft(struct draft *d, enum verb verb) {
    const char *path = at("m.gguf");
    draft_write_gguf(d, path);
    draft_close(d);
    accept_it(verb, path);
}

static void the_files_that_attacks_start_from_are_good(void **state) {
    (void)state;
    struct draft d = draft_of(TINY "llama.gguf");
    accept_it(INSPECT, TINY "llama.gguf");
    accept_it(RUN, TINY "llama.gguf");
    accept_it(TOKENIZE, TINY "llama.gguf");
    accept_it(RUN, TINY "llama");
    accept_draft(&d, RUN);
}

/* ---------------------------------------------------------------- 1 to 5: GGUF header and metadata */

static void attack_1_magic_and_version(void **state) {
    (void)state;
    static const uint32_t versions[] = {0, 4, 0x7fff, UINT32_MAX, 0x04000000};
    struct bytes b = {0};
    g_header(&b, 3, 0, 0);
    b.data[3] = 'X';
    refuse_gguf(&b, "GGUX", "expected \"GGUF\"");
    for (int i = 0; i < 5; i++) {
        g_header(&b, versions[i], 0, 0);
        refuse_gguf(&b, i == 4 ? "version 4," : "version", "expected 1 to 3");
    }
    put(&b, "GGUF", 4);
    refuse_gguf(&b, "cut off", NULL);
    refuse_gguf(&b, "found", "GGUF"); /* empty */
    put(&b, "hello", 5);
    refuse_bytes(&b, "t.bin", "expected GGUF", "safetensors");
    /* 43 bytes: a header of one value, whose array has a length without an end */
    g_header(&b, 3, 0, 1);
    g_key(&b, "a", G_ARRAY);
    put_int(&b, G_U8, 4);
    put_int(&b, 0xFFFF, 2);
    assert_int_equal(b.n, 43);
    refuse_gguf(&b, "cut off", "43");
}

static void attack_1_truncation(void **state) {
    (void)state;
    char *text;
    size_t n;
    sr_err err = {0};
    assert_int_equal(sr_file_read(TINY "llama.gguf", 1 << 24, &text, &n, &err), SR_OK);
    /* Records stand in the first 10 KiB, tensors behind; every cut in tests/gguf_test.c. */
    const char *path = at("t.gguf");
    for (size_t cut = 1; cut < n; cut += cut < 32 ? 7 : cut < 1024 ? 131 : cut < 10000 ? 997 : 32749) {
        write_file(path, text, cut);
        refuse(cut % 2 ? INSPECT : RUN, path, cut < 4 ? "GGUF" : NULL, NULL);
    }
    write_file(path, text, n - 1);
    refuse(RUN, path, "output_norm.weight", "cut off");
    free(text);
}

static void attack_2_counts_and_lengths(void **state) {
    (void)state;
    static const uint64_t counts[] = {UINT64_MAX, INT64_MAX, (uint64_t)1 << 62, (uint64_t)1 << 40, 1000};
    static const uint64_t lengths[] = {1 << 30,           (uint64_t)1 << 32, INT64_MAX,
                                       (uint64_t)1 << 63, UINT64_MAX - 7,    UINT64_MAX};
    struct bytes b = {0};
    for (int i = 0; i < 5; i++) {
        g_header(&b, 3, counts[i], 0);
        refuse_gguf(&b, "tensors", NULL);
        g_header(&b, 3, 0, counts[i]);
        refuse_gguf(&b, "values", NULL);
    }
    for (int i = 0; i < 6; i++) {
        g_header(&b, 3, 0, 1);
        g_key(&b, "victim", G_STRING);
        put_int(&b, lengths[i], 8);
        put_zeros(&b, 32);
        refuse_gguf(&b, "victim", NULL);
        for (uint32_t type = G_U8; type <= G_F64; type += type == G_U8 ? G_STRING : 4) {
            g_header(&b, 3, 0, 1);
            g_array(&b, "victim", type, lengths[i]);
            put_zeros(&b, 32);
            refuse_gguf(&b, "victim", NULL);
        }
        g_header(&b, 3, 0, 1);
        put_int(&b, lengths[i], 8);
        put_zeros(&b, 32);
        refuse_gguf(&b, "metadata key", "expected 1 to 256");
    }
    /* An array that the file does hold, past the limit on metadata: no byte of it is touched. */
    const char *path = at("t.gguf");
    g_header(&b, 3, 0, 1);
    g_array(&b, "huge", G_U8, 300 << 20);
    write_file(path, b.data, b.n);
    assert_int_equal(truncate(path, (off_t)b.n + (300 << 20)), 0);
    drop(&b);
    refuse(INSPECT, path, "huge", "268435456");
}

static void attack_2_a_large_vocabulary_is_legal(void **state) {
    (void)state;
    enum { N = 200000 };
    struct draft d = {0};
    struct bytes *tokens, *types, *scores;
    draft_text(&d, "tokenizer.ggml.model", "llama");
    tokens = draft_value(&d, "tokenizer.ggml.tokens", G_ARRAY);
    types = draft_value(&d, "tokenizer.ggml.token_type", G_ARRAY);
    scores = draft_value(&d, "tokenizer.ggml.scores", G_ARRAY);
    put_int(tokens, G_STRING, 4);
    put_int(types, G_I32, 4);
    put_int(scores, G_F32, 4);
    struct bytes *const all[3] = {tokens, types, scores};
    for (int i = 0; i < 3; i++) put_int(all[i], N, 8);
    for (int i = 0; i < N; i++) {
        char piece[16];
        snprintf(piece, sizeof piece, "t%d", i);
        g_text(tokens, piece);
        put_int(types, 1, 4);
        put_int(scores, 0, 4);
    }
    accept_draft(&d, TOKENIZE);
}

static void attack_3_keys(void **state) {
    (void)state;
    static const char bad_utf8[] = "bad\xff\xfe", zero[] = "ze\0ro";
    struct bytes b = {0};
    g_header(&b, 3, 0, 2);
    g_u32(&b, "twice", 1);
    g_u32(&b, "twice", 2);
    refuse_gguf(&b, "\"twice\"", "twice");
    g_header(&b, 3, 0, 1);
    g_u32(&b, "", 1);
    refuse_gguf(&b, "metadata key", "expected 1 to 256");
    char *many = malloc(1 << 20);
    assert_non_null(many);
    memset(many, 'k', 1 << 20);
    g_header(&b, 3, 0, 1);
    g_text_n(&b, many, 1 << 20);
    put_int(&b, G_U8, 4);
    put_int(&b, 1, 1);
    refuse_gguf(&b, "metadata key", "1048576 bytes");
    free(many);
    g_header(&b, 3, 0, 1);
    g_text_n(&b, bad_utf8, 5);
    put_int(&b, G_U32, 4);
    put_int(&b, 1, 4);
    refuse_gguf(&b, "bad??", "UTF-8");
    g_header(&b, 3, 0, 1);
    g_text_n(&b, zero, 5);
    put_int(&b, G_U32, 4);
    put_int(&b, 1, 4);
    refuse_gguf(&b, "ze?ro", "zero byte");
    g_header(&b, 3, 0, 1);
    g_key(&b, "text", G_STRING);
    g_text_n(&b, zero, 5);
    refuse_gguf(&b, "\"text\"", "zero byte");
    /* A key that would steer the terminal comes out as question marks, on one line. */
    g_header(&b, 3, 0, 1);
    g_key(&b, "\033[2J\nsirocco: error: no\r", 99);
    refuse_gguf(&b, "value type 99", NULL);
}

static void attack_3_value_types(void **state) {
    (void)state;
    static const uint32_t types[] = {13, 255, UINT32_MAX};
    struct bytes b = {0};
    for (int i = 0; i < 3; i++) {
        g_header(&b, 3, 0, 1);
        g_key(&b, "odd", types[i]);
        put_zeros(&b, 16);
        refuse_gguf(&b, "\"odd\"", "expected 0 to 12");
        g_header(&b, 3, 0, 1);
        g_array(&b, "odd", types[i], 1);
        put_zeros(&b, 16);
        refuse_gguf(&b, "\"odd\"", "expected 0 to 12");
    }
    g_header(&b, 3, 0, 1);
    g_array(&b, "nested", G_ARRAY, 1 << 20);
    for (int i = 0; i < 1000; i++) {
        put_int(&b, G_ARRAY, 4);
        put_int(&b, 1, 8);
    }
    refuse_gguf(&b, "\"nested\"", "array of arrays");
    struct draft d = draft_of(TINY "llama.gguf");
    draft_int(&d, "general.architecture", G_U32, 7, 4);
    refuse_draft(&d, "general.architecture", NULL);
    d = draft_of(TINY "llama.gguf");
    draft_text(&d, "tokenizer.ggml.bos_token_id", "1");
    refuse_draft(&d, "tokenizer.ggml.bos_token_id", "the text");
    d = draft_of(TINY "llama.gguf");
    draft_int(&d, "tokenizer.ggml.add_bos_token", G_U32, 1, 4);
    refuse_draft(&d, "tokenizer.ggml.add_bos_token", "true or false");
}

static void attack_4_alignment(void **state) {
    (void)state;
    static const uint32_t bad[] = {0, 3, 33, UINT32_MAX};
    struct bytes b = {0};
    for (int i = 0; i < 4; i++) {
        g_header(&b, 3, 0, 1);
        g_u32(&b, "general.alignment", bad[i]);
        refuse_gguf(&b, "general.alignment", "power of two");
    }
    g_header(&b, 3, 1, 1);
    g_u32(&b, "general.alignment", 1 << 30);
    g_tensor(&b, "w", 8, 0, 0, 0);
    put_zeros(&b, 64);
    refuse_gguf(&b, "general.alignment 1073741824", "cut off");
    g_header(&b, 3, 0, 1);
    g_key(&b, "general.alignment", G_U64);
    put_int(&b, 32, 8);
    refuse_gguf(&b, "general.alignment", "u64");
    g_header(&b, 3, 0, 1);
    g_string(&b, "general.alignment", "32");
    refuse_gguf(&b, "general.alignment", "string");
    /* Large and legal. */
    const char *path = at("t.gguf");
    g_header(&b, 3, 1, 1);
    g_u32(&b, "general.alignment", 1 << 24);
    g_tensor(&b, "w", 8, 0, 0, 0);
    write_file(path, b.data, b.n);
    assert_int_equal(truncate(path, (1 << 24) + 32), 0);
    drop(&b);
    accept_it(INSPECT, path);
    g_header(&b, 3, 0, 1);
    g_u32(&b, "general.alignment", 1 << 30);
    write_file(path, b.data, b.n);
    drop(&b);
    accept_it(INSPECT, path);
}

/* SentencePiece by score: [0] unknown, then these; all normal but for the types given (0: normal). */
static struct draft spm(int n, const char *const *pieces, const int *type) {
    struct draft d = {0};
    draft_text(&d, "tokenizer.ggml.model", "llama");
    struct bytes *tokens = draft_value(&d, "tokenizer.ggml.tokens", G_ARRAY);
    struct bytes *scores = draft_value(&d, "tokenizer.ggml.scores", G_ARRAY);
    struct bytes *types = draft_value(&d, "tokenizer.ggml.token_type", G_ARRAY);
    put_int(tokens, G_STRING, 4);
    put_int(scores, G_F32, 4);
    put_int(types, G_I32, 4);
    put_int(tokens, (uint64_t)n, 8);
    put_int(scores, (uint64_t)n, 8);
    put_int(types, (uint64_t)n, 8);
    for (int i = 0; i < n; i++) {
        g_text(tokens, pieces[i]);
        put_int(scores, 0, 4);
        put_int(types, (uint64_t)(type[i] ? type[i] : 1), 4);
    }
    return d;
}

static void attack_5_arrays(void **state) {
    (void)state;
    static const struct {
        const char *key;
        uint32_t type;
        uint64_t n; /* of zeros */
        const char *word;
    } cases[] = {
        {"tokenizer.ggml.scores", G_U8, 3, "floats"},
        {"tokenizer.ggml.scores", G_F32, 2, "found 2 elements"},
        {"tokenizer.ggml.scores", G_F32, 0, "found 0 elements"},
        {"tokenizer.ggml.token_type", G_F32, 3, "integers"},
        {"tokenizer.ggml.token_type", G_STRING, 3, "integers"},
        {"tokenizer.ggml.token_type", G_I32, 2, "found 2 elements"},
        {"tokenizer.ggml.token_type", G_I32, 4, "found 4 elements"},
        {"tokenizer.ggml.tokens", G_U8, 3, "strings"},
        {"tokenizer.ggml.tokens", G_STRING, 0, "1 to 2^24"},
    };
    static const char *const pieces[] = {"<unk>", "he", "llo"};
    static const int types[] = {2, 0, 0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static const unsigned size[13] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
        struct draft d = spm(3, pieces, types);
        struct bytes *raw = draft_value(&d, cases[i].key, G_ARRAY);
        put_int(raw, cases[i].type, 4);
        put_int(raw, cases[i].n, 8);
        put_zeros(raw, (size_t)cases[i].n * size[cases[i].type]);
        draft_write_gguf(&d, at("v.gguf"));
        draft_close(&d);
        refuse(TOKENIZE, at("v.gguf"), cases[i].key, cases[i].word);
    }
    struct draft d = draft_of(TINY "llama.gguf");
    draft_ints(&d, "tokenizer.ggml.merges", 2, (const int32_t[]){1, 2});
    refuse_draft(&d, "tokenizer.ggml.merges", "strings");
    d = draft_of(TINY "llama.gguf");
    draft_text(&d, "tokenizer.ggml.tokens", "abc");
    refuse_draft(&d, "tokenizer.ggml.tokens", "no array");
    d = draft_of(TINY "llama.gguf"); /* a key that nothing here reads */
    struct bytes *raw = draft_value(&d, "tokenizer.ggml.suppress_tokens", G_ARRAY);
    put_int(raw, G_U8, 4);
    put_int(raw, 3, 8);
    put_zeros(raw, 3);
    accept_draft(&d, RUN);
}

/* ---------------------------------------------------------------- 6: hyper-parameters; all of them in arch_test */

static void attack_6_hyper_parameters(void **state) {
    (void)state;
    static const struct {
        const char *key;
        uint32_t type;
        double value;
        const char *word;
    } cases[] = {
        {"llama.block_count", G_U32, 0xFFFFFFFF, "4294967295"},
        {"llama.block_count", G_U32, 1000000, "1 to 1024"},
        {"llama.block_count", G_U32, 0, "found 0"},
        {"llama.attention.head_count", G_U32, 0, "found 0"},
        {"llama.attention.head_count_kv", G_U32, 0, "found 0"},
        {"llama.attention.head_count_kv", G_U32, 3, "multiple"},
        {"llama.expert_count", G_U32, 1025, "1 to 1024"},
        {"llama.context_length", G_U32, 0x1p31, "2147483648"},
        {"llama.rope.dimension_count", G_U32, 15, "even"},
        {"llama.attention.layer_norm_rms_epsilon", G_F32, (double)NAN, "finite"},
        {"llama.rope.freq_base", G_F32, 0, "found 0"},
        {"llama.embedding_length", G_U32, 0x1p31, "2147483648"},
        {"llama.feed_forward_length", G_U32, 0, "found 0"},
        {"llama.vocab_size", G_U32, 0, "found 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct draft d = draft_of(TINY "llama.gguf");
        if (cases[i].type == G_F32)
            draft_f32(&d, cases[i].key, (float)cases[i].value);
        else
            draft_int(&d, cases[i].key, G_U32, (uint64_t)cases[i].value, 4);
        refuse_draft(&d, cases[i].key, cases[i].word);
    }
    struct draft d = draft_of(TINY "llama.gguf");
    draft_int(&d, "llama.expert_count", G_U32, 0, 4); /* a dense model's router uses more experts than there are */
    draft_int(&d, "llama.expert_used_count", G_U32, 8, 4);
    accept_draft(&d, RUN);
    d = draft_of(TINY "llama.gguf");
    draft_int(&d, "llama.context_length", G_U32, INT32_MAX, 4);
    accept_draft(&d, RUN);
}

/* Files of a few MiB whose buffers would take GiBs: wide layers, and many wide heads times the context. */
static void attack_6_small_files_with_large_needs(void **state) {
    (void)state;
    if (SANITIZED) skip(); /* its memory is not limited there */
    enum { WIDE = 1 << 20 };
    for (int i = 0; i < 2; i++) {
        int64_t q = i == 0 ? 2 : WIDE, ff = i == 0 ? WIDE : 1;
        struct draft d = draft_of(TINY "llama.gguf");
        for (int k = 0; k < d.n_parts; k++) d.part[k].name = NULL;
        draft_int(&d, "llama.block_count", G_U32, 1, 4);
        draft_int(&d, "llama.context_length", G_U32, 1 << 20, 4);
        draft_int(&d, "llama.embedding_length", G_U32, 1, 4);
        draft_int(&d, "llama.feed_forward_length", G_U32, (uint64_t)ff, 4);
        draft_int(&d, "llama.attention.head_count", G_U32, i == 0 ? 1 : 4096, 4);
        draft_int(&d, "llama.attention.head_count_kv", G_U32, i == 0 ? 1 : 4096, 4);
        draft_int(&d, "llama.attention.key_length", G_U32, i == 0 ? 2 : 256, 4);
        draft_int(&d, "llama.attention.value_length", G_U32, i == 0 ? 2 : 256, 4);
        draft_int(&d, "llama.rope.dimension_count", G_U32, 2, 4);
        draft_reshape(&d, "token_embd.weight", "f16", 384, 1);
        draft_reshape(&d, "output_norm.weight", "f32", 1, 0);
        draft_reshape(&d, "blk.0.attn_norm.weight", "f32", 1, 0);
        draft_reshape(&d, "blk.0.ffn_norm.weight", "f32", 1, 0);
        draft_reshape(&d, "blk.0.attn_q.weight", "f16", q, 1);
        draft_reshape(&d, "blk.0.attn_k.weight", "f16", q, 1);
        draft_reshape(&d, "blk.0.attn_v.weight", "f16", q, 1);
        draft_reshape(&d, "blk.0.attn_output.weight", "f16", 1, q);
        draft_reshape(&d, "blk.0.ffn_gate.weight", "f16", ff, 1);
        draft_reshape(&d, "blk.0.ffn_up.weight", "f16", ff, 1);
        draft_reshape(&d, "blk.0.ffn_down.weight", "f16", 1, ff);
        refuse_draft(&d, "no memory", NULL);
    }
}

/* A directory "hf" of tiny/llama with this config.json. */
static const char *model_dir(const char *config) {
    static char dir[DIR_BYTES];
    snprintf(dir, sizeof dir, "%s/hf", scratch);
    if (mkdir(dir, 0700) == 0) {
        assert_int_equal(symlink(TINY "llama/model.safetensors", in(dir, "model.safetensors")), 0);
        assert_int_equal(symlink(TINY "llama/tokenizer.json", in(dir, "tokenizer.json")), 0);
    }
    write_text(in(dir, "config.json"), config);
    return dir;
}

#define CONFIG                                                                                                         \
    "\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"intermediate_size\":160,"                           \
    "\"max_position_embeddings\":128,\"num_attention_heads\":4,\"rms_norm_eps\":1e-5,\"vocab_size\":384,"

static void attack_6_configs(void **state) {
    (void)state;
    static const struct {
        const char *config, *word, *also;
    } cases[] = {
        {"{" CONFIG "\"num_key_value_heads\":2,\"num_hidden_layers\":9999999999}", "num_hidden_layers", "9999999999"},
        {"{" CONFIG "\"num_key_value_heads\":2,\"num_hidden_layers\":-2}", "num_hidden_layers", "-2"},
        {"{" CONFIG "\"num_key_value_heads\":2,\"num_hidden_layers\":\"2\"}", "num_hidden_layers", "the text"},
        {"{" CONFIG "\"num_key_value_heads\":2}", "num_hidden_layers", "missing"},
        {"{" CONFIG "\"num_key_value_heads\":0,\"num_hidden_layers\":2}", "num_key_value_heads", "found 0"},
        {"{" CONFIG "\"num_key_value_heads\":2,\"num_hidden_layers\":2,\"rope_theta\":NaN}", "rope_theta", "finite"},
        {"{" CONFIG "\"num_key_value_heads\":2,\"num_hidden_layers\":2,\"head_dim\":1e400}", "head_dim", "nan"},
        {"{" CONFIG "\"num_key_value_heads\":2,\"num_hidden_layers\":2,\"vocab_size\":384}", "vocab_size", "twice"},
        {"[]", "config.json", "object"},
        {"{", "config.json", NULL},
        {"", "config.json", NULL},
        {"{\"a\":\"\xff\"}", "config.json", "UTF-8"},
        {"{\"a\\u0000b\":1}", "config.json", "zero byte"},
        {"{} {}", "config.json", "behind"},
        {"{}", "model_type", "expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(RUN, model_dir(cases[i].config), cases[i].word, cases[i].also);
    char *deep = malloc(2000001);
    assert_non_null(deep);
    for (int i = 0; i < 400000; i++) memcpy(deep + 5 * (size_t)i, "{\"a\":", 5);
    deep[2000000] = 0;
    refuse(RUN, model_dir(deep), "config.json", NULL);
    memset(deep, '[', 2000000);
    memcpy(deep, "{\"a\":", 5);
    refuse(RUN, model_dir(deep), "config.json", NULL);
    free(deep);
    accept_it(RUN, model_dir("{" CONFIG "\"num_key_value_heads\":2,\"num_hidden_layers\":2}"));
    accept_it(RUN, model_dir("{" CONFIG "\"num_key_value_heads\":2,\"num_hidden_layers\":2,\"note\":\"\\ud800\"}"));
}

/* ---------------------------------------------------------------- 7 to 10: GGUF tensors */

static void attack_7_dimensions(void **state) {
    (void)state;
    static const uint32_t n_dims[] = {0, 5, 8, 255, UINT32_MAX};
    static const uint64_t dims[][4] = {
        {0, 1, 1, 1},                                             /* nothing */
        {32, 0, 1, 1},                                            /* nothing in a row of 32 */
        {UINT64_MAX, 1, 1, 1},                                    /* -1 */
        {(uint64_t)1 << 63, 1, 1, 1},                             /* INT64_MIN */
        {((uint64_t)1 << 42) + 1, ((uint64_t)1 << 42) + 1, 1, 1}, /* past 2^64 */
        {(uint64_t)1 << 32, (uint64_t)1 << 32, 1, 1},             /* 2^64 wraps to 0 */
        {(uint64_t)1 << 31, (uint64_t)1 << 31, 4, 1},             /* 2^64 by a third one */
        {((uint64_t)1 << 32) + 1, (uint64_t)1 << 32, 1, 1},       /* wraps to 2^32 */
        {32, (uint64_t)1 << 57, 1, 1},                            /* 2^62 elements, 2^64 bytes */
        {0x4000000000000001, 4, 1, 1},                            /* wraps to 4 */
        {(uint64_t)1 << 61, 1, 1, 1},                             /* 2^63 bytes */
        {((uint64_t)1 << 62) - 32, 1, 1, 1},                      /* just below 2^64 bytes */
        {(uint64_t)1 << 40, 1, 1, 1},                             /* only far too much */
    };
    struct bytes b = {0};
    for (int i = 0; i < 5; i++) {
        g_header(&b, 3, 1, 0);
        g_text(&b, "victim");
        put_int(&b, n_dims[i], 4);
        put_zeros(&b, 256);
        refuse_gguf(&b, "victim", "expected 1 to 4");
    }
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        g_header(&b, 3, 1, 0);
        g_text(&b, "victim");
        put_int(&b, 4, 4);
        for (int k = 0; k < 4; k++) put_int(&b, dims[i][k], 8);
        put_int(&b, 0, 4);
        put_int(&b, 0, 8);
        put_zeros(&b, 256);
        refuse_gguf(&b, "victim", NULL);
    }
}

static void attack_8_and_9_sizes_and_offsets(void **state) {
    (void)state;
    static const struct {
        uint64_t offset;
        const char *word;
    } offsets[] = {
        {1, "multiple of 32"},
        {31, "multiple of 32"},
        {4096, "end"},
        {(uint64_t)1 << 40, "past the end"},
        {INT64_MAX - 31, "past the end"},
        {(uint64_t)1 << 63, "past the end"},
        {UINT64_MAX - 31, "past the end"}, /* offset + size wraps to the start */
        {UINT64_MAX - 1, "multiple of 32"},
    };
    struct bytes b = {0};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        g_header(&b, 3, 1, 0);
        g_tensor(&b, "victim", 8, 4, 0, offsets[i].offset);
        pad_to(&b, 32);
        put_zeros(&b, 128);
        refuse_gguf(&b, "victim", offsets[i].word);
    }
    /* Sums that wrap: two sizes of 0x7FFF...C0, one that becomes 0 when it is padded. */
    g_header(&b, 3, 2, 0);
    g_tensor(&b, "victim", 0x7FFFFFFFFFFFFFC0, 0, 24, 0);
    g_tensor(&b, "second", 0x7FFFFFFFFFFFFFC0, 0, 24, 0x7FFFFFFFFFFFFFC0);
    pad_to(&b, 32);
    put_zeros(&b, 128);
    refuse_gguf(&b, NULL, "end");
    g_header(&b, 3, 1, 0);
    g_tensor(&b, "victim", INT64_MAX, 0, 24, 0);
    pad_to(&b, 32);
    put_zeros(&b, 128);
    refuse_gguf(&b, "victim", "cut off");
    /* One byte less than it says. */
    g_header(&b, 3, 1, 0);
    g_tensor(&b, "victim", 8, 4, 0, 0);
    pad_to(&b, 32);
    put_zeros(&b, 127);
    refuse_gguf(&b, "victim", "128 bytes");
    /* Two tensors share bytes. */
    g_header(&b, 3, 2, 0);
    g_tensor(&b, "first", 8, 4, 0, 0);
    g_tensor(&b, "victim", 8, 4, 0, 96);
    pad_to(&b, 32);
    put_zeros(&b, 256);
    refuse_gguf(&b, "victim", "overlaps");
}

static void attack_10_types_and_names(void **state) {
    (void)state;
    static const uint32_t types[] = {4, 5, 36, 43, 1000, UINT32_MAX};
    struct bytes b = {0};
    for (int i = 0; i < 6; i++) {
        g_header(&b, 3, 1, 0);
        g_tensor(&b, "victim", 32, 4, types[i], 0);
        pad_to(&b, 32);
        put_zeros(&b, 1024);
        refuse_gguf(&b, "victim", "type number");
    }
    g_header(&b, 3, 1, 0);
    g_tensor(&b, "victim", 48, 4, 8, 0); /* q8_0 has blocks of 32 */
    pad_to(&b, 32);
    put_zeros(&b, 1024);
    refuse_gguf(&b, "victim", "multiple of 32");
    g_header(&b, 3, 2, 0);
    g_tensor(&b, "victim", 8, 0, 0, 0);
    g_tensor(&b, "victim", 8, 0, 0, 32);
    pad_to(&b, 32);
    put_zeros(&b, 64);
    refuse_gguf(&b, "victim", "twice");
    g_header(&b, 3, 1, 0);
    g_tensor(&b, "", 8, 0, 0, 0);
    put_zeros(&b, 64);
    refuse_gguf(&b, "tensor", "1 to 256");
    g_header(&b, 3, 1, 0);
    put_int(&b, 200, 8);
    put(&b, "victim", 6); /* the name goes on to the end of the file and beyond */
    put_zeros(&b, 64);
    refuse_gguf(&b, "tensor", "cut off");
    g_header(&b, 3, 1, 0);
    put_int(&b, UINT64_MAX, 8);
    put(&b, "victim", 6);
    put_zeros(&b, 64);
    refuse_gguf(&b, "tensor", "1 to 256");

    static const struct {
        const char *name, *type;
        int64_t n, k;
        const char *also;
    } shapes[] = {
        {"token_embd.weight", "f32", 4, 64, "[4, 64]"},     {"output.weight", "f32", 1, 1, "[1, 1]"},
        {"blk.0.attn_q.weight", "f32", 1, 64, "[1, 64]"},   {"blk.0.attn_k.weight", "f32", 32, 1, "[32, 1]"},
        {"blk.1.ffn_down.weight", "f32", 64, 8, "[64, 8]"}, {"output_norm.weight", "f32", 1, 0, "expected 64"},
        {"blk.0.ffn_up.weight", "i32", 160, 64, "i32"},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct draft d = draft_of(TINY "llama.gguf");
        char stem[64];
        snprintf(stem, sizeof stem, "%.*s", (int)(strlen(shapes[i].name) - strlen(".weight")), shapes[i].name);
        draft_reshape(&d, shapes[i].name, shapes[i].type, shapes[i].n, shapes[i].k);
        refuse_draft(&d, stem, shapes[i].also);
    }
    struct draft d = draft_of(TINY "llama.gguf");
    draft_part(&d, "blk.1.attn_v.weight")->name = NULL;
    refuse_draft(&d, "blk.1.attn_v.weight", "missing");
}

/* ---------------------------------------------------------------- 11: numbers in weights */

static void attack_11_norms_that_are_not_finite(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        struct draft d = draft_of(TINY "llama.gguf");
        memcpy(draft_part(&d, "blk.1.ffn_norm.weight")->data.data, &bad[i], 4);
        refuse_draft(&d, "blk.1.ffn_norm.weight", "expected finite");
    }
}

/* A model whose matrices are of this type, every byte of them one of a repeated pattern. */
static struct draft filled_model(const char *type, uint32_t pattern) {
    static const struct {
        const char *name;
        int64_t n, k;
    } shapes[] = {{"attn_q", 256, 256},   {"attn_k", 256, 256}, {"attn_v", 256, 256},  {"attn_output", 256, 256},
                  {"ffn_gate", 256, 256}, {"ffn_up", 256, 256}, {"ffn_down", 256, 256}};
    static char names[7][64];
    struct draft d = draft_of(TINY "llama.gguf");
    for (int i = 0; i < d.n_parts; i++) d.part[i].name = NULL;
    draft_int(&d, "llama.block_count", G_U32, 1, 4);
    draft_int(&d, "llama.embedding_length", G_U32, 256, 4);
    draft_int(&d, "llama.feed_forward_length", G_U32, 256, 4);
    draft_int(&d, "llama.attention.head_count_kv", G_U32, 4, 4);
    draft_int(&d, "llama.attention.key_length", G_U32, 64, 4);
    draft_int(&d, "llama.attention.value_length", G_U32, 64, 4);
    draft_int(&d, "llama.rope.dimension_count", G_U32, 64, 4);
    static const char *const norms[] = {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"};
    const float one = 1;
    draft_reshape(&d, "token_embd.weight", "f32", 384, 256);
    for (int i = 0; i < 384 * 256; i++) memcpy(draft_part(&d, "token_embd.weight")->data.data + 4 * i, &one, 4);
    for (int i = 0; i < 3; i++) {
        draft_reshape(&d, norms[i], "f32", 256, 0);
        for (int k = 0; k < 256; k++) memcpy(draft_part(&d, norms[i])->data.data + 4 * k, &one, 4);
    }
    for (int i = 0; i < 7; i++) {
        snprintf(names[i], sizeof names[i], "blk.0.%s.weight", shapes[i].name);
        draft_reshape(&d, names[i], type, shapes[i].n, shapes[i].k);
        struct draft_part *p = draft_part(&d, names[i]);
        for (size_t k = 0; k < p->data.n; k++) p->data.data[k] = (uint8_t)(pattern >> 8 * (k % 4));
    }
    return d;
}

static void attack_11_scales_of_every_type(void **state) {
    (void)state;
    static const char *const types[] = {"f32",   "f16",    "bf16",   "q4_0",    "q4_1",  "q5_0",  "q5_1",
                                        "q8_0",  "q2_k",   "q3_k",   "q4_k",    "q5_k",  "q6_k",  "q8_k",
                                        "tq1_0", "iq4_nl", "iq4_xs", "iq2_xxs", "iq3_s", "iq1_s", "mxfp4"};
    /* all ones: NaN scales, the largest index of a grid; infinities and NaN of f16, bf16, f32; subnormal scales; large
     * and negative ones */
    static const uint32_t patterns[] = {0xFFFFFFFF, 0x7C007C00, 0x7F800001, 0x00010001, 0xFBFF7BFF};
    const char *path = at("m.gguf");
    int refused = 0, ran = 0;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int i = 0; i < 5; i++) {
            if (!sr_stored_by_name(types[t])) fail_msg("no type %s", types[t]);
            struct draft d = filled_model(types[t], patterns[i]);
            char what[64];
            snprintf(what, sizeof what, "%s filled with %08x", types[t], patterns[i]);
            draft_write_gguf(&d, path);
            draft_close(&d);
            struct outcome r = run(RUN, path, "hello", NULL);
            ran++;
            if (r.code == 0) continue;
            refused++;
            check_refusal(what, r, "m.gguf", strstr(r.err, "no format") ? "blk.0.attn_q" : "not a number");
            if (strstr(r.err, "no format")) break; /* not a type of this build */
        }
    assert_true(refused > 0 && refused < ran);
}

/* ---------------------------------------------------------------- 12 to 15: tokenizers */

static void attack_12_special_ids(void **state) {
    (void)state;
    static const char *const keys[] = {"bos", "eos", "eot", "unknown", "padding", "eom"};
    static const uint64_t ids[] = {384, 0x7FFFFFFF, 0xFFFFFFFE};
    char key[64], word[32];
    for (int i = 0; i < 6; i++) {
        struct draft d = draft_of(TINY "llama.gguf");
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", keys[i]);
        snprintf(word, sizeof word, "found %llu", (unsigned long long)ids[i % 3]);
        draft_int(&d, key, G_U32, ids[i % 3], 4);
        refuse_draft(&d, key, word);
    }
    struct draft d = draft_of(TINY "llama.gguf");
    draft_int(&d, "tokenizer.ggml.bos_token_id", G_I32, (uint64_t)-7, 4);
    refuse_draft(&d, "tokenizer.ggml.bos_token_id", "-7");
    d = draft_of(TINY "llama.gguf"); /* the model's embedding has fewer rows than the vocabulary */
    draft_reshape(&d, "token_embd.weight", "f32", 300, 64);
    draft_reshape(&d, "output.weight", "f32", 300, 64);
    draft_int(&d, "llama.vocab_size", G_U32, 300, 4);
    refuse_draft(&d, "384 tokens", "300 rows");
    /* Defaults (1, 2, 11) that a tiny vocabulary does not have are none. */
    static const char *const one[] = {"hello"};
    d = spm(1, one, (const int[]){0});
    accept_draft(&d, TOKENIZE);
    d = draft_of(TOKENIZERS "pre-gpt-2.gguf");
    struct bytes *raw = draft_value(&d, "tokenizer.ggml.tokens", G_ARRAY);
    put_int(raw, G_STRING, 4);
    put_int(raw, 2, 8);
    g_text(raw, "h");
    g_text(raw, "e");
    draft_drop_value(&d, "tokenizer.ggml.token_type");
    for (int i = 0; i < d.n_values; i++)
        if (d.value[i].key && strstr(d.value[i].key, "_token_id")) d.value[i].key = NULL;
    accept_draft(&d, TOKENIZE);
}

static void attack_13_byte_tokens_and_long_tokens(void **state) {
    (void)state;
    static const char *const pieces[] = {"<unk>",  "<0x-1>", "<0x",     "<0xZZ>", "<0x0A>", "<0x0a>",
                                         "<0x0A",  "0x0A>",  "<0x100>", "<0x>",   "",       "<0x\xc3\xa9>",
                                         "<0X0A>", "h",      "e",       "llo"};
    static const int types[] = {2, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 0, 0, 0};
    struct draft d = spm(16, pieces, types);
    accept_draft(&d, TOKENIZE);
    char *longest = malloc((1 << 22) + 1);
    assert_non_null(longest);
    memset(longest, 'h', 1 << 22);
    longest[1 << 22] = 0;
    for (int type = 1; type <= 6; type++) {
        const char *const two[] = {"<unk>", longest, "h"};
        d = spm(3, two, (const int[]){2, type, 0});
        accept_draft(&d, TOKENIZE);
    }
    free(longest);
}

static const char *tokenizer_dir(const char *json) {
    static char dir[DIR_BYTES];
    snprintf(dir, sizeof dir, "%s/vocab", scratch);
    mkdir(dir, 0700);
    write_text(in(dir, "tokenizer.json"), json);
    return dir;
}
static void refuse_json(const char *json, const char *word) {
    const char *dir = tokenizer_dir(json);
    struct outcome r = run(TOKENIZE, dir, "hello", NULL);
    char what[64];
    snprintf(what, sizeof what, "%.*s", 60, json);
    check_refusal(what, r, "vocab", word);
}

static void refuse_file(const char *name, const char *data, size_t n, const char *word) {
    char dir[DIR_BYTES];
    snprintf(dir, sizeof dir, "%s/files", scratch);
    mkdir(dir, 0700);
    write_text(in(dir, "config.json"), "{}");
    write_file(in(dir, name), data, n);
    check_refusal(name, run(TOKENIZE, dir, "hello", NULL), name, word);
    unlink(in(dir, name));
}

#define BPE "\"model\":{\"type\":\"BPE\",\"vocab\":{\"h\":0,\"e\":1,\"he\":2},\"merges\":[\"h e\"]}"

static void attack_14_merges_and_normalizers(void **state) {
    (void)state;
    struct draft d = draft_of(TINY "llama.gguf");
    struct bytes *raw = draft_value(&d, "tokenizer.ggml.merges", G_ARRAY);
    put_int(raw, G_STRING, 4);
    put_int(raw, 2, 8);
    g_text(raw, "h e");
    g_text(raw, "nospace");
    refuse_draft(&d, "tokenizer.ggml.merges", "nospace");
    d = draft_of(TINY "llama.gguf");
    draft_drop_value(&d, "tokenizer.ggml.merges");
    refuse_draft(&d, "tokenizer.ggml.merges", NULL);
    d = draft_of(TOKENIZERS "t5.gguf"); /* whose charsmap is shorter than its own header */
    raw = draft_value(&d, "tokenizer.ggml.precompiled_charsmap", G_ARRAY);
    put_int(raw, G_U8, 4);
    put_int(raw, 2, 8);
    put_zeros(raw, 2);
    draft_write_gguf(&d, at("m.gguf"));
    draft_close(&d);
    refuse(TOKENIZE, at("m.gguf"), "precompiled_charsmap", "2 bytes");

    refuse_json("{" BPE ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA=\"}}", "2 bytes");
    refuse_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", "merge 0");
    refuse_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", "aa");
    refuse_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4000000},\"merges\":[]}}", "4000000");
    refuse_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "-1");
    refuse_json("{" BPE ",\"added_tokens\":[{\"id\":536870911,\"content\":\"x\"}]}", NULL);
    refuse_json("{" BPE ",\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"s\",9],\"cls\":[\"c\",0]}}", "9");
    refuse_json("{" BPE "} {}", "white space");
    refuse_json("[]", "object");
    refuse_json(" ", NULL);
    refuse_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xc0\x80\":0},\"merges\":[]}}", NULL);

    /* The other files: see tokenizer_files_test. */
    refuse_file("tokenizer.model", "\x0a\xff\xff\xff\xff\x0f", 6, "cut off");
    refuse_file("tokenizer.model", "\x0b", 1, "wire type 3");
    refuse_file("tokenizer.model", "AA== -1\n", 8, "line 1");
    refuse_file("x.tiktoken", "AA== 0\nAQ==\n", 12, "line 2");
    refuse_file("x.tiktoken", "AA== 0\nAA== 1\n", 14, "second time");
    refuse_file("tekken.json", "{\"config\":{\"default_vocab_size\":1e9}}", 36, "default_vocab_size");

    /* Cyclic, duplicate and useless merges, token types missing: legal. */
    accept_it(TOKENIZE,
              tokenizer_dir("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"h\":0,\"e\":1,\"he\":2,\"heh\":3,\"eh\":4},"
                            "\"merges\":[\"h e\",\"h e\",\"he h\",\"h eh\",\"he h\"]}}"));
}

/* A text on standard input; NULL word: it ends well. */
static void pipe_text(const char *tokenizer, const char *piece, size_t times, const char *word) {
    struct bytes b = {0};
    const char *path = at("text");
    for (size_t i = 0; i < times; i++) put(&b, piece, strlen(piece));
    write_file(path, b.data, b.n);
    drop(&b);
    struct outcome r = run(TOKENIZE, tokenizer, NULL, path);
    if (word)
        check_refusal(piece, r, word, NULL);
    else
        check_success(piece, r);
}

static void attack_15_long_and_broken_texts(void **state) {
    (void)state;
    static const char *const tokenizers[] = {TOKENIZERS "llama3", TOKENIZERS "llama2", TOKENIZERS "spm.gguf",
                                             TOKENIZERS "pre-gpt-4o.gguf", TOKENIZERS "pre-deepseek-llm.gguf"};
    const size_t mega = SANITIZED ? 1 << 15 : 1 << 20; /* one line of output a token: what takes the time */
    for (int i = 0; i < 5; i++) {
        pipe_text(tokenizers[i], "A", 9400, NULL);
        pipe_text(tokenizers[i], "a", i == 0 || i == 2 ? mega : mega / 8, NULL);
        pipe_text(tokenizers[i], "\xff\xc0\x80\xed\xa0\x80\xf4", mega / 64, NULL);
    }
    pipe_text(tokenizers[0], " ", mega, NULL);
    pipe_text(tokenizers[1], "\xe2\x96\x81", mega / 8, NULL);
    check_success("invalid UTF-8", run(RUN, TINY "llama.gguf", "\xff\xfe\x80 \xed\xa0\x80", NULL));

    /* Patterns that no engine can match in time, and nesting that recursion could not bear. */
    const char *bomb = tokenizer_dir("{" BPE ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\","
                                     "\"pattern\":{\"Regex\":\"(h+h+)+x|(h|h)*y\"}}}");
    pipe_text(bomb, "h", 5000, "(h+h+)+x");
    static const char open_regex[] = "{" BPE ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"",
                      open_list[] = "{\"type\":\"Sequence\",\"normalizers\":[";
    for (int n = 1000; n <= 100000; n *= 10) {
        struct bytes b = {0};
        put(&b, open_regex, strlen(open_regex));
        for (int i = 0; i < n; i++) put(&b, "(", 1);
        put(&b, "\"}}}", 5);
        refuse_json((const char *)b.data, "pattern");
        drop(&b);
        put(&b, "{" BPE ",\"normalizer\":", strlen("{" BPE ",\"normalizer\":"));
        for (int i = 0; i < n; i++) put(&b, open_list, strlen(open_list));
        put(&b, "", 1);
        refuse_json((const char *)b.data, NULL);
        drop(&b);
    }
    /* Lone surrogates are read as U+FFFD. */
    accept_it(TOKENIZE, tokenizer_dir("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\\ud800\":0,\"\\udc00x\":1,\"h\":2},"
                                      "\"merges\":[]}}"));
}

static void attack_15_a_prompt_of_2_gib(void **state) {
    (void)state;
    if (SANITIZED) skip(); /* its memory is not limited there */
    const char *path = at("text");
    write_text(path, "");
    assert_int_equal(truncate(path, (off_t)1 << 31), 0);
    check_refusal("2 GiB", run(TOKENIZE, TOKENIZERS "spm.gguf", NULL, path), "", NULL);
}

/* ---------------------------------------------------------------- 16 to 18: safetensors */

static void refuse_st(const char *header, uint64_t n, size_t data, const char *word, const char *also) {
    struct bytes b = {0};
    put_int(&b, n, 8);
    put(&b, header, strlen(header));
    put_zeros(&b, data);
    refuse_bytes(&b, "t.safetensors", word, also);
}
static void refuse_header(const char *header, size_t data, const char *word, const char *also) {
    refuse_st(header, strlen(header), data, word, also);
}

#define ENTRY(shape, offsets) "\"w\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void attack_16_header(void **state) {
    (void)state;
    static const uint64_t lengths[] = {0, 100, (uint64_t)1 << 40, INT64_MAX, (uint64_t)1 << 63, UINT64_MAX};
    struct bytes b = {0};
    refuse_bytes(&b, "t.safetensors", "found", NULL); /* empty */
    put(&b, "\x01\0\0", 3);
    refuse_bytes(&b, "t.safetensors", "8 of a header length", NULL);
    for (int i = 0; i < 6; i++) refuse_st("{}", lengths[i], 0, "found a header of", "expected 1 to");
    /* 200 MB of header in a file that has them. */
    const char *path = at("t.safetensors");
    put_int(&b, 200 * 1000 * 1000, 8);
    put(&b, "{", 1);
    write_file(path, b.data, b.n);
    drop(&b);
    assert_int_equal(truncate(path, 200 * 1000 * 1000 + 8), 0);
    refuse(INSPECT, path, "200000000", "100000000");

    refuse_header("[]", 0, "does not start with '{'", NULL);
    refuse_header("{\"\xff\":1}", 0, "UTF-8", NULL);
    refuse_header("{\"w\":1}", 0, "\"w\"", "no object");
    refuse_header("{\"w\":null}", 0, "\"w\"", "no object");
    refuse_header("{\"w\":{}}", 0, "\"w\"", "expected all three");
    refuse_header("{", 0, NULL, NULL);
    refuse_header("{} x", 0, "behind", NULL);
    refuse_header("{}", 9, "9 bytes of no tensor", NULL);
    refuse_header("{" ENTRY("[2]", "[0,8]") "}", 9, "1 bytes of no tensor", NULL);
    char *deep = malloc(5000001);
    assert_non_null(deep);
    memset(deep, '[', 5000000);
    memcpy(deep, "{\"w\":{\"shape\":", 14);
    deep[5000000] = 0;
    refuse_header(deep, 0, "t.safetensors", NULL);
    for (int i = 0; i < 1000000; i++) memcpy(deep + 5 * (size_t)i, "{\"a\":", 5);
    refuse_header(deep, 0, "t.safetensors", NULL);
    free(deep);
}

static void attack_17_entries(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *word;
    } cases[] = {
        {"{" ENTRY("[2]", "[8,0]") "}", 8, "data_offsets 8 to 0"},
        {"{" ENTRY("[2]", "[0,9]") "}", 9, "9 bytes, expected 8"},
        {"{" ENTRY("[2]", "[0,16]") "}", 8, "data_offsets 0 to 16"},
        {"{" ENTRY("[2]", "[8,16]") "}", 16, "8 bytes of no tensor"},
        {"{" ENTRY("[2]", "[-8,0]") "}", 8, "data_offsets"},
        {"{" ENTRY("[2]", "[0,8.5]") "}", 8, "data_offsets"},
        {"{" ENTRY("[2]", "[0,8.0]") "}", 8, "data_offsets"},
        {"{" ENTRY("[2]", "[0,1e1]") "}", 8, "data_offsets"},
        {"{" ENTRY("[2]", "[0,18446744073709551624]") "}", 8, "data_offsets"},
        {"{" ENTRY("[2]", "[9007199254740993,9007199254741001]") "}", 8, "9007199254740993"},
        {"{" ENTRY("[2]", "[0,8,8]") "}", 8, "data_offsets"},
        {"{" ENTRY("[2]", "8") "}", 8, "data_offsets"},
        {"{" ENTRY("[2]", "[]") "}", 8, "data_offsets"},
        {"{" ENTRY("[-2]", "[0,8]") "}", 8, "shape"},
        {"{" ENTRY("[2.0]", "[0,8]") "}", 8, "shape"},
        {"{" ENTRY("[\"2\"]", "[0,8]") "}", 8, "shape"},
        {"{" ENTRY("[1,1,1,1,1,1,1,1,2]", "[0,8]") "}", 8, "at most 8"},
        {"{" ENTRY("[3]", "[0,8]") "}", 8, "expected 12"},
        {"{" ENTRY("[4294967296,4294967296]", "[0,0]") "}", 0, "63 bits"},
        {"{" ENTRY("[4611686018427387904,4]", "[0,0]") "}", 0, "63 bits"},
        {"{" ENTRY("[4611686018427387904]", "[0,0]") "}", 0, "size"},
        {"{\"w\":{\"dtype\":\"F99\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "F99"},
        {"{\"w\":{\"dtype\":\"\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype"},
        {"{\"w\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype"},
        {"{\"w\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, "whole number of bytes"},
        {"{\"w\":{\"dtype\":\"U8\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "dtype"},
        {"{" ENTRY("[2]", "[0,8]") "," ENTRY("[2]", "[8,16]") "}", 16, "twice"},
        {"{" ENTRY("[2]", "[0,8]") ",\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "overlaps"},
        {"{" ENTRY("[2]", "[0,8]") ",\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "overlaps"},
        {"{\"\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "empty"},
        {"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "zero byte"},
        {"{\"__metadata__\":{\"a\":1}," ENTRY("[2]", "[0,8]") "}", 8, "__metadata__"},
        {"{\"__metadata__\":7," ENTRY("[2]", "[0,8]") "}", 8, "__metadata__"},
        {"{\"__metadata__\":{},\"__metadata__\":{}," ENTRY("[2]", "[0,8]") "}", 8, "__metadata__"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse_header(cases[i].header, cases[i].data, cases[i].word, NULL);
}

static const char *sharded_dir(const char *index) {
    static char dir[DIR_BYTES];
    snprintf(dir, sizeof dir, "%s/shards", scratch);
    if (mkdir(dir, 0700) == 0) {
        static const char a[] = "{" ENTRY("[2]", "[0,8]") "}";
        static const char v[] = "{\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
        for (int i = 0; i < 3; i++) { /* c holds the tensor of a */
            struct bytes b = {0};
            const char *header = i == 1 ? v : a;
            put_int(&b, strlen(header), 8);
            put(&b, header, strlen(header));
            put_zeros(&b, 8);
            write_file(in(dir, i == 0 ? "a.safetensors" : i == 1 ? "b.safetensors" : "c.safetensors"), b.data, b.n);
            if (i == 0) write_file(at("outside.safetensors"), b.data, b.n);
            drop(&b);
        }
        assert_int_equal(symlink("nowhere", in(dir, "dangling.safetensors")), 0);
        assert_int_equal(symlink("loop.safetensors", in(dir, "loop.safetensors")), 0);
        assert_int_equal(symlink("/dev/zero", in(dir, "zero.safetensors")), 0);
        write_text(in(dir, "config.json"), "{}");
    }
    write_text(in(dir, "model.safetensors.index.json"), index);
    return dir;
}

#define MAP(entries) "{\"weight_map\":{" entries "}}"

static void attack_18_index(void **state) {
    (void)state;
    static const struct {
        const char *index, *word, *also;
    } cases[] = {
        {MAP("\"w\":\"../outside.safetensors\""), "\"w\"", "plain name"},
        {MAP("\"w\":\"x/../../outside.safetensors\""), "\"w\"", "plain name"},
        {MAP("\"w\":\"..\\\\outside.safetensors\""), "\"w\"", "plain name"},
        {MAP("\"w\":\"/dev/zero.safetensors\""), "\"w\"", "plain name"},
        {MAP("\"w\":\"\\u002e\\u002e\\u002foutside.safetensors\""), "\"w\"", "plain name"},
        {MAP("\"w\":\"a.safetensors\\u0000/x.safetensors\""), "\"w\"", "plain name"},
        {MAP("\"w\":\"\""), "\"w\"", "plain name"},
        {MAP("\"w\":7"), "\"w\"", "plain name"},
        {MAP("\"w\":\"config.json\""), "\"w\"", "plain name"},
        {MAP("\"w\":\"a.safetensors\",\"v\":\"gone.safetensors\""), "gone.safetensors", "\"v\""},
        {MAP("\"w\":\"a.safetensors\",\"v\":\"dangling.safetensors\""), "dangling.safetensors", NULL},
        {MAP("\"w\":\"a.safetensors\",\"v\":\"loop.safetensors\""), "loop.safetensors", NULL},
        {MAP("\"w\":\"zero.safetensors\""), "zero.safetensors", NULL},
        {MAP("\"w\":\"a.safetensors\",\"w\":\"b.safetensors\""), "\"w\"", "two files"},
        {MAP("\"w\":\"a.safetensors\",\"x\":\"c.safetensors\""), "\"w\"", "two files"},
        {MAP(""), "weight_map", "empty"},
        {"{\"weight_map\":[]}", "weight_map", NULL},
        {"{}", "weight_map", NULL},
        {"[", "index.json", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refusal(cases[i].index, run(INSPECT, sharded_dir(cases[i].index), NULL, NULL), cases[i].word,
                      cases[i].also);
    struct outcome r = run(INSPECT, sharded_dir(MAP("\"w\":\"a.safetensors\",\"v\":\"b.safetensors\"")), NULL, NULL);
    check_success("a good index", r);
}

/* ---------------------------------------------------------------- 9 to 11, 17: quantized checkpoints */

/* A directory "quantized": this tiny model's configuration, and what the draft of its weights has become. */
static const char *quantized_dir(const char *model, struct draft *d) {
    static char dir[DIR_BYTES];
    char config[DIR_BYTES];
    snprintf(dir, sizeof dir, "%s/quantized", scratch);
    snprintf(config, sizeof config, TINY "%s/config.json", model);
    mkdir(dir, 0700);
    unlink(in(dir, "config.json"));
    assert_int_equal(symlink(config, in(dir, "config.json")), 0);
    write_text(in(dir, "tokenizer.json"), "{" BPE "}");
    draft_write_safetensors(d, in(dir, "model.safetensors"));
    draft_close(d);
    return dir;
}

#define LAYER "model.layers.0."

static void attack_9_to_11_quantized_checkpoints(void **state) {
    (void)state;
    enum { GONE, SHAPE, BYTES }; /* what happens to the part: it goes, is [n][k] of a type, starts with bytes */
    static const struct {
        const char *model, *part;
        int change;
        const char *type; /* or the bytes */
        int64_t n, k;
        const char *word, *also;
    } cases[] = {
        {"gptq-4", "mlp.down_proj.g_idx", BYTES, "\5\0\0\0", 4, 0, "mlp.down_proj", "g_idx of column 0 is 5"},
        {"gptq-4", "mlp.down_proj.g_idx", BYTES, "\377\377\377\377", 4, 0, "mlp.down_proj", "column 0 is -1"},
        {"gptq-4", "mlp.down_proj.g_idx", SHAPE, "i32", 159, 0, "mlp.down_proj", "159"},
        {"gptq-4", "mlp.down_proj.g_idx", SHAPE, "i64", 160, 0, "mlp.down_proj", "of type i64"},
        {"gptq-4", "mlp.down_proj.qzeros", SHAPE, "i32", 4, 8, "mlp.down_proj.qzeros", "[4, 8], expected [5, 8]"},
        {"gptq-4", "mlp.down_proj.scales", GONE, NULL, 0, 0, "mlp.down_proj.scales' is missing", "quantized"},
        {"gptq-4", "mlp.down_proj.qweight", SHAPE, "i32", 19, 64, "mlp.down_proj", NULL},
        {"gptq-4", "mlp.down_proj.qweight", SHAPE, "f16", 20, 64, "mlp.down_proj.qweight", "stored as f16"},
        {"awq-4", "mlp.down_proj.scales", GONE, NULL, 0, 0, "mlp.down_proj.scales' is missing", "quantized"},
        {"awq-4", "mlp.down_proj.qzeros", SHAPE, "i32", 5, 7, "mlp.down_proj.qzeros", "expected [5, 8]"},
        {"bnb-nf4", "mlp.down_proj.weight.nested_absmax", SHAPE, "f32", 0, 0, "mlp.down_proj", "nested_absmax"},
        {"bnb-nf4", "mlp.down_proj.weight.nested_absmax", GONE, NULL, 0, 0, "mlp.down_proj", "nested_absmax"},
        {"bnb-nf4", "mlp.down_proj.weight.nested_absmax", BYTES, "\0\0\300\177", 4, 0, "mlp.down_proj", "not finite"},
        {"bnb-nf4", "mlp.down_proj.weight.absmax", SHAPE, "u8", 159, 0, "mlp.down_proj", "159 bytes, expected 160"},
        {"bnb-nf4", "mlp.down_proj.weight.quant_map", SHAPE, "f32", 15, 0, "mlp.down_proj.weight.quant_map", "[15]"},
        {"bnb-nf4", "mlp.down_proj.weight", SHAPE, "u8", 5119, 1, "mlp.down_proj", "5119 bytes, expected 5120"},
        {"ct-w4a16", "mlp.down_proj.weight_scale", GONE, NULL, 0, 0, "mlp.down_proj.weight_scale' is missing", NULL},
        {"ct-w4a16", "mlp.down_proj.weight_shape", BYTES, "\377\377\377\377\377\377\377\177", 8, 0, "mlp.down_proj",
         "weight_shape"},
        {"ct-w4a16", "mlp.down_proj.weight_zero_point", SHAPE, "i32", 8, 4, "mlp.down_proj", "weight_zero_point"},
        {"ct-w4a16", "mlp.down_proj.weight_packed", SHAPE, "i32", 64, 19, "mlp.down_proj", "weight_packed"},
        {"hqq-4", "mlp.down_proj.zero", GONE, NULL, 0, 0, "mlp.down_proj", "zero' is missing"},
        {"ct-nvfp4", "mlp.down_proj.weight_scale", SHAPE, "f8_e4m3", 64, 9, "mlp.down_proj.weight_scale", "[64, 9]"},
        {"fp8-block", "mlp.down_proj.weight_scale_inv", GONE, NULL, 0, 0, "mlp.down_proj", "is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[DIR_BYTES], name[128];
        snprintf(path, sizeof path, TINY "%s/model.safetensors", cases[i].model);
        snprintf(name, sizeof name, LAYER "%s", cases[i].part);
        struct draft d = draft_of(path);
        if (cases[i].change == GONE)
            draft_part(&d, name)->name = NULL;
        else if (cases[i].change == SHAPE)
            draft_reshape(&d, name, cases[i].type, cases[i].n, cases[i].k);
        else
            memcpy(draft_part(&d, name)->data.data, cases[i].type, (size_t)cases[i].n);
        struct outcome r = run(RUN, quantized_dir(cases[i].model, &d), "hello", NULL);
        check_refusal(name, r, "quantized", cases[i].word);
        check_refusal(name, r, cases[i].also, NULL);
    }
    /* Any zero point that a field can hold is one. */
    static const char *const zeros[][2] = {{"gptq-4", LAYER "mlp.down_proj.qzeros"},
                                           {"awq-4", LAYER "mlp.down_proj.qzeros"},
                                           {"ct-w4a16", LAYER "mlp.down_proj.weight_zero_point"}};
    for (int i = 0; i < 3; i++) {
        char path[DIR_BYTES];
        snprintf(path, sizeof path, TINY "%s/model.safetensors", zeros[i][0]);
        struct draft d = draft_of(path);
        struct draft_part *p = draft_part(&d, zeros[i][1]);
        memset(p->data.data, 0xff, p->data.n);
        accept_it(RUN, quantized_dir(zeros[i][0], &d));
    }
}

/* ---------------------------------------------------------------- 19 and 20: PyTorch archives */

/* A directory "torch" whose weights are this file, by one of the two names that are looked for. */
static void refuse_torch(const char *file, const struct bytes *b, const char *word) {
    static char dir[DIR_BYTES];
    static const char *const names[] = {"qmodel.pt", "pytorch_model.bin"};
    snprintf(dir, sizeof dir, "%s/torch", scratch);
    if (mkdir(dir, 0700) == 0) assert_int_equal(symlink(TINY "llama/config.json", in(dir, "config.json")), 0);
    for (int i = 0; i < 2; i++) {
        if (file)
            assert_int_equal(symlink(file, in(dir, names[i])), 0);
        else
            write_file(in(dir, names[i]), b->data, b->n);
        check_refusal(word, run(i ? RUN : INSPECT, dir, "hello", NULL), names[i], word);
        unlink(in(dir, names[i]));
    }
}
static void refuse_archive(struct archive *a, const char *word) {
    refuse_torch(NULL, &a->b, word);
    drop(&a->b);
}
static void refuse_pickle(struct bytes *pickle, const char *word) {
    struct archive a = torch_archive(pickle, false);
    drop(pickle);
    refuse_archive(&a, word);
}
#define refuse_program(text, word)                                                                                     \
    do {                                                                                                               \
        struct bytes p_ = {0};                                                                                         \
        PUT(&p_, text);                                                                                                \
        refuse_pickle(&p_, word);                                                                                      \
    } while (0)
#define refuse_tensor(word, ...)                                                                                       \
    do {                                                                                                               \
        struct bytes p_ = pickle_of(&(struct tensor){__VA_ARGS__});                                                    \
        refuse_pickle(&p_, word);                                                                                      \
    } while (0)

/* All in pickle_test. What a call would have done shows in the working directory, which must stay empty. */
static void attack_19_pickles(void **state) {
    (void)state;
    refuse_program("cos\nsystem\nX\11\0\0\0touch bad\205R.", "\"os.system\"");
    refuse_program("cbuiltins\neval\nX\1\0\0\0x\205R.", "\"builtins.eval\"");
    refuse_program("\200\4\214\5posix\214\6system\223\214\11touch bad\205R.", "\"posix.system\"");
    refuse_program("ctorch.serialization\nload\n.", "\"torch.serialization.load\"");
    refuse_program("(X\11\0\0\0touch badios\nsystem\n.", "instruction 0x69");
    refuse_program("(cos\nsystem\nX\11\0\0\0touch bado.", "\"os.system\"");
    refuse_program("ccollections\nOrderedDict\n)\201.", "instruction 0x81");
    refuse_program("\202\1.", "instruction 0x82");
    refuse_program(")K\1K\2s.", "a tuple under values to add");
    refuse_program("ctorch._utils\n_rebuild_tensor_v2\n)R.", "a tensor that is not");
    refuse_program("ctorch._utils\n_rebuild_tensor_v3\n)R.", "a tensor that is not");
    refuse_program("}X\1\0\0\0wctorch\nSize\ns.", "a global");
    refuse_tensor("found 24 bytes, expected 1000000", "FloatStorage", "0", 1000000, 0, 1, {1000000}, {1});
    refuse_tensor("which is not in the archive", "FloatStorage", "../data.pkl", 6, 0, 1, {6}, {1});
    refuse_torch(SR_SOURCE_DIR "/tests/vectors/torch/module.pt", NULL, "\"torch.nn.modules.linear.Linear\"");
    refuse_torch(SR_SOURCE_DIR "/tests/vectors/torch/old.pt", NULL, "before 1.6");
    refuse(INSPECT, SR_SOURCE_DIR "/tests/vectors/torch/old.pt", "before 1.6", "torch.save");
}

static void attack_20_tensors_and_sharing(void **state) {
    (void)state;
    struct bytes b = {0};
    refuse_tensor("6 elements at offset 1", "FloatStorage", "0", 6, 1, 1, {6}, {1});
    refuse_tensor("offset -1", "FloatStorage", "0", 6, -1, 1, {1}, {1});
    refuse_tensor("a storage of 6", "FloatStorage", "0", 6, INT64_MAX, 1, {1}, {1});
    refuse_tensor("contiguous", "FloatStorage", "0", 6, 0, 2, {2, 3}, {-3, 1});
    refuse_tensor("contiguous", "FloatStorage", "0", 6, 0, 1, {6}, {0});
    refuse_tensor("63 bits", "FloatStorage", "0", 6, 0, 2, {(int64_t)1 << 32, (int64_t)1 << 32}, {1, 1});
    refuse_program("}r\377\377\377\377.", "memo 4294967295");
    refuse_program("}q\0X\1\0\0\0xh\0s.", "inside each other");
    for (int i = 0; i < 1000000; i++) PUT(&b, "(");
    for (int i = 0; i < 1000000; i++) PUT(&b, "t");
    PUT(&b, ".");
    refuse_pickle(&b, "a tuple at the top");
    PUT(&b, "}q\0X\1\0\0\0xK\1s0"); /* 15 dictionaries, each with the one before ten times */
    for (int i = 1; i < 15; i++) {
        PUT(&b, "}q");
        put_int(&b, (uint64_t)i, 1);
        for (int k = 0; k < 10; k++) {
            const uint8_t one[] = {'K', (uint8_t)k, 'h', (uint8_t)(i - 1), 's'};
            put(&b, one, sizeof one);
        }
        if (i < 14) PUT(&b, "0");
    }
    PUT(&b, ".");
    refuse_pickle(&b, "many times over");
    for (int i = 0; i < 12000000; i++) PUT(&b, ")"); /* one byte each, 32 of ours */
    refuse_pickle(&b, "bytes of memory");
}

static void attack_20_archives(void **state) {
    (void)state;
    static const struct {
        int record; /* of the entry, -1: of the end */
        bool local;
        size_t at;
        uint32_t value;
        const char *word;
    } bends[] = {
        {2, false, 10, 8, "compressed (method 8)"}, {2, false, 8, 1, "encrypted"},
        {2, false, 24, 1u << 31, "in two sizes"},   {2, false, 42, 0xfffffffe, "no entry starts"},
        {2, false, 34, 1, "on another volume"},     {2, true, 28, 0xffff, "past the start of the directory"},
        {1, false, 28, 0xffff, "cut off"},          {-1, false, 16, 0xffffffff, "expected it to end at"},
        {-1, false, 4, 1, "several volumes"},
    };
    static const char *const names[] = {"../x", "a/../../x", "/etc/passwd", "a\\..\\x", "a/\xff"};
    for (size_t i = 0; i < sizeof bends / sizeof *bends; i++) {
        struct bytes p = pickle_of(&(struct tensor){"FloatStorage", "0", 6, 0, 1, {6}, {1}});
        struct archive a = torch_archive(&p, false);
        size_t at = bends[i].at + (bends[i].record < 0 ? a.end
                                   : bends[i].local    ? a.local[bends[i].record]
                                                       : a.central[bends[i].record]);
        (bends[i].value > 0xffff ? put32(&a, at, bends[i].value) : put16(&a, at, bends[i].value));
        drop(&p);
        refuse_archive(&a, bends[i].word);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct bytes p = pickle_of(&(struct tensor){"FloatStorage", "0", 6, 0, 1, {6}, {1}});
        struct entry e[] = {{"a/data.pkl", p.data, p.n}, {names[i], "x", 1}};
        struct archive a = zip(e, 2, false);
        drop(&p);
        refuse_archive(&a, "no plain relative path");
    }
    struct bytes p = pickle_of(&(struct tensor){"FloatStorage", "0", 6, 0, 1, {6}, {1}});
    struct archive a = torch_archive(&p, true);
    put32(&a, a.central[0] + 46 + strlen("a/data.pkl") + 8, 0x80000000); /* its ZIP64 size */
    drop(&p);
    refuse_archive(&a, "in two sizes");
}

/* ---------------------------------------------------------------- 21, 22: chat templates; finer in template_test.c */

static void refuse_template(const char *text, const char *word) {
    write_text(at("t.jinja"), text);
    refuse(TEMPLATE, at("t.jinja"), word, "line 1, column");
}

static void attack_21_templates_that_reach_for_the_program(void **state) {
    (void)state;
    refuse_template("{{ ''.__class__.__mro__[1].__subclasses__() }}", "'__class__' is undefined");
    refuse_template("{{ messages.__init__.__globals__['os'].popen('id').read() }}", "'__init__' is undefined");
    refuse_template("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "'__init__' is undefined");
    refuse_template("{{ '{0.__class__.__mro__}'.format('') }}", "'__class__' is undefined");
    refuse_template("{{ self._TemplateReference__context.x }}", "'self' is undefined");
    refuse_template("{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}", "'__class__' is undefined");
    refuse_template("{{ messages | map(attribute='__class__.__mro__') | list }}", "'__class__' is undefined");
    refuse_template("{% include '/etc/passwd' %}", "'include'");
    refuse_template("{% import 'os' as os %}", "'import'");
}

static void attack_22_templates_that_never_end(void **state) {
    (void)state;
    refuse_template("{% for i in range(10**9) %}x{% endfor %}", "1000000000 numbers");
    refuse_template("{% for i in range(100000) %}{% for k in range(100000) %}{% endfor %}{% endfor %}", "steps");
    refuse_template("{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}", "bytes of text");
    refuse_template("{{ 'x' * 10**9 }}", "bytes of memory");
    refuse_template("{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
                    "bytes of memory");
    refuse_template("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nesting");
    refuse_template("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
                    "expected a template that");
    refuse_template("{{ messages | tojson(indent=10**9) }}", "bytes of memory");
    refuse_template("{% set l = range(100000) | list %}{% for i in l %}{{ l | sort | first }}{% endfor %}", "steps");
    refuse_template("{% set l = range(100000) | list %}{% for i in l %}{% if -1 in l %}{% endif %}{% endfor %}",
                    "steps");
    refuse_template("{{ ('a' * 1000000 + 'b') in (('a' * 1000000 + 'c') * 100) }}", "steps");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_files_that_attacks_start_from_are_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_1_magic_and_version, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_1_truncation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_2_counts_and_lengths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_2_a_large_vocabulary_is_legal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_3_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_3_value_types, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_4_alignment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_5_arrays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_6_hyper_parameters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_6_small_files_with_large_needs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_6_configs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_7_dimensions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_8_and_9_sizes_and_offsets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_10_types_and_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_11_norms_that_are_not_finite, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_11_scales_of_every_type, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_12_special_ids, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_13_byte_tokens_and_long_tokens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_14_merges_and_normalizers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_15_long_and_broken_texts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_15_a_prompt_of_2_gib, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_16_header, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_17_entries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_18_index, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_9_to_11_quantized_checkpoints, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_19_pickles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_20_tensors_and_sharing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_20_archives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_21_templates_that_reach_for_the_program, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attack_22_templates_that_never_end, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

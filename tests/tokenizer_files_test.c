/* The files that hold a tokenizer beside tokenizer.json and GGUF: SentencePiece's tokenizer.model, tiktoken's ranks,
 * tekken.json; which of them a directory is read by; and the map that SentencePiece normalizes with. Numbers in
 * brackets are the attack cases that docs/security.md lists. */
#include "tokenizer_vectors.h"

#include <math.h>
#include <time.h>

#include "file/file.h"
#include "text/load.h"

static void sentencepiece_equals_reference(void **state) {
    (void)state;
    compare("sp_unigram", "sp_unigram/expected.bin", SR_TOKENIZE_NO_SPECIAL);
    compare("sp_unigram_bytes", "sp_unigram_bytes/expected.bin", SR_TOKENIZE_NO_SPECIAL);
    compare("sp_suffix", "sp_suffix/expected.bin", SR_TOKENIZE_NO_SPECIAL);
    compare("sp_bpe", "sp_bpe/expected.bin", 0);
}
static void tiktoken_equals_reference(void **state) {
    (void)state;
    compare("tiktoken_llama3", "tiktoken_llama3/expected.bin", 0);
    compare("tiktoken_qwen", "tiktoken_qwen/expected.bin", 0);
    compare("tiktoken_kimi", "tiktoken_kimi/expected.bin", 0);
}
static void tekken_equals_reference(void **state) {
    (void)state;
    compare("tekken", "tekken/expected.bin", SR_TOKENIZE_NO_SPECIAL);
}

static void vocabulary_with_merges_equals_reference(void **state) {
    (void)state;
    compare("vocab_gpt2", "vocab_gpt2/expected.bin", 0);
    compare("vocab_qwen2", "vocab_qwen2/expected.bin", 0);
    compare("vocab_neox", "vocab_neox/expected.bin", 0);
}

/* ---------------------------------------------------------------- files, written here */

static void write_in(const char *dir, const char *name, const struct bytes *b) {
    write_file(in(dir, name), b->data ? b->data : (const uint8_t *)"", b->n);
}

static sr_status open_dir(const char *dir, sr_tokenizer **t, sr_err *err) {
    *err = (sr_err){0};
    *t = NULL;
    return sr_tokenizer_open(dir, t, err);
}

static void put_varint(struct bytes *b, uint64_t v) {
    for (; v >= 128; v >>= 7) put(b, &(uint8_t){(uint8_t)(v | 128)}, 1);
    put(b, &(uint8_t){(uint8_t)v}, 1);
}
static void put_number(struct bytes *b, unsigned field, uint64_t v) {
    put_varint(b, field << 3);
    put_varint(b, v);
}
static void put_bytes(struct bytes *b, unsigned field, const void *data, size_t n) {
    put_varint(b, field << 3 | 2);
    put_varint(b, n);
    put(b, data, n);
}
static void put_piece(struct bytes *b, const char *text, float score, unsigned type) {
    struct bytes p = {0};
    put_bytes(&p, 1, text, strlen(text));
    put_varint(&p, 2 << 3 | 5);
    put(&p, &score, 4);
    if (type) put_number(&p, 3, type);
    put_bytes(b, 1, p.data, p.n);
    drop(&p);
}
/* <unk> <s> </s> and three letters; a BPE model without changes of the text. */
static struct bytes small_model(unsigned type) {
    struct bytes b = {0}, spec = {0};
    put_piece(&b, "<unk>", 0, 2);
    put_piece(&b, "<s>", 0, 3);
    put_piece(&b, "</s>", 0, 3);
    put_piece(&b, "a", -1, 0);
    put_piece(&b, "b", -2, 1);
    put_piece(&b, "ab", -1.5f, 1);
    put_number(&spec, 3, type);
    put_bytes(&b, 2, spec.data, spec.n);
    spec.n = 0;
    put_number(&spec, 3, 0); /* no space in front */
    put_bytes(&b, 3, spec.data, spec.n);
    drop(&spec);
    return b;
}

static void check_dir(const char *dir, const char *what, sr_status status, const char *word, const char *word2) {
    sr_tokenizer *t;
    sr_err err;
    sr_status got = open_dir(dir, &t, &err);
    check_error(what, got, &err, status, word, word2, NULL);
    assert_null(t);
}

static void a_directory_is_read_by_its_best_file(void **state) {
    static const char *const names[] = {"x.tiktoken",      "tiktoken.model", "spiece.model",  "spm.model",
                                        "tokenizer.model", "tekken.json",    "tokenizer.json"};
    struct bytes ranks = {0}, model = small_model(2);
    sr_tokenizer *t;
    sr_err err;
    check_dir(*state, "nothing", SR_INVALID, "config.json", "found no");
    write_text(in(*state, "config.json"), "{}");
    check_dir(*state, "nothing", SR_UNSUPPORTED, "found no tokenizer", "tekken.json");
    for (int i = 0; i < 256; i++) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        char line[32];
        put(&ranks, line, (size_t)snprintf(line, sizeof line, "%c%c== %d\n", digits[i >> 2], digits[(i & 3) << 4], i));
    }
    /* each better file makes the answer another one: 256 ids, then 6, an error that names it, and 2 */
    for (int i = 0; i < 7; i++) {
        write_in(*state, names[i], i < 2 ? &ranks : &model);
        if (i == 5) write_text(in(*state, names[i]), "{}");
        if (i == 6) write_text(in(*state, names[i]), "{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}");
        sr_status status = open_dir(*state, &t, &err);
        if (i == 5) {
            check_error(names[i], status, &err, SR_CORRUPT, names[i], NULL);
            continue;
        }
        if (status != SR_OK) fail_msg("%s: %s", names[i], err.msg);
        assert_int_equal(sr_tokenizer_n_vocab(t), i < 2 ? 256 : i < 5 ? 6 : 2);
        sr_tokenizer_free(t);
    }
    drop(&ranks);
    drop(&model);
}

static void vocabulary_with_merges_names_what_is_wrong(void **state) {
    static const struct {
        const char *vocab, *merges, *file, *word;
    } bad[] = {
        {"[]", "a b", "vocab.json", "object"},
        {"{}", "a b", "vocab.json", "empty"},
        {"{\"a\":0,", "a b", "vocab.json", ""},
        {"{\"a\":0}x", "a b", "vocab.json", "white space"},
        {"{\"a\":-1}", "a b", "vocab.json", "\"a\": found the id -1"},
        {"{\"a\":0.5}", "a b", "vocab.json", "0.5"},
        {"{\"a\":9999999999}", "a b", "vocab.json", "9999999999"},
        {"{\"a\":500000000}", "a b", "vocab.json", "large gaps"},
        {"{\"a\":0,\"b\":0}", "a b", "vocab.json", "id 0 a second time"},
        {"{\"a\":0,\"a\":1}", "a b", "vocab.json", "\"a\" as token 0 and a second time"},
        {"{\"a\":0,\"b\":1,\"ab\":2}", "#version: 0.2\na  b\n", "merges.txt", "line 2"},
        {"{\"a\":0,\"b\":1,\"ab\":2}", "a b\nab\n", "merges.txt", "line 2: found \"ab\""},
        {"{\"a\":0,\"b\":1,\"ab\":2}", "a b\nb a\n", "merges.txt", "merge 1: \"ba\""},
        {"version https://git-lfs.github.com/spec/v1\n", "a b", "vocab.json", "Git LFS"},
    };
    sr_tokenizer *t;
    sr_err err;
    write_text(in(*state, "config.json"), "{}");
    write_text(in(*state, "vocab.json"), "{\"a\":0}");
    check_dir(*state, "no merges", SR_UNSUPPORTED, "found no tokenizer", "merges.txt");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(in(*state, "vocab.json"), bad[i].vocab);
        write_text(in(*state, "merges.txt"), bad[i].merges);
        check_dir(*state, bad[i].vocab, SR_CORRUPT, bad[i].file, bad[i].word);
    }
    /* a gap in the ids, lines of DOS, an empty line, the last one without its end */
    write_text(in(*state, "vocab.json"), "{\"a\":0,\"b\":1,\"ab\":3,\"abab\":4}");
    write_text(in(*state, "merges.txt"), "a b\r\n\r\nab ab");
    if (open_dir(*state, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    struct ids got = tokenize(t, "ababab", 6, 0);
    check_ids("merged", (struct text){(char *)(uintptr_t) "ababab", 6}, got, (const int32_t[]){4, 3}, 2);
    free(got.v);
    sr_tokenizer_free(t);
}

/* What a user types never becomes a control token, whatever the pieces around it are. */
static void text_does_not_forge_control_tokens(void **state) {
    static const char *const names[] = {"sp_unigram", "sp_bpe",    "unigram", "wordpiece",
                                        "t5.gguf",    "bert.gguf", "tekken",  "tiktoken_llama3"};
    static const char text[] = "a<s>b</s> <unk> [CLS] [SEP][INST]<|im_start|>x";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sr_tokenizer *t = open_tokenizer(names[i]);
        struct ids got = tokenize(t, text, sizeof text - 1, SR_TOKENIZE_NO_BOS | SR_TOKENIZE_NO_SPECIAL);
        for (size_t k = 0; k < got.n; k++) {
            const char *piece = sr_token_piece(t, got.v[k]);
            if (sr_token_is_special(t, got.v[k]) && !strstr(piece, "unk") && !strstr(piece, "UNK"))
                fail_msg("%s: \"%s\"", names[i], piece);
        }
        free(got.v);
        sr_tokenizer_free(t);
    }
    /* pieces that would merge to it, or be the better way */
    for (unsigned type = 1; type <= 2; type++) {
        struct bytes b = small_model(type);
        sr_tokenizer *t;
        sr_err err;
        put_piece(&b, "<", -5, 1);
        put_piece(&b, "s", -5, 1);
        put_piece(&b, ">", -5, 1);
        put_piece(&b, "<s", -5, 1);
        write_in(*state, "tokenizer.model", &b);
        if (open_dir(*state, &t, &err) != SR_OK) fail_msg("%s", err.msg);
        struct ids got = tokenize(t, "<s>", 3, SR_TOKENIZE_NO_BOS | SR_TOKENIZE_NO_SPECIAL);
        check_ids("forged", (struct text){(char *)(uintptr_t) "<s>", 3}, got, (const int32_t[]){9, 8}, 2);
        free(got.v);
        got = tokenize(t, "<s>", 3, SR_TOKENIZE_NO_BOS);
        check_ids("meant", (struct text){(char *)(uintptr_t) "<s>", 3}, got, (const int32_t[]){1}, 1);
        free(got.v);
        sr_tokenizer_free(t);
        drop(&b);
    }
}

/* ---------------------------------------------------------------- SentencePiece */

static void sentencepiece_names_what_is_wrong(void **state) {
    sr_tokenizer *t;
    sr_err err;
    static const float nan_score = NAN;
    for (int i = 0; i < 18; i++) {
        struct bytes b = small_model(2), p = {0};
        const char *word = "tokenizer.model", *word2 = NULL;
        sr_status status = SR_CORRUPT;
        switch (i) {
        case 0: /* a length that the file does not have */
            put_varint(&b, 1 << 3 | 2);
            put_varint(&b, 1000);
            word2 = "cut off";
            break;
        case 1: /* one of 2^63 */
            put_varint(&b, 1 << 3 | 2);
            put_varint(&b, UINT64_C(1) << 63);
            word2 = "cut off";
            break;
        case 2: /* a group, which nobody writes */
        case 3:
        case 4:
            put_varint(&b, (uint64_t)(99 << 3 | (i == 2 ? 3 : i == 3 ? 6 : 7)));
            word2 = i == 2 ? "wire type 3" : i == 3 ? "wire type 6" : "wire type 7";
            break;
        case 5: /* a number of eleven bytes */
            put(&b, "\x98\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13);
            word2 = "cut off";
            break;
        case 6: /* field 0 */
            put_number(&b, 0, 1);
            word2 = "no protobuf";
            break;
        case 7:
            put_number(&b, 1, 5);
            word2 = "wire type 0, expected 2";
            break;
        case 8: /* a piece's score as a number */
            put_number(&p, 2, 1);
            put_bytes(&b, 1, p.data, p.n);
            word2 = "wire type 0, expected 5";
            break;
        case 9:
            put_piece(&b, "", 0, 1);
            word2 = "piece 6";
            break;
        case 10:
            put_piece(&b, "a\xff", 0, 1);
            word2 = "UTF-8";
            break;
        case 11:
            put_piece(&b, "ab", 0, 1);
            word2 = "second time";
            break;
        case 12:
            put_piece(&b, "<?>", 0, 2);
            word2 = "second unknown";
            break;
        case 13:
            put_piece(&b, "x", 0, 9);
            word2 = "type";
            break;
        case 14:
            put_piece(&b, "x", nan_score, 1);
            word2 = "finite";
            break;
        case 15:
            put_piece(&b, "<0xGG>", 0, 6);
            word2 = "<0xHH>";
            break;
        case 16:
            put_number(&p, 3, 4);
            put_bytes(&b, 2, p.data, p.n);
            status = SR_UNSUPPORTED;
            word = "model_type";
            word2 = "found 4";
            break;
        default: /* [14] */
            put_bytes(&p, 2, "\1\2\3", 3);
            put_bytes(&b, 3, p.data, p.n);
            word = "precompiled_charsmap";
            word2 = "3 bytes";
        }
        char what[32];
        snprintf(what, sizeof what, "case %d", i);
        write_in(*state, "tokenizer.model", &b);
        check_dir(*state, what, status, word, word2);
        drop(&b);
        drop(&p);
    }
    struct bytes b = {0};
    put_piece(&b, "a", 0, 1);
    write_in(*state, "tokenizer.model", &b);
    check_dir(*state, "no unknown piece", SR_CORRUPT, "unknown", "tokenizer.model");
    drop(&b);
    put_number(&b, 77, 1);
    write_in(*state, "tokenizer.model", &b);
    check_dir(*state, "no pieces", SR_CORRUPT, "no pieces", "tokenizer.model");
    drop(&b);
    write_text(in(*state, "tokenizer.model"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    check_dir(*state, "pointer", SR_CORRUPT, "Git LFS", "tokenizer.model");

    /* a field that nobody knows, with messages nested a thousand deep, is passed by */
    b = small_model(2);
    struct bytes deep = {0}, deeper = {0};
    for (int i = 0; i < 1000; i++) {
        deeper.n = 0;
        put_bytes(&deeper, 1, deep.data, deep.n);
        struct bytes swap = deep;
        deep = deeper;
        deeper = swap;
    }
    put_bytes(&b, 99, deep.data, deep.n);
    write_in(*state, "tokenizer.model", &b);
    if (open_dir(*state, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    struct ids got = tokenize(t, "abba", 4, 0);
    check_ids("small", (struct text){(char *)(uintptr_t) "abba", 4}, got, (const int32_t[]){1, 5, 4, 3}, 4);
    free(got.v);
    sr_tokenizer_free(t);
    drop(&b);
    drop(&deep);
    drop(&deeper);
}

static void added_tokens_come_from_the_configuration(void **state) {
    struct bytes b = small_model(2);
    sr_tokenizer *t;
    sr_err err;
    write_in(*state, "tokenizer.model", &b);
    /* an id that is a piece's, ids behind the pieces with a gap, one that takes space along */
    write_text(in(*state, "tokenizer_config.json"),
               "{\"added_tokens_decoder\":{\"2\":{\"content\":\"<end>\",\"special\":true},"
               "\"8\":{\"content\":\"<tool>\",\"special\":false,\"normalized\":false,\"rstrip\":true}},"
               "\"bos_token\":\"<s>\",\"eos_token\":\"<end>\",\"add_bos_token\":false,\"add_eos_token\":true}");
    write_text(in(*state, "added_tokens.json"), "{\"<ignored>\":7}");
    if (open_dir(*state, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    assert_int_equal(sr_tokenizer_n_vocab(t), 9);
    assert_int_equal(sr_tokenizer_eos(t), 2);
    assert_true(sr_token_is_special(t, 2));
    assert_false(sr_token_is_special(t, 8));
    static const char text[] = "ab<tool>  a</s><end><ignored>";
    struct ids got = tokenize(t, text, 15, 0);
    /* "</s>" is text by now, of unknown characters */
    check_ids("added", (struct text){(char *)(uintptr_t)text, 15}, got, (const int32_t[]){5, 8, 3, 0, 2}, 5);
    free(got.v);
    sr_tokenizer_free(t);

    /* a token that is no word here is no piece of the model either */
    struct bytes unigram = small_model(1);
    write_in(*state, "tokenizer.model", &unigram);
    write_text(in(*state, "tokenizer_config.json"),
               "{\"added_tokens_decoder\":{\"7\":{\"content\":\"bb\",\"single_word\":true}}}");
    if (open_dir(*state, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    got = tokenize(t, "abba", 4, SR_TOKENIZE_NO_BOS);
    check_ids("inside", (struct text){(char *)(uintptr_t) "abba", 4}, got, (const int32_t[]){5, 4, 3}, 3);
    free(got.v);
    sr_tokenizer_free(t);
    write_in(*state, "tokenizer.model", &b);
    drop(&unigram);

    /* the older file; what the configuration names is special */
    write_text(in(*state, "tokenizer_config.json"), "{\"additional_special_tokens\":[\"<one>\"]}");
    write_text(in(*state, "added_tokens.json"), "{\"<one>\":6,\"<two>\":7}");
    if (open_dir(*state, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    got = tokenize(t, "<two><one>", 10, SR_TOKENIZE_NO_BOS);
    check_ids("older", (struct text){(char *)(uintptr_t) "<two><one>", 10}, got, (const int32_t[]){7, 6}, 2);
    assert_true(sr_token_is_special(t, 6));
    assert_false(sr_token_is_special(t, 7));
    free(got.v);
    sr_tokenizer_free(t);

    static const char *const bad[][2] = {{"{\"x\":{}}", "id"},
                                         {"{\"-1\":{\"content\":\"x\"}}", "id"},
                                         {"{\"99999999999\":{\"content\":\"x\"}}", "id"},
                                         {"{\"400000000\":{\"content\":\"x\"}}", "400000000"},
                                         {"{\"7\":{}}", "content"},
                                         {"{\"7\":3}", "object"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char config[128];
        snprintf(config, sizeof config, "{\"added_tokens_decoder\":%s}", bad[i][0]);
        write_text(in(*state, "tokenizer_config.json"), config);
        check_dir(*state, bad[i][0], SR_CORRUPT, bad[i][1], NULL);
    }
    write_text(in(*state, "tokenizer_config.json"), "{}");
    write_text(in(*state, "added_tokens.json"), "{\"x\":\"y\"}");
    check_dir(*state, "no number", SR_CORRUPT, "added_tokens.json", "id");
    write_text(in(*state, "added_tokens.json"), "[");
    check_dir(*state, "no object", SR_CORRUPT, "added_tokens.json", NULL);
    drop(&b);
}

/* ---------------------------------------------------------------- ranks */

static const char all_bytes_but_last[] = "tiktoken_qwen/qwen.tiktoken";

/* The first n lines of a good file, then more of them. */
static void write_ranks(const char *dir, int n, const char *more) {
    struct reader r = read_vector(all_bytes_but_last);
    struct bytes b = {0};
    const char *at = r.data;
    for (int i = 0; i < n; i++) {
        const char *end = strchr(at, '\n') + 1;
        put(&b, at, (size_t)(end - at));
        at = end;
    }
    put(&b, more, strlen(more));
    write_in(dir, "x.tiktoken", &b);
    drop(&b);
    free(r.data);
}

static void tiktoken_names_the_line_that_is_wrong(void **state) {
    static const struct {
        int n;
        const char *more, *word, *word2;
    } cases[] = {
        {0, "\n\r\n", "empty", NULL},
        {255, "", "0xFF", "256"},
        {255, "/w== 300\n", NULL, NULL}, /* a gap is no error */
        {256, "", NULL, NULL},
        {256, "\n\r\nYWI= 256\r\n\r\nYWJj 257", NULL, NULL},
        {256, "YWI=\n", "line 257", "YWI="},
        {256, "YWI= \n", "line 257", NULL},
        {256, " 256\n", "line 257", "base64"},
        {256, "YWI= -1\n", "line 257", "-1"},
        {256, "YWI= 25x\n", "line 257", "25x"},
        {256, "YWI= 1.5\n", "line 257", NULL},
        {256, "YWI= 99999999999999999999\n", "line 257", NULL},
        {256, "YWI= 4294967552\n", "line 257", NULL}, /* 2^32 + 256 */
        {256, "YWI= 100000\n", "100000", "gaps"},
        {256, "YWI= 255\n", "line 257", "rank 255 a second time"},
        {256, "YWI= 256\nYWI= 257\n", "second time", "256"},
        {256, "YWI 256\n", "line 257", "base64"},
        {256, "YW*= 256\n", "line 257", "base64"},
        {256, "==== 256\n", "line 257", "base64"},
        {256, "YWI= 256 7\n", "line 257", NULL},
    };
    write_text(in(*state, "config.json"), "{}");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_ranks(*state, cases[i].n, cases[i].more);
        if (cases[i].word) {
            check_dir(*state, cases[i].more, SR_CORRUPT, cases[i].word, cases[i].word2);
            continue;
        }
        sr_tokenizer *t;
        sr_err err;
        if (open_dir(*state, &t, &err) != SR_OK) fail_msg("\"%s\": %s", cases[i].more, err.msg);
        sr_tokenizer_free(t);
    }
    struct bytes b = {0};
    put_zeros(&b, 1000); /* no line end anywhere */
    write_in(*state, "x.tiktoken", &b);
    check_dir(*state, "zeros", SR_CORRUPT, "line 1", NULL);
    drop(&b);
}

/* The special tokens that are in no file, and the time that a large one takes. */
static void tiktoken_knows_the_special_tokens_of_its_publishers(void **state) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int qwen = 0; qwen < 2; qwen++) {
        int n = qwen ? 151643 : 128000;
        struct bytes b = {0};
        sr_tokenizer *t;
        sr_err err;
        char line[32];
        for (int i = 0; i < n; i++) { /* bytes, then tokens of three bytes */
            uint32_t x = (uint32_t)(i - 256) * 97;
            int len = i < 256 ? snprintf(line, sizeof line, "%c%c== %d\n", digits[i >> 2], digits[(i & 3) << 4], i)
                              : snprintf(line, sizeof line, "%c%c%c%c %d\n", digits[x >> 18 & 63], digits[x >> 12 & 63],
                                         digits[x >> 6 & 63], digits[x & 63], i);
            put(&b, line, (size_t)len);
        }
        write_text(in(*state, "config.json"), "{}");
        write_in(*state, qwen ? "qwen.tiktoken" : "tokenizer.model", &b);
        clock_t start = clock();
        if (open_dir(*state, &t, &err) != SR_OK) fail_msg("%s", err.msg);
        print_message("%d ranks, %.1f MB: %.0f ms of processor time\n", n, (double)b.n / 1e6,
                      1e3 * (double)(clock() - start) / CLOCKS_PER_SEC);
        static const char *const spelled[2][4] = {
            {"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|eot_id|>"},
            {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|extra_204|>"}};
        static const int32_t ids[2][4] = {{128000, 128001, 128006, 128009}, {151643, 151644, 151645, 151850}};
        for (int i = 0; i < 4; i++) {
            struct ids got = tokenize(t, spelled[qwen][i], strlen(spelled[qwen][i]), SR_TOKENIZE_NO_BOS);
            check_ids(spelled[qwen][i], (struct text){(char *)(uintptr_t)spelled[qwen][i], 0}, got, &ids[qwen][i], 1);
            assert_true(sr_token_is_special(t, ids[qwen][i]));
            free(got.v);
        }
        assert_int_equal(sr_tokenizer_bos(t), qwen ? -1 : 128000);
        assert_int_equal(sr_tokenizer_eos(t), qwen ? 151643 : 128001);
        assert_int_equal(sr_tokenizer_adds_bos(t), !qwen);
        assert_true(sr_tokenizer_is_end(t, qwen ? 151645 : 128009));
        sr_tokenizer_free(t);
        drop(&b);
        unlink(in(*state, "tokenizer.model"));
    }
}

static void tekken_names_what_is_wrong(void **state) {
    struct reader r = read_vector("tekken/tekken.json");
    static const struct {
        const char *from, *to, *word;
    } cases[] = {
        {"\"rank\":7,", "\"rank\":8,", "entry 7"},
        {"\"rank\":7,", "\"rank\":-7,", "entry 7"},
        {"\"rank\":7,", "", "entry 7"},
        {"\"token_bytes\":\"Bw==\"", "\"token_bytes\":\"Bg==\"", "second time"},
        {"\"token_bytes\":\"Bw==\"", "\"token_bytes\":\"B\"", "base64"},
        {"\"token_bytes\":\"Bw==\"", "\"token_bytes\":7", "entry 7"},
        {"\"token_bytes\":\"Bw==\"", "\"token\":\"Bw==\"", "entry 7"},
        {"\"default_vocab_size\":", "\"default_vocab_size\":99999", "default_vocab_size"},
        {"\"default_vocab_size\":", "\"default_vocab_size\":1", "vocab: found"},
        {"\"default_vocab_size\":", "\"default_vocab_size\":-", "default_vocab_size"},
        {"\"default_num_special_tokens\":10", "\"default_num_special_tokens\":9999", "9999"},
        {"\"default_num_special_tokens\":10", "\"default_num_special_tokens\":300", "0x"},
        {"\"default_num_special_tokens\":10", "\"default_num_special_tokens\":3", "special_tokens entry 3"},
        {"\"pattern\":", "\"patterns\":", "pattern"},
        {"{\"rank\":3,\"token_str\"", "{\"rank\":2,\"token_str\"", "second time"},
        {"{\"rank\":3,\"token_str\"", "{\"rank\":10,\"token_str\"", "below 10"},
        {"\"token_str\":\"[INST]\"", "\"token_str\":\"\"", "token_str"},
        {"\"config\":", "\"configs\":", "config"},
        {"\"vocab\":", "\"vocabs\":", "vocab"},
        {"\"special_tokens\":[", "\"special_tokens\":[1,", "special_tokens"},
    };
    sr_tokenizer *t;
    sr_err err;
    write_text(in(*state, "config.json"), "{}");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes b = {0};
        const char *at = strstr(r.data, cases[i].from);
        assert_non_null(at);
        put(&b, r.data, (size_t)(at - r.data));
        put(&b, cases[i].to, strlen(cases[i].to));
        put(&b, at + strlen(cases[i].from), strlen(at + strlen(cases[i].from)));
        write_in(*state, "tekken.json", &b);
        check_dir(*state, cases[i].to, SR_CORRUPT, cases[i].word, "tekken.json");
        drop(&b);
    }
    /* without the list: the names of older files; and with the configuration behind the vocabulary */
    char *list = strstr(r.data, ",\"special_tokens\":"), *vocab = strstr(r.data, ",\"vocab\":");
    assert_true(list && vocab);
    struct bytes b = {0};
    put(&b, "{", 1);
    put(&b, vocab + 1, (size_t)(list - vocab) - 1);
    put(&b, ",", 1);
    put(&b, r.data + 1, (size_t)(vocab - r.data) - 1);
    put(&b, "}", 1);
    write_in(*state, "tekken.json", &b);
    if (open_dir(*state, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    assert_string_equal(sr_token_piece(t, 9), "[TOOL_CALLS]");
    sr_tokenizer_free(t);
    drop(&b);
    free(r.data);
}

static void every_cut_and_flip_is_survived(void **state) {
    static const char *const files[][2] = {{"sp_bpe/tokenizer.model", "tokenizer.model"},
                                           {"sp_unigram/tokenizer.model", "tokenizer.model"},
                                           {"tiktoken_kimi/tiktoken.model", "tiktoken.model"},
                                           {"tekken/tekken.json", "tekken.json"}};
    (void)state;
    for (int k = 0; k < 4; k++) {
        struct reader r = read_vector(files[k][0]);
        size_t n = (size_t)(r.end - r.at);
        uint64_t x = 7;
        for (int i = 0; i < 600; i++) {
            uint8_t *copy = malloc(n);
            sr_tokenizer *t = NULL;
            sr_err err = {0};
            size_t size = n;
            assert_non_null(copy);
            memcpy(copy, r.data, n);
            for (int flips = 0; flips < 1 + i % 3; flips++) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                copy[(x >> 33) % (i % 2 ? n : 400)] = (uint8_t)(x >> 25);
            }
            if (i % 5 == 0) size = 1 + (x >> 30) % (n - 1);
            uint8_t *exact = realloc(copy, size);
            assert_non_null(exact);
            sr_file file = {.path = "t", .tokenizer = {exact, size}, .tokenizer_name = files[k][1]};
            sr_status status = sr_tokenizer_create(&file, &t, &err);
            assert_int_equal(status, err.code);
            if (status == SR_OK) {
                size_t count;
                sr_err second = {0};
                sr_tokenize(t, "Hello <s> \xEF\xAC\x81 caf\xC3\xA9\xCC\x81 A\xff 12345", 28, 0, NULL, 0, &count,
                            &second);
                sr_tokenizer_free(t);
            } else {
                assert_true(err.msg[0]);
            }
            free(exact);
        }
        free(r.data);
    }
}

/* ---------------------------------------------------------------- the map of the normalizer [14] */

/* A map of one entry, "a" to what stands at `text` in `texts`; 512 units. */
struct map {
    uint8_t b[4 + 4 * 512 + 300];
    size_t n;
};
static void set_unit(struct map *m, uint32_t i, uint32_t v) {
    for (int k = 0; k < 4; k++) m->b[4 + 4 * i + (uint32_t)k] = (uint8_t)(v >> 8 * k);
}
static struct map good_map(uint8_t key, const char *texts, size_t n) {
    struct map m = {.n = 4 + 4 * 512 + n};
    m.b[1] = 8; /* 2048 bytes of units */
    set_unit(&m, 0, 256 << 10);
    set_unit(&m, 256 ^ key, key | 1 << 8 | 1 << 10); /* "key" ends at the unit beside it */
    set_unit(&m, 256 ^ key ^ 1, 1u << 31);
    memcpy(m.b + 4 + 4 * 512, texts, n);
    return m;
}
static sr_status parse(const struct map *m, sr_arena *arena, sr_charsmap **map, sr_err *err) {
    uint8_t *exact = malloc(m->n ? m->n : 1); /* so that a read past the end is seen */
    assert_non_null(exact);
    memcpy(exact, m->b, m->n);
    *err = (sr_err){0};
    sr_status status = sr_charsmap_create(exact, m->n, "t: charsmap", arena, map, err);
    free(exact);
    return status;
}

static void a_charsmap_is_checked_before_it_is_used(void **state) {
    (void)state;
    sr_arena arena = {0};
    sr_charsmap *map;
    sr_err err;
    size_t len;
    struct map m = good_map('a', "xyz", 4);
    assert_int_equal(parse(&m, &arena, &map, &err), SR_OK);
    assert_string_equal(sr_charsmap_find(map, "abc", 3, false, &len), "xyz");
    assert_int_equal(len, 1);
    assert_null(sr_charsmap_find(map, "bab", 3, false, &len));
    assert_null(sr_charsmap_find(map, "\0a", 2, false, &len));
    m.n--; /* the last text may end with the map */
    assert_int_equal(parse(&m, &arena, &map, &err), SR_OK);
    assert_string_equal(sr_charsmap_find(map, "a", 1, true, &len), "xyz");
    m.n = 0;
    assert_int_equal(parse(&m, &arena, &map, &err), SR_OK);
    assert_null(map);

    for (size_t n = 1; n < 4 + 4 * 512; n += n < 16 ? 1 : 97) {
        m.n = n;
        check_error("short", parse(&m, &arena, &map, &err), &err, SR_CORRUPT, "t: charsmap", "expected", NULL);
        assert_null(map);
    }
    m = good_map('a', "xyz", 4);
    m.b[3] = 0x80; /* 2^31 and more */
    check_error("size", parse(&m, &arena, &map, &err), &err, SR_CORRUPT, "2147485696", NULL);
    m = good_map('a', "xyz", 4);
    m.b[0] = 2; /* no whole units */
    check_error("size", parse(&m, &arena, &map, &err), &err, SR_CORRUPT, "2050", NULL);
    m = good_map('a', "xyz", 4);
    set_unit(&m, 0, 512 << 10); /* the root's edges lie behind the units */
    check_error("root", parse(&m, &arena, &map, &err), &err, SR_CORRUPT, "512", NULL);
    m = good_map('a', "xyz", 4);
    set_unit(&m, 256 ^ 'a', 'a' | 1 << 8 | 0x1FFFFEu << 10 | 1 << 9); /* its replacement, far away */
    check_error("leaf", parse(&m, &arena, &map, &err), &err, SR_CORRUPT, "unit", NULL);
    m = good_map('a', "xyz", 4);
    set_unit(&m, 256 ^ 'a' ^ 1, 1u << 31 | 5);
    check_error("text", parse(&m, &arena, &map, &err), &err, SR_CORRUPT, "byte 5", NULL);
    m = good_map('a', "\xC3\xA9", 3);
    assert_int_equal(parse(&m, &arena, &map, &err), SR_OK);
    set_unit(&m, 256 ^ 'a' ^ 1, 1u << 31 | 1); /* the second byte of a character */
    check_error("middle", parse(&m, &arena, &map, &err), &err, SR_CORRUPT, "byte 1", NULL);
    m = good_map('a', "\xC3", 2);
    check_error("text", parse(&m, &arena, &map, &err), &err, SR_CORRUPT, "UTF-8", NULL);
    char run[280];
    memset(run, 'x', sizeof run);
    m = good_map('a', run, sizeof run);
    check_error("long", parse(&m, &arena, &map, &err), &err, SR_LIMIT, "255", NULL);

    /* edges in a circle: "a", "aa" and so on without end; a search stops */
    m = good_map('a', "xyz", 4);
    set_unit(&m, 256 ^ 'a', 'a' | 'a' << 10);
    assert_int_equal(parse(&m, &arena, &map, &err), SR_OK);
    memset(run, 'a', sizeof run);
    assert_null(sr_charsmap_find(map, run, sizeof run, false, &len));

    /* the first byte of a character is no character */
    m = good_map(0xC3, "xyz", 4);
    assert_int_equal(parse(&m, &arena, &map, &err), SR_OK);
    assert_null(sr_charsmap_find(map, "\xC3\xA9", 2, false, &len));
    assert_null(sr_charsmap_find(map, "\xC3\xA9", 2, true, &len));
    sr_arena_free(&arena);
}

#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, make_scratch, remove_scratch)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentencepiece_equals_reference),
        cmocka_unit_test(tiktoken_equals_reference),
        cmocka_unit_test(tekken_equals_reference),
        cmocka_unit_test(vocabulary_with_merges_equals_reference),
        cmocka_unit_test_setup_teardown(vocabulary_with_merges_names_what_is_wrong, make_scratch, remove_scratch),
        WITH_FILES(a_directory_is_read_by_its_best_file),
        WITH_FILES(text_does_not_forge_control_tokens),
        WITH_FILES(sentencepiece_names_what_is_wrong),
        WITH_FILES(added_tokens_come_from_the_configuration),
        WITH_FILES(tiktoken_names_the_line_that_is_wrong),
        WITH_FILES(tiktoken_knows_the_special_tokens_of_its_publishers),
        WITH_FILES(tekken_names_what_is_wrong),
        cmocka_unit_test(every_cut_and_flip_is_survived),
        cmocka_unit_test(a_charsmap_is_checked_before_it_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A tokenizer.json or a GGUF file; or a line "tokenizer.model", "tekken.json", "x.tiktoken" or "vocab.json" with such a
 * file behind it. After tokenizer.json a zero byte and a text for it may follow, after vocab.json one and merges.txt.
 * Opening must end in a tokenizer or an error; then ids must be in range, decode to UTF-8, and be the same when asked
 * for twice. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "file/inner.h"
#include "text/text.h"

#define PROMISE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x)) __builtin_trap();                                                                                    \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const sr_tokenizer *t, const char *text, size_t n, unsigned flags) {
    size_t count, again, len;
    sr_err err = {0};
    const char *s;
    sr_status status = sr_tokenize(t, text, n, flags, NULL, 0, &count, &err);
    PROMISE(err.code == status && (status == SR_OK || err.msg[0]));
    if (status != SR_OK) return;
    int32_t *ids = malloc((count + 1) * sizeof *ids);
    sr_detok *d;
    if (!ids) return;
    PROMISE(sr_tokenize(t, text, n, flags, ids, count, &again, &err) == SR_OK && again == count);
    PROMISE(sr_detok_create(t, (const char *const[]){"ab", "b a"}, 2, &d, &err) == SR_OK);
    for (size_t i = 0; i < count; i++) {
        PROMISE(ids[i] >= 0 && ids[i] < sr_tokenizer_n_vocab(t) && sr_token_piece(t, ids[i]));
        PROMISE(sr_token_bytes(t, ids[i], &s, &len) && strlen(s) <= len);
        sr_detok_push(d, ids[i], &s, &len);
        PROMISE(sr_utf8_valid(s, len) && !s[len]);
    }
    sr_detok_flush(d, &s, &len);
    PROMISE(sr_utf8_valid(s, len));
    sr_detok_free(d);
    free(ids);
}

/* The name in the first line, NULL: none of these. */
static const char *named(const uint8_t *data, size_t size) {
    static const char *const names[] = {"tokenizer.model", "tekken.json", "x.tiktoken", "vocab.json"};
    for (int i = 0; i < 4; i++) {
        size_t n = strlen(names[i]);
        if (size > n + 1 && !memcmp(data, names[i], n) && data[n] == '\n') return names[i];
    }
    return NULL;
}

/* tokenizer_config.json, beside all that are files of a directory. */
static const char config[] = "{\"added_tokens_decoder\":{\"2\":{\"content\":\"</s>\",\"special\":true},"
                             "\"700\":{\"content\":\"<s>ab\"}}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char fixed[] = " Hello, w\xC3\xB6rld\xF0\x9F\x98\x80!! 12345\n\n\t  <s>ab</s>  \xFF";
    const char *text = fixed;
    size_t n = sizeof fixed - 1;
    sr_tokenizer *t;
    sr_err err = {0};
    sr_status status;
    if (size >= 4 && !memcmp(data, "GGUF", 4)) {
        sr_file *file;
        if (sr_file_from_memory(data, size, "fuzz.gguf", &file, &err) != SR_OK) return 0;
        status = sr_tokenizer_create(file, &t, &err);
        sr_file_close(file);
    } else if (named(data, size)) {
        const char *name = named(data, size);
        size_t skip = strlen(name) + 1;
        sr_file file = {.path = "fuzz",
                        .tokenizer = {data + skip, size - skip},
                        .tokenizer_name = name,
                        .tokenizer_config = {(const uint8_t *)config, sizeof config - 1}};
        const uint8_t *zero = strcmp(name, "vocab.json") ? NULL : memchr(data + skip, 0, size - skip);
        if (zero) {
            file.tokenizer.size = (size_t)(zero - data) - skip;
            file.merges = (sr_map){zero + 1, size - skip - file.tokenizer.size - 1};
        }
        status = sr_tokenizer_create(&file, &t, &err);
    } else {
        const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
        size_t n_json = zero ? (size_t)(zero - data) : size;
        if (zero) {
            text = (const char *)zero + 1;
            n = size - n_json - 1;
        }
        if (!n_json) return 0;
        sr_file file = {.path = "fuzz",
                        .tokenizer = {data, n_json},
                        .tokenizer_name = "tokenizer.json",
                        .tokenizer_config = {(const uint8_t *)config, sizeof config - 1}};
        status = sr_tokenizer_create(&file, &t, &err);
    }
    PROMISE((status == SR_OK) == (t != NULL));
    PROMISE(err.code == status && (status == SR_OK || err.msg[0]));
    if (t) {
        use(t, text, n, 0);
        use(t, text, n, SR_TOKENIZE_NO_BOS | SR_TOKENIZE_NO_SPECIAL);
    }
    sr_tokenizer_free(t);
    return 0;
}

/* Texts with zero bytes between them: config.json, then the files beside it that older tools wrote (an empty one is
 * absent). Reading the quantization config in them must end in a config or an error, and so must every question about
 * a module; what it says then is in range, and the same when asked again. */
#include <stdlib.h>

#include "file/inner.h"
#include "fmt/fmt.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const prefixes[] = {"", "quantize_config.", "quant_config.", "hf_quant_config."};
static const char *const modules[] = {
    "model.layers.0.mlp.down_proj",
    "model.layers.18.self_attn.k_proj",
    "model.layers.3.mlp.experts.7.gate_proj",
    "model.embed_tokens",
    "lm_head",
    "",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
};

static void check_spec(const sr_qspec *s) {
    PROMISE(s->bits <= 16 && s->axis <= 1 && s->group >= -1 && s->group_n >= 0);
    PROMISE(s->method && (!s->layout || strlen(s->layout) < 1 << 24) && (!s->writer || strlen(s->writer) < 1 << 24));
}
static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && !strcmp(a, b));
}

static void ask(const sr_qconfig *config, const char *module) {
    sr_qspec spec, again;
    sr_err err = {0}, err_again = {0};
    sr_status s = sr_qconfig_resolve(config, module, &spec, &err);
    PROMISE(err.code == s && (s == SR_OK) == (err.msg[0] == 0));
    if (s == SR_LIMIT || sr_qconfig_resolve(config, module, &again, &err_again) == SR_LIMIT) return;
    PROMISE(err_again.code == s && !strcmp(err.msg, err_again.msg));
    if (s != SR_OK) return;
    check_spec(&spec);
    PROMISE(spec.bits == again.bits && spec.group == again.group && spec.skip == again.skip &&
            same_text(spec.layout, again.layout));
}

static sr_status read_texts(sr_file *file, const uint8_t *data, size_t size, sr_err *err) {
    sr_status s = SR_OK;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes && size && s == SR_OK; i++) {
        const uint8_t *zero = memchr(data, 0, size);
        size_t n = zero ? (size_t)(zero - data) : size;
        if (n || i == 0) s = sr_config_flatten(file, prefixes[i], (const char *)data, n, "config.json", err);
        n += zero != NULL;
        data += n, size -= n;
    }
    return s == SR_OK ? sr_file_index(file, err) : s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sr_file *file = calloc(1, sizeof *file);
    sr_arena arena = {0};
    sr_err err = {0};
    if (!file) return 0;
    file->path = "fuzz";
    if (read_texts(file, data, size, &err) == SR_OK) {
        sr_qconfig *config;
        sr_status s = sr_qconfig_read(file, &arena, &config, &err);
        PROMISE(err.code == s && (s == SR_OK) == (err.msg[0] == 0) && (s == SR_OK || !config));
        for (size_t i = 0; config && i < sizeof modules / sizeof *modules; i++) ask(config, modules[i]);
        /* The same without anybody to tell. */
        PROMISE(sr_qconfig_read(file, &arena, &config, NULL) == s);
    }
    sr_arena_free(&arena);
    sr_file_close(file);
    return 0;
}

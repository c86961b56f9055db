/* Any bytes as config.json, and as tokenizer_config.json beside it. */
#include <stdlib.h>

#include "file/inner.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const prefixes[] = {"", "tokenizer_config."};
    for (int i = 0; i < 2; i++) {
        sr_file *file = calloc(1, sizeof *file);
        sr_err err = {0};
        if (!file) return 0;
        file->path = "fuzz";
        sr_status s = sr_config_flatten(file, prefixes[i], (const char *)data, size, "config.json", &err);
        if (s == SR_OK) s = sr_file_index(file, &err);
        check_outcome(s, s == SR_OK ? file : NULL, &err);
        if (s == SR_OK) walk_file(file);
        sr_file_close(file);
    }
    return 0;
}

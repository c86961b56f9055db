/* Any bytes as a recipe, or behind "---" as a topology: what is read has types, and finds one for every name or says
 * why not, in bounded time. */
#include <stdlib.h>
#include <string.h>

#include "fmt/recipe.h"

#define PROMISE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x)) __builtin_trap();                                                                                    \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const bool yaml = size > 3 && memcmp(data, "---", 3) == 0;
    char *text = malloc(size + 1);
    sr_recipe *r;
    sr_err err = {0};
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = 0;
    const sr_status s = sr_recipe_parse(yaml ? "fuzz.yaml" : "fuzz", text, size, &r, &err);
    PROMISE((s == SR_OK) == (r != NULL) && s == err.code);
    free(text);
    if (!r) return 0;
    PROMISE(r->n > 0);
    for (int layer = -1; layer < 40; layer += 13) {
        const sr_rule *rule;
        sr_err why = {0};
        const sr_status found =
            sr_recipe_find(r, "model.layers.12.mlp.down_proj", "blk.12.ffn_down", layer, &rule, &why);
        PROMISE(found == why.code && (found == SR_OK || (found == SR_LIMIT && !rule)));
        PROMISE(!rule || sr_format_writable(rule->fmt));
    }
    sr_recipe_free(r);
    return 0;
}

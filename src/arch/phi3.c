#include <stddef.h>

#include "arch/arch.h"

/* Old GGUF files do not say the window; these are the published models they were made from. */
static const char *check(const sr_file *file, sr_hparams *h) {
    if (sr_file_part(file, "rope_factors_long.weight") || sr_file_part(file, "blk.0.rope_factors_long.weight"))
        return "it scales its rotation by longrope, which comes later";
    if (file->gguf && !sr_file_value(file, "phi3.attention.sliding_window")) {
        if (h->n_ctx_train == 4096 && (h->n_layer == 32 || h->n_layer == 40)) h->window = 2047;
    }
    return NULL;
}

const sr_arch sr_arch_phi3 = {
    .name = "phi3",
    .gguf_name = "phi3",
    .hf_class = "Phi3ForCausalLM",
    .hf_type = "phi3",
    .gguf_rope = SR_ROPE_HALVES,
    .window = true,
    .check = check,
};

/* Llama 2 and 3 and their many kin; Mistral is Llama with a window that files may or may not set. */
#include <stddef.h>

#include "arch/arch.h"

static const char *const rejects[] = {"num_local_experts|expert_count", NULL};

const sr_arch sr_arch_llama = {
    .name = "llama",
    .gguf_name = "llama",
    .hf_class = "LlamaForCausalLM",
    .hf_type = "llama",
    .gguf_rope = SR_ROPE_ADJACENT, /* the converter permutes the rows of q and k */
    .rejects = rejects,
};

const sr_arch sr_arch_mistral = {
    .name = "mistral",
    .gguf_name = "llama",
    .gguf_key = "attention.sliding_window",
    .hf_class = "MistralForCausalLM",
    .hf_type = "mistral",
    .gguf_rope = SR_ROPE_ADJACENT,
    .window = true,
    .rejects = rejects,
};

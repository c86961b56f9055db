/* Llama 2 and 3 and their many kin; Mistral is Llama with a window that files may or may not set. */
#include <stddef.h>

#include "arch/arch.h"

static const sr_reject rejects[] = {
    {"num_local_experts", "expert_count", "a mixture of experts"},
    {NULL, NULL, NULL},
};

const sr_arch sr_arch_llama = {
    .name = "llama",
    .gguf_name = "llama",
    .hf = (const char *const[]){"LlamaForCausalLM", "llama", NULL},
    .gguf_rope = SR_ROPE_ADJACENT, /* the converter permutes the rows of q and k */
    .hf_rope = SR_ROPE_HALVES,
    .rejects = rejects,
};

const sr_arch sr_arch_mistral = {
    .name = "mistral",
    .gguf_name = "llama",
    .gguf_key = "attention.sliding_window",
    .hf = (const char *const[]){"MistralForCausalLM", "mistral", NULL},
    .gguf_rope = SR_ROPE_ADJACENT,
    .hf_rope = SR_ROPE_HALVES,
    .window = true,
    .rejects = rejects,
};

/* Mistral Small 3 and Ministral 3, whose attention scale grows with the position. */
const sr_arch sr_arch_mistral3 = {
    .name = "mistral3",
    .gguf_name = "mistral3",
    .hf = (const char *const[]){"Mistral3ForConditionalGeneration", "Ministral3ForCausalLM", "ministral3", "mistral3",
                                NULL},
    .gguf_rope = SR_ROPE_ADJACENT,
    .hf_rope = SR_ROPE_HALVES,
    .window = true,
    .rejects = (const sr_reject[]){{"num_local_experts", "expert_count", "a mixture of experts"},
                                   {"kv_lora_rank", "attention.kv_lora_rank", "latent attention"},
                                   {NULL, NULL, NULL}},
};

/* Llama with rotation left out in one of four layers. */
const sr_arch sr_arch_smollm3 = {
    .name = "smollm3",
    .gguf_name = "smollm3",
    .hf = (const char *const[]){"SmolLM3ForCausalLM", "smollm3", NULL},
    .gguf_rope = SR_ROPE_ADJACENT,
    .hf_rope = SR_ROPE_HALVES,
    .nope_every = 4,
    .defaults = (const sr_default[]){{"rope_theta", NULL, 2e6}, {NULL, NULL, 0}},
    .rejects = (const sr_reject[]){{"use_sliding_window", "attention.sliding_window", "a window"}, {NULL, NULL, NULL}},
};

/* Llama with four multipliers. */
const sr_arch sr_arch_granite = {
    .name = "granite",
    .gguf_name = "granite",
    .hf = (const char *const[]){"GraniteForCausalLM", "granite", NULL},
    .gguf_rope = SR_ROPE_ADJACENT,
    .hf_rope = SR_ROPE_HALVES,
    .defaults = (const sr_default[]){{"attention_multiplier", NULL, 1}, {NULL, NULL, 0}},
    .rejects = rejects,
};

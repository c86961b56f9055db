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

#define MIXTRAL(part) "block_sparse_moe." part

const sr_arch sr_arch_mixtral = {
    .name = "mixtral",
    .gguf_name = "llama",
    .gguf_key = "expert_count",
    .hf = (const char *const[]){"MixtralForCausalLM", "mixtral", NULL},
    .gguf_rope = SR_ROPE_ADJACENT,
    .hf_rope = SR_ROPE_HALVES,
    .window = true,
    .experts = "num_local_experts",
    .gate = SR_GATE_CHOSEN,
    .names = (const sr_name[]){{SR_ROUTER, MIXTRAL("gate"), "ffn_gate_inp"},
                               {SR_EXPERT_GATE, MIXTRAL("experts.*.w1"), "ffn_gate.*"},
                               {SR_EXPERT_UP, MIXTRAL("experts.*.w3"), "ffn_up.*"},
                               {SR_EXPERT_DOWN, MIXTRAL("experts.*.w2"), "ffn_down.*"},
                               {SR_EXPERTS_GATE, MIXTRAL("experts.gate_proj"), "ffn_gate_exps"},
                               {SR_EXPERTS_UP, MIXTRAL("experts.up_proj"), "ffn_up_exps"},
                               {SR_EXPERTS_DOWN, MIXTRAL("experts.down_proj"), "ffn_down_exps"},
                               {SR_SWITCH_GATE, MIXTRAL("switch_mlp.gate_proj"), NULL},
                               {SR_SWITCH_UP, MIXTRAL("switch_mlp.up_proj"), NULL},
                               {SR_SWITCH_DOWN, MIXTRAL("switch_mlp.down_proj"), NULL},
                               {0}},
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

#define GRANITE(part) "block_sparse_moe." part

/* Granite 3's mixtures: experts are two stacks, the rows of gate before those of up; so is what all tokens pass, where
 * there is one. */
const sr_arch sr_arch_granitemoe = {
    .name = "granitemoe",
    .gguf_name = "granitemoe",
    .hf = (const char *const[]){"GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM", "granitemoe",
                                "granitemoeshared", NULL},
    .gguf_rope = SR_ROPE_ADJACENT,
    .hf_rope = SR_ROPE_HALVES,
    .experts = "num_local_experts",
    .stacked_experts = true,
    .gate = SR_GATE_CHOSEN,
    .shared = true,
    .names = (const sr_name[]){{SR_ROUTER, GRANITE("router.layer"), "ffn_gate_inp"},
                               {SR_EXPERTS_GATE_UP, GRANITE("input_linear"), "ffn_gate_up_exps"},
                               {SR_EXPERTS_DOWN, GRANITE("output_linear"), "ffn_down_exps"},
                               {SR_SWITCH_GATE, GRANITE("switch_mlp.gate_proj"), NULL},
                               {SR_SWITCH_UP, GRANITE("switch_mlp.up_proj"), NULL},
                               {SR_SWITCH_DOWN, GRANITE("switch_mlp.down_proj"), NULL},
                               {SR_SHARED_GATE, "shared_mlp.gate_proj", "ffn_gate_shexp"},
                               {SR_SHARED_UP, "shared_mlp.up_proj", "ffn_up_shexp"},
                               {SR_SHARED_GATE_UP, "shared_mlp.input_linear", NULL},
                               {SR_SHARED_DOWN, "shared_mlp.output_linear", "ffn_down_shexp"},
                               {0}},
    .defaults = (const sr_default[]){{"attention_multiplier", NULL, 1}, {NULL, NULL, 0}},
};

#include <stddef.h>

#include "arch/arch.h"

/* Converters leave the window out of GGUF files. */
const sr_arch sr_arch_starcoder2 = {
    .name = "starcoder2",
    .gguf_name = "starcoder2",
    .hf = (const char *const[]){"Starcoder2ForCausalLM", "starcoder2", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .norm = SR_NORM_LAYER,
    .hf_eps = "norm_epsilon",
    .act = SR_ACT_GELU_TANH,
    .bias = SR_BIAS_QKV | SR_BIAS_ATTN_OUT | SR_BIAS_MLP,
    .ungated = true,
    .window = true,
    .names = (const sr_name[]){{SR_UP, "mlp.c_fc", "ffn_up"}, {SR_DOWN, "mlp.c_proj", "ffn_down"}, {0}},
};

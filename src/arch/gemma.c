/* Gemma 1, 2 and 3 (the text part). Hugging Face stores norms as what is added to 1. */
#include <math.h>
#include <stddef.h>

#include "arch/arch.h"

/* GGUF has no query_pre_attn_scalar; of the 27B models, which these numbers of layers name, it is d_model / n_head. */
static const char *check(const sr_file *file, sr_hparams *h) {
    if (file->gguf && (h->n_layer == 46 || h->n_layer == 62))
        h->attn_scale = 1.0f / sqrtf((float)(h->d_model / h->kind[0].n_head));
    return NULL;
}

#define GEMMA                                                                                                          \
    .gguf_rope = SR_ROPE_HALVES, .hf_rope = SR_ROPE_HALVES, .act = SR_ACT_GELU_TANH, .norm_plus1 = true,               \
    .embed_sqrt = true

const sr_arch sr_arch_gemma = {
    .name = "gemma",
    .gguf_name = "gemma",
    .hf = (const char *const[]){"GemmaForCausalLM", "gemma", NULL},
    GEMMA,
    .defaults = (const sr_default[]){{"head_dim", NULL, 256}, {NULL, NULL, 0}},
};

static const sr_name names[] = {{SR_FFN_NORM, "pre_feedforward_layernorm", "ffn_norm"}, {0}};

const sr_arch sr_arch_gemma2 = {
    .name = "gemma2",
    .gguf_name = "gemma2",
    .hf = (const char *const[]){"Gemma2ForCausalLM", "gemma2", NULL},
    GEMMA,
    .post_norms = true,
    .window = true,
    .window_period = 2,
    .names = names,
    .defaults = (const sr_default[]){{"head_dim", NULL, 256},
                                     {"query_pre_attn_scalar", NULL, 256},
                                     {"sliding_window", "attention.sliding_window", 4096},
                                     {"attn_logit_softcapping", "attn_logit_softcapping", 50},
                                     {"final_logit_softcapping", "final_logit_softcapping", 30},
                                     {NULL, NULL, 0}},
    .check = check,
};

/* Configs of the multimodal models leave out what the class assumes. */
const sr_arch sr_arch_gemma3 = {
    .name = "gemma3",
    .gguf_name = "gemma3",
    .hf = (const char *const[]){"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "gemma3_text", "gemma3", NULL},
    GEMMA,
    .post_norms = true,
    .qk_norm = true,
    .window = true,
    .window_period = 6,
    .local_rope = true,
    .names = names,
    .defaults = (const sr_default[]){{"num_attention_heads", NULL, 8},
                                     {"num_key_value_heads", NULL, 4},
                                     {"head_dim", NULL, 256},
                                     {"max_position_embeddings", NULL, 131072},
                                     {"rms_norm_eps", NULL, 1e-6},
                                     {"query_pre_attn_scalar", NULL, 256},
                                     {"sliding_window", NULL, 4096},
                                     {"rope_theta", NULL, 1e6},
                                     {"rope_local_base_freq", "rope.freq_base_swa", 1e4},
                                     {NULL, NULL, 0}},
    .check = check,
};

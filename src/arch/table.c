#include <stddef.h>

#include "arch/arch.h"

extern const sr_arch sr_arch_deepseek2, sr_arch_deepseek3, sr_arch_gemma, sr_arch_gemma2, sr_arch_gemma3, sr_arch_glm4,
    sr_arch_gptoss, sr_arch_glm4moe, sr_arch_hunyuan_moe, sr_arch_phimoe, sr_arch_granite, sr_arch_granitemoe,
    sr_arch_hunyuan_dense, sr_arch_llama, sr_arch_mistral, sr_arch_mistral3, sr_arch_phi2, sr_arch_phi3, sr_arch_qwen2,
    sr_arch_mixtral, sr_arch_qwen2moe, sr_arch_qwen3, sr_arch_qwen3moe, sr_arch_smollm3, sr_arch_starcoder2;

/* A row that asks for a key stands before the one of the same GGUF name that does not. */
const sr_arch *const sr_archs[] = {
    &sr_arch_mixtral,       &sr_arch_mistral,
    &sr_arch_llama,         &sr_arch_mistral3,
    &sr_arch_smollm3,       &sr_arch_granite,
    &sr_arch_granitemoe,    &sr_arch_qwen2moe,
    &sr_arch_qwen3moe,      &sr_arch_qwen2,
    &sr_arch_qwen3,         &sr_arch_gemma,
    &sr_arch_gemma2,        &sr_arch_gemma3,
    &sr_arch_phi2,          &sr_arch_phi3,
    &sr_arch_glm4,          &sr_arch_starcoder2,
    &sr_arch_glm4moe,       &sr_arch_phimoe,
    &sr_arch_gptoss,        &sr_arch_hunyuan_moe,
    &sr_arch_hunyuan_dense, &sr_arch_deepseek3,
    &sr_arch_deepseek2,     NULL,
};

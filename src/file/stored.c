#include <string.h>

#include "file/inner.h"

/* ggml: include/ggml.h (enum ggml_type) and src/ggml-common.h (block structs), commit d99724f2; safetensors:
 * safetensors/src/tensor.rs (enum Dtype). */
static const sr_stored table[] = {
    /* name, ggml number, safetensors dtype, elements and bytes a block, bits of sub-byte types */
    {"f32", 0, "F32", 1, 4, 0},
    {"f16", 1, "F16", 1, 2, 0},
    {"bf16", 30, "BF16", 1, 2, 0},
    {"f64", 28, "F64", 1, 8, 0},
    {"i8", 24, "I8", 1, 1, 0},
    {"i16", 25, "I16", 1, 2, 0},
    {"i32", 26, "I32", 1, 4, 0},
    {"i64", 27, "I64", 1, 8, 0},
    {"u8", -1, "U8", 1, 1, 0},
    {"u16", -1, "U16", 1, 2, 0},
    {"u32", -1, "U32", 1, 4, 0},
    {"u64", -1, "U64", 1, 8, 0},
    {"bool", -1, "BOOL", 1, 1, 0},
    {"c64", -1, "C64", 1, 8, 0},
    {"f8_e4m3", -1, "F8_E4M3", 1, 1, 0},
    {"f8_e5m2", -1, "F8_E5M2", 1, 1, 0},
    {"f8_e8m0", -1, "F8_E8M0", 1, 1, 0},
    {"f8_e4m3fnuz", -1, "F8_E4M3FNUZ", 1, 1, 0},
    {"f8_e5m2fnuz", -1, "F8_E5M2FNUZ", 1, 1, 0},
    {"f4", -1, "F4", 1, 0, 4},
    {"f6_e2m3", -1, "F6_E2M3", 1, 0, 6},
    {"f6_e3m2", -1, "F6_E3M2", 1, 0, 6},
    {"q4_0", 2, NULL, 32, 18, 0},
    {"q4_1", 3, NULL, 32, 20, 0},
    {"q5_0", 6, NULL, 32, 22, 0},
    {"q5_1", 7, NULL, 32, 24, 0},
    {"q8_0", 8, NULL, 32, 34, 0},
    {"q8_1", 9, NULL, 32, 36, 0},
    {"q2_k", 10, NULL, 256, 84, 0},
    {"q3_k", 11, NULL, 256, 110, 0},
    {"q4_k", 12, NULL, 256, 144, 0},
    {"q5_k", 13, NULL, 256, 176, 0},
    {"q6_k", 14, NULL, 256, 210, 0},
    {"q8_k", 15, NULL, 256, 292, 0},
    {"iq2_xxs", 16, NULL, 256, 66, 0},
    {"iq2_xs", 17, NULL, 256, 74, 0},
    {"iq3_xxs", 18, NULL, 256, 98, 0},
    {"iq1_s", 19, NULL, 256, 50, 0},
    {"iq4_nl", 20, NULL, 32, 18, 0},
    {"iq3_s", 21, NULL, 256, 110, 0},
    {"iq2_s", 22, NULL, 256, 82, 0},
    {"iq4_xs", 23, NULL, 256, 136, 0},
    {"iq1_m", 29, NULL, 256, 56, 0},
    {"tq1_0", 34, NULL, 256, 54, 0},
    {"tq2_0", 35, NULL, 256, 66, 0},
    {"mxfp4", 39, NULL, 32, 17, 0},
    {"nvfp4", 40, NULL, 64, 36, 0},
    {"q1_0", 41, NULL, 128, 18, 0},
    {"q2_0", 42, NULL, 64, 18, 0},
    /* what the numbers 2 to 8 meant in files before GGUF: fmt/ggml_old.c */
    {"q4_0_v1", -1, NULL, 32, 20, 0},
    {"q4_1_v1", -1, NULL, 32, 24, 0},
    {"q4_2", -1, NULL, 16, 10, 0},
    {"q4_3", -1, NULL, 16, 12, 0},
    {"q5_0_v1", -1, NULL, 32, 22, 0},
    {"q5_1_v1", -1, NULL, 32, 24, 0},
    {"q8_0_v1", -1, NULL, 32, 36, 0},
    {"q4_0_v2", -1, NULL, 32, 20, 0},
    {"q4_1_v2", -1, NULL, 32, 24, 0},
    {"f8q8", -1, NULL, 32, 33, 0}, /* mistral.rs: fmt/f8q8.c */
};
enum { N_STORED = sizeof table / sizeof *table };

const sr_stored *sr_stored_by_gguf(uint32_t id) {
    for (int i = 0; i < N_STORED; i++)
        if (table[i].gguf_id >= 0 && (uint32_t)table[i].gguf_id == id) return &table[i];
    return NULL;
}

const sr_stored *sr_stored_by_st(const char *id, size_t n) {
    for (int i = 0; i < N_STORED; i++)
        if (table[i].st_id && strlen(table[i].st_id) == n && memcmp(table[i].st_id, id, n) == 0) return &table[i];
    return NULL;
}

const sr_stored *sr_stored_by_name(const char *name) {
    for (int i = 0; i < N_STORED; i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

bool sr_stored_bytes(const sr_stored *type, int64_t n, int64_t *bytes) {
    if (n < 0) return false;
    if (type->bits) {
        if (!sr_times(n, type->bits, bytes) || *bytes % 8 != 0) return false;
        *bytes /= 8;
        return true;
    }
    return n % type->block == 0 && sr_times(n / type->block, type->bytes, bytes);
}

/* Numbers of more than one byte in a block: `n` of `width` bytes from byte `at` on. Source: the block structs; those
 * that ggml's own converter handles (gguf-py: gguf_convert_endian.py: Q4_0, Q8_0, Q4_K, Q6_K, plain floats) are the
 * same there. Absent are the types whose blocks ggml's code reads as other words than their fields are: Q5_0, Q5_1,
 * IQ2_XXS, IQ3_XXS, IQ1_M. Types of one byte, MXFP4 and NVFP4 have nothing to swap. */
static const struct swap {
    const char *type;
    struct {
        uint16_t at, width, n;
    } field[2];
} swaps[] = {
    {"f32", {{0, 4, 1}}},
    {"f16", {{0, 2, 1}}},
    {"bf16", {{0, 2, 1}}},
    {"f64", {{0, 8, 1}}},
    {"i8", {{0}}},
    {"i16", {{0, 2, 1}}},
    {"i32", {{0, 4, 1}}},
    {"i64", {{0, 8, 1}}},
    {"q4_0", {{0, 2, 1}}},
    {"q4_1", {{0, 2, 2}}},
    {"q8_0", {{0, 2, 1}}},
    {"q8_1", {{0, 2, 2}}},
    {"q2_k", {{80, 2, 2}}},
    {"q3_k", {{108, 2, 1}}},
    {"q4_k", {{0, 2, 2}}},
    {"q5_k", {{0, 2, 2}}},
    {"q6_k", {{208, 2, 1}}},
    {"q8_k", {{0, 4, 1}, {260, 2, 16}}},
    {"iq2_xs", {{0, 2, 33}}},
    {"iq2_s", {{0, 2, 1}}},
    {"iq3_s", {{0, 2, 1}}},
    {"iq1_s", {{0, 2, 1}, {34, 2, 8}}},
    {"iq4_nl", {{0, 2, 1}}},
    {"iq4_xs", {{0, 2, 2}}},
    {"tq1_0", {{52, 2, 1}}},
    {"tq2_0", {{64, 2, 1}}},
    {"mxfp4", {{0}}},
    {"nvfp4", {{0}}},
    {"q1_0", {{0, 2, 1}}},
    {"q2_0", {{0, 2, 1}}},
};

bool sr_stored_swap(const sr_stored *type, const uint8_t *from, int64_t bytes, uint8_t *to) {
    const struct swap *s = NULL;
    for (size_t i = 0; i < sizeof swaps / sizeof *swaps; i++)
        if (!strcmp(swaps[i].type, type->name)) s = &swaps[i];
    if (!s) return false;
    memcpy(to, from, (size_t)bytes);
    for (int64_t block = 0; block < bytes; block += type->bytes)
        for (int f = 0; f < 2; f++)
            for (int i = 0; i < s->field[f].n; i++) {
                int width = s->field[f].width, at = s->field[f].at + i * width;
                for (int b = 0; b < width; b++) to[block + at + b] = from[block + at + width - 1 - b];
            }
    return true;
}

const char *sr_stored_not_read(uint32_t id) {
    static const char *const removed[] = {
        [4] = "q4_2",      [5] = "q4_3",        [31] = "q4_0_4_4",   [32] = "q4_0_4_8",
        [33] = "q4_0_8_8", [36] = "iq4_nl_4_4", [37] = "iq4_nl_4_8", [38] = "iq4_nl_8_8"};
    if (id < sizeof removed / sizeof *removed && removed[id]) return removed[id];
    return id >= 97 && id < 400 ? "a type of ik_llama.cpp" : NULL;
}

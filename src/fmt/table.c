/* The formats. The only file that names implementations: a new format is one declaration and one line here. */
#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "fmt/fmt.h"

extern const sr_format sr_fmt_f32, sr_fmt_f16, sr_fmt_bf16;
extern const sr_format sr_fmt_q4_0, sr_fmt_q4_1, sr_fmt_q5_0, sr_fmt_q5_1, sr_fmt_q8_0, sr_fmt_q8_1;
extern const sr_format sr_fmt_q4_0_v1, sr_fmt_q4_1_v1, sr_fmt_q4_2, sr_fmt_q4_3, sr_fmt_q5_0_v1, sr_fmt_q5_1_v1,
    sr_fmt_q8_0_v1, sr_fmt_q4_0_v2, sr_fmt_q4_1_v2;
extern const sr_format sr_fmt_f8q8;
extern const sr_format sr_fmt_q2_k, sr_fmt_q3_k, sr_fmt_q4_k, sr_fmt_q5_k, sr_fmt_q6_k, sr_fmt_q8_k;
extern const sr_format sr_fmt_iq1_s, sr_fmt_iq1_m, sr_fmt_iq2_xxs, sr_fmt_iq2_xs, sr_fmt_iq2_s, sr_fmt_iq3_xxs;
extern const sr_format sr_fmt_iq3_s, sr_fmt_iq4_nl, sr_fmt_iq4_xs;
extern const sr_format sr_fmt_tq1_0, sr_fmt_tq2_0, sr_fmt_q1_0, sr_fmt_q2_0, sr_fmt_mxfp4, sr_fmt_nvfp4;

extern const sr_format sr_fmt_mlx1, sr_fmt_mlx2, sr_fmt_mlx3, sr_fmt_mlx4, sr_fmt_mlx5, sr_fmt_mlx6, sr_fmt_mlx8;
extern const sr_format sr_fmt_mlx_mxfp4, sr_fmt_mlx_nvfp4, sr_fmt_mlx_mxfp8;
extern const sr_format sr_fmt_nf4, sr_fmt_fp4, sr_fmt_bnb_int8;
extern const sr_format sr_fmt_hqq8, sr_fmt_hqq4, sr_fmt_hqq3, sr_fmt_hqq2, sr_fmt_hqq1;

extern const sr_format sr_fmt_gptq2, sr_fmt_gptq3, sr_fmt_gptq4, sr_fmt_gptq5, sr_fmt_gptq6, sr_fmt_gptq7, sr_fmt_gptq8;
extern const sr_format sr_fmt_marlin4, sr_fmt_marlin24_4, sr_fmt_marlin24_8;
extern const sr_format sr_fmt_awq4, sr_fmt_awq8, sr_fmt_awq4_gemv, sr_fmt_awq4_gemv_fast;

extern const sr_format sr_fmt_fp8_e4m3, sr_fmt_fp8_e5m2, sr_fmt_fp8_e4m3fnuz, sr_fmt_fp8_e5m2fnuz;
extern const sr_format sr_fmt_ct_pack2, sr_fmt_ct_pack3, sr_fmt_ct_pack4, sr_fmt_ct_pack5, sr_fmt_ct_pack6,
    sr_fmt_ct_pack7, sr_fmt_ct_pack8, sr_fmt_ct_int8, sr_fmt_ct_int8_asym;
extern const sr_format sr_fmt_ct_bitmask;
extern const sr_format sr_fmt_ct_nvfp4, sr_fmt_ct_mxfp4, sr_fmt_ct_mxfp6, sr_fmt_modelopt_nvfp4, sr_fmt_gptoss_mxfp4;
extern const sr_format sr_fmt_bitnet;

/* clang-format off */
const sr_format *const sr_formats[] = {
    &sr_fmt_f32, &sr_fmt_f16, &sr_fmt_bf16, /* plain.c */
    &sr_fmt_q4_0, &sr_fmt_q4_1, &sr_fmt_q5_0, &sr_fmt_q5_1, &sr_fmt_q8_0, &sr_fmt_q8_1, /* gguf_q.c */
    &sr_fmt_q2_k, &sr_fmt_q3_k, &sr_fmt_q4_k, &sr_fmt_q5_k, &sr_fmt_q6_k, &sr_fmt_q8_k, /* gguf_k.c */
    &sr_fmt_q4_0_v1, &sr_fmt_q4_1_v1, &sr_fmt_q4_2, &sr_fmt_q4_3, &sr_fmt_q5_0_v1, &sr_fmt_q5_1_v1, /* ggml_old.c */
    &sr_fmt_q8_0_v1, &sr_fmt_q4_0_v2, &sr_fmt_q4_1_v2,
    &sr_fmt_iq1_s, &sr_fmt_iq1_m,  &sr_fmt_iq2_xxs, &sr_fmt_iq2_xs, &sr_fmt_iq2_s, &sr_fmt_iq3_xxs, /* gguf_iq.c */
    &sr_fmt_iq3_s, &sr_fmt_iq4_nl, &sr_fmt_iq4_xs,  &sr_fmt_tq1_0,  &sr_fmt_tq2_0, &sr_fmt_q1_0,
    &sr_fmt_q2_0,  &sr_fmt_mxfp4,  &sr_fmt_nvfp4, /* gguf_tq.c */
    &sr_fmt_f8q8, /* f8q8.c */
    &sr_fmt_mlx1, &sr_fmt_mlx2, &sr_fmt_mlx3, &sr_fmt_mlx4, &sr_fmt_mlx5, &sr_fmt_mlx6, &sr_fmt_mlx8, /* mlx.c */
    &sr_fmt_mlx_mxfp4, &sr_fmt_mlx_nvfp4, &sr_fmt_mlx_mxfp8,
    &sr_fmt_hqq8, &sr_fmt_hqq4, &sr_fmt_hqq3, &sr_fmt_hqq2, &sr_fmt_hqq1, /* hqq.c */
    &sr_fmt_nf4, &sr_fmt_fp4, &sr_fmt_bnb_int8, /* bnb.c */
    &sr_fmt_gptq2, &sr_fmt_gptq3, &sr_fmt_gptq4, &sr_fmt_gptq5, &sr_fmt_gptq6, &sr_fmt_gptq7, &sr_fmt_gptq8, /* gptq.c */
    &sr_fmt_marlin4, &sr_fmt_marlin24_4, &sr_fmt_marlin24_8, /* marlin.c */
    &sr_fmt_awq4, &sr_fmt_awq8, &sr_fmt_awq4_gemv, &sr_fmt_awq4_gemv_fast, /* awq.c */
    &sr_fmt_fp8_e4m3, &sr_fmt_fp8_e5m2, &sr_fmt_fp8_e4m3fnuz, &sr_fmt_fp8_e5m2fnuz, /* fp8.c */
    &sr_fmt_ct_pack2, &sr_fmt_ct_pack3, &sr_fmt_ct_pack4, &sr_fmt_ct_pack5, &sr_fmt_ct_pack6, &sr_fmt_ct_pack7, /* ct.c */
    &sr_fmt_ct_pack8, &sr_fmt_ct_int8, &sr_fmt_ct_int8_asym,
    &sr_fmt_ct_bitmask, /* sparse.c */
    &sr_fmt_ct_nvfp4, &sr_fmt_ct_mxfp4, &sr_fmt_ct_mxfp6, &sr_fmt_modelopt_nvfp4, &sr_fmt_gptoss_mxfp4, /* mx.c */
    &sr_fmt_bitnet, /* bitnet.c */
    NULL,
};
/* clang-format on */

static bool same_ignoring_case(const char *a, const char *b) {
    if (!a) return false;
    for (; *a && *b; a++, b++)
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) return false;
    return *a == *b;
}

const sr_format *sr_format_by_name(const char *name) {
    if (!name) return NULL;
    for (int i = 0; sr_formats[i]; i++)
        if (same_ignoring_case(sr_formats[i]->name, name) || same_ignoring_case(sr_formats[i]->alias, name))
            return sr_formats[i];
    return NULL;
}

static const struct {
    const char *number, *format;
} numbers[] = {{"2", "q2_k"}, {"3", "q3_k"}, {"4", "q4_k"}, {"5", "q5_k"}, {"6", "q6_k"}, {"8", "q8_0"}};
enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

const char *sr_format_number(int i, const char **format) {
    if (i < 0 || i >= N_NUMBERS) return NULL;
    *format = numbers[i].format;
    return numbers[i].number;
}

/* As --to says them: "mlx:4" is mlx4, and "mlx:mxfp4" mlx_mxfp4. */
static const sr_format *said_as_target(const char *name) {
    char text[32];
    const size_t n = strcspn(name, ":");
    if (!name[n] || strlen(name) >= sizeof text) return NULL;
    snprintf(text, sizeof text, "%.*s%s", (int)n, name, name + n + 1);
    const sr_format *fmt = sr_format_by_name(text);
    snprintf(text, sizeof text, "%.*s_%s", (int)n, name, name + n + 1);
    return fmt ? fmt : sr_format_by_name(text);
}

const sr_format *sr_format_asked(const char *name) {
    const char *number, *format;
    for (int i = 0; (number = sr_format_number(i, &format)); i++)
        if (strcmp(name, number) == 0) return sr_format_by_name(format);
    const sr_format *fmt = sr_format_by_name(name);
    return fmt ? fmt : said_as_target(name);
}

/* What formats bring to an instruction set, and the list of it. GGUF's are in gguf_kernels.h, a unit of their own:
 * together they are what the build waits for longest. Included by <isa>.c behind its vocabulary; GGUF is the name of
 * the other list. */
#include "base/bytes.h"
#include "base/half.h"
#include "cpu/kern.h"
#include "fmt/bnb.h"
#include "fmt/fp8.h"
#include "fmt/fp8_bits.h"
#include "fmt/hqq.h"
#include "fmt/integer.h"

#include "cpu/dot_kern.h"

#include "cpu/codes_kern.h"

#include "cpu/coarse_kern.h"

#include "cpu/groups_kern.h"

#include "fmt/bnb_kern.h"
#include "fmt/fp8_kern.h"
#include "fmt/hqq_kern.h"
#include "fmt/integer_kern.h"
#include "fmt/mlx_kern.h"
#include "fmt/mx_kern.h"

#define FLOATS(name)                                                                                                   \
    { .format = #name, .dot_float = dot_##name, .decode = decode_##name }
#define PANEL_DOT(name)                                                                                                \
    { .format = #name, .panel = panel_##name, .dot = dot_##name }
#define UNPACK_DOT(name)                                                                                               \
    { .format = #name, .unpack = unpack_##name, .dot = dot_##name }

static const sr_fast fast[] = {
    SR_FAST_PLAIN,
    FLOATS(fp8_e4m3),
    FLOATS(fp8_e5m2),
    FLOATS(fp8_e4m3fnuz),
    FLOATS(fp8_e5m2fnuz),
    FLOATS(mlx_mxfp8),
    PANEL_DOT(mlx2),
    PANEL_DOT(mlx3),
    PANEL_DOT(mlx4),
    UNPACK_DOT(mlx5),
    UNPACK_DOT(mlx6),
    UNPACK_DOT(mlx8),
    PANEL_DOT(mlx_mxfp4),
    PANEL_DOT(mlx_nvfp4),
    {.format = "nf4", .panel = panel_nf4, .dot = dot_nf4, .dot_err = 1e-4f},
    {.format = "fp4", .panel = panel_nf4, .dot = dot_nf4, .dot_err = 1e-4f},
    UNPACK_DOT(bnb_int8),
    {.format = "hqq8", .fits = hqq_fits, .unpack = unpack_hqq8, .dot = dot_hqq8},
    {.format = "hqq4", .fits = hqq_fits, .panel = panel_hqq, .dot = dot_hqq, .share = 2},
    {.format = "hqq2", .fits = hqq_fits, .panel = panel_hqq, .dot = dot_hqq, .share = 4},
    {.format = "hqq1", .fits = hqq_fits, .panel = panel_hqq, .dot = dot_hqq, .share = 8},
    {.format = "ct_pack4", .fits = ct_pack4_fits, .panel = panel_ct_pack4, .dot = dot_ct_pack4, .dot_offset = 15},
    {.format = "ct_mxfp4", .panel = panel_mx_mxfp4, .dot = dot_mx_mxfp4},
    {.format = "gptoss_mxfp4", .panel = panel_mx_mxfp4, .dot = dot_mx_mxfp4},
    {.format = "ct_nvfp4", .fits = nvfp4_fits, .panel = panel_ct_nvfp4, .dot = dot_ct_nvfp4},
    {.format = "modelopt_nvfp4", .fits = nvfp4_fits, .panel = panel_modelopt_nvfp4, .dot = dot_modelopt_nvfp4},
    {.format = "gptq4", .panel = panel_gptq4, .panel_rows = panel_rows_gptq4, .dot = dot_gptq4},
    {.format = "awq4", .panel = panel_awq4, .panel_rows = panel_rows_awq4, .dot = dot_awq4, .wide = true},
    {.more = GGUF},
};

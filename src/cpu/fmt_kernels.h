/* The formats with fast kernels: one line each. X(name) means panel_<name> and dot_<name>, from the *_kern.h files that
 * the instruction sets' units include. */
#ifndef SR_CPU_FMT_KERNELS_H
#define SR_CPU_FMT_KERNELS_H

#define SR_FMT_KERNELS(X)                                                                                              \
    X(q4_0)                                                                                                            \
    X(q4_1)                                                                                                            \
    X(q5_0)                                                                                                            \
    X(q5_1)                                                                                                            \
    X(q8_0)                                                                                                            \
    X(q2_k)                                                                                                            \
    X(q3_k)                                                                                                            \
    X(q4_k)                                                                                                            \
    X(q5_k)                                                                                                            \
    X(q6_k)                                                                                                            \
    X(iq1_s)                                                                                                           \
    X(iq1_m)                                                                                                           \
    X(iq2_xxs)                                                                                                         \
    X(iq2_xs)                                                                                                          \
    X(iq2_s)                                                                                                           \
    X(iq3_xxs)                                                                                                         \
    X(iq3_s)                                                                                                           \
    X(iq4_nl)                                                                                                          \
    X(iq4_xs)                                                                                                          \
    X(tq1_0)                                                                                                           \
    X(tq2_0)                                                                                                           \
    X(mxfp4)                                                                                                           \
    X(nvfp4)

/* Those whose panel is coarse or unpack's own: X(name, dot_err) means unpack_<name>, panel_<name> (or NULL: that of
 * unpack) and dot_<name>. */
#define SR_FMT_UNPACKERS(X)                                                                                            \
    X(mlx2, 0)                                                                                                         \
    X(mlx3, 0)                                                                                                         \
    X(mlx4, 0)                                                                                                         \
    X(mlx5, 0)                                                                                                         \
    X(mlx6, 0)                                                                                                         \
    X(mlx8, 0)                                                                                                         \
    X(mlx_mxfp4, 0)                                                                                                    \
    X(nf4, 1e-4f)                                                                                                      \
    X(fp4, 1e-4f)                                                                                                      \
    X(bnb_int8, 0)

/* Those whose panel is coarse and whose dot is made of unpacked codes: unpack_<name>. */
#define SR_FMT_UNPACK_ONLY(X)                                                                                          \
    X(ct_pack4)                                                                                                        \
    X(ct_mxfp4)                                                                                                        \
    X(gptoss_mxfp4)                                                                                                    \
    X(ct_nvfp4)                                                                                                        \
    X(modelopt_nvfp4)

/* Those whose words run along N: unpack_<name> and dot_<name>. */
#define SR_FMT_ALONG_ROWS(X)                                                                                           \
    X(gptq4)                                                                                                           \
    X(awq4)

#endif

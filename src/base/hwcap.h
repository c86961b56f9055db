/* What the operating system says of an AArch64 processor: programs cannot ask it themselves. */
#ifndef SR_BASE_HWCAP_H
#define SR_BASE_HWCAP_H

enum {
    SR_HWCAP_DOTPROD = 1, /* products of bytes, four at a time */
    SR_HWCAP_I8MM = 2,    /* products of matrices of bytes */
    SR_HWCAP_BF16 = 4,
    SR_HWCAP_SVE = 8
};
/* These bits; 0 on other processors, and where the system does not say. */
unsigned sr_hwcap(void);

#endif

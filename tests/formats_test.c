/* Reading: every row of the format table against golden blocks, against its own bits, and at the edges. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "fmt/fmt.h"

/* tests/vectors/gguf/<name>.bin; NULL when the type has none. Owned by the caller. */
static uint8_t *read_vectors(const char *name, size_t *n) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/vectors/gguf/%s.bin", SR_SOURCE_DIR, name);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    uint8_t *data = malloc(1 << 20);
    *n = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

static uint32_t u32_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static void decode_gives_the_golden_values_to_the_bit(void **state) {
    (void)state;
    for (int f = 0; sr_formats[f]; f++) {
        const sr_format *fmt = sr_formats[f];
        size_t n;
        uint8_t *file = read_vectors(fmt->name, &n);
        if (!file) continue;
        uint32_t blocks = u32_at(file), bytes = u32_at(file + 4), elems = u32_at(file + 8);
        assert_int_equal(elems, fmt->block);
        assert_int_equal(n, 12 + (size_t)blocks * (bytes + 4 * elems));
        sr_weight w = {.fmt = fmt, .N = 1, .K = (int64_t)blocks * elems, .group = fmt->group};
        w.plane[0].data = file + 12;
        w.plane[0].stride = w.plane[0].bytes = (int64_t)blocks * bytes;
        float *got = malloc(sizeof *got * (size_t)w.K);
        fmt->decode(&w, 0, 0, w.K, got);
        const uint8_t *want = file + 12 + (size_t)blocks * bytes;
        for (int64_t i = 0; i < w.K; i++)
            if (sr_bits_from_f32(got[i]) != u32_at(want + 4 * i))
                fail_msg("%s block %d element %d: got %a, want %a", fmt->name, (int)(i / elems), (int)(i % elems),
                         (double)got[i], (double)sr_f32_from_bits(u32_at(want + 4 * i)));
        free(got);
        free(file);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_gives_the_golden_values_to_the_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Act-order: columns that were quantized in another order than they are stored in, and which group each belongs to. */
#include <string.h>

#include "base/bytes.h"
#include "fmt/fmt.h"

static int32_t entry(const sr_part *p, int64_t k) {
    return (int32_t)sr_get_u32(p->data + 4 * k);
}

sr_status sr_perm_sort(const sr_part *g_idx, int64_t K, int64_t group, sr_arena *arena, const int32_t **perm,
                       sr_err *err) {
    *perm = NULL;
    if (strcmp(g_idx->type->name, "i32") || g_idx->n_elements != K)
        return sr_fail(err, SR_CORRUPT, "the group index has %lld elements of type %s, expected %lld of i32",
                       (long long)g_idx->n_elements, g_idx->type->name, (long long)K);
    int64_t n_groups = K / group + (K % group != 0), unset = 0;
    bool in_order = true;
    for (int64_t k = 0; k < K; k++) {
        int32_t g = entry(g_idx, k);
        unset += g == -1;
        in_order = in_order && g == k / group;
        if (g < -1 || g >= n_groups)
            return sr_fail(err, SR_CORRUPT, "column %lld belongs to group %d, expected 0 to %lld", (long long)k, g,
                           (long long)n_groups - 1);
    }
    if (in_order || unset == K) return SR_OK; /* -1 throughout: compressed-tensors' way to say that there is none */
    if (unset) return sr_fail(err, SR_CORRUPT, "%lld columns belong to group -1", (long long)unset);

    int32_t *order = sr_arena_alloc(arena, (size_t)K, sizeof *order),
            *next = sr_arena_alloc(arena, (size_t)n_groups, 4);
    if (!order || !next) return sr_fail(err, SR_NOMEM, "no memory for the order of %lld columns", (long long)K);
    for (int64_t g = 0; g < n_groups; g++) next[g] = (int32_t)(g * group);
    for (int64_t k = 0; k < K; k++) {
        int32_t g = entry(g_idx, k);
        int64_t end = (g + 1) * group < K ? (g + 1) * group : K;
        if (next[g] >= end)
            return sr_fail(err, SR_CORRUPT, "group %d has more than its %lld columns", g, (long long)(end - g * group));
        order[next[g]++] = (int32_t)k;
    }
    *perm = order; /* no group has too many, so none has too few */
    return SR_OK;
}

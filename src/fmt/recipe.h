/* Recipes: which type for which matrix, as rules of which the last that matches wins. */
#ifndef SR_FMT_RECIPE_H
#define SR_FMT_RECIPE_H

#include "base/arena.h"
#include "fmt/fmt.h"
#include "sirocco.h"

enum { SR_RECIPE_TEXT = 1024, SR_MOST_RULES = 4096, SR_MOST_RECIPE = 1 << 20 };

typedef struct sr_rule {
    const char *text; /* its left side, as it was written */
    void *code;       /* the pattern; NULL: layers first .. end - 1 */
    int first, end;
    const sr_format *fmt; /* NULL: what would be without a recipe */
    int bits;             /* not 0: a number of bits was said, of which fmt is GGUF's type */
    int32_t group;        /* columns a scale; 0: as usual */
    bool used;
} sr_rule;

struct sr_recipe {
    const char *name; /* of its file, for messages */
    sr_rule *rule;
    int n, cap;
    int64_t left; /* steps of matching */
    sr_arena arena;
};

/* An empty one; NULL: no memory. */
sr_recipe *sr_recipe_new(const char *name);
/* Appends a rule. left: "3", "0-8" (layers 0 to 7), or a regular expression; pattern: it is one. type: of a format, or
 * bits, behind it perhaps ",group=N"; NULL: as without a recipe. SR_INVALID names the line where `line` is not 0. */
sr_status sr_recipe_add(sr_recipe *r, const char *left, bool pattern, const char *type, int line, sr_err *err);
/* The content of a file of that name, which is changed and has a zero behind it. */
sr_status sr_recipe_parse(const char *path, char *text, size_t n, sr_recipe **out, sr_err *err);
/* "3" or "0-8" as layers first .. end - 1; false: no such text. */
bool sr_recipe_layers(const char *text, int *first, int *end);
/* topology.c: the rules of a topology in YAML of n bytes. SR_UNSUPPORTED: this build has no libyaml. */
sr_status sr_topology_read(sr_recipe *r, const char *text, size_t n, sr_err *err);

/* The rule for a matrix by its names, in the checkpoint and in GGUF (either may be NULL; without ".weight", which
 * patterns see), and layer (-1: none). *rule NULL: none says a type. SR_LIMIT: a pattern takes too long. */
sr_status sr_recipe_find(sr_recipe *r, const char *name, const char *gguf, int layer, const sr_rule **rule,
                         sr_err *err);
/* Logs the rules that no matrix has met, most often a slip. */
void sr_recipe_warn(const sr_recipe *r);

#endif

/* Chat templates: the language of Jinja 3.1 as the transformers package sets it up for them. sirocco.h has the public
 * functions; this is what core and the tests use beside them. */
#ifndef SR_TEXT_TEMPLATE_H
#define SR_TEXT_TEMPLATE_H

#include "file/file.h"
#include "sirocco.h"

/* What one rendering may cost. A template comes with a model from strangers: each of these is an error of its own. */
typedef struct sr_template_limits {
    int64_t steps; /* of about 10 ns: nodes, items, 64 bytes of text */
    size_t bytes;  /* of memory for values */
    size_t output; /* bytes of text */
    int depth;     /* of nested expressions, statements and calls */
} sr_template_limits;

extern const sr_template_limits sr_template_default_limits;

/* Whether an open checkpoint has a chat template, good or bad. */
bool sr_template_found(const sr_file *file);
/* The chat template of an open checkpoint, with its special tokens. SR_UNSUPPORTED: it has none. */
sr_status sr_template_create(const sr_file *file, bool tools, sr_template **t, sr_err *err);
/* As sr_template_render. limits may be NULL; now: seconds since 1970 for strftime_now, 0: the clock. */
sr_status sr_template_render_with(const sr_template *t, const char *variables, size_t n_variables,
                                  const sr_template_limits *limits, int64_t now, char **text, size_t *n, sr_err *err);

#endif

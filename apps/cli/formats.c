/* sirocco formats: the table of formats as it is compiled in. docs/formats.md is its --markdown. */
#include <string.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "sirocco.h"

static const char *const head[] = {"format", "found in", "bits/weight", "group",
                                   "reads",  "--isq",    "CPU",         "checked against"};
enum { N_HEAD = sizeof head / sizeof *head, CELL = 64 };

/* The columns of one row as text. */
static void cells(const sr_format_info *f, char cell[N_HEAD][CELL]) {
    snprintf(cell[0], CELL, "%s", f->name);
    snprintf(cell[1], CELL, "%s", f->found_in);
    snprintf(cell[2], CELL, "%.4g", f->bits_per_weight);
    if (f->group < 0)
        snprintf(cell[3], CELL, "row");
    else if (f->group == 0)
        snprintf(cell[3], CELL, "-");
    else
        snprintf(cell[3], CELL, "%s%d%s", f->variable_group ? "any (" : "", f->group, f->variable_group ? ")" : "");
    snprintf(cell[4], CELL, "yes");
    snprintf(cell[5], CELL, "%s", !f->writes ? "-" : f->alias ? f->alias : f->name);
    snprintf(cell[6], CELL, "%s%s", f->tile, f->fast ? ", own kernels" : "");
    snprintf(cell[7], CELL, "%s", f->reference ? f->reference : "no reference ran");
}

static void print_markdown(void) {
    sr_format_info f;
    puts("# Formats\n\n`sirocco formats --markdown` prints this page from the table that the program is built from.\n\n"
         "- **bits/weight** counts scales and zero points, of a 4096 x 4096 matrix with the group shown.\n"
         "- **group**: columns a stored scale; *any* is what the checkpoint says, the number its usual one.\n"
         "- **CPU**: what products are made of (int8 tiles, bfloat16 tiles, or rows decoded to f32), and whether the "
         "format has kernels of its own.\n"
         "- **checked against**: the package whose decoded values ours equal to the bit (`tests/vectors`); "
         "*packer*: it packed known weights, which ours equal.\n");
    for (int i = 0; i < N_HEAD; i++) printf("| %s ", head[i]);
    puts("|");
    for (int i = 0; i < N_HEAD; i++) fputs("|---", stdout);
    puts("|");
    for (int i = 0; sr_format_at(i, &f); i++) {
        char cell[N_HEAD][CELL];
        cells(&f, cell);
        for (int c = 0; c < N_HEAD; c++) printf("| %s ", cell[c]);
        puts("|");
    }
}

static void print_json(void) {
    sr_format_info f;
    out_json j = {0};
    json_open(&j, NULL, '[');
    for (int i = 0; sr_format_at(i, &f); i++) {
        json_open(&j, NULL, '{');
        json_text(&j, "name", f.name);
        json_text(&j, "alias", f.alias);
        json_text(&j, "found_in", f.found_in);
        json_real(&j, "bits_per_weight", f.bits_per_weight);
        json_int(&j, "group", f.group);
        json_bool(&j, "variable_group", f.variable_group);
        json_bool(&j, "reads", true);
        json_bool(&j, "isq", f.writes);
        json_text(&j, "tile", f.tile);
        json_bool(&j, "own_kernels", f.fast);
        json_text(&j, "reference", f.reference);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    putchar('\n');
}

int command_formats(const cli_args *args) {
    sr_format_info f;
    if (args->json)
        print_json();
    else if (args->markdown)
        print_markdown();
    else {
        out_table t = {.align = "llrrllll"};
        for (int i = 0; i < N_HEAD; i++) out_cell(&t, "%s", head[i]);
        for (int i = 0; sr_format_at(i, &f); i++) {
            char cell[N_HEAD][CELL];
            cells(&f, cell);
            for (int c = 0; c < N_HEAD; c++) out_cell(&t, "%s", cell[c]);
        }
        out_table_print(&t, 0);
    }
    return EXIT_FINE;
}

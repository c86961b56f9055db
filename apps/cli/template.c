/* sirocco template: what a conversation becomes before it is tokenized. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/map.h"
#include "cli/commands.h"
#include "cli/hub.h"
#include "cli/options.h"
#include "cli/output.h"

enum { MAX_JSON_BYTES = 256 << 20 };

static const char example[] = "[{\"role\": \"user\", \"content\": \"Hello!\"}, "
                              "{\"role\": \"assistant\", \"content\": \"Hello. What can I do for you?\"}, "
                              "{\"role\": \"user\", \"content\": \"How far away is the moon?\"}]";

static void add(out_text *t, const char *text) {
    out_text_add(t, text, strlen(text));
}

/* Adds `"name": json` to an object that is being written. The JSON is one value of this kind (END: any). */
static int add_member(out_text *to, const char *name, size_t n_name, const char *json, size_t n, sr_json_kind kind) {
    sr_err err = {0};
    char where[300];
    snprintf(where, sizeof where, "%.*s", n_name < 200 ? (int)n_name : 200, name);
    sr_json j = sr_json_over(json, n, where, &err);
    sr_json_value v;
    sr_json_kind got = sr_json_next(&j, &v);
    if (got != SR_JSON_ERROR) sr_json_skip(&j, &v);
    if (!j.failed && !sr_json_at_end(&j)) sr_fail(&err, SR_CORRUPT, "%s: found text behind the JSON value", where);
    if (err.code != SR_OK) return out_error(EXIT_FAILED, "%s; texts are written in quotes: '\"text\"'", err.msg);
    if (kind != SR_JSON_END && got != kind)
        return out_error(EXIT_FAILED, "%s: found no JSON array, expected one: '[{...}, ...]'", where);
    add(to, to->n > 1 ? ", \"" : "\"");
    out_text_add(to, name, n_name);
    add(to, "\": ");
    out_text_add(to, json, n);
    return EXIT_FINE;
}

static int add_file(out_text *to, const char *name, const char *path) {
    char *text;
    size_t n;
    sr_err err = {0};
    if (sr_file_read(path, MAX_JSON_BYTES, &text, &n, &err) != SR_OK) return out_failure_about(path, &err);
    int code = add_member(to, name, strlen(name), text, n, SR_JSON_ARRAY);
    free(text);
    return code;
}

/* "name=JSON" */
static int add_variable(out_text *to, const char *word) {
    size_t n = strcspn(word, "=");
    bool fine = n > 0 && word[n] == '=';
    for (size_t i = 0; i < n; i++)
        fine &= (word[i] >= 'a' && word[i] <= 'z') || (word[i] >= 'A' && word[i] <= 'Z') ||
                (word[i] >= '0' && word[i] <= '9') || word[i] == '_';
    if (!fine) return out_error(EXIT_USAGE, "--var takes NAME=JSON, not '%s'; for example enable_thinking=false", word);
    return add_member(to, word, n, word + n + 1, strlen(word + n + 1), SR_JSON_END);
}

static int variables(const cli_args *args, out_text *to) {
    int code;
    add(to, "{");
    code = args->messages ? add_file(to, "messages", args->messages)
                          : add_member(to, "messages", 8, example, strlen(example), SR_JSON_ARRAY);
    if (!code && args->tools) code = add_file(to, "tools", args->tools);
    const char *prompt = args->no_generation_prompt ? "false" : "true";
    if (!code) code = add_member(to, "add_generation_prompt", 21, prompt, strlen(prompt), SR_JSON_END);
    for (int i = 0; i < args->var.n && !code; i++) code = add_variable(to, args->var.at[i]);
    add(to, "}");
    return code;
}

int command_template(const cli_args *args) {
    out_text json = {0};
    char *path = NULL, *text = NULL;
    size_t n = 0;
    sr_template *t = NULL;
    sr_err err = {0};
    int code = variables(args, &json);
    if (!code) code = hub_path(args, args->operand[0], args->quant, true, &path);
    if (!code && (sr_template_open(path, args->tools != NULL, &t, &err) != SR_OK ||
                  sr_template_render(t, json.at, json.n, &text, &n, &err) != SR_OK))
        code = out_failure_about(path, &err);
    if (!code && args->json) {
        out_json j = {0};
        json_open(&j, NULL, '{');
        json_bytes(&j, "prompt", text, n);
        json_close(&j, '}');
        putchar('\n');
    } else if (!code) {
        fwrite(text, 1, n, stdout);
        if (out_stdout_is_terminal() && n && text[n - 1] != '\n') putchar('\n');
    }
    sr_text_free(text);
    sr_template_free(t);
    free(path);
    out_text_free(&json);
    return code;
}

/* sirocco template: what a conversation becomes before it is tokenized. */
#include <stdlib.h>
#include <string.h>

#include "cli/chat.h"
#include "cli/commands.h"
#include "cli/hub.h"
#include "cli/options.h"
#include "cli/output.h"

static const char example[] = "[{\"role\": \"user\", \"content\": \"Hello!\"}, "
                              "{\"role\": \"assistant\", \"content\": \"Hello. What can I do for you?\"}, "
                              "{\"role\": \"user\", \"content\": \"How far away is the moon?\"}]";

static int variables(const cli_args *args, out_text *to) {
    int code;
    out_text_add(to, "{", 1);
    code = args->messages ? chat_member_file(to, "messages", args->messages)
                          : chat_member(to, "messages", 8, example, strlen(example), SR_JSON_ARRAY);
    const char *prompt = args->no_generation_prompt ? "false" : "true";
    if (!code) code = chat_member(to, "add_generation_prompt", 21, prompt, strlen(prompt), SR_JSON_END);
    if (!code) code = chat_variables(args, to);
    out_text_add(to, "}", 1);
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

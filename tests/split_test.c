/* Reasoning and answer are told apart however a reply is cut into pieces. */
#include "support.h"

#include "cli/split.h"

struct parts {
    out_text reasoning, answer;
};

static void take(void *user, bool reasoning, const char *text, size_t n) {
    struct parts *p = user;
    assert_true(n > 0);
    out_text_add(reasoning ? &p->reasoning : &p->answer, text, n);
}

static void expect(const out_text *got, const char *want, const char *reply, size_t step) {
    if (got->n != strlen(want) || (got->n && memcmp(got->at, want, got->n) != 0))
        fail_msg("\"%s\" in pieces of %zu: got \"%.*s\", want \"%s\"", reply, step, (int)got->n, got->at, want);
}

/* Special tokens stand between \1 and \2. */
static void check(const char *prompt, const char *reply, const char *reasoning, const char *answer) {
    for (size_t step = 1; step <= strlen(reply) + 1; step++) {
        struct parts p = {0};
        split s = {0};
        split_begin(&s, prompt, strlen(prompt), take, &p);
        for (const char *at = reply; *at;) {
            if (*at == 1) {
                size_t n = strcspn(++at, "\2");
                assert_true(split_is_mark(at, n));
                split_mark(&s, at, n);
                at += n + 1;
                continue;
            }
            size_t n = strcspn(at, "\1");
            if (n > step) n = step;
            split_text(&s, at, n);
            at += n;
        }
        split_end(&s);
        expect(&p.reasoning, reasoning, reply, step);
        expect(&p.answer, answer, reply, step);
        split_free(&s);
        out_text_free(&p.reasoning);
        out_text_free(&p.answer);
    }
}

static void reasoning_stands_between_think_marks(void **state) {
    (void)state;
    check("", "<think>\nA < B\n</think>\n\nC", "A < B\n", "C");
    check("", "\n <think></think>C", "", "C");
    check("", "<think>A</thin</think>C</think>", "A</thin", "C</think>");
    check("", "<think>A</thi", "A</thi", "");
    check("", "\1<think>\2A\1</think>\2\nC", "A", "C");
}

static void a_prompt_may_open_the_reasoning(void **state) {
    (void)state;
    check("x<think>\n", "\nA\n</think>\n C", "A\n", "C");
    check("x<think>", "A", "A", "");
    check("<think>\n\n</think>\n\n", " C", "", " C");
}

static void marks_elsewhere_are_text(void **state) {
    (void)state;
    check("", "  C <think>D</think>", "", "  C <think>D</think>");
    check("", " <thi", "", " <thi");
    check("", "<thinking>", "", "<thinking>");
    check("", "<|channel|>analysis<|message|>C", "", "<|channel|>analysis<|message|>C");
    check("", "C\1<think>\2D\1</think>\2", "", "CD");
}

static void channels_of_gpt_oss_are_reasoning_but_the_last(void **state) {
    (void)state;
    check(
        "",
        "\1<|channel|>\2analysis\1<|message|>\2A\1<|end|>\2\1<|start|>\2assistant\1<|channel|>\2final\1<|message|>\2C",
        "A", "C");
    check("", "\1<|channel|>\2commentary to=functions.f \1<|message|>\2{}", "", "{}");
    check("", "\1<|channel|>\2analysis", "", "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reasoning_stands_between_think_marks),
        cmocka_unit_test(a_prompt_may_open_the_reasoning),
        cmocka_unit_test(marks_elsewhere_are_text),
        cmocka_unit_test(channels_of_gpt_oss_are_reasoning_but_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

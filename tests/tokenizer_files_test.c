/* The files that hold a tokenizer beside tokenizer.json and GGUF: SentencePiece's tokenizer.model, tiktoken's ranks,
 * tekken.json; which of them a directory is read by; and the map that SentencePiece normalizes with. Numbers in
 * brackets are the attack cases that docs/security.md lists. */
#include "tokenizer_vectors.h"

#include "file/file.h"
#include "text/load.h"

static void sentencepiece_equals_reference(void **state) {
    (void)state;
    compare("sp_unigram", "sp_unigram/expected.bin", SR_TOKENIZE_NO_SPECIAL);
    compare("sp_unigram_bytes", "sp_unigram_bytes/expected.bin", SR_TOKENIZE_NO_SPECIAL);
    compare("sp_suffix", "sp_suffix/expected.bin", SR_TOKENIZE_NO_SPECIAL);
    compare("sp_bpe", "sp_bpe/expected.bin", 0);
}
static void tiktoken_equals_reference(void **state) {
    (void)state;
    compare("tiktoken_llama3", "tiktoken_llama3/expected.bin", 0);
    compare("tiktoken_qwen", "tiktoken_qwen/expected.bin", 0);
    compare("tiktoken_kimi", "tiktoken_kimi/expected.bin", 0);
}
static void tekken_equals_reference(void **state) {
    (void)state;
    compare("tekken", "tekken/expected.bin", SR_TOKENIZE_NO_SPECIAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentencepiece_equals_reference),
        cmocka_unit_test(tiktoken_equals_reference),
        cmocka_unit_test(tekken_equals_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* GGUF's tokenizer.ggml.* keys. "llama" is SentencePiece BPE with scores, "gpt2" byte-level BPE whose pre-tokenizer is
 * known by name, "gemma4" BPE over characters, "t5" Unigram, "bert" WordPiece, "rwkv" the longest match. */
#include "text/load.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>

#include "base/log.h"

#define KEY "tokenizer.ggml."

/* Split patterns by the publishers of the models, in Oniguruma's syntax; several are applied one after the other. */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define SUFFIXES "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORDS_AFTER(numbers, spaces)                                                                                   \
    SUFFIXES "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| "                                                            \
             "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" spaces
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED_WORDS(suffix, numbers)                                                                                   \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" suffix           \
    "|" numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CJK "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
/* The cased letters of deepseek-llm's published pattern. */
#define DEEPSEEK_LETTERS                                                                                               \
    "[A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}"  \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"     \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"       \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{"    \
    "1d9a}"                                                                                                            \
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{"     \
    "1f5b}"                                                                                                            \
    "\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{"     \
    "1fcc}"                                                                                                            \
    "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{"     \
    "2107}"                                                                                                            \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}" \
    "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}" \
    "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{"     \
    "a787}"                                                                                                            \
    "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{"    \
    "ff5a}"                                                                                                            \
    "\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"        \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}]"

/* Letters of the scripts that afmoe's tokenizer keeps together: CJK, kana, Thai, Lao, Khmer, Burmese, Hangul. */
#define ASIAN                                                                                                          \
    "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{f900}-\\x{faff}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}\\x{ff65}-\\x{"   \
    "ff9f}\\x{2f00}-\\x{2fdf}\\x{e40}-\\x{e7f}\\x{e80}-\\x{eff}\\x{1780}-\\x{17ff}\\x{1000}-\\x{109f}\\x{aa60}-\\x{"   \
    "aa7f}\\x{a9e0}-\\x{a9ff}\\x{ac00}-\\x{d7af}\\x{1100}-\\x{11ff}]+"
#define DEEPSEEK_WORDS                                                                                                 \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "              \
    "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* Kimi's words: as CASED_WORDS, without Chinese characters, which come first. */
#define KIMI_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define KIMI_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define NOT_BLOOM "[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"

typedef struct pre_tokenizer {
    const char *pattern[6];
    bool ignore_merges, add_bos;
    const char *names; /* separated by spaces */
} pre_tokenizer;

static const pre_tokenizer pre_tokenizers[] = {
    {{GPT2},
     false,
     false,
     "gpt-2 gpt2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat jina-es jina-de jina-v1-en jina-v2-es "
     "jina-v2-de jina-v2-code a.x-4.0 mellum modern-bert roberta-bpe"},
    {{"\\p{N}", GPT2},
     false,
     false,
     "starcoder refact command-r cohere2_moe smollm codeshell exaone minerva-7b mellum2"},
    {{WORDS_AFTER("\\p{N}{1,3}", "\\s+(?!\\S)|\\s+")},
     true,
     true,
     "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano laguna"},
    {{WORDS_AFTER("\\p{N}{1,3}", "\\s+(?!\\S)|\\s+")}, false, false, "dbrx smaug-bpe glm4 chatglm-bpe"},
    {{WORDS_AFTER("\\p{N}", "\\s+(?!\\S)|\\s+")},
     false,
     false,
     "qwen2 deepseek-r1-qwen r1-qwen megrez hunyuan stablelm2 solar-open grok-2 kormo openpangu f2llmv2"},
    {{SUFFIXES "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
               "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     false,
     false,
     "qwen35"},
    {{SUFFIXES "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     false,
     false,
     "seed-coder"},
    {{"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| "
      "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
     false,
     false,
     "bailingmoe bailingmoe2 llada-moe"},
    {{SUFFIXES "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| "
               "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
     false,
     false,
     "exaone-moe"},
    {{WORDS_AFTER("\\p{N}{1,3}",
                  "\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}("
                  "?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}")},
     false,
     false,
     "jais-2"},
    {{CASED_WORDS("", "\\p{N}")}, true, true, "tekken"},
    {{CASED_WORDS(SUFFIXES "?", "\\p{N}{1,3}")}, false, false, "gpt-4o llama4 kanana2 minimax-m2"},
    {{"\\d{1,3}(?=(?:\\d{3})*\\b)", CASED_WORDS(SUFFIXES "?", "\\p{N}{1,3}")}, false, false, "tiny_aya"},
    {{"[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{ff01}\\x{2026}\\x{201c}\\x{201d}\\x{2018}\\x{2019}\\x{2014}\\x{"
      "ff1a}\\x{ff1b}\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}]+|[\\x{3105}-\\x{312f}]+|[\\x{4e00}-\\x{9fa5}\\x{"
      "3040}-\\x{309f}\\x{30a0}-\\x{"
      "30ff}]+",
      CASED_WORDS(SUFFIXES "?", "\\p{N}")},
     true,
     false,
     "youtu"},
    {{"[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "*" KIMI_LOWER "+" SUFFIXES "?|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER
      "+" KIMI_LOWER "*" SUFFIXES "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     false,
     false,
     "kimi-k2"},
    {{"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+", DEEPSEEK_WORDS},
     false,
     false,
     "deepseek-v3 hunyuan-dense joyai-llm"},
    {{"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}"}, false, false, "deepseek-coder"},
    /* \s+$ is written with a look-behind: only the first position of a run can match, so a run is looked at once */
    {{"[\\r\\n]", "\\s?" DEEPSEEK_LETTERS "+",
      "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+", "(?<!\\s)\\s+$", CJK,
      "\\p{N}+"},
     false,
     false,
     "deepseek-llm"},
    {{"\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))", ASIAN, DEEPSEEK_WORDS}, false, false, "afmoe"},
    {{"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}, false, false, "superbpe"},
    {{"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}, false, false, "falcon"},
    {{" ?" NOT_BLOOM}, false, false, "bloom poro-chat gpt3-finnish"},
    {{" ?" NOT_BLOOM, "\\p{N}"}, false, false, "viking"},
    {{"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}",
      "[\\p{P}!-/:-@\\[-`{-~]", GPT2},
     false,
     true,
     "chameleon"},
    /* the last row serves "default" and names that are not listed */
    {{"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false, "default"},
};
enum { N_PRE = sizeof pre_tokenizers / sizeof *pre_tokenizers };

static const pre_tokenizer *pre_by_name(const char *name, size_t n) {
    for (int i = 0; i < N_PRE; i++)
        for (const char *at = pre_tokenizers[i].names; *at;) {
            size_t len = strcspn(at, " ");
            if (len && len == n && !memcmp(at, name, n)) return &pre_tokenizers[i];
            at += len + (at[len] == ' ');
        }
    return NULL;
}

/* An array of this many elements; NULL and no error when it is absent. */
static const sr_value *array(const sr_file *file, const char *key, sr_kind kind, const char *expected, int64_t n,
                             sr_err *err) {
    const sr_value *v = sr_file_value(file, key);
    if (!v) return NULL;
    bool number =
        kind == SR_KIND_I64 && v->kind == SR_KIND_ARRAY && (v->v.a.kind == SR_KIND_U64 || v->v.a.kind == SR_KIND_I64);
    if (v->kind != SR_KIND_ARRAY || (v->v.a.kind != kind && !number)) {
        sr_fail(err, SR_CORRUPT, "%s: %s: found %s, expected an array of %s", file->path, key,
                v->kind == SR_KIND_ARRAY ? "an array of another type" : "no array", expected);
        return NULL;
    }
    if (n >= 0 && v->v.a.n != (uint64_t)n) {
        sr_fail(err, SR_CORRUPT, "%s: %s: found %llu elements, expected %lld (the vocabulary)", file->path, key,
                (unsigned long long)v->v.a.n, (long long)n);
        return NULL;
    }
    return v;
}

/* A special id: from the file it must lie in the vocabulary; a default that does not is none. */
static int32_t special_id(const sr_tokenizer *t, const sr_file *file, const char *key, int32_t absent, sr_err *err) {
    int64_t id;
    if (!sr_file_value(file, key)) return absent < t->vocab.n ? absent : -1;
    if (!sr_value_int(file, key, INT32_MIN, UINT32_MAX, &id, err)) return -1;
    if (id == -1 || id == UINT32_MAX) return -1; /* some writers' "none" */
    if (id < 0 || id >= t->vocab.n) {
        sr_fail(err, SR_CORRUPT, "%s: %s: found %lld, expected an id below %d", file->path, key, (long long)id,
                t->vocab.n);
        return -1;
    }
    return (int32_t)id;
}

static bool contains(const char *text, size_t n, const char *part) {
    size_t len = strlen(part);
    for (size_t i = 0; i + len <= n; i++) {
        size_t k = 0;
        while (k < len && (text[i + k] | 32) == (part[k] | 32)) k++;
        if (k == len) return true;
    }
    return false;
}

/* tokens, token_type and scores */
static sr_status read_tokens(sr_loader *l, sr_filler *f) {
    sr_tokenizer *t = l->t;
    const sr_file *file = l->file;
    sr_err *err = l->err;
    const sr_value *tokens = array(file, KEY "tokens", SR_KIND_STRING, "strings", -1, err);
    if (!tokens && err->code) return err->code;
    if (!tokens) return sr_fail(err, SR_CORRUPT, "%s: found no %stokens", file->path, KEY);
    uint64_t count = tokens->v.a.n;
    if (!count || count > 1u << 24)
        return sr_fail(err, SR_CORRUPT, "%s: %stokens: found %llu elements, expected 1 to 2^24", file->path, KEY,
                       (unsigned long long)count);
    int32_t n = (int32_t)count;
    bool scored = t->encode == sr_spm || t->encode == sr_unigram;
    const sr_value *types = array(file, KEY "token_type", SR_KIND_I64, "integers", n, err);
    const sr_value *scores = scored ? array(file, KEY "scores", SR_KIND_F64, "floats", n, err) : NULL;
    if (err->code) return err->code;
    if (scored && !scores) return sr_fail(err, SR_CORRUPT, "%s: found no %sscores", file->path, KEY);

    f->all_bytes = t->encode == sr_spm && !types;
    sr_status status = sr_fill_begin(f, l, n, tokens->v.a.bytes);
    if (status != SR_OK) return status;
    sr_array at = sr_array_over(tokens), type_at = sr_array_over(types), score_at = sr_array_over(scores);
    for (int32_t id = 0; id < n; id++) {
        const char *s;
        size_t len;
        int64_t type = SR_PIECE_NORMAL;
        double score = 0;
        if (!sr_array_string(&at, &s, &len) || (types && !sr_array_int(&type_at, &type)) ||
            (scores && !sr_array_float(&score_at, &score)))
            return sr_fail(err, SR_CORRUPT, "%s: token %d cannot be read", file->path, id);
        const char *zero = memchr(s, 0, len); /* a piece ends before an embedded zero */
        if (t->encode == sr_unigram && type == SR_PIECE_USER_DEFINED) score = 0;
        sr_fill_piece(f, id, s, zero ? (size_t)(zero - s) : len, type, score);
    }
    return sr_fill_end(f, l, 0);
}

/* "left right", split at the first space behind position 0. Of duplicates the first counts; what is not in the
 * vocabulary is left out (nothing could come of it). */
static sr_status read_merges(sr_loader *l) {
    const sr_file *file = l->file;
    const sr_value *merges = array(file, KEY "merges", SR_KIND_STRING, "strings", -1, l->err);
    if (!merges && l->err->code) return l->err->code;
    if (!merges) return sr_fail(l->err, SR_CORRUPT, "%s: found no %smerges", file->path, KEY);
    sr_array at = sr_array_over(merges);
    sr_pairs p = {.lenient = true};
    const char *s;
    size_t n;
    sr_status status = SR_OK;
    while (status == SR_OK && sr_array_string(&at, &s, &n)) {
        const char *space = n > 1 ? memchr(s + 1, ' ', n - 1) : NULL;
        if (!space)
            status = sr_fail(l->err, SR_CORRUPT,
                             "%s: %smerges: entry %u is \"%.*s\", expected two pieces with a space between", file->path,
                             KEY, p.count, (int)(n < 40 ? n : 40), s);
        else
            status = sr_pairs_add(l, &p, s, (size_t)(space - s), space + 1, n - (size_t)(space - s) - 1);
    }
    status = sr_pairs_end(l, &p, status);
    if (p.skipped)
        sr_log(SR_LOG_WARNING, "%s: %zu merges name pieces that are not in the vocabulary", file->path, p.skipped);
    return status;
}

sr_status sr_load_split(sr_loader *l, const char *name, size_t n, bool *add_bos) {
    sr_tokenizer *t = l->t;
    const pre_tokenizer *pre = pre_by_name(name, n);
    if (!pre || pre == &pre_tokenizers[N_PRE - 1]) {
        sr_log(SR_LOG_WARNING, "%s: %spre is \"%.*s\": using the default split, which is wrong for most models",
               l->where, KEY, (int)(n < 40 ? n : 40), name);
        pre = &pre_tokenizers[N_PRE - 1];
    }
    for (int i = 0; i < 6 && pre->pattern[i]; i++) {
        sr_status status = sr_stages_add_regex(&t->pre_tokenizers, pre->pattern[i], l->err);
        if (status != SR_OK) return status;
    }
    sr_stage *bytes = sr_stages_add(&t->pre_tokenizers, l->err);
    if (!bytes) return SR_LIMIT;
    bytes->kind = SR_STAGE_BYTES;
    t->ignore_merges = pre->ignore_merges;
    *add_bos = pre->add_bos;
    return SR_OK;
}

/* The patterns, one behind the other, and nothing else but the way into the alphabet. */
static bool splits_so(const sr_tokenizer *t, const pre_tokenizer *pre) {
    int at = 0;
    for (int i = 0; i < t->pre_tokenizers.n; i++) {
        const sr_stage *s = &t->pre_tokenizers.v[i];
        if (s->kind == SR_STAGE_BYTES) continue;
        const bool split = (s->kind == SR_STAGE_SPLIT || s->kind == SR_STAGE_THREES) && s->regex && !s->invert;
        if (at == 6 || !pre->pattern[at] || !split || !sr_regex_is(s->regex, pre->pattern[at])) return false;
        at++;
    }
    return at == 6 || !pre->pattern[at];
}

const char *sr_split_called(const sr_tokenizer *t, size_t *n) {
    const pre_tokenizer *found = NULL;
    for (int i = 0; i < N_PRE - 1; i++)
        if (splits_so(t, &pre_tokenizers[i]) && (!found || pre_tokenizers[i].ignore_merges == t->ignore_merges))
            found = &pre_tokenizers[i];
    if (!found) return NULL;
    *n = strcspn(found->names, " ");
    return found->names;
}

/* What the values of tokenizer.ggml.model stand for, with the ids that a file without them means. */
typedef struct model {
    const char *name;
    sr_status (*encode)(sr_work *w, const char *word, size_t n);
    sr_spelling spelling;
    bool add_bos, add_eos, space_prefix;
    int bos, eos, unk, sep;
} model;

static const model models[] = {
    {"llama", sr_spm, SR_SPELLED_SPACE, true, false, true, 1, 2, 0, -1},
    {"gpt2", sr_bpe, SR_SPELLED_BYTES, false, false, false, 11, 11, -1, -1},
    {"gemma4", sr_bpe, SR_SPELLED_SPACE, true, false, false, -1, -1, -1, -1},
    {"t5", sr_unigram, SR_SPELLED_SPACE, false, true, false, -1, 1, 2, -1},
    {"bert", sr_wordpiece, SR_SPELLED_SPACE, true, false, false, 101, -1, 100, 102},
    {"rwkv", sr_longest, SR_SPELLED_ESCAPED, false, false, false, -1, -1, -1, -1},
};

/* SentencePiece's normalizer: spaces become U+2581. */
static sr_status add_sentence(sr_loader *l, bool prefix, bool strip) {
    static const char key[] = KEY "precompiled_charsmap";
    sr_charsmap *map = NULL;
    const sr_value *v = sr_file_value(l->file, key);
    char where[192];
    snprintf(where, sizeof where, "%s: %s", l->file->path, key);
    if (v && (v->kind != SR_KIND_ARRAY || v->v.a.bytes != v->v.a.n))
        return sr_fail(l->err, SR_CORRUPT, "%s: %s: found no array of bytes", l->file->path, key);
    sr_status status = v ? sr_charsmap_create(v->v.a.data, v->v.a.n, where, &l->t->arena, &map, l->err) : SR_OK;
    if (status != SR_OK) return status;
    sr_stage *s = sr_stages_add(&l->t->normalizers, l->err);
    if (!s) return SR_LIMIT;
    s->kind = SR_STAGE_SENTENCE;
    s->scheme = prefix ? SR_PREPEND_ALWAYS : SR_PREPEND_NEVER;
    s->strip = strip;
    s->escape = true;
    s->map = map;
    return SR_OK;
}

/* BERT's normalizer and words, as an uncased model has them; pieces that begin a word begin with U+2581. */
static sr_status add_bert(sr_loader *l) {
    sr_stage *clean = sr_stages_add(&l->t->normalizers, l->err), *word[3];
    if (!clean) return SR_LIMIT;
    clean->kind = SR_STAGE_BERT;
    clean->clean = clean->chinese = clean->accents = clean->lower = true;
    for (int i = 0; i < 3; i++)
        if (!(word[i] = sr_stages_add(&l->t->pre_tokenizers, l->err))) return SR_LIMIT;
    word[0]->kind = word[1]->kind = SR_STAGE_CHARS;
    word[0]->is = sr_char_is_space;
    word[0]->behavior = SR_SPLIT_REMOVED;
    word[1]->is = sr_char_is_punct;
    word[1]->behavior = SR_SPLIT_ISOLATED;
    word[2]->kind = SR_STAGE_PREPEND;
    word[2]->text = SR_SPACE;
    word[2]->n = 3;
    return SR_OK;
}

/* Spaces become U+2581, and lines are merged one by one. */
static sr_status add_gemma4(sr_loader *l) {
    sr_stage *s = sr_stages_add(&l->t->normalizers, l->err);
    if (!s) return SR_LIMIT;
    s->kind = SR_STAGE_REPLACE;
    s->text = SR_SPACE;
    s->n = 3;
    sr_status status = sr_regex_compile(" ", 1, true, &s->regex, l->err);
    return status == SR_OK ? sr_stages_add_regex(&l->t->pre_tokenizers, "\\n+|[^\\n]+", l->err) : status;
}

static sr_status read_all(sr_loader *l, sr_filler *f) {
    sr_tokenizer *t = l->t;
    const sr_file *file = l->file;
    sr_err *err = l->err;
    const char *text = NULL, *name = "";
    const model *m = NULL;
    size_t n = 0, n_name = 0;
    if (!sr_value_string(file, KEY "model", &text, &n, err)) {
        if (err->code) return err->code;
        return sr_fail(err, SR_UNSUPPORTED, "%s: found no %smodel", file->path, KEY);
    }
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strlen(models[i].name) == n && !memcmp(models[i].name, text, n)) m = &models[i];
    if (!m)
        return sr_fail(err, SR_UNSUPPORTED,
                       "%s: %smodel \"%.*s\" is not supported (llama, gpt2, gemma4, t5, bert and rwkv are)", file->path,
                       KEY, (int)(n < 40 ? n : 40), text);
    t->encode = m->encode;
    f->spelling = m->spelling;
    sr_status status = read_tokens(l, f);
    if (status != SR_OK) return status;

    bool add_bos = m->add_bos, add_eos = m->add_eos, space_prefix = m->space_prefix, strip = false;
    bool gemma4 = m->encode == sr_bpe && m->spelling == SR_SPELLED_SPACE;
    bool sentence = m->encode == sr_spm || m->encode == sr_unigram;
    sr_value_bool(file, KEY "add_space_prefix", &space_prefix, err);
    sr_value_bool(file, KEY "remove_extra_whitespaces", &strip, err);
    if (err->code) return err->code;
    if (m->encode == sr_bpe && (status = read_merges(l)) != SR_OK) return status;
    if (gemma4) {
        status = add_gemma4(l);
        t->byte_fallback = t->whole_lines = true;
    } else if (m->encode == sr_bpe) {
        const char *pre = "default";
        n = 7;
        sr_value_string(file, KEY "pre", &pre, &n, NULL);
        status = sr_load_split(l, pre, n, &add_bos);
    } else if (sentence) {
        status = add_sentence(l, space_prefix, m->encode == sr_unigram && strip);
        t->unk_score = isnan(f->min) ? -10 : f->min - 10;
    } else if (m->encode == sr_wordpiece) {
        status = add_bert(l);
    }
    if (status != SR_OK) return status;
    sr_find_short_ids(t);

    t->bos = special_id(t, file, KEY "bos_token_id", m->bos, err);
    t->eos = special_id(t, file, KEY "eos_token_id", m->eos, err);
    t->unk = special_id(t, file, KEY "unknown_token_id", m->unk, err);
    int32_t eot = special_id(t, file, KEY "eot_token_id", -1, err),
            eom = special_id(t, file, KEY "eom_token_id", -1, err),
            sep = special_id(t, file, KEY "seperator_token_id", m->sep, err);
    static const char *const others[] = {KEY "padding_token_id", KEY "cls_token_id", KEY "mask_token_id"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) special_id(t, file, others[i], -1, err);
    sr_value_bool(file, KEY "add_bos_token", &add_bos, err);
    sr_value_bool(file, KEY "add_eos_token", &add_eos, err);
    bool add_sep = m->encode == sr_wordpiece;
    sr_value_bool(file, KEY "add_sep_token", &add_sep, err);
    if (err->code) return err->code;
    t->fffd_per_byte = m->encode == sr_spm || gemma4;
    if ((sentence && space_prefix) || m->encode == sr_wordpiece) {
        t->lead = SR_LEAD_STRIP;
        t->lead_text = " ";
        t->lead_len = 1;
        t->lead_n = strip ? INT_MAX : 1;
    }
    if (m->encode == sr_spm) {
        /* Phi-3's special tokens take the white space behind them along; its GGUF files do not say so */
        sr_value_string(file, "general.name", &name, &n_name, NULL);
        if (contains(name, n_name, "phi-3") || contains(name, n_name, "phi3"))
            for (int32_t i = 0; i < t->n_added; i++) {
                sr_added *a = &t->added[i];
                a->right = a->special && strcmp(a->text, "<unk>") && strcmp(a->text, "<s>") &&
                           strcmp(a->text, "<|endoftext|>");
            }
    }
    bool searched = m->encode == sr_unigram || m->encode == sr_wordpiece || m->encode == sr_longest;
    if ((status = sr_added_index(t, err)) != SR_OK) return status;
    if (searched && (status = sr_pieces_index(t, err)) != SR_OK) return status;
    if (m->encode == sr_wordpiece && add_sep) {
        int32_t eos = t->eos;
        t->eos = sep; /* closes the text, and ends no generation */
        status = sr_set_frame(t, add_bos, true, err);
        t->eos = eos;
    } else {
        status = sr_set_frame(t, add_bos || gemma4, add_eos, err);
    }
    if (status != SR_OK) return status;
    if (!sr_file_value(file, KEY "token_type")) /* then at least these are known not to be text */
        for (int i = 0; i < 4; i++) {
            int32_t id = (int32_t[]){t->bos, t->eos, eot, eom}[i];
            if (id >= 0) t->flags[id] |= SR_TOKEN_SPECIAL;
        }
    sr_mark_ends(t);
    sr_tokenizer_add_end(t, eot);
    sr_tokenizer_add_end(t, eom);
    return SR_OK;
}

sr_status sr_load_gguf(sr_loader *l) {
    sr_filler f = {0};
    sr_status status = read_all(l, &f);
    sr_fill_drop(&f);
    return status;
}

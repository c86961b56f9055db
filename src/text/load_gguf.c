/* GGUF's tokenizer.ggml.* keys. "llama" is SentencePiece BPE with scores, "gpt2" byte-level BPE whose pre-tokenizer is
 * known by name. */
#include <math.h>

#include "base/log.h"
#include "text/tokenizer.h"

#define KEY "tokenizer.ggml."

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

/* Split patterns by the publishers of the models, in Oniguruma's syntax; several are applied one after the other. */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define SUFFIXES "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORDS_AFTER(numbers)                                                                                           \
    SUFFIXES "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| "                                                            \
             "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
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
    {{"\\p{N}", GPT2}, false, false, "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2"},
    {{WORDS_AFTER("\\p{N}{1,3}")}, true, true, "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2"},
    {{WORDS_AFTER("\\p{N}{1,3}")}, false, false, "dbrx smaug-bpe glm4 chatglm-bpe"},
    {{WORDS_AFTER("\\p{N}")},
     false,
     false,
     "qwen2 deepseek-r1-qwen r1-qwen megrez hunyuan stablelm2 solar-open grok-2 kormo openpangu"},
    {{CASED_WORDS("", "\\p{N}")}, true, true, "tekken"},
    {{CASED_WORDS(SUFFIXES "?", "\\p{N}{1,3}")}, false, false, "gpt-4o llama4 kanana2 minimax-m2"},
    {{"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
      "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
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
    {{"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}, false, false, "falcon"},
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

/* Scores as ranks: equal scores share one, the largest score has rank 0, NaN counts as the smallest. */
static uint32_t rank_of(float score) {
    uint32_t u;
    if (isnan(score)) return UINT32_MAX - 1;
    score += 0.0f; /* -0 to 0 */
    memcpy(&u, &score, 4);
    u = u & 0x80000000u ? u : ~u & 0x7FFFFFFFu; /* larger floats become smaller integers */
    return u < UINT32_MAX - 1 ? u : UINT32_MAX - 1;
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
static sr_status read_tokens(sr_tokenizer *t, const sr_file *file, sr_err *err) {
    sr_err own = {0};
    if (!err) err = &own;
    const sr_value *tokens = array(file, KEY "tokens", SR_KIND_STRING, "strings", -1, err);
    if (!tokens && err->code) return err->code;
    if (!tokens) return sr_fail(err, SR_CORRUPT, "%s: found no %stokens", file->path, KEY);
    uint64_t count = tokens->v.a.n;
    if (!count || count > 1u << 24)
        return sr_fail(err, SR_CORRUPT, "%s: %stokens: found %llu elements, expected 1 to 2^24", file->path, KEY,
                       (unsigned long long)count);
    int32_t n = (int32_t)count;
    const sr_value *types = array(file, KEY "token_type", SR_KIND_I64, "integers", n, err);
    const sr_value *scores = NULL;
    if (t->model == SR_MODEL_SPM) {
        scores = array(file, KEY "scores", SR_KIND_F64, "floats", n, err);
        t->score_rank = sr_arena_alloc(&t->arena, (size_t)n, sizeof *t->score_rank);
        if (!t->score_rank) return sr_fail(err, SR_NOMEM, "%s: out of memory", file->path);
    }
    if (err->code) return err->code;
    if (t->model == SR_MODEL_SPM && !scores) return sr_fail(err, SR_CORRUPT, "%s: found no %sscores", file->path, KEY);

    t->flags = sr_arena_alloc(&t->arena, (size_t)n, 1);
    t->bytes = sr_arena_alloc(&t->arena, (size_t)n, sizeof *t->bytes);
    /* every piece and its bytes, with their zeros: no longer than the array itself, whose strings have 8 bytes each */
    char *blob = sr_arena_alloc(&t->arena, 2, tokens->v.a.bytes + 16);
    if (!t->flags || !t->bytes || !blob || !sr_vocab_init(&t->vocab, n, &t->arena))
        return sr_fail(err, SR_NOMEM, "%s: out of memory", file->path);

    sr_array at = sr_array_over(tokens), type_at = sr_array_over(types), score_at = sr_array_over(scores);
    int32_t n_added = 0;
    t->words_apart = true;
    for (int32_t id = 0; id < n; id++) {
        const char *s;
        size_t len;
        int64_t type = TYPE_NORMAL;
        double score = 0;
        if (!sr_array_string(&at, &s, &len) || (types && !sr_array_int(&type_at, &type)) ||
            (scores && !sr_array_float(&score_at, &score)))
            return sr_fail(err, SR_CORRUPT, "%s: token %d cannot be read", file->path, id);
        const char *zero = memchr(s, 0, len); /* a piece ends before an embedded zero */
        if (zero) len = (size_t)(zero - s);
        memcpy(blob, s, len);
        blob[len] = 0;
        /* Of equal pieces the first id counts. */
        sr_vocab_add(&t->vocab, id, blob, (uint32_t)len, false);
        s = blob;
        blob += len + 1;
        if (len && sr_spm_border(s, len, 0) < len) t->words_apart = false;
        if (t->score_rank) t->score_rank[id] = rank_of((float)score);

        char *out = blob;
        size_t out_n = 0;
        int byte = type == TYPE_BYTE || (t->model == SR_MODEL_SPM && !types) ? sr_byte_token(s, len) : -1;
        if (byte >= 0) {
            t->flags[id] |= SR_TOKEN_BYTE;
            if (t->byte_id[byte] < 0) t->byte_id[byte] = id;
            out[out_n++] = (char)byte;
        } else if (type == TYPE_CONTROL || type == TYPE_UNKNOWN || type == TYPE_USER_DEFINED) {
            if (type != TYPE_USER_DEFINED) t->flags[id] |= SR_TOKEN_SPECIAL;
            n_added++;
            memcpy(out, s, len);
            out_n = len;
        } else if (t->model == SR_MODEL_SPM) {
            for (size_t i = 0; i < len;) { /* U+2581 is a space */
                bool space = len - i >= 3 && !memcmp(s + i, SR_SPACE, 3);
                out[out_n++] = space ? ' ' : s[i];
                i += space ? 3 : 1;
            }
        } else {
            bool mapped = true;
            for (size_t i = 0; i < len && mapped;) {
                uint32_t cp = 0;
                unsigned step = sr_utf8_step(s + i, len - i);
                if (step) sr_utf8_get(s + i, &cp);
                int b = step ? sr_char_to_byte(cp) : -1;
                mapped = b >= 0;
                out[out_n++] = (char)b;
                i += step;
            }
            if (!mapped) {
                memcpy(out, s, len);
                out_n = len;
            }
        }
        out[out_n] = 0;
        t->bytes[id] = (sr_piece){out, (uint32_t)out_n};
        blob += out_n + 1;
    }

    t->added = sr_arena_small(&t->arena, (size_t)n_added + 1, sizeof *t->added);
    if (!t->added) return sr_fail(err, SR_NOMEM, "%s: out of memory", file->path);
    type_at = sr_array_over(types);
    for (int32_t id = 0; id < n && types; id++) {
        int64_t type = TYPE_NORMAL;
        sr_array_int(&type_at, &type);
        if (type != TYPE_CONTROL && type != TYPE_UNKNOWN && type != TYPE_USER_DEFINED) continue;
        if (t->vocab.piece[id].n > SR_MAX_ADDED_LEN) continue; /* too long to be looked for in a text */
        t->added[t->n_added++] = (sr_added){
            .id = id, .text = t->vocab.piece[id].text, .n = t->vocab.piece[id].n, .special = type != TYPE_USER_DEFINED};
    }
    return SR_OK;
}

/* "left right", split at the first space behind position 0. Of duplicates the first counts; what is not in the
 * vocabulary is left out (nothing could come of it). */
static sr_status read_merges(sr_tokenizer *t, const sr_file *file, sr_err *err) {
    sr_err own = {0};
    if (!err) err = &own;
    const sr_value *merges = array(file, KEY "merges", SR_KIND_STRING, "strings", -1, err);
    if (!merges && err->code) return err->code;
    if (!merges) return sr_fail(err, SR_CORRUPT, "%s: found no %smerges", file->path, KEY);
    if (merges->v.a.n > 1u << 26 || !sr_merges_init(&t->merges, (size_t)merges->v.a.n, &t->arena))
        return sr_fail(err, SR_NOMEM, "%s: %llu merges: out of memory", file->path, (unsigned long long)merges->v.a.n);
    sr_array at = sr_array_over(merges);
    sr_buffer joined = {NULL, 0, 0};
    const char *s;
    size_t n, skipped = 0;
    sr_status status = SR_OK;
    for (uint32_t rank = 0; status == SR_OK && sr_array_string(&at, &s, &n); rank++) {
        const char *space = n > 1 ? memchr(s + 1, ' ', n - 1) : NULL;
        if (!space) {
            status =
                sr_fail(err, SR_CORRUPT, "%s: %smerges: entry %u is \"%.*s\", expected two pieces with a space between",
                        file->path, KEY, rank, (int)(n < 40 ? n : 40), s);
            break;
        }
        size_t left = (size_t)(space - s), right = n - left - 1;
        joined.n = 0;
        if (!sr_buffer_add(&joined, s, left) || !sr_buffer_add(&joined, space + 1, right)) {
            status = sr_fail(err, SR_NOMEM, "%s: out of memory", file->path);
            break;
        }
        int32_t a = sr_vocab_find(&t->vocab, s, left), b = sr_vocab_find(&t->vocab, space + 1, right);
        int32_t id = sr_vocab_find(&t->vocab, joined.at, joined.n);
        if (a < 0 || b < 0 || id < 0)
            skipped++;
        else
            sr_merges_add(&t->merges, a, b, rank, id, false);
    }
    sr_buffer_free(&joined);
    if (skipped)
        sr_log(SR_LOG_WARNING, "%s: %zu merges name pieces that are not in the vocabulary", file->path, skipped);
    return status;
}

static sr_status set_pre_tokenizer(sr_tokenizer *t, const sr_file *file, bool *add_bos, sr_err *err) {
    const char *name = "default";
    size_t n = 7;
    sr_value_string(file, KEY "pre", &name, &n, NULL);
    const pre_tokenizer *pre = pre_by_name(name, n);
    if (!pre || pre == &pre_tokenizers[N_PRE - 1]) {
        sr_log(SR_LOG_WARNING, "%s: %spre is \"%.*s\": using the default split, which is wrong for most models",
               file->path, KEY, (int)(n < 40 ? n : 40), name);
        pre = &pre_tokenizers[N_PRE - 1];
    }
    for (int i = 0; i < 6 && pre->pattern[i]; i++) {
        sr_status status = sr_stages_add_regex(&t->pre_tokenizers, pre->pattern[i], err);
        if (status != SR_OK) return status;
    }
    sr_stage *bytes = sr_stages_add(&t->pre_tokenizers, err);
    if (!bytes) return SR_LIMIT;
    bytes->kind = SR_STAGE_BYTES;
    t->ignore_merges = pre->ignore_merges;
    *add_bos = pre->add_bos;
    return SR_OK;
}

sr_status sr_load_gguf(sr_tokenizer *t, const sr_file *file, sr_err *err) {
    sr_err own = {0};
    if (!err) err = &own;
    const char *model = NULL, *name = "";
    size_t n = 0, n_name = 0;
    if (!sr_value_string(file, KEY "model", &model, &n, err)) {
        if (err->code) return err->code;
        return sr_fail(err, SR_UNSUPPORTED, "%s: found no %smodel", file->path, KEY);
    }
    bool spm = n == 5 && !memcmp(model, "llama", 5), gpt2 = n == 4 && !memcmp(model, "gpt2", 4);
    if (!spm && !gpt2)
        return sr_fail(err, SR_UNSUPPORTED, "%s: %smodel \"%.*s\" is not supported (llama and gpt2 are)", file->path,
                       KEY, (int)(n < 40 ? n : 40), model);
    t->model = spm ? SR_MODEL_SPM : SR_MODEL_BPE;
    sr_status status = read_tokens(t, file, err);
    if (status != SR_OK) return status;
    bool add_bos = spm, add_eos = false;
    if (!spm) {
        if ((status = read_merges(t, file, err)) != SR_OK) return status;
        if ((status = set_pre_tokenizer(t, file, &add_bos, err)) != SR_OK) return status;
    }
    sr_tokenizer_finish(t);

    t->bos = special_id(t, file, KEY "bos_token_id", spm ? 1 : 11, err);
    t->eos = special_id(t, file, KEY "eos_token_id", spm ? 2 : 11, err);
    t->unk = special_id(t, file, KEY "unknown_token_id", spm ? 0 : -1, err);
    int32_t eot = special_id(t, file, KEY "eot_token_id", -1, err),
            eom = special_id(t, file, KEY "eom_token_id", -1, err);
    static const char *const others[] = {KEY "seperator_token_id", KEY "padding_token_id", KEY "cls_token_id",
                                         KEY "mask_token_id"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) special_id(t, file, others[i], -1, err);
    sr_value_bool(file, KEY "add_bos_token", &add_bos, err);
    sr_value_bool(file, KEY "add_eos_token", &add_eos, err);
    t->space_prefix = spm;
    sr_value_bool(file, KEY "add_space_prefix", &t->space_prefix, err);
    if (err->code) return err->code;
    if (spm) {
        t->fffd_per_byte = true;
        if (t->space_prefix) {
            t->lead = SR_LEAD_STRIP;
            t->lead_text = " ";
            t->lead_len = 1;
            t->lead_n = 1;
        }
        /* Phi-3's special tokens take the white space behind them along; its GGUF files do not say so */
        sr_value_string(file, "general.name", &name, &n_name, NULL);
        if (contains(name, n_name, "phi-3") || contains(name, n_name, "phi3"))
            for (int32_t i = 0; i < t->n_added; i++) {
                sr_added *a = &t->added[i];
                a->right = a->special && strcmp(a->text, "<unk>") && strcmp(a->text, "<s>") &&
                           strcmp(a->text, "<|endoftext|>");
            }
    }
    if ((status = sr_added_index(t, err)) != SR_OK) return status;
    if ((status = sr_set_frame(t, add_bos, add_eos, err)) != SR_OK) return status;
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

/* The commands and their options. A new command is a row here and a file; a new option is a row and a field. */
#include <string.h>

#include "cli/commands.h"
#include "cli/options.h"

enum {
    RUN = 1,
    INSPECT = 2,
    TOKENIZE = 4,
    EVAL = 8,
    BENCH = 16,
    DOCTOR = 32,
    HELP = 64,
    TEMPLATE = 128,
    FORMATS = 256,
    MODELS = 512,
    QUANTIZE = 1024,
    IMATRIX = 2048,
    COMPARE = 4096,
    TUNE = 8192,
    ALL = 16383
};
enum { OPENS = RUN | EVAL | BENCH | INSPECT | TOKENIZE | TEMPLATE | QUANTIZE | IMATRIX | TUNE };
enum { REMOTE = OPENS | COMPARE };

#define FIELD(member) offsetof(cli_args, member)

const cli_command cli_commands[] = {
    {.name = "run",
     .bit = RUN,
     .operands = "[MODEL]",
     .most_operands = 1,
     .summary = "converse, or continue a text",
     .description =
         "Loads a model (a GGUF file, a safetensors file, a Hugging Face directory, or a model of the hub by its name, "
         "which is downloaded once). With the model's chat template, an input is a message and the model replies; "
         "without "
         "one, or with --no-chat, an input is the beginning of a text, which is continued. With -i the reply alone "
         "goes "
         "to standard output and the command ends; without it a prompt opens, where /help lists the commands. "
         "Reasoning goes to standard error. Without a model the small bundled story model is used, quantized in situ "
         "to 4 bits. Ctrl-C stops the generation and keeps the conversation; Ctrl-D leaves.",
     .examples = "sirocco run\tthe bundled model, at the prompt\n"
                 "sirocco run -i \"Once upon a time\" --max-tokens 80\tone shot\n"
                 "sirocco run --format gguf -f model.gguf\ta GGUF file\n"
                 "sirocco run --isq 4 -m microsoft/Phi-3-mini-4k-instruct\tfrom the hub, to 4 bits\n"
                 "sirocco run -m org/model-GGUF --quant q4_k_m\twhich of its files\n"
                 "sirocco run model.gguf --system @rules.txt --thinking off\ta system prompt\n"
                 "sirocco run model.gguf --no-chat -i \"2 + 2 =\" --greedy\tthe most probable text\n"
                 "git log -5 | sirocco run model.gguf -i - --stop END\tthe prompt from standard input\n",
     .run = command_run},
    {.name = "quantize",
     .bit = QUANTIZE,
     .operands = "[MODEL]",
     .most_operands = 1,
     .summary = "write a model in another format",
     .description =
         "Reads a model that sirocco can open and writes it in the format that --to names: GGUF's file types with "
         "llama.cpp's choice for each tensor, a Hugging Face directory that transformers, vLLM or mlx-lm load, or "
         "mistral.rs's UQFF. "
         "First it prints the plan: sizes, memory, time, the type of every tensor. The result is written tensor by "
         "tensor beside its place, read back, and only then put there; --resume goes on after Ctrl-C, a full disk or a "
         "crash.",
     .examples = "sirocco quantize model-f16.gguf --to gguf:q4_k_m -o model-q4_k_m.gguf\twhat llama-quantize does\n"
                 "sirocco quantize path/to/model --to gptq:4 -o path/to/result\twhat convert_to_gptq.py does\n"
                 "sirocco quantize -m org/model --to mlx:4,group=64 -o model-mlx\twhat mlx_lm.convert does\n"
                 "sirocco quantize -m org/model --to bnb:nf4 --plan\tonly the plan\n",
     .run = command_quantize},
    {.name = "imatrix",
     .bit = IMATRIX,
     .operands = "[MODEL]",
     .most_operands = 1,
     .summary = "find which columns of a model's matrices matter",
     .description =
         "Runs a text through the model and writes the mean square of what each column of each matrix is multiplied "
         "with: 'sirocco quantize --imatrix' then spares what matters, which types below 4 bits need. The file is "
         "llama.cpp's (GGUF, or .dat by its name).",
     .examples = "sirocco imatrix model.gguf --text calibration.txt -o imatrix.gguf\tfor this and llama.cpp's tools\n"
                 "sirocco imatrix model.gguf --text more.txt --merge imatrix.gguf -o both.gguf\tadds to an older one\n",
     .run = command_imatrix},
    {.name = "inspect",
     .bit = INSPECT,
     .operands = "PATH",
     .least_operands = 1,
     .most_operands = 1,
     .summary = "show what is in a model file",
     .description = "Reads the directory of a GGUF file (any piece of a split one), a safetensors file or a Hugging "
                    "Face directory without loading weights: architecture, sizes, metadata, and each tensor with its "
                    "type, bits a weight and share of the file.",
     .examples = "sirocco inspect model.gguf\teverything\n"
                 "sirocco inspect --summary path/to/model\twithout the list of tensors\n"
                 "sirocco inspect --json model.gguf | jq '.tensors[0]'\tfor programs\n",
     .run = command_inspect},
    {.name = "formats",
     .bit = FORMATS,
     .operands = "",
     .summary = "list what can be read, run and made",
     .description = "Prints every format that this build knows: where it is found, its bits a weight, whether --isq "
                    "makes it, how products with it are computed, and which package its values were compared with.",
     .examples = "sirocco formats\tthe table\n"
                 "sirocco formats --json | jq -r '.[] | select(.isq) | .name'\twhat --isq takes\n",
     .run = command_formats},
    {.name = "models",
     .bit = MODELS,
     .operands = "[rm NAME]",
     .most_operands = 2,
     .summary = "list or remove what was downloaded",
     .description =
         "Lists the models in the cache of the hub, which is shared with its Python tools: revision, format, "
         "files, size. 'rm' removes all that is kept of one model; it asks first.",
     .examples = "sirocco models\twhat is there\n"
                 "sirocco models rm microsoft/Phi-3-mini-4k-instruct\tmake room\n"
                 "sirocco models --json | jq -r '.[].path'\tfor programs\n",
     .run = command_models},
    {.name = "tokenize",
     .bit = TOKENIZE,
     .operands = "PATH [TEXT]",
     .least_operands = 1,
     .most_operands = 2,
     .summary = "turn text into token ids",
     .description =
         "Prints the ids and pieces of a text, from the command line or from standard input. PATH is a model "
         "or only its vocabulary (a vocabulary-only GGUF; a directory with tokenizer.json, tekken.json, "
         "tokenizer.model, a .tiktoken file, or vocab.json with merges.txt).",
     .examples = "sirocco tokenize model.gguf \"Hello world\"\tids and pieces\n"
                 "sirocco tokenize --json path/to/model < text.txt\tfrom standard input, as JSON\n"
                 "sirocco tokenize --no-special model.gguf \"<s>\"\tspecial tokens as plain text\n",
     .run = command_tokenize},
    {.name = "template",
     .bit = TEMPLATE,
     .operands = "PATH",
     .least_operands = 1,
     .most_operands = 1,
     .summary = "show what a conversation becomes",
     .description = "Prints the prompt that a model's chat template makes of a conversation, before it is tokenized. "
                    "PATH is a model, "
                    "only its tokenizer, or the template itself, a file whose name ends in .jinja. Without --messages "
                    "an example is "
                    "used. What a template may do and cost is bounded: it sees its variables and nothing else.",
     .examples = "sirocco template path/to/model\tan example\n"
                 "sirocco template model.gguf --messages chat.json\ta conversation of yours\n"
                 "sirocco template path/to/model --var enable_thinking=false\ta variable of it\n"
                 "sirocco template my.jinja --var 'bos_token=\"<s>\"'\ta template on its own\n",
     .run = command_template},
    {.name = "eval",
     .bit = EVAL,
     .operands = "PATH --text FILE",
     .least_operands = 0,
     .most_operands = 1,
     .summary = "measure perplexity, and what the fast path costs",
     .description =
         "Perplexity over a text by llama.cpp's protocol: windows of --ctx tokens, the first token of each replaced by "
         "BOS where the model adds one, the second half of each window scored, the last partial window dropped. "
         "--kld-exact runs the same weights a second time in exact mode and reports the Kullback-Leibler divergence of "
         "the fast path; --against compares with another model of the same vocabulary.",
     .examples = "sirocco eval model.gguf --text wiki.test.raw\tperplexity with its standard error\n"
                 "sirocco eval path/to/model --isq 4 --text t.txt --chunks 20\tquantized, the first 20 windows\n"
                 "sirocco eval model.gguf --text t.txt --kld-exact --json\tfast path against exact arithmetic\n"
                 "sirocco eval q4.gguf --text t.txt --against f16.gguf\tloss against another file\n",
     .run = command_eval},
    {.name = "compare",
     .bit = COMPARE,
     .operands = "MODEL [OTHER ...] --text FILE",
     .least_operands = 1,
     .most_operands = 17,
     .summary = "measure what quantizing cost",
     .description =
         "Compares models with the first one, which stays open beside them: the Kullback-Leibler divergence of their "
         "predictions over a text (windows as in eval), the change of perplexity over the same tokens with its 95 % "
         "confidence interval, how often the first choice is the same, size, and the error of every matrix. Files "
         "of any two formats can be compared; --isq compares the first model with itself quantized. The error of "
         "matrices leaves norms out: where a method moves scales from norms into matrices (AWQ), it counts them. At "
         "most 16 models at once, opened one after the other.",
     .examples = "sirocco compare f16.gguf q4_k_m.gguf q2_k.gguf --text wiki.test.raw\tthree files\n"
                 "sirocco compare path/to/model --isq q4k --isq q2k --text t.txt\twhat --isq costs\n"
                 "sirocco compare path/to/model path/to/gptq --text t.txt --html report.html\ta page with charts\n",
     .run = command_compare},
    {.name = "tune",
     .bit = TUNE,
     .operands = "[MODEL]",
     .most_operands = 1,
     .summary = "find the type that suits a model and this machine",
     .description =
         "Lists what --isq would make of a model: size, memory with a full context, expected divergence from the model "
         "as it is stored, expected speed, and recommends one: the fastest that fits the memory, of at least four "
         "bits where possible. Sizes are exact; speed comes from a short run of each type's own product; "
         "divergence is a guess, or with --text measured, each type in turn.",
     .examples = "sirocco tune model-f16.gguf\tthe table and a recommendation\n"
                 "sirocco tune path/to/model --memory 8G --ctx 16384\tfor another machine\n"
                 "sirocco tune -m org/model --isq q4k --isq iq4_xs --text t.txt\tthese types, measured\n"
                 "sirocco tune model.gguf --json | jq -r .recommended\tfor programs\n",
     .run = command_tune},
    {.name = "bench",
     .bit = BENCH,
     .operands = "[MODEL]",
     .most_operands = 1,
     .summary = "measure prefill and decode speed",
     .description =
         "Times prefill of --prompt-len tokens and decode of --gen-len tokens at each --depth of context, and compares "
         "with what this machine can do: 8-bit operations a second for prefill, memory bandwidth for decode (a model "
         "that fits in the cache can exceed it). Without a model the bundled one is used, quantized to 4 bits.",
     .examples = "sirocco bench model.gguf\t512 tokens of prompt, 64 of text\n"
                 "sirocco bench model.gguf --prompt-len 128,512 --depth 0,2048\tseveral lengths\n"
                 "sirocco bench model.gguf --sessions 1,4,16\ta server's load\n"
                 "sirocco bench -m path/to/model --isq q4k --csv > speed.csv\tfor a spreadsheet\n"
                 "sirocco bench model.gguf --json > old.json\tkept, so that later\n"
                 "sirocco bench model.gguf --compare old.json\tshows what became faster\n",
     .run = command_bench},
    {.name = "doctor",
     .bit = DOCTOR,
     .operands = "",
     .summary = "show what this machine and build can do",
     .description = "Lists processor features, kernel sets and the one chosen, threads, memory, measured bandwidth and "
                    "8-bit throughput, and the features that are built in or missing.",
     .examples = "sirocco doctor\tthe report\n"
                 "sirocco doctor --json\tfor a bug report or a program\n",
     .run = command_doctor},
    {.name = "help",
     .bit = HELP,
     .operands = "[COMMAND]",
     .most_operands = 1,
     .summary = "show help, the man page or shell completion",
     .description = "Shows the overview, or the help of one command. The man page and the completion are made from the "
                    "same tables.",
     .examples = "sirocco help run\tthe help of one command\n"
                 "sirocco help --man > sirocco.1\tthe man page\n"
                 "sirocco help --complete-bash > sirocco\tfor bash-completion\n",
     .run = command_help},
    {0}};

#define SECTION_MODEL "Model"
#define SECTION_TARGET "Result"
#define SECTION_TEXT "Text"
#define SECTION_CHAT "Chat template"
#define SECTION_SAMPLING "Sampling (defaults: the model's own, else temperature 0.8, top-k 40, top-p 0.95, min-p 0.05)"
#define SECTION_MEASURE "Measurement"
#define SECTION_ENGINE "Engine"
#define SECTION_OUTPUT "Output"

const cli_option cli_options[] = {
    {"model", "model-id|src", 'm', "MODEL", CLI_TEXT, RUN | EVAL | BENCH | QUANTIZE | IMATRIX | TUNE, SECTION_MODEL,
     FIELD(model), 0, 0, NULL, "directory, file, or ORG/NAME[@REVISION] of the hub (the same as the operand)"},
    {"file", "quantized-file", 'f', "FILE", CLI_TEXT, RUN | EVAL | BENCH | QUANTIZE | IMATRIX | TUNE, SECTION_MODEL,
     FIELD(file), 0, 0, NULL, "file of the model (the same as the operand); beside -m ORG/NAME, which of its files"},
    {"quant", NULL, 0, "TYPE", CLI_TEXT, OPENS, SECTION_MODEL, FIELD(quant), 0, 0, NULL,
     "of a model of the hub: which of its GGUF or UQFF files, by type (q4_k_m), bits (4) or name"},
    {"revision", NULL, 0, "REV", CLI_TEXT, REMOTE, SECTION_MODEL, FIELD(revision), 0, 0, NULL,
     "of a model of the hub: branch, tag or commit (default: main)"},
    {"offline", NULL, 0, NULL, CLI_FLAG, REMOTE, SECTION_MODEL, FIELD(offline), 0, 0, NULL,
     "take models of the hub from the cache alone (also: HF_HUB_OFFLINE=1)"},
    {"hf-cache", NULL, 0, "DIR", CLI_TEXT, REMOTE | MODELS, SECTION_MODEL, FIELD(hf_cache), 0, 0, NULL,
     "cache of the hub (default: HF_HUB_CACHE, or hub in HF_HOME, or ~/.cache/huggingface/hub)"},
    {"yes", NULL, 'y', NULL, CLI_FLAG, MODELS, SECTION_MODEL, FIELD(yes), 0, 0, NULL, "do not ask before removing"},
    {"format", NULL, 0, "plain|gguf|ggml", CLI_CHOICE, REMOTE, SECTION_MODEL, FIELD(format), 0, 0, NULL,
     "what the model's files are, instead of looking at their content"},
    {"gqa", NULL, 0, "N", CLI_INT, RUN | EVAL | BENCH, SECTION_MODEL, FIELD(gqa), 1, 4096, NULL,
     "of a GGML file: heads a key-value head (default: by the shape of its matrices)"},
    {"isq", NULL, 0, "TYPE", CLI_TEXT, RUN | EVAL | BENCH, SECTION_MODEL, FIELD(isq), 0, 0, NULL,
     "quantize while loading: 2, 3, 4, 5, 6, 8 bits or a type such as q4k or q8_0 ('sirocco doctor' lists them; none: "
     "leave the weights as they are; auto: what 'sirocco tune' recommends)"},
    {"memory", NULL, 0, "SIZE", CLI_TEXT, RUN | EVAL | BENCH | TUNE, SECTION_MODEL, FIELD(memory), 0, 0, NULL,
     "what --isq auto and 'sirocco tune' may fill, as 8G (default: nine tenths of what is available)"},
    {"isq-organization", NULL, 0, "default|moqe", CLI_CHOICE, RUN | EVAL | BENCH | TUNE, SECTION_MODEL,
     FIELD(organization), 0, 0, NULL, "what --isq is for: all matrices, or (moqe) the experts of a mixture alone"},
    {"topology", "recipe", 0, "FILE", CLI_TEXT, RUN | EVAL | BENCH | QUANTIZE, SECTION_MODEL, FIELD(topology), 0, 0,
     NULL,
     "types of single matrices, which go before --isq and --to: lines REGEX = TYPE, where the last that matches a "
     "name counts, or a topology of mistral.rs (.yaml)"},
    {"isq", NULL, 0, "TYPE", CLI_TEXTS, COMPARE, SECTION_MODEL, FIELD(compare_isq), 0, 0, NULL,
     "compare with the first model quantized to TYPE while loading, as of eval; may be repeated"},
    {"isq", NULL, 0, "TYPE", CLI_TEXTS, TUNE, SECTION_MODEL, FIELD(compare_isq), 0, 0, NULL,
     "a type to list, in place of the usual ones; may be repeated"},

    {"input", NULL, 'i', "TEXT", CLI_TEXT, RUN, SECTION_TEXT, FIELD(input), 0, 0, NULL,
     "one shot: reply to TEXT, or continue it, and end; '-' reads it from standard input"},
    {"system", NULL, 0, "TEXT", CLI_TEXT, RUN, SECTION_CHAT, FIELD(system), 0, 0, NULL,
     "the system prompt; @FILE reads it from a file"},
    {"chat-template", NULL, 'c', "FILE", CLI_TEXT, RUN, SECTION_CHAT, FIELD(chat_template), 0, 0, NULL,
     "template instead of the model's own: a .jinja file, or a .json file with a chat_template"},
    {"jinja-explicit", NULL, 'j', "FILE", CLI_TEXT, RUN, SECTION_CHAT, FIELD(chat_template), 0, 0, NULL,
     "the same as --chat-template"},
    {"no-chat", NULL, 0, NULL, CLI_FLAG, RUN, SECTION_CHAT, FIELD(no_chat), 0, 0, NULL,
     "use no template: continue the text as it stands"},
    {"enable-thinking", "thinking", 0, "on|off", CLI_CHOICE, RUN | TEMPLATE, SECTION_CHAT, FIELD(enable_thinking), 0, 0,
     NULL, "ask the model to reason first, or not to, where its template knows that"},
    {"reasoning-effort", NULL, 0, "off|low|medium|high|xhigh|max", CLI_CHOICE, RUN | TEMPLATE, SECTION_CHAT,
     FIELD(reasoning_effort), 0, 0, NULL, "how much (off: --enable-thinking off, the others: on)"},
    {"tools", NULL, 0, "FILE", CLI_TEXT, RUN | TEMPLATE, SECTION_CHAT, FIELD(tools), 0, 0, NULL,
     "the tools that the model may call: a JSON array of their descriptions"},
    {"var", NULL, 0, "NAME=JSON", CLI_TEXTS, RUN | TEMPLATE, SECTION_CHAT, FIELD(var), 0, 0, NULL,
     "a variable of the template; may be repeated"},
    {"echo", NULL, 0, NULL, CLI_FLAG, RUN, SECTION_TEXT, FIELD(echo), 0, 0, NULL,
     "print the prompt before the continuation"},
    {"max-tokens", NULL, 0, "N", CLI_INT, RUN, SECTION_TEXT, FIELD(max_tokens), 0, 2147483647, NULL,
     "stop after N new tokens (default: when the context is full)"},
    {"stop", NULL, 0, "TEXT", CLI_TEXTS, RUN, SECTION_TEXT, FIELD(stop), 0, 0, NULL,
     "end before this text appears; may be repeated"},

    {"temperature", "temp", 0, "T", CLI_REAL, RUN, SECTION_SAMPLING, FIELD(temperature), 0, 1000, NULL,
     "below 1 prefers probable tokens, 0 always takes the most probable"},
    {"greedy", NULL, 0, NULL, CLI_FLAG, RUN, SECTION_SAMPLING, FIELD(greedy), 0, 0, NULL,
     "always the most probable token: --temperature 0"},
    {"top-k", NULL, 0, "N", CLI_INT, RUN, SECTION_SAMPLING, FIELD(top_k), -1, 2147483647, NULL,
     "only the N most probable tokens (0: off)"},
    {"top-p", NULL, 0, "P", CLI_REAL, RUN, SECTION_SAMPLING, FIELD(top_p), 0, 1, NULL,
     "only the most probable tokens that together reach P (1: off)"},
    {"min-p", NULL, 0, "P", CLI_REAL, RUN, SECTION_SAMPLING, FIELD(min_p), 0, 1, NULL,
     "only tokens more probable than P times the most probable one (0: off)"},
    {"repetition-penalty", NULL, 0, "R", CLI_REAL, RUN, SECTION_SAMPLING, FIELD(repetition_penalty), 0.01, 100, NULL,
     "divides the scores of tokens that occurred, prompt included (1: off)"},
    {"frequency-penalty", NULL, 0, "F", CLI_REAL, RUN, SECTION_SAMPLING, FIELD(frequency_penalty), -100, 100, NULL,
     "lowers a token's score by F for each time it was generated (0: off)"},
    {"presence-penalty", NULL, 0, "P", CLI_REAL, RUN, SECTION_SAMPLING, FIELD(presence_penalty), -100, 100, NULL,
     "lowers a token's score by P once it was generated (0: off)"},
    {"dry-multiplier", NULL, 0, "M", CLI_REAL, RUN, SECTION_SAMPLING, FIELD(dry_multiplier), 0, 1000, NULL,
     "DRY: lowers the score of tokens that would go on with a repetition; 0.8 is usual (0: off)"},
    {"dry-base", NULL, 0, "B", CLI_REAL, RUN, SECTION_SAMPLING, FIELD(dry_base), 1, 100, "1.75",
     "DRY: each further token of the repetition multiplies the penalty by B"},
    {"dry-allowed-length", NULL, 0, "N", CLI_INT, RUN, SECTION_SAMPLING, FIELD(dry_allowed_length), 1, 50, "2",
     "DRY: repetitions below N tokens are free"},
    {"dry-sequence-breaker", NULL, 0, "TEXT", CLI_TEXTS, RUN, SECTION_SAMPLING, FIELD(dry_breaker), 0, 0, NULL,
     "DRY: no repetition reaches across TEXT; may be repeated (default: newline, ':', '\"', '*')"},
    {"logit-bias", NULL, 0, "ID=B", CLI_TEXTS, RUN, SECTION_SAMPLING, FIELD(logit_bias), 0, 0, NULL,
     "adds B to the score of token ID; may be repeated"},
    {"seed", NULL, 0, "N", CLI_SEED, RUN, SECTION_SAMPLING, FIELD(seed), 0, 0, NULL,
     "same seed, same text (default: a new one for each start, shown in the banner)"},

    {"to", NULL, 0, "TARGET", CLI_TEXTS, QUANTIZE, SECTION_TARGET, FIELD(to), 0, 0, NULL,
     "gguf:TYPE, uqff:TYPE, gptq:BITS, awq:4, hqq:BITS, mlx:BITS (or afq; mlx:mixed_3_6), bnb:nf4|fp4|int8, fp8, "
     "fp8:block, "
     "compressed-tensors:w4a16, mxfp4, nvfp4, f16, bf16; behind a comma group=N, sym, asym, desc_act, double, "
     "static_groups (of --method gptq); may be repeated"},
    {"output", "dst", 'o', "PATH", CLI_TEXT, QUANTIZE | IMATRIX, SECTION_TARGET, FIELD(output), 0, 0, NULL,
     "file (GGUF) or directory to write; with several targets a directory for all"},
    {"plan", "dry-run", 0, NULL, CLI_FLAG, QUANTIZE, SECTION_TARGET, FIELD(plan), 0, 0, NULL,
     "print what would be written, and write nothing"},
    {"resume", NULL, 0, NULL, CLI_FLAG, QUANTIZE, SECTION_TARGET, FIELD(resume), 0, 0, NULL,
     "go on where an earlier run of the same conversion ended"},
    {"overwrite", NULL, 0, NULL, CLI_FLAG, QUANTIZE, SECTION_TARGET, FIELD(overwrite), 0, 0, NULL,
     "replace what stands at the output, once the new one is complete"},
    {"imatrix", NULL, 0, "FILE", CLI_TEXT, QUANTIZE | RUN | EVAL | BENCH, SECTION_MODEL, FIELD(imatrix), 0, 0, NULL,
     "importances of columns: of 'sirocco imatrix', llama.cpp (.gguf, .dat) or mistral.rs (.cimatrix)"},
    {"calibration-file", NULL, 0, "FILE", CLI_TEXT, QUANTIZE, SECTION_TARGET, FIELD(calibration), 0, 0, NULL,
     "a text to find importances with first, as 'sirocco imatrix' does, or to calibrate with"},
    {"method", NULL, 0, "rtn|imatrix|gptq|awq|hqq", CLI_CHOICE, QUANTIZE, SECTION_TARGET, FIELD(method), 0, 0, NULL,
     "how codes are chosen: nearest; scales by importance; each column making up for the errors before it; columns "
     "with "
     "large inputs made larger; minimums that outliers count less for. gptq and awq need --calibration-file (default: "
     "rtn; with importances imatrix; with a text gptq for gptq:BITS and awq for awq:4)"},
    {"merge", NULL, 0, "FILE", CLI_TEXTS, IMATRIX, SECTION_TARGET, FIELD(merge), 0, 0, NULL,
     "an older file to add; may be repeated"},
    {"target-bpw", NULL, 0, "BITS", CLI_REAL, QUANTIZE, SECTION_TARGET, FIELD(target_bpw), 0.1, 32, NULL,
     "--to gguf, or a directory of MLX, GPTQ or compressed-tensors, as mlx:4: find the types of single matrices that "
     "lose least at so many bits a weight"},
    {"target-size", NULL, 0, "SIZE", CLI_TEXT, QUANTIZE, SECTION_TARGET, FIELD(target_size), 0, 0, NULL,
     "the same for a file of at most SIZE, as 4G or 900M"},
    {"target-kld", NULL, 0, "NATS", CLI_REAL, QUANTIZE, SECTION_TARGET, FIELD(target_kld), 1e-6, 10, NULL,
     "the smallest file whose predictions diverge by at most so much on the --calibration-file"},
    {"recipe-out", NULL, 0, "FILE", CLI_TEXT, QUANTIZE, SECTION_TARGET, FIELD(recipe_out), 0, 0, NULL,
     "write the types that were found, for --recipe"},
    {"shard-size", NULL, 0, "SIZE", CLI_TEXT, QUANTIZE, SECTION_TARGET, FIELD(shard_size), 0, 0, NULL,
     "most bytes of one safetensors file, as 2G or 500M (default: 5G)"},
    {"text", NULL, 0, "FILE", CLI_TEXT, EVAL | COMPARE | IMATRIX | TUNE, SECTION_MEASURE, FIELD(text), 0, 0, NULL,
     "the text to score"},
    {"chunks", NULL, 0, "N", CLI_INT, EVAL | COMPARE | IMATRIX | QUANTIZE | TUNE, SECTION_MEASURE, FIELD(chunks), 1,
     2147483647, NULL, "only the first N windows (default: all)"},
    {"kld-exact", "reference-exact", 0, NULL, CLI_FLAG, EVAL, SECTION_MEASURE, FIELD(kld_exact), 0, 0, NULL,
     "compare with exact arithmetic: mean, 99th percentile and largest divergence, agreement on the first choice"},
    {"against", NULL, 0, "PATH", CLI_TEXT, EVAL, SECTION_MEASURE, FIELD(against), 0, 0, NULL,
     "compare with this model, as stored, instead"},
    {"prompt-len", NULL, 0, "N,...", CLI_INTS, BENCH, SECTION_MEASURE, FIELD(prompt_len), 1, 16777216, "512",
     "tokens of each prefill measurement"},
    {"gen-len", NULL, 0, "N,...", CLI_INTS, BENCH, SECTION_MEASURE, FIELD(gen_len), 1, 16777216, "64",
     "tokens of each decode measurement"},
    {"depth", NULL, 0, "N,...", CLI_INTS, BENCH, SECTION_MEASURE, FIELD(depth), 0, 16777216, "0",
     "tokens that are in the context before a measurement"},
    {"sessions", NULL, 0, "N,...", CLI_INTS, BENCH, SECTION_MEASURE, FIELD(sessions), 1, 1024, "1",
     "conversations that decode together, a token each a step; speeds are those of all"},
    {"iterations", NULL, 0, "N", CLI_INT, BENCH, SECTION_MEASURE, FIELD(iterations), 1, 1000, "3",
     "measurements of each kind"},
    {"warmup", NULL, 0, "N", CLI_INT, BENCH, SECTION_MEASURE, FIELD(warmup), 0, 1000, "1",
     "rounds before the measured ones"},
    {"compare", NULL, 0, "FILE", CLI_TEXT, BENCH, SECTION_MEASURE, FIELD(compare), 0, 0, NULL,
     "beside each median the one of an earlier run with --json, and their ratio, new / old"},
    {"no-bos", NULL, 0, NULL, CLI_FLAG, TOKENIZE, SECTION_TEXT, FIELD(no_bos), 0, 0, NULL,
     "leave out the tokens that the model's convention puts around a text"},
    {"no-special", NULL, 0, NULL, CLI_FLAG, TOKENIZE, SECTION_TEXT, FIELD(no_special), 0, 0, NULL,
     "spellings of special tokens in the text are plain text"},
    {"messages", NULL, 0, "FILE", CLI_TEXT, TEMPLATE, SECTION_TEXT, FIELD(messages), 0, 0, NULL,
     "the conversation: a JSON array of objects with role and content"},
    {"no-generation-prompt", NULL, 0, NULL, CLI_FLAG, TEMPLATE, SECTION_TEXT, FIELD(no_generation_prompt), 0, 0, NULL,
     "end behind the last message, without the opening of an answer"},
    {"summary", NULL, 0, NULL, CLI_FLAG, INSPECT, SECTION_OUTPUT, FIELD(summary), 0, 0, NULL,
     "leave out the list of tensors"},

    {"ctx", NULL, 0, "N", CLI_INT, RUN | TUNE, SECTION_ENGINE, FIELD(ctx), 1, 2147483647, NULL,
     "context in tokens (default: what the model was trained for, at most 8192)"},
    {"ctx", NULL, 0, "N", CLI_INT, EVAL | COMPARE | IMATRIX | QUANTIZE, SECTION_ENGINE, FIELD(ctx), 8, 2147483647,
     "512", "tokens of a window"},
    {"kv-type", NULL, 0, "f16|bf16|q8_0|q4_0|f32", CLI_CHOICE, RUN | EVAL | COMPARE | BENCH | TUNE, SECTION_ENGINE,
     FIELD(kv_type), 0, 0, NULL,
     "how keys and values are kept (default: f16, with --exact f32); q8_0 takes half the memory, q4_0 a quarter"},
    {"threads", NULL, 0, "N", CLI_INT, RUN | EVAL | COMPARE | BENCH | TUNE | DOCTOR | QUANTIZE | IMATRIX,
     SECTION_ENGINE, FIELD(threads), 1, 4096, NULL, "threads to use (default: one for each processor)"},
    {"batch", NULL, 0, "N", CLI_INT, RUN | EVAL | COMPARE | BENCH | TUNE, SECTION_ENGINE, FIELD(batch), 1, 65536, NULL,
     "most tokens in one step of prefill (default: 512)"},
    {"cpu", NULL, 0, NULL, CLI_FLAG, RUN | EVAL | COMPARE | BENCH | TUNE | DOCTOR, SECTION_ENGINE, FIELD(cpu), 0, 0,
     NULL, "stay on the processor even where another device is there"},
    {"isa", NULL, 0, "NAME", CLI_TEXT, RUN | EVAL | COMPARE | BENCH | TUNE | DOCTOR, SECTION_ENGINE, FIELD(isa), 0, 0,
     NULL, "kernel set instead of the fastest one ('sirocco doctor' lists them)"},
    {"exact", NULL, 0, NULL, CLI_FLAG, RUN | EVAL | COMPARE | BENCH, SECTION_ENGINE, FIELD(exact), 0, 0, NULL,
     "the slow reference: weights as decoded, activations in 32-bit floating point"},

    {"json", NULL, 0, NULL, CLI_FLAG,
     RUN | INSPECT | FORMATS | MODELS | TOKENIZE | TEMPLATE | EVAL | COMPARE | BENCH | DOCTOR | QUANTIZE | TUNE,
     SECTION_OUTPUT, FIELD(json), 0, 0, NULL, "print one JSON object"},
    {"html", NULL, 0, "FILE", CLI_TEXT, COMPARE, SECTION_OUTPUT, FIELD(html), 0, 0, NULL,
     "write a page with tables and charts too; it needs nothing else"},
    {"csv", NULL, 0, NULL, CLI_FLAG, BENCH, SECTION_OUTPUT, FIELD(csv), 0, 0, NULL, "print comma-separated values"},
    {"verbose", NULL, 'v', NULL, CLI_FLAG, RUN | EVAL | COMPARE | BENCH | TUNE, SECTION_OUTPUT, FIELD(verbose), 0, 0,
     NULL, "more notes and speeds on standard error, also when it is not a terminal"},
    {"quiet", NULL, 'q', NULL, CLI_FLAG, RUN | EVAL | COMPARE | BENCH | TUNE, SECTION_OUTPUT, FIELD(quiet), 0, 0, NULL,
     "no banner, notes or progress; warnings and errors remain"},
    {"logprobs", NULL, 0, "N", CLI_INT, RUN, SECTION_OUTPUT, FIELD(logprobs), 0, 20, NULL,
     "with --json: the log probability of every token, and those of the N most probable"},
    {"man", NULL, 0, NULL, CLI_FLAG, HELP, SECTION_OUTPUT, FIELD(man), 0, 0, NULL, "print the man page"},
    {"markdown", NULL, 0, NULL, CLI_FLAG, HELP, SECTION_OUTPUT, FIELD(markdown), 0, 0, NULL,
     "print all help as Markdown"},
    {"markdown", NULL, 0, NULL, CLI_FLAG, FORMATS, SECTION_OUTPUT, FIELD(markdown), 0, 0, NULL,
     "print docs/formats.md"},
    {"complete-bash", NULL, 0, NULL, CLI_FLAG, HELP, SECTION_OUTPUT, FIELD(complete_bash), 0, 0, NULL,
     "print a completion script for bash"},
    {"help", NULL, 'h', NULL, CLI_FLAG, ALL, SECTION_OUTPUT, FIELD(help), 0, 0, NULL, "show this help"},
    {0}};

_Static_assert(sizeof cli_options / sizeof *cli_options <= CLI_MAX_OPTIONS, "cli_args.given holds a flag per row");

const cli_command *cli_find_command(const char *name) {
    for (const cli_command *c = cli_commands; c->name; c++)
        if (strcmp(c->name, name) == 0) return c;
    return NULL;
}

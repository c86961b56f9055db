/* sirocco doctor: what this machine and this build can do. */
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/output.h"

#if defined(SR_HAVE_EDIT)
#define HAVE_EDIT true
#else
#define HAVE_EDIT false
#endif

static const struct {
    const char *name, *means;
    bool built;
} features[] = {
    {"gguf", "GGUF files, also split ones", true},
    {"safetensors", "safetensors files and Hugging Face directories", true},
    {"isq", "quantization while loading", true},
    {"line-editing", "history and editing at the prompt (libedit)", HAVE_EDIT},
    {"chat-templates", "conversation by the model's template", true},
    {"hub", "downloads by model name (libcurl)", true},
    {"server", "HTTP interface", false},
    {"gpu", "devices other than the processor", false},
};
enum { N_FEATURES = sizeof features / sizeof *features };

static bool is_built(int i) {
    return features[i].built && (strcmp(features[i].name, "hub") != 0 || sr_hub_downloads());
}

static const char *compiler(void) {
#if defined(__VERSION__) && defined(__clang__)
    return __VERSION__;
#elif defined(__VERSION__)
    return "gcc " __VERSION__;
#else
    return "unknown compiler";
#endif
}

typedef struct findings {
    sr_probe probe;
    sr_memory memory;
    int processors, threads;
    const char *isa;
    char bundled[4096]; /* empty: not installed */
} findings;

static void print_people(const findings *f) {
    char a[OUT_NUMBER], b[OUT_NUMBER];
    const char *name, *resolved;
    printf("sirocco       " SR_VERSION ", %s\n", compiler());
    printf("processor     %s\n", sr_cpu_features());
    fputs("kernel sets  ", stdout);
    for (int i = 0; (name = sr_isa_available(i)); i++) printf(" %s", name);
    printf("; in use: %s\n", f->isa);
    printf("threads       %d of %d processors\n", f->threads, f->processors);
    printf("memory        %s available of %s\n", out_size(a, (double)f->memory.available),
           out_size(b, (double)f->memory.total));
    printf("bandwidth     %.1f GB/s read\n", f->probe.read_bytes_per_s / 1e9);
    printf("8-bit dot     %.0f GOPS\n", f->probe.int8_ops_per_s / 1e9);
    printf("bundled model %s\n", *f->bundled ? f->bundled : "not installed");
    fputs("--isq takes  ", stdout);
    for (int i = 0; sr_isq_name(i, &name, &resolved); i++) {
        printf(" %s", name);
        if (resolved && strcmp(name, resolved) != 0) printf(" (%s)", resolved);
    }
    fputs("\n\n", stdout);
    out_table t = {.align = "lll"};
    for (int i = 0; i < N_FEATURES; i++) {
        out_cell(&t, "%s", is_built(i) ? "yes" : "no");
        out_cell(&t, "%s", features[i].name);
        out_cell(&t, "%s", features[i].means);
    }
    out_table_print(&t, 0);
}

static void print_json(const findings *f) {
    const char *name, *resolved;
    out_json j = {0};
    json_open(&j, NULL, '{');
    json_text(&j, "version", SR_VERSION);
    json_text(&j, "compiler", compiler());
    json_text(&j, "cpu_features", sr_cpu_features());
    json_text(&j, "isa", f->isa);
    json_open(&j, "isa_available", '[');
    for (int i = 0; (name = sr_isa_available(i)); i++) json_text(&j, NULL, name);
    json_close(&j, ']');
    json_int(&j, "threads", f->threads);
    json_int(&j, "processors", f->processors);
    json_uint(&j, "memory_total", f->memory.total);
    json_uint(&j, "memory_available", f->memory.available);
    json_real(&j, "read_bytes_per_s", f->probe.read_bytes_per_s);
    json_real(&j, "int8_ops_per_s", f->probe.int8_ops_per_s);
    json_text(&j, "bundled_model", *f->bundled ? f->bundled : NULL);
    json_open(&j, "isq", '{');
    for (int i = 0; sr_isq_name(i, &name, &resolved); i++) json_text(&j, name, resolved);
    json_close(&j, '}');
    json_open(&j, "features", '{');
    for (int i = 0; i < N_FEATURES; i++) json_bool(&j, features[i].name, is_built(i));
    json_close(&j, '}');
    json_close(&j, '}');
    putchar('\n');
}

int command_doctor(const cli_args *args) {
    sr_engine *e = NULL;
    findings f = {0};
    int code = open_engine(args, false, &e);
    if (code) return code;
    sr_engine_probe(e, 1.0, &f.probe);
    sr_memory_now(&f.memory);
    f.processors = sr_cpu_count();
    f.threads = sr_engine_threads(e);
    f.isa = sr_engine_isa(e);
    if (!open_bundled_path(f.bundled, sizeof f.bundled)) f.bundled[0] = 0;
    if (args->json)
        print_json(&f);
    else
        print_people(&f);
    if (strcmp(f.isa, "portable") == 0)
        out_warning("the portable kernels are in use: many times slower than those for AVX2, AVX-512 or NEON");
    if (f.threads > f.processors)
        out_warning("%d threads on %d processors slow each other down; try --threads %d", f.threads, f.processors,
                    f.processors);
    sr_engine_free(e);
    return EXIT_FINE;
}

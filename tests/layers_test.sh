#!/usr/bin/env bash
# The layering and the house rules that a grep can see (docs/architecture.md says why they are rules):
#
#   include   who may include whom; only base makes OS calls, only cpu has SIMD headers
#   names     only a table.c names the implementations it declares
#   forbidden exit, abort, printf and friends, getenv, `#pragma omp` outside base/pool.c
#   enum      no enum, switch or comparison over weight formats
#   length    a warning for files above 1500 lines: which two topics live there?
#
#   layers_test.sh [ROOT]     first proves on a temporary tree that each rule can fail
set -euo pipefail

root=${1:-$(cd "$(dirname "$0")/.." && pwd)}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-layers.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# What a folder may include, itself apart. Everybody may include the C library.
allowed() {
    case $1 in
    include) ;;
    src/base) echo public ;;
    src/file) echo public base ;;
    src/fmt) echo public base file ;;
    src/dev) echo public base file fmt ;;
    src/cpu | src/cuda | src/metal | src/arch) echo public base file fmt dev ;;
    src/text) echo public base file ;;
    src/hub) echo public base ;;
    src/core) echo public base file fmt dev arch text ;;
    src/quant) echo public base file fmt dev arch text core ;;
    apps/*) echo public base ;;
    *) echo unknown ;;
    esac
}

sources() { # C files of a tree, relative to it
    (cd "$1" && for top in include src apps; do
        if [ -d "$top" ]; then find "$top" \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.m' \) -print; fi
    done | LC_ALL=C sort)
}

# The tree's code as "file:line:text": comments are gone; strings are emptied except in #include lines.
code() {
    # shellcheck disable=SC2016 # the dollars are awk's
    (cd "$1" && sources . | xargs awk '
        FNR == 1 { comment = 0 }
        {
            out = ""
            n = length($0)
            keep = $0 ~ /^[ \t]*#[ \t]*include/
            for (i = 1; i <= n; i++) {
                c = substr($0, i, 1)
                two = substr($0, i, 2)
                if (comment) {
                    if (two == "*/") { comment = 0; i++ }
                } else if (two == "/*") { comment = 1; i++; out = out " " }
                else if (two == "//" && !keep) break
                else if ((c == "\"" || c == "\047") && !keep) {
                    for (i++; i <= n && substr($0, i, 1) != c; i++) if (substr($0, i, 1) == "\\") i++
                    out = out c c
                } else out = out c
            }
            if (out !~ /^[ \t]*$/) print FILENAME ":" FNR ":" out
        }')
}

# Prints one line a violation, "rule file:line: what".
violations() {
    tree=$1
    code "$tree" >"$scratch/code"

    # include
    sed -nE 's/^([^:]*):([0-9]+):[ \t]*#[ \t]*include[ \t]*([<"])([^>"]*)[>"].*/\1 \2 \3 \4/p' "$scratch/code" |
        while read -r file line kind target; do
            folder=$(echo "$file" | cut -d/ -f1-2)
            case $file in include/*) folder=include ;; esac
            may=$(allowed "$folder")
            case $kind$target in
            '"'../* | '"'*/../*) echo "include $file:$line: \"$target\": include from the top of src/, not by ../" && continue ;;
            '"sirocco.h') module=public ;;
            '"'*/*) module=${target%%/*} ;;
            '"'*) module=own ;;
            '<immintrin.h' | '<'*mmintrin.h | '<arm_neon.h' | '<cpuid.h' | '<x86intrin.h')
                case $folder in src/cpu | src/base) ;; *) echo "include $file:$line: <$target>: SIMD belongs in src/cpu" ;; esac
                continue
                ;;
            '<sys/'* | '<unistd.h' | '<fcntl.h' | '<pthread.h' | '<dlfcn.h' | '<sched.h' | '<dirent.h' | '<windows.h' | '<omp.h')
                case $folder in
                src/base | apps/*) ;;
                *) echo "include $file:$line: <$target>: calls of the operating system belong in src/base" ;;
                esac
                continue
                ;;
            *) continue ;;
            esac
            own=${folder#*/}
            case $folder:$module in *:own | "src/$own:$own" | apps/*:apps | "apps/$own:$own") continue ;; esac
            case $file:$module in */table.c:*) case $folder:$module in src/dev:cpu | src/dev:cuda | src/dev:metal) continue ;; esac ;; esac
            case " $may " in
            *" $module "*) ;;
            *) echo "include $file:$line: \"$target\": $folder may include only${may:+ itself,} ${may:-the C library}" ;;
            esac
        done

    # names: what the tables declare extern is mentioned elsewhere only where it is defined
    sed -nE 's/^[^:]*\/table\.c:[0-9]+://p' "$scratch/code" | tr '\n' ' ' | tr ';' '\n' |
        sed -nE 's/^.*extern const (struct )?sr_[a-z0-9_]+ ([^*()[]*)$/\2/p' | tr -s ', ' '\n' | sed '/^$/d' | sort -u \
        >"$scratch/rows"
    while read -r row; do
        home=$(grep -E ":(static )?const (struct )?sr_[a-z0-9_]+ $row = " "$scratch/code" | cut -d: -f1 || true)
        grep -wF "$row" "$scratch/code" | grep -vE '^[^:]*/table\.c:' | { if [ -n "$home" ]; then grep -vF "$home:"; else cat; fi; } |
            sed -E 's/^([^:]*:[0-9]+):/names \1: only a table.c names an implementation:/' || true
    done <"$scratch/rows"

    # forbidden
    grep -E '^src/' "$scratch/code" | grep -E \
        '(^|[^A-Za-z0-9_])(exit|_exit|_Exit|quick_exit|abort|printf|fprintf|vprintf|vfprintf|dprintf|puts|fputs|putchar|putc|fputc|perror|getenv|secure_getenv|setenv|system)[ \t]*\(' |
        sed -E 's/^([^:]*:[0-9]+):/forbidden \1: the library never prints, exits or reads the environment:/' || true
    grep -E '^(src|apps|include)/' "$scratch/code" | grep -E '#[ \t]*pragma[ \t]+omp' | grep -v '^src/base/pool\.c:' |
        sed -E 's/^([^:]*:[0-9]+):/forbidden \1: threads are started in base\/pool.c only:/' || true

    # enum
    grep -E '^(src|include)/' "$scratch/code" | grep -E \
        '(^|[^A-Za-z0-9_])(SR_(FMT|FORMAT|QTYPE|WTYPE)_[A-Z0-9_]+[ \t]*[,=}]|GGML_TYPE_[A-Z0-9_]+|(SR_)?([A-Z]+_)*I?Q[1-8]_(K|[01]|NL|XS|XXS|S|M)([^A-Za-z0-9_]|$)|case[ \t]+SR_(FMT|FORMAT)_)|switch[ \t]*\([^)]*(fmt|format)([^A-Za-z0-9_]|$)|(fmt|format)[ \t]*[!=]=[ \t]*&' |
        grep -vE ':[ \t]*#[ \t]*(ifndef|define)[ \t]+[A-Z0-9_]+_H[ \t]*$' |
        sed -E 's/^([^:]*:[0-9]+):/enum \1: a format is a row of the table, never a case:/' || true
}

lengths() {
    (cd "$1" && sources . | while read -r file; do
        n=$(wc -l <"$file")
        [ "$n" -le 1500 ] || echo "warning: $file has $((n)) lines: which two topics live there?"
    done)
}

# ---------------------------------------------------------------- the rules can fail

failures=0
expect() { # rule (or "none"), file, text
    rm -rf "$scratch/tree"
    mkdir -p "$scratch/tree/src/fmt" "$scratch/tree/$(dirname "$2")"
    printf 'extern const sr_format sr_fmt_q5_k,\n    sr_fmt_q4_k;\n' >"$scratch/tree/src/fmt/table.c"
    printf 'const sr_format sr_fmt_q4_k = {0};\n' >"$scratch/tree/src/fmt/gguf_k.c"
    printf '%s\n' "$3" >"$scratch/tree/$2"
    found=$(violations "$scratch/tree")
    case $1:$found in
    none:) ;;
    none:*)
        echo "self-test: $2 with '$3' should pass, but: $found"
        failures=1
        ;;
    *)
        case $found in
        "$1 $2:"*) ;;
        *)
            echo "self-test: $2 with '$3' should break rule $1, found: ${found:-nothing}"
            failures=1
            ;;
        esac
        ;;
    esac
}

expect none src/core/a.c '#include "arch/arch.h"'
expect none src/text/a.c '#include "file/file.h"'
expect none apps/cli/a.c '#include "sirocco.h"'
expect none apps/cli/a.c '#include "base/json.h"'
expect none src/fmt/a.c '#include <stdint.h>'
expect include src/base/a.c '#include "file/file.h"'
expect include src/file/a.c '#include "fmt/fmt.h"'
expect include src/fmt/a.c '#include "dev/dev.h"'
expect include src/dev/dev.h '#include "cpu/kern.h"'
expect include src/cpu/a.c '#include "arch/arch.h"'
expect include src/arch/a.c '#include "cpu/kern.h"'
expect include src/cuda/a.cu '#include "cpu/kern.h"'
expect include src/arch/a.c '  # include "../cpu/kern.h"'
expect include src/text/a.c '#include "fmt/fmt.h"'
expect include src/core/a.c '#include "cpu/kern.h"'
expect include src/core/a.c '#include "quant/recipe.h"'
expect include src/core/a.c '#include "hub/hub.h"'
expect include src/hub/a.c '#include "file/file.h"'
expect include src/hub/a.c '#include <unistd.h>'
expect none src/hub/a.c '#include "base/disk.h"'
expect include apps/cli/a.c '#include "core/core.h"'
expect include include/sirocco.h '#include "base/err.h"'
expect include src/newfolder/a.c '#include "base/err.h"'
expect include src/fmt/a.c '#include <immintrin.h>'
expect include src/core/a.c '#include <pthread.h>'
expect names src/core/a.c 'const sr_format *f = &sr_fmt_q4_k;'
expect none src/fmt/gguf_k.c 'extern const sr_format sr_fmt_q4_k; void *f = &sr_fmt_q4_k;
const sr_format sr_fmt_q4_k = {0};'
expect none src/core/a.c '/* not &sr_fmt_q4_k */ int x;'
expect forbidden src/core/a.c 'void f(void) { exit(1); }'
expect forbidden src/core/a.c 'void f(void) { if (1) abort (); }'
expect forbidden src/base/log.c 'void f(void) { fprintf(stderr, "x"); }'
expect forbidden src/base/log.c 'void f(void) { printf("x"); }'
expect forbidden src/text/a.c 'int f(void) { return !getenv("X"); }'
expect forbidden src/cpu/a.c '#pragma omp parallel'
expect none src/base/pool.c '#pragma omp parallel'
expect none src/core/a.c 'void f(char *a) { snprintf(a, 1, "exit(1)"); } // printf("x")'
expect none apps/cli/a.c 'void f(void) { printf("x"); exit(1); }'
expect enum src/fmt/fmt.h 'enum { SR_FMT_Q4_K, SR_FMT_F16 };'
expect enum src/fmt/a.c 'enum kind { Q4_K = 12 };'
expect enum src/cpu/a.c 'void f(void) { switch (w->fmt->kind) { } }'
expect enum src/core/a.c 'if (w->fmt == &row) return;'
expect none src/fmt/fmt.h '#ifndef SR_FMT_FMT_H'
yes 'int x;' | head -n 1501 >"$scratch/long" || true
mkdir -p "$scratch/tree/src/core" && cp "$scratch/long" "$scratch/tree/src/core/long.c"
case $(lengths "$scratch/tree") in
*src/core/long.c*) ;;
*)
    echo "self-test: a file of 1501 lines gives no warning"
    failures=1
    ;;
esac
[ "$failures" = 0 ] || exit 1

# ---------------------------------------------------------------- the tree

lengths "$root"
found=$(violations "$root")
if [ -n "$found" ]; then
    printf '%s\n' "$found"
    exit 1
fi
echo "layers: $(sources "$root" | wc -l | tr -d ' ') files, no violations"

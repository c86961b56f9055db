#!/usr/bin/env bash
# Counts instructions and compares them with tests/instructions.tsv: a kernel that takes 2 % more than it did fails. No
# clock is looked at, so that a busy machine changes nothing.
#
#   tests/instructions.sh BUILD [--update]
#
# Kernels of `portable` and `avx2` run under callgrind: instructions per block of 256 columns. AVX-512, which valgrind
# does not know, is read: instructions of the inner loop of each GEMM kernel per vpdpbusd in it. Figures are those of one
# compiler; with another one there is nothing to compare, and it says so.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=$1
update=${2:-}
baseline=$root/tests/instructions.tsv
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-instructions.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

for tool in valgrind objdump; do
    command -v $tool >/dev/null || { echo "instructions.sh: no $tool: tools/setup.sh count installs it" >&2; exit 1; }
done

# The kernels of a set, counted: $scratch/SET.tsv.
count() { # set
    local out=$scratch/$1 n=0 name blocks total
    valgrind --tool=callgrind --callgrind-out-file="$out" --zero-before=measured --dump-after=measured \
        "$build/instructions" "$1" >"$out.names" 2>"$out.log" || { tail -n 20 "$out.log" >&2; return 1; }
    while IFS=$'\t' read -r name blocks; do
        n=$((n + 1))
        total=$(sed -n 's/^totals: //p' "$out.$n")
        printf '%s\t%s\t%s\n' "$1" "$name" "$(awk -v t="$total" -v b="$blocks" 'BEGIN { printf "%.1f", t / b }')"
    done <"$out.names" >"$out.tsv"
}

compiler=$("${CC:-cc}" --version | head -n 1)
count portable &
count avx2
wait $!
{
    printf '# %s\n' "$compiler"
    cat "$scratch/portable.tsv" "$scratch/avx2.tsv"
    # The loop with the fewest instructions of those that hold eight vpdpbusd or more.
    objdump -d --no-show-raw-insn "$build/instructions" | awk '
        function report(    i, k, dots, best, best_dots) {
            for (i = 1; i <= n; i++)
                if (target[i] != "" && target[i] in index_of && index_of[target[i]] <= i) {
                    dots = 0
                    for (k = index_of[target[i]]; k <= i; k++) dots += is_dot[k]
                    if (dots >= 8 && (!best || i - index_of[target[i]] + 1 < best)) {
                        best = i - index_of[target[i]] + 1
                        best_dots = dots
                    }
                }
            if (best) printf "avx512\t%s\t%.2f\n", name, best / best_dots
        }
        /^[0-9a-f]+ <.*>:$/ {
            if (name ~ /^g[0-9]+_(min_)?x[0-9]+$/) report()
            name = substr($2, 2, length($2) - 3)
            n = 0
            delete index_of
            next
        }
        /^ +[0-9a-f]+:/ {
            n++
            at = $1
            sub(":", "", at)
            index_of[at] = n
            is_dot[n] = $2 == "vpdpbusd"
            target[n] = $2 ~ /^j/ ? $3 : ""
        }' | sort -k 2
} >"$scratch/now"

if [ "$update" = --update ]; then
    cp "$scratch/now" "$baseline"
    echo "instructions: $(grep -vc '^#' "$baseline") figures written to tests/instructions.tsv"
    exit
fi
if [ "$(head -n 1 "$baseline")" != "# $compiler" ]; then
    echo "instructions: tests/instructions.tsv is of '$(head -n 1 "$baseline" | cut -c 3-)', this is '$compiler': not compared"
    exit
fi
awk -F'\t' '
    /^#/ { next }
    NR == FNR { old[$1 FS $2] = $3; next }
    { now[$1 FS $2] = 1 }
    !(($1 FS $2) in old) { printf "%s, %s: %s instructions, not in tests/instructions.tsv\n", $1, $2, $3; bad++; next }
    $3 > old[$1 FS $2] * 1.02 { printf "%s, %s: %s instructions, %s before\n", $1, $2, $3, old[$1 FS $2]; bad++ }
    $3 < old[$1 FS $2] * 0.98 { printf "%s, %s: %s instructions, %s before: better\n", $1, $2, $3, old[$1 FS $2]; better++ }
    END {
        for (k in old) if (!(k in now)) { printf "%s: gone\n", k; bad++ }
        if (bad) print "instructions: if this is meant, tests/instructions.sh BUILD --update writes it down"
        else printf "instructions: %d figures as before, %d better\n", NR - FNR, better
        exit bad > 0
    }' "$baseline" "$scratch/now"

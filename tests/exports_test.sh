#!/usr/bin/env bash
# The shared library exports what sirocco.h declares SR_API, all of it and nothing else.
#
#   exports_test.sh LIBRARY HEADER
set -euo pipefail

library=$1
header=$2
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-exports.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# The name before the first "(" of each SR_API declaration, which may be wrapped.
tr '\n' ' ' <"$header" | sed 's/SR_API/\
SR_API/g' | sed -nE 's/^SR_API [^(;]*[ *](sr_[a-z0-9_]+)\(.*/\1/p' | sort -u >"$scratch/declared"

if [ "$(uname -s)" = Darwin ]; then
    nm -gU "$library" | awk '{ sub(/^_/, "", $NF); print $NF }' | sort -u >"$scratch/exported"
else
    nm -D --defined-only "$library" | awk '$2 ~ /^[A-Z]$/ { sub(/@.*/, "", $NF); print $NF }' | sort -u >"$scratch/exported"
fi

[ -s "$scratch/declared" ] || { echo "exports: no SR_API found in $header"; exit 1; }
extra=$(comm -13 "$scratch/declared" "$scratch/exported" | tr '\n' ' ')
absent=$(comm -23 "$scratch/declared" "$scratch/exported" | tr '\n' ' ')
[ -z "$extra" ] || echo "exports: not declared SR_API, but visible: $extra"
[ -z "$absent" ] || echo "exports: declared SR_API, but not in the library: $absent"
[ -z "$extra$absent" ] || exit 1
echo "exports: $(wc -l <"$scratch/exported" | tr -d ' ') names"

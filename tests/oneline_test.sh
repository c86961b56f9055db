#!/usr/bin/env bash
# The library builds with one compiler line and no build system: instruction sets are chosen inside the files. Without
# optimization here, which takes a quarter of the time, and leaves in what a compiler may find dead: the names are looked
# for all the more.
#
#   oneline_test.sh [ROOT]     CC chooses the compiler
set -euo pipefail

cd "${1:-$(dirname "$0")/..}"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-oneline.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

sources=()
for file in src/{base,file,fmt,dev,cpu,arch,text,core,quant,hub}/*.c; do
    if [ -e "$file" ]; then sources+=("$file"); fi
done
libraries=(libpcre2-8 libutf8proc)
cat >"$scratch/main.c" <<'C'
#include "sirocco.h"
int main(void) { return sr_status_name(SR_OK) == 0; }
C

# A program, so that an undefined name shows too.
# shellcheck disable=SC2046 # several words are meant
"${CC:-cc}" -O0 -Iinclude -Isrc $(pkg-config --cflags "${libraries[@]}") "${sources[@]}" "$scratch/main.c" \
    -o "$scratch/program" $(pkg-config --libs "${libraries[@]}") -lm -pthread
"$scratch/program"

# The same files with libcurl and libyaml, where they are there: the define and the library are all that it takes.
if pkg-config --exists yaml-0.1; then
    # shellcheck disable=SC2046
    "${CC:-cc}" -O0 -DSR_HAVE_YAML=1 -Iinclude -Isrc $(pkg-config --cflags yaml-0.1) -c src/fmt/topology.c -o "$scratch/yaml.o"
fi
if pkg-config --exists libcurl; then
    # shellcheck disable=SC2046
    "${CC:-cc}" -O0 -DSR_HAVE_CURL=1 -Iinclude -Isrc $(pkg-config --cflags libcurl) -c src/hub/http.c -o "$scratch/http.o"
fi
echo "oneline: ${#sources[@]} files with ${CC:-cc}"

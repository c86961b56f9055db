#!/usr/bin/env bash
# End to end as a stranger: clones what is committed to a temporary folder with nothing beside it, runs `make run` twice,
# installs, takes the clone away and runs what was installed.
#
#   clean_clone.sh [REPOSITORY]
set -euo pipefail

repository=${1:-$(cd "$(dirname "$0")/.." && pwd)}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-clone.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
export YES=1

fail() {
    echo "clean clone: $1" >&2
    exit 1
}

# What was said after the prompt, of at least a few words.
check_story() { # file
    grep -q '[A-Za-z][a-z]* [a-z][a-z]* [a-z]' "$1" || fail "no continuation in: $(cat "$1")"
}

git clone -q "$repository" "$scratch/alone/sirocco"
cd "$scratch/alone/sirocco"
tell=(run -i "Once upon a time" --seed 1 --max-tokens 60)

make run </dev/null # sets up, builds; the story differs each time
make run ARGS='-i "Once upon a time" --seed 1 --max-tokens 60' </dev/null >"$scratch/made" 2>&1 || fail "make run ARGS=..."
build/sirocco "${tell[@]}" </dev/null >"$scratch/first"
build/sirocco "${tell[@]}" </dev/null >"$scratch/second"
check_story "$scratch/first"
cmp "$scratch/first" "$scratch/second" || fail "two runs differ"
grep -qF "$(head -n 1 "$scratch/first")" "$scratch/made" || fail "make run ARGS=... says something else: $(cat "$scratch/made")"
[ -z "$(git status --porcelain)" ] || fail "building leaves files behind: $(git status --porcelain)"

prefix=$scratch/prefix
make install PREFIX="$prefix" </dev/null >"$scratch/install.log" || fail "make install: $(cat "$scratch/install.log")"
DESTDIR=$scratch/stage make install PREFIX="$prefix" </dev/null >/dev/null
[ -x "$scratch/stage$prefix/bin/sirocco" ] || fail "DESTDIR is not honoured"
cd "$scratch"
rm -rf "$scratch/alone"
for file in bin/sirocco include/sirocco.h share/man/man1/sirocco.1 share/bash-completion/completions/sirocco \
    share/sirocco/models/story-6m/model.safetensors; do
    [ -s "$prefix/$file" ] || fail "not installed: $file"
done
"$prefix/bin/sirocco" "${tell[@]}" </dev/null >"$scratch/installed"
cmp "$scratch/first" "$scratch/installed" || fail "the installed command says something else"

# A program against the installed library, found through pkg-config.
cat >"$scratch/client.c" <<'C'
#include <sirocco.h>
#include <stdio.h>
int main(void) { return puts(sr_status_name(SR_OK)) < 0; }
C
for folder in "$prefix"/lib/pkgconfig "$prefix"/lib64/pkgconfig "$prefix"/lib/*/pkgconfig; do
    if [ -e "$folder/sirocco.pc" ]; then export PKG_CONFIG_PATH=$folder; fi
done
# shellcheck disable=SC2046 # several words are meant
"${CC:-cc}" $(pkg-config --cflags sirocco) "$scratch/client.c" -o "$scratch/client" $(pkg-config --libs sirocco)
LD_LIBRARY_PATH=$(pkg-config --variable=libdir sirocco) DYLD_LIBRARY_PATH=$(pkg-config --variable=libdir sirocco) \
    "$scratch/client" >/dev/null
# shellcheck disable=SC2046
"${CC:-cc}" $(pkg-config --cflags sirocco) "$scratch/client.c" -o "$scratch/static" \
    "$(pkg-config --variable=libdir sirocco)/libsirocco.a" $(pkg-config --static --libs-only-other sirocco) \
    $(pkg-config --libs libpcre2-8 libutf8proc) -lm $(pkg-config --libs libcurl 2>/dev/null || true)
"$scratch/static" >/dev/null

echo "clean clone: runs, repeats itself, installs; it said:"
cat "$scratch/first"

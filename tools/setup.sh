#!/usr/bin/env bash
# Lists the packages that are missing on this machine and installs them. Where all is there it says and does nothing.
#
#   tools/setup.sh [--check] [build] [test] [fuzz] [format] [count] [arm] [cache]
#
# build: compiler, CMake and libraries (the default)     test: cmocka
# count: valgrind and binutils, for `make count`
# arm: cross compiler for AArch64, qemu, and the libraries of that architecture, which apt is told to offer
# fuzz: clang with libFuzzer                              format: clang-format 14
# cache: ccache, for who builds the same files more than once
# --check lists only, and exits with 1 when something is missing. YES=1 or CI (not empty) installs without asking.
set -euo pipefail

check=
wants=
for arg in "$@"; do
    case $arg in
    --check) check=1 ;;
    build | test | fuzz | format | count | arm | cache) wants="$wants $arg" ;;
    *)
        sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
done
wants=${wants:- build}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-setup.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

have() { command -v "$1" >/dev/null 2>&1; }

# Package manager and its spelling of a need. An empty name means that the system has it, or that it is not packaged.
if have apt-get; then
    manager=apt
elif have dnf; then
    manager=dnf
elif have brew; then
    manager=brew
else
    manager=none
fi

package() {
    case $manager:$1 in
    apt:compiler) echo gcc libc6-dev ;;
    dnf:compiler) echo gcc ;;
    brew:compiler) ;; # xcode-select --install; told below
    *:make) echo make ;;
    *:cmake) echo cmake ;;
    dnf:ninja | apt:ninja) echo ninja-build ;;
    brew:ninja) echo ninja ;;
    dnf:pkg-config) echo pkgconf-pkg-config ;;
    *:pkg-config) echo pkg-config ;;
    apt:libpcre2-8) echo libpcre2-dev ;;
    dnf:libpcre2-8) echo pcre2-devel ;;
    *:libpcre2-8) echo pcre2 ;;
    apt:libutf8proc) echo libutf8proc-dev ;;
    dnf:libutf8proc) echo utf8proc-devel ;;
    *:libutf8proc) echo utf8proc ;;
    apt:libcurl) echo libcurl4-openssl-dev ;;
    dnf:libcurl) echo libcurl-devel ;;
    *:libcurl) echo curl ;;
    apt:openblas) echo libopenblas-dev ;;
    dnf:openblas) echo openblas-devel ;;
    apt:yaml-0.1) echo libyaml-dev ;;
    dnf:yaml-0.1) echo libyaml-devel ;;
    *:yaml-0.1) echo libyaml ;;
    apt:libedit) echo libedit-dev ;;
    dnf:libedit) echo libedit-devel ;;
    brew:libedit) ;; # part of macOS
    apt:cmocka) echo libcmocka-dev ;;
    dnf:cmocka) echo libcmocka-devel ;;
    brew:clang) echo llvm ;;
    apt:libfuzzer) echo libclang-rt-dev ;;
    dnf:libfuzzer) echo compiler-rt ;;
    brew:libfuzzer) ;; # part of llvm
    apt:clang-format) echo clang-format-14 ;;
    dnf:clang-format) echo clang-tools-extra ;;
    apt:arm-compiler) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
    apt:arm-qemu) echo qemu-user-static ;;
    apt:arm-libraries) echo libcmocka-dev:arm64 libpcre2-dev:arm64 libutf8proc-dev:arm64 ;;
    *:arm-*) ;;
    *) echo "$1" ;;
    esac
}

# Whether `compiler flags... <input.c` makes a program.
links() {
    have "$1" && "$@" -x c - -o "$scratch/out" >/dev/null 2>&1
}
hello() { echo 'int main(void) { return 0; }'; }

present() {
    case $1 in
    compiler) hello | links "${CC:-cc}" ;;
    make | cmake | pkg-config | clang | valgrind | ccache) have "$1" ;;
    binutils) have objdump ;;
    ninja) have ninja || have ninja-build ;;
    libedit) { have pkg-config && pkg-config --exists libedit; } || [ "$(uname -s)" = Darwin ] ;;
    libfuzzer)
        printf '%s\n' '#include <stddef.h>' \
            'int LLVMFuzzerTestOneInput(const unsigned char *d, size_t n) { return d[0] + (int)n > 300; }' |
            links clang -fsanitize=fuzzer,address,undefined
        ;;
    clang-format) have clang-format-14 || have clang-format ;;
    arm-compiler) hello | links aarch64-linux-gnu-gcc ;;
    arm-qemu) have qemu-aarch64-static ;;
    arm-libraries)
        have pkg-config && PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig \
            pkg-config --exists cmocka libpcre2-8 libutf8proc
        ;;
    *) have pkg-config && pkg-config --exists "$1" ;;
    esac
}

needs() {
    case $1 in
    build) echo compiler make cmake ninja pkg-config libpcre2-8 libutf8proc libcurl libedit openblas yaml-0.1 ;;
    test) echo cmocka ;;
    fuzz) echo clang libfuzzer ;;
    format) echo clang-format ;;
    count) echo valgrind binutils ;;
    arm) echo arm-compiler arm-qemu arm-libraries ;;
    cache) echo ccache ;;
    esac
}

# Ninja, libcurl, libedit, libyaml and OpenBLAS make things better; everything works without them.
optional() {
    case $1 in
    ninja | libcurl | libedit | openblas | yaml-0.1) ;;
    *) return 1 ;;
    esac
}

# Sets missing, and required to those of them that cannot be done without.
look() {
    missing=
    required=
    for want in $wants; do
        for need in $(needs "$want"); do
            if ! present "$need"; then
                missing="$missing $need"
                optional "$need" || required="$required $need"
            fi
        done
    done
}

# The end when nothing can be installed: only a failure where something required is missing.
give_up() {
    echo "setup: $1" >&2
    [ -z "$required" ] || exit 1
    echo "setup: going on without it" >&2
    exit 0
}

look
[ -n "$missing" ] || exit 0

packages=()
for need in $missing; do
    for name in $(package "$need"); do packages+=("$name"); done
done

echo "setup: missing here:$missing"
if [ -n "$check" ]; then
    echo "setup: packages ($manager): ${packages[*]-}"
    exit 1
fi

case "$manager $required " in
"none "*) give_up "neither apt-get, dnf nor brew is here; please install the above by hand" ;;
"brew "*" compiler "*) give_up "a C compiler comes with: xcode-select --install" ;;
esac
if [ "${#packages[@]}" = 0 ]; then # no package of this system would help
    give_up "not packaged here:$missing"
fi

as_root=()
if [ "$manager" != brew ] && [ "$(id -u)" != 0 ]; then
    have sudo || give_up "installing needs root and there is no sudo; as root, please install: ${packages[*]}"
    as_root=(sudo)
fi

case $manager in
apt) install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends) ;;
dnf) install=(dnf install -y) ;;
brew) install=(brew install) ;;
esac
install=(${as_root[@]+"${as_root[@]}"} "${install[@]}")

if [ "${YES:-}" != 1 ] && [ -z "${CI:-}" ]; then
    printf 'setup: %s %s\nsetup: run this? [y/N] ' "${install[*]}" "${packages[*]}"
    answer=
    read -r answer || echo
    case $answer in
    y | Y | yes) ;;
    *) give_up "nothing installed (YES=1 installs without asking)" ;;
    esac
fi

if [ "$manager" = apt ]; then
    foreign= # an architecture that apt does not offer yet
    case " ${packages[*]}" in
    *:arm64*) dpkg --print-foreign-architectures | grep -qx arm64 || foreign=arm64 ;;
    esac
    [ -z "$foreign" ] || ${as_root[@]+"${as_root[@]}"} dpkg --add-architecture "$foreign"
    if ! ${as_root[@]+"${as_root[@]}"} apt-get update -qq; then
        [ -n "$foreign" ] || exit 1
        ${as_root[@]+"${as_root[@]}"} dpkg --remove-architecture "$foreign"
        give_up "the mirrors in apt's sources have no packages of $foreign; please add one that has, for: ${packages[*]}"
    fi
    # Older releases have the sanitizers' run-time library inside clang itself.
    wanted=("${packages[@]}")
    packages=()
    for name in "${wanted[@]}"; do
        if [ "$name" != libclang-rt-dev ] || [ -n "$(apt-cache madison "$name")" ]; then packages+=("$name"); fi
    done
    [ "${#packages[@]}" != 0 ] || give_up "not packaged here:$missing"
fi
echo "setup: ${install[*]} ${packages[*]}"
"${install[@]}" "${packages[@]}" </dev/null

look
[ -n "$missing" ] || exit 0
if [ "$manager" = brew ]; then
    echo "setup: if clang is the one of brew's llvm, its bin folder must come first in PATH" >&2
fi
give_up "still missing after installing:$missing"

# shellcheck shell=sh
# Sourced by the scripts beside it, which take one argument: die, that argument as $build, and that its programs are
# there.
die() { # code, message
    echo "$(basename "$0"): error: $2" >&2
    exit "$1"
}

[ $# = 1 ] || die 2 "found $# arguments, expected one: bench/$(basename "$0") BUILD"
build=$1
for program in sirocco synthetic; do
    [ -x "$build/$program" ] || die 2 "$build/$program: not there; build it: cmake --build $build --target $program"
done

# Toolchain of the preset `arm`: a cross build on Debian, with the packages that `tools/setup.sh arm` installs, whose
# programs run under qemu. QEMU_CPU=neoverse-n1 chooses the processor (`qemu-aarch64-static -cpu help`).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static)
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig)

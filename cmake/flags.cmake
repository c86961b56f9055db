# Language, warnings, optimization.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")

# y = scale * code - min must round twice: it is the reference's arithmetic, bit for bit.
add_compile_options(-Wall -Wextra -Wundef -Wshadow -ffp-contract=off)
if(SIROCCO_WERROR)
  add_compile_options(-Werror)
endif()

add_compile_definitions(_POSIX_C_SOURCE=200809L)
if(APPLE)
  add_compile_definitions(_DARWIN_C_SOURCE)
endif()

if(SIROCCO_SANITIZE)
  # -g1: reports need lines. Variables are a third of the time that the units of the instruction sets take.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=address,undefined)
endif()
if(SIROCCO_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "The fuzz targets need clang (libFuzzer): set CC=clang. `make fuzz` does that.")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

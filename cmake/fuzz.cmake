# libFuzzer: one program per fuzz/*_fuzz.c. tools/fuzz.sh runs them with their seeds. They read; nothing of them multiplies,
# and so the units of the instruction sets, which take most of a build with sanitizers, are left out.

file(GLOB FUZZED_SOURCES CONFIGURE_DEPENDS src/base/*.c src/file/*.c src/fmt/*.c src/text/*.c)
add_library(fuzzed STATIC EXCLUDE_FROM_ALL ${FUZZED_SOURCES})
target_include_directories(fuzzed PUBLIC include src)
target_link_libraries(fuzzed PUBLIC ${SIROCCO_LIBRARIES})

file(GLOB FUZZ_SOURCES CONFIGURE_DEPENDS fuzz/*_fuzz.c)
add_custom_target(fuzzers)
foreach(source ${FUZZ_SOURCES})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} EXCLUDE_FROM_ALL ${source})
  target_link_libraries(${name} PRIVATE fuzzed -fsanitize=fuzzer)
  add_dependencies(fuzzers ${name})
endforeach()

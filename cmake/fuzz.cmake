# libFuzzer: one program per fuzz/*_fuzz.c. tools/fuzz.sh runs them with their seeds.

file(GLOB FUZZ_SOURCES CONFIGURE_DEPENDS fuzz/*_fuzz.c)
foreach(source ${FUZZ_SOURCES})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE src)
  target_link_libraries(${name} PRIVATE libsirocco -fsanitize=fuzzer)
endforeach()

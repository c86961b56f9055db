# CTest: one program per tests/*_test.c, the scripts of tests/, and the fuzz targets replaying their seeds.

enable_testing()

function(sirocco_test name timeout)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} ENVIRONMENT "CC=${CMAKE_C_COMPILER}")
endfunction()

file(GLOB TEST_SOURCES CONFIGURE_DEPENDS tests/*_test.c)
foreach(source ${TEST_SOURCES})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE src tests)
  target_link_libraries(${name} PRIVATE libsirocco PkgConfig::CMOCKA)
  target_compile_definitions(${name} PRIVATE SR_SOURCE_DIR="${PROJECT_SOURCE_DIR}" SR_BINARY_DIR="${PROJECT_BINARY_DIR}")
  set(args)
  if(SIROCCO_SANITIZE AND name MATCHES "^(kernels|rows)_test$")
    set(args all 3) # every third weight and shape: all of them took seven minutes
  endif()
  sirocco_test(${name} 600 ${name} ${args})
endforeach()
set_tests_properties(solve_test PROPERTIES SKIP_RETURN_CODE 77) # built without OpenBLAS

# What tests/instructions.sh counts; `make count`.
add_executable(instructions EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/tests/instructions.c)
target_include_directories(instructions PRIVATE src)
target_link_libraries(instructions PRIVATE libsirocco)

# A cross build (`make arm`) runs these; kernels on a processor of qemu that has the set and none above it and, as
# emulation is slow, with a part of the weights.
if(CMAKE_CROSSCOMPILING)
  function(emulated name processor)
    sirocco_test(${name} 1200 ${ARGN})
    set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT QEMU_CPU=${processor})
    set_property(TEST ${name} PROPERTY LABELS emulated)
  endfunction()
  foreach(kernels kernels rows)
    emulated(${kernels}_i8mm max ${kernels}_test i8mm 31)
    emulated(${kernels}_neon neoverse-n1 ${kernels}_test neon 31)
    emulated(${kernels}_portable cortex-a72 ${kernels}_test portable 101)
  endforeach()
  emulated(kernels_neon_refused cortex-a72 kernels_test neon)
  set_property(TEST kernels_neon_refused PROPERTY PASS_REGULAR_EXPRESSION "does not run the kernels of neon")
  emulated(formats max formats_test)
  emulated(base max base_test)
endif()

# A part of the command that is tested piece by piece.
target_sources(split_test PRIVATE ${PROJECT_SOURCE_DIR}/apps/cli/split.c ${PROJECT_SOURCE_DIR}/apps/cli/output.c)
target_include_directories(split_test PRIVATE ${PROJECT_SOURCE_DIR}/apps)

# It runs the command.
if(TARGET sirocco)
  add_dependencies(terminal_test sirocco)
endif()

# The hub of hub_test, for scripts.
add_executable(hub_server ${PROJECT_SOURCE_DIR}/tests/hub_server.c)
target_include_directories(hub_server PRIVATE src tests)
target_link_libraries(hub_server PRIVATE libsirocco PkgConfig::CMOCKA)

if(TARGET sirocco AND EXISTS ${PROJECT_SOURCE_DIR}/tests/cli_test.sh)
  sirocco_test(cli 600 bash ${PROJECT_SOURCE_DIR}/tests/cli_test.sh $<TARGET_FILE:sirocco> ${PROJECT_SOURCE_DIR})
endif()
if(TARGET sirocco)
  sirocco_test(peer 120 sh ${PROJECT_SOURCE_DIR}/tests/peer_test.sh ${PROJECT_BINARY_DIR} ${PROJECT_SOURCE_DIR})
endif()
if(TARGET sirocco AND NOT SIROCCO_SANITIZE) # sanitizers hold memory of their own
  sirocco_test(rss 120 sh ${PROJECT_SOURCE_DIR}/tests/rss_test.sh ${PROJECT_BINARY_DIR} ${PROJECT_SOURCE_DIR})
  set_tests_properties(rss PROPERTIES SKIP_RETURN_CODE 77) # Linux counts what it measures
endif()
if(TARGET sirocco AND NOT SIROCCO_SANITIZE) # quantize_test has the same paths, and takes less of sanitizers
  sirocco_test(quantize 600 bash ${PROJECT_SOURCE_DIR}/tests/quantize_test.sh $<TARGET_FILE:sirocco>
               $<TARGET_FILE:synthetic> ${PROJECT_SOURCE_DIR})
endif()
if(TARGET sirocco AND CURL_FOUND)
  sirocco_test(hub_cli 300 bash ${PROJECT_SOURCE_DIR}/tests/hub_cli_test.sh $<TARGET_FILE:sirocco>
               $<TARGET_FILE:hub_server> ${PROJECT_SOURCE_DIR})
endif()
if(NOT SIROCCO_SANITIZE) # what these look at does not depend on the flags of a build
  sirocco_test(layers 120 bash ${PROJECT_SOURCE_DIR}/tests/layers_test.sh ${PROJECT_SOURCE_DIR})
  sirocco_test(oneline 900 bash ${PROJECT_SOURCE_DIR}/tests/oneline_test.sh ${PROJECT_SOURCE_DIR})
  sirocco_test(exports 60 bash ${PROJECT_SOURCE_DIR}/tests/exports_test.sh
               $<TARGET_FILE:libsirocco-shared> ${PROJECT_SOURCE_DIR}/include/sirocco.h)
endif()

# Without libFuzzer a fuzz target still has to survive every committed seed, crashes of the past among them.
if(NOT SIROCCO_FUZZ)
  file(GLOB FUZZ_SOURCES CONFIGURE_DEPENDS fuzz/*_fuzz.c)
  foreach(source ${FUZZ_SOURCES})
    get_filename_component(target ${source} NAME_WE)
    string(REGEX REPLACE "_fuzz$" "" name ${target})
    add_executable(${name}_seeds ${source} fuzz/replay.c)
    target_include_directories(${name}_seeds PRIVATE src)
    target_link_libraries(${name}_seeds PRIVATE libsirocco)
    sirocco_test(${name}_seeds 300 ${name}_seeds ${PROJECT_SOURCE_DIR}/fuzz/seeds/${name})
  endforeach()
endif()

# The longest start first, so that none of them runs alone at the end.
foreach(name kernels_test rows_test solve_test quantize_test encode_test tokenizer_test story_test sampler_test cli attacks_test model_test formats_test)
  if(TEST ${name})
    set_property(TEST ${name} PROPERTY COST 100)
  endif()
endforeach()

# CTest: one program per tests/*_test.c, the scripts of tests/, and the fuzz targets replaying their seeds.

enable_testing()

file(GLOB TEST_SOURCES CONFIGURE_DEPENDS tests/*_test.c)
foreach(source ${TEST_SOURCES})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE src tests)
  target_link_libraries(${name} PRIVATE libsirocco PkgConfig::CMOCKA)
  target_compile_definitions(${name} PRIVATE SR_SOURCE_DIR="${PROJECT_SOURCE_DIR}" SR_BINARY_DIR="${PROJECT_BINARY_DIR}")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 600)
endforeach()

add_test(NAME layers COMMAND bash ${PROJECT_SOURCE_DIR}/tests/layers_test.sh ${PROJECT_SOURCE_DIR})
if(TARGET sirocco AND EXISTS ${PROJECT_SOURCE_DIR}/tests/cli_test.sh)
  add_test(NAME cli COMMAND bash ${PROJECT_SOURCE_DIR}/tests/cli_test.sh $<TARGET_FILE:sirocco> ${PROJECT_SOURCE_DIR})
  set_tests_properties(cli PROPERTIES TIMEOUT 600)
endif()
if(NOT SIROCCO_SANITIZE) # what these look at does not depend on the flags of a build
  add_test(NAME oneline COMMAND bash ${PROJECT_SOURCE_DIR}/tests/oneline_test.sh ${PROJECT_SOURCE_DIR})
  set_tests_properties(oneline PROPERTIES TIMEOUT 900 ENVIRONMENT "CC=${CMAKE_C_COMPILER}")
  add_test(NAME exports COMMAND bash ${PROJECT_SOURCE_DIR}/tests/exports_test.sh
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
    add_test(NAME ${name}_seeds COMMAND ${name}_seeds ${PROJECT_SOURCE_DIR}/fuzz/seeds/${name})
    set_tests_properties(${name}_seeds PROPERTIES TIMEOUT 300)
  endforeach()
endif()

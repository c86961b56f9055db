# What `make install` copies. Man page and completion are printed by the command itself, from its option table.

set(SIROCCO_PC_LIBS_PRIVATE "-lm -pthread")
set(SIROCCO_PC_REQUIRES "libpcre2-8 libutf8proc")
if(CURL_FOUND)
  string(APPEND SIROCCO_PC_REQUIRES " libcurl")
endif()
if(BLAS_FOUND)
  string(APPEND SIROCCO_PC_REQUIRES " openblas")
endif()
if(YAML_FOUND)
  string(APPEND SIROCCO_PC_REQUIRES " yaml-0.1")
endif()
configure_file(sirocco.pc.in sirocco.pc @ONLY)

install(TARGETS libsirocco libsirocco-shared
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/sirocco.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_BINARY_DIR}/sirocco.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/sirocco/models)
install(FILES README.md LICENSE THIRD_PARTY.md DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)

if(TARGET sirocco)
  install(TARGETS sirocco RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  foreach(page --man:sirocco.1 --complete-bash:sirocco.bash)
    string(REPLACE ":" ";" page ${page})
    list(GET page 0 option)
    list(GET page 1 file)
    add_custom_command(
      OUTPUT ${file}
      COMMAND ${CMAKE_COMMAND} -DCOMMAND=$<TARGET_FILE:sirocco> -DOPTION=${option}
              -DOUTPUT=${PROJECT_BINARY_DIR}/${file} -P ${PROJECT_SOURCE_DIR}/cmake/help.cmake
      DEPENDS sirocco cmake/help.cmake
      VERBATIM)
    list(APPEND pages ${PROJECT_BINARY_DIR}/${file})
  endforeach()
  add_custom_target(pages ALL DEPENDS ${pages})
  install(FILES ${PROJECT_BINARY_DIR}/sirocco.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 OPTIONAL)
  install(FILES ${PROJECT_BINARY_DIR}/sirocco.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
          RENAME sirocco OPTIONAL)
endif()

# Writes `sirocco help OPTION` to OUTPUT. A command that cannot do it costs the page, not the build.
execute_process(COMMAND ${COMMAND} help ${OPTION} OUTPUT_VARIABLE text ERROR_VARIABLE error RESULT_VARIABLE result)
if(result EQUAL 0 AND NOT text STREQUAL "")
  file(WRITE ${OUTPUT} "${text}")
else()
  message(WARNING "`sirocco help ${OPTION}` gave nothing (${result}): ${OUTPUT} is left out. ${error}")
  file(REMOVE ${OUTPUT})
endif()

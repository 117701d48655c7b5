# Run after linking by sluice_add_suites: asks PROGRAM for its suites and writes their ctest entries to LIST.
execute_process(COMMAND ${PROGRAM} --gtest_list_tests OUTPUT_VARIABLE output RESULT_VARIABLE status
  WORKING_DIRECTORY ${DIRECTORY})
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} cannot list its tests: ${status}")
endif()
# A suite stands at the begin of a line and ends with a dot; its cases are indented.
string(REGEX MATCHALL "\n[A-Za-z_0-9/]+\\." suites "\n${output}")
string(REPLACE ";" " " properties "${PROPERTIES}")
set(entries "")
foreach(suite IN LISTS suites)
  string(REGEX REPLACE "\n|\\.$" "" suite "${suite}")
  set(name "[==[${PREFIX}.${suite}]==]")
  string(APPEND entries
    "add_test(${name} [==[${PROGRAM}]==] [==[--gtest_filter=${suite}.*]==] --gtest_brief=1)\n"
    "set_tests_properties(${name} PROPERTIES WORKING_DIRECTORY [==[${DIRECTORY}]==] ${properties})\n")
endforeach()
file(WRITE ${LIST} "${entries}")

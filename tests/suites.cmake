# sluice_add_suites(unit_tests unit PROPERTIES ...): ctest entries of a GoogleTest program, found anew whenever it is
# linked: one a component, for with sanitizers a start costs more than most cases, and one for each file that starts
# processes (it has to be alone) or takes its time, as `unit.worker_exec` (list_suites.cmake). One per case,
# which gtest_discover_tests makes, would be some 400 starts. What fails is named by the output.
function(sluice_add_suites program prefix)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" PROPERTIES)
  set(list ${CMAKE_CURRENT_BINARY_DIR}/${program}_suites.cmake)
  add_custom_command(TARGET ${program} POST_BUILD BYPRODUCTS ${list}
    COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:${program}> -DPREFIX=${prefix} -DLIST=${list}
      -DDIRECTORY=${CMAKE_BINARY_DIR} "-DPROPERTIES=${arg_PROPERTIES}" -P ${PROJECT_SOURCE_DIR}/tests/list_suites.cmake
    VERBATIM)
  # Before the first build there is one entry, which fails.
  file(WRITE ${list}.in
    "if(EXISTS ${list})\n  include(${list})\nelse()\n  add_test(${prefix}.not_built ${program}_is_not_built)\nendif()\n")
  set_property(TARGET ${program} APPEND PROPERTY LINK_DEPENDS ${PROJECT_SOURCE_DIR}/tests/list_suites.cmake)
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${list}.in)
endfunction()

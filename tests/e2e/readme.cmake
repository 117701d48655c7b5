# The C++ of README.md, built from the text itself; readme_test.py runs it.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/README.md)
file(READ ${PROJECT_SOURCE_DIR}/README.md readme)

function(readme_program name library)
  string(REGEX MATCH "```cpp run=${name}\n([^`]*)```" found "${readme}")
  if(NOT found)
    message(FATAL_ERROR "README.md has no block ```cpp run=${name}")
  endif()
  set(source ${CMAKE_CURRENT_BINARY_DIR}/readme_${name}.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "${CMAKE_MATCH_1}" @ONLY)
  add_executable(readme_${name} ${source})
  target_link_libraries(readme_${name} PRIVATE ${library})
  # As its readers compile it, who have not our flags: a job is written with the fields that it needs.
  target_compile_options(readme_${name} PRIVATE -Wno-missing-field-initializers)
endfunction()

readme_program(cpp_submit sluice_client)
readme_program(cpp_worker sluice_worker)

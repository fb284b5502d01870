# find_package(multipy_actors) gives the target multipy_actors::embed.
#
# This file lies in the folder of the Python package, wherever that is installed:
#   cmake -Dmultipy_actors_DIR=$(python -m multipy_actors cmake-dir) ...
# The version is that of the package. Programs find the library through the rpath that CMake gives them.
get_filename_component(_multipy_actors_folder "${CMAKE_CURRENT_LIST_DIR}" DIRECTORY)

if(NOT TARGET multipy_actors::embed)
  include(CMakeFindDependencyMacro)
  find_dependency(Threads)

  add_library(multipy_actors::core SHARED IMPORTED)
  set_target_properties(multipy_actors::core PROPERTIES
    IMPORTED_LOCATION "${_multipy_actors_folder}/libmultipy_core.so"
    IMPORTED_SONAME libmultipy_core.so)

  add_library(multipy_actors::embed SHARED IMPORTED)
  set_target_properties(multipy_actors::embed PROPERTIES
    IMPORTED_LOCATION "${_multipy_actors_folder}/libmultipy_embed.so"
    IMPORTED_SONAME libmultipy_embed.so
    IMPORTED_LINK_DEPENDENT_LIBRARIES multipy_actors::core
    INTERFACE_INCLUDE_DIRECTORIES "${_multipy_actors_folder}/include"
    INTERFACE_COMPILE_FEATURES cxx_std_17
    INTERFACE_LINK_LIBRARIES Threads::Threads)
endif()

foreach(_multipy_actors_file libmultipy_core.so libmultipy_embed.so)
  if(NOT EXISTS "${_multipy_actors_folder}/${_multipy_actors_file}")
    set(multipy_actors_FOUND FALSE)
    set(multipy_actors_NOT_FOUND_MESSAGE "${_multipy_actors_folder} has no ${_multipy_actors_file}")
  endif()
endforeach()
unset(_multipy_actors_file)
unset(_multipy_actors_folder)

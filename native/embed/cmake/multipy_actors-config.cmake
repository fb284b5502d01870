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

# multipy_actors_find_torch() gives the target multipy_actors::torch: the libtorch of the torch that is installed in the
# Python found, or named by Python_EXECUTABLE. Unlike find_package(Torch), which does as well where it works, it asks
# for no CUDA toolkit if that torch has CUDA.
function(multipy_actors_find_torch)
  if(TARGET multipy_actors::torch)
    return()
  endif()
  find_package(Python COMPONENTS Interpreter REQUIRED)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c "import os, torch
from torch.utils.cpp_extension import include_paths
print(*include_paths(), sep=';')
print(os.path.join(os.path.dirname(torch.__file__), 'lib'))
print(int(torch._C._GLIBCXX_USE_CXX11_ABI))"
    OUTPUT_VARIABLE told RESULT_VARIABLE status ERROR_VARIABLE why)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${Python_EXECUTABLE} has no torch to link: ${why}")
  endif()
  string(STRIP "${told}" told)
  string(REGEX MATCH "^([^\n]*)\n([^\n]*)\n([^\n]*)$" told "${told}")
  set(includes "${CMAKE_MATCH_1}")
  set(folder "${CMAKE_MATCH_2}")
  add_library(multipy_actors::torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(multipy_actors::torch SYSTEM INTERFACE ${includes})
  target_compile_definitions(multipy_actors::torch INTERFACE _GLIBCXX_USE_CXX11_ABI=${CMAKE_MATCH_3})
  # Nothing in a program may refer to libtorch.so itself, which registers the operators; hence --no-as-needed.
  target_link_libraries(multipy_actors::torch INTERFACE
    -Wl,--no-as-needed ${folder}/libtorch.so ${folder}/libtorch_cpu.so ${folder}/libc10.so -Wl,--as-needed)
endfunction()

foreach(_multipy_actors_file libmultipy_core.so libmultipy_embed.so)
  if(NOT EXISTS "${_multipy_actors_folder}/${_multipy_actors_file}")
    set(multipy_actors_FOUND FALSE)
    set(multipy_actors_NOT_FOUND_MESSAGE "${_multipy_actors_folder} has no ${_multipy_actors_file}")
  endif()
endforeach()
unset(_multipy_actors_file)
unset(_multipy_actors_folder)

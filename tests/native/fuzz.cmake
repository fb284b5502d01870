# The fuzzer of the ELF reader: libFuzzer comes with clang alone. It compiles native/elf itself, instrumented, instead
# of linking the core, which stays as it is.
if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "MULTIPY_FUZZ needs clang: configure with -DCMAKE_CXX_COMPILER=clang++ (Debian: apt-get install clang)")
endif()

find_package(Threads REQUIRED)
file(GLOB FUZZED CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/native/base/*.cpp ${CMAKE_SOURCE_DIR}/native/elf/*.cpp)
list(FILTER FUZZED EXCLUDE REGEX "/tls_descriptor_")
list(APPEND FUZZED ${CMAKE_SOURCE_DIR}/native/elf/tls_descriptor_${CMAKE_SYSTEM_PROCESSOR}.cpp)

set(FUZZ_FLAGS -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
add_executable(multipy_fuzz_elf_file ${CMAKE_SOURCE_DIR}/tests/native/fuzz_elf_file.cpp ${FUZZED})
target_include_directories(multipy_fuzz_elf_file PRIVATE ${CMAKE_SOURCE_DIR}/native)
target_compile_options(multipy_fuzz_elf_file PRIVATE ${FUZZ_FLAGS} -O1 -g)
target_link_options(multipy_fuzz_elf_file PRIVATE ${FUZZ_FLAGS})
target_link_libraries(multipy_fuzz_elf_file PRIVATE Threads::Threads ${CMAKE_DL_LIBS})

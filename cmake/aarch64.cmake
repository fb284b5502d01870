# Cross-compiles for 64-bit Arm Linux with Debian's compiler (packages g++-aarch64-linux-gnu and qemu-user); what is
# built runs under qemu. MULTIPY_SYSROOT is a folder with Debian's arm64 packages: libraries to run with, and a Python
# whose headers the extension is compiled against. tests/aarch64/run.py makes one.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(MULTIPY_SYSROOT "" CACHE PATH "Folder with the unpacked arm64 packages")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES MULTIPY_SYSROOT)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${MULTIPY_SYSROOT})

# Debian keeps half of Python's configuration in a folder of its own; after the compiler's folders, so that the C
# library's headers are those that belong to the compiler.
set(CMAKE_CXX_FLAGS_INIT "-idirafter ${MULTIPY_SYSROOT}/usr/include")

set(CMAKE_FIND_ROOT_PATH ${MULTIPY_SYSROOT} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)

// The seam: the libc functions that must answer for the calling interpreter instead of for the process.
//
// References of private images to these names are bound to our functions, so CPython's import machinery, ctypes, cffi
// and lazily loading libraries arrive here without knowing. Each finds its namespace by the caller's return address;
// when that lies in no image (a callback through a shared library), by the thread. Code of shared libraries and of
// the host never comes here.
//
//   dlopen dlmopen dlsym dlvsym dlclose dlerror dladdr dl_iterate_phdr      libraries
//   __cxa_atexit __cxa_finalize                                             run at the interpreter's end
//   getenv secure_getenv setenv putenv unsetenv clearenv environ            its own environment
//   execv execvp system                                                     pass that environment on
//   fork execve execvpe posix_spawn posix_spawnp (and these)                the child has the host's signal mask
//   pthread_atfork __register_atfork                                        run when this interpreter forks, only then
//   sigaction signal                                                        take no effect: signals are the host's
//
// What locks and closes files has a file of its own, seam_locks.h. What is taken of a GPU goes through functions of
// ours as well: cuda_seam.h.
#pragma once

#include <string_view>

#include "elf/environment.h"

namespace multipy::elf {

/// What `name` is bound to in a private image; null: nothing special.
void* seam_symbol(std::string_view name, Environment& environment);

}  // namespace multipy::elf

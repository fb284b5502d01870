// The seam: the libc functions that must answer for the calling interpreter instead of for the process.
//
// References of private images to these names are bound to our functions, so CPython's import machinery, ctypes, cffi
// and lazily loading libraries arrive here without knowing. Each finds its namespace by the caller's return address;
// when that lies in no image (a callback through a shared library), by the thread. Shared libraries come here for some
// of these as well (shared_calls.h); the host's code never does.
//
//   dlopen dlmopen dlsym dlvsym dlclose dlerror dladdr dl_iterate_phdr      libraries
//   __cxa_atexit __cxa_finalize                                             run at the interpreter's end
//   getenv secure_getenv setenv putenv unsetenv clearenv environ            its own environment
//   execv execl execlp execvp system popen pclose                           pass that environment on
//   fork forkpty execve execle execvpe posix_spawn posix_spawnp … (and these) the child has the host's signal mask
//   pthread_create                                                          the thread is the interpreter's
//   tzset localtime localtime_r mktime ctime strftime wcsftime … tzname     its own time zone
//   setlocale localeconv                                                    its own locale
//   setrlimit setuid setsid … (and chdir where it must)                     refused: the process's, which is the host's
//   sched_setaffinity setpriority … of this process                         is the interpreter's own thread
//   strerror                                                                says why something was refused
//   pthread_atfork __register_atfork                                        run when this interpreter forks, only then
//   sigaction signal                                                        take no effect: signals are the host's
//
// What locks and closes files has a file of its own, seam_locks.h. What is taken of a GPU goes through functions of
// ours as well: cuda_seam.h.
#pragma once

#include <string_view>

namespace multipy::elf {

class Namespace;

/// What `name` is bound to in a private image of `space`; null: nothing special.
void* seam_symbol(std::string_view name, Namespace& space);
/// What `name` is bound to in shared libraries that interpreters use (shared_calls.h); null: nothing special.
void* shared_seam_symbol(std::string_view name);

}  // namespace multipy::elf

// The part of the seam that starts programs: they get the interpreter's environment, and the signal mask of the host,
// since an interpreter's threads block all signals and a program would go on blocking them.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "base/process_lock.h"
#include "elf/caller.h"

namespace multipy::elf {

namespace {

char** environment_of(const Caller& caller) {
  return caller.space == nullptr ? environ : caller.space->environment().array();
}

/// Prepares a child to become another program. False: it is no child, but the process, which is the host's.
bool becomes_program(const Caller& caller) {
  if (caller.is_in_interpreter()) return refuse("exec would replace the process, which is the host's") == 0;
  if (caller.space != nullptr) ::pthread_sigmask(SIG_SETMASK, &caller.space->host_signal_mask(), nullptr);
  return true;
}

int seam_execve(const char* path, char* const* arguments, char* const* variables) {
  MULTIPY_CALLER;
  if (!becomes_program(caller)) return -1;
  return ::execve(path, arguments, variables);
}

int seam_execv(const char* path, char* const* arguments) {
  MULTIPY_CALLER;
  if (!becomes_program(caller)) return -1;
  return ::execve(path, arguments, environment_of(caller));
}

int seam_execvp(const char* file, char* const* arguments) {
  MULTIPY_CALLER;
  if (!becomes_program(caller)) return -1;
  return ::execvpe(file, arguments, environment_of(caller));
}

int seam_execvpe(const char* file, char* const* arguments, char* const* variables) {
  MULTIPY_CALLER;
  if (!becomes_program(caller)) return -1;
  return ::execvpe(file, arguments, variables);
}

int seam_fexecve(int file, char* const* arguments, char* const* variables) {
  MULTIPY_CALLER;
  if (!becomes_program(caller)) return -1;
  return ::fexecve(file, arguments, variables);
}

int seam_execveat(int folder, const char* path, char* const* arguments, char* const* variables, int flags) {
  MULTIPY_CALLER;
  if (!becomes_program(caller)) return -1;
  return ::execveat(folder, path, arguments, variables, flags);
}

/// The arguments of execl and its like, null included, are on the caller's stack: nothing may be allocated after vfork.
std::size_t count_arguments(va_list rest) {
  std::size_t count = 1;
  while (va_arg(rest, char*) != nullptr) ++count;
  return count;
}

// Before any other local: what alloca gives lives as long as the function that this is written in.
#define MULTIPY_ARGUMENTS(list, first)                                                             \
  va_list rest;                                                                                    \
  va_start(rest, first);                                                                           \
  const std::size_t argument_count = (first) == nullptr ? 0 : count_arguments(rest);               \
  va_end(rest);                                                                                    \
  auto** const list = static_cast<char**>(__builtin_alloca((argument_count + 1) * sizeof(char*))); \
  list[0] = const_cast<char*>(first);                                                              \
  va_start(rest, first);                                                                           \
  for (std::size_t index = 1; index <= argument_count; ++index) (list)[index] = va_arg(rest, char*)

int seam_execl(const char* path, const char* first, ...) {
  MULTIPY_CALLER;
  MULTIPY_ARGUMENTS(arguments, first);
  va_end(rest);
  if (!becomes_program(caller)) return -1;
  return ::execve(path, arguments, environment_of(caller));
}

int seam_execlp(const char* file, const char* first, ...) {
  MULTIPY_CALLER;
  MULTIPY_ARGUMENTS(arguments, first);
  va_end(rest);
  if (!becomes_program(caller)) return -1;
  return ::execvpe(file, arguments, environment_of(caller));
}

int seam_execle(const char* path, const char* first, ...) {
  MULTIPY_CALLER;
  MULTIPY_ARGUMENTS(arguments, first);
  char* const* variables = va_arg(rest, char* const*);
  va_end(rest);
  if (!becomes_program(caller)) return -1;
  return ::execve(path, arguments, variables);
}

using Spawn = int (*)(pid_t*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*, char* const*,
                      char* const*);

int spawn(Spawn function, const Caller& caller, pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions,
          const posix_spawnattr_t* attributes, char* const* arguments, char* const* variables) {
  posix_spawnattr_t own;
  if (attributes != nullptr) {
    own = *attributes;
  } else {
    ::posix_spawnattr_init(&own);
  }
  short flags = 0;
  ::posix_spawnattr_getflags(&own, &flags);
  if (caller.space != nullptr && !(flags & POSIX_SPAWN_SETSIGMASK)) {
    ::posix_spawnattr_setflags(&own, static_cast<short>(flags | POSIX_SPAWN_SETSIGMASK));
    ::posix_spawnattr_setsigmask(&own, &caller.space->host_signal_mask());
  }
  return function(pid, file, actions, &own, arguments, variables);
}

int seam_posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                     const posix_spawnattr_t* attributes, char* const* arguments, char* const* variables) {
  MULTIPY_CALLER;
  return spawn(::posix_spawn, caller, pid, path, actions, attributes, arguments, variables);
}

int seam_posix_spawnp(pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions,
                      const posix_spawnattr_t* attributes, char* const* arguments, char* const* variables) {
  MULTIPY_CALLER;
  return spawn(::posix_spawnp, caller, pid, file, actions, attributes, arguments, variables);
}

/// Has a shell run `command`. Returns an errno.
int start_shell(const Caller& caller, const char* command, const posix_spawn_file_actions_t* actions, pid_t* child) {
  char shell[] = "sh";
  char option[] = "-c";
  char* arguments[] = {shell, option, const_cast<char*>(command), nullptr};
  return spawn(::posix_spawn, caller, child, "/bin/sh", actions, nullptr, arguments, environment_of(caller));
}

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return status;
}

int seam_system(const char* command) {
  MULTIPY_CALLER;
  if (caller.space == nullptr || command == nullptr) return ::system(command);
  pid_t child = 0;
  if (start_shell(caller, command, nullptr, &child) != 0) return 127 << 8;  // as if the shell had exited with 127
  return wait_for(child);
}

/// The streams of seam_popen that are open. The lock is held while a child is started, which must close them all.
struct OpenPipes {
  ProcessLock<std::mutex> mutex{ForkOrder::pipes};
  std::unordered_map<FILE*, pid_t> children;
};
OpenPipes& open_pipes() {
  static OpenPipes& instance = *new OpenPipes;
  return instance;
}

FILE* open_pipe(const Caller& caller, const char* command, const char* mode) {
  const bool reads = std::strchr(mode, 'r') != nullptr;
  const bool stays_on_exec = std::strchr(mode, 'e') == nullptr;
  if (reads == (std::strchr(mode, 'w') != nullptr) || std::strspn(mode, "rwe") != std::strlen(mode)) {
    errno = EINVAL;
    return nullptr;
  }
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return nullptr;
  const int ours = ends[reads ? 0 : 1];
  const int childs = ends[reads ? 1 : 0];
  FILE* stream = ::fdopen(ours, reads ? "r" : "w");
  if (stream == nullptr) {
    ::close(ours);
    ::close(childs);
    return nullptr;
  }
  OpenPipes& pipes = open_pipes();
  const std::lock_guard lock(pipes.mutex);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  for (const auto& [other, pid] : pipes.children) ::posix_spawn_file_actions_addclose(&actions, ::fileno(other));
  ::posix_spawn_file_actions_adddup2(&actions, childs, reads ? STDOUT_FILENO : STDIN_FILENO);
  pid_t child = 0;
  const int failure = start_shell(caller, command, &actions, &child);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(childs);
  if (failure != 0) {
    ::fclose(stream);
    errno = failure;
    return nullptr;
  }
  if (stays_on_exec) ::fcntl(ours, F_SETFD, 0);
  pipes.children.emplace(stream, child);
  return stream;
}

FILE* seam_popen(const char* command, const char* mode) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::popen(command, mode);
  return answer_or_errno([&] { return open_pipe(caller, command, mode); }, static_cast<FILE*>(nullptr));
}

int seam_pclose(FILE* stream) {
  pid_t child = 0;
  {
    OpenPipes& pipes = open_pipes();
    const std::lock_guard lock(pipes.mutex);
    const auto found = pipes.children.find(stream);
    if (found == pipes.children.end()) return ::pclose(stream);
    child = found->second;
    pipes.children.erase(found);
  }
  ::fclose(stream);
  return wait_for(child);
}

int seam_daemon(int stays_in_folder, int keeps_output) {
  MULTIPY_CALLER;
  if (!caller.is_in_interpreter()) return ::daemon(stays_in_folder, keeps_output);
  return refuse("daemon() would end the process, which is the host's");
}

}  // namespace

std::span<const SeamFunction> functions_of_programs() {
  static const std::array functions{
      SeamFunction{"execl", reinterpret_cast<void*>(seam_execl), true},
      SeamFunction{"execle", reinterpret_cast<void*>(seam_execle), true},
      SeamFunction{"execlp", reinterpret_cast<void*>(seam_execlp), true},
      SeamFunction{"execv", reinterpret_cast<void*>(seam_execv), true},
      SeamFunction{"execve", reinterpret_cast<void*>(seam_execve), true},
      SeamFunction{"execveat", reinterpret_cast<void*>(seam_execveat), true},
      SeamFunction{"execvp", reinterpret_cast<void*>(seam_execvp), true},
      SeamFunction{"execvpe", reinterpret_cast<void*>(seam_execvpe), true},
      SeamFunction{"fexecve", reinterpret_cast<void*>(seam_fexecve), true},
      SeamFunction{"posix_spawn", reinterpret_cast<void*>(seam_posix_spawn), true},
      SeamFunction{"posix_spawnp", reinterpret_cast<void*>(seam_posix_spawnp), true},
      SeamFunction{"system", reinterpret_cast<void*>(seam_system), true},
      SeamFunction{"popen", reinterpret_cast<void*>(seam_popen), true},
      SeamFunction{"pclose", reinterpret_cast<void*>(seam_pclose), true},
      SeamFunction{"daemon", reinterpret_cast<void*>(seam_daemon), true},
  };
  return functions;
}

}  // namespace multipy::elf

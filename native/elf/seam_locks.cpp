#include "elf/seam_locks.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>
#include <vector>

#include "elf/namespace.h"
#include "system/record_locks.h"

namespace multipy::elf {

namespace {

/// The locks of the interpreter whose code lies at `return_address`, or else runs on this thread; null: of none.
RecordLocks* locks_of(const void* return_address) {
  const Image* image = image_at(return_address);
  Namespace* space = image != nullptr ? &image->owner() : thread_namespace();
  return space == nullptr ? nullptr : &space->record_locks();
}
#define MULTIPY_LOCKS locks_of(__builtin_return_address(0))

int fail(int error) {
  errno = error;
  return -1;
}

int answer(int error) { return error == 0 ? 0 : fail(error); }

/// `locks` ends what it has on `descriptor`, whose close is to follow.
void end_locks(RecordLocks* locks, int descriptor) {
  if (locks != nullptr && descriptor >= 0) locks->closing(descriptor);
}

int seam_fcntl(int descriptor, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  if (command == F_SETLK || command == F_SETLKW || command == F_GETLK) {
    RecordLocks* locks = RecordLocks::is_this_process() ? MULTIPY_LOCKS : nullptr;
    if (locks != nullptr && argument != nullptr) {
      auto& request = *static_cast<struct flock*>(argument);
      return answer(command == F_GETLK ? locks->get(descriptor, request)
                                       : locks->set(descriptor, request, command == F_SETLKW));
    }
  }
  return ::fcntl(descriptor, command, argument);
}

int seam_lockf(int descriptor, int command, off_t length) {
  RecordLocks* locks = RecordLocks::is_this_process() ? MULTIPY_LOCKS : nullptr;
  if (locks == nullptr) return ::lockf(descriptor, command, length);
  struct flock request{};
  request.l_type = command == F_ULOCK ? F_UNLCK : F_WRLCK;
  request.l_whence = SEEK_CUR;
  request.l_len = length;
  switch (command) {
    case F_ULOCK:
    case F_TLOCK:
      return answer(locks->set(descriptor, request, false));
    case F_LOCK:
      return answer(locks->set(descriptor, request, true));
    case F_TEST: {
      // As in glibc, which asks for a lock for reading.
      request.l_type = F_RDLCK;
      if (const int error = locks->get(descriptor, request)) return fail(error);
      return request.l_type == F_UNLCK ? 0 : fail(EACCES);
    }
    default:
      return fail(EINVAL);
  }
}

int seam_close(int descriptor) {
  RecordLocks* locks = RecordLocks::is_this_process() ? MULTIPY_LOCKS : nullptr;
  if (locks == nullptr) return ::close(descriptor);
  if (RecordLocks::any() && RecordLocks::is_ours(descriptor)) return fail(EBADF);
  return answer(locks->close(descriptor));
}

/// A descriptor that was kept when `locks` was to close it; -1: there is none.
int kept(RecordLocks* locks, int folder, const char* path, int flags) {
  return locks == nullptr || path == nullptr ? -1 : locks->reopen(folder, path, flags);
}

mode_t mode_of(int flags, va_list rest) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? static_cast<mode_t>(va_arg(rest, int)) : 0;
}

int seam_open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  if (RecordLocks::any_kept()) {
    if (const int descriptor = kept(MULTIPY_LOCKS, AT_FDCWD, path, flags); descriptor >= 0) return descriptor;
  }
  return ::open(path, flags, mode);
}

int seam_openat(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  if (RecordLocks::any_kept()) {
    if (const int descriptor = kept(MULTIPY_LOCKS, folder, path, flags); descriptor >= 0) return descriptor;
  }
  return ::openat(folder, path, flags, mode);
}

int seam_fclose(FILE* stream) {
  if (RecordLocks::any() && stream != nullptr) {
    // What is written last is written under the lock.
    ::fflush(stream);
    end_locks(MULTIPY_LOCKS, ::fileno(stream));
  }
  return ::fclose(stream);
}

FILE* seam_freopen(const char* path, const char* mode, FILE* stream) {
  if (RecordLocks::any() && stream != nullptr) {
    ::fflush(stream);
    end_locks(MULTIPY_LOCKS, ::fileno(stream));
  }
  return ::freopen(path, mode, stream);
}

/// Whether dup2 from `descriptor` to `onto` closes `onto`.
bool closes(int descriptor, int onto) { return descriptor != onto && ::fcntl(descriptor, F_GETFD) >= 0; }

int seam_dup2(int descriptor, int onto) {
  if (RecordLocks::any() && closes(descriptor, onto)) end_locks(MULTIPY_LOCKS, onto);
  return ::dup2(descriptor, onto);
}

int seam_dup3(int descriptor, int onto, int flags) {
  if (RecordLocks::any() && closes(descriptor, onto)) end_locks(MULTIPY_LOCKS, onto);
  return ::dup3(descriptor, onto, flags);
}

/// The descriptors of this process from `first` to `last`, but for those of record locks.
std::vector<int> descriptors_between(unsigned first, unsigned last) {
  std::vector<int> all;
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return all;
  while (const dirent* entry = ::readdir(folder)) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    const int descriptor = std::atoi(entry->d_name);
    const auto number = static_cast<unsigned>(descriptor);
    if (number < first || number > last || descriptor == ::dirfd(folder)) continue;
    if (!RecordLocks::is_ours(descriptor)) all.push_back(descriptor);
  }
  ::closedir(folder);
  return all;
}

/// The system call, as older versions of glibc have no function for it.
int call_close_range(unsigned first, unsigned last, int flags) {
#ifndef SYS_close_range
  constexpr long SYS_close_range = 436;
#endif
  return static_cast<int>(::syscall(SYS_close_range, first, last, flags));
}

int seam_close_range(unsigned first, unsigned last, int flags) {
  RecordLocks* locks = RecordLocks::any() ? MULTIPY_LOCKS : nullptr;
  if (flags != 0 || first > last || locks == nullptr) return call_close_range(first, last, flags);
  for (const int descriptor : descriptors_between(first, last)) {
    locks->close(descriptor);
  }
  return 0;
}

void seam_closefrom(int first) {
  const unsigned from = first < 0 ? 0 : static_cast<unsigned>(first);
  RecordLocks* locks = RecordLocks::any() ? MULTIPY_LOCKS : nullptr;
  if (locks == nullptr && call_close_range(from, UINT_MAX, 0) == 0) return;
  for (const int descriptor : descriptors_between(from, UINT_MAX)) {
    if (locks == nullptr) ::close(descriptor);
    if (locks != nullptr) locks->close(descriptor);
  }
}

pid_t seam_getpid() {
  const Image* image = image_at(__builtin_return_address(0));
  const Namespace* space = image != nullptr ? &image->owner() : thread_namespace();
  const bool is_one_of_many = space != nullptr && space->main_thread() != 0 && RecordLocks::is_this_process();
  return is_one_of_many ? space->main_thread() : ::getpid();
}

}  // namespace

std::uintptr_t process_number_seam() { return reinterpret_cast<std::uintptr_t>(seam_getpid); }

void* lock_seam(std::string_view name) {
  static const auto& table = *new std::unordered_map<std::string_view, void*>{
      {"fcntl", reinterpret_cast<void*>(seam_fcntl)},
      {"fcntl64", reinterpret_cast<void*>(seam_fcntl)},
      {"__fcntl", reinterpret_cast<void*>(seam_fcntl)},
      {"lockf", reinterpret_cast<void*>(seam_lockf)},
      {"lockf64", reinterpret_cast<void*>(seam_lockf)},
      {"close", reinterpret_cast<void*>(seam_close)},
      {"__close", reinterpret_cast<void*>(seam_close)},
      {"open", reinterpret_cast<void*>(seam_open)},
      {"open64", reinterpret_cast<void*>(seam_open)},
      {"openat", reinterpret_cast<void*>(seam_openat)},
      {"openat64", reinterpret_cast<void*>(seam_openat)},
      {"fclose", reinterpret_cast<void*>(seam_fclose)},
      {"freopen", reinterpret_cast<void*>(seam_freopen)},
      {"freopen64", reinterpret_cast<void*>(seam_freopen)},
      {"dup2", reinterpret_cast<void*>(seam_dup2)},
      {"__dup2", reinterpret_cast<void*>(seam_dup2)},
      {"dup3", reinterpret_cast<void*>(seam_dup3)},
      {"close_range", reinterpret_cast<void*>(seam_close_range)},
      {"closefrom", reinterpret_cast<void*>(seam_closefrom)},
  };
  const auto found = table.find(name);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace multipy::elf

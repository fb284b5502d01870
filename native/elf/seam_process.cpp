// The part of the seam for what a process has one of, and interpreters share with the host.
//
// What a job would change for all is refused, with an error that says what it is about: limits of resources, the user
// and the groups, the session and the process group. Setting what is set already succeeds. In a child that was forked
// all of it is the child's own, so subprocess's options work.
//
// What the kernel keeps for each thread (the processors it may run on, its priority) is an interpreter's own already.
// Only the number of the process, by which code names itself, stands for its main thread, and that is the host's: here
// it stands for the interpreter's.
#include <grp.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "elf/caller.h"

namespace multipy::elf {

namespace {

thread_local const char* refusal = nullptr;

constexpr const char* kDirectory =
    "the working directory is the process's: the system lets an interpreter have none of its own (it forbids unshare, "
    "as Docker does by default)";
constexpr const char* kLimits = "limits of resources are the process's, which is the host's: set them there";
constexpr const char* kUser = "the user and the groups are the process's, which is the host's: set them there";
constexpr const char* kSession = "the session and the process group are the process's, which is the host's";

char* seam_strerror(int number) {
  if (const char* reason = std::exchange(refusal, nullptr); number == ENOTSUP && reason != nullptr)
    return const_cast<char*>(reason);
  return ::strerror(number);
}

bool shares_directory(const Caller& caller) { return caller.is_in_interpreter() && !caller.space->has_own_directory(); }

int seam_chdir(const char* path) {
  MULTIPY_CALLER;
  return shares_directory(caller) ? refuse(kDirectory) : ::chdir(path);
}

int seam_fchdir(int folder) {
  MULTIPY_CALLER;
  return shares_directory(caller) ? refuse(kDirectory) : ::fchdir(folder);
}

int seam_chroot(const char* path) {
  MULTIPY_CALLER;
  return shares_directory(caller) ? refuse(kDirectory) : ::chroot(path);
}

bool is_own(const Caller& caller, pid_t process) {
  return caller.is_in_interpreter() && (process == 0 || process == caller.space->process());
}

int seam_prlimit(pid_t process, int resource, const rlimit64* limits, rlimit64* old) {
  MULTIPY_CALLER;
  const auto which = static_cast<__rlimit_resource>(resource);
  if (!is_own(caller, process) || limits == nullptr) return ::prlimit64(process, which, limits, old);
  rlimit64 now{};
  if (::getrlimit64(which, &now) != 0) return -1;
  if (now.rlim_cur != limits->rlim_cur || now.rlim_max != limits->rlim_max) return refuse(kLimits);
  if (old != nullptr) *old = now;
  return 0;
}

int seam_setrlimit(int resource, const rlimit64* limits) {
  MULTIPY_CALLER;
  const auto which = static_cast<__rlimit_resource>(resource);
  if (!caller.is_in_interpreter()) return ::setrlimit64(which, limits);
  rlimit64 now{};
  if (::getrlimit64(which, &now) != 0) return -1;
  return now.rlim_cur == limits->rlim_cur && now.rlim_max == limits->rlim_max ? 0 : refuse(kLimits);
}
static_assert(sizeof(rlimit) == sizeof(rlimit64), "one function does for both names");

/// Real, effective and saved.
struct Identity {
  unsigned real = 0, effective = 0, saved = 0;
};
constexpr unsigned kUnchanged = static_cast<unsigned>(-1);

Identity user() {
  Identity now;
  ::getresuid(&now.real, &now.effective, &now.saved);
  return now;
}

Identity group() {
  Identity now;
  ::getresgid(&now.real, &now.effective, &now.saved);
  return now;
}

int keep(const Identity& now, const Identity& wanted) {
  const auto same = [](unsigned is, unsigned becomes) { return becomes == kUnchanged || becomes == is; };
  const bool all =
      same(now.real, wanted.real) && same(now.effective, wanted.effective) && same(now.saved, wanted.saved);
  return all ? 0 : refuse(kUser);
}

int seam_setuid(uid_t id) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? keep(user(), {id, id, id}) : ::setuid(id);
}

int seam_seteuid(uid_t id) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? keep(user(), {kUnchanged, id, kUnchanged}) : ::seteuid(id);
}

int seam_setreuid(uid_t real, uid_t effective) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? keep(user(), {real, effective, kUnchanged}) : ::setreuid(real, effective);
}

int seam_setresuid(uid_t real, uid_t effective, uid_t saved) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? keep(user(), {real, effective, saved}) : ::setresuid(real, effective, saved);
}

int seam_setgid(gid_t id) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? keep(group(), {id, id, id}) : ::setgid(id);
}

int seam_setegid(gid_t id) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? keep(group(), {kUnchanged, id, kUnchanged}) : ::setegid(id);
}

int seam_setregid(gid_t real, gid_t effective) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? keep(group(), {real, effective, kUnchanged}) : ::setregid(real, effective);
}

int seam_setresgid(gid_t real, gid_t effective, gid_t saved) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? keep(group(), {real, effective, saved}) : ::setresgid(real, effective, saved);
}

int seam_setgroups(std::size_t count, const gid_t* groups) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? refuse(kUser) : ::setgroups(count, groups);
}

int seam_initgroups(const char* name, gid_t more) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? refuse(kUser) : ::initgroups(name, more);
}

pid_t seam_setsid() {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? refuse(kSession) : ::setsid();
}

int seam_setpgid(pid_t process, pid_t leader) {
  MULTIPY_CALLER;
  if (!is_own(caller, process)) return ::setpgid(process, leader);
  return ::getpgrp() == (leader == 0 ? ::getpid() : leader) ? 0 : refuse(kSession);
}

int seam_setpgrp() {
  MULTIPY_CALLER;
  if (!caller.is_in_interpreter()) return ::setpgrp();
  return ::getpgrp() == ::getpid() ? 0 : refuse(kSession);
}

/// The thread that `process` stands for.
pid_t thread_of(const Caller& caller, pid_t process) {
  return process != 0 && is_own(caller, process) ? caller.space->main_thread() : process;
}

int seam_sched_setaffinity(pid_t process, std::size_t size, const cpu_set_t* processors) {
  MULTIPY_CALLER;
  return ::sched_setaffinity(thread_of(caller, process), size, processors);
}

int seam_sched_getaffinity(pid_t process, std::size_t size, cpu_set_t* processors) {
  MULTIPY_CALLER;
  return ::sched_getaffinity(thread_of(caller, process), size, processors);
}

int seam_sched_setscheduler(pid_t process, int policy, const sched_param* parameters) {
  MULTIPY_CALLER;
  return ::sched_setscheduler(thread_of(caller, process), policy, parameters);
}

int seam_sched_getscheduler(pid_t process) {
  MULTIPY_CALLER;
  return ::sched_getscheduler(thread_of(caller, process));
}

int seam_sched_setparam(pid_t process, const sched_param* parameters) {
  MULTIPY_CALLER;
  return ::sched_setparam(thread_of(caller, process), parameters);
}

int seam_sched_getparam(pid_t process, sched_param* parameters) {
  MULTIPY_CALLER;
  return ::sched_getparam(thread_of(caller, process), parameters);
}

/// Of getpriority and setpriority.
id_t priority_of(const Caller& caller, int which, id_t who) {
  return which == PRIO_PROCESS ? static_cast<id_t>(thread_of(caller, static_cast<pid_t>(who))) : who;
}

int seam_getpriority(int which, id_t who) {
  MULTIPY_CALLER;
  return ::getpriority(static_cast<__priority_which>(which), priority_of(caller, which, who));
}

int seam_setpriority(int which, id_t who, int priority) {
  MULTIPY_CALLER;
  return ::setpriority(static_cast<__priority_which>(which), priority_of(caller, which, who), priority);
}

}  // namespace

int refuse(const char* reason) {
  refusal = reason;
  errno = ENOTSUP;
  return -1;
}

std::span<const SeamFunction> functions_of_process() {
  static const std::array functions{
      SeamFunction{"strerror", reinterpret_cast<void*>(seam_strerror)},
      SeamFunction{"chdir", reinterpret_cast<void*>(seam_chdir)},
      SeamFunction{"fchdir", reinterpret_cast<void*>(seam_fchdir)},
      SeamFunction{"chroot", reinterpret_cast<void*>(seam_chroot)},
      SeamFunction{"setrlimit", reinterpret_cast<void*>(seam_setrlimit)},
      SeamFunction{"setrlimit64", reinterpret_cast<void*>(seam_setrlimit)},
      SeamFunction{"prlimit", reinterpret_cast<void*>(seam_prlimit)},
      SeamFunction{"prlimit64", reinterpret_cast<void*>(seam_prlimit)},
      SeamFunction{"setuid", reinterpret_cast<void*>(seam_setuid)},
      SeamFunction{"seteuid", reinterpret_cast<void*>(seam_seteuid)},
      SeamFunction{"setreuid", reinterpret_cast<void*>(seam_setreuid)},
      SeamFunction{"setresuid", reinterpret_cast<void*>(seam_setresuid)},
      SeamFunction{"setgid", reinterpret_cast<void*>(seam_setgid)},
      SeamFunction{"setegid", reinterpret_cast<void*>(seam_setegid)},
      SeamFunction{"setregid", reinterpret_cast<void*>(seam_setregid)},
      SeamFunction{"setresgid", reinterpret_cast<void*>(seam_setresgid)},
      SeamFunction{"setgroups", reinterpret_cast<void*>(seam_setgroups)},
      SeamFunction{"initgroups", reinterpret_cast<void*>(seam_initgroups)},
      SeamFunction{"setsid", reinterpret_cast<void*>(seam_setsid)},
      SeamFunction{"setpgid", reinterpret_cast<void*>(seam_setpgid)},
      SeamFunction{"setpgrp", reinterpret_cast<void*>(seam_setpgrp)},
      SeamFunction{"sched_setaffinity", reinterpret_cast<void*>(seam_sched_setaffinity)},
      SeamFunction{"sched_getaffinity", reinterpret_cast<void*>(seam_sched_getaffinity)},
      SeamFunction{"sched_setscheduler", reinterpret_cast<void*>(seam_sched_setscheduler)},
      SeamFunction{"sched_getscheduler", reinterpret_cast<void*>(seam_sched_getscheduler)},
      SeamFunction{"sched_setparam", reinterpret_cast<void*>(seam_sched_setparam)},
      SeamFunction{"sched_getparam", reinterpret_cast<void*>(seam_sched_getparam)},
      SeamFunction{"getpriority", reinterpret_cast<void*>(seam_getpriority)},
      SeamFunction{"setpriority", reinterpret_cast<void*>(seam_setpriority)},
  };
  return functions;
}

}  // namespace multipy::elf

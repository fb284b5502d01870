#include "elf/seam.h"

#include <dlfcn.h>
#include <link.h>
#include <pty.h>
#include <signal.h>
#include <sys/auxv.h>
#include <unistd.h>
#include <utmp.h>

#include <array>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <unordered_map>

#include "elf/caller.h"
#include "elf/seam_locks.h"

namespace multipy::elf {

namespace {

/// Makes one dl* call of the namespace. dlerror then tells of this call's failure alone: not of an earlier one, nor of
/// what glibc did not find while the call looked here and there, nor of one inside a constructor it ran.
/// The caller is C code, through which nothing may be thrown.
template <typename Call>
void* answer(const char* name, Call call) {
  take_error_text();
  void* result = nullptr;
  try {
    result = call();
  } catch (const std::exception& error) {
    set_error_text(error.what(), name == nullptr ? "" : name);
  }
  ::dlerror();
  if (result != nullptr) take_error_text();
  return result;
}

void* seam_dlopen(const char* name, int flags) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::dlopen(name, flags);
  return answer(name, [&] { return caller.space->dlopen(name, flags, caller.image); });
}

void* seam_dlmopen(Lmid_t, const char* name, int flags) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::dlopen(name, flags);
  return answer(name, [&] { return caller.space->dlopen(name, flags, caller.image); });
}

void* seam_dlsym(void* handle, const char* name) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::dlsym(handle, name);
  return answer(name, [&] { return caller.space->dlsym(handle, name, nullptr, caller.image); });
}

void* seam_dlvsym(void* handle, const char* name, const char* version) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::dlvsym(handle, name, version);
  return answer(name, [&] { return caller.space->dlsym(handle, name, version, caller.image); });
}

int seam_dlclose(void* handle) {
  MULTIPY_CALLER;
  take_error_text();
  return caller.space == nullptr ? ::dlclose(handle) : caller.space->dlclose(handle);
}

char* seam_dlerror() {
  if (const char* text = take_error_text()) return const_cast<char*>(text);
  return ::dlerror();
}

int seam_dladdr(const void* address, Dl_info* info) {
  const Image* image = image_at(address);
  if (image == nullptr) return ::dladdr(address, info);
  info->dli_fname = image->file().path().c_str();
  info->dli_fbase = reinterpret_cast<void*>(image->base());
  info->dli_sname = nullptr;
  info->dli_saddr = nullptr;
  if (const auto symbol = image->file().nearest(reinterpret_cast<std::uintptr_t>(address) - image->base())) {
    info->dli_sname = symbol->name.data();
    info->dli_saddr = reinterpret_cast<void*>(image->base() + symbol->value);
  }
  return 1;
}

/// glibc's entry of the image, under its original path. An image's headers are those of its file.
dl_phdr_info entry_of(const Image& image) {
  dl_phdr_info entry{};
  const auto headers = image.file().program_headers();
  entry.dlpi_addr = image.base();
  entry.dlpi_name = image.file().path().c_str();
  entry.dlpi_phdr = headers.data();
  entry.dlpi_phnum = static_cast<ElfW(Half)>(headers.size());
  entry.dlpi_tls_modid = image.tls_module();
  // This thread's copy, if it has used it already.
  if (image.tls_module() != 0 && ::dlinfo(image.handle(), RTLD_DI_TLS_DATA, &entry.dlpi_tls_data) != 0)
    entry.dlpi_tls_data = nullptr;
  return entry;
}

/// Shows an interpreter the libraries of the process, and after them its own images, and nobody else's.
int seam_dl_iterate_phdr(int (*callback)(dl_phdr_info*, std::size_t, void*), void* data) {
  MULTIPY_CALLER;
  struct Context {
    int (*callback)(dl_phdr_info*, std::size_t, void*);
    void* data;
    decltype(dl_phdr_info::dlpi_adds) adds = 0;
    decltype(dl_phdr_info::dlpi_subs) subs = 0;
  } context{callback, data};
  const auto forward = [](dl_phdr_info* info, std::size_t size, void* argument) {
    auto& request = *static_cast<Context*>(argument);
    request.adds = info->dlpi_adds;
    request.subs = info->dlpi_subs;
    // Images are among them where they have no namespace of their own (link_maps.h).
    if (info->dlpi_addr != 0 && image_at(reinterpret_cast<void*>(info->dlpi_addr)) != nullptr) return 0;
    return request.callback(info, size, request.data);
  };
  int status = ::dl_iterate_phdr(forward, &context);
  for (std::size_t i = 0; status == 0 && caller.space != nullptr; ++i) {
    const Image* image = caller.space->image(i);
    if (image == nullptr) break;
    dl_phdr_info entry = entry_of(*image);
    entry.dlpi_adds = context.adds;
    entry.dlpi_subs = context.subs;
    status = callback(&entry, sizeof entry, data);
  }
  return status;
}

int seam_cxa_atexit(void (*function)(void*), void* argument, void* dso) {
  const Image* image = image_at(dso);
  const Caller caller(__builtin_return_address(0));
  Namespace* space = image != nullptr ? &image->owner() : caller.space;
  if (space == nullptr) return 0;
  return answer_or_errno([&] {
    space->at_exit(function, argument, dso);
    return 0;
  });
}

void seam_cxa_finalize(void* dso) {
  if (const Image* image = image_at(dso)) image->owner().run_at_exit(dso);
}

char* seam_getenv(const char* name) {
  MULTIPY_CALLER;
  return caller.space == nullptr ? ::getenv(name) : const_cast<char*>(caller.space->environment().get(name));
}

char* seam_secure_getenv(const char* name) {
  MULTIPY_CALLER;
  if (caller.space == nullptr || ::getauxval(AT_SECURE) != 0) return ::secure_getenv(name);
  return const_cast<char*>(caller.space->environment().get(name));
}

int seam_setenv(const char* name, const char* value, int overwrite) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::setenv(name, value, overwrite);
  return answer_or_errno([&] { return caller.space->environment().set(name, value, overwrite != 0); });
}

int seam_putenv(char* entry) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::putenv(entry);
  return answer_or_errno([&] { return caller.space->environment().put(entry); });
}

int seam_unsetenv(const char* name) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::unsetenv(name);
  return answer_or_errno([&] { return caller.space->environment().unset(name); });
}

int seam_clearenv() {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::clearenv();
  caller.space->environment().clear();
  return 0;
}

/// An interpreter's threads block all signals; programs they start must not.
void unblock_signals(const Caller& caller) {
  if (caller.space != nullptr) ::pthread_sigmask(SIG_SETMASK, &caller.space->host_signal_mask(), nullptr);
}

pid_t seam_fork() {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::fork();
  const pid_t child = answer_or_errno([&] { return caller.space->fork(); });
  if (child == 0) unblock_signals(caller);
  return child;
}

int at_fork(Namespace* space, void (*prepare)(), void (*parent)(), void (*child)()) {
  if (space == nullptr) return ::pthread_atfork(prepare, parent, child);
  return answer_or_errno([&] { return space->at_fork(prepare, parent, child); }) == 0 ? 0 : ENOMEM;
}

pid_t seam_forkpty(int* terminal, char* name, const termios* attributes, const winsize* size) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::forkpty(terminal, name, attributes, size);
  int childs = -1;
  if (::openpty(terminal, &childs, name, attributes, size) != 0) return -1;
  const pid_t child = answer_or_errno([&] { return caller.space->fork(); });
  if (child == 0) {
    unblock_signals(caller);
    ::close(*terminal);
    if (::login_tty(childs) != 0) ::_exit(1);
  } else {
    ::close(childs);
    if (child < 0) ::close(*terminal);
  }
  return child;
}

int seam_register_atfork(void (*prepare)(), void (*parent)(), void (*child)(), void* dso) {
  const Image* image = image_at(dso);
  const Caller caller(__builtin_return_address(0));
  Namespace* space = image != nullptr ? &image->owner() : caller.space;
  return at_fork(space, prepare, parent, child);
}

int seam_pthread_atfork(void (*prepare)(), void (*parent)(), void (*child)()) {
  MULTIPY_CALLER;
  return at_fork(caller.space, prepare, parent, child);
}

std::span<const SeamFunction> functions_of_libraries() {
  static const std::array functions{
      SeamFunction{"dlopen", reinterpret_cast<void*>(seam_dlopen)},
      SeamFunction{"dlmopen", reinterpret_cast<void*>(seam_dlmopen)},
      SeamFunction{"dlsym", reinterpret_cast<void*>(seam_dlsym)},
      SeamFunction{"dlvsym", reinterpret_cast<void*>(seam_dlvsym)},
      SeamFunction{"dlclose", reinterpret_cast<void*>(seam_dlclose)},
      SeamFunction{"dlerror", reinterpret_cast<void*>(seam_dlerror)},
      SeamFunction{"dladdr", reinterpret_cast<void*>(seam_dladdr)},
      SeamFunction{"dl_iterate_phdr", reinterpret_cast<void*>(seam_dl_iterate_phdr)},
      SeamFunction{"__cxa_atexit", reinterpret_cast<void*>(seam_cxa_atexit)},
      SeamFunction{"__cxa_finalize", reinterpret_cast<void*>(seam_cxa_finalize)},
      SeamFunction{"getenv", reinterpret_cast<void*>(seam_getenv), true},
      SeamFunction{"secure_getenv", reinterpret_cast<void*>(seam_secure_getenv), true},
      SeamFunction{"setenv", reinterpret_cast<void*>(seam_setenv), true},
      SeamFunction{"putenv", reinterpret_cast<void*>(seam_putenv), true},
      SeamFunction{"unsetenv", reinterpret_cast<void*>(seam_unsetenv), true},
      SeamFunction{"clearenv", reinterpret_cast<void*>(seam_clearenv), true},
      SeamFunction{"fork", reinterpret_cast<void*>(seam_fork)},
      SeamFunction{"forkpty", reinterpret_cast<void*>(seam_forkpty)},
      SeamFunction{"__register_atfork", reinterpret_cast<void*>(seam_register_atfork)},
      SeamFunction{"pthread_atfork", reinterpret_cast<void*>(seam_pthread_atfork)},
  };
  return functions;
}

using Table = std::unordered_map<std::string_view, void*>;

/// All of the seam, or what of it shared libraries are bound to.
Table functions_of_seam(bool all) {
  Table table;
  for (const auto functions :
       {functions_of_libraries(), functions_of_programs(), functions_of_threads(), functions_of_process(),
        functions_of_signals(), functions_of_time(), functions_of_locale()}) {
    for (const auto& each : functions) {
      if (all || each.in_shared) table.emplace(each.name, each.function);
    }
  }
  return table;
}

void* find_in(const Table& table, std::string_view name) {
  const auto found = table.find(name);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace

void* seam_symbol(std::string_view name, Namespace& space) {
  static const auto& table = *new Table(functions_of_seam(true));
  if (name == "environ" || name == "__environ" || name == "_environ") return space.environment().variable();
  if (void* variable = space.time_zone().variable(name)) return variable;
  if (void* function = lock_seam(name)) return function;
  return find_in(table, name);
}

void* shared_seam_symbol(std::string_view name) {
  static const auto& table = *new Table(functions_of_seam(false));
  return find_in(table, name);
}

}  // namespace multipy::elf

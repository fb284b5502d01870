// What a namespace answers to code of its own that opens libraries, looks up symbols, registers for the end of the
// process, forks or asks for signals; and what it says of failures, per thread, as dlerror does.
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/error.h"
#include "elf/namespace.h"
#include "elf/seam.h"
#include "elf/shared_calls.h"
#include "elf/shared_library.h"

namespace multipy::elf {

namespace {

thread_local LoadFailure last_failure;
thread_local std::string error_text;
thread_local bool error_pending = false;
thread_local bool error_text_lost = false;  // there was no memory for it

}  // namespace

bool take_failure(std::string_view text, LoadFailure& out) {
  if (last_failure.text.empty() || last_failure.text != text) return false;
  out = std::exchange(last_failure, {});
  return true;
}

void set_error_text(std::string_view text, std::string_view file, std::string_view symbol) noexcept {
  error_pending = true;
  try {
    last_failure = {std::string(text), std::string(file), std::string(symbol)};
    error_text = text;
    error_text_lost = false;
  } catch (const std::bad_alloc&) {
    error_text_lost = true;
  }
}

const char* take_error_text() noexcept {
  if (!error_pending) return nullptr;
  error_pending = false;
  return error_text_lost ? "out of memory" : error_text.c_str();
}

void* Namespace::dlopen(const char* name, int flags, const Image* caller) {
  if (name == nullptr) return ::dlopen(nullptr, flags);
  const std::lock_guard lock(mutex_);
  try {
    const Requesters chain = caller == nullptr ? Requesters() : requesters_of(*caller);
    const std::string asked(name);
    Image* image = asked.find('/') == std::string::npos ? known(asked) : nullptr;
    std::string path = asked;
    std::string reason;
    if (image == nullptr) {
      const auto found = find_library(asked, chain);
      if (!found) {
        void* handle = ::dlopen(name, flags);
        if (handle == nullptr) {
          const char* text = ::dlerror();
          set_error_text(text == nullptr ? asked + ": cannot open" : text, asked);
        } else {
          answer_for_interpreters(handle);
        }
        return handle;
      }
      path = *found;
      reason = why_private(path, chain);
      if (reason.empty()) {
        // Asked for by a bare name that only our search paths explain: glibc must be given the path.
        void* handle = asked == path ? nullptr : ::dlopen(name, flags | RTLD_NOLOAD);
        if (handle == nullptr) handle = ::dlopen(path.c_str(), flags);
        if (handle != nullptr) {
          note_shared(path);
          answer_for_interpreters(handle);
        }
        if (handle == nullptr) {
          const char* text = ::dlerror();
          set_error_text(text == nullptr ? path + ": cannot open" : text, path);
        }
        return handle;
      }
      const auto file = File::open(path);
      if (const auto found_file = by_file_.find(file->id()); found_file != by_file_.end()) image = found_file->second;
    }
    if (image == nullptr && (flags & RTLD_NOLOAD)) return nullptr;
    if (image != nullptr) path = image->file().path();
    return load(path, (flags & RTLD_GLOBAL) != 0, caller, reason).handle();
  } catch (const ImageError& error) {
    set_error_text(error.what(), error.file(), error.symbol());
  } catch (const std::exception& error) {
    set_error_text(std::string(name) + ": " + error.what(), name);
  }
  return nullptr;
}

void* Namespace::dlsym(void* handle, const char* name, const char* version, const Image* caller) {
  const std::lock_guard lock(mutex_);
  const SymbolName wanted(name, version == nullptr ? "" : version);
  static void* const main_program = ::dlopen(nullptr, RTLD_LAZY);
  const auto found = by_handle_.find(handle);
  if (found == by_handle_.end() && handle != RTLD_DEFAULT && handle != RTLD_NEXT && handle != main_program) {
    void* address = version == nullptr ? ::dlsym(handle, name) : ::dlvsym(handle, name, version);
    if (address == nullptr) {
      if (const char* text = ::dlerror()) set_error_text(text, "", name);
    }
    return address;
  }
  std::vector<Image*> scope;
  if (found != by_handle_.end()) {
    scope = closure_of(*found->second);
  } else if (handle != RTLD_NEXT) {
    scope = globals_;
    if (handle == RTLD_DEFAULT && caller != nullptr) {
      const auto own = closure_of(const_cast<Image&>(*caller));
      scope.insert(scope.end(), own.begin(), own.end());
    }
  }
  const Target target = find_in(scope, wanted).target;
  if (target.kind != Target::Kind::unresolved) return address_of(target);
  if (void* replacement = seam_symbol(name, *this)) return replacement;
  if (found == by_handle_.end()) {
    if (!is_python_name(name)) {
      if (void* address = find_shared(nullptr, wanted)) return address;
    }
  } else {
    for (const Image* image : scope) {
      for (void* shared : image->shared_needs) {
        if (void* address = find_shared(shared, wanted)) return address;
      }
    }
  }
  set_error_text((found == by_handle_.end() ? label_ : found->second->file().path()) + ": undefined symbol: " + name,
                 found == by_handle_.end() ? "" : found->second->file().path(), name);
  return nullptr;
}

int Namespace::dlclose(void* handle) {
  const std::lock_guard lock(mutex_);
  const auto found = by_handle_.find(handle);
  if (found == by_handle_.end()) return ::dlclose(handle);
  if (found->second->opened > 0) --found->second->opened;
  return 0;
}

void Namespace::at_exit(void (*function)(void*), void* argument, void* dso) {
  const std::lock_guard lock(mutex_);
  exit_functions_.push_back({function, argument, dso});
}

void Namespace::run_at_exit(void* dso) {
  // A function may register more while it runs; the lock is not held while it does.
  for (;;) {
    ExitFunction next{};
    {
      const std::lock_guard lock(mutex_);
      auto last = std::find_if(exit_functions_.rbegin(), exit_functions_.rend(),
                               [&](const ExitFunction& entry) { return dso == nullptr || entry.dso == dso; });
      if (last == exit_functions_.rend()) return;
      next = *last;
      exit_functions_.erase(std::next(last).base());
    }
    next.function(next.argument);
  }
}

int Namespace::at_fork(void (*prepare)(), void (*parent)(), void (*child)()) {
  const std::lock_guard lock(mutex_);
  fork_functions_.push_back({prepare, parent, child});
  return 0;
}

pid_t Namespace::fork() {
  // As glibc: prepare last registered first, the others in order.
  std::vector<ForkFunctions> functions;
  {
    const std::lock_guard lock(mutex_);
    functions = fork_functions_;
  }
  for (auto entry = functions.rbegin(); entry != functions.rend(); ++entry) {
    if (entry->prepare != nullptr) entry->prepare();
  }
  const pid_t pid = ::fork();
  if (pid == 0) signals_.install();
  for (const auto& entry : functions) {
    void (*function)() = pid == 0 ? entry.child : entry.parent;
    if (function != nullptr) function();
  }
  return pid;
}

}  // namespace multipy::elf

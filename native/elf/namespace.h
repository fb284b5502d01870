// The private images of one interpreter: what ld.so keeps per process, kept once more per interpreter.
//
// A Namespace loads closures: the library asked for and, breadth first, what it needs. Private needs become images of
// this namespace, shared ones are opened with glibc before any image is bound. When every new image is mapped all are
// bound, then constructors run, dependencies first. If anything fails before the constructors, the new images are
// unmapped and the namespace is as before.
//
// Symbols are bound private-first: the namespace's global images (libpython, then what was opened with RTLD_GLOBAL),
// then the closure of the library that was opened, breadth first; only then the process's shared libraries. The order
// among private images is ld.so's own, so that vague-linkage statics have one owner; STB_GNU_UNIQUE symbols have one
// per namespace. A CPython symbol is never taken from the host's Python.
//
// One recursive lock per namespace guards loading and lookups (constructors may open more libraries); it is never
// taken while holding the registry's. Namespaces live to the end of the process, like their images.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/device_memory.h"
#include "base/export.h"
#include "elf/environment.h"
#include "elf/image.h"
#include "elf/own_locale.h"
#include "elf/own_time_zone.h"
#include "elf/policy.h"
#include "elf/search.h"
#include "system/alarm.h"
#include "system/record_locks.h"
#include "system/signal_actions.h"

namespace multipy::elf {

/// What became of one library, for people.
struct ImageInfo {
  std::string path;
  bool is_private = true;
  std::string reason;  // why it is
  std::uintptr_t base = 0;
  std::size_t size = 0;
};

/// The latest library that did not load on a thread, for turning an ImportError into an ImageError.
struct LoadFailure {
  std::string text;
  std::string file;
  std::string symbol;
};

class MULTIPY_API Namespace final : public SymbolResolver {
 public:
  /// A new namespace; lives for ever. `label` names it in messages.
  /// Its environment variables are those of `environment`, as `environ`; null: of the process.
  static Namespace& create(std::string label, Policy policy, char** environment = nullptr);

  /// Opens `path` and what it needs as private images, whatever the policy says of `path` itself. Throws ImageError.
  Image& open(const std::string& path, bool global);
  /// The address of `name` in `image` and its private needs; null if none defines it.
  void* find(const Image& image, std::string_view name);

  /// Runs what images registered with atexit and their destructors, last first. Call once, when no code of the
  /// namespace runs any more.
  void run_destructors();

  std::vector<ImageInfo> images() const;
  /// The images one by one, in load order, null after the last. Waits for nobody who loads or constructs: unwinding
  /// asks while other threads do.
  const Image* image(std::size_t index) const;
  Environment& environment() noexcept { return environment_; }
  OwnTimeZone& time_zone() noexcept { return time_zone_; }
  OwnLocale& locale() noexcept { return locale_; }
  DeviceMemory& device_memory() noexcept { return device_memory_; }
  RecordLocks& record_locks() noexcept { return record_locks_; }
  SignalActions& signals() noexcept { return signals_; }
  Alarm& alarm() noexcept { return alarm_; }
  /// How to have Python look for signals: it does not notice handlers that were called on a thread that is none of its
  /// own. Once it has returned, what was set before is neither called nor being called.
  void set_attention(std::function<void()> attention);
  /// The signals that the host's thread had blocked when it started the interpreter: those of its child processes.
  const sigset_t& host_signal_mask() const noexcept { return host_signal_mask_; }
  void set_host_signal_mask(const sigset_t& mask) noexcept { host_signal_mask_ = mask; }
  const std::string& label() const noexcept { return label_; }
  /// Makes this thread, which shares them with the thread that started it, one of the interpreter's and its main one,
  /// with a working directory, a root and a umask that only threads started from it share.
  void enter_main_thread() noexcept;
  /// Whether the kernel let it have those (some containers do not).
  bool has_own_directory() const noexcept { return has_own_directory_; }
  /// The process that it was created in.
  pid_t process() const noexcept { return process_; }
  /// What stands for its process's number where the kernel tells threads apart, and where processes tell each other
  /// apart by their numbers, as no process has it meanwhile; 0: none yet.
  pid_t main_thread() const noexcept { return main_thread_.load(std::memory_order_relaxed); }

  // What the seam answers for code of this namespace; `caller` may be null. Failures are kept for dlerror.
  void* dlopen(const char* name, int flags, const Image* caller);
  void* dlsym(void* handle, const char* name, const char* version, const Image* caller);
  int dlclose(void* handle);
  void at_exit(void (*function)(void*), void* argument, void* dso);
  void run_at_exit(void* dso);
  /// Fork handlers of an interpreter take its locks, its GIL even: they are for its own forks alone.
  int at_fork(void (*prepare)(), void (*parent)(), void (*child)());
  pid_t fork();
  Resolution resolve(const Image& image, const Symbol& symbol) override;

 private:
  Namespace(std::string label, Policy policy, char** environment);
  /// SIGALRM, of the interpreter alone.
  void ring();

  using Batch = std::vector<std::unique_ptr<Image>>;
  Image& load(const std::string& path, bool global, const Image* loaded_by, const std::string& reason);
  Image* stage(const std::string& path, const Image* loaded_by, const std::string& reason, Batch& batch);
  void stage_needs(Image& image, Batch& batch);
  void construct(Image& image);
  void adopt(Batch& batch);
  /// Takes back what bind() and adopt() have noted of images.
  void forget(const std::vector<Image*>& members);
  Image* known(const std::string& name) const;
  /// Why `path` must be private; empty: it may be shared.
  std::string why_private(const std::string& path, const Requesters& requesters);
  void note_shared(const std::string& path);
  std::string why_private_by_content(const File& file, const Requesters& requesters);
  void forget_shared_since(std::size_t first) noexcept;
  /// Where `image`'s symbols are looked up.
  std::vector<Image*> scope_of(Image& image) const;
  Resolution find_in(const std::vector<Image*>& scope, const SymbolName& name);
  Target find_shared_symbol(const Image& image, const Symbol& symbol);

  const std::string label_;
  const Policy policy_;
  Environment environment_;
  OwnTimeZone time_zone_{environment_};
  OwnLocale locale_;
  DeviceMemory device_memory_;
  RecordLocks record_locks_;
  SignalActions signals_;
  std::mutex attention_mutex_;
  std::function<void()> attention_;  // guarded by attention_mutex_
  Alarm alarm_{[this] { ring(); }};
  sigset_t host_signal_mask_{};
  const pid_t process_;
  std::atomic<pid_t> main_thread_ = 0;
  bool has_own_directory_ = false;
  mutable std::recursive_mutex mutex_;
  std::vector<std::unique_ptr<Image>> images_;  // in load order; changed under the registry's lock as well
  std::vector<Image*> constructed_;             // in order of construction
  std::map<FileId, Image*> by_file_;
  std::unordered_map<std::string, Image*> by_name_;  // sonames and base names
  /// Needs that a shared library satisfied: as in ld.so, later needs of that name get the same one.
  std::unordered_map<std::string, void*> shared_by_name_;
  std::map<std::string, std::string> shared_;  // what images needed or opened and was shared: path to reason
  std::unordered_map<void*, Image*> by_handle_;
  std::vector<Image*> globals_;
  std::vector<Image*> binding_scope_;          // closure being bound
  std::map<FileId, std::string> why_private_;  // memo
  std::vector<FileId> taken_for_shared_;       // those in it that may be shared if what is being asked for may be
  std::unordered_map<std::string, Target> unique_symbols_;
  struct ExitFunction {
    void (*function)(void*);
    void* argument;
    void* dso;
  };
  std::vector<ExitFunction> exit_functions_;
  struct ForkFunctions {
    void (*prepare)();
    void (*parent)();
    void (*child)();
  };
  std::vector<ForkFunctions> fork_functions_;
};

/// The image that `address` lies in, of whatever namespace; null: none.
MULTIPY_API Image* image_at(const void* address);

/// The namespace that code on this thread belongs to when its address does not tell (a callback out of a shared
/// library, say): that of the interpreter that the thread is of. Null: the host's.
Namespace* thread_namespace() noexcept;
/// Makes this thread, which has just begun, one of the interpreter's.
MULTIPY_API void enter_thread(Namespace& space) noexcept;

/// The closure of `root`, breadth first, itself first.
std::vector<Image*> closure_of(Image& root);

/// The file of `image`, then of those it was loaded for: whose search paths count.
Requesters requesters_of(const Image& image);

/// Where what a symbol names is, for this thread; null if it is unresolved.
void* address_of(const Target& target);

/// Takes the failure that dlopen last reported on this thread, if its text is `text`.
MULTIPY_API bool take_failure(std::string_view text, LoadFailure& out);

/// dlerror's text for this thread; null: none.
const char* take_error_text() noexcept;
void set_error_text(std::string_view text, std::string_view file = {}, std::string_view symbol = {}) noexcept;

}  // namespace multipy::elf

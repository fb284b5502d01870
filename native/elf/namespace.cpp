#include "elf/namespace.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <shared_mutex>
#include <unordered_set>

#include "base/error.h"
#include "base/heap.h"
#include "elf/arch.h"
#include "elf/seam.h"
#include "elf/shared_library.h"

extern "C" void* __tls_get_addr(void* module_and_offset);

namespace multipy::elf {

namespace {

/// Bytes; libraries of this size set up much on the heap when they are constructed and imported.
constexpr std::size_t kLarge = 16 << 20;

/// Which image lies where. Written under the exclusive lock, with the namespace's list, when a batch is adopted.
/// Nothing else is locked meanwhile.
struct Registry {
  std::shared_mutex mutex;
  std::map<std::uintptr_t, Image*> by_base;
};
Registry& registry() {
  static Registry& instance = *new Registry;
  return instance;
}

thread_local Namespace* current_namespace = nullptr;
thread_local LoadFailure last_failure;
thread_local std::string error_text;
thread_local bool error_pending = false;

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

Requesters requesters_of(const Image& image) {
  Requesters chain;
  for (const Image* at = &image; at != nullptr; at = at->loaded_by) chain.push_back(&at->file());
  return chain;
}

void* address_of(const Target& target) {
  switch (target.kind) {
    case Target::Kind::unresolved:
      return nullptr;
    case Target::Kind::address:
      return reinterpret_cast<void*>(target.value);
    case Target::Kind::ifunc:
      return reinterpret_cast<void*>(call_resolver(target.value));
    case Target::Kind::tls: {
      struct {
        std::size_t module, offset;
      } where{target.tls_module, target.value};
      return __tls_get_addr(&where);
    }
  }
  return nullptr;
}

}  // namespace

Image* image_at(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  Registry& known = registry();
  const std::shared_lock lock(known.mutex);
  auto next = known.by_base.upper_bound(at);
  if (next == known.by_base.begin()) return nullptr;
  Image* image = std::prev(next)->second;
  return at < image->end() ? image : nullptr;
}

const Image* Namespace::image(std::size_t index) const {
  const std::shared_lock lock(registry().mutex);
  return index < images_.size() ? images_[index].get() : nullptr;
}

void set_thread_namespace(Namespace* space) noexcept { current_namespace = space; }
Namespace* thread_namespace() noexcept { return current_namespace; }

bool take_failure(std::string_view text, LoadFailure& out) {
  if (last_failure.text.empty() || last_failure.text != text) return false;
  out = std::exchange(last_failure, {});
  return true;
}

void set_error_text(std::string text, std::string file, std::string symbol) {
  last_failure = {text, std::move(file), std::move(symbol)};
  error_text = std::move(text);
  error_pending = true;
}

const char* take_error_text() noexcept {
  if (!error_pending) return nullptr;
  error_pending = false;
  return error_text.c_str();
}

std::vector<Image*> closure_of(Image& root) {
  std::vector<Image*> order{&root};
  std::unordered_set<Image*> seen{&root};
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (Image* need : order[i]->needs) {
      if (seen.insert(need).second) order.push_back(need);
    }
  }
  return order;
}

Namespace& Namespace::create(std::string label, Policy policy) {
  return *new Namespace(std::move(label), std::move(policy));
}

Namespace::Namespace(std::string label, Policy policy)
    : label_(std::move(label)), policy_(std::move(policy)), environment_(environ) {}

Image* Namespace::known(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::string Namespace::why_private(const std::string& path, const Requesters& requesters) {
  switch (policy_.decide(path)) {
    case Verdict::always_private:
      return "named by the policy";
    case Verdict::always_shared:
      return {};
    case Verdict::by_content:
      break;
  }
  const auto file = File::open(path);
  if (const auto memo = why_private_.find(file->id()); memo != why_private_.end()) return memo->second;
  // The entry ends the recursion of libraries that need each other; a damaged need must not leave it behind.
  why_private_[file->id()] = {};
  std::string reason;
  try {
    reason = why_private_by_content(*file, requesters);
  } catch (...) {
    why_private_.erase(file->id());
    throw;
  }
  return why_private_[file->id()] = reason;
}

std::string Namespace::why_private_by_content(const File& file, const Requesters& requesters) {
  if (file.references_python()) return "uses the CPython API";
  Requesters chain{&file};
  chain.insert(chain.end(), requesters.begin(), requesters.end());
  for (const auto& need : file.needed()) {
    if (known(need) != nullptr) return "needs " + need;
    if (shared_by_name_.contains(need)) continue;
    const auto found = find_library(need, chain);
    if (found && !why_private(*found, chain).empty()) return "needs " + need;
  }
  return {};
}

Image* Namespace::stage(const std::string& path, const Image* loaded_by, const std::string& reason, Batch& batch) {
  const auto file = File::open(path);
  if (const auto found = by_file_.find(file->id()); found != by_file_.end()) return found->second;
  for (const auto& staged : batch) {
    if (staged->file().id() == file->id()) return staged.get();
  }
  batch.push_back(Image::map(file, *this));
  batch.back()->loaded_by = loaded_by;
  batch.back()->reason = reason;
  return batch.back().get();
}

void Namespace::stage_needs(Image& image, Batch& batch) {
  const Requesters chain = requesters_of(image);
  for (const auto& name : image.file().needed()) {
    Image* need = known(name);
    for (const auto& staged : batch) {
      if (need == nullptr && (staged->file().soname() == name || base_name(staged->file().path()) == name))
        need = staged.get();
    }
    if (need != nullptr) {
      image.needs.push_back(need);
      continue;
    }
    if (const auto shared = shared_by_name_.find(name); shared != shared_by_name_.end()) {
      image.shared_needs.push_back(shared->second);
      continue;
    }
    auto path = find_library(name, chain);
    if (!path) {
      // Not on any search path, but the process may have a library of this name already.
      void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_NOLOAD);
      if (handle == nullptr) throw ImageError(image.file().path(), "needs " + name + ", which is not found");
      path = path_of(handle);
      if (path->empty()) {
        image.shared_needs.push_back(handle);
        continue;
      }
    }
    const std::string reason = why_private(*path, chain);
    if (reason.empty()) {
      void* handle = open_shared(name, *path, chain);
      note_shared(*path);
      shared_by_name_.emplace(name, handle);
      image.shared_needs.push_back(handle);
    } else {
      image.needs.push_back(stage(*path, &image, reason, batch));
    }
  }
}

Image& Namespace::load(const std::string& path, bool global, const Image* loaded_by, const std::string& reason) {
  Batch batch;
  Image* root = stage(path, loaded_by, reason, batch);
  // The batch grows while its members' needs are staged: breadth first.
  for (std::size_t i = 0; i < batch.size(); ++i) stage_needs(*batch[i], batch);
  if (!batch.empty()) {
    if (std::any_of(batch.begin(), batch.end(), [](const auto& image) { return image->size() > kLarge; })) widen_heap();
    const auto outer = std::exchange(binding_scope_, closure_of(*root));
    try {
      for (const auto& image : batch) image->bind(*this);
    } catch (...) {
      binding_scope_ = outer;
      for (auto entry = unique_symbols_.begin(); entry != unique_symbols_.end();) {
        const bool gone = std::any_of(batch.begin(), batch.end(), [&](const auto& image) {
          return entry->second.value >= image->base() && entry->second.value < image->end();
        });
        entry = gone ? unique_symbols_.erase(entry) : std::next(entry);
      }
      throw;
    }
    binding_scope_ = outer;
    adopt(batch);
  }
  ++root->opened;
  if (global && !root->global) {
    root->global = true;
    for (Image* image : closure_of(*root)) {
      if (std::find(globals_.begin(), globals_.end(), image) == globals_.end()) globals_.push_back(image);
    }
  }
  construct(*root);
  return *root;
}

void Namespace::adopt(Batch& batch) {
  const std::size_t first = images_.size();
  const std::size_t last = first + batch.size();
  for (const auto& image : batch) {
    by_file_[image->file().id()] = image.get();
    by_name_.emplace(base_name(image->file().path()), image.get());
    if (!image->file().soname().empty()) by_name_.emplace(image->file().soname(), image.get());
    by_handle_[image->handle()] = image.get();
  }
  {
    Registry& known_images = registry();
    const std::unique_lock lock(known_images.mutex);
    for (auto& image : batch) {
      known_images.by_base[image->base()] = image.get();
      images_.push_back(std::move(image));
    }
  }
  // A resolver may open more libraries meanwhile.
  for (std::size_t i = first; i < last; ++i) images_[i]->finish_binding();
}

void Namespace::construct(Image& image) {
  if (image.state() == Image::State::ready) return;
  // Marked at once, so that a cycle of needs ends; the needs still come first.
  std::vector<Image*> order;
  std::unordered_set<Image*> seen;
  const std::function<void(Image&)> visit = [&](Image& at) {
    if (at.state() == Image::State::ready || !seen.insert(&at).second) return;
    for (Image* need : at.needs) visit(*need);
    order.push_back(&at);
  };
  visit(image);
  for (Image* next : order) {
    constructed_.push_back(next);
    next->run_constructors();
  }
}

Image& Namespace::open(const std::string& path, bool global) {
  const std::lock_guard lock(mutex_);
  return load(path, global, nullptr, "opened for the interpreter");
}

void* Namespace::find(const Image& image, std::string_view name) {
  const std::lock_guard lock(mutex_);
  return address_of(find_in(closure_of(const_cast<Image&>(image)), SymbolName(name)));
}

Target Namespace::find_in(const std::vector<Image*>& scope, const SymbolName& name) {
  for (Image* image : scope) {
    const auto symbol = image->file().find(name);
    if (!symbol) continue;
    const Target target = image->target_of(*symbol);
    if (symbol->binding != STB_GNU_UNIQUE) return target;
    return unique_symbols_.try_emplace(std::string(name.name), target).first->second;
  }
  return {};
}

Target Namespace::resolve(const Image& image, const Symbol& symbol) {
  if (!symbol.defined) {
    if (void* replacement = seam_symbol(symbol.name, environment_)) {
      return {Target::Kind::address, false, reinterpret_cast<std::uintptr_t>(replacement), 0};
    }
  }
  const SymbolName name(symbol.name, symbol.version);
  Image* self = const_cast<Image*>(&image);
  Target target;
  if (image.file().binds_symbolically()) target = find_in({self}, name);
  if (target.kind == Target::Kind::unresolved) target = find_in(globals_, name);
  if (target.kind == Target::Kind::unresolved) target = find_in(binding_scope_, name);
  if (target.kind == Target::Kind::unresolved && symbol.defined) target = image.target_of(symbol);
  if (target.kind == Target::Kind::unresolved) target = find_shared_symbol(image, symbol);
  return target;
}

Target Namespace::find_shared_symbol(const Image& image, const Symbol& symbol) {
  // What the host's Python or torch defines is never bound to: it would be another interpreter's.
  if (is_python_name(symbol.name)) return {};
  const SymbolName name(symbol.name, symbol.version);
  std::vector<void*> handles{nullptr};
  handles.insert(handles.end(), image.shared_needs.begin(), image.shared_needs.end());
  const auto add_needs_of = [&](const std::vector<Image*>& scope) {
    for (const Image* other : scope) {
      for (void* handle : other->shared_needs) {
        if (std::find(handles.begin(), handles.end(), handle) == handles.end()) handles.push_back(handle);
      }
    }
  };
  add_needs_of(binding_scope_);
  for (void* handle : handles) {
    if (symbol.type == STT_TLS) {
      if (const auto found = find_shared_tls(handle, name))
        return {Target::Kind::tls, found->is_static, found->offset, found->module};
    } else if (void* address = handle == nullptr ? find_global(name) : find_shared(handle, name)) {
      return {Target::Kind::address, false, reinterpret_cast<std::uintptr_t>(address), 0};
    }
  }
  return {};
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
        }
        return handle;
      }
      path = *found;
      reason = why_private(path, chain);
      if (reason.empty()) {
        // Asked for by a bare name that only our search paths explain: glibc must be given the path.
        void* handle = asked == path ? nullptr : ::dlopen(name, flags | RTLD_NOLOAD);
        if (handle == nullptr) handle = ::dlopen(path.c_str(), flags);
        if (handle != nullptr) note_shared(path);
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
  const Target target = find_in(scope, wanted);
  if (target.kind != Target::Kind::unresolved) return address_of(target);
  if (void* replacement = seam_symbol(name, environment_)) return replacement;
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
  for (const auto& entry : functions) {
    void (*function)() = pid == 0 ? entry.child : entry.parent;
    if (function != nullptr) function();
  }
  return pid;
}

int Namespace::sigaction(int number, const struct sigaction* action, struct sigaction* old, const Image* caller) {
  const std::lock_guard lock(mutex_);
  const bool from_python = caller != nullptr && !images_.empty() && caller == images_.front().get();
  if (action != nullptr && from_python) {
    errno = EPERM;
    return -1;
  }
  struct sigaction current{};
  if (const auto believed = believed_actions_.find(number); believed != believed_actions_.end()) {
    current = believed->second;
  } else if (::sigaction(number, nullptr, &current) != 0) {
    return -1;
  }
  if (action != nullptr) believed_actions_[number] = *action;
  if (old != nullptr) *old = current;
  return 0;
}

void Namespace::run_destructors() {
  run_at_exit(nullptr);
  for (auto image = constructed_.rbegin(); image != constructed_.rend(); ++image) (*image)->run_destructors();
}

void Namespace::note_shared(const std::string& path) {
  const bool named = policy_.decide(path) == Verdict::always_shared;
  shared_.emplace(path, named ? "named by the policy" : "neither it nor what it needs uses the CPython API");
}

std::vector<ImageInfo> Namespace::images() const {
  const std::lock_guard lock(mutex_);
  std::vector<ImageInfo> out;
  for (const auto& image : images_) {
    out.push_back({image->file().path(), true, image->reason, image->base(), image->size()});
  }
  for (const auto& [path, reason] : shared_) {
    void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    if (handle == nullptr) continue;  // closed again since
    const auto extent = extent_of(handle);
    out.push_back({path, false, reason, extent.base, extent.size});
    ::dlclose(handle);
  }
  return out;
}

}  // namespace multipy::elf

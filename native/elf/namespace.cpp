#include "elf/namespace.h"

#include <dlfcn.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <shared_mutex>
#include <unordered_set>

#include "base/error.h"
#include "base/heap.h"
#include "base/output.h"
#include "base/process_lock.h"
#include "elf/arch.h"
#include "elf/cuda_seam.h"
#include "elf/limits.h"
#include "elf/seam.h"
#include "elf/seam_locks.h"
#include "elf/shared_library.h"

extern "C" void* __tls_get_addr(void* module_and_offset);

namespace multipy::elf {

namespace {

/// Bytes; libraries of this size set up much on the heap when they are constructed and imported.
constexpr std::size_t kLarge = 16 << 20;

/// Which image lies where. Written under the exclusive lock, with the namespace's list, when a batch is adopted.
/// Nothing else is locked meanwhile.
struct Registry {
  ProcessLock<std::shared_mutex> mutex{ForkOrder::images};
  std::map<std::uintptr_t, Image*> by_base;
};
Registry& registry() {
  static Registry& instance = *new Registry;
  return instance;
}

thread_local Namespace* current_namespace = nullptr;

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

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

Image* image_at(const void* address) {
  // Who asks asks again: torch calls getenv with each matrix product. Images stay for ever once they are known.
  thread_local Image* last = nullptr;
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  if (last != nullptr && at >= last->base() && at < last->end()) return last;
  Registry& known = registry();
  const std::shared_lock lock(known.mutex);
  auto next = known.by_base.upper_bound(at);
  if (next == known.by_base.begin()) return nullptr;
  Image* image = std::prev(next)->second;
  if (at >= image->end()) return nullptr;
  return last = image;
}

const Image* Namespace::image(std::size_t index) const {
  const std::shared_lock lock(registry().mutex);
  return index < images_.size() ? images_[index].get() : nullptr;
}

void enter_thread(Namespace& space) noexcept {
  current_namespace = &space;
  space.locale().use();
}
Namespace* thread_namespace() noexcept { return current_namespace; }

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

Namespace& Namespace::create(std::string label, Policy policy, char** environment) {
  return *new Namespace(std::move(label), std::move(policy), environment == nullptr ? environ : environment);
}

Namespace::Namespace(std::string label, Policy policy, char** environment)
    : label_(std::move(label)), policy_(std::move(policy)), environment_(environment), process_(::getpid()) {}

void Namespace::enter_main_thread() noexcept {
  enter_thread(*this);
  main_thread_ = ::gettid();
  has_own_directory_ = ::unshare(CLONE_FS) == 0;
}

Image* Namespace::known(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::string Namespace::why_private(const std::string& path, const Requesters& requesters) {
  const Verdict verdict = policy_.decide(path);
  if (verdict == Verdict::always_private) return "named by the policy";
  const auto file = File::open(path);
  if (const auto memo = why_private_.find(file->id()); memo != why_private_.end()) return memo->second;
  // Libraries may need each other: one that is being asked for is taken for shared. If it is not, or that is never
  // known, what relied on it is asked for again: extension modules would be given the host's Python.
  const std::size_t first = taken_for_shared_.size();
  taken_for_shared_.push_back(file->id());
  try {
    std::string& answer = why_private_[file->id()];
    std::string reason = why_private_by_content(*file, requesters);
    if (verdict == Verdict::always_shared && !reason.empty())
      throw ImageError(path, "a \"shared\" pattern names it, but it " + reason + ", so it can only be private");
    if (verdict == Verdict::by_content && reason.empty() && !file->needs_static_block() && policy_.is_packaged(path))
      reason = "comes with a Python package";
    answer = reason;
    if (!reason.empty()) {
      forget_shared_since(first + 1);
      taken_for_shared_.pop_back();
    } else if (first == 0) {
      taken_for_shared_.clear();
    }
    return reason;
  } catch (...) {
    forget_shared_since(first);
    throw;
  }
}

void Namespace::forget_shared_since(std::size_t first) noexcept {
  for (; taken_for_shared_.size() > first; taken_for_shared_.pop_back()) why_private_.erase(taken_for_shared_.back());
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
  claim_room(path);
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
    std::vector<Image*> members;
    for (const auto& image : batch) members.push_back(image.get());
    try {
      for (Image* image : members) image->bind(*this, scope_of(*image));
      binding_scope_ = outer;
      adopt(batch);
    } catch (...) {
      binding_scope_ = outer;
      forget(members);
      throw;
    }
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
    images_.reserve(last);
    for (const auto& image : batch) known_images.by_base[image->base()] = image.get();
    for (auto& image : batch) images_.push_back(std::move(image));
  }
  // A resolver may open more libraries meanwhile.
  for (std::size_t i = first; i < last; ++i) images_[i]->finish_binding();
}

void Namespace::forget(const std::vector<Image*>& members) {
  const std::unordered_set<const Image*> gone(members.begin(), members.end());
  const auto is_gone = [&](const auto& entry) { return gone.contains(entry.second); };
  std::erase_if(by_file_, is_gone);
  std::erase_if(by_name_, is_gone);
  std::erase_if(by_handle_, is_gone);
  std::erase_if(unique_symbols_, [&](const auto& entry) {
    return std::any_of(members.begin(), members.end(), [&](const Image* image) {
      return entry.second.value >= image->base() && entry.second.value < image->end();
    });
  });
  // Where a resolver has failed, code of them has run: they stay where they are, and nothing leads to them.
  const bool adopted =
      std::any_of(images_.begin(), images_.end(), [&](const auto& image) { return gone.contains(image.get()); });
  if (adopted) return;
  const std::unique_lock lock(registry().mutex);
  std::erase_if(registry().by_base, is_gone);
}

void Namespace::construct(Image& image) {
  if (image.state() == Image::State::ready) return;
  // Marked at once, so that a cycle of needs ends; the needs still come first.
  std::vector<Image*> order;
  std::unordered_set<Image*> seen;
  const std::function<void(Image&)> visit = [&](Image& at) {
    if (at.state() == Image::State::ready || !seen.insert(&at).second) return;
    if (at.state() == Image::State::failed) throw ImageError(at.file().path(), at.failure());
    for (Image* need : at.needs) visit(*need);
    order.push_back(&at);
  };
  visit(image);
  for (Image* next : order) {
    constructed_.push_back(next);
    next->construct();
  }
}

Image& Namespace::open(const std::string& path, bool global) {
  const std::lock_guard lock(mutex_);
  return load(path, global, nullptr, "opened for the interpreter");
}

void* Namespace::find(const Image& image, std::string_view name) {
  const std::lock_guard lock(mutex_);
  return address_of(find_in(closure_of(const_cast<Image&>(image)), SymbolName(name)).target);
}

Resolution Namespace::find_in(const std::vector<Image*>& scope, const SymbolName& name) {
  for (std::size_t i = 0; i < scope.size(); ++i) {
    const auto symbol = scope[i]->file().find(name);
    if (!symbol) continue;
    const Target target = scope[i]->target_of(*symbol);
    if (symbol->binding != STB_GNU_UNIQUE) return {target, Definition{static_cast<std::uint32_t>(i), symbol->index}};
    return {unique_symbols_.try_emplace(std::string(name.name), target).first->second, std::nullopt};
  }
  return {};
}

std::vector<Image*> Namespace::scope_of(Image& image) const {
  std::vector<Image*> scope;
  if (image.file().binds_symbolically()) scope.push_back(&image);
  scope.insert(scope.end(), globals_.begin(), globals_.end());
  scope.insert(scope.end(), binding_scope_.begin(), binding_scope_.end());
  return scope;
}

Resolution Namespace::resolve(const Image& image, const Symbol& symbol) {
  if (!symbol.defined) {
    if (symbol.name == "getpid" && policy_.tells_processes_apart(image.file().path()))
      return {{Target::Kind::address, false, process_number_seam(), 0}, std::nullopt};
    if (void* replacement = seam_symbol(symbol.name, *this)) {
      return {{Target::Kind::address, false, reinterpret_cast<std::uintptr_t>(replacement), 0}, std::nullopt};
    }
  }
  const auto& scope = image.scope();
  // It would be the first to be asked for its own symbol.
  if (symbol.defined && symbol.binding != STB_GNU_UNIQUE && !scope.empty() && scope.front() == &image)
    return {image.target_of(symbol), Definition{0, symbol.index}};
  const Resolution found = find_in(scope, SymbolName(symbol.name, symbol.version));
  if (found.target.kind != Target::Kind::unresolved) return found;
  const Target own = symbol.defined ? image.target_of(symbol) : Target{};
  return {own.kind != Target::Kind::unresolved ? own : find_shared_symbol(image, symbol), std::nullopt};
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
      address = cuda_seam(symbol.name, address);
      return {Target::Kind::address, false, reinterpret_cast<std::uintptr_t>(address), 0};
    }
  }
  return {};
}

void Namespace::set_attention(std::function<void()> attention) {
  const std::lock_guard lock(attention_mutex_);
  attention_ = std::move(attention);
}

void Namespace::ring() {
  if (signals_.deliver(SIGALRM) == SignalActions::Delivery::handled) {
    const std::lock_guard lock(attention_mutex_);
    if (attention_) attention_();
    return;
  }
  // It would end a process of its own.
  write_output(2, 0, {},
               "multipy: the alarm of interpreter " + label_ + " went off, and it has no handler for SIGALRM\n");
}

void Namespace::run_destructors() {
  alarm_.cancel();
  device_memory_.end();
  run_at_exit(nullptr);
  for (auto image = constructed_.rbegin(); image != constructed_.rend(); ++image) (*image)->run_destructors();
  device_memory_.free_rest();
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

// One private image of a shared library: a copy of its data beside the shared pages of its text.
//
// glibc loads a file once, however often it is opened. To get a second copy we give it a *skeleton* (skeleton.h): a
// sparse memfd of the original's size that holds only what the dynamic linker itself must read (the headers, a pruned
// dynamic section, the few relocations only glibc can write). Opening the skeleton (link_maps.h) reserves the addresses
// and registers TLS, unwinding tables and a name for debuggers with glibc. Then the original file is mapped over every
// segment (MAP_PRIVATE, same offsets): text and read-only data stay shared through the page cache by all images, data
// is copied by the kernel when first written, and the memfd's few pages are given back. What the skeleton's pruned
// dynamic section left out (dependencies, binding, constructors) is done by the Namespace, which knows the
// interpreter's other images.
//
// An image starts `mapped`, becomes `bound` when its relocations are written, `ready` when its constructors run, and
// `failed` if one of these throws: then nobody can load it in this namespace any more, as half of it is set up.
// Images no constructor of which ran are unmapped again; the others stay mapped to the end of the process, because
// glibc keeps pointers into them (atexit, thread-local destructors) and so may other threads.
// All calls are made under the owning Namespace's lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/export.h"
#include "elf/definitions.h"
#include "elf/file.h"

namespace multipy::elf {

class Namespace;

/// Where a symbol was found.
struct Target {
  enum class Kind : std::uint8_t { unresolved, address, ifunc, tls };
  Kind kind = Kind::unresolved;
  bool tls_static = false;   // the variable lies in the static TLS block
  std::uintptr_t value = 0;  // address (ifunc: of the resolver), or offset in the TLS module
  std::size_t tls_module = 0;
};

/// What was found for a symbol; and where, if that follows from the files of the image's scope alone.
struct Resolution {
  Target target;
  std::optional<Definition> definition;
};

/// How an image asks its namespace for what it does not define itself.
class SymbolResolver {
 public:
  virtual ~SymbolResolver() = default;
  /// Finds `symbol`, referenced by `image`; unresolved if nobody has it.
  virtual Resolution resolve(const class Image& image, const Symbol& symbol) = 0;
};

class Image {
 public:
  enum class State { mapped, bound, ready, failed };

  /// Maps `file` into `owner`. Throws ImageError.
  static std::unique_ptr<Image> map(std::shared_ptr<const File> file, Namespace& owner);
  ~Image();
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  const File& file() const noexcept { return *file_; }
  Namespace& owner() const noexcept { return owner_; }
  void* handle() const noexcept { return handle_; }
  std::uintptr_t base() const noexcept { return base_; }
  std::uintptr_t end() const noexcept { return base_ + file_->memory_end(); }
  std::size_t size() const noexcept { return file_->memory_end(); }
  std::size_t tls_module() const noexcept { return tls_module_; }
  bool tls_static() const noexcept { return tls_static_; }
  State state() const noexcept { return state_; }

  /// Where `symbol`, defined by this image, lies.
  Target target_of(const Symbol& symbol) const noexcept;

  /// Writes all relocations but those that call code, and protects what is read-only from then on. Symbols are looked
  /// up in `scope`, in order, by the resolver. Throws ImageError naming the first symbol nobody defines.
  void bind(SymbolResolver& resolver, std::vector<Image*> scope);
  const std::vector<Image*>& scope() const noexcept { return scope_; }  // while it is being bound
  /// Calls IFUNC resolvers; every image of the closure must be bound.
  void finish_binding();
  /// Runs the constructors. Throws ImageError if one throws.
  void construct();
  /// Why construct() failed.
  const std::string& failure() const noexcept { return failure_; }
  void run_destructors();

  // Filled in by the Namespace.
  std::vector<Image*> needs;         // private libraries, in DT_NEEDED order
  std::vector<void*> shared_needs;   // glibc handles of shared libraries, in DT_NEEDED order
  const Image* loaded_by = nullptr;  // whose DT_NEEDED brought it: search paths are inherited along this chain
  std::string reason;                // why it is private, for people
  bool global = false;               // opened with RTLD_GLOBAL
  std::size_t opened = 0;            // dlopen calls not yet dlclosed

 private:
  Image(std::shared_ptr<const File> file, Namespace& owner);
  void map_original();
  void map_segment(const Segment& segment, int original);
  bool is_preset(std::uint64_t address) const;
  Target resolve_symbol(std::uint32_t index, SymbolResolver& resolver);
  Target resolve_thread_local(std::uint32_t index, SymbolResolver& resolver);
  void apply(const ElfW(Rela) & relocation, SymbolResolver& resolver);
  void apply_relr();
  void protect(std::uintptr_t address, std::size_t length, int protection);  // throws ImageError
  void protect_text(bool writable);
  void protect_relocated(bool writable);
  void run_constructors();
  std::uintptr_t* slot(std::uint64_t address);  // throws OutOfBounds unless a relocation may write there

  std::shared_ptr<const File> file_;
  Namespace& owner_;
  const bool text_relocations_;  // may write into read-only segments
  void* handle_ = nullptr;
  std::uintptr_t base_ = 0;
  std::size_t tls_module_ = 0;
  bool tls_static_ = false;
  std::ptrdiff_t tls_offset_ = 0;  // of the block from the thread pointer, if all accesses are made to use it; else 0
  State state_ = State::mapped;
  std::string failure_;

  const Segment* slots_ = nullptr;  // the one in which a relocation wrote last
  // Only while binding.
  std::vector<Image*> scope_;
  std::shared_ptr<Definitions> definitions_;
  std::vector<Target> others_;               // what is not among the definitions
  std::vector<std::uint32_t> other_places_;  // by symbol index: its place in there and one more; 0: not looked up
  struct Preset {
    std::uint64_t address;
    std::uint64_t value;
  };
  /// In order: pointers among the initial values of static thread-locals. They were right before any thread could
  /// see them, and stay as they are.
  std::vector<Preset> presets_;
  struct Deferred {
    std::uintptr_t* slot;
    std::uintptr_t resolver;
    std::uint64_t addend;
  };
  std::vector<Deferred> deferred_;
};

}  // namespace multipy::elf

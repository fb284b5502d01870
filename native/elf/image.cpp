#include "elf/image.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/unique_fd.h"
#include "elf/arch.h"
#include "elf/initial_pointers.h"
#include "elf/limits.h"
#include "elf/pages.h"
#include "elf/skeleton.h"
#include "elf/tls_descriptor.h"

extern "C" void* __tls_get_addr(void* module_and_offset);

namespace multipy::elf {

namespace {

struct Arguments {
  int count = 0;
  char** values = nullptr;
  char** environment = nullptr;
};
Arguments& process_arguments() {
  static Arguments arguments;
  return arguments;
}
// glibc passes main's arguments to constructors; those of images expect them too.
[[gnu::constructor]] void remember_arguments(int count, char** values, char** environment) {
  process_arguments() = {count, values, environment};
}

/// What code passes to __tls_get_addr.
struct TlsIndex {
  std::size_t module, offset;
};

/// Stands for __tls_get_addr in images whose thread-locals lie in the static block. Their offsets count from the thread
/// pointer.
void* static_tls_address(const TlsIndex* index) {
  return static_cast<char*>(__builtin_thread_pointer()) + index->offset;
}

}  // namespace

std::unique_ptr<Image> Image::map(std::shared_ptr<const File> file, Namespace& owner) {
  std::unique_ptr<Image> image(new Image(std::move(file), owner));
  try {
    image->handle_ = open_skeleton(*image->file_);
  } catch (const OutOfBounds& error) {
    throw ImageError(image->file_->path(), std::string("damaged ELF file: ") + error.what());
  }
  link_map* map = static_cast<link_map*>(image->handle_);
  image->base_ = map->l_addr;
  if (::dlinfo(image->handle_, RTLD_DI_TLS_MODID, &image->tls_module_) != 0) image->tls_module_ = 0;
  image->map_original();
  return image;
}

Image::Image(std::shared_ptr<const File> file, Namespace& owner)
    : file_(std::move(file)),
      owner_(owner),
      text_relocations_(file_->dynamic_value(DT_TEXTREL) || (file_->dynamic_value(DT_FLAGS).value_or(0) & DF_TEXTREL)) {
}

Image::~Image() {
  if (handle_ != nullptr && state_ < State::ready) ::dlclose(handle_);
}

std::uintptr_t* Image::slot(std::uint64_t address) {
  // One relocation after the other is in the same segment.
  if (slots_ == nullptr || address - slots_->address > slots_->memory_size - sizeof(std::uintptr_t)) {
    const auto holds = [&](const Segment& segment) {
      return (text_relocations_ || (segment.protection & PROT_WRITE)) && address >= segment.address &&
             segment.memory_size >= sizeof(std::uintptr_t) &&
             address - segment.address <= segment.memory_size - sizeof(std::uintptr_t);
    };
    const auto& segments = file_->segments();
    const auto found = std::find_if(segments.begin(), segments.end(), holds);
    if (found == segments.end()) throw OutOfBounds("relocation of what is not writable memory");
    slots_ = &*found;
  }
  return reinterpret_cast<std::uintptr_t*>(base_ + address);
}

void Image::map_original() {
  // What glibc wrote into the skeleton survives the mapping of the original: its adjusted dynamic section and the
  // relocations it was left.
  link_map* map = static_cast<link_map*>(handle_);
  std::size_t entries = 0;
  while (map->l_ld[entries].d_tag != DT_NULL) ++entries;
  const std::string dynamic(reinterpret_cast<const char*>(map->l_ld), (entries + 1) * sizeof(ElfW(Dyn)));
  struct Saved {
    std::uintptr_t* slot;
    std::array<std::uintptr_t, 2> words;
    std::size_t count;
  };
  std::vector<Saved> saved;
  const Skeleton& skeleton = file_->skeleton();
  for (const auto& relocation : skeleton.left_to_glibc) {
    const std::size_t count = words_written(relocation);
    tls_static_ = tls_static_ || is_static(relocation);
    std::uintptr_t* at = slot(relocation.r_offset);
    saved.push_back({at, {at[0], count > 1 ? at[1] : 0}, count});
  }

  if (skeleton.probe) tls_offset_ = static_tls_offset(slot(skeleton.probe->r_offset));

  if (tls_static_) {
    for (const auto& pointer : skeleton.pointers.relative)
      presets_.push_back({pointer.r_offset, base_ + static_cast<std::uint64_t>(pointer.r_addend)});
    std::sort(presets_.begin(), presets_.end(), [](auto& one, auto& other) { return one.address < other.address; });
  }

  const UniqueFd original = file_->reopen();
  std::uint64_t done = page_down(file_->segments().front().address);
  for (const auto& segment : file_->segments()) {
    const std::uint64_t first = page_down(segment.address);
    // Between segments, which linkers place far apart for the sake of large pages, the skeleton would stay mapped.
    if (first > done && ::mmap(reinterpret_cast<void*>(base_ + done), first - done, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
      throw ImageError(file_->path(), describe_failure("mmap"));
    }
    done = page_up(segment.address + segment.memory_size);
    if (segment.file_size > 0) map_segment(segment, original.get());
  }
  if (!dynamic.empty()) {
    const auto address = reinterpret_cast<std::uintptr_t>(map->l_ld);
    const auto first = page_down(address);
    const auto length = page_up(address + dynamic.size()) - first;
    int protection = PROT_READ;
    for (const auto& segment : file_->segments()) {
      if (address - base_ >= segment.address && address - base_ < segment.address + segment.memory_size)
        protection = segment.protection;
    }
    if (!(protection & PROT_WRITE)) protect(first, length, PROT_READ | PROT_WRITE);
    std::memcpy(map->l_ld, dynamic.data(), dynamic.size());
    if (!(protection & PROT_WRITE)) protect(first, length, protection);
  }
  for (const auto& entry : saved) {
    for (std::size_t i = 0; i < entry.count; ++i) entry.slot[i] = entry.words[i];
  }
}

void Image::map_segment(const Segment& segment, int original) {
  const std::uint64_t first = page_down(segment.address);
  const std::uint64_t file_end = segment.address + segment.file_size;
  const std::uint64_t length = page_up(file_end) - first;
  const auto offset = static_cast<off_t>(page_down(segment.offset));
  const bool zero_tail = segment.memory_size > segment.file_size && file_end % page_size() != 0;
  const int protection = segment.protection | (zero_tail ? PROT_WRITE : 0);
  const auto check = [&](void* mapped) {
    if (mapped == MAP_FAILED) throw ImageError(file_->path(), describe_failure("mmap"));
  };
  void* wanted = reinterpret_cast<void*>(base_ + first);
  const auto holds = [&](const Preset& preset) { return preset.address >= first && preset.address < file_end; };
  if (std::any_of(presets_.begin(), presets_.end(), holds)) {
    // A thread may start at any moment and copy its thread-locals from here, so this replaces the skeleton complete.
    void* aside = ::mmap(nullptr, length, protection, MAP_PRIVATE, original, offset);
    check(aside);
    for (const Preset& preset : presets_) {
      if (holds(preset))
        std::memcpy(static_cast<char*>(aside) + (preset.address - first), &preset.value, sizeof preset.value);
    }
    if (::mremap(aside, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, wanted) == MAP_FAILED) {
      const std::string failure = describe_failure("mremap");
      ::munmap(aside, length);
      throw ImageError(file_->path(), failure);
    }
  } else {
    check(::mmap(wanted, length, protection, MAP_PRIVATE | MAP_FIXED, original, offset));
  }
  if (zero_tail) {
    const std::uint64_t stop = std::min(page_up(file_end), segment.address + segment.memory_size);
    std::memset(reinterpret_cast<void*>(base_ + file_end), 0, page_up(stop) - file_end);
    if (protection != segment.protection) protect(base_ + first, length, segment.protection);
  }
}

void Image::protect(std::uintptr_t address, std::size_t length, int protection) {
  if (::mprotect(reinterpret_cast<void*>(address), length, protection) != 0)
    throw ImageError(file_->path(), describe_failure("mprotect"));
}

bool Image::is_preset(std::uint64_t address) const {
  const auto at = std::lower_bound(presets_.begin(), presets_.end(), address,
                                   [](const Preset& preset, std::uint64_t wanted) { return preset.address < wanted; });
  return at != presets_.end() && at->address == address;
}

Target Image::target_of(const Symbol& symbol) const noexcept {
  Target target;
  if (symbol.type == STT_TLS) {
    if (tls_module_ == 0) return target;
    target.kind = Target::Kind::tls;
    target.value = symbol.value;
    target.tls_module = tls_module_;
    target.tls_static = tls_static_;
  } else {
    if (symbol.type == STT_GNU_IFUNC && !file_->executable(symbol.value)) return target;
    target.kind = symbol.type == STT_GNU_IFUNC ? Target::Kind::ifunc : Target::Kind::address;
    target.value = base_ + symbol.value;
  }
  return target;
}

Target Image::resolve_symbol(std::uint32_t index, SymbolResolver& resolver) {
  if (index == 0) return {Target::Kind::address, false, base_, 0};
  if (const std::uint32_t place = other_places_.at(index)) return others_[place - 1];
  if (const auto known = definitions_->find(index)) {
    const Image& image = *scope_[known->place];
    return image.target_of(image.file().unnamed_symbol(known->symbol));
  }
  const auto keep = [&](const Target& target) {
    others_.push_back(target);
    other_places_[index] = static_cast<std::uint32_t>(others_.size());
    return target;
  };
  const Symbol symbol = file_->symbol(index);
  if (tls_offset_ != 0 && symbol.name == "__tls_get_addr") {
    const auto function = reinterpret_cast<std::uintptr_t>(&static_tls_address);
    return keep({Target::Kind::address, false, function, 0});
  }
  const bool own = symbol.binding == STB_LOCAL || (symbol.defined && symbol.visibility != STV_DEFAULT);
  const auto [target, definition] = own ? Resolution{target_of(symbol), std::nullopt} : resolver.resolve(*this, symbol);
  if (target.kind == Target::Kind::unresolved && symbol.binding != STB_WEAK) {
    std::string name(symbol.name);
    if (!symbol.version.empty()) name.append("@").append(symbol.version);
    throw ImageError(file_->path(), "undefined symbol", name);
  }
  if (!definition) return keep(target);
  definitions_->note(index, *definition);
  return target;
}

Target Image::resolve_thread_local(std::uint32_t index, SymbolResolver& resolver) {
  const Target target = resolve_symbol(index, resolver);
  if (target.kind != Target::Kind::tls && target.kind != Target::Kind::unresolved) {
    throw ImageError(file_->path(), "not a thread-local variable", std::string(file_->symbol(index).name));
  }
  return target;
}

void Image::apply(const ElfW(Rela) & relocation, SymbolResolver& resolver) {
  const auto type = static_cast<std::uint32_t>(ELF64_R_TYPE(relocation.r_info));
  const auto index = static_cast<std::uint32_t>(ELF64_R_SYM(relocation.r_info));
  const auto addend = static_cast<std::uint64_t>(relocation.r_addend);
  const RelocationKind kind = classify(type);
  switch (kind) {
    case RelocationKind::none:
      return;
    case RelocationKind::relative:
      *slot(relocation.r_offset) = base_ + addend;
      return;
    case RelocationKind::irelative:
      if (!file_->executable(addend)) throw OutOfBounds("resolver outside the executable segments");
      deferred_.push_back({slot(relocation.r_offset), base_ + addend, 0});
      return;
    case RelocationKind::absolute:
    case RelocationKind::got_entry: {
      const Target target = resolve_symbol(index, resolver);
      if (target.kind == Target::Kind::tls) {
        throw ImageError(file_->path(), "refers to what is a thread-local as if it were not",
                         std::string(file_->symbol(index).name));
      }
      const std::uint64_t extra = kGotEntriesHaveAddends || kind == RelocationKind::absolute ? addend : 0;
      const std::uintptr_t value = index == 0 ? base_ : target.value;
      if (is_preset(relocation.r_offset)) {
        // Threads that run have the image's own already; another library's definition may come before it.
        if (target.kind != Target::Kind::address || *slot(relocation.r_offset) != value + extra)
          throw ImageError(file_->path(), kPointsElsewhere, std::string(file_->symbol(index).name));
        return;
      }
      if (target.kind == Target::Kind::ifunc) {
        deferred_.push_back({slot(relocation.r_offset), value, extra});
      } else {
        *slot(relocation.r_offset) = target.kind == Target::Kind::unresolved ? 0 : value + extra;
      }
      return;
    }
    case RelocationKind::tls_module:
      *slot(relocation.r_offset) = index == 0 ? tls_module_ : resolve_thread_local(index, resolver).tls_module;
      if (tls_offset_ != 0)
        *slot(relocation.r_offset + sizeof(std::uintptr_t)) += static_cast<std::uintptr_t>(tls_offset_);
      return;
    case RelocationKind::tls_offset:
      *slot(relocation.r_offset) = addend + (index == 0 ? 0 : resolve_thread_local(index, resolver).value);
      return;
    case RelocationKind::tls_static: {
      if (left_to_glibc(*file_, relocation)) return;
      const Target target = resolve_symbol(index, resolver);
      const std::string name(file_->symbol(index).name);
      if (target.kind != Target::Kind::tls) throw ImageError(file_->path(), "not a thread-local variable", name);
      if (!target.tls_static) {
        throw ImageError(file_->path(),
                         "uses initial-exec access to a thread-local that lies outside the static TLS block", name);
      }
      TlsIndex where{target.tls_module, target.value};
      *slot(relocation.r_offset) = reinterpret_cast<std::uintptr_t>(__tls_get_addr(&where)) + addend -
                                   reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer());
      return;
    }
    case RelocationKind::tls_descriptor: {
      if (left_to_glibc(*file_, relocation)) return;
      const auto descriptor = describe(resolve_thread_local(index, resolver), addend);
      if (!descriptor) {
        throw ImageError(file_->path(), "uses a TLS descriptor for another library's thread-local",
                         std::string(file_->symbol(index).name));
      }
      *slot(relocation.r_offset) = descriptor->function;
      *slot(relocation.r_offset + sizeof(std::uintptr_t)) = descriptor->argument;
      return;
    }
    case RelocationKind::unsupported:
      break;
  }
  throw ImageError(file_->path(), "unsupported relocation type " + std::to_string(type));
}

void Image::apply_relr() {
  for_each_relative(file_->relative_relocations(), [&](std::uint64_t address) {
    if (!is_preset(address)) *slot(address) += base_;
  });
}

void Image::protect_text(bool writable) {
  for (const auto& segment : file_->segments()) {
    if (!text_relocations_ || (segment.protection & PROT_WRITE)) continue;
    const auto first = page_down(base_ + segment.address);
    const auto length = page_up(base_ + segment.address + segment.memory_size) - first;
    protect(first, length, segment.protection | (writable ? PROT_WRITE : 0));
  }
}

void Image::protect_relocated(bool writable) {
  for (const auto& header : file_->program_headers()) {
    if (header.p_type != PT_GNU_RELRO || !file_->covers(header.p_vaddr, header.p_memsz)) continue;
    const auto first = page_down(base_ + header.p_vaddr);
    const auto last = page_down(base_ + header.p_vaddr + header.p_memsz);
    if (last > first) protect(first, last - first, PROT_READ | (writable ? PROT_WRITE : 0));
  }
}

void Image::bind(SymbolResolver& resolver, std::vector<Image*> scope) {
  scope_ = std::move(scope);
  std::vector<const File*> files;
  for (const Image* image : scope_) files.push_back(&image->file());
  definitions_ = Definitions::of(*file_, files);
  other_places_.assign(file_->symbol_count(), 0);
  try {
    for (const ElfW(Sxword) tag : {DT_INIT, DT_FINI}) {
      const auto function = file_->dynamic_value(tag);
      if (function && !file_->executable(*function))
        throw OutOfBounds("constructor or destructor outside the executable segments");
    }
    protect_text(true);
    apply_relr();
    for (const auto& relocation : file_->relocations()) apply(relocation, resolver);
    for (const auto& relocation : file_->plt_relocations()) apply(relocation, resolver);
    protect_text(false);
    protect_relocated(false);
    // Assigning {} would keep the memory.
    std::vector<Target>().swap(others_);
    std::vector<std::uint32_t>().swap(other_places_);
    std::vector<Image*>().swap(scope_);
    definitions_.reset();
  } catch (const OutOfBounds& error) {
    throw ImageError(file_->path(), std::string("damaged ELF file: ") + error.what());
  }
  state_ = State::bound;
}

void Image::finish_binding() {
  if (deferred_.empty()) return;
  protect_text(true);
  protect_relocated(true);
  for (const auto& entry : deferred_) {
    *entry.slot = call_resolver(entry.resolver) + entry.addend;
  }
  std::vector<Deferred>().swap(deferred_);
  protect_text(false);
  protect_relocated(false);
}

void Image::construct() {
  state_ = State::ready;  // at once: a constructor may open what needs this image
  try {
    run_constructors();
    return;
  } catch (const abi::__forced_unwind&) {
    state_ = State::failed;
    throw;
  } catch (const std::exception& error) {
    failure_ = std::string("a constructor of it threw: ") + error.what();
  } catch (...) {
    failure_ = "a constructor of it threw what is no std::exception";
  }
  state_ = State::failed;
  throw ImageError(file_->path(), failure_);
}

void Image::run_constructors() {
  const auto& arguments = process_arguments();
  using Constructor = void (*)(int, char**, char**);
  const auto call = [&](std::uintptr_t address) {
    reinterpret_cast<Constructor>(address)(arguments.count, arguments.values, arguments.environment);
  };
  if (const auto init = file_->dynamic_value(DT_INIT)) call(base_ + *init);
  const auto array = file_->dynamic_value(DT_INIT_ARRAY);
  const auto size = file_->dynamic_value(DT_INIT_ARRAYSZ).value_or(0);
  if (!array || !file_->covers(*array, size)) return;
  const auto* functions = reinterpret_cast<const std::uintptr_t*>(base_ + *array);
  for (std::uint64_t i = 0; i < size / sizeof(std::uintptr_t); ++i) {
    const std::uintptr_t entry = functions[i];
    if (entry != 0 && entry != ~std::uintptr_t{0}) call(entry);
  }
}

void Image::run_destructors() {
  const auto array = file_->dynamic_value(DT_FINI_ARRAY);
  const auto size = file_->dynamic_value(DT_FINI_ARRAYSZ).value_or(0);
  if (array && file_->covers(*array, size)) {
    const auto* functions = reinterpret_cast<const std::uintptr_t*>(base_ + *array);
    for (std::uint64_t i = size / sizeof(std::uintptr_t); i > 0; --i) {
      const std::uintptr_t entry = functions[i - 1];
      if (entry != 0 && entry != ~std::uintptr_t{0}) reinterpret_cast<void (*)()>(entry)();
    }
  }
  if (const auto fini = file_->dynamic_value(DT_FINI)) reinterpret_cast<void (*)()>(base_ + *fini)();
}

}  // namespace multipy::elf

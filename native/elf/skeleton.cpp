#include "elf/skeleton.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/unique_fd.h"
#include "elf/arch.h"
#include "elf/initial_pointers.h"
#include "elf/link_maps.h"
#include "elf/pages.h"

namespace multipy::elf {

namespace {

// What an image may ask for. Room in the static block is scarce (512 bytes are set aside for the sake of speed), and
// libpython, whose code asks for its thread-locals all the time, needs 16.
constexpr std::uint64_t kSmallBlock = 32;
constexpr std::uint64_t kNeverStaticAlignment = 4096;  // of a block: glibc's static one has a cache line's

template <typename T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

bool left_to_glibc(const File& file, const ElfW(Rela) & relocation) {
  const auto kind = classify(static_cast<std::uint32_t>(ELF64_R_TYPE(relocation.r_info)));
  if (kind != RelocationKind::tls_static && kind != RelocationKind::tls_descriptor) return false;
  const auto index = static_cast<std::uint32_t>(ELF64_R_SYM(relocation.r_info));
  return index == 0 || file.symbol(index).defined;
}

std::size_t words_written(const ElfW(Rela) & relocation) {
  return ELF64_R_TYPE(relocation.r_info) == kTlsDescriptorType ? 2 : 1;
}

bool is_static(const ElfW(Rela) & relocation) { return ELF64_R_TYPE(relocation.r_info) == kTlsStaticType; }

std::vector<ElfW(Rela)> relocations_for_glibc(const File& file) {
  std::vector<ElfW(Rela)> kept;
  for (const auto& relocation : file.thread_local_relocations()) {
    if (!left_to_glibc(file, relocation)) continue;
    if (!file.writable(relocation.r_offset, words_written(relocation) * sizeof(std::uintptr_t))) {
      throw OutOfBounds("thread-local relocation outside the writable segments");
    }
    if (!file.has_tls()) throw OutOfBounds("thread-local relocation without thread-locals");
    ElfW(Rela) restated = relocation;
    const auto index = static_cast<std::uint32_t>(ELF64_R_SYM(relocation.r_info));
    // A damaged file's sum may overflow; as unsigned numbers it only is wrong.
    const std::uint64_t value = index == 0 ? 0 : file.symbol(index).value;
    restated.r_addend = static_cast<ElfW(Sxword)>(static_cast<std::uint64_t>(restated.r_addend) + value);
    restated.r_info = ELF64_R_INFO(0, ELF64_R_TYPE(relocation.r_info));
    kept.push_back(restated);
  }
  return kept;
}

std::optional<ElfW(Rela)> probe_for_static_block(const File& file) {
  if (!kStaticTlsBelowThread) return std::nullopt;  // compilers use descriptors there
  const auto& headers = file.program_headers();
  const auto block =
      std::find_if(headers.begin(), headers.end(), [](const auto& each) { return each.p_type == PT_TLS; });
  if (block == headers.end() || block->p_filesz != 0 || block->p_memsz > kSmallBlock) return std::nullopt;
  std::optional<ElfW(Rela)> probe;
  for (const auto& relocation : file.thread_local_relocations()) {
    const auto kind = classify(static_cast<std::uint32_t>(ELF64_R_TYPE(relocation.r_info)));
    if (kind == RelocationKind::tls_offset || left_to_glibc(file, relocation)) return std::nullopt;
    if (kind != RelocationKind::tls_module) continue;
    if (ELF64_R_SYM(relocation.r_info) != 0) return std::nullopt;
    if (!file.writable(relocation.r_offset, 2 * sizeof(std::uintptr_t))) return std::nullopt;
    if (!probe) probe = {relocation.r_offset, ELF64_R_INFO(0, kTlsDescriptorType), 0};
  }
  return probe;
}

std::ptrdiff_t static_tls_offset(const std::uintptr_t* words) noexcept {
  // The second word of a descriptor is the offset, or else a pointer.
  return std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(words[1]), 0);
}

Skeleton build_skeleton(const File& file) {
  Skeleton skeleton{{}, relocations_for_glibc(file), probe_for_static_block(file), initial_pointers(file)};
  std::vector<Patch>& patches = skeleton.patches;
  patches.push_back({0, bytes_of(file.header())});

  auto kept = skeleton.left_to_glibc;
  const InitialPointers& pointers = skeleton.pointers;
  const bool in_static_block = std::any_of(kept.begin(), kept.end(), is_static);
  if (in_static_block) {
    if (!pointers.foreign.empty()) throw ImageError(file.path(), kPointsElsewhere, pointers.foreign);
    for (const auto& pointer : pointers.relative) {
      if (!file.writable(pointer.r_offset, sizeof(std::uintptr_t)))
        throw OutOfBounds("thread-local relocation outside the writable segments");
    }
    kept.insert(kept.end(), pointers.relative.begin(), pointers.relative.end());
  }
  if (skeleton.probe) kept.push_back(*skeleton.probe);

  std::string headers;
  for (ElfW(Phdr) entry : file.program_headers()) {
    // Notes are not there to read yet, and read-only data must stay writable until we have bound it.
    // glibc finds the headers by itself, and would believe a wrong PT_PHDR.
    if (entry.p_type == PT_NOTE || entry.p_type == PT_GNU_PROPERTY || entry.p_type == PT_GNU_RELRO ||
        entry.p_type == PT_PHDR) {
      entry.p_type = PT_NULL;
    }
    // For the sake of speed glibc would give small blocks room in the static one, unless they need a stricter
    // alignment than is possible there; then running threads would have their copies before the pointers are right.
    if (entry.p_type == PT_TLS && pointers.any && !in_static_block) {
      entry.p_align = std::max<std::uint64_t>(entry.p_align, kNeverStaticAlignment);
    }
    headers += bytes_of(entry);
  }
  patches.push_back({file.header().e_phoff, headers});

  std::string dynamic;
  const auto add = [&](ElfW(Sxword) tag, std::uint64_t value) {
    ElfW(Dyn) entry{};
    entry.d_tag = tag;
    entry.d_un.d_val = value;
    dynamic += bytes_of(entry);
  };
  for (const ElfW(Sxword) tag : {DT_STRTAB, DT_STRSZ, DT_SYMTAB, DT_SYMENT}) {
    if (const auto value = file.dynamic_value(tag)) add(tag, *value);
  }
  // glibc reads the heads of the hash tables at once; the tables themselves will be there when someone looks up.
  const auto add_hash = [&](ElfW(Sxword) tag, std::uint64_t head) {
    const auto address = file.dynamic_value(tag);
    if (!address) return;
    add(tag, *address);
    const auto offset = file.file_offset(*address, head);
    const auto bytes = file.bytes().sub(offset, head);
    patches.push_back({offset, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}});
  };
  add_hash(DT_GNU_HASH, 16);
  add_hash(DT_HASH, 8);

  const bool static_tls = in_static_block || (file.dynamic_value(DT_FLAGS).value_or(0) & DF_STATIC_TLS) != 0;
  if (!kept.empty()) {
    const bool in_rela = file.relocations().size() >= kept.size();
    if (!in_rela && file.plt_relocations().size() < kept.size()) {
      throw ImageError(file.path(), "its thread-local relocations do not fit where they were");
    }
    const std::uint64_t address = *file.dynamic_value(in_rela ? DT_RELA : DT_JMPREL);
    std::string table;
    for (const auto& relocation : kept) table += bytes_of(relocation);
    add(DT_RELA, address);
    add(DT_RELASZ, table.size());
    add(DT_RELAENT, sizeof(ElfW(Rela)));
    patches.push_back({file.file_offset(address, table.size()), table});
  }
  if (static_tls) add(DT_FLAGS, DF_STATIC_TLS);
  add(DT_NULL, 0);
  if (dynamic.size() > (file.dynamic().size() + 1) * sizeof(ElfW(Dyn)))
    throw ImageError(file.path(), "dynamic section too short");
  patches.push_back({file.dynamic_offset(), dynamic});

  for (const auto& entry : file.program_headers()) {
    // Threads that exist already get their copy of static thread-locals while glibc loads the skeleton.
    if (entry.p_type != PT_TLS || entry.p_filesz == 0) continue;
    const auto bytes = file.bytes().sub(entry.p_offset, entry.p_filesz);
    patches.push_back({entry.p_offset, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}});
  }

  // What glibc is to see must not be overwritten by something else it is to see.
  std::sort(patches.begin(), patches.end(), [](const Patch& a, const Patch& b) { return a.offset < b.offset; });
  for (std::size_t i = 1; i < patches.size(); ++i) {
    if (patches[i - 1].offset + patches[i - 1].bytes.size() > patches[i].offset)
      throw ImageError(file.path(), "damaged ELF file: its tables overlap");
  }
  return skeleton;
}

void* open_skeleton(const File& file) {
  const std::string base = file.path().substr(file.path().rfind('/') + 1);
  void* handle = nullptr;
  try {
    const UniqueFd memfd = create_memfd(base.substr(0, 200));
    if (::ftruncate(memfd.get(), static_cast<off_t>(page_up(file.bytes().size()))) != 0)
      throw Error(std::string("ftruncate: ") + std::strerror(errno));
    for (const auto& patch : file.skeleton().patches) fill(memfd, patch.bytes.data(), patch.bytes.size(), patch.offset);
    handle = open_image(memfd);
  } catch (const ImageError&) {
    throw;
  } catch (const Error& error) {
    throw ImageError(file.path(), error.what());
  }
  if (handle == nullptr) {
    const char* reason = ::dlerror();
    throw ImageError(file.path(), std::string("the dynamic linker refuses it: ") + (reason ? reason : "unknown"));
  }
  name_for_debuggers(*static_cast<link_map*>(handle), file.path());
  return handle;
}

}  // namespace multipy::elf

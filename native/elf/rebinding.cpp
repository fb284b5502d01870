#include "elf/rebinding.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <mutex>

#include "base/process_lock.h"
#include "elf/arch.h"
#include "elf/pages.h"

namespace multipy::elf {

namespace {

/// A loaded library's own account of itself, as glibc has relocated it.
struct Loaded {
  std::uintptr_t base = 0;
  std::uintptr_t protected_begin = 0, protected_end = 0;  // what ld.so has made read-only after relocation
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  std::array<const ElfW(Rela)*, 2> tables{};
  std::array<std::size_t, 2> sizes{};

  explicit Loaded(const link_map& map) : base(map.l_addr) {
    for (const auto* entry = map.l_ld; entry->d_tag != DT_NULL; ++entry) {
      // glibc adds the base to addresses where it may write to the section.
      const auto value = entry->d_un.d_ptr;
      const auto at = value < base ? base + value : value;
      switch (entry->d_tag) {
        case DT_SYMTAB:
          symbols = reinterpret_cast<const ElfW(Sym)*>(at);
          break;
        case DT_STRTAB:
          strings = reinterpret_cast<const char*>(at);
          break;
        case DT_RELA:
          tables[0] = reinterpret_cast<const ElfW(Rela)*>(at);
          break;
        case DT_RELASZ:
          sizes[0] = value / sizeof(ElfW(Rela));
          break;
        case DT_JMPREL:
          tables[1] = reinterpret_cast<const ElfW(Rela)*>(at);
          break;
        case DT_PLTRELSZ:
          sizes[1] = value / sizeof(ElfW(Rela));
          break;
        default:
          break;
      }
    }
    const auto visit = [](dl_phdr_info* info, std::size_t, void* argument) {
      auto& self = *static_cast<Loaded*>(argument);
      if (info->dlpi_addr != self.base) return 0;
      for (int i = 0; i < info->dlpi_phnum; ++i) {
        const ElfW(Phdr) & header = info->dlpi_phdr[i];
        if (header.p_type != PT_GNU_RELRO) continue;
        self.protected_begin = page_down(self.base + header.p_vaddr);
        self.protected_end = page_down(self.base + header.p_vaddr + header.p_memsz);
      }
      return 1;
    };
    ::dl_iterate_phdr(visit, this);
  }

  /// False: it cannot be written to.
  bool write(std::uintptr_t slot, std::uintptr_t value) const {
    const bool is_protected = slot >= protected_begin && slot < protected_end;
    void* const page = reinterpret_cast<void*>(page_down(slot));
    if (is_protected && ::mprotect(page, page_size(), PROT_READ | PROT_WRITE) != 0) return false;
    // Threads may be calling through it.
    std::atomic_ref(*reinterpret_cast<std::uintptr_t*>(slot)).store(value, std::memory_order_release);
    if (is_protected) ::mprotect(page, page_size(), PROT_READ);
    return true;
  }
};

}  // namespace

int rebind(const link_map& map, const std::function<std::uintptr_t(std::string_view)>& replacement_of) {
  // A page is made writable for a moment: another thread must not make it read-only meanwhile.
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::bindings_of_libraries);
  const std::lock_guard lock(mutex);
  const Loaded library(map);
  if (library.symbols == nullptr || library.strings == nullptr) return 0;
  int count = 0;
  for (std::size_t table = 0; table < library.tables.size(); ++table) {
    for (std::size_t i = 0; library.tables[table] != nullptr && i < library.sizes[table]; ++i) {
      const ElfW(Rela) & relocation = library.tables[table][i];
      if (classify(static_cast<std::uint32_t>(ELF64_R_TYPE(relocation.r_info))) != RelocationKind::got_entry) continue;
      const ElfW(Sym) & symbol = library.symbols[ELF64_R_SYM(relocation.r_info)];
      if (symbol.st_shndx != SHN_UNDEF) continue;
      const std::uintptr_t ours = replacement_of(library.strings + symbol.st_name);
      if (ours != 0 && library.write(library.base + relocation.r_offset, ours)) ++count;
    }
  }
  return count;
}

}  // namespace multipy::elf

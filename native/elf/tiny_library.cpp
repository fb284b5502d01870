#include "elf/tiny_library.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "elf/arch.h"

namespace multipy::elf {

namespace {

constexpr std::uint64_t kLargestPage = 1 << 16;  // of any kernel on the machines we support

ElfW(Phdr) segment(ElfW(Word) type, std::uint64_t offset, std::uint64_t size, std::uint64_t alignment) {
  ElfW(Phdr) entry{};
  entry.p_type = type;
  entry.p_flags = PF_R | PF_W;  // glibc writes addresses into the dynamic section
  entry.p_offset = entry.p_vaddr = entry.p_paddr = offset;
  entry.p_filesz = entry.p_memsz = size;
  entry.p_align = alignment;
  return entry;
}

ElfW(Dyn) dynamic(ElfW(Sxword) tag, std::uint64_t value) {
  ElfW(Dyn) entry{};
  entry.d_tag = tag;
  entry.d_un.d_val = value;
  return entry;
}

}  // namespace

TinyLibrary make_tiny_library(std::string_view search_path) {
  TinyLibrary library;
  auto& header = library.header;
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = std::endian::native == std::endian::little ? ELFDATA2LSB : ELFDATA2MSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_DYN;
  header.e_machine = kMachine;
  header.e_version = EV_CURRENT;
  header.e_ehsize = sizeof(ElfW(Ehdr));
  header.e_phoff = offsetof(TinyLibrary, segments);
  header.e_phentsize = sizeof(ElfW(Phdr));
  header.e_phnum = static_cast<ElfW(Half)>(library.segments.size());
  // Without a word about the stack, it would become executable.
  library.segments = {segment(PT_LOAD, 0, sizeof(TinyLibrary), kLargestPage),
                      segment(PT_DYNAMIC, offsetof(TinyLibrary, dynamic), sizeof library.dynamic, alignof(ElfW(Dyn))),
                      segment(PT_GNU_STACK, 0, 0, 16)};
  // The first string of all is empty, and so is the last.
  const std::size_t size = std::min(search_path.size(), library.strings.size() - 2);
  std::copy_n(search_path.begin(), size, library.strings.begin() + 1);
  library.dynamic = {dynamic(DT_STRTAB, offsetof(TinyLibrary, strings)),
                     dynamic(DT_SYMTAB, offsetof(TinyLibrary, no_symbol)), dynamic(DT_STRSZ, sizeof library.strings),
                     search_path.empty() ? dynamic(DT_NULL, 0) : dynamic(DT_RUNPATH, 1), dynamic(DT_NULL, 0)};
  return library;
}

}  // namespace multipy::elf

#include "elf/initial_pointers.h"

#include "elf/arch.h"

namespace multipy::elf {

namespace {

/// The part of the thread-local block that is copied from the file.
struct Values {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
  bool hold(std::uint64_t at) const { return at >= address && at - address < size; }
};

Values values_of(const File& file) {
  for (const auto& header : file.program_headers()) {
    if (header.p_type == PT_TLS) return {header.p_vaddr, header.p_filesz};
  }
  return {};
}

ElfW(Rela) relative_to_base(std::uint64_t address, std::uint64_t addend) {
  ElfW(Rela) relocation{};
  relocation.r_offset = address;
  relocation.r_info = ELF64_R_INFO(0, kRelativeType);
  relocation.r_addend = static_cast<ElfW(Sxword)>(addend);
  return relocation;
}

}  // namespace

InitialPointers initial_pointers(const File& file) {
  InitialPointers found;
  const Values values = values_of(file);
  if (values.size == 0) return found;
  for (const auto& relocation : file.thread_local_relocations()) {
    if (!values.hold(relocation.r_offset)) continue;
    const auto kind = classify(static_cast<std::uint32_t>(ELF64_R_TYPE(relocation.r_info)));
    const auto index = static_cast<std::uint32_t>(ELF64_R_SYM(relocation.r_info));
    const Symbol symbol = index == 0 ? Symbol{} : file.symbol(index);
    const bool own = index == 0 || (symbol.defined && symbol.type != STT_TLS && symbol.type != STT_GNU_IFUNC);
    found.any = true;
    if (kind == RelocationKind::relative || (kind == RelocationKind::absolute && own)) {
      found.relative.push_back(
          relative_to_base(relocation.r_offset, static_cast<std::uint64_t>(relocation.r_addend) + symbol.value));
    } else if (found.foreign.empty()) {
      found.foreign = symbol.name.empty() ? "an indirect function" : symbol.name;
    }
  }
  for_each_relative(file.relative_relocations(), [&](std::uint64_t address) {
    if (!values.hold(address)) return;
    found.any = true;
    const std::uint64_t offset = file.file_offset(address, sizeof(std::uint64_t));
    found.relative.push_back(relative_to_base(address, file.bytes().read<std::uint64_t>(offset)));
  });
  return found;
}

}  // namespace multipy::elf

// What differs between processors: the machine number and the meaning of relocation types.
#pragma once

#include <elf.h>

#include <cstdint>

namespace multipy::elf {

/// What a relocation asks for, independent of the processor (names follow the psABI's formulas).
enum class RelocationKind : std::uint8_t {
  none,
  relative,        // B + A
  absolute,        // S + A
  got_entry,       // S (+ A): GLOB_DAT and JUMP_SLOT
  tls_module,      // the module id of the variable
  tls_offset,      // the variable's offset in its module
  tls_static,      // the variable's offset from the thread pointer (initial-exec); written by glibc
  tls_descriptor,  // a TLS descriptor; written by glibc
  irelative,       // the address an IFUNC resolver at B + A returns
  unsupported,
};

#if defined(__x86_64__)
inline constexpr std::uint16_t kMachine = EM_X86_64;
inline constexpr std::uint32_t kTlsStaticType = R_X86_64_TPOFF64;
inline constexpr std::uint32_t kTlsDescriptorType = R_X86_64_TLSDESC;

constexpr RelocationKind classify(std::uint32_t type) {
  switch (type) {
    case R_X86_64_NONE:
      return RelocationKind::none;
    case R_X86_64_RELATIVE:
      return RelocationKind::relative;
    case R_X86_64_64:
      return RelocationKind::absolute;
    case R_X86_64_GLOB_DAT:
    case R_X86_64_JUMP_SLOT:
      return RelocationKind::got_entry;
    case R_X86_64_DTPMOD64:
      return RelocationKind::tls_module;
    case R_X86_64_DTPOFF64:
      return RelocationKind::tls_offset;
    case R_X86_64_TPOFF64:
      return RelocationKind::tls_static;
    case R_X86_64_TLSDESC:
      return RelocationKind::tls_descriptor;
    case R_X86_64_IRELATIVE:
      return RelocationKind::irelative;
    default:
      return RelocationKind::unsupported;
  }
}
#else
#error "MultiPy Actors supports x86-64 Linux"
#endif

}  // namespace multipy::elf

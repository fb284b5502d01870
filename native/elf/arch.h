// What differs between processors: the machine number, the meaning of relocation types, how resolvers are called and
// what is said of it in ld.so.cache. Another processor needs a section here and a tls_descriptor_<processor>.cpp.
#pragma once

#include <elf.h>

#include <cstdint>

#if defined(__aarch64__)
#include <sys/auxv.h>
#include <sys/ifunc.h>
#endif

namespace multipy::elf {

/// What a relocation asks for, independent of the processor (names follow the psABI's formulas).
enum class RelocationKind : std::uint8_t {
  none,
  relative,        // B + A
  absolute,        // S + A
  got_entry,       // S, plus A where kGotEntriesHaveAddends: GLOB_DAT and JUMP_SLOT
  tls_module,      // the module id of the variable
  tls_offset,      // the variable's offset in its module
  tls_static,      // the variable's offset from the thread pointer (initial-exec); the image's own are glibc's to write
  tls_descriptor,  // a TLS descriptor; the image's own are glibc's to write
  irelative,       // the address an IFUNC resolver at B + A returns
  unsupported,     // among them COPY, which only executables have
};

#if defined(__x86_64__)
inline constexpr std::uint16_t kMachine = EM_X86_64;
inline constexpr std::uint32_t kRelativeType = R_X86_64_RELATIVE;
inline constexpr std::uint32_t kTlsStaticType = R_X86_64_TPOFF64;
inline constexpr std::uint32_t kTlsDescriptorType = R_X86_64_TLSDESC;
inline constexpr bool kGotEntriesHaveAddends = false;  // ld.so does not look at them
inline constexpr bool kStaticTlsBelowThread = true;    // where the static block of thread-locals lies

// In ld.so.cache: FLAG_X8664_LIB64 | FLAG_ELF_LIBC6
inline constexpr std::int32_t kCacheFlags = 0x0303;

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

/// Asks an IFUNC resolver for the function to use.
inline std::uintptr_t call_resolver(std::uintptr_t resolver) {
  return reinterpret_cast<std::uintptr_t (*)()>(resolver)();
}
#elif defined(__aarch64__) && defined(__LP64__) && !defined(__AARCH64EB__)
inline constexpr std::uint16_t kMachine = EM_AARCH64;
inline constexpr std::uint32_t kRelativeType = R_AARCH64_RELATIVE;
inline constexpr std::uint32_t kTlsStaticType = R_AARCH64_TLS_TPREL;
inline constexpr std::uint32_t kTlsDescriptorType = R_AARCH64_TLSDESC;
inline constexpr bool kGotEntriesHaveAddends = true;
inline constexpr bool kStaticTlsBelowThread = false;

// In ld.so.cache: FLAG_AARCH64_LIB64 | FLAG_ELF_LIBC6
inline constexpr std::int32_t kCacheFlags = 0x0a03;

constexpr RelocationKind classify(std::uint32_t type) {
  switch (type) {
    case R_AARCH64_NONE:
      return RelocationKind::none;
    case R_AARCH64_RELATIVE:
      return RelocationKind::relative;
    case R_AARCH64_ABS64:
      return RelocationKind::absolute;
    case R_AARCH64_GLOB_DAT:
    case R_AARCH64_JUMP_SLOT:
      return RelocationKind::got_entry;
    case R_AARCH64_TLS_DTPMOD:
      return RelocationKind::tls_module;
    case R_AARCH64_TLS_DTPREL:
      return RelocationKind::tls_offset;
    case R_AARCH64_TLS_TPREL:
      return RelocationKind::tls_static;
    case R_AARCH64_TLSDESC:
      return RelocationKind::tls_descriptor;
    case R_AARCH64_IRELATIVE:
      return RelocationKind::irelative;
    default:
      return RelocationKind::unsupported;
  }
}

/// Asks an IFUNC resolver for the function to use; it is told what the processor can do.
inline std::uintptr_t call_resolver(std::uintptr_t resolver) {
  __ifunc_arg_t features{};
  features._size = sizeof features;
  features._hwcap = ::getauxval(AT_HWCAP);
  features._hwcap2 = ::getauxval(AT_HWCAP2);
  using Resolver = std::uintptr_t (*)(std::uint64_t, const __ifunc_arg_t*);
  return reinterpret_cast<Resolver>(resolver)(features._hwcap | _IFUNC_ARG_HWCAP, &features);
}
#else
#error "MultiPy Actors supports Linux on x86-64 and on 64-bit Arm"
#endif

}  // namespace multipy::elf

// TLS descriptors for thread-locals of other libraries.
//
// Code compiled for descriptors (the default on 64-bit Arm) asks for a thread-local by calling the first of two words
// with their address, and gets the variable's offset from the thread pointer. The descriptors of an image's own
// variables are glibc's to write: it knows best where it put the block. Those of other libraries' variables it cannot
// write, because it sees neither their names nor, for images, their scope. So these words are ours, with functions of
// our own, which need nothing of glibc but __tls_get_addr.
//
// Such a function may change nothing but the register of its result, so it is assembly: one file per processor.
#pragma once

#include <cstdint>
#include <optional>

#include "elf/image.h"

namespace multipy::elf {

struct TlsDescriptor {
  std::uintptr_t function = 0;
  std::uintptr_t argument = 0;
};

/// The descriptor of `target` plus `addend`; an unresolved target's address is then `addend`. Nothing where we have no
/// such functions for the processor. What a descriptor points to stays for ever. Any thread.
std::optional<TlsDescriptor> describe(const Target& target, std::uint64_t addend);

}  // namespace multipy::elf

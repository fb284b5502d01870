// On x86-64 compilers use descriptors only when told to (-mtls-dialect=gnu2), and the function would have to save
// vector registers of a size that differs between processors: not worth it, image.cpp reports the library instead.
#include "elf/tls_descriptor.h"

namespace multipy::elf {

std::optional<TlsDescriptor> describe(const Target&, std::uint64_t) { return std::nullopt; }

}  // namespace multipy::elf

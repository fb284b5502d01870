// The file that glibc is given to open in place of the original: what the dynamic linker itself must read, and holes.
//
// It asks for nothing: no dependencies, no constructors, no symbol lookups. What glibc does with it is what nobody else
// can do: reserve addresses, lay out thread-locals, register unwinding tables and a name for debuggers. So of the
// relocations it holds those whose values depend on that layout, and those that must be right before a thread may
// start (initial_pointers.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/export.h"
#include "elf/file.h"
#include "elf/initial_pointers.h"

namespace multipy::elf {

/// Bytes of the skeleton, at their offset in the file.
struct Patch {
  std::uint64_t offset = 0;
  std::string bytes;
};

/// All that is worked out about a file before its images are mapped, once for all of them: File::skeleton().
struct Skeleton {
  std::vector<Patch> patches;             // what the dynamic linker needs to see; the rest stays a hole
  std::vector<ElfW(Rela)> left_to_glibc;  // as relocations_for_glibc() restates them
  std::optional<ElfW(Rela)> probe;        // see probe_for_static_block()
  InitialPointers pointers;
};

/// Throws ImageError or OutOfBounds.
MULTIPY_API Skeleton build_skeleton(const File& file);

/// Has glibc open the skeleton of `file`: dlopen's handle. Throws ImageError.
void* open_skeleton(const File& file);

/// Static offsets and descriptors of thread-locals can only be computed by glibc, which lays out the blocks.
bool left_to_glibc(const File& file, const ElfW(Rela) & relocation);

/// A TLS descriptor is two words, a static offset one.
std::size_t words_written(const ElfW(Rela) & relocation);

/// Whether the relocation has glibc put the image's thread-locals into the static block.
bool is_static(const ElfW(Rela) & relocation);

/// The relocations left to glibc, restated without a symbol so that it need not look anything up. It checks nothing.
std::vector<ElfW(Rela)> relocations_for_glibc(const File& file);

/// A relocation by which glibc is asked for room in the static block, and tells where: for an image with a few bytes of
/// zeros for thread-locals, all of whose accesses are by __tls_get_addr and to its own. It writes two words where the
/// image has those for the first access: what they are by then, see static_tls_offset(). Nothing for other images.
std::optional<ElfW(Rela)> probe_for_static_block(const File& file);

/// Where the block lies from the thread pointer, given the words that glibc wrote for the probe; 0 if it is not static.
std::ptrdiff_t static_tls_offset(const std::uintptr_t* words) noexcept;

}  // namespace multipy::elf

// What an ELF shared library says about itself, read from untrusted bytes.
//
// A File maps the original read-only and answers from there: segments, the dynamic section, needed libraries and
// search paths, the symbol table with its hash and versions, and relocations. Every offset that comes out of the file
// goes through a CheckedSpan; whatever leaves the file or contradicts itself is an ImageError that names the file.
// A File does not change once parsed, so that all interpreters share one (File::open caches by device, inode, size and
// modification time) and any thread may use it. Section headers are never read: stripped ones are no loss.
#pragma once

#include <elf.h>
#include <link.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/checked_span.h"
#include "base/export.h"
#include "base/unique_fd.h"

namespace multipy::elf {

/// Which file this is, however it is spelled.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  auto operator<=>(const FileId&) const = default;
};

/// One segment the loader maps, in page units as mmap sees it.
struct Segment {
  std::uint64_t address = 0;      // virtual address, from the image's base
  std::uint64_t memory_size = 0;  // bytes in memory
  std::uint64_t offset = 0;       // in the file
  std::uint64_t file_size = 0;    // bytes from the file; the rest is zero
  int protection = 0;             // PROT_*
};

/// A symbol a relocation asks for, or that a lookup found.
struct Symbol {
  std::string_view name;
  std::uint64_t value = 0;
  unsigned char type = STT_NOTYPE;
  unsigned char binding = STB_LOCAL;
  unsigned char visibility = STV_DEFAULT;
  bool defined = false;
  std::string_view version;  // empty: none
  std::uint32_t index = 0;   // in the symbol table
};

/// The name a lookup asks for, hashed once.
struct MULTIPY_API SymbolName {
  explicit SymbolName(std::string_view name, std::string_view version = {});
  std::string_view name;
  std::string_view version;
  std::uint32_t gnu_hash;
};

struct Skeleton;

/// Whether `name` belongs to the CPython API: Py…, _Py….
MULTIPY_API bool is_python_name(std::string_view name);

class MULTIPY_API File {
 public:
  /// Maps and parses `path`; the same file is parsed once. Throws ImageError.
  static std::shared_ptr<const File> open(const std::string& path);
  /// Parses bytes already in memory (tests and fuzzing); `bytes` must outlive the File.
  static std::shared_ptr<const File> parse(const std::string& name, CheckedSpan bytes);

  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const noexcept { return path_; }
  FileId id() const noexcept { return id_; }
  /// Opens the file again; throws ImageError if it was changed. Where another one lies there by now, or none, as caches
  /// of compiled code replace files that others are loading, it is a copy of what was read. Holding a descriptor per
  /// library instead would use up the process's limit.
  UniqueFd reopen() const;
  CheckedSpan bytes() const noexcept { return bytes_; }

  const ElfW(Ehdr) & header() const noexcept { return header_; }
  std::span<const ElfW(Phdr)> program_headers() const noexcept { return program_headers_; }
  const std::vector<Segment>& segments() const noexcept { return segments_; }
  std::uint64_t memory_end() const noexcept { return memory_end_; }  // of the last segment, in bytes
  /// Whether [address, address + length) lies inside one segment's memory.
  bool covers(std::uint64_t address, std::uint64_t length) const noexcept;
  /// Whether it lies inside one segment that may be written; whether there is code of the file.
  bool writable(std::uint64_t address, std::uint64_t length) const noexcept;
  bool executable(std::uint64_t address) const noexcept;

  std::uint64_t dynamic_offset() const noexcept { return dynamic_offset_; }
  std::span<const ElfW(Dyn)> dynamic() const noexcept { return dynamic_; }
  std::optional<std::uint64_t> dynamic_value(ElfW(Sxword) tag) const noexcept;

  const std::string& soname() const noexcept { return soname_; }
  const std::vector<std::string>& needed() const noexcept { return needed_; }
  const std::string& rpath() const noexcept { return rpath_; }
  const std::string& runpath() const noexcept { return runpath_; }
  bool binds_symbolically() const noexcept { return symbolic_; }
  bool has_tls() const noexcept { return has_tls_; }
  std::uint64_t tls_size() const noexcept { return tls_size_; }
  /// Whether it has thread-locals that its code expects in the static block.
  bool needs_static_block() const noexcept {
    return has_tls_ && (dynamic_value(DT_FLAGS).value_or(0) & DF_STATIC_TLS) != 0;
  }

  std::span<const ElfW(Rela)> relocations() const noexcept { return rela_; }
  std::span<const ElfW(Rela)> plt_relocations() const noexcept { return plt_rela_; }
  std::span<const ElfW(Relr)> relative_relocations() const noexcept { return relr_; }
  /// Those of either table, in order, that concern thread-locals: where they are, or their initial values.
  std::span<const ElfW(Rela)> thread_local_relocations() const noexcept { return tls_rela_; }

  std::size_t symbol_count() const noexcept { return symbol_count_; }
  Symbol symbol(std::uint32_t index) const;
  /// The same without name and version, which take time to read.
  Symbol unnamed_symbol(std::uint32_t index) const;
  std::optional<Symbol> find(const SymbolName& name) const;
  /// The defined symbol that `address` (from the base) lies in or follows most closely, as dladdr means it.
  std::optional<Symbol> nearest(std::uint64_t address) const;

  /// Whether a relocation refers to an undefined Py…/_Py… symbol: then the library is an extension of CPython.
  bool references_python() const noexcept { return references_python_; }

  /// What its images need to know before they are mapped (skeleton.h); found out once. Throws ImageError or
  /// OutOfBounds.
  const Skeleton& skeleton() const;

  /// Where the virtual address lies in the file; throws OutOfBounds where it does not.
  std::uint64_t file_offset(std::uint64_t address, std::uint64_t length) const;

 private:
  File(std::string path, CheckedSpan bytes);
  UniqueFd copy() const;
  void parse_all();
  void parse_headers();
  void parse_dynamic();
  void parse_symbols();
  void parse_versions();
  void parse_relocations();
  void parse_thread_locals();
  CheckedSpan at(std::uint64_t address, std::uint64_t length) const;
  std::string_view string(std::uint64_t offset) const;
  std::string_view version_of(std::uint32_t index) const;
  bool version_hidden(std::uint32_t index) const;

  std::string path_;
  std::int64_t modified_ = 0;  // nanoseconds
  FileId id_;
  void* mapping_ = nullptr;
  CheckedSpan bytes_;

  ElfW(Ehdr) header_ {};
  std::span<const ElfW(Phdr)> program_headers_;
  std::vector<Segment> segments_;
  std::uint64_t memory_end_ = 0;
  std::uint64_t dynamic_offset_ = 0;
  std::span<const ElfW(Dyn)> dynamic_;
  CheckedSpan strings_;
  std::string soname_, rpath_, runpath_;
  std::vector<std::string> needed_;
  bool symbolic_ = false, has_tls_ = false, references_python_ = false;
  std::uint64_t tls_size_ = 0;

  std::span<const ElfW(Sym)> symbols_;
  std::size_t symbol_count_ = 0;
  std::uint32_t gnu_first_ = 0, gnu_shift_ = 0;  // DT_GNU_HASH
  std::span<const ElfW(Addr)> gnu_bloom_;
  std::span<const std::uint32_t> gnu_buckets_, gnu_chains_;
  std::span<const std::uint32_t> sysv_buckets_, sysv_chains_;  // DT_HASH
  std::span<const std::uint16_t> version_indices_;
  std::vector<std::string_view> version_names_;
  std::span<const ElfW(Rela)> rela_, plt_rela_;
  std::span<const ElfW(Relr)> relr_;
  std::vector<ElfW(Rela)> tls_rela_;

  mutable std::shared_ptr<const Skeleton> skeleton_;
};

}  // namespace multipy::elf

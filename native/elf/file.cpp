#include "elf/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <tuple>

#include "base/error.h"
#include "base/process_lock.h"
#include "elf/arch.h"
#include "elf/link_maps.h"
#include "elf/skeleton.h"

namespace multipy::elf {

namespace {

// Larger tables than this come from a damaged file, not from a linker.
constexpr std::uint64_t kMostSymbols = 1u << 26;
constexpr std::uint64_t kMostThreadLocal = 1u << 30;
constexpr std::uint64_t kMostVersions = 1u << 16;

// Relocations in the packed formats of Android's linker, which lld writes and glibc silently leaves out.
constexpr ElfW(Sxword) kAndroidRel = 0x6000000f, kAndroidRela = 0x60000011, kAndroidRelr = 0x6fffe000;

UniqueFd open_regular(const std::string& path, struct stat& status) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a pipe must not make us wait
  if (!fd || ::fstat(fd.get(), &status) != 0) throw ImageError(path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) throw ImageError(path, "not a regular file");
  return fd;
}

std::int64_t modified_at(const struct stat& status) {
  return std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

std::uint32_t gnu_hash_of(std::string_view name) {
  std::uint32_t hash = 5381;
  for (const char c : name) hash = hash * 33 + static_cast<unsigned char>(c);
  return hash;
}

std::uint32_t sysv_hash_of(std::string_view name) {
  std::uint32_t hash = 0;
  for (const char c : name) {
    hash = (hash << 4) + static_cast<unsigned char>(c);
    const std::uint32_t high = hash & 0xf0000000u;
    hash ^= high >> 24;
    hash &= ~high;
  }
  return hash;
}

}  // namespace

bool is_python_name(std::string_view name) {
  if (name.starts_with('_')) name.remove_prefix(1);
  return name.size() > 2 && name.starts_with("Py") && (name[2] == '_' || (name[2] >= 'A' && name[2] <= 'Z'));
}

SymbolName::SymbolName(std::string_view name_, std::string_view version_)
    : name(name_), version(version_), gnu_hash(gnu_hash_of(name_)) {}

std::shared_ptr<const File> File::open(const std::string& path) {
  struct stat status{};
  const UniqueFd fd = open_regular(path, status);
  using Key = std::tuple<dev_t, ino_t, off_t, std::int64_t>;
  const Key key{status.st_dev, status.st_ino, status.st_size, modified_at(status)};
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::elf_files);
  static auto& cache = *new std::map<Key, std::shared_ptr<const File>>();
  const std::lock_guard lock(mutex);
  if (const auto found = cache.find(key); found != cache.end()) return found->second;

  const auto size = static_cast<std::size_t>(status.st_size);
  if (size < sizeof(ElfW(Ehdr))) throw ImageError(path, "file too short for an ELF header");
  void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (mapping == MAP_FAILED) throw ImageError(path, std::strerror(errno));
  std::shared_ptr<File> file(new File(path, CheckedSpan(mapping, size)));
  file->mapping_ = mapping;
  file->id_ = {status.st_dev, status.st_ino};
  file->modified_ = modified_at(status);
  file->parse_all();
  cache.emplace(key, file);
  return file;
}

const Skeleton& File::skeleton() const {
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::skeletons);
  const std::lock_guard lock(mutex);
  if (skeleton_ == nullptr) skeleton_ = std::make_shared<const Skeleton>(build_skeleton(*this));
  return *skeleton_;
}

UniqueFd File::reopen() const {
  struct stat status{};
  UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd && errno != ENOENT) throw ImageError(path_, std::strerror(errno));
  if (fd && ::fstat(fd.get(), &status) != 0) throw ImageError(path_, std::strerror(errno));
  if (!fd || FileId{status.st_dev, status.st_ino} != id_) return copy();
  if (static_cast<std::size_t>(status.st_size) != bytes_.size() || modified_at(status) != modified_)
    throw ImageError(path_, "the file was changed while it was being loaded");
  return fd;
}

UniqueFd File::copy() const {
  constexpr std::size_t kAtOnce = std::size_t{1} << 30;
  try {
    UniqueFd memfd = create_memfd(path_.substr(path_.rfind('/') + 1).substr(0, 200));
    for (std::size_t done = 0; done < bytes_.size(); done += kAtOnce)
      fill(memfd, bytes_.data() + done, std::min(kAtOnce, bytes_.size() - done), done);
    return memfd;
  } catch (const Error& error) {
    throw ImageError(path_, std::string("the file was replaced while it was being loaded, and ") + error.what());
  }
}

std::shared_ptr<const File> File::parse(const std::string& name, CheckedSpan bytes) {
  std::shared_ptr<File> file(new File(name, bytes));
  file->parse_all();
  return file;
}

File::File(std::string path, CheckedSpan bytes) : path_(std::move(path)), bytes_(bytes) {}

File::~File() {
  if (mapping_ != nullptr) ::munmap(mapping_, bytes_.size());
}

void File::parse_all() {
  try {
    parse_headers();
    parse_dynamic();
    parse_relocations();
    parse_thread_locals();
    parse_symbols();
    parse_versions();
    const auto scan = [&](std::span<const ElfW(Rela)> relocations) {
      for (const auto& relocation : relocations) {
        const std::uint64_t index = ELF64_R_SYM(relocation.r_info);
        if (index == 0 || references_python_) continue;
        const ElfW(Sym) & entry = symbols_[index];
        if (entry.st_shndx == SHN_UNDEF && is_python_name(string(entry.st_name))) references_python_ = true;
      }
    };
    scan(rela_);
    scan(plt_rela_);
  } catch (const OutOfBounds& error) {
    throw ImageError(path_, std::string("damaged ELF file: ") + error.what());
  }
}

void File::parse_headers() {
  header_ = bytes_.read<ElfW(Ehdr)>(0);
  if (std::memcmp(header_.e_ident, ELFMAG, SELFMAG) != 0) throw ImageError(path_, "not an ELF file");
  if (header_.e_ident[EI_CLASS] != ELFCLASS64) throw ImageError(path_, "wrong ELF class: not a 64-bit library");
  if (header_.e_ident[EI_DATA] != ELFDATA2LSB) throw ImageError(path_, "wrong byte order: not little-endian");
  if (header_.e_machine != kMachine) {
    throw ImageError(path_, "built for another processor (ELF machine " + std::to_string(header_.e_machine) + ")");
  }
  if (header_.e_type != ET_DYN)
    throw ImageError(path_, "not a shared library (ELF type " + std::to_string(header_.e_type) + ")");
  if (header_.e_phentsize != sizeof(ElfW(Phdr))) throw ImageError(path_, "damaged ELF file: program header size");
  program_headers_ = bytes_.array<ElfW(Phdr)>(header_.e_phoff, header_.e_phnum);

  const ElfW(Phdr)* dynamic_header = nullptr;
  const ElfW(Phdr)* tls_header = nullptr;
  for (const auto& entry : program_headers_) {
    if (entry.p_type == PT_LOAD) {
      const std::uint64_t page = static_cast<std::uint64_t>(::getpagesize());
      if (entry.p_filesz > entry.p_memsz)
        throw ImageError(path_, "damaged ELF file: segment larger in the file than in memory");
      if (entry.p_vaddr % page != entry.p_offset % page) throw ImageError(path_, "segment not aligned to pages");
      if (entry.p_vaddr > (std::uint64_t{1} << 46) || entry.p_memsz > (std::uint64_t{1} << 46)) {
        throw ImageError(path_, "damaged ELF file: segment address out of range");
      }
      bytes_.sub(entry.p_offset, entry.p_filesz);
      if (!segments_.empty() && entry.p_vaddr < memory_end_) {
        throw ImageError(path_, "damaged ELF file: segments overlap or are out of order");
      }
      // What the dynamic linker reads may lie in any of them.
      if (entry.p_memsz > 0 && !(entry.p_flags & PF_R)) throw OutOfBounds("segment that cannot be read");
      int protection = 0;
      if (entry.p_flags & PF_R) protection |= PROT_READ;
      if (entry.p_flags & PF_W) protection |= PROT_WRITE;
      if (entry.p_flags & PF_X) protection |= PROT_EXEC;
      segments_.push_back({entry.p_vaddr, entry.p_memsz, entry.p_offset, entry.p_filesz, protection});
      memory_end_ = entry.p_vaddr + entry.p_memsz;
    } else if (entry.p_type == PT_DYNAMIC) {
      dynamic_header = &entry;
    } else if (entry.p_type == PT_TLS) {
      tls_header = &entry;
    }
  }
  if (segments_.empty()) throw ImageError(path_, "no loadable segment");
  if (dynamic_header == nullptr) throw ImageError(path_, "no dynamic section: statically linked?");
  // The dynamic linker finds both by their address, we by their place in the file: these must agree.
  dynamic_offset_ = file_offset(dynamic_header->p_vaddr, dynamic_header->p_filesz);
  if (dynamic_offset_ != dynamic_header->p_offset) throw OutOfBounds("dynamic section at two places");
  if ((dynamic_header->p_flags & PF_W) && !writable(dynamic_header->p_vaddr, dynamic_header->p_filesz)) {
    throw OutOfBounds("dynamic section in read-only memory");
  }
  dynamic_ = bytes_.array<ElfW(Dyn)>(dynamic_offset_, dynamic_header->p_filesz / sizeof(ElfW(Dyn)));
  if (tls_header != nullptr && tls_header->p_memsz > 0) {
    const auto alignment = tls_header->p_align;
    if (tls_header->p_filesz > tls_header->p_memsz || tls_header->p_memsz > kMostThreadLocal ||
        alignment > kMostThreadLocal || (alignment & (alignment - 1)) != 0) {
      throw OutOfBounds("thread-local segment");
    }
    if (tls_header->p_filesz > 0 && file_offset(tls_header->p_vaddr, tls_header->p_filesz) != tls_header->p_offset) {
      throw OutOfBounds("thread-local segment at two places");
    }
    has_tls_ = true;
    tls_size_ = tls_header->p_memsz;
  }
  for (std::size_t i = 0; i < dynamic_.size(); ++i) {
    if (dynamic_[i].d_tag == DT_NULL) {
      dynamic_ = dynamic_.first(i);
      return;
    }
  }
  throw ImageError(path_, "damaged ELF file: dynamic section without end");
}

std::optional<std::uint64_t> File::dynamic_value(ElfW(Sxword) tag) const noexcept {
  for (const auto& entry : dynamic_) {
    if (entry.d_tag == tag) return entry.d_un.d_val;
  }
  return std::nullopt;
}

std::uint64_t File::file_offset(std::uint64_t address, std::uint64_t length) const {
  for (const auto& segment : segments_) {
    if (address < segment.address || address - segment.address > segment.file_size) continue;
    const std::uint64_t within = address - segment.address;
    if (length <= segment.file_size - within) return segment.offset + within;
  }
  throw OutOfBounds("address outside the loaded segments");
}

bool File::covers(std::uint64_t address, std::uint64_t length) const noexcept {
  return std::any_of(segments_.begin(), segments_.end(), [&](const Segment& segment) {
    return address >= segment.address && address - segment.address <= segment.memory_size &&
           length <= segment.memory_size - (address - segment.address);
  });
}

bool File::writable(std::uint64_t address, std::uint64_t length) const noexcept {
  return std::any_of(segments_.begin(), segments_.end(), [&](const Segment& segment) {
    return (segment.protection & PROT_WRITE) && address >= segment.address &&
           address - segment.address < segment.memory_size &&
           length <= segment.memory_size - (address - segment.address);
  });
}

bool File::executable(std::uint64_t address) const noexcept {
  return std::any_of(segments_.begin(), segments_.end(), [&](const Segment& segment) {
    return (segment.protection & PROT_EXEC) && address >= segment.address &&
           address - segment.address < segment.file_size;
  });
}

CheckedSpan File::at(std::uint64_t address, std::uint64_t length) const {
  return bytes_.sub(file_offset(address, length), length);
}

std::string_view File::string(std::uint64_t offset) const { return strings_.c_string(offset); }

void File::parse_dynamic() {
  const auto strings = dynamic_value(DT_STRTAB);
  const auto length = dynamic_value(DT_STRSZ);
  // The dynamic linker takes it for granted that these are there.
  if (!strings || !length || !dynamic_value(DT_SYMTAB)) throw OutOfBounds("no symbol or string table");
  strings_ = at(*strings, *length);
  // With this, every offset inside the table is a whole string.
  if (strings_.size() == 0 || strings_.read<char>(strings_.size() - 1) != 0)
    throw OutOfBounds("string table without end");
  for (const auto& entry : dynamic_) {
    switch (entry.d_tag) {
      case DT_NEEDED:
        needed_.emplace_back(string(entry.d_un.d_val));
        break;
      case DT_SONAME:
        soname_ = string(entry.d_un.d_val);
        break;
      case DT_RPATH:
        rpath_ = string(entry.d_un.d_val);
        break;
      case DT_RUNPATH:
        runpath_ = string(entry.d_un.d_val);
        break;
      case DT_SYMBOLIC:
        symbolic_ = true;
        break;
      case DT_FLAGS:
        symbolic_ = symbolic_ || (entry.d_un.d_val & DF_SYMBOLIC);
        break;
      case DT_FLAGS_1:
        if (entry.d_un.d_val & DF_1_PIE) throw ImageError(path_, "an executable, not a shared library");
        break;
      case kAndroidRel:
      case kAndroidRela:
      case kAndroidRelr:
        throw ImageError(path_, "its relocations are packed for Android's linker; link it without that");
      default:
        break;
    }
  }
}

void File::parse_relocations() {
  const auto table = [&]<typename T>(std::span<const T>& out, ElfW(Sxword) tag, ElfW(Sxword) size_tag) {
    const auto address = dynamic_value(tag);
    const std::uint64_t size = dynamic_value(size_tag).value_or(0);
    if (!address || size == 0) return;
    out = bytes_.array<T>(file_offset(*address, size), size / sizeof(T));
  };
  if (dynamic_value(DT_REL)) throw ImageError(path_, "relocations without addends are not used on this processor");
  if (const auto kind = dynamic_value(DT_PLTREL); kind && *kind != DT_RELA)
    throw ImageError(path_, "damaged ELF file: DT_PLTREL");
  table(rela_, DT_RELA, DT_RELASZ);
  table(plt_rela_, DT_JMPREL, DT_PLTRELSZ);
  table(relr_, DT_RELR, DT_RELRSZ);
}

void File::parse_thread_locals() {
  const auto concerns_them = [&](const ElfW(Rela) & relocation) {
    switch (classify(static_cast<std::uint32_t>(ELF64_R_TYPE(relocation.r_info)))) {
      case RelocationKind::tls_module:
      case RelocationKind::tls_offset:
      case RelocationKind::tls_static:
      case RelocationKind::tls_descriptor:
        return true;
      default:
        break;
    }
    return std::any_of(program_headers_.begin(), program_headers_.end(), [&](const auto& header) {
      return header.p_type == PT_TLS && relocation.r_offset >= header.p_vaddr &&
             relocation.r_offset - header.p_vaddr < header.p_filesz;
    });
  };
  for (const auto& table : {rela_, plt_rela_}) {
    std::copy_if(table.begin(), table.end(), std::back_inserter(tls_rela_), concerns_them);
  }
}

void File::parse_symbols() {
  std::uint64_t count = 0;
  for (const auto& list : {rela_, plt_rela_}) {
    for (const auto& relocation : list) count = std::max<std::uint64_t>(count, ELF64_R_SYM(relocation.r_info) + 1);
  }
  if (const auto address = dynamic_value(DT_GNU_HASH)) {
    const auto head = at(*address, 16);
    const auto buckets = head.read<std::uint32_t>(0);
    gnu_first_ = head.read<std::uint32_t>(4);
    const auto bloom = head.read<std::uint32_t>(8);
    gnu_shift_ = head.read<std::uint32_t>(12);
    if (gnu_shift_ >= 32 || (bloom & (bloom - 1)) != 0 || bloom == 0) throw OutOfBounds("GNU hash table");
    std::uint64_t next = *address + 16;
    gnu_bloom_ = bytes_.array<ElfW(Addr)>(file_offset(next, std::uint64_t{bloom} * sizeof(ElfW(Addr))), bloom);
    next += std::uint64_t{bloom} * sizeof(ElfW(Addr));
    gnu_buckets_ = bytes_.array<std::uint32_t>(file_offset(next, std::uint64_t{buckets} * 4), buckets);
    next += std::uint64_t{buckets} * 4;
    // How long the chains are stands nowhere; they end at the latest with their segment.
    std::uint64_t most = 0;
    for (const auto& segment : segments_) {
      if (next >= segment.address && next - segment.address <= segment.file_size) {
        most = (segment.file_size - (next - segment.address)) / 4;
      }
    }
    if (most > 0) gnu_chains_ = bytes_.array<std::uint32_t>(file_offset(next, most * 4), most);
    std::uint64_t last = 0;
    for (const std::uint32_t bucket : gnu_buckets_) last = std::max<std::uint64_t>(last, bucket);
    if (last >= gnu_first_ && last != 0) {
      std::uint64_t index = last - gnu_first_;
      while (index < gnu_chains_.size() && (gnu_chains_[index] & 1) == 0) ++index;
      if (index >= gnu_chains_.size()) throw OutOfBounds("GNU hash chain without end");
      count = std::max(count, index + gnu_first_ + 1);
    }
  }
  if (const auto address = dynamic_value(DT_HASH)) {
    const auto head = at(*address, 8);
    const auto buckets = head.read<std::uint32_t>(0);
    const auto chains = head.read<std::uint32_t>(4);
    sysv_buckets_ = bytes_.array<std::uint32_t>(file_offset(*address + 8, std::uint64_t{buckets} * 4), buckets);
    const std::uint64_t next = *address + 8 + std::uint64_t{buckets} * 4;
    sysv_chains_ = bytes_.array<std::uint32_t>(file_offset(next, std::uint64_t{chains} * 4), chains);
    count = std::max<std::uint64_t>(count, chains);
  }
  if (count > kMostSymbols) throw OutOfBounds("symbol table too large");
  symbol_count_ = static_cast<std::size_t>(count);
  if (count == 0) return;
  symbols_ = bytes_.array<ElfW(Sym)>(file_offset(*dynamic_value(DT_SYMTAB), count * sizeof(ElfW(Sym))), count);
}

void File::parse_versions() {
  const auto indices = dynamic_value(DT_VERSYM);
  if (!indices || symbol_count_ == 0) return;
  version_indices_ = bytes_.array<std::uint16_t>(file_offset(*indices, symbol_count_ * 2), symbol_count_);
  std::uint64_t versions = 0;
  const auto name_version = [&](std::size_t index, std::uint64_t name) {
    index &= 0x7fff;
    if (version_names_.size() <= index) version_names_.resize(index + 1);
    version_names_[index] = string(name);
    if (++versions > kMostVersions) throw OutOfBounds("too many versions");
  };
  if (const auto table = dynamic_value(DT_VERNEED)) {
    std::uint64_t address = *table;
    for (std::uint64_t left = dynamic_value(DT_VERNEEDNUM).value_or(0); left > 0; --left) {
      const auto entry = at(address, sizeof(ElfW(Verneed))).read<ElfW(Verneed)>(0);
      std::uint64_t part = address + entry.vn_aux;
      for (unsigned i = 0; i < entry.vn_cnt; ++i) {
        const auto aux = at(part, sizeof(ElfW(Vernaux))).read<ElfW(Vernaux)>(0);
        name_version(aux.vna_other, aux.vna_name);
        if (aux.vna_next == 0) break;
        part += aux.vna_next;
      }
      if (entry.vn_next == 0) break;
      address += entry.vn_next;
    }
  }
  if (const auto table = dynamic_value(DT_VERDEF)) {
    std::uint64_t address = *table;
    for (std::uint64_t left = dynamic_value(DT_VERDEFNUM).value_or(0); left > 0; --left) {
      const auto entry = at(address, sizeof(ElfW(Verdef))).read<ElfW(Verdef)>(0);
      if (entry.vd_cnt > 0 && (entry.vd_flags & VER_FLG_BASE) == 0) {
        const auto aux = at(address + entry.vd_aux, sizeof(ElfW(Verdaux))).read<ElfW(Verdaux)>(0);
        name_version(entry.vd_ndx, aux.vda_name);
      }
      if (entry.vd_next == 0) break;
      address += entry.vd_next;
    }
  }
}

std::string_view File::version_of(std::uint32_t index) const {
  if (index >= version_indices_.size()) return {};
  const std::size_t version = version_indices_[index] & 0x7fff;
  return version < version_names_.size() ? version_names_[version] : std::string_view();
}

bool File::version_hidden(std::uint32_t index) const {
  return index < version_indices_.size() && (version_indices_[index] & 0x8000) != 0;
}

Symbol File::symbol(std::uint32_t index) const {
  Symbol symbol = unnamed_symbol(index);
  symbol.name = string(symbols_[index].st_name);
  symbol.version = version_of(index);
  return symbol;
}

Symbol File::unnamed_symbol(std::uint32_t index) const {
  if (index >= symbols_.size()) throw OutOfBounds("symbol index");
  const ElfW(Sym) & entry = symbols_[index];
  return {{},
          entry.st_value,
          static_cast<unsigned char>(ELF64_ST_TYPE(entry.st_info)),
          static_cast<unsigned char>(ELF64_ST_BIND(entry.st_info)),
          static_cast<unsigned char>(ELF64_ST_VISIBILITY(entry.st_other)),
          entry.st_shndx != SHN_UNDEF,
          {},
          index};
}

std::optional<Symbol> File::find(const SymbolName& wanted) const {
  const auto matches = [&](std::uint32_t index) {
    if (index >= symbols_.size()) return false;
    const ElfW(Sym) & entry = symbols_[index];
    if (entry.st_shndx == SHN_UNDEF || ELF64_ST_BIND(entry.st_info) == STB_LOCAL) return false;
    const unsigned visibility = ELF64_ST_VISIBILITY(entry.st_other);
    if (visibility == STV_HIDDEN || visibility == STV_INTERNAL) return false;
    if (entry.st_name >= strings_.size() || string(entry.st_name) != wanted.name) return false;
    const std::string_view version = version_of(index);
    // As ld.so: a wanted version must match where the library has versions; without one the default is meant.
    return wanted.version.empty() ? !version_hidden(index) : version.empty() || version == wanted.version;
  };
  if (!gnu_buckets_.empty()) {
    constexpr unsigned bits = sizeof(ElfW(Addr)) * 8;
    const ElfW(Addr) word = gnu_bloom_[(wanted.gnu_hash / bits) & (gnu_bloom_.size() - 1)];
    const ElfW(Addr) mask =
        (ElfW(Addr){1} << (wanted.gnu_hash % bits)) | (ElfW(Addr){1} << ((wanted.gnu_hash >> gnu_shift_) % bits));
    if ((word & mask) != mask) return std::nullopt;
    std::uint64_t index = gnu_buckets_[wanted.gnu_hash % gnu_buckets_.size()];
    if (index < gnu_first_ || index == 0) return std::nullopt;
    for (index -= gnu_first_; index < gnu_chains_.size(); ++index) {
      const std::uint32_t hash = gnu_chains_[index];
      const auto number = static_cast<std::uint32_t>(index + gnu_first_);
      if ((hash | 1) == (wanted.gnu_hash | 1) && matches(number)) return symbol(number);
      if (hash & 1) break;
    }
    return std::nullopt;
  }
  if (!sysv_buckets_.empty()) {
    std::uint32_t index = sysv_buckets_[sysv_hash_of(wanted.name) % sysv_buckets_.size()];
    for (std::size_t steps = 0; index != 0 && index < sysv_chains_.size() && steps <= sysv_chains_.size(); ++steps) {
      if (matches(index)) return symbol(index);
      index = sysv_chains_[index];
    }
  }
  return std::nullopt;
}

std::optional<Symbol> File::nearest(std::uint64_t address) const {
  const ElfW(Sym)* best = nullptr;
  for (const auto& entry : symbols_) {
    if (entry.st_shndx == SHN_UNDEF || entry.st_value > address || ELF64_ST_TYPE(entry.st_info) == STT_TLS) continue;
    if (entry.st_name >= strings_.size()) continue;
    if (entry.st_size != 0 && address - entry.st_value >= entry.st_size) continue;
    if (best == nullptr || entry.st_value > best->st_value) best = &entry;
  }
  if (best == nullptr) return std::nullopt;
  return symbol(static_cast<std::uint32_t>(best - symbols_.data()));
}

}  // namespace multipy::elf

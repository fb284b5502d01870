// Feeds the ELF reader whatever libFuzzer thinks of: File must answer or throw ImageError, and what it answers must
// keep what file.h promises. Nothing is mapped and no Python takes part.
//
// Built with MULTIPY_FUZZ=ON by clang; `make fuzz` runs it, beginning with small libraries that fuzz_seeds.sh compiles.
// Half of the mutations change one field where it stands: a table that moved by a byte is only ever refused.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <random>
#include <string>
#include <string_view>

#include "base/error.h"
#include "elf/file.h"
#include "elf/skeleton.h"

using multipy::CheckedSpan;
using multipy::ImageError;
using multipy::OutOfBounds;
using multipy::elf::File;
using multipy::elf::Symbol;
using multipy::elf::SymbolName;

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace {

void require(bool condition, const char* promise) {
  if (condition) return;
  std::fprintf(stderr, "not kept: %s\n", promise);
  std::abort();
}

bool inside(CheckedSpan bytes, const void* first, std::size_t size) {
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
  const auto at = reinterpret_cast<std::uintptr_t>(first);
  return size == 0 || (at >= begin && at - begin <= bytes.size() && size <= bytes.size() - (at - begin));
}

void check_headers(const File& file) {
  const CheckedSpan bytes = file.bytes();
  require(inside(bytes, file.program_headers().data(), file.program_headers().size_bytes()), "headers are in the file");
  require(inside(bytes, file.dynamic().data(), file.dynamic().size_bytes()), "the dynamic section is in the file");
  require(!file.segments().empty(), "there is a segment");
  std::uint64_t end = 0;
  for (const auto& segment : file.segments()) {
    require(segment.offset <= bytes.size() && segment.file_size <= bytes.size() - segment.offset,
            "a segment is in the file");
    require(segment.file_size <= segment.memory_size && segment.address >= end, "segments follow one another");
    end = segment.address + segment.memory_size;
    for (const std::uint64_t length : {std::uint64_t{1}, segment.file_size, segment.memory_size, ~std::uint64_t{0}}) {
      for (const std::uint64_t address : {segment.address, segment.address + segment.memory_size}) {
        if (file.writable(address, length)) require(file.covers(address, length), "what is writable is covered");
        file.executable(address);
        try {
          const auto offset = file.file_offset(address, length);
          require(offset <= bytes.size() && length <= bytes.size() - offset, "an offset is in the file");
        } catch (const OutOfBounds&) {
          // An address that no byte of the file stands for.
        }
      }
    }
  }
  require(end == file.memory_end(), "the memory ends with the last segment");
  if (file.has_tls()) require(file.tls_size() > 0, "thread-locals have a size");
  for (const auto& name : {file.soname(), file.rpath(), file.runpath()}) require(name.size() < bytes.size(), "a name");
  for (const auto& name : file.needed()) require(name.size() < bytes.size(), "a needed name");
}

void check_symbol(const File& file, std::uint32_t index) {
  Symbol symbol;
  try {
    symbol = file.symbol(index);
  } catch (const OutOfBounds&) {
    return;  // a damaged name: whoever asks for it is told
  }
  require(inside(file.bytes(), symbol.name.data(), symbol.name.size()), "a symbol's name is in the file");
  require(inside(file.bytes(), symbol.version.data(), symbol.version.size()), "a version is in the file");
  for (const std::string_view version : {std::string_view(), symbol.version, std::string_view("absent")}) {
    const auto found = file.find(SymbolName(symbol.name, version));
    if (!found) continue;
    require(found->name == symbol.name && found->defined, "what was found is what was asked for");
    require(found->visibility != STV_HIDDEN && found->binding != STB_LOCAL, "what was found is offered");
  }
  for (const std::uint64_t address : {symbol.value, symbol.value + 1}) {
    if (const auto nearest = file.nearest(address)) {
      require(nearest->defined && nearest->value <= address, "the nearest symbol precedes the address");
    }
  }
}

void check_relocations(const File& file) {
  const CheckedSpan bytes = file.bytes();
  for (const auto& table : {file.relocations(), file.plt_relocations()}) {
    require(inside(bytes, table.data(), table.size_bytes()), "relocations are in the file");
    for (const auto& relocation : table) {
      const std::uint64_t index = ELF64_R_SYM(relocation.r_info);
      require(index == 0 || index < file.symbol_count(), "a relocation's symbol is in the table");
      file.covers(relocation.r_offset, sizeof(ElfW(Addr)));
    }
  }
  const auto packed = file.relative_relocations();
  require(inside(bytes, packed.data(), packed.size_bytes()), "packed relocations are in the file");
}

void check_skeleton(const File& file) {
  try {
    std::uint64_t end = 0;
    for (const auto& patch : multipy::elf::build_skeleton(file).patches) {
      require(patch.offset >= end && patch.offset <= file.bytes().size(), "patches follow one another");
      end = patch.offset + patch.bytes.size();
    }
  } catch (const OutOfBounds&) {
    // Image::map makes it an ImageError.
  } catch (const ImageError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::shared_ptr<const File> file;
  try {
    file = File::parse("fuzzed", CheckedSpan(data, size));
  } catch (const ImageError& error) {
    require(error.file() == "fuzzed" && std::string_view(error.what()).starts_with("fuzzed: "),
            "an error names the file");
    return 0;
  }
  check_headers(*file);
  // nearest() looks at all symbols; a table of thousands would only take the time from other inputs.
  const auto symbols = static_cast<std::uint32_t>(std::min<std::size_t>(file->symbol_count(), 64));
  for (std::uint32_t index = 0; index < symbols; ++index) check_symbol(*file, index);
  try {
    file->symbol(static_cast<std::uint32_t>(file->symbol_count()));
    require(false, "a symbol past the table is refused");
  } catch (const OutOfBounds&) {
  }
  check_relocations(*file);
  check_skeleton(*file);
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most,
                                               unsigned int seed) {
  std::minstd_rand random(seed);
  if (size < 64 || random() % 2 == 0) return LLVMFuzzerMutate(data, size, most);
  const std::size_t width = std::size_t{1} << (random() % 4);
  const std::size_t places = size / width;
  // Headers, the dynamic section and the tables lie mostly at either end.
  const std::size_t near = std::min<std::size_t>(places, 1024 / width);
  std::size_t place = random() % places;
  if (random() % 2 == 0) place = random() % 2 == 0 ? random() % near : places - 1 - random() % near;
  std::uint64_t value = 0;
  std::memcpy(&value, data + place * width, width);
  static constexpr std::array<std::uint64_t, 12> kTelling{
      0, 1, 8, 0xff, 0xfff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, std::uint64_t{1} << 46, ~0ull};
  switch (random() % 4) {
    case 0:
      value = kTelling[random() % kTelling.size()];
      break;
    case 1:
      value ^= std::uint64_t{1} << (random() % (8 * width));
      break;
    case 2:
      value += random() % 65 - 32;
      break;
    default:
      std::memcpy(&value, data + random() % places * width, width);
  }
  std::memcpy(data + place * width, &value, width);
  return size;
}

// What File reads out of a library, and what it makes of every damaged one: ImageError or an answer, never a read
// outside the bytes (the sanitizers watch: each copy of the bytes is exactly as long as it claims to be).
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "elf/arch.h"
#include "elf/file.h"
#include "elf/skeleton.h"

using multipy::CheckedSpan;
using multipy::ImageError;
using multipy::elf::File;
using multipy::elf::SymbolName;

namespace {

const std::string& sample() {
  static const std::string bytes = [] {
    std::ifstream stream(MULTIPY_ELF_SAMPLE, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  }();
  return bytes;
}

/// A copy on the heap, so that a read past its end is found.
struct Copy {
  explicit Copy(std::string_view from) : bytes(new unsigned char[from.size()]), size(from.size()) {
    if (!from.empty()) std::memcpy(bytes.get(), from.data(), from.size());
  }
  CheckedSpan span() const { return {bytes.get(), size}; }
  std::unique_ptr<unsigned char[]> bytes;
  std::size_t size;
};

/// Parses and then asks everything there is to ask. False if the file was refused.
bool survives(const Copy& copy) {
  try {
    const auto file = File::parse("sample", copy.span());
    for (std::uint32_t i = 0; i < file->symbol_count(); ++i) {
      try {
        file->symbol(i);
      } catch (const multipy::OutOfBounds&) {
        // A damaged name: whoever asks for it is told.
      }
    }
    for (const char* name : {"sample_function", "sample_number", "absent", ""}) {
      file->find(SymbolName(name));
      file->find(SymbolName(name, "SOME_VERSION"));
    }
    for (std::uint64_t address = 0; address < std::min<std::uint64_t>(file->memory_end(), 1 << 16); address += 997) {
      file->nearest(address);
      file->covers(address, 8);
      file->writable(address, 8);
      file->executable(address);
    }
    try {
      multipy::elf::build_skeleton(*file);
    } catch (const multipy::OutOfBounds&) {
      // Image::map makes it an ImageError.
    }
    return true;
  } catch (const ImageError& error) {
    CHECK(error.file() == "sample");
    CHECK(std::string_view(error.what()).starts_with("sample: "));
    return false;
  }
}

std::shared_ptr<const File> parsed() {
  static const Copy copy(sample());
  return File::parse("sample", copy.span());
}

}  // namespace

TEST_CASE("a valid library is parsed") {
  const auto file = parsed();
  CHECK(file->path() == "sample");
  CHECK(file->segments().size() >= 2);
  CHECK(file->has_tls());
  CHECK(file->tls_size() >= sizeof(int));
  CHECK_FALSE(file->references_python());
  CHECK(std::find(file->needed().begin(), file->needed().end(), "libc.so.6") != file->needed().end());
  CHECK(file->relocations().size() > 0);
}

TEST_CASE("symbols that are defined and offered are found, others are not") {
  const auto file = parsed();
  const auto function = file->find(SymbolName("sample_function"));
  REQUIRE(function);
  CHECK(function->name == "sample_function");
  CHECK(function->defined);
  CHECK(function->type == STT_FUNC);
  CHECK(file->executable(function->value));
  CHECK_FALSE(file->writable(function->value, 1));

  const auto number = file->find(SymbolName("sample_number"));
  REQUIRE(number);
  CHECK(number->type == STT_OBJECT);
  CHECK(file->writable(number->value, sizeof(int)));
  CHECK_FALSE(file->executable(number->value));

  const auto variable = file->find(SymbolName("sample_thread_local"));
  REQUIRE(variable);
  CHECK(variable->type == STT_TLS);

  CHECK_FALSE(file->find(SymbolName("sample_hidden")));
  CHECK_FALSE(file->find(SymbolName("sample_functio")));
  CHECK_FALSE(file->find(SymbolName("getenv")));
  CHECK_FALSE(file->find(SymbolName("")));
}

TEST_CASE("the nearest symbol is the one an address lies in") {
  const auto file = parsed();
  const auto function = file->find(SymbolName("sample_function"));
  REQUIRE(function);
  const auto nearest = file->nearest(function->value + 1);
  REQUIRE(nearest);
  CHECK(nearest->name == "sample_function");
}

TEST_CASE("an address outside the segments is neither covered nor in the file") {
  const auto file = parsed();
  CHECK(file->covers(file->segments().front().address, 1));
  CHECK_FALSE(file->covers(file->memory_end(), 1));
  CHECK_FALSE(file->covers(~std::uint64_t{0}, 1));
  CHECK_FALSE(file->covers(file->segments().front().address, ~std::uint64_t{0}));
  CHECK_THROWS_AS(file->file_offset(file->memory_end(), 1), multipy::OutOfBounds);
}

TEST_CASE("a file is opened once under all its names, and a missing one is an error that names it") {
  const std::string path = MULTIPY_ELF_SAMPLE;
  const auto file = File::open(path);
  const auto slash = path.rfind('/');
  CHECK(File::open(path.substr(0, slash) + "/." + path.substr(slash)) == file);
  CHECK(file->reopen().get() >= 0);
  try {
    File::open("/no/such/file.so");
    FAIL("opened");
  } catch (const ImageError& error) {
    CHECK(error.file() == "/no/such/file.so");
    CHECK(std::string_view(error.what()).find("No such file") != std::string_view::npos);
  }
  CHECK_THROWS_AS(File::open("/"), ImageError);
}

TEST_CASE("a library cut off at any length is refused or parsed, never read past its end") {
  std::size_t refused = 0;
  // Every length as far as the tables that the headers lead to; further on, steps.
  for (std::size_t length = 0; length < sample().size(); length += length < 4096 ? 1 : 61) {
    refused += survives(Copy(std::string_view(sample()).substr(0, length))) ? 0 : 1;
  }
  CHECK(refused > 4000);
}

TEST_CASE("a library with any byte of its headers or dynamic section changed is refused or parsed") {
  const auto file = parsed();
  std::vector<std::size_t> places;
  const std::size_t headers = file->header().e_phoff + file->program_headers().size_bytes();
  for (std::size_t at = 0; at < headers; ++at) places.push_back(at);
  for (std::size_t at = 0; at < (file->dynamic().size() + 1) * sizeof(ElfW(Dyn)); ++at)
    places.push_back(file->dynamic_offset() + at);
  Copy copy(sample());
  std::size_t refused = 0;
  for (const std::size_t at : places) {
    const unsigned char before = copy.bytes[at];
    for (const int change : {0x01, 0x80, 0xff}) {
      copy.bytes[at] = static_cast<unsigned char>(before ^ change);
      refused += survives(copy) ? 0 : 1;
    }
    copy.bytes[at] = before;
  }
  CHECK(refused > 100);
  CHECK(survives(copy));
}

TEST_CASE("a library with any word of its tables changed is refused or parsed") {
  const auto file = parsed();
  Copy copy(sample());
  for (const ElfW(Sxword) tag :
       {DT_GNU_HASH, DT_HASH, DT_SYMTAB, DT_STRTAB, DT_RELA, DT_JMPREL, DT_VERSYM, DT_VERNEED, DT_VERDEF}) {
    const auto address = file->dynamic_value(tag);
    if (!address) continue;
    const std::size_t start = file->file_offset(*address, 4);
    for (std::size_t at = start; at + 4 <= std::min(start + 400, copy.size); at += 4) {
      std::uint32_t before = 0;
      std::memcpy(&before, copy.bytes.get() + at, 4);
      for (const std::uint32_t value : {0u, before + 1, before ^ 0x80000000u, 0xffffffffu}) {
        std::memcpy(copy.bytes.get() + at, &value, 4);
        survives(copy);
      }
      std::memcpy(copy.bytes.get() + at, &before, 4);
    }
  }
  CHECK(survives(copy));
}

TEST_CASE("relocations packed for Android are refused") {
  const auto file = parsed();
  for (const std::uint64_t tag : {0x6000000fu, 0x60000011u, 0x6fffe000u}) {
    Copy copy(sample());
    // In place of an entry that nothing else needs.
    const auto entry = std::find_if(file->dynamic().begin(), file->dynamic().end(),
                                    [](const ElfW(Dyn) & each) { return each.d_tag == DT_RELACOUNT; });
    REQUIRE(entry != file->dynamic().end());
    const auto at = file->dynamic_offset() + static_cast<std::size_t>(entry - file->dynamic().begin()) * sizeof *entry;
    std::memcpy(copy.bytes.get() + at, &tag, sizeof tag);
    try {
      File::parse("sample", copy.span());
      FAIL("parsed");
    } catch (const ImageError& error) {
      CHECK(std::string_view(error.what()).find("Android") != std::string_view::npos);
    }
  }
}

TEST_CASE("thread-local relocations whose sums overflow are survived") {
  const auto file = parsed();
  const auto variable = file->find(SymbolName("sample_thread_local"));
  REQUIRE(variable);
  Copy copy(sample());
  std::size_t changed = 0;
  // Those of descriptors stand among the PLT's.
  std::vector<std::reference_wrapper<const ElfW(Rela)>> relocations(file->relocations().begin(),
                                                                    file->relocations().end());
  relocations.insert(relocations.end(), file->plt_relocations().begin(), file->plt_relocations().end());
  for (const ElfW(Rela) & relocation : relocations) {
    const auto index = static_cast<std::uint32_t>(ELF64_R_SYM(relocation.r_info));
    if (index == 0 || file->symbol(index).name != variable->name) continue;
    const ElfW(Rela) damaged{relocation.r_offset, ELF64_R_INFO(std::uint64_t{index}, multipy::elf::kTlsStaticType),
                             std::numeric_limits<ElfW(Sxword)>::max()};
    const auto* at = reinterpret_cast<const std::byte*>(&relocation);
    std::memcpy(copy.bytes.get() + (at - file->bytes().data()), &damaged, sizeof damaged);
    const auto value = std::uint64_t{1} << 62;
    const auto symbol = file->file_offset(*file->dynamic_value(DT_SYMTAB), 0) + index * sizeof(ElfW(Sym));
    std::memcpy(copy.bytes.get() + symbol + offsetof(ElfW(Sym), st_value), &value, sizeof value);
    ++changed;
  }
  CHECK(changed > 0);
  survives(copy);
}

TEST_CASE("names of the CPython API are told from others") {
  for (const char* name : {"PyList_New", "_PyObject_New", "Py_None", "_Py_Dealloc", "PyInit_x"})
    CHECK(multipy::elf::is_python_name(name));
  for (const char* name : {"", "Py", "_Py", "Python", "Pyramid", "python", "__Py_x", "xPy_y", "_"})
    CHECK_FALSE(multipy::elf::is_python_name(name));
}

TEST_CASE("a skeleton holds what the dynamic linker reads and none of what it must not act on") {
  const auto file = parsed();
  std::string skeleton(file->bytes().size(), '\0');
  std::uint64_t end = 0;
  std::size_t written = 0;
  for (const auto& patch : multipy::elf::build_skeleton(*file).patches) {
    CHECK(patch.offset >= end);
    end = patch.offset + patch.bytes.size();
    REQUIRE(end <= skeleton.size());
    skeleton.replace(patch.offset, patch.bytes.size(), patch.bytes);
    written += patch.bytes.size();
  }
  CHECK(written < skeleton.size() / 2);
  const Copy copy(skeleton);
  const auto result = File::parse("skeleton", copy.span());
  CHECK(result->segments().size() == file->segments().size());
  CHECK(result->needed().empty());
  CHECK(result->tls_size() == file->tls_size());
  for (const ElfW(Sxword) tag : {DT_SONAME, DT_INIT, DT_FINI, DT_INIT_ARRAY, DT_FINI_ARRAY, DT_JMPREL, DT_VERSYM}) {
    CHECK_FALSE(result->dynamic_value(tag));
  }
  CHECK(result->dynamic_value(DT_SYMTAB) == file->dynamic_value(DT_SYMTAB));
  for (const auto& header : result->program_headers()) {
    CHECK(header.p_type != PT_GNU_RELRO);
    CHECK(header.p_type != PT_NOTE);
  }
}

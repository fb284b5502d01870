// What this system's dynamic linker was built with: what it puts for $LIB and $PLATFORM, and where it looks last; and
// what the program has it search for every library.
//
// Distributions differ in it (lib64, lib/x86_64-linux-gnu, lib), and so do processors and versions of glibc in
// $PLATFORM. So glibc itself is asked, once: for the search path of a library whose DT_RUNPATH has both in it.
#pragma once

#include <string>
#include <vector>

namespace multipy::elf {

struct Linker {
  std::string lib;                           // for $LIB; empty: not known
  std::string platform;                      // for $PLATFORM
  std::vector<std::string> default_folders;  // searched after ld.so.cache
  std::string program_rpath;                 // the program's DT_RPATH
  std::string program_folder;                // for $ORIGIN in it and in LD_LIBRARY_PATH
};

/// Waits for nobody but glibc's lock for loading, under which it may be called.
const Linker& linker();

}  // namespace multipy::elf

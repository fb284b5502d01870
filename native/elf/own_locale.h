// The locale of one interpreter, as setlocale keeps that of the process.
//
// Problem: setlocale is for the whole process, and what it does while others format numbers is undefined; with a GIL
// each, nothing orders interpreters.
//
// Model: libc lets a thread have a locale of its own (uselocale), and all that depends on the locale asks for that. An
// interpreter has one such object, a copy of the process's locale when the interpreter was made; its threads use it
// from their first instruction (seam_threads.cpp). A change is written into that object, so that all threads have it at
// once; what it held is never freed, since they may be reading it. As with setlocale, those who change it while others
// of the same interpreter format have to see to it.
#pragma once

#include <locale.h>

#include <array>
#include <mutex>
#include <string>

#include "elf/environment.h"

namespace multipy::elf {

class OwnLocale {
 public:
  /// The process's, at this moment.
  OwnLocale();

  /// The calling thread has this locale from now on.
  void use() const noexcept;
  /// setlocale. Null: there is no such locale, and nothing has changed. `environment` says what "" stands for.
  const char* set(int category, const char* name, const Environment& environment);

 private:
  static constexpr int kCategories = LC_IDENTIFICATION + 1;
  using Names = std::array<std::string, kCategories>;  // that of LC_ALL is unused

  static bool choose(Names& names, int category, const std::string& name, const Environment& environment);
  const char* describe(int category);

  std::mutex mutex_;
  locale_t locale_;
  Names names_;
  std::string all_;  // what setlocale said last of LC_ALL
};

}  // namespace multipy::elf

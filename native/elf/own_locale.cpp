#include "elf/own_locale.h"

#include <cerrno>
#include <string_view>

namespace multipy::elf {

namespace {

constexpr std::array<const char*, LC_IDENTIFICATION + 1> kNames{
    "LC_CTYPE", "LC_NUMERIC", "LC_TIME",    "LC_COLLATE",   "LC_MONETARY",    "LC_MESSAGES",      nullptr,
    "LC_PAPER", "LC_NAME",    "LC_ADDRESS", "LC_TELEPHONE", "LC_MEASUREMENT", "LC_IDENTIFICATION"};
static_assert(LC_CTYPE == 0 && LC_MESSAGES == 5 && LC_ALL == 6 && LC_PAPER == 7);

std::string default_name(int category, const Environment& environment) {
  for (const char* variable : {"LC_ALL", kNames[static_cast<std::size_t>(category)], "LANG"}) {
    if (const char* value = environment.get(variable); value != nullptr && *value != '\0') return value;
  }
  return "C";
}

}  // namespace

OwnLocale::OwnLocale() : locale_(::duplocale(LC_GLOBAL_LOCALE)) {
  for (int category = 0; category < kCategories; ++category) {
    if (category != LC_ALL) names_[static_cast<std::size_t>(category)] = ::setlocale(category, nullptr);
  }
}

void OwnLocale::use() const noexcept {
  if (locale_ != nullptr) ::uselocale(locale_);
}

bool OwnLocale::choose(Names& names, int category, const std::string& name, const Environment& environment) {
  if (category != LC_ALL) {
    names[static_cast<std::size_t>(category)] = name.empty() ? default_name(category, environment) : name;
    return true;
  }
  // One for all, or as LC_ALL is told: LC_CTYPE=…;LC_NUMERIC=…
  for (int each = 0; each < kCategories; ++each) {
    if (each == LC_ALL) continue;
    std::string own = name;
    if (name.find(';') != std::string::npos) {
      const std::string key = std::string(kNames[static_cast<std::size_t>(each)]) + "=";
      const std::size_t at = (";" + name).find(";" + key);
      if (at == std::string::npos) return false;
      own = name.substr(at + key.size());
      own = own.substr(0, own.find(';'));
    }
    choose(names, each, own, environment);
  }
  return true;
}

const char* OwnLocale::set(int category, const char* name, const Environment& environment) {
  const std::lock_guard lock(mutex_);
  if (category < 0 || category >= kCategories || locale_ == nullptr) {
    errno = EINVAL;
    return nullptr;
  }
  if (name == nullptr) return describe(category);
  Names wanted = names_;
  if (!choose(wanted, category, name, environment)) return nullptr;
  locale_t next = ::duplocale(locale_);
  for (int each = 0; next != nullptr && each < kCategories; ++each) {
    const std::string& other = wanted[static_cast<std::size_t>(each)];
    if (each == LC_ALL || other == names_[static_cast<std::size_t>(each)]) continue;
    locale_t changed = ::newlocale(1 << each, other.c_str(), next);
    if (changed == nullptr) ::freelocale(next);
    next = changed;
  }
  if (next == nullptr) return nullptr;
  *locale_ = *next;
  names_ = wanted;
  use();  // this thread's tables of characters are kept beside it
  return describe(category);
}

const char* OwnLocale::describe(int category) {
  if (category != LC_ALL) return names_[static_cast<std::size_t>(category)].c_str();
  bool equal = true;
  std::string composed;
  for (int each = 0; each < kCategories; ++each) {
    if (each == LC_ALL) continue;
    const std::string& own = names_[static_cast<std::size_t>(each)];
    equal = equal && own == names_[0];
    composed += (composed.empty() ? "" : ";") + std::string(kNames[static_cast<std::size_t>(each)]) + "=" + own;
  }
  all_ = equal ? names_[0] : composed;
  return all_.c_str();
}

}  // namespace multipy::elf

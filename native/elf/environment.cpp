#include "elf/environment.h"

#include <cerrno>
#include <cstring>

namespace multipy::elf {

namespace {

std::size_t length_of(char** array) {
  std::size_t length = 0;
  while (array != nullptr && array[length] != nullptr) ++length;
  return length;
}

bool valid_name(const char* name) {
  if (name != nullptr && *name != 0 && std::strchr(name, '=') == nullptr) return true;
  errno = EINVAL;
  return false;
}

}  // namespace

Environment::Environment(char** source) {
  const std::lock_guard lock(mutex_);
  replace(0, nullptr);
  for (std::size_t i = 0; source != nullptr && source[i] != nullptr; ++i) replace(i, keep(source[i]));
}

char* Environment::keep(std::string text) {
  strings_.push_back(std::make_unique<std::string>(std::move(text)));
  return strings_.back()->data();
}

std::size_t Environment::index_of(const char* name, std::size_t length) const {
  std::size_t index = 0;
  for (; array_ != nullptr && array_[index] != nullptr; ++index) {
    const char* entry = array_[index];
    if (entry[0] == name[0] && std::strncmp(entry, name, length) == 0 && entry[length] == '=') return index;
  }
  return index;
}

void Environment::replace(std::size_t index, char* entry) {
  const std::size_t length = length_of(array_);
  const bool own = !arrays_.empty() && array_ == arrays_.back().get();
  if (!own || index + 2 > capacity_) {
    // Readers may hold the old array: publish a longer copy and keep the old one.
    const std::size_t capacity = std::max<std::size_t>(64, 2 * (length + 2));
    auto grown = std::make_unique<char*[]>(capacity);
    for (std::size_t i = 0; i < length; ++i) grown[i] = array_[i];
    array_ = grown.get();
    capacity_ = capacity;
    arrays_.push_back(std::move(grown));
  }
  if (entry == nullptr) {
    for (std::size_t i = index; i < length; ++i) array_[i] = array_[i + 1];
  } else {
    if (index == length) array_[index + 1] = nullptr;
    array_[index] = entry;
  }
}

const char* Environment::get(const char* name) const {
  const std::lock_guard lock(mutex_);
  const std::size_t length = std::strlen(name);
  const std::size_t index = index_of(name, length);
  return array_ != nullptr && array_[index] != nullptr ? array_[index] + length + 1 : nullptr;
}

int Environment::set(const char* name, const char* value, bool overwrite) {
  if (!valid_name(name)) return -1;
  const std::lock_guard lock(mutex_);
  const std::size_t index = index_of(name, std::strlen(name));
  if (index < length_of(array_) && !overwrite) return 0;
  replace(index, keep(std::string(name) + "=" + value));
  return 0;
}

int Environment::put(char* entry) {
  const char* equals = std::strchr(entry, '=');
  if (equals == nullptr) return unset(entry);
  const std::lock_guard lock(mutex_);
  replace(index_of(entry, static_cast<std::size_t>(equals - entry)), entry);
  return 0;
}

int Environment::unset(const char* name) {
  if (!valid_name(name)) return -1;
  const std::lock_guard lock(mutex_);
  for (;;) {
    const std::size_t index = index_of(name, std::strlen(name));
    if (index >= length_of(array_)) return 0;
    replace(index, nullptr);
  }
}

void Environment::clear() {
  const std::lock_guard lock(mutex_);
  array_ = nullptr;
}

char** Environment::array() const {
  const std::lock_guard lock(mutex_);
  return array_;
}

}  // namespace multipy::elf

// The part of the seam that depends on the time zone: own_time_zone.h.
#include <time.h>
#include <wchar.h>

#include <array>
#include <cerrno>
#include <string>

#include "elf/caller.h"

namespace multipy::elf {

namespace {

/// As tzset. Without memory for another zone it is the one before.
const TimeZone& look(const Caller& caller) {
  const TimeZone& before = caller.space->time_zone().last();
  return *answer_or_errno([&] { return &caller.space->time_zone().look(); }, &before);
}

const TimeZone& zone_of(const Caller& caller) {
  const TimeZone& before = caller.space->time_zone().last();
  return *answer_or_errno([&] { return &caller.space->time_zone().zone(); }, &before);
}

std::tm* local(const TimeZone& zone, std::time_t time, std::tm* out) {
  if (zone.local(time, *out)) return out;
  errno = EOVERFLOW;
  return nullptr;
}

/// What localtime and ctime return; libc's are of the process.
thread_local std::tm broken_down;
thread_local std::array<char, 64> text_of_time;

void seam_tzset() {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::tzset();
  look(caller);
}

std::tm* seam_localtime(const std::time_t* time) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::localtime(time);
  return local(look(caller), *time, &broken_down);
}

std::tm* seam_localtime_r(const std::time_t* time, std::tm* out) {
  MULTIPY_CALLER;
  return caller.space == nullptr ? ::localtime_r(time, out) : local(zone_of(caller), *time, out);
}

std::time_t seam_mktime(std::tm* given) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::mktime(given);
  if (const auto time = look(caller).time_of(*given)) return *time;
  errno = EOVERFLOW;
  return -1;
}

char* seam_ctime(const std::time_t* time) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::ctime(time);
  std::tm clock{};
  return local(look(caller), *time, &clock) == nullptr ? nullptr : ::asctime_r(&clock, text_of_time.data());
}

char* seam_ctime_r(const std::time_t* time, char* out) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::ctime_r(time, out);
  std::tm clock{};
  return local(zone_of(caller), *time, &clock) == nullptr ? nullptr : ::asctime_r(&clock, out);
}

/// A time and a format with all in them that libc would take from its own zone.
template <typename Char>
struct Format {
  std::tm time;
  std::basic_string<Char> text;

  Format(const TimeZone& zone, const Char* format, const std::tm& given) : time(given) {
    if (time.tm_zone == nullptr || *time.tm_zone == '\0') time.tm_zone = zone.name(time.tm_isdst > 0);
    for (const Char* at = format; *at != 0; ++at) {
      if (*at == '%' && at[1] == 's') {
        std::tm copy = given;
        for (const char digit : std::to_string(zone.time_of(copy).value_or(-1)))
          text.push_back(static_cast<Char>(digit));
        ++at;
        continue;
      }
      text.push_back(*at);
      if (*at == '%' && at[1] != 0) text.push_back(*++at);
    }
  }
};

std::size_t seam_strftime(char* out, std::size_t size, const char* format, const std::tm* time) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::strftime(out, size, format, time);
  return answer_or_errno(
      [&] {
        const Format own(look(caller), format, *time);
        return ::strftime(out, size, own.text.c_str(), &own.time);
      },
      std::size_t{0});
}

std::size_t seam_strftime_l(char* out, std::size_t size, const char* format, const std::tm* time, locale_t locale) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::strftime_l(out, size, format, time, locale);
  return answer_or_errno(
      [&] {
        const Format own(look(caller), format, *time);
        return ::strftime_l(out, size, own.text.c_str(), &own.time, locale);
      },
      std::size_t{0});
}

std::size_t seam_wcsftime(wchar_t* out, std::size_t size, const wchar_t* format, const std::tm* time) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::wcsftime(out, size, format, time);
  return answer_or_errno(
      [&] {
        const Format own(look(caller), format, *time);
        return ::wcsftime(out, size, own.text.c_str(), &own.time);
      },
      std::size_t{0});
}

std::size_t seam_wcsftime_l(wchar_t* out, std::size_t size, const wchar_t* format, const std::tm* time,
                            locale_t locale) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::wcsftime_l(out, size, format, time, locale);
  return answer_or_errno(
      [&] {
        const Format own(look(caller), format, *time);
        return ::wcsftime_l(out, size, own.text.c_str(), &own.time, locale);
      },
      std::size_t{0});
}

}  // namespace

std::span<const SeamFunction> functions_of_time() {
  static const std::array functions{
      SeamFunction{"tzset", reinterpret_cast<void*>(seam_tzset), true},
      SeamFunction{"localtime", reinterpret_cast<void*>(seam_localtime), true},
      SeamFunction{"localtime_r", reinterpret_cast<void*>(seam_localtime_r), true},
      SeamFunction{"mktime", reinterpret_cast<void*>(seam_mktime), true},
      SeamFunction{"timelocal", reinterpret_cast<void*>(seam_mktime), true},
      SeamFunction{"ctime", reinterpret_cast<void*>(seam_ctime), true},
      SeamFunction{"ctime_r", reinterpret_cast<void*>(seam_ctime_r), true},
      SeamFunction{"strftime", reinterpret_cast<void*>(seam_strftime), true},
      SeamFunction{"strftime_l", reinterpret_cast<void*>(seam_strftime_l), true},
      SeamFunction{"__strftime_l", reinterpret_cast<void*>(seam_strftime_l), true},
      SeamFunction{"wcsftime", reinterpret_cast<void*>(seam_wcsftime), true},
      SeamFunction{"wcsftime_l", reinterpret_cast<void*>(seam_wcsftime_l), true},
      SeamFunction{"__wcsftime_l", reinterpret_cast<void*>(seam_wcsftime_l), true},
  };
  return functions;
}

}  // namespace multipy::elf

// The time zone of one interpreter, as libc keeps that of the process: what TZ said when it last looked.
//
// Problem: libc has one time zone, of the host's TZ variable. A job that sets TZ and calls tzset would not get it, or
// would change it for all.
//
// Model: the functions that depend on it are bound to the ones of seam_time.cpp, which answer from a zone
// (base/time_zone.h) that nobody else uses. Which one is looked up when libc would: tzset, mktime, localtime, ctime and
// strftime look at TZ, localtime_r only the first time. A lock guards that, and is not held while a zone is asked.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/time_zone.h"
#include "elf/environment.h"

namespace multipy::elf {

class OwnTimeZone {
 public:
  explicit OwnTimeZone(const Environment& environment) : environment_(environment) {}

  /// tzset.
  const TimeZone& look();
  /// As of the last look, which may be this one.
  const TimeZone& zone();
  /// As of the last look, if there was one; else UTC. Takes no memory, as the two before do.
  const TimeZone& last();

  /// Where the variable of this name lies (tzname, timezone, daylight); null: it is none of those.
  void* variable(std::string_view name);

 private:
  const Environment& environment_;
  std::mutex mutex_;
  const TimeZone* zone_ = nullptr;
  std::optional<std::string> looked_at_;
  char* names_[2] = {};
  long seconds_west_ = 0;
  int has_daylight_ = 0;
};

}  // namespace multipy::elf

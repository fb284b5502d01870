// A time zone by itself: what libc knows only of one at a time, that of the process.
//
// Model: a zone is read once, from a file of the time zone database (TZif, RFC 8536) or from the text of a POSIX TZ
// variable, and never changes or goes away; so may be its names, to which `tm_zone` points. It answers as glibc does,
// down to what glibc makes of times that are skipped or come twice: `time_of` begins to search where a new process
// would, so that its answer does not depend on what was asked before.
//
// Where a file counts leap seconds (the zones "right/…"), so does the zone.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/export.h"

namespace multipy {

class MULTIPY_API TimeZone {
 public:
  /// What holds from one transition to the next.
  struct Period {
    std::int64_t offset = 0;  // seconds east of Greenwich
    bool is_daylight = false;
    const char* name = "UTC";
  };

  /// The zone that a TZ variable of this value stands for (null: there is none), with TZDIR of that one. Whatever
  /// cannot be read is UTC, as in glibc. It may be asked for as often as wanted: zones are kept.
  static const TimeZone& named(const char* name, const char* folder);

  /// Parses the text of a POSIX TZ variable or the content of a file; empty: it is none.
  static std::optional<TimeZone> from_text(std::string_view text);
  static std::optional<TimeZone> from_file(std::string_view content);

  Period at(std::int64_t time) const;
  /// localtime. False: the year is out of range.
  bool local(std::int64_t time, std::tm& out) const;
  /// mktime. Normalises `local`; empty: it is out of range.
  std::optional<std::int64_t> time_of(std::tm& local) const;

  /// As tzname, timezone and daylight say.
  const char* name(bool daylight) const noexcept { return names_[daylight ? 1 : 0]; }
  std::int64_t standard_offset() const noexcept { return standard_offset_; }
  bool has_daylight() const noexcept { return has_daylight_; }

 private:
  /// The day and the second of a change, in local time.
  struct Rule {
    enum class Kind : std::uint8_t { julian, zero_based, month } kind = Kind::month;
    int month = 0, week = 0, day = 0;
    std::int64_t second = 7200;
    std::int64_t in_year(std::int64_t year) const;
  };
  struct Rules {
    Period standard, daylight;
    bool changes = false;
    Rule begins, ends;  // daylight time
    Period at(std::int64_t time) const;
  };
  struct LeapSecond {
    std::int64_t time = 0;
    std::int64_t total = 0;  // of those up to and including this one
  };
  struct Reader;

  void describe();
  /// Leap seconds up to `time`; `is_one`: it is itself one that was put in.
  std::int64_t leap_seconds(std::int64_t time, bool* is_one = nullptr) const;

  std::vector<std::int64_t> transitions_;
  std::vector<std::uint8_t> becomes_;  // which of periods_, at the transition of the same index
  std::vector<Period> periods_;
  std::vector<LeapSecond> leap_seconds_;
  std::optional<Rules> rules_;  // after the last transition
  const char* names_[2] = {"UTC", "UTC"};
  std::int64_t standard_offset_ = 0;
  bool has_daylight_ = false;
};

}  // namespace multipy

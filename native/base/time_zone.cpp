#include "base/time_zone.h"

#include <sys/stat.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <set>

#include "base/process_lock.h"

namespace multipy {

namespace {

constexpr std::int64_t kDay = 86400;
/// How far from a time that is asked for as daylight or standard time such a time is looked for: as glibc.
constexpr std::int64_t kReach = 536454000 / 2 + 601200;
constexpr std::int64_t kStride = 601200;

bool is_leap(std::int64_t year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

/// Days from 1970 to the first of March of 0000, and in 400 years.
constexpr std::int64_t kEpochDays = 719468;
constexpr std::int64_t kEraDays = 146097;

std::int64_t floor_divide(std::int64_t value, std::int64_t by) { return value / by - (value % by < 0 ? 1 : 0); }

/// Days since 1970. Years begin in March here, so that the leap day is the last.
std::int64_t days_until(std::int64_t year, int month, int day) {
  const std::int64_t shifted = month <= 2 ? year - 1 : year;
  const std::int64_t era = floor_divide(shifted, 400);
  const std::int64_t year_of_era = shifted - era * 400;
  const std::int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * kEraDays + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - kEpochDays;
}

struct Date {
  std::int64_t year;
  int month, day;
};

Date date_of(std::int64_t days) {
  const std::int64_t shifted = days + kEpochDays;
  const std::int64_t era = floor_divide(shifted, kEraDays);
  const std::int64_t day = shifted - era * kEraDays;
  const std::int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
  const std::int64_t day_of_year = day - (365 * year + year / 4 - year / 100);
  const auto month = static_cast<int>((5 * day_of_year + 2) / 153);
  return {year + era * 400 + (month >= 10 ? 1 : 0), month < 10 ? month + 3 : month - 9,
          static_cast<int>(day_of_year - (153 * month + 2) / 5 + 1)};
}

/// Names are never freed: a struct tm may point to them for ever.
const char* keep(std::string_view name) {
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::time_zones);
  static auto& names = *new std::set<std::string, std::less<>>();
  const std::lock_guard lock(mutex);
  const auto found = names.find(name);
  return (found != names.end() ? found : names.emplace(name).first)->c_str();
}

/// What is left to be read of a POSIX TZ variable.
struct Text {
  std::string_view rest;

  bool take(char wanted) {
    if (rest.empty() || rest.front() != wanted) return false;
    rest.remove_prefix(1);
    return true;
  }

  std::optional<std::string_view> name() {
    const bool quoted = take('<');
    const auto belongs = [&](char c) {
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      return letter || (quoted && ((c >= '0' && c <= '9') || c == '+' || c == '-'));
    };
    std::size_t length = 0;
    while (length < rest.size() && belongs(rest[length])) ++length;
    const std::string_view found = rest.substr(0, length);
    rest.remove_prefix(length);
    if (length < 3 || (quoted && !take('>'))) return std::nullopt;
    return found;
  }

  std::optional<int> number(int least, int most) {
    int value = 0;
    std::size_t length = 0;
    for (; length < rest.size() && length < 5 && rest[length] >= '0' && rest[length] <= '9'; ++length)
      value = value * 10 + (rest[length] - '0');
    rest.remove_prefix(length);
    if (length == 0 || value < least || value > most) return std::nullopt;
    return value;
  }

  /// [+-]hours[:minutes[:seconds]]
  std::optional<std::int64_t> duration(int most_hours) {
    const bool negative = take('-');
    if (!negative) take('+');
    std::int64_t seconds = 0;
    for (int unit = 3600; unit >= 1; unit /= 60) {
      if (unit < 3600 && !take(':')) break;
      const auto value = number(0, unit == 3600 ? most_hours : 59);
      if (!value) return std::nullopt;
      seconds += std::int64_t{*value} * unit;
    }
    return negative ? -seconds : seconds;
  }
};

std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

}  // namespace

/// Seconds since 1970, of the local clock.
std::int64_t TimeZone::Rule::in_year(std::int64_t year) const {
  std::int64_t days = days_until(year, 1, 1);
  if (kind == Kind::zero_based) {
    days += day;
  } else if (kind == Kind::julian) {
    days += day - 1 + (day >= 60 && is_leap(year) ? 1 : 0);
  } else {
    const std::int64_t first = days_until(year, month, 1);
    const std::int64_t next = month == 12 ? days_until(year + 1, 1, 1) : days_until(year, month + 1, 1);
    const std::int64_t weekday = ((first + 4) % 7 + 7) % 7;
    days = first + ((day - weekday) % 7 + 7) % 7 + 7 * (week - 1);
    while (days >= next) days -= 7;
  }
  return days * kDay + second;
}

TimeZone::Period TimeZone::Rules::at(std::int64_t time) const {
  if (!changes) return standard;
  // Before 1970, glibc knows of no changes but that year's.
  const std::int64_t year = std::max<std::int64_t>(1970, date_of(floor_divide(time, kDay)).year);
  const std::int64_t begin = begins.in_year(year) - standard.offset;
  const std::int64_t end = ends.in_year(year) - daylight.offset;
  const bool is_daylight = begin > end ? time < end || time >= begin : time >= begin && time < end;
  return is_daylight ? daylight : standard;
}

std::optional<TimeZone> TimeZone::from_text(std::string_view given) {
  Text text{given};
  Rules rules;
  const auto standard_name = text.name();
  if (!standard_name) return std::nullopt;
  const auto standard = text.duration(24);
  if (!standard) return std::nullopt;
  rules.standard = {-*standard, false, keep(*standard_name)};
  rules.daylight = rules.standard;
  if (!text.rest.empty()) {
    const auto daylight_name = text.name();
    if (!daylight_name) return std::nullopt;
    rules.changes = true;
    rules.daylight = {rules.standard.offset + 3600, true, keep(*daylight_name)};
    if (!text.rest.empty() && text.rest.front() != ',') {
      const auto daylight = text.duration(24);
      if (!daylight) return std::nullopt;
      rules.daylight.offset = -*daylight;
    }
    if (text.rest.empty()) text.rest = ",M3.2.0,M11.1.0";
    for (Rule* rule : {&rules.begins, &rules.ends}) {
      if (!text.take(',')) return std::nullopt;
      const bool by_month = text.take('M');
      rule->kind = by_month ? Rule::Kind::month : text.take('J') ? Rule::Kind::julian : Rule::Kind::zero_based;
      const auto first = text.number(rule->kind == Rule::Kind::zero_based ? 0 : 1, by_month ? 12 : 365);
      if (!first) return std::nullopt;
      rule->day = *first;
      if (by_month) {
        rule->month = *first;
        const auto week = text.take('.') ? text.number(1, 5) : std::nullopt;
        const auto day = week && text.take('.') ? text.number(0, 6) : std::nullopt;
        if (!day) return std::nullopt;
        rule->week = *week;
        rule->day = *day;
      }
      if (text.take('/')) {
        const auto second = text.duration(167);
        if (!second) return std::nullopt;
        rule->second = *second;
      }
    }
    if (!text.rest.empty()) return std::nullopt;
  }
  TimeZone zone;
  zone.rules_ = rules;
  zone.describe();
  return zone;
}

/// Big-endian numbers of a file. What is beyond its end reads as 0 and is noted.
struct TimeZone::Reader {
  std::string_view content;
  bool ended = false;

  std::string_view take(std::size_t size) {
    if (size > content.size()) {
      ended = true;
      size = content.size();
    }
    const std::string_view taken = content.substr(0, size);
    content.remove_prefix(size);
    return taken;
  }
  std::uint64_t number(std::size_t size) {
    std::uint64_t value = 0;
    for (const char byte : take(size)) value = value << 8 | static_cast<unsigned char>(byte);
    return value;
  }
};

std::optional<TimeZone> TimeZone::from_file(std::string_view content) {
  Reader reader{content};
  std::size_t time_size = 4;
  for (;;) {
    if (reader.take(4) != "TZif") return std::nullopt;
    const char version = reader.number(1) == 0 ? '1' : '2';
    reader.take(15);
    const auto count = [&] { return static_cast<std::size_t>(reader.number(4)); };
    const std::size_t universal = count(), standard = count(), leaps = count(), times = count(), types = count(),
                      characters = count();
    if (version != '1' && time_size == 4) {
      // Times of eight bytes follow those of four.
      reader.take(times * 5 + types * 6 + characters + leaps * 8 + standard + universal);
      time_size = 8;
      continue;
    }
    if (types == 0 || leaps > reader.content.size() || times > reader.content.size() || types > 256)
      return std::nullopt;
    TimeZone zone;
    for (std::size_t i = 0; i < times; ++i) {
      const std::uint64_t raw = reader.number(time_size);
      zone.transitions_.push_back(time_size == 4 ? static_cast<std::int32_t>(raw) : static_cast<std::int64_t>(raw));
    }
    for (std::size_t i = 0; i < times; ++i) zone.becomes_.push_back(static_cast<std::uint8_t>(reader.number(1)));
    struct Type {
      std::int32_t offset;
      bool is_daylight;
      std::size_t name;
    };
    std::vector<Type> read;
    for (std::size_t i = 0; i < types; ++i) {
      const auto offset = static_cast<std::int32_t>(reader.number(4));
      const bool is_daylight = reader.number(1) != 0;
      read.push_back({offset, is_daylight, static_cast<std::size_t>(reader.number(1))});
    }
    const std::string_view names = reader.take(characters);
    for (std::size_t i = 0; i < leaps; ++i) {
      const std::uint64_t raw = reader.number(time_size);
      const auto total = static_cast<std::int32_t>(reader.number(4));
      zone.leap_seconds_.push_back(
          {time_size == 4 ? static_cast<std::int32_t>(raw) : static_cast<std::int64_t>(raw), total});
    }
    reader.take(standard + universal);
    const bool bad_index = std::any_of(zone.becomes_.begin(), zone.becomes_.end(), [&](auto i) { return i >= types; });
    if (reader.ended || bad_index || !std::is_sorted(zone.transitions_.begin(), zone.transitions_.end()))
      return std::nullopt;
    for (const Type& type : read) {
      if (type.name >= names.size() || std::abs(static_cast<std::int64_t>(type.offset)) > 7 * kDay) return std::nullopt;
      const std::string_view name = names.substr(type.name);
      zone.periods_.push_back({type.offset, type.is_daylight, keep(name.substr(0, name.find('\0')))});
    }
    if (time_size == 8 && reader.take(1) == "\n") {
      const std::string_view footer = reader.content.substr(0, reader.content.find('\n'));
      if (auto later = from_text(footer)) zone.rules_ = later->rules_;
    }
    zone.describe();
    return zone;
  }
}

/// tzname and its like are those of the latest period of either kind.
void TimeZone::describe() {
  std::vector<Period> known;
  if (!periods_.empty()) known.push_back(at(INT64_MIN));
  for (const std::uint8_t index : becomes_) known.push_back(periods_[index]);
  if (rules_) {
    if (rules_->changes) known.push_back(rules_->daylight);
    known.push_back(rules_->standard);
  }
  bool has_standard = false;
  for (const Period& period : known) {
    names_[period.is_daylight ? 1 : 0] = period.name;
    has_daylight_ = has_daylight_ || period.is_daylight;
    if (!period.is_daylight) {
      standard_offset_ = period.offset;
      has_standard = true;
    }
  }
  if (!has_daylight_) names_[1] = names_[0];
  if (!has_standard) names_[0] = names_[1];
}

TimeZone::Period TimeZone::at(std::int64_t time) const {
  if (!transitions_.empty() && time < transitions_.front()) {
    const auto standard = std::find_if(periods_.begin(), periods_.end(), [](const auto& p) { return !p.is_daylight; });
    return standard == periods_.end() ? periods_.front() : *standard;
  }
  if (rules_ && (transitions_.empty() || time >= transitions_.back())) return rules_->at(time);
  if (transitions_.empty()) return periods_.empty() ? Period{} : periods_.front();
  const auto next = std::upper_bound(transitions_.begin(), transitions_.end(), time);
  return periods_[becomes_[static_cast<std::size_t>(next - transitions_.begin()) - 1]];
}

std::int64_t TimeZone::leap_seconds(std::int64_t time, bool* is_one) const {
  const auto next = std::upper_bound(leap_seconds_.begin(), leap_seconds_.end(), time,
                                     [](std::int64_t value, const LeapSecond& leap) { return value < leap.time; });
  if (next == leap_seconds_.begin()) return 0;
  const auto last = std::prev(next);
  const std::int64_t before = last == leap_seconds_.begin() ? 0 : std::prev(last)->total;
  if (is_one != nullptr) *is_one = last->time == time && last->total > before;
  return last->total;
}

bool TimeZone::local(std::int64_t time, std::tm& out) const {
  const Period period = at(time);
  bool is_leap_second = false;
  std::int64_t clock = 0;
  if (__builtin_add_overflow(time, period.offset - leap_seconds(time, &is_leap_second), &clock)) return false;
  const std::int64_t days = floor_divide(clock, kDay);
  const std::int64_t second = clock - days * kDay;
  const Date date = date_of(days);
  if (date.year - 1900 > INT_MAX || date.year - 1900 < INT_MIN) return false;
  out.tm_year = static_cast<int>(date.year - 1900);
  out.tm_mon = date.month - 1;
  out.tm_mday = date.day;
  out.tm_hour = static_cast<int>(second / 3600);
  out.tm_min = static_cast<int>(second / 60 % 60);
  out.tm_sec = static_cast<int>(second % 60) + (is_leap_second ? 1 : 0);
  out.tm_wday = static_cast<int>(((days + 4) % 7 + 7) % 7);
  out.tm_yday = static_cast<int>(days - days_until(date.year, 1, 1));
  out.tm_isdst = period.is_daylight ? 1 : 0;
  out.tm_gmtoff = period.offset;
  out.tm_zone = period.name;
  return true;
}

std::optional<std::int64_t> TimeZone::time_of(std::tm& given) const {
  const std::int64_t months = std::int64_t{given.tm_mon};
  const std::int64_t year = 1900 + std::int64_t{given.tm_year} + floor_divide(months, 12);
  const auto month = static_cast<int>(months - floor_divide(months, 12) * 12) + 1;
  // Of ints, so it cannot overflow.
  const std::int64_t clock = (days_until(year, month, 1) + given.tm_mday - 1) * kDay +
                             std::int64_t{given.tm_hour} * 3600 + std::int64_t{given.tm_min} * 60 + given.tm_sec;
  // The clock that shows at `time` is brought to the one wanted. Where the clock skips, the search goes to and fro
  // between two times; the one in daylight time is taken.
  std::int64_t time = clock, one_before = clock, two_before = clock;
  bool was_daylight = false;
  const int wanted = given.tm_isdst;
  for (int tries = 0;; ++tries) {
    const Period period = at(time);
    const std::int64_t better = clock - period.offset + leap_seconds(time);
    if (better == time || tries == 8) break;
    if (time == one_before && time != two_before) break;
    if (better == one_before && tries > 0 &&
        (wanted < 0 ? was_daylight <= period.is_daylight : (wanted != 0) != period.is_daylight))
      break;
    two_before = one_before;
    one_before = time;
    time = better;
    was_daylight = period.is_daylight;
  }
  if (wanted >= 0 && at(time).is_daylight != (wanted != 0)) {
    // Meant is what a clock that keeps the nearest such time would have shown.
    for (std::int64_t distance = kStride; distance < kReach; distance += kStride) {
      const Period before = at(time - distance), after = at(time + distance);
      if (before.is_daylight == (wanted != 0)) {
        time = clock - before.offset + leap_seconds(time);
        break;
      }
      if (after.is_daylight == (wanted != 0)) {
        time = clock - after.offset + leap_seconds(time);
        break;
      }
    }
  }
  std::tm normal{};
  if (!local(time, normal)) return std::nullopt;
  given = normal;
  return time;
}

const TimeZone& TimeZone::named(const char* name, const char* folder) {
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::time_zones);
  static auto& known = *new std::map<std::string, const TimeZone*>();
  std::string text = name == nullptr ? "/etc/localtime" : name;
  if (text.empty()) text = "Universal";  // and so it is called where there is no such file
  if (text.front() == ':') text.erase(0, 1);
  if (text.empty()) text = "UTC";
  if (folder == nullptr || *folder == '\0') folder = "/usr/share/zoneinfo";
  const std::string path = text.front() == '/' ? text : std::string(folder) + "/" + text;
  struct stat status{};
  const bool is_file = ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
  std::string key = path;
  if (is_file) key += "\n" + std::to_string(status.st_ino) + " " + std::to_string(status.st_mtime);
  const std::lock_guard lock(mutex);
  const TimeZone*& zone = known[key];
  if (zone != nullptr) return *zone;
  std::optional<TimeZone> read;
  if (is_file) read = from_file(read_file(path));
  if (!read && name != nullptr) read = from_text(text);
  if (!read) {
    // Nonsense is UTC, under the name with which it begins.
    read = TimeZone();
    if (name != nullptr) read->names_[0] = read->names_[1] = keep(Text{text}.name().value_or(""));
    read->periods_ = {{0, false, read->names_[0]}};
  }
  zone = new TimeZone(std::move(*read));
  return *zone;
}

}  // namespace multipy

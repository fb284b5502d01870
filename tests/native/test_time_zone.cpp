#include <doctest/doctest.h>
#include <stdlib.h>

#include <cstring>
#include <ctime>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "base/time_zone.h"

using multipy::TimeZone;

namespace {

/// The zone that glibc has for this process while it lives.
class Libc {
 public:
  explicit Libc(const std::string& zone) {
    ::setenv("TZ", zone.c_str(), 1);
    ::tzset();
  }
  ~Libc() {
    ::unsetenv("TZ");
    ::tzset();
  }
  Libc(const Libc&) = delete;
  Libc& operator=(const Libc&) = delete;
};

std::string text_of(const std::tm& time) {
  char text[128];
  ::snprintf(text, sizeof text, "%d-%d-%d %d:%d:%d wday %d yday %d dst %d offset %ld %s", time.tm_year + 1900,
             time.tm_mon + 1, time.tm_mday, time.tm_hour, time.tm_min, time.tm_sec, time.tm_wday, time.tm_yday,
             time.tm_isdst, time.tm_gmtoff, time.tm_zone == nullptr ? "?" : time.tm_zone);
  return text;
}

std::string clock_of(const std::tm& time) {
  const std::string text = text_of(time);
  return text.substr(0, text.find(" dst"));
}

std::vector<std::string> zones() {
  namespace fs = std::filesystem;
  std::vector<std::string> names{"",
                                 ":",
                                 "UTC0",
                                 "EST5EDT,M3.2.0,M11.1.0",
                                 "<-03>3",
                                 "ABC-24",
                                 "<+0330>-3:30",
                                 "IST-1GMT0,M10.5.0,M3.5.0/1",
                                 "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
                                 "nonsense/zone",
                                 "XYZ3DEF,J60/0,J300",
                                 "XYZ3DEF,59,299/25",
                                 "AAA5BBB4:30:15,J1/0,J365/23",
                                 "NZST-12NZDT,M9.5.0,M4.1.0/3",
                                 "Q",
                                 "<A"};
  const fs::path root = "/usr/share/zoneinfo";
  if (!fs::exists(root)) return names;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    const std::string name = fs::relative(entry.path(), root).string();
    if (entry.is_regular_file() && name.find('.') == std::string::npos && !name.starts_with("posix/"))
      names.push_back(name);
  }
  return names;
}

}  // namespace

TEST_CASE("A time zone answers as libc does, for all zones and times") {
  std::mt19937_64 random(20261126);
  for (const std::string& name : zones()) {
    const Libc libc(name);
    const TimeZone& zone = TimeZone::named(name.c_str(), nullptr);
    const auto check = [&](std::int64_t time) {
      const auto asked = static_cast<std::time_t>(time);
      std::tm theirs{}, ours{};
      const bool ok = ::localtime_r(&asked, &theirs) != nullptr;
      CAPTURE(name);
      CAPTURE(time);
      REQUIRE(zone.local(time, ours) == ok);
      if (!ok) return;
      REQUIRE(text_of(ours) == text_of(theirs));
      // The way back, told whether it is daylight time, then not told. Of a time that comes twice, libc's answer
      // depends on what it was asked before.
      for (const int daylight : {theirs.tm_isdst, -1}) {
        std::tm shown = theirs, again{};
        shown.tm_isdst = daylight;
        const auto found = zone.time_of(shown).value_or(-1);
        REQUIRE(zone.local(found, again));
        REQUIRE(clock_of(again) == clock_of(theirs));
        if (daylight >= 0) REQUIRE(again.tm_isdst == daylight);
        std::tm copy = theirs;
        copy.tm_isdst = daylight;
        const auto expected = ::mktime(&copy);
        std::tm other{};
        if (found != expected) REQUIRE((zone.local(expected, other) && clock_of(other) == clock_of(again)));
      }
    };
    for (const std::int64_t time : {0L, -1L, 1L << 31, -(1L << 31), 1L << 33, -(1L << 35), 1L << 40, 1L << 60})
      check(time);
    for (int i = 0; i < 60; ++i) {
      const int bits = 28 + static_cast<int>(random() % 10);
      check(static_cast<std::int64_t>(random() % (1UL << bits)) -
            static_cast<std::int64_t>(i % 3 == 0 ? 1UL << (bits - 1) : 0));
    }
    // Around where the clock changes.
    auto before = zone.at(0);
    for (std::int64_t day = 0; day < 365 * 3; ++day) {
      const std::int64_t time = 1'700'000'000 + day * 86400;
      const auto after = zone.at(time);
      if (after.offset != before.offset) {
        std::int64_t low = time - 86400, high = time;
        while (high - low > 1) (zone.at((low + high) / 2).offset == before.offset ? low : high) = (low + high) / 2;
        for (const std::int64_t around : {-3601, -1, 0, 1, 3599, 3600}) check(high + around);
      }
      before = after;
    }
  }
}

TEST_CASE("Clocks that never were, and fields out of range, become the times that libc makes of them") {
  std::mt19937 random(7);
  for (const char* name : {"America/New_York", "Europe/Berlin", "Europe/Dublin", "Australia/Lord_Howe", "Asia/Tokyo"}) {
    const Libc libc(name);
    const TimeZone& zone = TimeZone::named(name, nullptr);
    for (int i = 0; i < 3000; ++i) {
      const auto pick = [&](int least, int most) { return std::uniform_int_distribution<int>(least, most)(random); };
      std::tm ours{};
      ours.tm_year = pick(60, 200);
      ours.tm_mon = pick(-30, 30);
      ours.tm_mday = pick(-500, 500);
      ours.tm_hour = pick(-50, 50);
      ours.tm_min = pick(-500, 500);
      ours.tm_sec = pick(-5000, 5000);
      ours.tm_isdst = pick(-1, 1);
      std::tm theirs = ours;
      CAPTURE(name);
      CAPTURE(text_of(ours));
      const auto found = zone.time_of(ours).value_or(-1);
      const auto expected = ::mktime(&theirs);
      // What libc makes of a time that is skipped or comes twice depends on what it was asked before.
      if (found != expected) CHECK(std::abs(found - expected) <= 7200);
      if (found == expected) CHECK(text_of(ours) == text_of(theirs));
    }
  }
}

TEST_CASE("Damaged data of a time zone is not taken for one") {
  CHECK(!TimeZone::from_file(""));
  CHECK(!TimeZone::from_file("TZif"));
  CHECK(!TimeZone::from_file(std::string("TZif2") + std::string(39, '\xff')));
  for (const char* text : {"", "A", "ABC", "ABC25", "ABC1DEF,", "ABC1DEF,M13.1.1,M1.1.1", "ABC1DEF,M3.1.1", "<AB1"})
    CHECK(!TimeZone::from_text(text));
}

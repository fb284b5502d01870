// Alarm clocks of interpreters: each its own, once or again and again, and quiet when it is told to be.
#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <chrono>

#include "system/alarm.h"

using multipy::Alarm;

namespace {

itimerval in(long microseconds, long period = 0) {
  return {{period / 1'000'000, period % 1'000'000}, {microseconds / 1'000'000, microseconds % 1'000'000}};
}

struct Bell {
  std::atomic<int> rung = 0;
  Alarm alarm{[this] {
    ++rung;
    rung.notify_all();
  }};
  void wait_for(int count) {
    for (int seen = rung; seen < count; seen = rung) rung.wait(seen);
  }
};

bool is_off(const itimerval& setting) { return setting.it_value.tv_sec == 0 && setting.it_value.tv_usec == 0; }

}  // namespace

TEST_CASE("a clock goes off once, and is off then") {
  Bell bell;
  CHECK(bell.alarm.set(in(1000), nullptr) == 0);
  bell.wait_for(1);
  CHECK(is_off(bell.alarm.get()));
}

TEST_CASE("a clock with a period goes off again until it is told not to") {
  Bell bell;
  CHECK(bell.alarm.set(in(1000, 1000), nullptr) == 0);
  bell.wait_for(3);
  itimerval old{};
  CHECK(bell.alarm.set(in(0), &old) == 0);
  CHECK(old.it_interval.tv_usec == 1000);
  CHECK(is_off(bell.alarm.get()));
}

TEST_CASE("the earlier of two clocks goes off first, and each is its own") {
  Bell late;
  Bell early;
  late.alarm.set(in(3'600'000'000), nullptr);
  early.alarm.set(in(1000), nullptr);
  early.wait_for(1);
  CHECK(late.rung == 0);
  itimerval old{};
  CHECK(late.alarm.set(in(0), &old) == 0);
  CHECK(old.it_value.tv_sec >= 3500);
}

TEST_CASE("after cancel() it neither goes off nor is going off") {
  std::atomic<bool> began = false;
  std::atomic<bool> ended = false;
  Alarm alarm([&] {
    began = true;
    began.notify_all();
    ended = true;
  });
  alarm.set(in(1, 1), nullptr);
  began.wait(false);
  alarm.cancel();
  CHECK(ended);
  CHECK(is_off(alarm.get()));
}

TEST_CASE("what is no time is EINVAL") {
  Bell bell;
  for (const itimerval& wrong :
       {itimerval{{0, 0}, {-1, 0}}, itimerval{{0, 0}, {0, 1'000'000}}, itimerval{{0, -1}, {1, 0}}}) {
    errno = 0;
    CHECK(bell.alarm.set(wrong, nullptr) == -1);
    CHECK(errno == EINVAL);
  }
}

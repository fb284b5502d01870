// Time at work: of one party, of two at once, and up to now.
#include <doctest/doctest.h>

#include <chrono>

#include "base/busy_time.h"

using multipy::BusyTime;
using multipy::Clock;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST_CASE("what has ended counts from when it began") {
  BusyTime busy;
  const auto now = Clock::now();
  CHECK(busy.total() == nanoseconds(0));
  busy.begin(BusyTime::worker, now);
  busy.end(BusyTime::worker, now + seconds(2));
  CHECK(busy.total() == seconds(2));
  busy.end(BusyTime::worker, now + seconds(9));  // it was over already
  busy.begin(BusyTime::event_loop, now + seconds(10));
  busy.end(BusyTime::event_loop, now + seconds(10) + nanoseconds(1));
  CHECK(busy.total() == seconds(2) + nanoseconds(1));
}

TEST_CASE("two at once count once") {
  BusyTime busy;
  const auto now = Clock::now();
  busy.begin(BusyTime::worker, now);
  busy.begin(BusyTime::event_loop, now + seconds(1));
  busy.begin(BusyTime::event_loop, now + seconds(2));  // it had begun already
  busy.end(BusyTime::worker, now + seconds(3));
  busy.begin(BusyTime::worker, now + seconds(4));
  busy.end(BusyTime::event_loop, now + seconds(5));
  busy.end(BusyTime::worker, now + seconds(6));
  CHECK(busy.total() == seconds(6));
}

TEST_CASE("what goes on counts up to now") {
  BusyTime busy;
  busy.begin(BusyTime::worker, Clock::now() - seconds(5));
  const auto first = busy.total();
  CHECK(first >= seconds(5));
  CHECK(busy.total() >= first);
  busy.end(BusyTime::worker);
  const auto last = busy.total();
  CHECK(last >= first);
  CHECK(busy.total() == last);
}

TEST_CASE("where the threads have ended nobody is at work") {
  BusyTime busy;
  const auto now = Clock::now();
  busy.begin(BusyTime::worker, now);
  busy.begin(BusyTime::event_loop, now);
  busy.end_all(now + seconds(1));
  CHECK(busy.total() == seconds(1));
  busy.end_all(now + seconds(2));
  CHECK(busy.total() == seconds(1));
}

// Time slices: long ones while they are wanted, and what was there before afterwards.
#include <doctest/doctest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <thread>

#include "base/time_slice.h"

namespace {

/// Of the calling thread, in ns: the field sched_runtime of the kernel's struct sched_attr. 0 if it tells none.
std::uint64_t time_slice() {
  std::array<std::uint64_t, 6> attributes{};
  if (::syscall(SYS_sched_getattr, 0, attributes.data(), sizeof attributes, 0) != 0) return 0;
  return attributes[3];
}

}  // namespace

TEST_CASE("a thread has long slices while it wants them, and no other") {
  if (time_slice() == 0) {
    MESSAGE("this kernel has one length of slices for all");
    return;
  }
  std::thread([] {
    const std::uint64_t before = time_slice();
    for (int round = 0; round < 2; ++round) {
      for (int repeated = 0; repeated < 2; ++repeated) {
        multipy::want_long_slices(true);
        CHECK(time_slice() >= 5 * before);
      }
      std::thread([] { multipy::want_long_slices(false); }).join();
      CHECK(time_slice() >= 5 * before);
      for (int repeated = 0; repeated < 2; ++repeated) {
        multipy::want_long_slices(false);
        CHECK(time_slice() == before);
      }
    }
  }).join();
}

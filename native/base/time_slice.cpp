#include "base/time_slice.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace multipy {

namespace {

constexpr std::uint64_t kLong = 20'000'000;  // ns; longer ones gain next to nothing

/// The kernel's struct sched_attr, as far as all versions have it. The C library's headers have none before glibc 2.41.
struct Scheduling {
  std::uint32_t size = sizeof(Scheduling);
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t slice = 0;  // called runtime there
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};
static_assert(sizeof(Scheduling) == 48);

thread_local std::uint64_t usual = 0;  // while slices are long

/// Gives the calling thread slices of `length` ns; the length before, or 0 if that is not to be changed.
std::uint64_t exchange_slice(std::uint64_t length) {
  Scheduling scheduling;
  if (::syscall(SYS_sched_getattr, 0, &scheduling, sizeof scheduling, 0) != 0) return 0;
  const bool is_ordinary = scheduling.policy == SCHED_OTHER || scheduling.policy == SCHED_BATCH;
  if (!is_ordinary || scheduling.slice == 0 || scheduling.slice == length) return 0;
  const std::uint64_t before = scheduling.slice;
  scheduling.slice = length;
  return ::syscall(SYS_sched_setattr, 0, &scheduling, 0) == 0 ? before : 0;
}

}  // namespace

void want_long_slices(bool wanted) {
  if (wanted == (usual != 0)) return;
  if (wanted) {
    usual = exchange_slice(kLong);
  } else {
    exchange_slice(usual);
    usual = 0;
  }
}

}  // namespace multipy

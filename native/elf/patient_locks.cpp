#include "elf/patient_locks.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string_view>

#include "base/spin.h"
#include "elf/arch.h"
#include "elf/rebinding.h"

namespace multipy::elf {

namespace {

thread_local SpinCredit credit;

/// Tries until the lock is had, or looking on no longer pays. EBUSY: it is not had.
template <typename Try>
int try_patiently(Try&& attempt) {
  int status = EBUSY;
  credit.spin([&] {
    status = attempt();
    // Who tries takes the lock's cache line from who holds it; so not too often.
    for (int i = 0; status == EBUSY && i < 8; ++i) pause_cpu();
    return status != EBUSY;
  });
  return status;
}

int lock_mutex(pthread_mutex_t* mutex) {
  int status = ::pthread_mutex_trylock(mutex);
  if (status == EBUSY) status = try_patiently([&] { return ::pthread_mutex_trylock(mutex); });
  return status == EBUSY ? ::pthread_mutex_lock(mutex) : status;
}

int lock_to_write(pthread_rwlock_t* lock) {
  int status = ::pthread_rwlock_trywrlock(lock);
  if (status == EBUSY) status = try_patiently([&] { return ::pthread_rwlock_trywrlock(lock); });
  return status == EBUSY ? ::pthread_rwlock_wrlock(lock) : status;
}

int lock_to_read(pthread_rwlock_t* lock) {
  // Readers seldom wait, and glibc's tryrdlock is slower than its rdlock when many come at once.
  const bool has_writer = std::atomic_ref(lock->__data.__cur_writer).load(std::memory_order_relaxed) != 0;
  const int status = has_writer ? try_patiently([&] { return ::pthread_rwlock_tryrdlock(lock); }) : EBUSY;
  return status == EBUSY ? ::pthread_rwlock_rdlock(lock) : status;
}

struct Replacement {
  std::string_view name;
  std::uintptr_t address;
};

std::uintptr_t replacement_of(std::string_view name) {
  static const std::array<Replacement, 3> all{
      {{"pthread_mutex_lock", reinterpret_cast<std::uintptr_t>(lock_mutex)},
       {"pthread_rwlock_rdlock", reinterpret_cast<std::uintptr_t>(lock_to_read)},
       {"pthread_rwlock_wrlock", reinterpret_cast<std::uintptr_t>(lock_to_write)}}};
  for (const auto& each : all) {
    if (each.name == name) return each.address;
  }
  return 0;
}

}  // namespace

int make_locks_patient(void* handle) {
  link_map* map = nullptr;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return 0;
  return rebind(*map, replacement_of);
}

}  // namespace multipy::elf

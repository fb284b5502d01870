#include "elf/limits.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "base/process_lock.h"
#include "base/unique_fd.h"

namespace multipy::elf {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMappingsOfImage = 8;    // with what its data and the heap take beside it
constexpr std::size_t kMappingsOfHost = 1024;  // that are left to the host, or a 32nd of a low limit
constexpr std::size_t kKeysOfHost = 64;        // and to what an image constructs: torch takes 18
constexpr auto kCountIsValid = std::chrono::seconds(1);

/// Reads with a buffer on the stack: at the limit there is no memory to be had.
std::optional<std::size_t> count_mappings() {
  const UniqueFd fd(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::array<char, 16384> buffer;
  std::size_t lines = 0;
  for (;;) {
    const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return lines;
    lines += static_cast<std::size_t>(std::count(buffer.data(), buffer.data() + count, '\n'));
  }
}

std::optional<std::size_t> most_mappings() {
  const UniqueFd fd(::open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC));
  std::array<char, 32> text{};
  const ssize_t count = fd ? ::read(fd.get(), text.data(), text.size()) : -1;
  std::size_t limit = 0;
  if (count <= 0 || std::from_chars(text.data(), text.data() + count, limit).ec != std::errc()) return std::nullopt;
  return limit;
}

std::string name_limit(std::size_t mappings, std::size_t limit) {
  return "the process has " + std::to_string(mappings) + " mappings, and vm.max_map_count allows " +
         std::to_string(limit) + " (sysctl -w vm.max_map_count=... raises it)";
}

std::size_t reserve_of(std::size_t limit) { return std::min(kMappingsOfHost, limit / 32); }

/// What is left of the mappings, as last counted.
struct Room {
  ProcessLock<std::mutex> mutex{ForkOrder::mappings};
  Clock::time_point counted_at;
  std::size_t free = 0;   // then
  std::size_t taken = 0;  // since
};
Room& room() {
  static Room& instance = *new Room;
  return instance;
}

void claim_mappings(const std::string& file, std::size_t wanted) {
  Room& known = room();
  const std::lock_guard lock(known.mutex);
  const auto now = Clock::now();
  if (now - known.counted_at > kCountIsValid || known.taken + wanted > known.free / 2) {
    const auto limit = most_mappings();
    const auto mappings = count_mappings();
    if (!limit || !mappings) return;  // without /proc the kernel's refusal has to do
    const std::size_t used = *mappings + reserve_of(*limit);
    if (used + wanted > *limit) throw ImageError(file, "too few mappings are left: " + name_limit(*mappings, *limit));
    known.counted_at = now;
    known.free = *limit - used;
    known.taken = 0;
  }
  known.taken += wanted;
}

void claim_keys(const std::string& file) {
  std::array<pthread_key_t, kKeysOfHost> keys;
  std::size_t made = 0;
  while (made < keys.size() && ::pthread_key_create(&keys[made], nullptr) == 0) ++made;
  for (std::size_t i = 0; i < made; ++i) ::pthread_key_delete(keys[i]);
  if (made == keys.size()) return;
  throw ImageError(file,
                   "only " + std::to_string(made) +
                       " keys of thread-specific data are left of the PTHREAD_KEYS_MAX of a process; libraries in "
                       "interpreters keep theirs for ever, also when these have ended");
}

}  // namespace

void claim_room(const std::string& file) {
  claim_mappings(file, kMappingsOfImage);
  claim_keys(file);
}

std::string describe_failure(const char* call) {
  const int reason = errno;
  std::string text = std::string(call) + ": " + std::strerror(reason);
  if (reason != ENOMEM) return text;
  const auto limit = most_mappings();
  const auto mappings = count_mappings();
  if (limit && mappings && *mappings + reserve_of(*limit) / 2 >= *limit) text += "; " + name_limit(*mappings, *limit);
  return text;
}

}  // namespace multipy::elf

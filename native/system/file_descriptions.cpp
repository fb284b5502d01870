#include "system/file_descriptions.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace multipy {

namespace {

/// What the kernel tells of `descriptor`: lines, of which those of locks are
/// "lock:\t1: POSIX  ADVISORY  WRITE 359 00:13:11691 0 EOF".
std::string information_of(int descriptor) {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/self/fdinfo/%d", descriptor);
  std::string text;
  const int file = ::open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return text;
  std::array<char, 4096> part;
  for (ssize_t size; (size = ::read(file, part.data(), part.size())) > 0;)
    text.append(part.data(), static_cast<std::size_t>(size));
  ::close(file);
  return text;
}

bool mentions(std::string_view text, std::string_view kind) { return text.find(kind) != std::string_view::npos; }

/// Has `look` see the descriptors of this process that are of the file with `status`, until it returns true. Returns
/// whether it did; `unknown` if there is no telling.
template <typename Look>
bool any_descriptor_of(const struct stat& status, bool unknown, const Look& look) {
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return unknown;
  bool found = false;
  while (const dirent* entry = found ? nullptr : ::readdir(folder)) {
    struct stat theirs{};
    // By name, as it is anybody's: looking at it through the descriptor itself would race with who closes it.
    if (entry->d_name[0] == '.' || ::fstatat(::dirfd(folder), entry->d_name, &theirs, 0) != 0) continue;
    if (theirs.st_dev != status.st_dev || theirs.st_ino != status.st_ino) continue;
    found = look(std::atoi(entry->d_name));
  }
  ::closedir(folder);
  return found;
}

}  // namespace

int open_again(int descriptor, const struct stat& status, int& access) {
  if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) {
    char path[40];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    constexpr int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    if (access == O_WRONLY) {
      if (const int both = ::open(path, O_RDWR | flags); both >= 0) {
        access = O_RDWR;
        return both;
      }
    }
    if (const int same = ::open(path, access | flags); same >= 0) return same;
  }
  return ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
}

bool is_of_a_network(int descriptor, dev_t device) {
  thread_local dev_t known = 0;
  thread_local bool verdict = false;
  if (device == known) return verdict;
  struct statfs system{};
  if (::fstatfs(descriptor, &system) != 0) return true;
  // NFS, SMB (three of them), FUSE, Ceph, Lustre, AFS (two), 9P, GPFS.
  constexpr std::array<unsigned long, 11> networks{0x6969,     0x517b,     0xff534d42, 0xfe534d42,
                                                   0x65735546, 0x00c36400, 0x0bd00bd0, 0x5346414f,
                                                   0x6b414653, 0x01021997, 0x47504653};
  const auto type = static_cast<unsigned long>(system.f_type) & 0xffffffff;
  verdict = std::ranges::find(networks, type) != networks.end();
  known = device;
  return verdict;
}

bool somebody_has_locks(int descriptor) {
  struct flock asked{};
  asked.l_type = F_WRLCK;
  return ::fcntl(descriptor, F_OFD_GETLK, &asked) == 0 && asked.l_type != F_UNLCK;
}

bool description_has_locks(int descriptor) {
  const std::string text = information_of(descriptor);
  return mentions(text, " FLOCK ") || mentions(text, " OFDLCK ") || mentions(text, " LEASE ");
}

void end_locks_of_description(int descriptor) {
  ::flock(descriptor, LOCK_UN);
  struct flock whole{};
  whole.l_type = F_UNLCK;
  ::fcntl(descriptor, F_OFD_SETLK, &whole);
  ::fcntl(descriptor, F_SETLEASE, F_UNLCK);
}

bool process_has_record_locks(const struct stat& status) {
  return any_descriptor_of(status, true, [](int each) { return mentions(information_of(each), " POSIX "); });
}

bool is_duplicated(int descriptor, const struct stat& status, const std::set<int>& ignored) {
  // All descriptors of a description see a flag of it change: one that means nothing for this kind of file.
  const int flag = S_ISREG(status.st_mode) ? O_NONBLOCK : O_APPEND;
  const int flags = ::fcntl(descriptor, F_GETFL);
  return any_descriptor_of(status, true, [&](int other) {
    if (other == descriptor || ignored.contains(other)) return false;
    const int before = ::fcntl(other, F_GETFL);
    ::fcntl(descriptor, F_SETFL, flags ^ flag);
    const int after = ::fcntl(other, F_GETFL);
    ::fcntl(descriptor, F_SETFL, flags);
    return ((before ^ after) & flag) != 0;
  });
}

}  // namespace multipy

// Record locks (fcntl, lockf) that belong to one interpreter, as they would belong to a process.
//
// Problem: the kernel gives a record lock to the process, and drops all of them that the process has on a file when any
// descriptor of that file is closed. Interpreters are one process to it: both of two would get a lock, and each would
// lose it when the other closes a descriptor. Databases then write into each other's files.
//
// Model: each interpreter has one RecordLocks. For each file that it locks, that has an open file description of its
// own, got by opening /proc/self/fd/N once more, and the kernel's open-file-description locks are taken on it. So it is
// the kernel that decides: between two interpreters, between one and the host or another process, who waits and who
// comes next. What POSIX has beyond that is added here: the locks of all descriptors that an interpreter has of a file
// are one set, they go when it closes any of these, a forked child has none, and a wait that would close a circle of
// interpreters is refused (EDEADLK). For the last, what each has is written down a second time (byte_ranges.h).
//
// The host's own locks are the process's, and an interpreter's close would drop them. So before a descriptor is closed
// the whole file is locked for writing by the description above, if nobody else has a lock on it: then there is nothing
// to drop, and nobody can get one until the description is closed as well, which lets go of its lock last of all. Where
// somebody has a lock the descriptor is *kept*: it stays open until it can be closed, or until the interpreter opens
// the same file again and is given it. An interpreter that has not locked a file keeps the descriptor if somebody has.
//
// Other locks belong to the description behind a descriptor (flock, F_OFD_SETLK) and end with the last that has it: to
// keep one would keep them. So a description that has some is kept only where closing would cost the process its record
// locks, and when no descriptor that is in use has it any more, its locks are ended by name (file_descriptions.h).
//
// Threads and locks: `mutex_` guards the files of one owner and is held while the kernel is asked, but for the waits.
// The graph's mutex guards what all owners have and wait for; it is taken last and never held over a system call. A
// fork takes all of them first.
//
// Guarantees: what a process would be answered, errno included. Not so: another process that asks who has a lock is
// told -1, as for every lock of a description; a circle that leads through the host or another process is not found; a
// descriptor that a shared library closes (fclose in libstdc++) drops no locks; what cannot be put off (fclose, dup2
// onto a descriptor) drops the host's, and so does a close in the moment in which the host takes its first lock on a
// file that the interpreter never locked or has a lock of a description on, or on a network's file system, where asking
// takes long. To locks that are ended by name a child or a mapping that has the description as well is no reason to
// stay.
//
// Rejected: a files_struct for each interpreter, by unshare(CLONE_FILES), which makes the kernel do all of this.
// Descriptors would no longer be the process's: those of the CUDA driver, of the host, of sockets that the host closes.
// And a table of our own that decides: waiting would not be fair between processes, and it had to be asked and the
// kernel as well.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "base/export.h"
#include "system/byte_ranges.h"

namespace multipy {

class MULTIPY_API RecordLocks {
 public:
  RecordLocks();
  ~RecordLocks();
  RecordLocks(const RecordLocks&) = delete;
  RecordLocks& operator=(const RecordLocks&) = delete;

  /// F_SETLK, or F_SETLKW if it `waits`. Returns 0 or an errno.
  int set(int descriptor, const struct flock& request, bool waits);
  /// F_GETLK: `request` becomes the answer. Returns 0 or an errno.
  int get(int descriptor, struct flock& request);
  /// close(2) by the owner: its locks on that file end, but no others of the process. Returns 0 or an errno.
  int close(int descriptor);
  /// The owner is about to close `descriptor` in a way that cannot be put off: its locks on that file end.
  void closing(int descriptor);
  /// A kept descriptor that is as good as what openat would return for these; -1: there is none.
  int reopen(int folder, const char* path, int flags);
  /// The owner has ended.
  void release_all();

  /// Whether a thread of the owner waits for a lock.
  bool is_waiting() const noexcept;

  /// False: reopen has nothing to return.
  static bool any_kept() noexcept;
  /// False: no owner of the process has locked a file, and there is nothing to do on closing one. In a child made by
  /// vfork, which has the memory of its parent but descriptors of its own, it is false as well.
  static bool any() noexcept;
  /// Whether descriptors are those of the process whose memory this is: not in a child made by vfork.
  static bool is_this_process() noexcept;
  /// Whether `descriptor` is one of ours, or kept: nobody else may close it.
  static bool is_ours(int descriptor) noexcept;

 private:
  struct File;
  struct Wait;
  struct Graph;
  using FileKey = std::pair<dev_t, ino_t>;

  static Graph& graph();
  std::shared_ptr<File> file_for(int descriptor, const struct stat& status, int access, LockKind kind);
  int wait_for(const std::shared_ptr<File>& file, int descriptor, ByteRange range, LockKind kind,
               std::unique_lock<std::mutex>& lock);
  void drop(const std::shared_ptr<File>& file);
  bool let_go(const std::shared_ptr<File>& file, int descriptor);
  static void end_unless_in_use(int descriptor, const struct stat& status);
  static void settle(File& file);
  void close_kept();
  bool closes_circle(const File& file, ByteRange range, LockKind kind) const;

  std::mutex mutex_;
  std::map<FileKey, std::shared_ptr<File>> files_;
};

}  // namespace multipy

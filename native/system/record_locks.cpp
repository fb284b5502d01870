#include "system/record_locks.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <set>
#include <vector>

#include "system/file_descriptions.h"

namespace multipy {

/// A file that an owner has locked, or may lock again.
struct RecordLocks::File {
  File(FileKey of, const RecordLocks& by, int description, int mode);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  /// Asks the kernel. Returns 0 or an errno.
  int ask(int command, ByteRange range, LockKind kind) const {
    struct flock request = to_flock(range, kind);
    return ::fcntl(descriptor, command, &request) == 0 ? 0 : errno;
  }

  static struct flock to_flock(ByteRange range, LockKind kind) {
    struct flock request{};
    request.l_type = kind;
    request.l_whence = SEEK_SET;
    request.l_start = range.first;
    request.l_len = range.last == ByteRanges::maximum ? 0 : range.last - range.first + 1;
    return request;
  }

  bool allows(LockKind kind) const {
    return kind == F_UNLCK || access == O_RDWR || access == (kind == F_RDLCK ? O_RDONLY : O_WRONLY);
  }

  void keep(int closed);
  void forget(int closed);
  void close_kept();

  const FileKey key;
  const RecordLocks& owner;
  int descriptor;
  int access;               // O_RDONLY, O_WRONLY or O_RDWR
  std::vector<int> kept;    // closed by the owner, still open; under its mutex
  bool has_open = false;    // one of these has a duplicate that is still in use; the same
  std::size_t waiting = 0;  // threads in the kernel, with this descriptor; under the owner's mutex
  ByteRanges held;          // under the graph's mutex
};

struct RecordLocks::Wait {
  const File* file;
  ByteRange range;
  LockKind kind;
};

/// What all owners have and wait for.
struct RecordLocks::Graph {
  std::mutex owners_mutex;  // taken first of all
  std::vector<RecordLocks*> owners;
  std::mutex mutex;  // taken last of all
  std::vector<File*> files;
  std::vector<const Wait*> waits;
  std::set<int> kept;  // by all owners, and those that have ended
  std::atomic<std::size_t> file_count{0};
  std::atomic<std::size_t> kept_count{0};  // by owners that have not
  std::atomic<pid_t> process{::getpid()};

  /// The descriptors that are in nobody's use: those that are kept, and ours.
  std::set<int> unused() {
    const std::lock_guard lock(mutex);
    std::set<int> found = kept;
    for (const File* file : files) found.insert(file->descriptor);
    return found;
  }

  Graph() { ::pthread_atfork(before_fork, after_fork, in_child); }

  static void before_fork() {
    Graph& self = graph();
    self.owners_mutex.lock();
    for (RecordLocks* owner : self.owners) owner->mutex_.lock();
    self.mutex.lock();
  }

  static void after_fork() {
    Graph& self = graph();
    self.mutex.unlock();
    for (RecordLocks* owner : self.owners) owner->mutex_.unlock();
    self.owners_mutex.unlock();
  }

  /// A child has no record locks, and must not keep its parent's by having their descriptions open. Threads that waited
  /// are not there any more, but may have had a hold on their files, which are therefore closed here.
  static void in_child() {
    Graph& self = graph();
    self.process = ::getpid();
    self.waits.clear();
    for (File* file : self.files) {
      for (const int descriptor : file->kept) ::close(descriptor);
      file->kept.clear();
      ::close(file->descriptor);
      file->descriptor = -1;
    }
    self.files.clear();
    self.kept.clear();
    self.file_count = 0;
    self.kept_count = 0;
    after_fork();
    for (RecordLocks* owner : self.owners) owner->files_.clear();
  }
};

RecordLocks::Graph& RecordLocks::graph() {
  static auto& all = *new Graph;
  return all;
}

RecordLocks::File::File(FileKey of, const RecordLocks& by, int description, int mode)
    : key(of), owner(by), descriptor(description), access(mode) {
  Graph& all = graph();
  const std::lock_guard lock(all.mutex);
  all.files.push_back(this);
  ++all.file_count;
}

RecordLocks::File::~File() {
  Graph& all = graph();
  {
    const std::lock_guard lock(all.mutex);
    all.file_count -= std::erase(all.files, this);
  }
  if (descriptor >= 0) ::close(descriptor);
}

void RecordLocks::File::keep(int closed) {
  ::fcntl(closed, F_SETFD, FD_CLOEXEC);  // no program is to have what is closed
  kept.push_back(closed);
  Graph& all = graph();
  const std::lock_guard lock(all.mutex);
  all.kept.insert(closed);
  ++all.kept_count;
}

void RecordLocks::File::forget(int closed) {
  if (std::erase(kept, closed) == 0) return;
  Graph& all = graph();
  const std::lock_guard lock(all.mutex);
  all.kept.erase(closed);
  --all.kept_count;
}

void RecordLocks::File::close_kept() {
  while (!kept.empty()) {
    const int closed = kept.back();
    forget(closed);
    ::close(closed);
  }
}

namespace {

/// The bytes that a request is about, for a descriptor that it came with. Returns 0 or an errno.
int range_of(int descriptor, const struct flock& request, const struct stat& status, ByteRange& range) {
  off_t origin = 0;
  if (request.l_whence == SEEK_CUR) {
    origin = std::max<off_t>(::lseek(descriptor, 0, SEEK_CUR), 0);
  } else if (request.l_whence == SEEK_END) {
    origin = status.st_size;
  } else if (request.l_whence != SEEK_SET) {
    return EINVAL;
  }
  if (__builtin_add_overflow(origin, request.l_start, &range.first)) return EOVERFLOW;
  if (range.first < 0) return EINVAL;
  if (request.l_len > 0) {
    if (__builtin_add_overflow(range.first, request.l_len - 1, &range.last)) return EOVERFLOW;
  } else if (request.l_len < 0) {
    range.last = range.first - 1;
    range.first += request.l_len;
    if (range.first < 0) return EINVAL;
  } else {
    range.last = ByteRanges::maximum;
  }
  return 0;
}

struct Target {
  struct stat status;
  int access = 0;
  ByteRange range;
};

/// Returns 0 or an errno.
int find_target(int descriptor, const struct flock& request, Target& target) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0 || ::fstat(descriptor, &target.status) != 0) return EBADF;
  target.access = flags & O_ACCMODE;
  return range_of(descriptor, request, target.status, target.range);
}

}  // namespace

RecordLocks::RecordLocks() {
  Graph& all = graph();
  const std::lock_guard lock(all.owners_mutex);
  all.owners.push_back(this);
}

RecordLocks::~RecordLocks() {
  release_all();
  Graph& all = graph();
  const std::lock_guard lock(all.owners_mutex);
  std::erase(all.owners, this);
}

bool RecordLocks::any_kept() noexcept {
  const Graph& all = graph();
  return all.kept_count.load(std::memory_order_relaxed) != 0 && ::getpid() == all.process;
}

bool RecordLocks::any() noexcept {
  const Graph& all = graph();
  return all.file_count.load(std::memory_order_relaxed) != 0 && ::getpid() == all.process;
}

bool RecordLocks::is_this_process() noexcept { return ::getpid() == graph().process; }

bool RecordLocks::is_ours(int descriptor) noexcept {
  Graph& all = graph();
  const std::lock_guard lock(all.mutex);
  const auto is_open_for_locks = [&](const File* file) { return file->descriptor == descriptor; };
  return all.kept.contains(descriptor) || std::ranges::any_of(all.files, is_open_for_locks);
}

bool RecordLocks::is_waiting() const noexcept {
  Graph& all = graph();
  const std::lock_guard lock(all.mutex);
  return std::ranges::any_of(all.waits, [&](const Wait* wait) { return &wait->file->owner == this; });
}

int RecordLocks::set(int descriptor, const struct flock& request, bool waits) {
  Target target;
  if (const int error = find_target(descriptor, request, target)) return error;
  const LockKind kind = request.l_type;
  if (kind == F_RDLCK) {
    if (target.access == O_WRONLY) return EBADF;
  } else if (kind == F_WRLCK) {
    if (target.access == O_RDONLY) return EBADF;
  } else if (kind != F_UNLCK) {
    return EINVAL;
  }
  std::unique_lock lock(mutex_);
  const auto file = file_for(descriptor, target.status, target.access, kind);
  if (file == nullptr) return kind == F_UNLCK ? 0 : ENOLCK;
  if (kind == F_UNLCK) {
    {
      const std::lock_guard graph_lock(graph().mutex);
      file->held.set(target.range, kind);
    }
    return file->ask(F_OFD_SETLK, target.range, kind);
  }
  const int status = file->ask(F_OFD_SETLK, target.range, kind);
  if (waits && (status == EAGAIN || status == EACCES)) return wait_for(file, descriptor, target.range, kind, lock);
  if (status == 0) {
    const std::lock_guard graph_lock(graph().mutex);
    file->held.set(target.range, kind);
  }
  return status;
}

int RecordLocks::wait_for(const std::shared_ptr<File>& file, int descriptor, ByteRange range, LockKind kind,
                          std::unique_lock<std::mutex>& lock) {
  Graph& all = graph();
  const Wait wait{file.get(), range, kind};
  {
    const std::lock_guard graph_lock(all.mutex);
    if (closes_circle(*file, range, kind)) return EDEADLK;
    all.waits.push_back(&wait);
  }
  ++file->waiting;
  lock.unlock();
  const int status = file->ask(F_OFD_SETLKW, range, kind);
  lock.lock();
  --file->waiting;
  struct stat now{};
  const bool still_open = ::fstat(descriptor, &now) == 0 && FileKey(now.st_dev, now.st_ino) == file->key;
  {
    const std::lock_guard graph_lock(all.mutex);
    std::erase(all.waits, &wait);
    if (status == 0 && still_open) file->held.set(range, kind);
  }
  if (status != 0 || still_open) return status;
  // Another thread of the owner has closed it meanwhile, which is when the lock would have ended.
  file->ask(F_OFD_SETLK, range, F_UNLCK);
  return EBADF;
}

int RecordLocks::get(int descriptor, struct flock& request) {
  Target target;
  if (const int error = find_target(descriptor, request, target)) return error;
  if (request.l_type != F_RDLCK && request.l_type != F_WRLCK) return EINVAL;
  const std::lock_guard lock(mutex_);
  const FileKey key(target.status.st_dev, target.status.st_ino);
  const auto own = files_.find(key);
  struct flock answer = File::to_flock(target.range, request.l_type);
  if (::fcntl(own == files_.end() ? descriptor : own->second->descriptor, F_OFD_GETLK, &answer) != 0) return errno;
  if (answer.l_type == F_UNLCK) {
    request.l_type = F_UNLCK;
    return 0;
  }
  if (answer.l_pid == -1) {
    // Of an open file description: another interpreter's, whose process is this one, if one of them has it.
    ByteRange found;
    range_of(descriptor, answer, target.status, found);
    Graph& all = graph();
    const std::lock_guard graph_lock(all.mutex);
    for (const File* file : all.files) {
      if (file->key == key && &file->owner != this && file->held.conflicts(found, F_WRLCK)) answer.l_pid = ::getpid();
    }
  }
  request = answer;
  return 0;
}

int RecordLocks::close(int descriptor) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) return errno;
  std::unique_lock lock(mutex_);
  if (graph().kept_count != 0) close_kept();
  const auto found = files_.find({status.st_dev, status.st_ino});
  auto file = found == files_.end() ? nullptr : found->second;
  if (file == nullptr && S_ISREG(status.st_mode) && !is_of_a_network(descriptor, status.st_dev) &&
      somebody_has_locks(descriptor)) {
    const int access = ::fcntl(descriptor, F_GETFL) & O_ACCMODE;
    file = file_for(descriptor, status, access, access == O_RDONLY ? F_RDLCK : F_WRLCK);
  }
  if (file == nullptr) {
    end_unless_in_use(descriptor, status);
    lock.unlock();
    return ::close(descriptor) == 0 ? 0 : errno;
  }
  if (std::ranges::find(file->kept, descriptor) != file->kept.end()) return EBADF;
  if (let_go(file, descriptor)) return 0;
  if (description_has_locks(descriptor) && !process_has_record_locks(status)) {
    // Its locks are to end with its description, which a child may have as well, and which nobody knows of.
    file->close_kept();
    end_unless_in_use(descriptor, status);
    ::close(descriptor);
    if (file->waiting == 0) files_.erase(FileKey(file->key));
    return 0;
  }
  file->keep(descriptor);
  settle(*file);
  return 0;
}

/// `descriptor` is to be closed: if no descriptor has its description then but some that are kept, its locks end.
void RecordLocks::end_unless_in_use(int descriptor, const struct stat& status) {
  Graph& all = graph();
  {
    const std::lock_guard lock(all.mutex);
    if (all.kept.empty()) return;
  }
  if (description_has_locks(descriptor) && is_duplicated(descriptor, status) &&
      !is_duplicated(descriptor, status, all.unused()))
    end_locks_of_description(descriptor);
}

/// What was kept of `file` has no locks but those of descriptions that are in use as well.
void RecordLocks::settle(File& file) {
  struct stat status{};
  if (file.kept.empty() || ::fstat(file.kept.front(), &status) != 0) return;
  file.has_open = false;
  const std::set<int> unused = graph().unused();
  for (const int closed : file.kept) {
    const bool is_open = is_duplicated(closed, status, unused);
    if (!is_open && description_has_locks(closed)) end_locks_of_description(closed);
    file.has_open |= is_open;
  }
}

void RecordLocks::closing(int descriptor) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) return;
  const std::lock_guard lock(mutex_);
  const auto found = files_.find({status.st_dev, status.st_ino});
  if (found != files_.end()) found->second->forget(descriptor);
  end_unless_in_use(descriptor, status);
  if (found != files_.end()) drop(found->second);
}

int RecordLocks::reopen(int folder, const char* path, int flags) {
  constexpr int never = O_EXCL | O_PATH | O_DIRECTORY;
  constexpr int compared = O_ACCMODE | O_APPEND | O_SYNC | O_DIRECT | O_NONBLOCK | O_NOATIME | O_ASYNC;
  if ((flags & never) != 0) return -1;
  const std::lock_guard lock(mutex_);
  close_kept();
  struct stat status{};
  if (::fstatat(folder, path, &status, (flags & O_NOFOLLOW) != 0 ? AT_SYMLINK_NOFOLLOW : 0) != 0) return -1;
  const auto found = files_.find({status.st_dev, status.st_ino});
  if (found == files_.end()) return -1;
  auto& kept = found->second->kept;
  const auto place = std::ranges::find_if(kept, [&](int descriptor) {
    return (::fcntl(descriptor, F_GETFL) & compared) == (flags & compared) && !is_duplicated(descriptor, status);
  });
  if (place == kept.end()) return -1;
  const int descriptor = *place;
  if ((flags & O_TRUNC) != 0 && ::ftruncate(descriptor, 0) != 0) return -1;
  ::lseek(descriptor, 0, SEEK_SET);
  ::fcntl(descriptor, F_SETFD, (flags & O_CLOEXEC) != 0 ? FD_CLOEXEC : 0);
  found->second->forget(descriptor);
  return descriptor;
}

/// Closes what was kept of files on which nobody has locks any more.
void RecordLocks::close_kept() {
  for (auto place = files_.begin(); place != files_.end();) {
    const auto file = (place++)->second;
    if (file->kept.empty()) continue;
    if (file->has_open) settle(*file);
    if (file->waiting != 0) continue;
    {
      const std::lock_guard graph_lock(graph().mutex);
      if (!file->held.all().empty()) continue;
    }
    let_go(file, -1);
  }
}

void RecordLocks::release_all() {
  const std::lock_guard lock(mutex_);
  while (!files_.empty()) {
    const auto file = files_.begin()->second;
    // What cannot be closed stays open: the process's locks are worth more than a descriptor.
    if (!let_go(file, -1)) {
      settle(*file);
      file->descriptor = -1;
      graph().kept_count -= file->kept.size();
    }
    files_.erase(file->key);
  }
}

/// Ends the locks on `file`, and closes `descriptor` and what was kept of it if that drops no locks of the process.
bool RecordLocks::let_go(const std::shared_ptr<File>& file, int descriptor) {
  {
    const std::lock_guard graph_lock(graph().mutex);
    file->held.clear();
  }
  constexpr ByteRange whole{0, ByteRanges::maximum};
  const bool is_safe =
      file->allows(F_WRLCK) ? file->ask(F_OFD_SETLK, whole, F_WRLCK) == 0 : !somebody_has_locks(file->descriptor);
  if (is_safe) {
    file->close_kept();
    struct stat status{};
    if (descriptor >= 0 && ::fstat(descriptor, &status) == 0) {
      end_unless_in_use(descriptor, status);
      ::close(descriptor);
    }
  }
  // Closing the description lets go of its lock. It stays if a thread waits with it, or until it may be closed.
  const bool ends = is_safe && file->waiting == 0;
  if (!ends) file->ask(F_OFD_SETLK, whole, F_UNLCK);
  if (ends) files_.erase(FileKey(file->key));
  return is_safe;
}

/// Ends the locks on `file`. They are dropped by name: a child that was forked may have the description open.
void RecordLocks::drop(const std::shared_ptr<File>& file) {
  {
    const std::lock_guard graph_lock(graph().mutex);
    file->held.clear();
  }
  file->ask(F_OFD_SETLK, {0, ByteRanges::maximum}, F_UNLCK);
  if (file->waiting == 0 && file->kept.empty()) files_.erase(FileKey(file->key));
}

/// The owner's file behind `descriptor`, able to hold a lock of `kind`. Null: there is none, and none can be had; for
/// F_UNLCK none is made.
std::shared_ptr<RecordLocks::File> RecordLocks::file_for(int descriptor, const struct stat& status, int access,
                                                         LockKind kind) {
  const FileKey key(status.st_dev, status.st_ino);
  const auto found = files_.find(key);
  if (found != files_.end() && found->second->allows(kind)) return found->second;
  if (kind == F_UNLCK || (found != files_.end() && found->second->waiting != 0)) return nullptr;
  const int description = open_again(descriptor, status, access);
  if (description < 0) return nullptr;
  const auto file = std::make_shared<File>(key, *this, description, access);
  struct stat again{};
  if (::fstat(description, &again) != 0 || FileKey(again.st_dev, again.st_ino) != key) return nullptr;
  if (!file->allows(kind)) return nullptr;
  if (found != files_.end()) {
    // The first could only be locked for reading: what it has, the second may have as well, before the first is closed.
    for (const auto& [first, held] : found->second->held.all()) {
      if (file->ask(F_OFD_SETLK, {first, held.last}, held.kind) != 0) return nullptr;
    }
    {
      const std::lock_guard graph_lock(graph().mutex);
      file->held = found->second->held;
    }
    found->second->ask(F_OFD_SETLK, {0, ByteRanges::maximum}, F_UNLCK);
    // The first is closed when that drops no locks of the process.
    file->kept = std::exchange(found->second->kept, {});
    file->has_open = found->second->has_open;
    file->keep(std::exchange(found->second->descriptor, -1));
  }
  files_[key] = file;
  return file;
}

/// Whether somebody who has what this owner would wait for, waits for this owner, directly or not.
bool RecordLocks::closes_circle(const File& file, ByteRange range, LockKind kind) const {
  const Graph& all = graph();
  std::set<const RecordLocks*> seen;
  std::vector<Wait> open{{&file, range, kind}};
  while (!open.empty()) {
    const Wait wait = open.back();
    open.pop_back();
    for (const File* other : all.files) {
      if (other->key != wait.file->key || &other->owner == &wait.file->owner) continue;
      if (!other->held.conflicts(wait.range, wait.kind)) continue;
      if (&other->owner == this) return true;
      if (!seen.insert(&other->owner).second) continue;
      for (const Wait* next : all.waits) {
        if (&next->file->owner == &other->owner) open.push_back(*next);
      }
    }
  }
  return false;
}

}  // namespace multipy

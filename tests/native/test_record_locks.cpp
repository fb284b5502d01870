// Record locks of several owners in one process: as those of several processes.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "system/byte_ranges.h"
#include "system/record_locks.h"

using multipy::ByteRanges;
using multipy::LockKind;
using multipy::RecordLocks;

namespace {

class TemporaryFile {
 public:
  TemporaryFile() {
    const int descriptor = ::mkstemp(path_.data());
    REQUIRE(descriptor >= 0);
    REQUIRE(::ftruncate(descriptor, 8) == 0);
    ::close(descriptor);
  }
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  int open(int flags = O_RDWR) const {
    const int descriptor = ::open(path_.c_str(), flags | O_CLOEXEC);
    REQUIRE(descriptor >= 0);
    return descriptor;
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/multipy_locks_XXXXXX";
};

struct flock request(LockKind kind, off_t start = 0, off_t length = 0, short whence = SEEK_SET) {
  struct flock made{};
  made.l_type = kind;
  made.l_whence = whence;
  made.l_start = start;
  made.l_len = length;
  return made;
}

/// An owner with descriptors of its own: one in this process, or a process of its own with the kernel's locks.
class Owner {
 public:
  struct Step {
    enum { set, get, reopen, duplicate } what;
    int which;  // of its descriptors
    int other;
    struct flock request;
  };
  struct Answer {
    int error;
    struct flock lock;
  };
  virtual ~Owner() = default;
  virtual Answer perform(const Step& step) = 0;
};

constexpr std::array<int, 3> modes{O_RDWR, O_RDWR, O_RDONLY};

class OwnerHere final : public Owner {
 public:
  explicit OwnerHere(const TemporaryFile& file) : file_(file) {
    for (const int mode : modes) descriptors_.push_back(file.open(mode));
  }
  ~OwnerHere() override {
    locks_.release_all();
    for (const int descriptor : descriptors_) ::close(descriptor);
  }
  Answer perform(const Step& step) override {
    Answer answer{0, step.request};
    int& descriptor = descriptors_[step.which];
    if (step.what == Step::set) answer.error = locks_.set(descriptor, step.request, false);
    if (step.what == Step::get) answer.error = locks_.get(descriptor, answer.lock);
    if (step.what == Step::duplicate) locks_.closing(descriptor);
    if (step.what == Step::reopen) {
      answer.error = locks_.close(descriptor);
      const int kept = locks_.reopen(AT_FDCWD, file_.path().c_str(), modes[step.which] | O_CLOEXEC);
      descriptor = kept >= 0 ? kept : file_.open(modes[step.which]);
    }
    if (step.what == Step::duplicate) ::dup3(descriptors_[step.other], descriptor, O_CLOEXEC);
    return answer;
  }

 private:
  const TemporaryFile& file_;
  RecordLocks locks_;
  std::vector<int> descriptors_;
};

class OwnerElsewhere final : public Owner {
 public:
  explicit OwnerElsewhere(const TemporaryFile& file) {
    int there[2], back[2];
    REQUIRE(::pipe2(there, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(back, O_CLOEXEC) == 0);
    child_ = ::fork();
    if (child_ == 0) {
      ::close(there[1]);
      serve(file, there[0], back[1]);
    }
    ::close(there[0]);
    ::close(back[1]);
    to_ = there[1];
    from_ = back[0];
  }
  ~OwnerElsewhere() override {
    ::close(to_);
    ::close(from_);
    ::kill(child_, SIGKILL);  // those forked later have its pipe open
    ::waitpid(child_, nullptr, 0);
  }
  Answer perform(const Step& step) override {
    Answer answer{};
    REQUIRE(::write(to_, &step, sizeof step) == sizeof step);
    REQUIRE(::read(from_, &answer, sizeof answer) == sizeof answer);
    return answer;
  }
  pid_t process() const { return child_; }

 private:
  [[noreturn]] static void serve(const TemporaryFile& file, int in, int out) {
    std::vector<int> descriptors;
    for (const int mode : modes) descriptors.push_back(file.open(mode));
    Step step{};
    while (::read(in, &step, sizeof step) == sizeof step) {
      Answer answer{0, step.request};
      int& descriptor = descriptors[step.which];
      if (step.what == Step::set && ::fcntl(descriptor, F_SETLK, &answer.lock) != 0) answer.error = errno;
      if (step.what == Step::get && ::fcntl(descriptor, F_GETLK, &answer.lock) != 0) answer.error = errno;
      if (step.what == Step::reopen) {
        ::close(descriptor);
        descriptor = file.open(modes[step.which]);
      }
      if (step.what == Step::duplicate) ::dup3(descriptors[step.other], descriptor, O_CLOEXEC);
      if (::write(out, &answer, sizeof answer) != sizeof answer) break;
    }
    ::_exit(0);
  }

  pid_t child_ = 0;
  int to_ = -1;
  int from_ = -1;
};

void wait_until_blocked(const RecordLocks& locks) {
  while (!locks.is_waiting()) std::this_thread::yield();
}

}  // namespace

TEST_CASE("ranges split, join and replace each other") {
  ByteRanges ranges;
  ranges.set({0, 9}, F_RDLCK);
  ranges.set({10, 19}, F_RDLCK);
  CHECK(ranges.all().size() == 1);
  ranges.set({5, 14}, F_WRLCK);
  CHECK(ranges.all().size() == 3);
  CHECK(ranges.all().at(15).last == 19);
  CHECK(ranges.conflicts({0, 4}, F_WRLCK));
  CHECK_FALSE(ranges.conflicts({0, 4}, F_RDLCK));
  CHECK(ranges.conflicts({0, 5}, F_RDLCK));
  CHECK(ranges.conflicts({14, ByteRanges::maximum}, F_RDLCK));
  CHECK_FALSE(ranges.conflicts({20, ByteRanges::maximum}, F_WRLCK));
  ranges.set({7, 7}, F_UNLCK);
  CHECK_FALSE(ranges.conflicts({7, 7}, F_WRLCK));
  CHECK(ranges.conflicts({6, 6}, F_RDLCK));
  CHECK(ranges.conflicts({8, 8}, F_RDLCK));
  ranges.set({0, ByteRanges::maximum}, F_WRLCK);
  CHECK(ranges.all().size() == 1);
  ranges.set({0, ByteRanges::maximum}, F_UNLCK);
  CHECK(ranges.all().empty());
}

TEST_CASE("owners in one process are answered what processes are") {
  const TemporaryFile here, elsewhere;
  constexpr int owner_count = 3;
  std::vector<std::unique_ptr<OwnerElsewhere>> processes;
  for (int i = 0; i < owner_count; ++i) processes.push_back(std::make_unique<OwnerElsewhere>(elsewhere));
  std::vector<std::unique_ptr<OwnerHere>> owners;
  for (int i = 0; i < owner_count; ++i) owners.push_back(std::make_unique<OwnerHere>(here));
  std::mt19937 random(20261126);  // NOLINT(cert-msc51-cpp): the same in each run
  const auto below = [&](int limit) { return static_cast<int>(random() % static_cast<unsigned>(limit)); };
  for (int i = 0; i < 6000; ++i) {
    const int who = below(owner_count);
    Owner::Step step{};
    const int kind = below(20);
    step.what = kind < 13 ? Owner::Step::set : kind < 18 ? Owner::Step::get : Owner::Step::reopen;
    step.which = below(static_cast<int>(modes.size()));
    if (kind == 19 && step.which != 2) {
      step.what = Owner::Step::duplicate;
      step.other = 1 - step.which;
    }
    constexpr std::array<LockKind, 5> kinds{F_RDLCK, F_WRLCK, F_UNLCK, F_RDLCK, 17};
    step.request = request(kinds[below(i % 50 == 0 ? 5 : 4)], below(12) - (i % 40 == 0 ? 9 : 0), below(9) - 2,
                           std::array<short, 4>{SEEK_SET, SEEK_CUR, SEEK_END, SEEK_SET}[below(4)]);
    const Owner::Answer expected = processes[who]->perform(step);
    const Owner::Answer got = owners[who]->perform(step);
    CAPTURE(i);
    CAPTURE(who);
    CAPTURE(step.what);
    REQUIRE(got.error == expected.error);
    REQUIRE(got.lock.l_type == expected.lock.l_type);
    if (step.what != Owner::Step::get || got.error != 0 || got.lock.l_type == F_UNLCK) continue;
    // Which of several in the way is told is the kernel's choice.
    CHECK(got.lock.l_pid == ::getpid());
    CHECK(std::ranges::any_of(processes, [&](const auto& each) { return each->process() == expected.lock.l_pid; }));
    CHECK(got.lock.l_whence == SEEK_SET);
  }
}

TEST_CASE("a lock that is waited for is had when the other lets go") {
  const TemporaryFile file;
  RecordLocks first, second;
  const int a = file.open(), b = file.open();
  REQUIRE(first.set(a, request(F_WRLCK), false) == 0);
  CHECK(second.set(b, request(F_RDLCK, 3, 1), false) == EAGAIN);
  int status = -1;
  std::thread waiter([&] { status = second.set(b, request(F_RDLCK, 3, 1), true); });
  wait_until_blocked(second);
  first.closing(a);
  waiter.join();
  CHECK(status == 0);
  CHECK(first.set(a, request(F_WRLCK), false) == EAGAIN);
  CHECK(first.set(a, request(F_RDLCK), false) == 0);
  second.release_all();
  CHECK(first.set(a, request(F_WRLCK), false) == 0);
  first.release_all();
  CHECK_FALSE(RecordLocks::any());
  ::close(a);
  ::close(b);
}

TEST_CASE("a wait that closes a circle is refused") {
  const TemporaryFile file;
  std::array<RecordLocks, 3> owners;
  std::array<int, 3> descriptors{file.open(), file.open(), file.open()};
  for (int i = 0; i < 3; ++i) REQUIRE(owners[i].set(descriptors[i], request(F_WRLCK, i, 1), false) == 0);
  std::vector<std::thread> waiters;
  std::array<int, 2> statuses{-1, -1};
  for (int i = 0; i < 2; ++i) {
    waiters.emplace_back([&, i] { statuses[i] = owners[i].set(descriptors[i], request(F_WRLCK, i + 1, 1), true); });
    wait_until_blocked(owners[i]);
  }
  CHECK(owners[2].set(descriptors[2], request(F_WRLCK, 0, 1), true) == EDEADLK);
  owners[2].release_all();
  waiters[1].join();
  CHECK(statuses[1] == 0);
  owners[1].release_all();
  waiters[0].join();
  CHECK(statuses[0] == 0);
  for (auto& owner : owners) owner.release_all();
  for (const int descriptor : descriptors) ::close(descriptor);
}

TEST_CASE("two who read and both want to write: the second is refused") {
  const TemporaryFile file;
  RecordLocks first, second;
  const int a = file.open(), b = file.open();
  REQUIRE(first.set(a, request(F_RDLCK), false) == 0);
  REQUIRE(second.set(b, request(F_RDLCK), false) == 0);
  int status = -1;
  std::thread waiter([&] { status = first.set(a, request(F_WRLCK), true); });
  wait_until_blocked(first);
  CHECK(second.set(b, request(F_WRLCK), true) == EDEADLK);
  second.release_all();
  waiter.join();
  CHECK(status == 0);
  ::close(a);
  ::close(b);
}

TEST_CASE("a forked child has no locks and keeps none of its parent's") {
  const TemporaryFile file;
  RecordLocks owner;
  const int descriptor = file.open();
  REQUIRE(owner.set(descriptor, request(F_WRLCK), false) == 0);
  int gate[2], looked[2];
  REQUIRE(::pipe(gate) == 0);
  REQUIRE(::pipe(looked) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(gate[1]);
    struct flock asked = request(F_WRLCK);
    bool well = !RecordLocks::any() && owner.set(descriptor, request(F_WRLCK), false) == EAGAIN;
    well = well && owner.get(descriptor, asked) == 0 && asked.l_type == F_WRLCK;
    owner.closing(descriptor);
    well = well && owner.set(descriptor, request(F_WRLCK), false) == EAGAIN;
    char byte = 'x';
    well = well && ::write(looked[1], &byte, 1) == 1;
    well = well && ::read(gate[0], &byte, 1) == 1;  // the parent has let go
    well = well && owner.set(descriptor, request(F_WRLCK), false) == 0;
    ::_exit(well ? 0 : 1);
  }
  char byte = 0;
  ::close(looked[1]);
  CHECK(::read(looked[0], &byte, 1) == 1);
  // A child that goes on has the parent's description open, if it were not closed there.
  owner.release_all();
  RecordLocks other;
  const int second = file.open();
  CHECK(other.set(second, request(F_WRLCK), true) == 0);
  other.release_all();
  CHECK(::write(gate[1], "x", 1) == 1);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  for (const int each : {descriptor, second, gate[0], gate[1], looked[0]}) ::close(each);
}

TEST_CASE("the process's own locks and an owner's keep each other out") {
  const TemporaryFile file;
  RecordLocks owner;
  const int own = file.open(), hosts = file.open();
  struct flock whole = request(F_WRLCK);
  REQUIRE(::fcntl(hosts, F_SETLK, &whole) == 0);
  CHECK(owner.set(own, request(F_WRLCK), false) == EAGAIN);
  struct flock asked = request(F_RDLCK);
  CHECK(owner.get(own, asked) == 0);
  CHECK(asked.l_pid == ::getpid());
  whole.l_type = F_UNLCK;
  REQUIRE(::fcntl(hosts, F_SETLK, &whole) == 0);
  CHECK(owner.set(own, request(F_WRLCK), false) == 0);
  whole.l_type = F_WRLCK;
  CHECK(::fcntl(hosts, F_SETLK, &whole) != 0);
  ::close(own);
  ::close(hosts);
}

TEST_CASE("a lock for reading becomes one for writing by way of a descriptor that may write") {
  const TemporaryFile file;
  RecordLocks owner, other;
  const int reader = file.open(O_RDONLY), writer = file.open(), others = file.open();
  REQUIRE(owner.set(reader, request(F_RDLCK, 0, 10), false) == 0);
  CHECK(owner.set(reader, request(F_WRLCK, 0, 1), false) == EBADF);
  CHECK(owner.set(writer, request(F_WRLCK, 0, 1), false) == 0);
  CHECK(other.set(others, request(F_RDLCK, 0, 1), false) == EAGAIN);
  CHECK(other.set(others, request(F_RDLCK, 5, 1), false) == 0);
  CHECK(other.set(others, request(F_WRLCK, 5, 1), false) == EAGAIN);
  for (const int each : {reader, writer, others}) ::close(each);
}

TEST_CASE("an owner's close leaves the process's own locks alone") {
  const TemporaryFile file;
  RecordLocks owner, other;
  for (const bool locks : {false, true}) {
    for (const int mode : {O_RDONLY, O_RDWR}) {
      const int hosts = file.open();
      struct flock first_byte = request(F_WRLCK, 0, 1);
      REQUIRE(::fcntl(hosts, F_SETLK, &first_byte) == 0);
      const int own = file.open(mode);
      if (locks) REQUIRE(owner.set(own, request(mode == O_RDONLY ? F_RDLCK : F_WRLCK, 5, 1), false) == 0);
      CHECK(owner.close(own) == 0);
      CHECK(owner.close(own) == EBADF);
      const int others = file.open();
      CHECK(other.set(others, request(F_WRLCK, 0, 1), false) == EAGAIN);
      CHECK(other.set(others, request(F_WRLCK, 5, 1), false) == 0);
      other.set(others, request(F_UNLCK), false);
      // What was kept is given out again, as new.
      ::lseek(own, 3, SEEK_SET);
      REQUIRE(RecordLocks::any_kept());
      CHECK(owner.reopen(AT_FDCWD, file.path().c_str(), mode | O_APPEND) == -1);
      CHECK(owner.reopen(AT_FDCWD, file.path().c_str(), mode) == own);
      CHECK(::lseek(own, 0, SEEK_CUR) == 0);
      CHECK((::fcntl(own, F_GETFD) & FD_CLOEXEC) == 0);
      // But not what has a duplicate, whose offset it would move.
      const int duplicate = ::dup(own);
      CHECK(owner.close(own) == 0);
      CHECK(owner.reopen(AT_FDCWD, file.path().c_str(), mode) == -1);
      ::close(hosts);
      CHECK(other.close(others) == 0);
      CHECK(::fcntl(others, F_GETFD) == -1);
      CHECK(owner.close(duplicate) == 0);
      CHECK(::fcntl(duplicate, F_GETFD) == -1);
      CHECK_FALSE(RecordLocks::any_kept());
      CHECK(::fcntl(own, F_GETFD) == -1);
      CHECK_FALSE(RecordLocks::any());
    }
  }
}

/// Whether another description can have the lock of flock, or one of its own on the last byte.
bool can_flock(const TemporaryFile& file) {
  const int descriptor = file.open();
  const bool can = ::flock(descriptor, LOCK_EX | LOCK_NB) == 0;
  ::flock(descriptor, LOCK_UN);
  return ::close(descriptor) == 0 && can;
}

int lock_last_byte(int descriptor, int command, LockKind kind = F_WRLCK) {
  struct flock last = request(kind, 7, 1);
  return ::fcntl(descriptor, command, &last) == 0 ? 0 : errno;
}

TEST_CASE("a lock of flock ends with the last duplicate, whoever has record locks on the file") {
  enum Who { nobody, itself, other_owner, other_process };
  for (const Who who : {nobody, itself, other_owner, other_process}) {
    CAPTURE(who);
    const TemporaryFile file;
    RecordLocks owner, other;
    OwnerElsewhere process(file);
    const int locked = file.open();
    const int others = file.open();
    REQUIRE(::flock(locked, LOCK_EX) == 0);
    const auto byte = request(F_WRLCK, 0, 1);
    if (who == itself) REQUIRE(owner.set(locked, byte, false) == 0);
    if (who == other_owner) REQUIRE(other.set(others, byte, false) == 0);
    if (who == other_process) REQUIRE(process.perform({Owner::Step::set, 0, 0, byte}).error == 0);
    CHECK(owner.close(::dup(locked)) == 0);
    CHECK(owner.close(file.open()) == 0);
    CHECK_FALSE(can_flock(file));
    const int last = ::dup(locked);
    CHECK(owner.close(locked) == 0);
    CHECK_FALSE(can_flock(file));
    CHECK(owner.close(last) == 0);
    CHECK(can_flock(file));
    CHECK(other.close(others) == 0);
  }
}

TEST_CASE("locks of a description end with it while the process has record locks, and these stay") {
  enum End { closed, at_once, unlocked_before };  // at_once: in a way that cannot be put off
  for (const bool is_flock : {true, false}) {
    for (const End end : {closed, at_once, unlocked_before}) {
      CAPTURE(is_flock);
      CAPTURE(end);
      const TemporaryFile file;
      RecordLocks owner, other;
      OwnerElsewhere process(file);
      const int hosts = file.open();
      const int look = file.open();
      struct flock first = request(F_WRLCK, 0, 1);
      REQUIRE(::fcntl(hosts, F_SETLK, &first) == 0);
      const auto is_free = [&] {
        const int refused = is_flock ? ::flock(look, LOCK_EX | LOCK_NB) : lock_last_byte(look, F_OFD_SETLK);
        is_flock ? ::flock(look, LOCK_UN) : lock_last_byte(look, F_OFD_SETLK, F_UNLCK);
        return refused == 0;
      };
      const int locked = file.open();
      REQUIRE((is_flock ? ::flock(locked, LOCK_EX) : lock_last_byte(locked, F_OFD_SETLK)) == 0);
      CHECK(owner.close(::dup(locked)) == 0);
      const int last = ::dup(locked);
      CHECK(other.close(::dup(locked)) == 0);
      CHECK(owner.close(locked) == 0);
      CHECK_FALSE(is_free());
      if (end == unlocked_before) {
        first.l_type = F_UNLCK;
        REQUIRE(::fcntl(hosts, F_SETLK, &first) == 0);
      }
      if (end == at_once) {
        other.closing(last);
      } else {
        CHECK(other.close(last) == 0);
      }
      CHECK(is_free());
      if (end != unlocked_before) {
        const Owner::Step asked{Owner::Step::get, 0, 0, request(F_WRLCK, 0, 1)};
        CHECK(process.perform(asked).lock.l_type == F_WRLCK);
      }
      if (end == at_once) ::close(last);
      ::close(hosts);
      ::close(look);
    }
  }
}

TEST_CASE("a lock of a description ends with it though its file was closed once more meanwhile") {
  const TemporaryFile file;
  RecordLocks owner;
  const int locked = file.open();
  REQUIRE(lock_last_byte(locked, F_OFD_SETLK) == 0);
  CHECK(owner.close(file.open()) == 0);
  CHECK(owner.close(file.open(O_RDONLY)) == 0);
  const int others = file.open();
  CHECK(lock_last_byte(others, F_OFD_SETLK) == EAGAIN);
  CHECK(owner.close(locked) == 0);
  CHECK(lock_last_byte(others, F_OFD_SETLK) == 0);
  CHECK_FALSE(RecordLocks::any());
  ::close(others);
}

TEST_CASE("what a child has of a locked description keeps its lock") {
  const TemporaryFile file;
  RecordLocks owner;
  const int locked = file.open();
  REQUIRE(::flock(locked, LOCK_EX) == 0);
  REQUIRE(lock_last_byte(locked, F_OFD_SETLK) == 0);
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    char byte = 0;
    ::close(pipe[1]);
    ::_exit(static_cast<int>(::read(pipe[0], &byte, 1)));
  }
  CHECK(owner.close(file.open()) == 0);
  CHECK(owner.close(locked) == 0);
  CHECK_FALSE(can_flock(file));
  ::close(pipe[1]);
  ::waitpid(child, nullptr, 0);
  CHECK(can_flock(file));
  ::close(pipe[0]);
}

TEST_CASE("the process's own locks hold while owners lock and close, on and on") {
  const TemporaryFile file;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  std::array<RecordLocks, 2> owners;
  for (auto& owner : owners) {
    threads.emplace_back([&] {
      while (!stop) {
        int descriptor = RecordLocks::any_kept() ? owner.reopen(AT_FDCWD, file.path().c_str(), O_RDWR) : -1;
        if (descriptor < 0) descriptor = ::open(file.path().c_str(), O_RDWR | O_CLOEXEC);
        owner.set(descriptor, request(F_WRLCK, 1, 1), false);
        owner.close(descriptor);
      }
    });
  }
  OwnerElsewhere process(file);
  const int hosts = file.open();
  int lost = 0;
  for (int i = 0; i < 3000; ++i) {
    struct flock byte = request(F_WRLCK, 0, 1);
    if (::fcntl(hosts, F_SETLK, &byte) != 0) continue;
    Owner::Step step{Owner::Step::get, 0, 0, request(F_WRLCK, 0, 1)};
    if (process.perform(step).lock.l_type == F_UNLCK) ++lost;
    byte.l_type = F_UNLCK;
    ::fcntl(hosts, F_SETLK, &byte);
  }
  CHECK(lost == 0);
  stop = true;
  for (auto& thread : threads) thread.join();
  ::close(hosts);
}

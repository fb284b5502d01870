#include "child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"
#include "multipy_actors/errors.h"

namespace multipy_actors {

namespace {

using multipy::Clock;
using multipy::UniqueFd;

constexpr int kAnswer = 3;
constexpr std::size_t kMost = std::size_t{16} << 20;  // bytes that are kept of what a child writes

struct Pipe {
  UniqueFd reader;
  UniqueFd writer;
};

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw StartError(std::string("no pipe: ") + std::strerror(errno));
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  // Beyond the child's own descriptors, in a program that has closed its first ones, too.
  return {UniqueFd(::fcntl(reader.get(), F_DUPFD_CLOEXEC, kAnswer + 1)),
          UniqueFd(::fcntl(writer.get(), F_DUPFD_CLOEXEC, kAnswer + 1))};
}

/// What a child is started with; its signals are as in a fresh program.
class Plan {
 public:
  Plan(const Pipe& answer, const Pipe& messages) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions_, messages.writer.get(), 1);
    ::posix_spawn_file_actions_adddup2(&actions_, messages.writer.get(), 2);
    ::posix_spawn_file_actions_adddup2(&actions_, answer.writer.get(), kAnswer);
    ::posix_spawnattr_init(&attributes_);
    sigset_t signals;
    sigemptyset(&signals);
    ::posix_spawnattr_setsigmask(&attributes_, &signals);
    sigfillset(&signals);
    ::posix_spawnattr_setsigdefault(&attributes_, &signals);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~Plan() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  pid_t start(const std::vector<std::string>& command) const {
    std::vector<char*> words;
    for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    pid_t child = 0;
    const int error = ::posix_spawn(&child, words[0], &actions_, &attributes_, words.data(), environ);
    if (error != 0) throw StartError("cannot run " + command.front() + ": " + std::strerror(error));
    return child;
  }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

/// Reads some; false at the end.
bool read_some(int fd, std::string& to) {
  char buffer[1 << 16];
  const ssize_t count = ::read(fd, buffer, sizeof buffer);
  if (count < 0) return errno == EINTR || errno == EAGAIN;
  if (to.size() < kMost) to.append(buffer, static_cast<std::size_t>(count));
  return count > 0;
}

int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left <= 0 ? 0 : static_cast<int>(std::min<long long>(left + 1, 1'000'000));
}

}  // namespace

ChildResult run_child(const std::vector<std::string>& command, Clock::time_point deadline) {
  Pipe answer = make_pipe();
  Pipe messages = make_pipe();
  const pid_t child = Plan(answer, messages).start(command);
  answer.writer = UniqueFd();
  messages.writer = UniqueFd();
  ChildResult result;
  result.in_time = true;
  std::array<pollfd, 2> sources{pollfd{answer.reader.get(), POLLIN, 0}, pollfd{messages.reader.get(), POLLIN, 0}};
  const std::array<std::string*, 2> targets{&result.answer, &result.messages};
  while (result.in_time && (sources[0].fd >= 0 || sources[1].fd >= 0)) {
    const int ready = ::poll(sources.data(), sources.size(), milliseconds_until(deadline));
    result.in_time = ready != 0 || Clock::now() < deadline;
    for (std::size_t i = 0; ready > 0 && i < sources.size(); ++i) {
      if (sources[i].revents != 0 && !read_some(sources[i].fd, *targets[i])) sources[i].fd = -1;
    }
  }
  if (!result.in_time) ::kill(child, SIGKILL);
  while (::waitpid(child, &result.status, 0) < 0) {
    // A program that ignores SIGCHLD, or waits for all children, leaves no status to be had.
    if (errno != EINTR) return result;
  }
  return result;
}

}  // namespace multipy_actors

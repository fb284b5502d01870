#include "base/output.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <string>

#include "base/process_lock.h"

namespace multipy {

namespace {

/// The line that was begun on a descriptor and not ended, if `writer` is not 0.
struct OpenLine {
  std::uint64_t writer = 0;
  bool drawn = false;  // by text that begins with a carriage return
  std::string prefix;
};

struct Outputs {
  static Outputs& outputs() {
    static auto& all = *new Outputs;  // threads may write while the process exits
    return all;
  }

  ProcessLock<std::mutex> mutex{ForkOrder::output};  // guards the rest
  OpenLine lines[2];
};

bool are_one_file(int left, int right) {
  struct stat one;
  struct stat two;
  return fstat(left, &one) == 0 && fstat(right, &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd waiting{fd, POLLOUT, 0};
      ::poll(&waiting, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

bool wants_prefix(char first) { return first != '\n' && first != '\r'; }

}  // namespace

int write_output(int fd, std::uint64_t writer, std::string_view prefix, std::string_view text) {
  if (text.empty()) return 0;
  Outputs& outputs = Outputs::outputs();
  const std::lock_guard lock(outputs.mutex);
  OpenLine& line = outputs.lines[fd == 2];
  OpenLine& other = outputs.lines[fd != 2];
  const bool draws = text.front() == '\r';

  std::string out;
  const auto end_line = [&](OpenLine& open) {
    if (!(draws && open.drawn)) out += '\n';
    open.writer = 0;
  };
  const bool continues = line.writer == writer && line.prefix == prefix;
  if (line.writer != 0 && !continues) end_line(line);
  if (other.writer != 0 && are_one_file(1, 2)) end_line(other);

  bool begins = !continues;
  while (!text.empty()) {
    if (begins && wants_prefix(text.front())) out += prefix;
    const auto size = std::min(text.find('\n'), text.size() - 1) + 1;
    out += text.substr(0, size);
    text.remove_prefix(size);
    begins = true;
  }
  if (out.back() == '\n') {
    line.writer = 0;
  } else {
    line.drawn = draws || (continues && line.drawn);
    line.writer = writer;
    line.prefix = prefix;
  }
  return write_all(fd, out);
}

}  // namespace multipy

// Lines of several writers on one descriptor: prefixes, open lines, redrawn lines, and lines longer than a pipe.
#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/output.h"

using multipy::write_output;

namespace {

/// Standard error leads into a pipe while it lives.
class Capture {
 public:
  Capture() {
    REQUIRE(::pipe(pipe_.data()) == 0);
    saved_ = ::dup(2);
    ::dup2(pipe_[1], 2);
    ::close(pipe_[1]);
  }
  ~Capture() { ::close(pipe_[0]); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  void close_reader() {
    ::close(pipe_[0]);
    pipe_[0] = -1;
  }
  void restore() {
    ::dup2(saved_, 2);
    ::close(saved_);
  }
  /// What was written, up to its end.
  std::string read_all() const {
    std::string all;
    std::array<char, 65536> buffer{};
    for (ssize_t count = 0; (count = ::read(pipe_[0], buffer.data(), buffer.size())) > 0;)
      all.append(buffer.data(), static_cast<std::size_t>(count));
    return all;
  }

 private:
  std::array<int, 2> pipe_{};
  int saved_ = -1;
};

struct Piece {
  std::uint64_t writer;
  std::string_view prefix;
  std::string_view text;
};

std::string written(const std::vector<Piece>& pieces) {
  Capture capture;
  bool ok = true;
  for (const auto& [writer, prefix, text] : pieces) ok = write_output(2, writer, prefix, text) == 0 && ok;
  capture.restore();
  CHECK(ok);
  return capture.read_all();
}

}  // namespace

TEST_CASE("each line that is not empty begins with the prefix") {
  CHECK(written({{1, "(a) ", "one\n\ntwo\n"}}) == "(a) one\n\n(a) two\n");
  CHECK(written({{1, "", "one\n\ntwo\n"}}) == "one\n\ntwo\n");
}

TEST_CASE("a writer goes on with the line it has left open") {
  CHECK(written({{1, "(a) ", "one "}, {1, "(a) ", "line\n"}, {1, "(a) ", "two\n"}}) == "(a) one line\n(a) two\n");
}

TEST_CASE("an open line is ended before somebody else begins one") {
  CHECK(written({{1, "(a) ", "open"}, {2, "(b) ", "line\n"}, {1, "(a) ", "more\n"}}) ==
        "(a) open\n(b) line\n(a) more\n");
  // The same thread, for another actor.
  CHECK(written({{1, "(a) ", "open"}, {1, "(b) ", "line\n"}}) == "(a) open\n(b) line\n");
}

TEST_CASE("text that begins with a carriage return redraws a line and has no prefix") {
  CHECK(written({{1, "(a) ", "\r10%"}, {1, "(a) ", "\r20%"}, {1, "(a) ", "\n"}}) == "\r10%\r20%\n");
  CHECK(written({{1, "(a) ", "\r10%"}, {2, "(b) ", "\r5%"}, {2, "(b) ", "\n"}}) == "\r10%\r5%\n");
  CHECK(written({{1, "(a) ", "text"}, {2, "(b) ", "\r5%"}, {1, "(a) ", "line\n"}}) == "(a) text\n\r5%\n(a) line\n");
}

TEST_CASE("lines longer than a pipe takes at once stay whole among those of other threads") {
  constexpr int kThreads = 4;
  constexpr int kLines = 5;
  const std::string body(100'000, 'x');
  Capture capture;
  std::string all;
  std::thread reader([&] { all = capture.read_all(); });
  std::vector<std::thread> writers;
  for (int i = 0; i < kThreads; ++i) {
    writers.emplace_back([&, i] {
      const std::string prefix = "(" + std::to_string(i) + ") ";
      for (int n = 0; n < kLines; ++n) write_output(2, static_cast<std::uint64_t>(i) + 1, prefix, body + "\n");
    });
  }
  for (auto& writer : writers) writer.join();
  capture.restore();
  reader.join();
  std::size_t lines = 0;
  for (std::string_view rest = all; !rest.empty(); ++lines) {
    const auto line = rest.substr(0, rest.find('\n'));
    REQUIRE(line.size() == body.size() + 4);
    CHECK(line.substr(4) == body);
    rest.remove_prefix(line.size() + 1);
  }
  CHECK(lines == kThreads * kLines);
}

TEST_CASE("an error is returned, and the next line begins anew") {
  int failure = 0;
  {
    std::signal(SIGPIPE, SIG_IGN);  // as Python has it
    Capture capture;
    capture.close_reader();
    failure = write_output(2, 1, "", "lost\n");
    capture.restore();
  }
  CHECK(failure == EPIPE);
  CHECK(written({{1, "(a) ", "next\n"}}) == "(a) next\n");
}

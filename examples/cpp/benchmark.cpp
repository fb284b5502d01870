// Calls a packaged model from 1, 2, 4 … threads, and prints what that gives as CSV.
//
//   benchmark PACKAGE [--torchscript FILE] [--threads 1,2,4] [--seconds 2]
//
// Modes: `one_interpreter`, which all threads share; `many_interpreters`, one per thread; and `torchscript`, the same
// model without Python, if the program was built with MULTIPY_EXAMPLES_TORCH and has a FILE. Latencies are those of
// single calls, in milliseconds. PACKAGE and FILE are made by make_package.py.
#include <multipy_actors/multipy_actors.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#ifdef MULTIPY_EXAMPLES_TORCH
#include <ATen/Parallel.h>
#include <multipy_actors/torch.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
#endif

using namespace multipy_actors;

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string package;
  std::string torchscript;
  std::vector<std::size_t> threads{1, 2, 4};
  double seconds = 2;
};

/// Has each thread call `item` for the time given; prints one line.
void measure(const char* mode, std::size_t threads, double seconds, const std::function<void()>& item) {
  std::vector<std::vector<double>> latencies(threads);
  std::vector<std::thread> workers;
  std::atomic<bool> failed = false;
  for (std::size_t i = 0; i < threads; ++i) item();  // loads what is loaded when it is first needed
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  for (std::size_t i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] {
      try {
        for (auto now = Clock::now(); now < end;) {
          item();
          const auto after = Clock::now();
          latencies[i].push_back(std::chrono::duration<double, std::milli>(after - now).count());
          now = after;
        }
      } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        failed = true;
      }
    });
  }
  for (auto& worker : workers) worker.join();
  if (failed) throw Error("a call has failed");
  const double took = std::chrono::duration<double>(Clock::now() - begin).count();
  std::vector<double> all;
  for (const auto& some : latencies) all.insert(all.end(), some.begin(), some.end());
  std::sort(all.begin(), all.end());
  const auto percentile = [&all](double share) {
    return all[std::min(all.size() - 1, static_cast<std::size_t>(share * static_cast<double>(all.size())))];
  };
  std::printf("%s,%zu,%.1f,%.3f,%.3f,%.3f\n", mode, threads, static_cast<double>(all.size()) / took, percentile(0.5),
              percentile(0.9), percentile(0.99));
  std::fflush(stdout);
}

void measure_interpreters(const char* mode, std::size_t interpreters, std::size_t threads, const Options& options) {
  InterpreterManager manager(interpreters);
  const Package package = manager.loadPackage(options.package);
  const ReplicatedObj model = package.loadPickle("model", "model.pkl", /*eager=*/true);
  const Value input = package.acquireSession().self.attr("load_pickle")("model", "input.pkl").value();
  measure(mode, threads, options.seconds, [&] { model(input); });
}

#ifdef MULTIPY_EXAMPLES_TORCH
void measure_torchscript(std::size_t threads, const Options& options) {
  at::set_num_threads(std::max(1, static_cast<int>(std::thread::hardware_concurrency() / threads)));
  torch::jit::Module model = torch::jit::load(options.torchscript);
  const at::Tensor input = at::ones({1, 3, 32, 32});
  measure("torchscript", threads, options.seconds, [&] {
    const c10::InferenceMode guard;
    model.forward({input});
  });
}
#endif

Options parse(const std::vector<std::string>& words) {
  Options options;
  options.package = words.at(0);
  for (std::size_t i = 1; i < words.size(); i += 2) {
    if (words[i] == "--torchscript") {
      options.torchscript = words.at(i + 1);
    } else if (words[i] == "--seconds") {
      options.seconds = std::stod(words.at(i + 1));
    } else if (words[i] == "--threads") {
      options.threads.clear();
      std::istringstream list(words.at(i + 1));
      for (std::string count; std::getline(list, count, ',');) options.threads.push_back(std::stoul(count));
    } else {
      throw std::out_of_range(words[i]);
    }
  }
  return options;
}

void run(const Options& options) {
  std::puts("mode,threads,items_per_second,p50_ms,p90_ms,p99_ms");
  for (const std::size_t threads : options.threads) {
    measure_interpreters("one_interpreter", 1, threads, options);
    measure_interpreters("many_interpreters", threads, threads, options);
#ifdef MULTIPY_EXAMPLES_TORCH
    if (!options.torchscript.empty()) measure_torchscript(threads, options);
#endif
  }
}

}  // namespace

int main(int count, char** arguments) {
  Options options;
  try {
    options = parse({arguments + 1, arguments + count});
  } catch (const std::exception&) {
    std::cerr << "usage: benchmark PACKAGE [--torchscript FILE] [--threads 1,2,4] [--seconds 2]\n";
    return 2;
  }
  try {
    run(options);
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}

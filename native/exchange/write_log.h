// Who writes to memory that others have: for pools that check it (`Pool(check_sharing=True)`), a tool for debugging.
//
// Problem: tensors are shared on purpose, and two interpreters that write to one without knowing of each other spoil
// each other's work without an error. Memory of the heap cannot be protected against writes, as other things lie beside
// it.
//
// Model: a table of the shared memories that interpreters have met, by address. Each knows a digest of its contents,
// which interpreters have met it, and who has written. An interpreter looks before and after each call: what has
// changed since anybody looked was written by the call that has just ended, or, if it had not yet begun, by somebody
// elsewhere. So what is found depends on what was run, and two that write at the same moment may be taken for one.
//
// Threads and locks: any; one mutex, held while contents are read. Entries refer to their tensors weakly, and are
// forgotten when nobody has the memory any more. Contents are read while others may write, which can only spoil the
// finding.
//
// Guarantees: who neither joins nor looks pays nothing. Memory on GPUs is left out.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/export.h"
#include "exchange/tensor.h"

namespace multipy {

/// A number that changes when the contents of a tensor do, but for one case in 2**64; none: it is on a GPU.
MULTIPY_API std::optional<std::uint64_t> digest(const SharedTensor& tensor);

class MULTIPY_API WriteLog {
 public:
  /// Memory that somebody has written to while others had it.
  struct Finding {
    std::string memory;                // how it came to be shared
    std::uint64_t nbytes;              // of it
    std::vector<std::string> writers;  // who wrote before, each once, in their order
  };

  /// The one of the process.
  static WriteLog& instance();

  /// `interpreter` has `tensor`; `how` says for people how it came to that.
  void join(const std::shared_ptr<SharedTensor>& tensor, std::int64_t interpreter, const std::string& how);
  /// What memory of `interpreter` has changed since anybody looked; `writer` has done it. Each pair is told once.
  std::vector<Finding> look(std::int64_t interpreter, const std::string& writer);

 private:
  struct Memory {
    std::string how;
    std::vector<std::weak_ptr<SharedTensor>> shares;
    std::set<std::int64_t> interpreters;
    std::uint64_t contents = 0;
    std::vector<std::string> writers;
  };
  using Place = std::pair<const void*, std::uint64_t>;  // address and size

  /// A tensor of that memory, if somebody has one still.
  static std::shared_ptr<SharedTensor> any_of(Memory& memory);

  std::mutex mutex_;
  std::map<Place, Memory> memories_;
};

}  // namespace multipy

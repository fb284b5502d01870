#include "exchange/write_log.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace multipy {

namespace {

/// Mixes bytes into a number, eight at a time.
class Mixer {
 public:
  void add(const char* bytes, std::size_t count) noexcept {
    for (; count >= sizeof(std::uint64_t); bytes += sizeof(std::uint64_t), count -= sizeof(std::uint64_t)) {
      std::uint64_t word;
      std::memcpy(&word, bytes, sizeof word);
      add(word);
    }
    std::uint64_t rest = 0;
    std::memcpy(&rest, bytes, count);
    if (count > 0) add(rest);
  }
  std::uint64_t value() const noexcept { return value_; }

 private:
  void add(std::uint64_t word) noexcept {
    value_ = (value_ ^ word) * 0x9E3779B97F4A7C15;
    value_ ^= value_ >> 29;
  }
  std::uint64_t value_ = 0x243F6A8885A308D3;
};

const char* begin_of(const DLTensor& tensor) { return static_cast<const char*>(tensor.data) + tensor.byte_offset; }

/// Mixes in what lies along `axis` and those after it; whole rows at a time where they are dense.
void add_axis(Mixer& mixer, const DLTensor& tensor, std::size_t item, std::int32_t axis, const char* at) {
  if (axis == tensor.ndim) {
    mixer.add(at, item);
    return;
  }
  const std::int64_t length = tensor.shape[axis];
  const std::int64_t stride = tensor.strides[axis];
  if (axis + 1 == tensor.ndim && stride == 1) {
    mixer.add(at, static_cast<std::size_t>(length) * item);
    return;
  }
  if (stride == 0 && length > 1) return add_axis(mixer, tensor, item, axis + 1, at);
  for (std::int64_t index = 0; index < length; ++index) {
    add_axis(mixer, tensor, item, axis + 1, at + index * stride * static_cast<std::int64_t>(item));
  }
}

}  // namespace

std::optional<std::uint64_t> digest(const SharedTensor& shared) {
  const DLTensor& tensor = shared.tensor();
  const std::size_t bits = std::size_t{tensor.dtype.bits} * tensor.dtype.lanes;
  if (tensor.device.device_type != kDLCPU || bits % 8 != 0) return std::nullopt;
  Mixer mixer;
  if (shared.nbytes() > 0) add_axis(mixer, tensor, bits / 8, 0, begin_of(tensor));
  return mixer.value();
}

WriteLog& WriteLog::instance() {
  static auto& log = *new WriteLog();
  return log;
}

std::shared_ptr<SharedTensor> WriteLog::any_of(Memory& memory) {
  std::erase_if(memory.shares, [](const auto& share) { return share.expired(); });
  for (const auto& share : memory.shares) {
    if (auto tensor = share.lock()) return tensor;
  }
  return nullptr;
}

void WriteLog::join(const std::shared_ptr<SharedTensor>& tensor, std::int64_t interpreter, const std::string& how) {
  const auto contents = digest(*tensor);
  if (!contents || tensor->nbytes() == 0) return;
  std::shared_ptr<SharedTensor> other;  // let go of after the lock, as that may release it
  const std::lock_guard lock(mutex_);
  Memory& memory = memories_[{begin_of(tensor->tensor()), tensor->nbytes()}];
  other = any_of(memory);
  if (other == nullptr) {
    memory = {};
    memory.how = how;
    memory.contents = *contents;
  }
  memory.shares.push_back(tensor);
  memory.interpreters.insert(interpreter);
}

std::vector<WriteLog::Finding> WriteLog::look(std::int64_t interpreter, const std::string& writer) {
  std::vector<Finding> findings;
  std::vector<std::shared_ptr<SharedTensor>> seen;  // let go of after the lock
  const std::lock_guard lock(mutex_);
  for (auto at = memories_.begin(); at != memories_.end();) {
    Memory& memory = at->second;
    auto tensor = any_of(memory);
    if (tensor == nullptr) {
      at = memories_.erase(at);
      continue;
    }
    if (memory.interpreters.contains(interpreter)) {
      const std::uint64_t contents = digest(*tensor).value_or(memory.contents);
      const bool changed = std::exchange(memory.contents, contents) != contents;
      const auto known = std::find(memory.writers.begin(), memory.writers.end(), writer);
      if (changed && known == memory.writers.end()) {
        findings.push_back({memory.how, tensor->nbytes(), memory.writers});
        memory.writers.push_back(writer);
      }
    }
    seen.push_back(std::move(tensor));
    ++at;
  }
  return findings;
}

}  // namespace multipy

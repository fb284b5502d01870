#include "elf/definitions.h"

#include <mutex>
#include <unordered_map>

#include "base/process_lock.h"

namespace multipy::elf {

std::shared_ptr<Definitions> Definitions::of(const File& file, const std::vector<const File*>& scope) {
  struct Kept {
    std::vector<const File*> scope;
    std::shared_ptr<Definitions> definitions;
  };
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::definitions);
  static auto& by_file = *new std::unordered_map<const File*, Kept>();
  const std::lock_guard lock(mutex);
  Kept& kept = by_file[&file];
  if (kept.definitions == nullptr || kept.scope != scope)
    kept = {scope, std::make_shared<Definitions>(file.symbol_count())};
  return kept.definitions;
}

}  // namespace multipy::elf

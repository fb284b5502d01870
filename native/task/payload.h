// What travels between interpreters: encoded bytes, and attachments that are handed over instead of copied.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/export.h"

namespace multipy {

/// Something handed over by reference (a tensor, a call, an actor). Opaque to mailboxes and calls; may be shared by
/// several payloads and received several times. Destroyed on any thread, without any interpreter's GIL.
class MULTIPY_API Attachment : public std::enable_shared_from_this<Attachment> {
 public:
  Attachment() = default;
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;
  virtual ~Attachment();
};

struct Payload {
  std::string data;
  std::vector<std::shared_ptr<Attachment>> attachments;
};

}  // namespace multipy

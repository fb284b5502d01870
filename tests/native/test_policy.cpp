// Which libraries a policy names.
#include <doctest/doctest.h>

#include "elf/policy.h"

using multipy::elf::Policy;
using multipy::elf::Verdict;

TEST_CASE("a policy without patterns leaves it to the content") {
  CHECK(Policy{}.decide("/lib/libany.so") == Verdict::by_content);
  CHECK(Policy{}.decide("") == Verdict::by_content);
}

TEST_CASE("a pattern without a slash is matched against the base name, all of it") {
  const Policy policy{{"libmine*.so*", "exact.so"}, {}};
  CHECK(policy.decide("/a/b/libmine_x.so.3") == Verdict::always_private);
  CHECK(policy.decide("libmine.so") == Verdict::always_private);
  CHECK(policy.decide("/libmine.so/other.so") == Verdict::by_content);
  CHECK(policy.decide("/a/notlibmine.so") == Verdict::by_content);
  CHECK(policy.decide("/a/exact.so.1") == Verdict::by_content);
}

TEST_CASE("a pattern with a slash is matched against the whole path") {
  const Policy policy{{"/opt/*/lib?.so", "*/site-packages/[ab]/*"}, {}};
  CHECK(policy.decide("/opt/deep/down/libx.so") == Verdict::always_private);
  CHECK(policy.decide("/x/site-packages/a/c.so") == Verdict::always_private);
  CHECK(policy.decide("/x/site-packages/c/c.so") == Verdict::by_content);
  CHECK(policy.decide("libx.so") == Verdict::by_content);
}

TEST_CASE("a shared pattern overrules a private one") {
  const Policy policy{{"*.so"}, {"libshared*"}};
  CHECK(policy.decide("/a/libshared.so") == Verdict::always_shared);
  CHECK(policy.decide("/a/libother.so") == Verdict::always_private);
}

TEST_CASE("the standard policy knows torch's core, libpython and this library") {
  const Policy policy = Policy::standard();
  CHECK(policy.decide("/torch/lib/libc10.so") == Verdict::always_private);
  CHECK(policy.decide("/usr/lib/libpython3.11.so.1.0") == Verdict::always_private);
  CHECK(policy.decide("/multipy_actors/libmultipy_core.so") == Verdict::always_shared);
  CHECK(policy.decide("/torch/lib/libc10_cuda.so") == Verdict::by_content);
  CHECK(policy.decide("/lib/libc.so.6") == Verdict::by_content);
}

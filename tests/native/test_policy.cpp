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

TEST_CASE("what a process has only once is by its content, whatever a pattern says of its folder") {
  const Policy policy{{"/lib/*"}, {}};
  CHECK(policy.decide("/lib/libc.so.6") == Verdict::by_content);
  CHECK(policy.decide("/lib/ld-linux-x86-64.so.2") == Verdict::by_content);
  CHECK(policy.decide("/lib/libz.so.1") == Verdict::always_private);
}

TEST_CASE("a pattern that asks for what cannot be is refused, by its name and that of the library") {
  const auto check = [](const Policy& policy) { policy.check("/usr/lib/libpython3.11.so.1.0", "/x/_native.so"); };
  check(Policy::standard());
  check({{"libz*", "/lib/*"}, {"libz*", "*/vendor/*"}});
  CHECK_THROWS_WITH(check({{"*"}, {}}), doctest::Contains("\"*\" names libc.so.6"));
  CHECK_THROWS_WITH(check({{"libz*", "libpthread*"}, {}}), doctest::Contains("\"libpthread*\" names libpthread.so.0"));
  CHECK_THROWS_WITH(check({{}, {"*"}}), doctest::Contains("\"*\" names libpython3.11.so.1.0"));
  CHECK_THROWS_WITH(check({{}, {"*python*"}}), doctest::Contains("cannot be shared"));
  CHECK_THROWS_WITH(check({{}, {"_nat*"}}), doctest::Contains("_native.so"));
  CHECK_THROWS_WITH(check({{}, {"libc10*"}}), doctest::Contains("libc10.so"));
}

TEST_CASE("a library that lies in a folder for packages is packaged, unless it is known to be better shared") {
  const Policy policy = Policy::standard();
  CHECK(policy.is_packaged("/v/lib/python3.11/site-packages/xgboost/lib/libxgboost.so"));
  CHECK(policy.is_packaged("/usr/lib/python3/dist-packages/some.so"));
  CHECK(policy.is_packaged("/anywhere/pillow.libs/libtiff-0a86184d.so.6"));
  CHECK_FALSE(policy.is_packaged("/usr/lib/x86_64-linux-gnu/libtiff.so.6"));
  CHECK_FALSE(policy.is_packaged("libtiff.so"));
  for (const char* shared :
       {"/v/site-packages/scikit_learn.libs/libgomp-e985bcbb.so.1.0.0", "/v/site-packages/torch/lib/libtorch.so",
        "/v/site-packages/nvidia/cudnn/lib/libcudnn.so.9", "/v/site-packages/x.libs/libquadmath-96973f99.so.0"}) {
    CAPTURE(shared);
    CHECK_FALSE(policy.is_packaged(shared));
  }
}

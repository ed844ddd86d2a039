// How much memory the host has: the limits of control groups, in folders like the kernel's.
#include "compute/host_memory.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <string>

namespace abq::compute {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// A folder of this test, removed with its contents.
class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              ("abq_host_memory_test_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

  void write(const std::string& group, const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(path_ / group);
    std::ofstream(path_ / group / name) << text << '\n';
  }

 private:
  std::filesystem::path path_;
};

TEST_CASE("the tightest control group on the way to a process's own bounds its memory") {
  const Folder root;
  CHECK(cgroup_free_bytes(root.path(), "/") == kUnlimited);
  CHECK(cgroup_free_bytes(root.path(), "") == kUnlimited);
  CHECK(cgroup_free_bytes(root.path(), "/no/such/group") == kUnlimited);

  root.write("pod", "memory.max", "1000000");
  root.write("pod", "memory.current", "400000");
  root.write("pod/task", "memory.max", "max");
  root.write("pod/task", "memory.current", "300000");
  CHECK(cgroup_free_bytes(root.path(), "/pod") == 600000);
  CHECK(cgroup_free_bytes(root.path(), "/pod/task") == 600000);
  CHECK(cgroup_free_bytes(root.path(), "/other") == kUnlimited);

  root.write("pod/task", "memory.max", "500000");
  CHECK(cgroup_free_bytes(root.path(), "/pod/task") == 200000);
  CHECK(cgroup_free_bytes(root.path(), "/pod") == 600000);
  // Beside the process's root, of which it sees nothing.
  CHECK(cgroup_free_bytes(root.path() / "pod", "/../other") == 600000);
}

TEST_CASE("file pages of a control group can be had, and a full group has nothing") {
  const Folder root;
  root.write("", "memory.max", "1000");
  root.write("", "memory.current", "900");
  CHECK(cgroup_free_bytes(root.path(), "/") == 100);
  root.write("", "memory.stat", "anon 500\nactive_file 150\ninactive_file 250\nslab 9");
  CHECK(cgroup_free_bytes(root.path(), "/") == 500);
  root.write("", "memory.current", "2000");
  CHECK(cgroup_free_bytes(root.path(), "/") == 0);
}

}  // namespace
}  // namespace abq::compute

// A file comes whole or not at all, and what stands in its place is said.
#include "core/whole_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace alcedo {
namespace {

namespace fs = std::filesystem;

class WholeFileTest : public ::testing::Test {
 protected:
  WholeFileTest() : folder_(fs::temp_directory_path() / ("whole_file_test." + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~WholeFileTest() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

std::string refusal(const Result<std::string>& read) { return read ? "taken" : read.error().message; }

TEST_F(WholeFileTest, WhatIsWrittenIsRead) {
  const std::string bytes = std::string("a\0b", 3) + std::string(300'000, 'x');
  ASSERT_TRUE(write_whole_file(path("f"), bytes));
  EXPECT_EQ(read_whole_file(path("f"), bytes.size()), bytes);
  ASSERT_TRUE(write_whole_file(path("f"), ""));
  EXPECT_EQ(read_whole_file(path("f"), 0), "");
  EXPECT_FALSE(fs::exists(path("f.tmp")));
}

TEST_F(WholeFileTest, WhatIsNoSuchFileIsRefused) {
  ASSERT_TRUE(write_whole_file(path("f"), "12345"));
  EXPECT_EQ(refusal(read_whole_file(path("f"), 4)), path("f") + ": 5 bytes; at most 4 are expected");
  const auto missing = read_whole_file(path("none"), 9);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(refusal(read_whole_file(folder_.string(), 9)), folder_.string() + ": is no regular file");
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(refusal(read_whole_file(path("pipe"), 9)), path("pipe") + ": is no regular file");
  fs::create_symlink(path("f"), path("link"));
  EXPECT_EQ(read_whole_file(path("link"), 9), "12345");
  EXPECT_EQ(refusal(read_whole_file(path("link"), 9, Links::kRefuse)), path("link") + ": is a link; expected a file");
}

TEST_F(WholeFileTest, ALinkIsReplacedAndNotWrittenThrough) {
  ASSERT_TRUE(write_whole_file(path("f"), "mine"));
  fs::create_symlink(path("f"), path("link"));
  ASSERT_TRUE(write_whole_file(path("link"), "new"));
  EXPECT_EQ(read_whole_file(path("f"), 9), "mine");
  EXPECT_EQ(read_whole_file(path("link"), 9, Links::kRefuse), "new");
}

TEST_F(WholeFileTest, WhatCannotBeWrittenLeavesTheOldFile) {
  ASSERT_TRUE(write_whole_file(path("f"), "old"));
  fs::create_directory(path("f.tmp"));
  EXPECT_FALSE(write_whole_file(path("f"), "new"));
  EXPECT_EQ(read_whole_file(path("f"), 9), "old");
  EXPECT_FALSE(write_whole_file(path("no/such/folder"), "new"));
}

}  // namespace
}  // namespace alcedo

// What a sync leaves on disk is seen only at a power cut (tests/system/power_cut.py); here: what is created, and what
// errors say.
#include "core/directory_sync.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace alcedo {
namespace {

class DirectorySyncTest : public testing::Test {
 protected:
  DirectorySyncTest()
      : root_(std::filesystem::path(testing::TempDir()) /
              ("directory-sync-" + std::to_string(::getpid()) + "-" +
               testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(root_);
  }
  ~DirectorySyncTest() override { std::filesystem::remove_all(root_); }
  std::filesystem::path root_;
};

TEST_F(DirectorySyncTest, CreatesWhatIsMissing) {
  for (const char* name : {"a/b/c", "a/b/c", "d", "e/", "f/./g"}) {
    const auto created = create_directories_durably((root_ / name).string());
    EXPECT_TRUE(created) << created.error().message;
    EXPECT_TRUE(std::filesystem::is_directory(root_ / name)) << name;
  }
}

TEST_F(DirectorySyncTest, CreatesRelativeToTheWorkingFolder) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(root_);
  const auto created = create_directories_durably("x/y");
  const auto file = sync_parent_directory("x");
  std::filesystem::current_path(before);
  EXPECT_TRUE(created) << created.error().message;
  EXPECT_TRUE(file) << file.error().message;
  EXPECT_TRUE(std::filesystem::is_directory(root_ / "x/y"));
}

TEST_F(DirectorySyncTest, AFileInTheWayIsNamed) {
  const std::string path = (root_ / "file").string();
  std::ofstream(path) << "x";
  for (const auto& failed : {create_directories_durably(path + "/below"), sync_directory(path)}) {
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, ErrorCode::kIo);
    EXPECT_NE(failed.error().message.find(path), std::string::npos) << failed.error().message;
  }
}

TEST_F(DirectorySyncTest, AMissingFolderIsAnError) {
  const auto failed = sync_parent_directory((root_ / "none/file").string());
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message.find("none"), std::string::npos) << failed.error().message;
}

}  // namespace
}  // namespace alcedo

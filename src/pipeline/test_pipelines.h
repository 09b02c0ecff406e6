// For tests only: shipped pipelines, and a folder that goes with its test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "pipeline/pipeline_file.h"

namespace alcedo::pipeline {

/// The pipeline in a folder of the source tree.
inline Pipeline load_shipped(const std::string& path) {
  auto loaded = load_pipeline(std::string(ALCEDO_SOURCE_DIR) + "/" + path);
  EXPECT_TRUE(loaded) << path;
  EXPECT_TRUE(loaded->mistakes.empty()) << format_mistakes(path, loaded->text, loaded->mistakes);
  return loaded->pipeline;
}

class Folder {
 public:
  Folder() {
    path_ = testing::TempDir() + "alcedo-pipeline-XXXXXX";
    EXPECT_NE(::mkdtemp(path_.data()), nullptr);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << text;
    return path_ + "/" + name;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace alcedo::pipeline

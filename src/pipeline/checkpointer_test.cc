// What a checkpointer leaves in its store when checkpoints fail on the way.
#include "pipeline/checkpointer.h"

#include <gtest/gtest.h>

#include <string>

#include "pipeline/engine.h"
#include "pipeline/pipeline_file.h"
#include "pipeline/test_checkpoints.h"
#include "pipeline/worker_pool.h"

namespace alcedo::pipeline {
namespace {

TEST(CheckpointerTest, NoCheckpointBuildsOnRowsOfAnotherPlanEvenIfTheFirstFails) {
  std::string directory = ::testing::TempDir() + "alcedo-checkpointer-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  {
    CheckpointStore store = opened(directory);
    ASSERT_TRUE(store.restore([](const RowKey&, std::string_view, std::uint64_t) -> Result<> { return {}; }));
    ASSERT_TRUE(store.begin());
    ASSERT_TRUE(store.put({5, 1, 77}, "of a stage that is no more"));
    ASSERT_TRUE(store.publish("old"));
  }
  auto loaded = load_pipeline(std::string(ALCEDO_SOURCE_DIR) + "/pipelines/payments");
  ASSERT_TRUE(loaded);
  WorkerPool pool(1);
  auto engine = Engine::create(loaded->pipeline, pool);
  ASSERT_TRUE(engine);
  (*engine)->track_changes();
  int asked = 0;
  {
    CheckpointStore store = opened(directory);
    ASSERT_TRUE(store.restore([](const RowKey&, std::string_view, std::uint64_t) -> Result<> { return {}; }));
    Checkpointer::Options options;
    options.full_first = true;
    options.make_durable = [&](std::uint64_t) -> Result<> {
      return ++asked == 1 ? error(ErrorCode::kUnavailable, "the disk is full") : Result<>{};
    };
    Checkpointer checkpointer(std::move(store), options);
    checkpointer.add_restored_log(kIdStage, 9, "ids");
    for (const bool published : {false, true}) {
      EXPECT_TRUE(checkpointer.needs_all_parts());
      checkpointer.begin(**engine, {}, {{1, "part"}}, {{kIdStage, std::nullopt, 0}}, 0);
      EXPECT_EQ(checkpointer.finish(**engine).has_value(), published);
    }
    EXPECT_FALSE(checkpointer.needs_all_parts());
  }
  EXPECT_EQ(asked, 2);
  CheckpointStore store = opened(directory);
  const auto found = restore(store);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->rows, (Rows{{{kPartStage, 0, 1}, "part"}, {{kIdStage, 0, 9}, "ids"}}));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace alcedo::pipeline

// One evaluator for every sum of decision trees: isolation forests and boosted trees, trained here or imported.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "models/tensor_file.h"

namespace alcedo::models {

/// A node of a tree. Inner: a numeric one sends x < threshold left, all else right; a categorical one sends the
/// categories of its set to one side and every other value to the other. NaN goes to the default side.
struct TreeNode {
  static constexpr std::uint32_t kNoSet = UINT32_MAX;

  float threshold = 0;
  std::uint32_t column = 0;
  std::int32_t left = -1, right = -1;   // within the tree, the root is 0; both -1: a leaf
  float value = 0;                      // of a leaf
  float cover = 0;                      // training weight that came here; only contributions() looks at it
  std::uint32_t category_set = kNoSet;  // index into TreeEnsembleSpec::category_sets
  bool default_left = false;
  bool set_left = false;  // categorical: the set goes left, all else right; false: the reverse

  bool is_leaf() const { return left < 0; }
};

/// Bits of a set: category c is in it if bit c % 32 of word c / 32 is set. A value is the category of its whole part.
struct CategorySet {
  std::uint32_t first_word = 0, words = 0;  // in TreeEnsembleSpec::category_words
};

/// What the raw sum of an output becomes.
enum class TreeTransform : std::uint8_t {
  kIdentity,
  kLogistic,     // 1 / (1 + e^(-raw * factor))
  kSoftmax,      // over the outputs
  kExponential,  // e^raw
  kPathLength,   // 2^(-raw * factor): an isolation forest, with factor 1 / (trees * c(n))
};

struct TreeEnsembleSpec {
  struct Tree {
    std::uint32_t first_node = 0;  // its nodes go on to the first of the next tree
    std::uint32_t output = 0;
  };
  std::size_t columns = 0;
  std::size_t outputs = 1;
  std::vector<Tree> trees;
  std::vector<TreeNode> nodes;
  std::vector<CategorySet> category_sets;
  std::vector<std::uint32_t> category_words;
  std::vector<double> base;                   // one an output, added to the sum of the leaves
  std::vector<std::uint8_t> zero_is_missing;  // by column, or empty; 1: |x| <= 1e-35 counts as NaN
  TreeTransform transform = TreeTransform::kIdentity;
  double factor = 1;
};

struct TreePlan;

/// Source   Lucchese et al., "QuickScorer", SIGIR 2015: the upper 31 inner nodes of a tree as bit masks, with rows in
/// the
///          lanes; below them, and for rows alone, interleaved branchless walks.
/// Shapes   rows are row-major, `columns` floats each; scores are row-major, outputs() floats each.
/// Repeats  Leaves are added in double, in the order of the trees, on every path: score(), score_scalar() and any split
///          of rows into calls give the same bits, whatever instructions the processor has (std::exp and std::exp2 of
///          the transform are the C library's).
/// Threads  const calls may run together. Each thread keeps a buffer of 256 bytes a column and direction of missing
/// values. Memory   52 bytes a node.
class TreeEnsemble {
 public:
  static constexpr std::size_t kColumnsMax = 1U << 20;
  static constexpr std::size_t kOutputsMax = 1024;
  static constexpr std::size_t kNodesMax = 1U << 26;

  /// Verifies everything, so that no row can lead out of it.
  /// Errors: kInvalidArgument naming tree and node: children out of range, a node that is reached twice or never,
  /// columns out of range, thresholds that are NaN, values that are not finite, sets out of range.
  static Result<TreeEnsemble> create(TreeEnsembleSpec spec);

  TreeEnsemble(TreeEnsemble&&) noexcept;
  TreeEnsemble& operator=(TreeEnsemble&&) noexcept;
  ~TreeEnsemble();

  /// Transformed scores. `columns` must be columns(), `out` rows x outputs() (a bug of the caller otherwise). Rows may
  /// hold NaN and infinities. Cost: no allocation after a thread's first call.
  void score(std::span<const float> rows, std::size_t columns, std::span<float> out) const;

  /// The same bits, one node at a time from the specification: what the fast paths are tested against.
  void score_scalar(std::span<const float> rows, std::size_t columns, std::span<float> out) const;

  /// The untransformed sum of one row and output.
  double raw_score(std::span<const float> row, std::size_t output) const;

  /// How much each column moved the raw score of a row: along the path of each tree, the change of the expected value
  /// goes to the column that decided (Saabas). Returns the bias; bias + sum = raw score, up to rounding to float. Of an
  /// isolation forest the raw score is a sum of path lengths: what makes a row strange is negative.
  /// Cost: a walk of all trees, about 5 us a hundred trees.
  float contributions(std::span<const float> row, std::size_t output, std::span<float> by_column) const;

  /// Adds tensors "PREFIX.…" and nothing else.
  void save(TensorFile& file, std::string_view prefix) const;
  /// Errors: kNotFound, kCorrupt: tensors that save() would not write, or that create() refuses.
  static Result<TreeEnsemble> load(const TensorFile& file, std::string_view prefix);

  std::size_t columns() const { return spec_.columns; }
  std::size_t outputs() const { return spec_.outputs; }
  std::size_t trees() const { return spec_.trees.size(); }
  const TreeEnsembleSpec& spec() const { return spec_; }

 private:
  explicit TreeEnsemble(TreeEnsembleSpec spec);
  std::uint32_t leaf_of(std::size_t tree, const float* row) const;
  void transform(const double* raw, std::size_t stride, float* out) const;
  void score_block(const float* rows, std::size_t count, float* out) const;
  void score_row(const float* row, float* out) const;

  TreeEnsembleSpec spec_;
  std::vector<double> expected_;  // by node: mean of its leaves by cover
  std::unique_ptr<TreePlan> plan_;
};

}  // namespace alcedo::models

// Typed reading of a pipeline file's YAML that goes on after a mistake, so that all mistakes are reported at once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipeline/pipeline_file.h"

namespace alcedo::pipeline {

inline constexpr std::size_t kFileBytesMax = 1 << 20;
inline constexpr std::size_t kLineBytesMax = 2048;  // yaml-cpp takes quadratic time for a line
inline constexpr std::size_t kDepthMax = 32;
inline constexpr std::size_t kEntriesMax = 256;  // of one section or list
inline constexpr std::size_t kNameBytesMax = 64;

struct Place {
  int line = 1;    // from 1
  int column = 1;  // from 1, in characters
};

/// A part of the file. Nodes point to their parents, so a tree is built once and never moved.
struct YamlNode {
  enum class Kind : std::uint8_t { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  std::string text;  // kScalar
  Place at;
  std::string key;  // as an entry of a map
  Place key_at;
  std::vector<YamlNode> items;  // kList, kMap
  const YamlNode* parent = nullptr;

  bool is_scalar() const { return kind == Kind::kScalar; }
  std::string path() const;  // "features.spend.by", "alerts[0].to"; empty for the root
};

/// Collects mistakes; the same one at the same place counts once, and after the first hundred they are only counted.
class Mistakes {
 public:
  void add(Place at, std::string message);
  /// "PATH: message" at the node's place.
  void add(const YamlNode& node, std::string_view message);
  /// The same at the node's key.
  void add_at_key(const YamlNode& node, std::string_view message);
  std::vector<Mistake> in_file_order() const;

 private:
  std::vector<Mistake> mistakes_;  // in file order
  std::size_t more_ = 0;
};

/// The file as a tree, or null if it is not YAML. Refuses what a pipeline has no use for and an attacker has: anchors
/// and aliases, tags, further documents, nesting beyond kDepthMax, lines beyond kLineBytesMax, files beyond
/// kFileBytesMax, keys that stand twice.
///
/// Errors  in `mistakes`. Threads: any. Cost: linear.
std::unique_ptr<YamlNode> parse_yaml(std::string_view text, Mistakes& mistakes);

inline constexpr std::size_t kQuotedBytesMax = 60;

/// 'text' for a message: cut to `bytes_max`, without control characters.
std::string in_quotes(std::string_view text, std::size_t bytes_max = kQuotedBytesMax);

/// "nothing", "'abc'", "a list", "a map".
std::string described(const YamlNode& node);

/// "card, merchant, device" with at most a dozen names.
std::string listed(std::span<const std::string> names);

/// "unknown WHAT 'given' OF; did you mean 'x'? Known: a, b, c". `later`: words of a later version, of which it says
/// just that.
std::string unknown_name(std::string_view what, std::string_view given, std::string_view of,
                         std::span<const std::string> known, std::span<const std::string> later = {});

/// Takes the keys of a map one by one. A key that was never asked for is unknown; those that were are the known ones.
class MapReader {
 public:
  /// Adds a mistake unless `node` is a map; then every key reads as absent.
  MapReader(const YamlNode& node, Mistakes& mistakes, std::string_view expected);

  bool is_map() const { return node_.kind == YamlNode::Kind::kMap; }
  const YamlNode& node() const { return node_; }
  /// Null if it is absent.
  const YamlNode* take(std::string_view key);
  /// Null if it is absent; the key does not become a known one.
  const YamlNode* peek(std::string_view key) const;
  /// If it is absent, finish() says "missing KEY: expected", unless an unknown key is likely meant to be it.
  const YamlNode* need(std::string_view key, std::string_view expected);
  /// Reports all unknown and missing keys: "unknown WHAT 'key' OF".
  void finish(std::string_view what, std::string_view of = {}, std::span<const std::string> later = {});

 private:
  const YamlNode& node_;
  Mistakes& mistakes_;
  std::vector<std::string> known_;
  std::vector<std::pair<std::string, std::string>> missing_;  // key, what was expected
};

/// All readers below add a mistake and return nullopt if the value is not what it must be.
std::optional<std::string> read_text(const YamlNode& node, Mistakes& mistakes, std::string_view expected);
/// A name of the user's making: a letter, then letters, digits, '_' and '-', at most kNameBytesMax.
bool check_name(const YamlNode& node, Mistakes& mistakes, std::string_view what);
std::optional<bool> read_bool(const YamlNode& node, Mistakes& mistakes);
std::optional<std::int64_t> read_integer(const YamlNode& node, Mistakes& mistakes, std::int64_t min, std::int64_t max);
/// Above 0, finite.
std::optional<double> read_positive(const YamlNode& node, Mistakes& mistakes, std::string_view expected);
/// "0.3%" -> 0.003. Only with the sign, so that 0.3 cannot mean 30 %. In (0, max].
std::optional<double> read_percent(const YamlNode& node, Mistakes& mistakes, double max, std::string_view example);
std::optional<std::int64_t> read_duration(const YamlNode& node, Mistakes& mistakes, std::int64_t min_ms,
                                          std::int64_t max_ms, std::string_view example);
/// Index into `names`.
std::optional<std::size_t> read_choice(const YamlNode& node, Mistakes& mistakes, std::string_view what,
                                       std::span<const std::string> names, std::span<const std::string> later = {});
/// A list of scalars, or one scalar as a list of one; never empty unless there was a mistake. Each stands once.
std::vector<const YamlNode*> read_scalars(const YamlNode& node, Mistakes& mistakes, std::string_view expected);

}  // namespace alcedo::pipeline

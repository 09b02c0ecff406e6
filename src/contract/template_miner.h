// Log messages -> the statements that printed them: a pipeline counts "Receiving block <*> src: <*>", not a million
// different lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/state_stream.h"

namespace alcedo::contract {

/// What stands where a message had a parameter.
inline constexpr std::string_view kWildcard = "<*>";

/// A message with its obvious parameters masked, as words parted by one blank: what TemplateMiner reads.
///
/// Masked   Words with a digit (numbers, hex, addresses, times, block ids, UUIDs), paths, URLs, mail addresses, and
///          eight or more letters that are all hexadecimal. Words end at blanks and at any of ,;()[]{}"'<>=|, which
///          stay: "size=12, (a)" is "size=<*>, (a)". A ':' or the end of a sentence ends a word too, unless it stands
///          inside an address or a time. Masks that only ,;:=| parts become one, so a list's length does not matter.
/// Bounds   At most kTokensMax words and kMaskedBytesMax bytes: what follows is one more mask. A word longer than
///          kTokenBytesMax is a mask.
/// Threads  Any: it keeps nothing. Cost: about 3 ns a byte.
inline constexpr std::size_t kTokensMax = 64;
inline constexpr std::size_t kTokenBytesMax = 64;
inline constexpr std::size_t kMaskedBytesMax = 1024;
void mask_message(std::string_view message, std::string& masked);

/// Groups masked messages into templates: the same number of words, and enough of the same ones. Where messages of one
/// template differ, its text gets a wildcard.
///
/// Source   He, Zhu, Zheng, Lyu, "Drain: An Online Log Parsing Approach with Fixed Depth Tree", ICWS 2017. One change:
///          a place where both sides have a mask says nothing of similarity, for or against; in the paper a message
///          of many parameters does not resemble its own template.
/// Ids      1, 2, 3 … in order of creation; never given again, never merged: a template generalises, its id stays.
///          0 is what fits none once there is no room for another.
/// Bounds   templates_max templates of less than 3 KB each: 12 MB with the defaults. children_max branches a node of
///          the tree, more share one; leaf_max candidates that a message is compared with.
/// Repeats  A pure function of the messages in their order.
/// Threads  One at a time. Cost: about 0.1 us a message; allocates only for a new template or wildcard.
class TemplateMiner {
 public:
  struct Options {
    std::size_t templates_max = 4096;
    std::size_t children_max = 100;
    std::size_t leaf_max = 64;
    std::uint32_t similarity_percent = 50;  // of the places that say something, the share that must agree
  };
  static constexpr std::uint32_t kOther = 0;
  static constexpr std::size_t kNameBytesMax = 200;

  TemplateMiner();
  explicit TemplateMiner(Options options);

  /// The template of a message, which may be new, and learns from it. `masked` comes from mask_message().
  std::uint32_t mine(std::string_view masked);

  /// "T12: Receiving block <*> src: <*>": the id and the text as it was at creation, cut to kNameBytesMax. It never
  /// changes, so it can be a key. "T0: other messages" for kOther.
  std::string_view name(std::uint32_t id) const { return templates_[id].name; }
  /// The text as it is now, with the wildcards learnt since.
  std::string_view text(std::uint32_t id) const { return templates_[id].text; }
  /// Templates so far, kOther not counted. Ids are 1 to size().
  std::size_t size() const { return templates_.size() - 1; }
  std::size_t state_bytes() const { return state_bytes_; }

  /// Names and texts, in the order of ids: 0.1 to 1.5 KB a template.
  void save(StateWriter& writer) const;
  /// Replaces all templates by those of a miner with the same options. After a refusal nothing has changed.
  void load(StateReader& reader);
  /// Grows whenever save() would write something else than before. Of this object; not part of its state.
  std::uint64_t version() const { return version_; }

 private:
  struct Template {
    std::vector<std::uint64_t> tokens;  // hashes; kWild where parameters are
    std::uint32_t wildcards = 0;
    std::string name;
    std::string text;
  };
  struct Node {
    std::size_t children = 0;              // that stand for a word, the shared one not counted
    std::vector<std::uint32_t> templates;  // of a leaf
  };

  void split(std::string_view masked);
  std::uint32_t create(std::string_view masked);
  /// Into the leaf of tokens_. Returns the new id, or kOther if that leaf is full.
  std::uint32_t add(std::string name, std::string_view text);
  void generalise(Template& known);
  const Node* find_leaf() const;
  Node& make_leaf();

  Options options_;
  std::vector<Template> templates_;
  std::unordered_map<std::uint64_t, Node> nodes_;  // by the path from the root; only looked up, never walked
  std::vector<std::uint64_t> tokens_;              // of the message at hand
  std::size_t state_bytes_ = 0;
  std::uint64_t version_ = 0;
};

}  // namespace alcedo::contract

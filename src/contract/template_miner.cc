// Words are compared by their 64-bit hashes; texts are only touched when a template is new or gets a wildcard.
#include "contract/template_miner.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/check.h"
#include "core/hash.h"

namespace alcedo::contract {
namespace {

constexpr std::uint64_t kWild = 0;
constexpr std::size_t kPrefixTokens = 2;        // levels of the tree below the number of words
constexpr std::size_t kRawTokenBytesMax = 512;  // a longer run without a blank is no word
constexpr std::size_t kHexLettersMin = 8;
constexpr std::size_t kNodeBytes = 96;
constexpr std::size_t kTextBytesMax = kMaskedBytesMax + kTokensMax * kWildcard.size();

bool is_blank(char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7F; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_separator(char c) { return c == ',' || c == ';' || c == '=' || c == '|'; }
// Brackets, quotes and separators: they end a word wherever they stand.
constexpr auto kEndsWord = [] {
  std::array<bool, 256> ends{};
  for (const char end : std::string_view("()[]{}<>\"',;=|")) ends[static_cast<unsigned char>(end)] = true;
  return ends;
}();
bool ends_word(char c) { return kEndsWord[static_cast<unsigned char>(c)]; }
bool joins_masks(char c) { return is_separator(c) || c == ':'; }
bool ends_sentence(char c) { return c == '.' || c == '!' || c == '?' || c == ':'; }

// A word that is one value whatever stands in it.
bool is_parameter(std::string_view word) {
  std::size_t slashes = 0;
  bool all_hex = true;
  for (std::size_t i = 0; i < word.size(); ++i) {
    const char c = word[i];
    if (is_digit(c) || c == '\\' || (c == '@' && i > 0 && i + 1 < word.size())) return true;
    slashes += c == '/' ? 1 : 0;
    all_hex = all_hex && is_hex(c);
  }
  if (all_hex && word.size() >= kHexLettersMin) return true;
  return slashes > 1 || (slashes == 1 && word.size() > 1 && word.front() == '/');
}

// Where a ':' parts two words, as in "user:bob"; inside addresses and times it does not.
std::size_t first_part(std::string_view word) {
  const std::size_t colon = word.find(':');
  if (colon == std::string_view::npos || word.substr(colon).starts_with("://")) return word.size();
  const std::string_view before = word.substr(0, colon);
  const bool address = std::ranges::any_of(before, is_digit) || before.starts_with('/') || colon == 0 ||
                       std::ranges::all_of(before, is_hex);
  return address ? word.size() : colon;
}

// Appends the words of one run without blanks.
class TokenMasker {
 public:
  explicit TokenMasker(std::string& to) : to_(to), begin_(to.size()) {}

  void run(std::string_view token) {
    if (token.size() > kRawTokenBytesMax) return mask_all();
    while (!token.empty()) {
      std::size_t end = 0;
      while (end < token.size() && !ends_word(token[end])) ++end;
      words(token.substr(0, end));
      if (end < token.size()) to_ += token[end++];
      token.remove_prefix(end);
    }
    if (to_.size() - begin_ > kTokenBytesMax) mask_all();
  }

 private:
  void words(std::string_view text) {
    std::size_t stop = text.size();
    while (stop > 0 && ends_sentence(text[stop - 1])) --stop;
    for (std::string_view rest = text.substr(0, stop); !rest.empty();) {
      const std::size_t part = first_part(rest);
      word(rest.substr(0, part));
      if (part < rest.size()) to_ += ':';
      rest.remove_prefix(std::min(part + 1, rest.size()));
    }
    to_ += text.substr(stop);
  }

  void word(std::string_view text) {
    if (text.empty()) return;
    if (!is_parameter(text)) {
      to_ += text;
      return;
    }
    const std::string_view so_far = std::string_view(to_).substr(begin_);
    if (so_far.size() > kWildcard.size() && joins_masks(so_far.back()) &&
        so_far.substr(0, so_far.size() - 1).ends_with(kWildcard)) {
      to_.pop_back();
      return;
    }
    to_ += kWildcard;
  }

  void mask_all() {
    to_.resize(begin_);
    to_ += kWildcard;
  }

  std::string& to_;
  std::size_t begin_;
};

std::uint64_t token_hash(std::string_view token) {
  return token == kWildcard ? kWild : std::max<std::uint64_t>(1, hash64(token));
}

std::string name_of(std::size_t id, std::string_view text) {
  std::string name = fmt::format("T{}: ", id);
  if (name.size() + text.size() > TemplateMiner::kNameBytesMax) {
    // Cut between words; one alone always fits.
    constexpr std::string_view kMore = " …";
    text = text.substr(0, TemplateMiner::kNameBytesMax - name.size() - kMore.size());
    text = text.substr(0, text.rfind(' '));
    return name.append(text).append(kMore);
  }
  return name.append(text.empty() ? "(an empty message)" : text);
}

}  // namespace

void mask_message(std::string_view message, std::string& masked) {
  masked.clear();
  std::size_t tokens = 0;
  for (std::size_t at = 0;;) {
    while (at < message.size() && is_blank(message[at])) ++at;
    if (at == message.size()) return;
    if (tokens > 0) masked += ' ';
    // Room for this word and for the mask that stands for all that follows.
    if (tokens + 1 == kTokensMax || masked.size() + kTokenBytesMax + 1 + kWildcard.size() > kMaskedBytesMax) {
      masked += kWildcard;
      return;
    }
    std::size_t end = at;
    while (end < message.size() && !is_blank(message[end])) ++end;
    TokenMasker(masked).run(message.substr(at, end - at));
    ++tokens;
    at = end;
  }
}

TemplateMiner::TemplateMiner() : TemplateMiner(Options{}) {}

TemplateMiner::TemplateMiner(Options options) : options_(options) {
  templates_.push_back({{}, 0, "T0: other messages", std::string(kWildcard)});
}

void TemplateMiner::split(std::string_view masked) {
  tokens_.clear();
  while (!masked.empty()) {
    const std::size_t end = std::min(masked.find(' '), masked.size());
    tokens_.push_back(token_hash(masked.substr(0, end)));
    masked.remove_prefix(std::min(end + 1, masked.size()));
  }
}

const TemplateMiner::Node* TemplateMiner::find_leaf() const {
  std::uint64_t path = mix64(tokens_.size() + 1);
  auto node = nodes_.find(path);
  for (std::size_t level = 0; level < kPrefixTokens && level < tokens_.size() && node != nodes_.end(); ++level) {
    std::uint64_t next = hash_combine(path, tokens_[level]);
    auto child = nodes_.find(next);
    if (child == nodes_.end()) child = nodes_.find(next = hash_combine(path, kWild));
    path = next;
    node = child;
  }
  return node == nodes_.end() ? nullptr : &node->second;
}

TemplateMiner::Node& TemplateMiner::make_leaf() {
  std::uint64_t path = mix64(tokens_.size() + 1);
  Node* node = &nodes_[path];
  for (std::size_t level = 0; level < kPrefixTokens && level < tokens_.size(); ++level) {
    std::uint64_t next = hash_combine(path, tokens_[level]);
    if (tokens_[level] != kWild && !nodes_.contains(next)) {
      if (node->children < options_.children_max) {
        ++node->children;
      } else {
        next = hash_combine(path, kWild);
      }
    }
    path = next;
    node = &nodes_[path];
  }
  return *node;
}

std::uint32_t TemplateMiner::mine(std::string_view masked) {
  split(masked);
  const Node* leaf = find_leaf();
  if (leaf == nullptr) return create(masked);
  std::uint32_t best = 0;
  std::uint64_t best_equal = 0;
  std::uint64_t best_told = 1;
  for (const std::uint32_t id : leaf->templates) {
    const Template& known = templates_[id];
    std::uint64_t equal = 0;
    std::uint64_t told = 0;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      told += (tokens_[i] | known.tokens[i]) != kWild ? 1 : 0;
      equal += tokens_[i] != kWild && tokens_[i] == known.tokens[i] ? 1 : 0;
    }
    if (told == 0) equal = told = 1;  // nothing but masks, in the same number
    if (equal * 100 < options_.similarity_percent * told) continue;
    const std::uint64_t mine = equal * best_told;
    const std::uint64_t its = best_equal * told;
    if (best == 0 || mine > its || (mine == its && known.wildcards > templates_[best].wildcards)) {
      best = id;
      best_equal = equal;
      best_told = told;
    }
  }
  if (best == 0) return create(masked);
  if (best_equal != best_told) generalise(templates_[best]);
  return best;
}

std::uint32_t TemplateMiner::create(std::string_view masked) {
  if (size() >= options_.templates_max) return kOther;
  if (const Node* leaf = find_leaf(); leaf != nullptr && leaf->templates.size() >= options_.leaf_max) return kOther;
  return add(name_of(templates_.size(), masked), masked);
}

std::uint32_t TemplateMiner::add(std::string name, std::string_view text) {
  Node& leaf = make_leaf();
  if (leaf.templates.size() >= options_.leaf_max) return kOther;
  const auto id = static_cast<std::uint32_t>(templates_.size());
  Template made;
  made.tokens = tokens_;
  made.wildcards = static_cast<std::uint32_t>(std::ranges::count(tokens_, kWild));
  made.name = std::move(name);
  made.text = text;
  state_bytes_ += sizeof(Template) + tokens_.size() * sizeof(std::uint64_t) + made.name.size() + made.text.size() +
                  (kPrefixTokens + 1) * kNodeBytes;
  templates_.push_back(std::move(made));
  leaf.templates.push_back(id);
  ++version_;
  return id;
}

void TemplateMiner::generalise(Template& known) {
  // A message that has a mask where the template has a word, or a word where it has a mask, may teach nothing.
  bool changed = false;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (known.tokens[i] == tokens_[i] || known.tokens[i] == kWild) continue;
    known.tokens[i] = kWild;
    ++known.wildcards;
    changed = true;
  }
  if (!changed) return;
  std::string text;
  std::string_view rest = known.text;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    if (i > 0) text += ' ';
    text += known.tokens[i] == kWild ? kWildcard : rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  state_bytes_ += text.size();
  state_bytes_ -= known.text.size();
  known.text = std::move(text);
  ++version_;
}

// The tree is not saved: where a template has lost the word of its branch, that branch was the shared one already, so
// the texts as they are now, in the order of ids, grow the same tree again.
void TemplateMiner::save(StateWriter& writer) const {
  writer.varint(size());
  for (std::size_t id = 1; id < templates_.size(); ++id) {
    const Template& known = templates_[id];
    writer.text(known.text);
    const bool as_created = known.name == name_of(id, known.text);
    writer.u8(as_created ? 1 : 0);
    if (!as_created) writer.text(known.name);
  }
}

void TemplateMiner::load(StateReader& reader) {
  TemplateMiner loaded(options_);
  const std::uint64_t count = reader.varint();
  if (count > options_.templates_max)
    reader.refuse(fmt::format("has {} templates; at most {} fit", count, options_.templates_max));
  for (std::size_t id = 1; id <= count && reader.ok(); ++id) {
    const std::string_view text = reader.text();
    const std::uint8_t as_created = reader.u8();
    const std::string derived = text.size() <= kTextBytesMax ? name_of(id, text) : std::string();
    std::string name = as_created != 0 ? derived : std::string(reader.text());
    if (!reader.ok()) break;
    loaded.split(text);
    if (text.size() > kTextBytesMax || loaded.tokens_.size() > kTokensMax || as_created > 1)
      return reader.refuse(fmt::format("has a template T{} that no message can have left", id));
    if (as_created == 0 &&
        (name == derived || name.size() > kNameBytesMax || !name.starts_with(fmt::format("T{}: ", id))))
      return reader.refuse(fmt::format("has a template T{} whose name is not one of its own", id));
    if (loaded.add(std::move(name), text) == kOther)
      return reader.refuse(fmt::format("has more than {} templates in one leaf", options_.leaf_max));
  }
  if (!reader.ok()) return;
  loaded.version_ = version_ + 1;
  *this = std::move(loaded);
}

}  // namespace alcedo::contract

// Builds the tree from yaml-cpp's events rather than from YAML::Node: only there do keys have places, and only there
// can anchors be refused before they are followed.
#include "pipeline/yaml_reader.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <istream>
#include <map>
#include <set>
#include <streambuf>
#include <utility>

#include "core/nearest_name.h"
#include "core/time.h"

namespace alcedo::pipeline {
namespace {

constexpr std::size_t kMistakesMax = 100;
constexpr std::size_t kListedMax = 24;

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

// Where yaml-cpp's marks (lines and bytes) stand for a person (lines and characters).
class Places {
 public:
  explicit Places(std::string_view text) : text_(text) {
    begins_.push_back(0);
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') begins_.push_back(i + 1);
    }
  }

  Place of(const YAML::Mark& mark) const {
    if (mark.line < 0 || mark.column < 0) return {};
    const auto line = std::min(static_cast<std::size_t>(mark.line), begins_.size() - 1);
    return at(begins_[line], line, static_cast<std::size_t>(mark.column));
  }

  Place of_byte(std::size_t byte) const {
    const auto next = std::upper_bound(begins_.begin(), begins_.end(), byte);
    const auto line = static_cast<std::size_t>(next - begins_.begin()) - 1;
    return at(begins_[line], line, byte - begins_[line]);
  }

 private:
  Place at(std::size_t begin, std::size_t line, std::size_t bytes) const {
    int column = 1;
    for (std::size_t i = begin; i < begin + bytes && i < text_.size(); ++i)
      column += continues_character(text_[i]) ? 0 : 1;
    return {static_cast<int>(line) + 1, column};
  }

  std::string_view text_;
  std::vector<std::size_t> begins_;
};

// Byte of the first character that is not UTF-8, or npos. Overlong forms and surrogates are not UTF-8.
std::size_t find_invalid_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    std::size_t more = 0;
    unsigned low = 0x80, high = 0xBF;
    if (c < 0x80) {
      ++i;
      continue;
    }
    if (c >= 0xC2 && c <= 0xDF) {
      more = 1;
    } else if (c >= 0xE0 && c <= 0xEF) {
      more = 2;
      if (c == 0xE0) low = 0xA0;
      if (c == 0xED) high = 0x9F;
    } else if (c >= 0xF0 && c <= 0xF4) {
      more = 3;
      if (c == 0xF0) low = 0x90;
      if (c == 0xF4) high = 0x8F;
    } else {
      return i;
    }
    for (std::size_t j = 1; j <= more; ++j) {
      if (i + j >= text.size()) return i;
      const auto d = static_cast<unsigned char>(text[i + j]);
      if (d < (j == 1 ? low : 0x80U) || d > (j == 1 ? high : 0xBFU)) return i;
    }
    i += more + 1;
  }
  return std::string_view::npos;
}

// Reads the text where it lies.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text) {
    char* begin = const_cast<char*>(text.data());  // streambuf's interface; an input buffer is never written
    setg(begin, begin, begin + text.size());
  }
};

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const Places& places, Mistakes& mistakes) : places_(places), mistakes_(mistakes) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) throw YAML::ParserException(mark, "a second document: a file holds one pipeline");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse(mark, anchor, "");
    YamlNode node;
    node.at = places_.of(mark);
    add(std::move(node));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { throw YAML::ParserException(mark, kNoAnchors); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse(mark, anchor, tag);
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.text = value;
    node.at = places_.of(mark);
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

  bool has_root() const { return has_root_; }
  YamlNode take_root() { return std::move(root_); }
  // The innermost { or [ that is still open.
  std::optional<Place> open_place() const {
    return open_.empty() ? std::nullopt : std::optional<Place>(open_.back().node.at);
  }

  static constexpr const char* kNoAnchors =
      "anchors (&) and aliases (*) are not part of the language; put a text that begins with & or * in quotes";

 private:
  struct Open {
    YamlNode node;
    bool has_key = false;
    YamlNode key;
    std::map<std::string, int> lines;  // of the keys so far
  };

  static void refuse(const YAML::Mark& mark, YAML::anchor_t anchor, const std::string& tag) {
    if (anchor != 0) throw YAML::ParserException(mark, kNoAnchors);
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw YAML::ParserException(mark,
                                  "tags (!) are not part of the language; put a text that begins with ! in quotes");
    }
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    refuse(mark, anchor, tag);
    if (open_.size() >= kDepthMax)
      throw YAML::ParserException(mark, fmt::format("nested deeper than {} levels", kDepthMax));
    if (awaits_key()) throw YAML::ParserException(mark, "a key must be a name, not a list or a map");
    Open level;
    level.node.kind = kind;
    level.node.at = places_.of(mark);
    open_.push_back(std::move(level));
  }

  void close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }

  bool awaits_key() const {
    return !open_.empty() && open_.back().node.kind == YamlNode::Kind::kMap && !open_.back().has_key;
  }

  void add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      has_root_ = true;
      return;
    }
    Open& level = open_.back();
    if (awaits_key()) {
      level.key = std::move(node);
      level.has_key = true;
      return;
    }
    if (level.node.kind == YamlNode::Kind::kMap) {
      level.has_key = false;
      node.key = std::move(level.key.text);
      node.key_at = level.key.at;
      if (node.kind == YamlNode::Kind::kNull) node.at = node.key_at;  // nothing has no place of its own
      const auto [first, fresh] = level.lines.emplace(node.key, node.key_at.line);
      if (!fresh) {
        mistakes_.add(node.key_at,
                      fmt::format("key {} stands twice, first in line {}", in_quotes(node.key), first->second));
        return;
      }
    }
    level.node.items.push_back(std::move(node));
  }

  const Places& places_;
  Mistakes& mistakes_;
  std::vector<Open> open_;
  YamlNode root_;
  bool has_root_ = false;
  int documents_ = 0;
};

void set_parents(YamlNode& node) {
  for (YamlNode& item : node.items) {
    item.parent = &node;
    set_parents(item);
  }
}

// yaml-cpp speaks of its own grammar; a person wants to know what to write.
std::string explain(const std::string& message) {
  static const std::map<std::string, std::string> kWords{
      {YAML::ErrorMsg::END_OF_MAP_FLOW, "this { is not closed by }, or a ',' or a closing quote is missing within"},
      {YAML::ErrorMsg::END_OF_SEQ_FLOW, "this [ is not closed by ], or a ',' or a closing quote is missing within"},
      {YAML::ErrorMsg::FLOW_END, "a } or ] that closes nothing, or the wrong one of the two"},
      {YAML::ErrorMsg::END_OF_MAP, "expected 'key: value'; is this line indented like its neighbours?"},
      {YAML::ErrorMsg::END_OF_SEQ, "expected '- ' for the next entry; is this line indented like its neighbours?"},
      {YAML::ErrorMsg::MAP_VALUE,
       "a ':' where no key can be: is the line indented too far, or the line before not 'key: value'? Put a text that "
       "contains "
       "': ' in quotes"},
      {YAML::ErrorMsg::MAP_KEY, "a key where none can be"},
      {YAML::ErrorMsg::BLOCK_ENTRY, "a '-' where no list can be"},
      {YAML::ErrorMsg::EOF_IN_SCALAR, "a quote is not closed"},
      {YAML::ErrorMsg::UNKNOWN_TOKEN, "a text that begins with @, ` or % must be in quotes"},
      {YAML::ErrorMsg::UNKNOWN_ANCHOR, TreeBuilder::kNoAnchors},
      {YAML::ErrorMsg::ALIAS_NOT_FOUND, TreeBuilder::kNoAnchors},
      {YAML::ErrorMsg::ANCHOR_NOT_FOUND, TreeBuilder::kNoAnchors},
      {YAML::ErrorMsg::CHAR_IN_ALIAS, TreeBuilder::kNoAnchors},
      {YAML::ErrorMsg::CHAR_IN_ANCHOR, TreeBuilder::kNoAnchors},
      {YAML::ErrorMsg::ALIAS_CONTENT, TreeBuilder::kNoAnchors},
  };
  const auto found = kWords.find(message);
  return found != kWords.end() ? found->second : message;
}

// Tabs in front of a line make YAML's messages about something else, so they are looked for first.
bool find_tabs(std::string_view text, const Places& places, Mistakes& mistakes) {
  bool found = false;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    const std::size_t first = line.find_first_not_of(" \t\r");
    const std::size_t tab = line.find('\t');
    if (first != std::string_view::npos && tab < first && line[first] != '#') {
      mistakes.add(places.of_byte(begin + tab), "a tab in the indentation: YAML takes spaces only");
      found = true;
    }
    begin = end + 1;
  }
  return found;
}

bool find_long_lines(std::string_view text, const Places& places, Mistakes& mistakes) {
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    if (end - begin > kLineBytesMax) {
      mistakes.add(places.of_byte(begin),
                   fmt::format("a line of {} bytes; at most {} are allowed", end - begin, kLineBytesMax));
      return true;
    }
    begin = end + 1;
  }
  return false;
}

// "card:card_id" is one word to YAML.
bool lacks_space(const YamlNode& item) {
  return item.kind == YamlNode::Kind::kNull && item.key.find(':') != std::string::npos;
}

std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace

std::string YamlNode::path() const {
  if (parent == nullptr) return {};
  const std::string above = parent->path();
  if (parent->kind == Kind::kList) return fmt::format("{}[{}]", above, this - parent->items.data());
  const std::string name = key.size() > kNameBytesMax ? key.substr(0, kNameBytesMax) + "..." : key;
  return above.empty() ? name : fmt::format("{}.{}", above, name);
}

void Mistakes::add(Place at, std::string message) {
  for (const Mistake& known : mistakes_) {
    if (known.line == at.line && known.column == at.column && known.message == message) return;
  }
  if (mistakes_.size() >= kMistakesMax) {
    ++more_;
    return;
  }
  const auto after = std::find_if(mistakes_.begin(), mistakes_.end(), [at](const Mistake& other) {
    return std::pair(other.line, other.column) > std::pair(at.line, at.column);
  });
  mistakes_.insert(after, {at.line, at.column, std::move(message)});
}

void Mistakes::add(const YamlNode& node, std::string_view message) {
  const std::string path = node.path();
  add(node.at, path.empty() ? std::string(message) : fmt::format("{}: {}", path, message));
}

void Mistakes::add_at_key(const YamlNode& node, std::string_view message) {
  const std::string path = node.path();
  add(node.key_at, path.empty() ? std::string(message) : fmt::format("{}: {}", path, message));
}

std::vector<Mistake> Mistakes::in_file_order() const {
  std::vector<Mistake> sorted = mistakes_;
  if (more_ > 0) {
    sorted.push_back({sorted.back().line, sorted.back().column, fmt::format("and {} more mistakes", more_)});
  }
  return sorted;
}

std::unique_ptr<YamlNode> parse_yaml(std::string_view text, Mistakes& mistakes) {
  if (text.size() > kFileBytesMax) {
    mistakes.add(Place{}, fmt::format("larger than {} MiB: this is no pipeline", kFileBytesMax >> 20));
    return nullptr;
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const Places places(text);
  if (const std::size_t bad = std::min(find_invalid_utf8(text), text.find('\0')); bad != std::string_view::npos) {
    mistakes.add(places.of_byte(bad), "not UTF-8 text");
    return nullptr;
  }
  if (find_tabs(text, places, mistakes) || find_long_lines(text, places, mistakes)) return nullptr;
  TreeBuilder builder(places, mistakes);
  try {
    ViewBuffer buffer(text);
    std::istream stream(&buffer);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& exception) {
    Place at = places.of(exception.mark);
    const bool unclosed =
        exception.msg == YAML::ErrorMsg::END_OF_MAP_FLOW || exception.msg == YAML::ErrorMsg::END_OF_SEQ_FLOW;
    if (unclosed) at = builder.open_place().value_or(at);
    mistakes.add(at, explain(exception.msg));
    return nullptr;
  }
  if (!builder.has_root() || text.empty()) {
    mistakes.add(Place{}, "an empty file; expected 'pipeline: NAME' and its sections");
    return nullptr;
  }
  auto root = std::make_unique<YamlNode>(builder.take_root());
  set_parents(*root);
  return root;
}

std::string in_quotes(std::string_view text, std::size_t bytes_max) {
  std::string shown = "'";
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i >= bytes_max && !continues_character(text[i])) {
      shown += "...";
      break;
    }
    const auto c = static_cast<unsigned char>(text[i]);
    shown += c < 0x20 || c == 0x7F ? '?' : text[i];
  }
  return shown + "'";
}

std::string described(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return in_quotes(node.text);
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
  }
  return {};
}

std::string listed(std::span<const std::string> names) {
  if (names.empty()) return "none";
  std::string list;
  for (std::size_t i = 0; i < names.size() && i < kListedMax; ++i) {
    if (i > 0) list += ", ";
    list += names[i].size() > kNameBytesMax ? names[i].substr(0, kNameBytesMax) + "..." : names[i];
  }
  if (names.size() > kListedMax) list += fmt::format(" and {} more", names.size() - kListedMax);
  return list;
}

std::string unknown_name(std::string_view what, std::string_view given, std::string_view of,
                         std::span<const std::string> known, std::span<const std::string> later) {
  const std::string name = fmt::format("{} {}{}{}", what, in_quotes(given), of.empty() ? "" : " ", of);
  if (std::find(later.begin(), later.end(), given) != later.end()) {
    return fmt::format("{} belongs to a later version. Known: {}", name, listed(known));
  }
  const std::string nearest = nearest_name(given, known);
  if (nearest.empty()) return fmt::format("unknown {}. Known: {}", name, listed(known));
  return fmt::format("unknown {}; did you mean '{}'? Known: {}", name, nearest, listed(known));
}

MapReader::MapReader(const YamlNode& node, Mistakes& mistakes, std::string_view expected)
    : node_(node), mistakes_(mistakes) {
  if (!is_map()) {
    mistakes.add(node, fmt::format("expected {}, found {}", expected, described(node)));
  } else if (node.items.size() > kEntriesMax) {
    mistakes.add(node, fmt::format("{} entries; at most {} are allowed", node.items.size(), kEntriesMax));
  }
}

const YamlNode* MapReader::peek(std::string_view key) const {
  if (!is_map()) return nullptr;
  for (const YamlNode& item : node_.items) {
    if (item.key == key) return &item;
  }
  return nullptr;
}

const YamlNode* MapReader::take(std::string_view key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.emplace_back(key);
  return peek(key);
}

const YamlNode* MapReader::need(std::string_view key, std::string_view expected) {
  const YamlNode* found = take(key);
  if (found == nullptr) missing_.emplace_back(key, expected);
  return found;
}

void MapReader::finish(std::string_view what, std::string_view of, std::span<const std::string> later) {
  if (!is_map()) return;
  const std::string path = node_.path();
  std::set<std::string> meant;  // by the unknown keys
  std::size_t checked = 0;
  for (const YamlNode& item : node_.items) {
    if (++checked > kEntriesMax) break;
    if (std::find(known_.begin(), known_.end(), item.key) != known_.end()) continue;
    std::string message = unknown_name(what, item.key, of, known_, later);
    if (lacks_space(item)) message = fmt::format("{} needs a space after the ':'", in_quotes(item.key));
    mistakes_.add(item.key_at, path.empty() ? message : fmt::format("{}: {}", path, message));
    meant.insert(nearest_name(item.key, known_));
  }
  for (const auto& [key, expected] : missing_) {
    if (!meant.contains(key)) mistakes_.add(node_, fmt::format("missing '{}': {}", key, expected));
  }
}

std::optional<std::string> read_text(const YamlNode& node, Mistakes& mistakes, std::string_view expected) {
  if (node.is_scalar() && !node.text.empty()) return node.text;
  mistakes.add(node,
               fmt::format("expected {}, found {}", expected, node.is_scalar() ? "an empty text" : described(node)));
  return std::nullopt;
}

bool check_name(const YamlNode& node, Mistakes& mistakes, std::string_view what) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const std::string& name = node.key;
  const bool good = !name.empty() && name.size() <= kNameBytesMax && letter(name[0]) &&
                    std::all_of(name.begin(), name.end(), [&letter](char c) {
                      return letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-';
                    });
  if (!good && lacks_space(node)) {
    mistakes.add(node.key_at, fmt::format("{} needs a space after the ':'", in_quotes(name)));
  } else if (!good) {
    mistakes.add(
        node.key_at,
        fmt::format("{} is no name for {}; expected a letter, then letters, digits, '_' or '-', at most {} in all",
                    in_quotes(name), what, kNameBytesMax));
  }
  return good;
}

std::optional<bool> read_bool(const YamlNode& node, Mistakes& mistakes) {
  if (node.is_scalar() && node.text == "true") return true;
  if (node.is_scalar() && node.text == "false") return false;
  mistakes.add(node, fmt::format("expected true or false, found {}", described(node)));
  return std::nullopt;
}

std::optional<std::int64_t> read_integer(const YamlNode& node, Mistakes& mistakes, std::int64_t min, std::int64_t max) {
  if (node.is_scalar()) {
    std::string digits = node.text;
    std::erase(digits, '_');  // YAML 1.1 writes 1_000_000
    std::int64_t value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (code == std::errc() && end == digits.data() + digits.size() && value >= min && value <= max) return value;
  }
  mistakes.add(node, fmt::format("expected a whole number from {} to {}, found {}", min, max, described(node)));
  return std::nullopt;
}

std::optional<double> read_positive(const YamlNode& node, Mistakes& mistakes, std::string_view expected) {
  if (node.is_scalar()) {
    std::string digits = node.text;
    std::erase(digits, '_');  // YAML 1.1 writes 1_000_000
    if (const auto value = number_of(digits); value && *value > 0) return value;
  }
  mistakes.add(node, fmt::format("expected {}, found {}", expected, described(node)));
  return std::nullopt;
}

std::optional<double> read_percent(const YamlNode& node, Mistakes& mistakes, double max, std::string_view example) {
  if (node.is_scalar() && node.text.ends_with('%')) {
    std::string_view digits(node.text.data(), node.text.size() - 1);
    while (digits.ends_with(' ')) digits.remove_suffix(1);
    if (const auto value = number_of(digits); value && *value > 0 && *value / 100 <= max) return *value / 100;
  }
  mistakes.add(node, fmt::format("expected a share with its % sign such as {}, above 0% and at most {}%, found {}",
                                 example, max * 100, described(node)));
  return std::nullopt;
}

std::optional<std::int64_t> read_duration(const YamlNode& node, Mistakes& mistakes, std::int64_t min_ms,
                                          std::int64_t max_ms, std::string_view example) {
  if (!node.is_scalar()) {
    mistakes.add(node, fmt::format("expected a duration such as {}, found {}", example, described(node)));
    return std::nullopt;
  }
  const auto value = parse_duration_ms(node.text);
  if (!value) {
    mistakes.add(node, fmt::format("expected a duration (a number and ms, s, m, h, d or w) such as {}, found {}",
                                   example, in_quotes(node.text)));
    return std::nullopt;
  }
  if (*value < min_ms || *value > max_ms) {
    mistakes.add(node, fmt::format("expected a duration from {} to {}, found {}", format_duration(min_ms),
                                   format_duration(max_ms), in_quotes(node.text)));
    return std::nullopt;
  }
  return *value;
}

std::optional<std::size_t> read_choice(const YamlNode& node, Mistakes& mistakes, std::string_view what,
                                       std::span<const std::string> names, std::span<const std::string> later) {
  if (!node.is_scalar()) {
    mistakes.add(node, fmt::format("expected {} ({}), found {}", what, listed(names), described(node)));
    return std::nullopt;
  }
  const auto found = std::find(names.begin(), names.end(), node.text);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  mistakes.add(node, unknown_name(what, node.text, {}, names, later));
  return std::nullopt;
}

std::vector<const YamlNode*> read_scalars(const YamlNode& node, Mistakes& mistakes, std::string_view expected) {
  std::vector<const YamlNode*> scalars;
  if (node.is_scalar() && !node.text.empty()) return {&node};
  if (node.kind != YamlNode::Kind::kList || node.items.empty()) {
    const std::string found = node.kind == YamlNode::Kind::kList ? "an empty list" : described(node);
    mistakes.add(node, fmt::format("expected {}, found {}", expected, found));
    return scalars;
  }
  std::set<std::string_view> seen;
  for (const YamlNode& item : node.items) {
    if (scalars.size() >= kEntriesMax) {
      mistakes.add(node, fmt::format("{} entries; at most {} are allowed", node.items.size(), kEntriesMax));
      break;
    }
    if (!item.is_scalar() || item.text.empty()) {
      mistakes.add(
          item, fmt::format("expected {}, found {}", expected, item.is_scalar() ? "an empty text" : described(item)));
    } else if (!seen.insert(item.text).second) {
      mistakes.add(item, fmt::format("{} stands twice in this list", in_quotes(item.text)));
    } else {
      scalars.push_back(&item);
    }
  }
  return scalars;
}

}  // namespace alcedo::pipeline

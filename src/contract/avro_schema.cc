// Walks the schema once and collects every mistake, so that a contract is repaired in one go.
#include "contract/avro_schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <simdjson.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <utility>

#include "core/nearest_name.h"

namespace alcedo::contract {
namespace {

namespace dom = simdjson::dom;

constexpr std::pair<std::string_view, std::uint16_t> kTypes[] = {
    {"null", kAvroNull},    {"boolean", kAvroBoolean}, {"int", kAvroInt},       {"long", kAvroLong},
    {"float", kAvroFloat},  {"double", kAvroDouble},   {"string", kAvroString}, {"bytes", kAvroString},
    {"fixed", kAvroString}, {"enum", kAvroEnum},       {"array", kAvroArray},   {"map", kAvroObject},
    {"record", kAvroObject}};
constexpr std::size_t kDepthMax = 32;
constexpr std::streamsize kSchemaBytesMax = 4 << 20;

// Avro names: a letter or '_', then letters, digits, '_'; a namespace adds dots.
bool is_name(std::string_view text, bool dots) {
  bool start = true;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (dots && c == '.' && !start) {
      start = true;
      continue;
    }
    if (!letter && (start || c < '0' || c > '9')) return false;
    start = false;
  }
  return !start;
}

struct Type {
  std::uint16_t types = 0;
  AvroLogical logical = AvroLogical::kNone;
  std::vector<std::string> symbols;
};

class SchemaReader {
 public:
  explicit SchemaReader(std::string_view path) : path_(path) {}

  Result<AvroSchema> read(std::string_view json) {
    dom::parser parser;
    dom::element root;
    const simdjson::padded_string padded(json);
    if (const auto fault = parser.parse(padded).get(root))
      return error(ErrorCode::kInvalidArgument, syntax(json, fault));
    AvroSchema schema;
    dom::object object;
    std::string_view type;
    if (root.get(object) != simdjson::SUCCESS || object["type"].get(type) != simdjson::SUCCESS || type != "record") {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: expected an Avro record schema: {{\"type\": \"record\", \"name\": …, \"fields\": […]}}",
                      path_));
    }
    std::string_view name;
    if (object["name"].get(name) != simdjson::SUCCESS) {
      mistake("", "the record has no name");
    } else if (!is_name(name, true)) {
      mistake("", fmt::format("'{}' is not an Avro name (letters, digits and '_', not first a digit)", name));
    }
    schema.name = name.substr(name.rfind('.') + 1);
    define(object, {kAvroObject, AvroLogical::kNone, {}});
    dom::array fields;
    if (object["fields"].get(fields) != simdjson::SUCCESS) {
      mistake("", "the record has no list of fields");
    } else {
      read_fields(fields, schema);
      if (schema.fields.empty() && mistakes_.empty()) mistake("", "the record has no fields");
    }
    if (!mistakes_.empty()) return error(ErrorCode::kInvalidArgument, fmt::format("{}", fmt::join(mistakes_, "\n")));
    return schema;
  }

 private:
  void mistake(std::string_view where, std::string_view what) {
    mistakes_.push_back(fmt::format("{}: {}{}{}", path_, where, where.empty() ? "" : ": ", what));
  }

  // On-demand parsing knows where it stopped, the DOM does not; only a broken schema is parsed a second time.
  std::string syntax(std::string_view json, simdjson::error_code fault) const {
    simdjson::ondemand::parser parser;
    const simdjson::padded_string padded(json);
    std::size_t at = json.size();
    simdjson::ondemand::document document;
    if (parser.iterate(padded).get(document) == simdjson::SUCCESS) {
      const auto walk = [](auto&& self, simdjson::ondemand::value value, std::size_t depth) -> simdjson::error_code {
        simdjson::ondemand::json_type type;
        if (const auto e = value.type().get(type)) return e;
        if (depth > kDepthMax) return simdjson::DEPTH_ERROR;
        if (type == simdjson::ondemand::json_type::object) {
          simdjson::ondemand::object object;
          if (const auto e = value.get_object().get(object)) return e;
          for (auto field : object) {
            simdjson::ondemand::value inner;
            if (const auto e = field.value().get(inner)) return e;
            if (const auto e = self(self, inner, depth + 1)) return e;
          }
        } else if (type == simdjson::ondemand::json_type::array) {
          simdjson::ondemand::array array;
          if (const auto e = value.get_array().get(array)) return e;
          for (auto element : array) {
            simdjson::ondemand::value inner;
            if (const auto e = element.get(inner)) return e;
            if (const auto e = self(self, inner, depth + 1)) return e;
          }
        } else if (type == simdjson::ondemand::json_type::string) {
          std::string_view text;
          return value.get_string().get(text);
        } else if (type == simdjson::ondemand::json_type::number) {
          simdjson::ondemand::number number;
          return value.get_number().get(number);
        } else if (type == simdjson::ondemand::json_type::boolean) {
          bool flag;
          return value.get_bool().get(flag);
        }
        return simdjson::SUCCESS;
      };
      simdjson::ondemand::value root;
      const char* location = nullptr;
      if (document.get_value().get(root) == simdjson::SUCCESS && walk(walk, root, 0) != simdjson::SUCCESS &&
          document.current_location().get(location) == simdjson::SUCCESS) {
        at = std::min(json.size(), static_cast<std::size_t>(location - padded.data()));
      }
    }
    const std::string_view before = json.substr(0, at);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const std::size_t column = at - (before.rfind('\n') + 1) + 1;
    return fmt::format("{}:{}:{}: not valid JSON: {}", path_, line, column, simdjson::error_message(fault));
  }

  // A named type may be used again by its name. Namespaces are inherited in ways that a contract never depends on: the
  // last part of a name identifies it.
  void define(const dom::object& object, const Type& type) {
    std::string_view name;
    if (object["name"].get(name) == simdjson::SUCCESS) named_.emplace_back(name.substr(name.rfind('.') + 1), type);
  }

  void read_fields(const dom::array& fields, AvroSchema& schema) {
    std::set<std::string, std::less<>> seen;
    std::size_t index = 0;
    for (const dom::element element : fields) {
      std::string where = fmt::format("fields[{}]", index++);
      dom::object object;
      std::string_view name;
      if (element.get(object) != simdjson::SUCCESS) {
        mistake(where, "expected an object with name and type");
        continue;
      }
      if (object["name"].get(name) != simdjson::SUCCESS) {
        mistake(where, "has no name");
        continue;
      }
      where += fmt::format(" '{}'", name);
      if (!is_name(name, false)) mistake(where, "is not an Avro name (letters, digits and '_', not first a digit)");
      if (!seen.emplace(name).second) mistake(where, "this name is taken by an earlier field");
      dom::element type;
      if (object["type"].get(type) != simdjson::SUCCESS) {
        mistake(where, "has no type");
        continue;
      }
      dom::element ignored;
      AvroField field;
      field.name = name;
      field.has_default = object["default"].get(ignored) == simdjson::SUCCESS;
      const Type t = read_type(type, where, 0);
      field.types = t.types;
      field.logical = t.logical;
      field.symbols = t.symbols;
      schema.fields.push_back(std::move(field));
    }
  }

  Type read_type(const dom::element& element, const std::string& where, std::size_t depth) {
    if (depth > kDepthMax) {
      mistake(where, fmt::format("types are nested deeper than {}", kDepthMax));
      return {};
    }
    std::string_view name;
    dom::array branches;
    dom::object object;
    if (element.get(name) == simdjson::SUCCESS) return named_type(name, where);
    if (element.get(branches) == simdjson::SUCCESS) return read_union(branches, where, depth);
    if (element.get(object) == simdjson::SUCCESS) return read_object(object, where, depth);
    mistake(where, "a type is a name, an object or a list (a union)");
    return {};
  }

  Type named_type(std::string_view name, const std::string& where) {
    for (const auto& [known, bits] : kTypes) {
      if (known != name) continue;
      if (bits == kAvroEnum || bits == kAvroArray || bits == kAvroObject || name == "fixed") {
        mistake(where, fmt::format("type {} needs an object: {{\"type\": \"{}\", …}}", name, name));
      }
      return {bits, AvroLogical::kNone, {}};
    }
    for (const auto& [known, type] : named_) {
      if (known == name.substr(name.rfind('.') + 1)) return type;
    }
    std::vector<std::string> names;
    for (const auto& [known, bits] : kTypes) names.emplace_back(known);
    for (const auto& [known, type] : named_) names.push_back(known);
    const std::string nearest = nearest_name(name, names);
    mistake(where, fmt::format("unknown type '{}'{}", name,
                               nearest.empty() ? std::string() : fmt::format("; did you mean '{}'?", nearest)));
    return {};
  }

  Type read_union(const dom::array& branches, const std::string& where, std::size_t depth) {
    Type all;
    std::size_t values = 0;
    for (const dom::element branch : branches) {
      if (branch.is_array()) {
        mistake(where, "a union directly inside a union");
        continue;
      }
      const Type type = read_type(branch, where, depth + 1);
      // Several named types of one kind are legal, and string beside bytes is too.
      if ((type.types & all.types & ~(kAvroString | kAvroObject | kAvroEnum)) != 0)
        mistake(where, "a type twice in one union");
      all.types |= type.types;
      if (type.types != kAvroNull) {
        // A logical type says how to read the number only if no other type can be meant.
        all.logical = values++ == 0 ? type.logical : AvroLogical::kNone;
      }
      all.symbols.insert(all.symbols.end(), type.symbols.begin(), type.symbols.end());
    }
    if (all.types == 0) mistake(where, "a union without types");
    return all;
  }

  Type read_object(const dom::object& object, const std::string& where, std::size_t depth) {
    std::string_view kind;
    dom::element inner;
    if (object["type"].get(inner) != simdjson::SUCCESS) {
      mistake(where, "a type object has no 'type'");
      return {};
    }
    if (inner.get(kind) != simdjson::SUCCESS) return read_type(inner, where, depth + 1);  // {"type": {"type": …}}
    Type type;
    if (kind == "enum") {
      type = read_enum(object, where);
      define(object, type);
    } else if (kind == "record" || kind == "fixed") {
      type.types = kind == "record" ? kAvroObject : kAvroString;
      define(object, type);
      dom::element fields;
      if (kind == "record" && object["fields"].get(fields) != simdjson::SUCCESS)
        mistake(where, "a record without fields");
    } else if (kind == "array" || kind == "map") {
      type.types = kind == "array" ? kAvroArray : kAvroObject;
      const char* of = kind == "array" ? "items" : "values";
      if (object[of].get(inner) != simdjson::SUCCESS) mistake(where, fmt::format("{} without '{}'", kind, of));
    } else {
      type = named_type(kind, where);
    }
    read_logical(object, where, type);
    return type;
  }

  Type read_enum(const dom::object& object, const std::string& where) {
    Type type;
    type.types = kAvroEnum;
    dom::array symbols;
    if (object["symbols"].get(symbols) == simdjson::SUCCESS) {
      for (const dom::element element : symbols) {
        std::string_view symbol;
        if (element.get(symbol) == simdjson::SUCCESS) {
          type.symbols.emplace_back(symbol);
        } else {
          mistake(where, "an enum's symbols are strings");
        }
      }
    }
    if (type.symbols.empty()) mistake(where, "an enum needs its list of symbols");
    return type;
  }

  void read_logical(const dom::object& object, const std::string& where, Type& type) {
    std::string_view logical;
    if (object["logicalType"].get(logical) != simdjson::SUCCESS) return;
    // Avro tells readers to ignore a logical type that does not fit its type; a decimal would then be read as text.
    if (logical == "decimal") {
      mistake(where, "decimal on bytes or fixed has no plain JSON form; declare money as double or string");
    } else if ((logical == "timestamp-millis" || logical == "local-timestamp-millis") && type.types == kAvroLong) {
      type.logical = AvroLogical::kTimestampMillis;
    } else if ((logical == "timestamp-micros" || logical == "local-timestamp-micros") && type.types == kAvroLong) {
      type.logical = AvroLogical::kTimestampMicros;
    } else if (logical == "date" && type.types == kAvroInt) {
      type.logical = AvroLogical::kDate;
    }
  }

  std::string path_;
  std::vector<std::string> mistakes_;
  std::vector<std::pair<std::string, Type>> named_;
};

}  // namespace

std::string AvroField::type_text() const {
  std::vector<std::string> names;
  for (const auto& [type, bits] : kTypes) {
    if (bits == kAvroNull || (types & bits) == 0 || type == "bytes" || type == "fixed" || type == "record") continue;
    names.push_back(bits == kAvroEnum ? fmt::format("enum ({})", fmt::join(symbols, ", ")) : std::string(type));
  }
  if (nullable()) names.emplace_back("null");
  return fmt::format("{}", fmt::join(names, " or "));
}

const AvroField* AvroSchema::find(std::string_view field) const {
  const auto at = std::find_if(fields.begin(), fields.end(), [&](const AvroField& f) { return f.name == field; });
  return at == fields.end() ? nullptr : &*at;
}

std::vector<std::string> AvroSchema::field_names() const {
  std::vector<std::string> names;
  for (const AvroField& field : fields) names.push_back(field.name);
  return names;
}

Result<AvroSchema> parse_avro_schema(std::string_view json, std::string_view path) {
  return SchemaReader(path).read(json);
}

Result<AvroSchema> read_avro_schema(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return error(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                 fmt::format("{}: cannot open the contract: {}", path, std::strerror(errno)));
  }
  std::string text(static_cast<std::size_t>(kSchemaBytesMax) + 1, '\0');
  file.read(text.data(), kSchemaBytesMax + 1);
  if (file.bad())
    return error(ErrorCode::kIo, fmt::format("{}: cannot read the contract: {}", path, std::strerror(errno)));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (file.gcount() > kSchemaBytesMax) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: a contract has at most {} bytes", path, kSchemaBytesMax));
  }
  return parse_avro_schema(text, path);
}

}  // namespace alcedo::contract

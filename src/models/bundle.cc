// Nothing of a bundle is looked into before its bytes are those that were trained.
#include "models/bundle.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "core/json.h"
#include "core/whole_file.h"

namespace alcedo::models {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kManifestBytesMax = 4ULL << 20;
constexpr std::uint64_t kFileBytesMax = 1ULL << 30;
constexpr std::size_t kFilesMax = 256;
constexpr std::string_view kModelSuffix = ".safetensors";

std::string sha256(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 200 && name.front() != '.' && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  });
}

std::string hex_of(std::uint64_t value) { return fmt::format("{:016x}", value); }

using Element = simdjson::dom::element;

// Reads the manifest's members; the first that is not as expected is what the caller is told.
class ManifestReader {
 public:
  explicit ManifestReader(std::string path) : path_(std::move(path)) {}

  std::string text(const Element& object, const char* name) {
    std::string_view value;
    if (object[name].get(value) != simdjson::SUCCESS) wrong(name, "a text");
    return std::string(value);
  }
  std::uint64_t count(const Element& object, const char* name) {
    std::uint64_t value = 0;
    if (object[name].get(value) != simdjson::SUCCESS) wrong(name, "a whole number from 0 on");
    return value;
  }
  std::int64_t integer(const Element& object, const char* name) {
    std::int64_t value = 0;
    if (object[name].get(value) != simdjson::SUCCESS) wrong(name, "a whole number");
    return value;
  }
  double number(const Element& object, const char* name) {
    double value = 0;
    if (object[name].get(value) != simdjson::SUCCESS) wrong(name, "a number");
    return value;
  }
  std::uint64_t hex(const Element& object, const char* name) {
    const std::string digits = text(object, name);
    std::uint64_t value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() != 16 || code != std::errc() || end != digits.data() + digits.size())
      wrong(name, "16 hex digits");
    return value;
  }
  void wrong(std::string_view name, std::string_view expected) {
    if (what_.empty()) what_ = fmt::format("{}: '{}' is missing or not {}", path_, name, expected);
  }
  Result<> done() const {
    if (what_.empty()) return {};
    return error(ErrorCode::kCorrupt, what_);
  }

 private:
  std::string path_;
  std::string what_;
};

struct ListedFile {
  std::string name;
  std::string sha256;
  std::uint64_t bytes = 0;
};

Result<std::vector<ListedFile>> read_manifest(const std::string& path, std::string_view json, Bundle& bundle) {
  simdjson::dom::parser parser;
  Element root;
  const simdjson::padded_string padded(json);
  if (const auto code = parser.parse(padded).get(root); code != simdjson::SUCCESS)
    return error(ErrorCode::kCorrupt, fmt::format("{}: {}", path, simdjson::error_message(code)));
  ManifestReader reader(path);
  const std::int64_t format = reader.integer(root, "format");
  if (auto r = reader.done(); !r) return std::unexpected(r.error());
  if (format != Bundle::kFormat) {
    return error(ErrorCode::kCorrupt, fmt::format("{}: format {}; this alcedo reads format {}. Train it anew, or use "
                                                  "the alcedo that trained it",
                                                  path, format, Bundle::kFormat));
  }
  bundle.pipeline = reader.text(root, "pipeline");
  bundle.version = reader.text(root, "version");
  bundle.plan_hash = reader.hex(root, "plan");
  Element trained;
  if (root["trained"].get(trained) != simdjson::SUCCESS) {
    reader.wrong("trained", "an object");
  } else {
    bundle.trained = {reader.count(trained, "events"),    reader.count(trained, "labelled"),
                      reader.count(trained, "anomalous"), reader.integer(trained, "first_ms"),
                      reader.integer(trained, "last_ms"), reader.integer(trained, "held_out_from_ms"),
                      reader.count(trained, "seed")};
  }
  simdjson::dom::array votes;
  if (root["votes"].get(votes) != simdjson::SUCCESS) reader.wrong("votes", "a list");
  for (const Element vote : votes) {
    Bundle::Vote one{reader.text(vote, "anomaly"), reader.text(vote, "detector"), reader.number(vote, "weight")};
    if (!(one.weight >= 0) || !std::isfinite(one.weight)) reader.wrong("weight", "a number from 0 on");
    bundle.votes.push_back(std::move(one));
  }
  simdjson::dom::object metrics;
  if (root["metrics"].get(metrics) != simdjson::SUCCESS) reader.wrong("metrics", "an object");
  for (const auto& [name, value] : metrics) {
    double number = 0;
    if (value.get(number) == simdjson::SUCCESS) bundle.metrics.emplace(std::string(name), number);
  }
  simdjson::dom::array files;
  if (root["files"].get(files) != simdjson::SUCCESS) reader.wrong("files", "a list");
  std::vector<ListedFile> listed;
  for (const Element file : files) {
    ListedFile one{reader.text(file, "name"), reader.text(file, "sha256"), reader.count(file, "bytes")};
    if (auto r = reader.done(); !r) return std::unexpected(r.error());
    if (!is_plain_name(one.name))
      return error(ErrorCode::kCorrupt, fmt::format("{}: '{}' is no plain file name", path, one.name.substr(0, 80)));
    if (listed.size() == kFilesMax || one.bytes > kFileBytesMax)
      return error(ErrorCode::kCorrupt, fmt::format("{}: more or larger files than a bundle may have", path));
    if (std::ranges::find(listed, one.name, &ListedFile::name) != listed.end())
      return error(ErrorCode::kCorrupt, fmt::format("{}: names {} twice", path, one.name));
    listed.push_back(std::move(one));
  }
  if (auto r = reader.done(); !r) return std::unexpected(r.error());
  return listed;
}

std::string version_of(const std::vector<ListedFile>& files, const Bundle& bundle) {
  std::string all = bundle.pipeline + hex_of(bundle.plan_hash);
  for (const ListedFile& file : files) all += file.name + file.sha256;
  for (const Bundle::Vote& vote : bundle.votes)
    all += fmt::format("{}|{}|{}|", vote.anomaly, vote.detector, vote.weight);
  return sha256(all).substr(0, 16);
}

std::string manifest_json(const Bundle& bundle, const std::vector<ListedFile>& files) {
  JsonWriter json;
  json.begin_object().field("format", Bundle::kFormat).field("pipeline", std::string_view(bundle.pipeline));
  json.field("version", std::string_view(bundle.version)).field("plan", std::string_view(hex_of(bundle.plan_hash)));
  const Bundle::Trained& t = bundle.trained;
  json.key("trained").begin_object().field("events", t.events).field("labelled", t.labelled);
  json.field("anomalous", t.anomalous).field("first_ms", t.first_ms).field("last_ms", t.last_ms);
  json.field("held_out_from_ms", t.held_out_from_ms).field("seed", t.seed).end_object();
  json.key("votes").begin_array();
  for (const Bundle::Vote& vote : bundle.votes) {
    json.begin_object().field("anomaly", std::string_view(vote.anomaly));
    json.field("detector", std::string_view(vote.detector)).field("weight", vote.weight).end_object();
  }
  json.end_array().key("metrics").begin_object();
  for (const auto& [name, value] : bundle.metrics) json.field(name, value);
  json.end_object().key("files").begin_array();
  for (const ListedFile& file : files) {
    json.begin_object().field("name", std::string_view(file.name)).field("sha256", std::string_view(file.sha256));
    json.field("bytes", file.bytes).end_object();
  }
  json.end_array().end_object();
  return json.take() + "\n";
}

}  // namespace

Result<> Bundle::check_place(const std::string& to_directory) {
  std::error_code code;
  const fs::path path(to_directory);
  const bool there = fs::exists(path, code);
  if (there && !fs::exists(path / kManifest, code) && !(fs::is_directory(path, code) && fs::is_empty(path, code))) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: is there and is no bundle; give a directory that does not exist", to_directory));
  }
  return {};
}

Result<> Bundle::write(const std::string& to_directory) {
  if (auto place = check_place(to_directory); !place) return place;
  std::error_code code;
  const fs::path path(to_directory);
  fs::create_directories(path, code);
  if (code) return error(ErrorCode::kIo, fmt::format("{}: {}", to_directory, code.message()));
  // An older bundle is no bundle any more while its files change.
  fs::remove(path / kManifest, code);
  std::vector<ListedFile> files;
  const auto put = [&](const std::string& name, std::string_view bytes) -> Result<> {
    files.push_back({name, sha256(bytes), bytes.size()});
    return write_whole_file((path / name).string(), bytes);
  };
  for (const auto& [name, model] : models) {
    if (auto r = put(name + std::string(kModelSuffix), model.to_file().serialize()); !r) return r;
  }
  if (!calibration.empty()) {
    if (auto r = put(std::string(kCalibration), calibration); !r) return r;
  }
  if (!card.empty()) {
    if (auto r = put(std::string(kCard), card); !r) return r;
  }
  version = version_of(files, *this);
  directory = to_directory;
  return write_whole_file((path / kManifest).string(), manifest_json(*this, files));
}

Result<Bundle> Bundle::load(const std::string& from_directory) {
  const std::string manifest_path = (fs::path(from_directory) / kManifest).string();
  auto manifest = read_whole_file(manifest_path, kManifestBytesMax, Links::kRefuse);
  if (!manifest) return std::unexpected(manifest.error());
  Bundle bundle;
  bundle.directory = from_directory;
  auto files = read_manifest(manifest_path, *manifest, bundle);
  if (!files) return std::unexpected(files.error());
  if (bundle.version != version_of(*files, bundle)) {
    return error(ErrorCode::kCorrupt,
                 fmt::format("{}: its version {} is not that of what it lists: it was changed after training",
                             manifest_path, bundle.version));
  }
  for (const ListedFile& file : *files) {
    const std::string path = (fs::path(from_directory) / file.name).string();
    auto bytes = read_whole_file(path, kFileBytesMax, Links::kRefuse);
    if (!bytes) {
      return error(bytes.error().code == ErrorCode::kIo ? ErrorCode::kIo : ErrorCode::kCorrupt, bytes.error().message);
    }
    if (bytes->size() != file.bytes || sha256(*bytes) != file.sha256) {
      return error(ErrorCode::kCorrupt, fmt::format("{}: is not the file that the manifest lists: {} bytes, expected "
                                                    "{} with SHA-256 {}",
                                                    path, bytes->size(), file.bytes, file.sha256));
    }
    if (file.name == kCalibration) {
      bundle.calibration = std::move(*bytes);
    } else if (file.name == kCard) {
      bundle.card = std::move(*bytes);
    } else if (file.name.ends_with(kModelSuffix)) {
      auto tensors = TensorFile::parse(*bytes, path);
      if (!tensors) return std::unexpected(tensors.error());
      auto model = LearnedModel::from_file(*tensors);
      if (!model) return error(ErrorCode::kCorrupt, fmt::format("{}: {}", path, model.error().message));
      bundle.models.emplace(file.name.substr(0, file.name.size() - kModelSuffix.size()), std::move(*model));
    }
  }
  return bundle;
}

}  // namespace alcedo::models

// alcedo features get: the newest vector of one entity, asked of a running `alcedo run --listen`.
#include <curl/curl.h>
#include <fmt/format.h>
#include <simdjson.h>

#include <filesystem>
#include <memory>

#include "commands.h"
#include "core/json.h"
#include "terminal.h"

namespace alcedo::cli {
namespace {

constexpr std::size_t kAnswerBytesMax = 64 << 20;

struct GetArguments {
  std::string pipeline;
  std::vector<std::string> keys;  // ENTITY KEY, again and again
  std::string from = "http://127.0.0.1:8787";
  std::string max_age;
  bool json = false;
};

struct HttpReply {
  long status = 0;
  std::string body;
};

std::size_t take_bytes(char* bytes, std::size_t size, std::size_t n, void* body) {
  auto& out = *static_cast<std::string*>(body);
  if (out.size() + size * n > kAnswerBytesMax) return 0;
  out.append(bytes, size * n);
  return size * n;
}

Result<HttpReply> post(const std::string& url, const std::string& body) {
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), &curl_easy_cleanup);
  if (!curl) return error(ErrorCode::kInternal, "libcurl cannot be set up");
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(
      curl_slist_append(nullptr, "Content-Type: application/json"), &curl_slist_free_all);
  HttpReply reply;
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT_MS, 10'000L);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, take_bytes);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &reply.body);
  if (const CURLcode code = curl_easy_perform(curl.get()); code != CURLE_OK) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("{}: {}; is `alcedo run ... --listen` running there? --from says where else", url,
                             curl_easy_strerror(code)));
  }
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &reply.status);
  return reply;
}

// A pipeline's name, or where its file is.
std::optional<std::string> name_of(const std::string& pipeline) {
  std::error_code failed;
  if (!std::filesystem::exists(pipeline, failed)) return pipeline;
  auto loaded = load_or_report(pipeline);
  if (!loaded) return std::nullopt;
  return loaded->name;
}

std::string request_for(const GetArguments& arguments, const std::string& name) {
  JsonWriter json;
  json.begin_object().field("feature_service", name).field("full_feature_names", true);
  if (!arguments.max_age.empty()) json.field("max_age", arguments.max_age);
  json.key("entities").begin_object();
  for (std::size_t i = 0; i < arguments.keys.size(); i += 2) {
    json.key(arguments.keys[i]).begin_array().value(arguments.keys[i + 1]).end_array();
  }
  json.end_object().end_object();
  return json.take();
}

// One line a feature: name, value, status where it is not PRESENT, time.
bool print_table(const std::string& body) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  simdjson::dom::array names;
  simdjson::dom::array results;
  if (parser.parse(body).get(root) != simdjson::SUCCESS ||
      root["metadata"]["feature_names"].get(names) != simdjson::SUCCESS ||
      root["results"].get(results) != simdjson::SUCCESS || names.size() != results.size()) {
    return false;
  }
  std::size_t width = 0;
  for (const auto name : names) {
    std::string_view text;
    if (name.get(text) == simdjson::SUCCESS) width = std::max(width, text.size());
  }
  std::string out;
  auto result = results.begin();
  for (const auto name : names) {
    std::string_view title;
    std::string_view status;
    std::string_view time;
    simdjson::dom::element value;
    if (name.get(title) != simdjson::SUCCESS || (*result)["statuses"].at(0).get(status) != simdjson::SUCCESS ||
        (*result)["event_timestamps"].at(0).get(time) != simdjson::SUCCESS ||
        (*result)["values"].at(0).get(value) != simdjson::SUCCESS) {
      return false;
    }
    std::string_view text;
    const std::string shown = value.is_null()                        ? "-"
                              : value.get(text) == simdjson::SUCCESS ? std::string(text)
                                                                     : simdjson::minify(value);
    std::string line = fmt::format("{:<{}}  {:>14}", printable(title), width, printable(shown));
    if (!time.starts_with("1970-01-01T00:00:00")) line += fmt::format("  {}", printable(time));
    if (status != "PRESENT") line += fmt::format("  {}", printable(status));
    out += line + "\n";
    ++result;
  }
  fmt::print("{}", out);
  return true;
}

int get(const GetArguments& arguments) {
  if (arguments.keys.size() % 2 != 0) {
    complain(fmt::format("'{}' has no key: expected ENTITY KEY, or several such pairs (card C1 currency EUR)",
                         arguments.keys.back()));
    return kUsage;
  }
  const auto name = name_of(arguments.pipeline);
  if (!name) return kUsage;
  std::string url = arguments.from;
  while (url.ends_with('/')) url.pop_back();
  const auto reply = post(url + "/get-online-features", request_for(arguments, *name));
  if (!reply) {
    complain(reply.error().message);
    return kFailed;
  }
  if (reply->status != 200) {
    simdjson::dom::parser parser;
    std::string_view message;
    if (parser.parse(reply->body)["error"].get(message) != simdjson::SUCCESS) message = "an answer without a message";
    complain(fmt::format("{} says ({}): {}", url, reply->status, message.substr(0, 2000)));
    return reply->status < 500 ? kUsage : kFailed;
  }
  if (arguments.json) {
    fmt::print("{}\n", reply->body);
  } else if (!print_table(reply->body)) {
    complain(fmt::format("{}: expected the answer of an alcedo run --listen, found something else", url));
    return kFailed;
  }
  return kDone;
}

}  // namespace

void add_features(CLI::App& app, int& exit_code) {
  auto* features = app.add_subcommand("features", "Read the newest features of an entity from a running pipeline");
  features->require_subcommand(1);
  auto* command = features->add_subcommand("get", "Print an entity's newest vector");
  auto arguments = std::make_shared<GetArguments>();
  command->add_option("PIPELINE", arguments->pipeline, "its name, or its pipeline.yaml or folder")->required();
  command
      ->add_option("ENTITY KEY", arguments->keys, "an entity's name and the key; more pairs where features need them")
      ->required()
      ->expected(2, 32);
  command->add_option("--from", arguments->from, "where alcedo run --listen serves it")->capture_default_str();
  command->add_option("--max-age", arguments->max_age, "vectors of older events count as absent, such as 5m");
  command->add_flag("--json", arguments->json, "print the service's answer, one JSON object");
  const char* examples =
      "Examples:\n"
      "  alcedo run pipelines/payments --source 'simulate:payments?rate=1000' --pages-to-file --listen 127.0.0.1:8787\n"
      "  alcedo features get payments merchant m-000042\n"
      "  alcedo features get payments card c-00000017 currency EUR --json\n"
      "Money is kept by entity and currency, so such features need both. Private keys are given as they are, or as\n"
      "alerts show them (h:...). docs/serving.md has the same over HTTP.";
  features->footer(examples);
  command->footer(examples);
  command->callback([=, &exit_code] { exit_code = get(*arguments); });
}

}  // namespace alcedo::cli

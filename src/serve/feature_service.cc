// Paths and methods, and the clock that only this edge of the process may read.
#include "serve/feature_service.h"

#include <fmt/format.h>

#include <string>

#include "core/nearest_name.h"
#include "core/time.h"

namespace alcedo::serve {
namespace {

HttpAnswer wrong_method(const HttpRequest& request, std::string_view expected) {
  return http_error(405,
                    fmt::format("{}: expected {}, found {}", request.path, expected, request.method.substr(0, 40)));
}

}  // namespace

Result<std::unique_ptr<HttpServer>> serve_features(const ListenAddress& address, std::vector<ServedPipeline> pipelines,
                                                   std::function<bool()> ready, HttpServer::Options options) {
  auto features = std::make_shared<OnlineFeatures>(std::move(pipelines));
  const auto handler = [features, ready = std::move(ready)](const HttpRequest& request) -> HttpAnswer {
    if (request.path == "/get-online-features") {
      if (request.method != "POST") return wrong_method(request, "POST");
      return features->answer(request.body, wall_clock_ms());
    }
    if (request.path == "/health/live" || request.path == "/health/ready") {
      if (request.method != "GET") return wrong_method(request, "GET");
      if (request.path == "/health/live") return {200, R"({"status":"live"})"};
      if (ready()) return {200, R"({"status":"ready"})"};
      return http_error(503, "the pipelines are still learning from their warm-up; vectors are not current yet");
    }
    static const std::string kPaths[] = {"/get-online-features", "/health/live", "/health/ready"};
    const std::string near = nearest_name(request.path, kPaths);
    return http_error(
        404, fmt::format("no path '{}'{}; there are {}", request.path.substr(0, 80),
                         near.empty() ? "" : fmt::format(", did you mean '{}'?", near), fmt::join(kPaths, ", ")));
  };
  return HttpServer::start(address, options, handler);
}

}  // namespace alcedo::serve

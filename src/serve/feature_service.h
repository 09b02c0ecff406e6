// The HTTP surface of running pipelines: which path does what.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/result.h"
#include "serve/http_server.h"
#include "serve/online_features.h"

namespace alcedo::serve {

/// POST /get-online-features; GET /health/live: the process answers; GET /health/ready: 200 once `ready`, else 503.
/// What the pipelines point to must outlive the server.
/// Threads  `ready` is called on the server's thread.
Result<std::unique_ptr<HttpServer>> serve_features(const ListenAddress& address, std::vector<ServedPipeline> pipelines,
                                                   std::function<bool()> ready, HttpServer::Options options = {});

}  // namespace alcedo::serve

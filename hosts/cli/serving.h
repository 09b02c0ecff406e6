// What alcedo run --listen adds to running pipelines: their newest features over HTTP.
#pragma once

#include <memory>
#include <vector>

#include "core/result.h"
#include "pipeline/service.h"
#include "serve/http_server.h"

namespace alcedo::cli {

/// Serves every service, which must have been opened with served_entities_max and outlive the server. Errors: kIo.
Result<std::unique_ptr<serve::HttpServer>> serve_pipelines(
    const serve::ListenAddress& address, const std::vector<std::unique_ptr<pipeline::Service>>& services);

}  // namespace alcedo::cli

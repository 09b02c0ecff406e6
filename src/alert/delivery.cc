// Resolves each route's secrets and starts its worker; the policy of a kind of receiver is in its worker.
#include "alert/delivery.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <utility>

#include "alert/rate_limit.h"
#include "alert/route_worker.h"
#include "core/hash.h"

namespace alcedo::alert {
namespace {

// The message never shows the value: it is a secret.
Result<std::string> resolve_routing_key(const RouteSpec& route) {
  std::string key = route.routing_key;
  std::string from = "routing_key";
  if (key.starts_with("env:")) {
    const std::string name = key.substr(4);
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("route '{}': the environment variable {} with its routing key is not set; export it, or "
                               "name another place with the route's key: env:NAME or file:PATH",
                               route.name, name));
    }
    key = value;
    from = "the environment variable " + name;
  } else if (key.starts_with("file:")) {
    const std::string path = key.substr(5);
    std::ifstream file(path, std::ios::binary);
    if (!file)
      return error(ErrorCode::kIo, fmt::format("route '{}': {} with its routing key cannot be read", route.name, path));
    key.assign(std::istreambuf_iterator<char>(file), {});
    from = path;
  }
  const auto blank = [](unsigned char c) { return std::isspace(c) != 0; };
  while (!key.empty() && blank(static_cast<unsigned char>(key.back()))) key.pop_back();
  const bool good = key.size() == kPagerDutyRoutingKeyBytes &&
                    std::ranges::all_of(key, [](unsigned char c) { return std::isalnum(c) != 0; });
  if (!good) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("route '{}': {} is not a PagerDuty routing key (32 letters and digits; found {} characters). Give "
                    "it as env:NAME or file:PATH",
                    route.name, from, key.size()));
  }
  return key;
}

class RoutesDeliverer final : public Deliverer {
 public:
  RoutesDeliverer(Ledger& ledger, Options options) : ledger_(ledger), options_(std::move(options)) {}
  ~RoutesDeliverer() override { end(0); }

  Result<> start(std::vector<RouteSpec> routes) {
    const WorkerContext context{.ledger = ledger_, .log = log_, .clock = clock_, .options = options_};
    for (RouteSpec& route : routes) {
      const std::uint64_t seed = hash_combine(mix64(options_.seed), hash64(route.name));
      if (route.kind == RouteSpec::Kind::kPagerDuty) {
        auto key = resolve_routing_key(route);
        if (!key) return std::unexpected(key.error());
        route.routing_key = std::move(*key);
        RateLimit* limit = route.rate_limited ? &limits_[route.routing_key] : nullptr;
        auto worker = start_pagerduty_worker(context, route, limit, seed);
        if (!worker) return std::unexpected(worker.error());
        workers_.push_back(std::move(*worker));
      } else {
        auto worker = start_file_worker(context, route, seed);
        if (!worker) return std::unexpected(worker.error());
        workers_.push_back(std::move(*worker));
      }
    }
    return {};
  }

  void wake() override {
    for (const auto& worker : workers_) worker->wake();
  }
  void stop(std::int64_t patience_ms) override { end(patience_ms); }
  Stats stats() const override { return log_.stats(); }

 private:
  void end(std::int64_t patience_ms) {
    if (ended_) return;
    ended_ = true;
    const std::int64_t deadline_ms = clock_.now_ms() + std::max<std::int64_t>(patience_ms, 0);
    for (const auto& worker : workers_) worker->finish(deadline_ms);
    for (const auto& worker : workers_) worker->join();
  }

  Ledger& ledger_;
  const Options options_;
  DeliveryLog log_;
  DeliveryClock clock_;
  std::map<std::string, RateLimit> limits_;  // by routing key
  std::vector<std::unique_ptr<RouteWorker>> workers_;
  bool ended_ = false;
};

}  // namespace

Result<std::unique_ptr<Deliverer>> Deliverer::start(Ledger& ledger, std::vector<RouteSpec> routes, Options options) {
  auto deliverer = std::make_unique<RoutesDeliverer>(ledger, std::move(options));
  if (auto ok = deliverer->start(std::move(routes)); !ok) return std::unexpected(ok.error());
  return deliverer;
}

}  // namespace alcedo::alert

// Feast's online serving request over the newest vectors: JSON in, JSON out, without a socket in sight.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "features/plan.h"
#include "features/vector_store.h"
#include "serve/http_message.h"

namespace alcedo::serve {

/// How the clients of a key slot name an entity of it.
struct EntityKey {
  std::string entity;       // "card"
  std::string with;         // "currency" where money is kept by entity and currency, else empty
  bool composite = false;   // the entity has several parts: its text is theirs joined by '|', as alerts show it
  bool is_private = false;  // one part, which the decoder hashes
};

/// One pipeline as clients see it. The pointers must outlive whoever holds it.
struct ServedPipeline {
  std::string name;
  const features::FeaturePlan* plan = nullptr;
  const features::VectorStore* vectors = nullptr;
  std::vector<EntityKey> keys;                                // by key slot
  std::function<std::string(std::string_view)> private_text;  // what the decoder makes of a private value
};

/// Answers POST /get-online-features; docs/serving.md is its contract with clients.
///
/// Source   Feast's feature server, https://docs.feast.dev/reference/feature-servers/python-feature-server
/// Bounds   1,000 entities and 100,000 values a request.
/// Cost     about 10 us for 40 values of one entity.
/// Threads  One at a time.
class OnlineFeatures {
 public:
  static constexpr std::size_t kEntitiesMax = 1000;
  static constexpr std::size_t kValuesMax = 100'000;

  explicit OnlineFeatures(std::vector<ServedPipeline> pipelines);
  ~OnlineFeatures();

  /// `now_ms` is compared with event times where the request has a max_age. 400: the request is wrong, 404: a view,
  /// feature, service or entity that it names does not exist; each says what was expected and the nearest name.
  HttpAnswer answer(std::string_view body, std::int64_t now_ms);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace alcedo::serve

// Log buckets straight from a float's bits: exponent and the top five bits of the mantissa.
#include "decide/tail_sketch.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace alcedo::decide {
namespace {

constexpr double kAssumedTailIndex = 3;

// A bit a bucket, and then the values of those that have one. Buckets without scores cost their bit, so that no bytes,
// however few, can ask for a memory that is out of proportion to them.
template <typename HasValue>
void save_places(StateWriter& writer, int buckets, HasValue has_value) {
  for (int b = 0; b < buckets; b += 8) {
    unsigned bits = 0;
    for (int i = 0; i < 8 && b + i < buckets; ++i) bits |= has_value(b + i) ? 1U << i : 0U;
    writer.u8(static_cast<std::uint8_t>(bits));
  }
}

std::string_view load_places(StateReader& reader, int buckets) {
  const std::string_view places = reader.bytes(static_cast<std::size_t>(buckets + 7) / 8);
  const int unused = static_cast<int>(places.size()) * 8 - buckets;
  if (reader.ok() && (static_cast<unsigned char>(places.back()) >> (8 - unused)) != 0)
    reader.refuse("has a bucket of scores beyond the last one");
  return places;
}

bool is_set(std::string_view places, int bucket) {
  const auto byte = static_cast<unsigned char>(places[static_cast<std::size_t>(bucket) / 8]);
  return (byte >> (bucket % 8) & 1) != 0;
}

}  // namespace

TailSketch::TailSketch() : counts_(kBuckets, 0) {}

int TailSketch::bucket_of(float score) {
  constexpr auto kFirst = static_cast<std::uint32_t>((127 + kLowestExponent) << kOctaveBits);
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(score) >> (23 - kOctaveBits);
  if (!(score > 0) || bits < kFirst) return 0;
  return std::min(static_cast<int>(bits - kFirst) + 1, kBuckets - 1);
}

double TailSketch::lower_edge(int bucket) {
  if (bucket == 0) return 0;
  const auto bits =
      static_cast<std::uint32_t>((127 + kLowestExponent) << kOctaveBits) + static_cast<std::uint32_t>(bucket - 1);
  return std::bit_cast<float>(bits << (23 - kOctaveBits));
}

void TailSketch::add(float score) {
  ++counts_[static_cast<std::size_t>(bucket_of(score))];
  ++count_;
  ++fresh_;
}

void TailSketch::fade(int halvings) {
  count_ = 0;
  for (auto& n : counts_) {
    n >>= halvings;
    count_ += n;
  }
}

void TailSketch::publish(bool last) {
  if (fresh_ == 0 || (!last && fresh_ < published_ / 50 + 1)) return;
  published_ = count_;
  fresh_ = 0;
  surprise_at_edge_.resize(kBuckets + 1);
  // Half a score more than was ever seen, so that the surprise of a new extreme stays finite where no tail could be
  // fitted.
  const double total = static_cast<double>(count_) + 0.5;
  std::uint64_t above = 0;
  int tail_bucket = kBuckets;
  const std::uint64_t wanted = std::max<std::uint64_t>(20, count_ / 100);
  surprise_at_edge_[kBuckets] = static_cast<float>(-std::log10(0.5 / total));
  for (int b = kBuckets - 1; b >= 0; --b) {
    above += counts_[static_cast<std::size_t>(b)];
    surprise_at_edge_[static_cast<std::size_t>(b)] =
        static_cast<float>(-std::log10((static_cast<double>(above) + 0.5) / total));
    if (tail_bucket == kBuckets && above >= wanted) tail_bucket = b;
  }
  surprise_at_edge_[0] = 0;
  tail_index_ = 0;
  if (count_ < 100) return;
  if (tail_bucket < 2) {
    int highest = kBuckets - 1;
    while (highest > 0 && counts_[static_cast<std::size_t>(highest)] == 0) --highest;
    const int from = std::min(std::max(highest, bucket_of(1)) + 1, kBuckets - 1);
    tail_from_ = lower_edge(from);
    tail_surprise_ = surprise_at_edge_[static_cast<std::size_t>(from)];
    tail_index_ = kAssumedTailIndex;
    return;
  }
  const double from = lower_edge(tail_bucket);
  double log_excess = 0;
  std::uint64_t exceeding = 0;
  for (int b = tail_bucket; b < kBuckets; ++b) {
    const auto n = counts_[static_cast<std::size_t>(b)];
    if (n == 0) continue;
    const double middle = b + 1 < kBuckets ? std::sqrt(lower_edge(b) * lower_edge(b + 1)) : lower_edge(b);
    log_excess += static_cast<double>(n) * std::log(middle / from);
    exceeding += n;
  }
  const double xi = std::clamp(log_excess / static_cast<double>(exceeding), 0.02, 2.0);
  tail_from_ = from;
  tail_surprise_ = surprise_at_edge_[static_cast<std::size_t>(tail_bucket)];
  tail_index_ = 1 / xi;
}

double TailSketch::surprise(float score) const {
  if (published_ == 0 || !(score > 0)) return 0;
  if (tail_index_ > 0 && score >= tail_from_) {
    return tail_surprise_ + tail_index_ * std::log10(static_cast<double>(score) / tail_from_);
  }
  const int b = bucket_of(score);
  const double low = lower_edge(b);
  const double high = b + 1 < kBuckets ? lower_edge(b + 1) : low * 2;
  const double share = std::clamp((static_cast<double>(score) - low) / (high - low), 0.0, 1.0);
  const double at_low = surprise_at_edge_[static_cast<std::size_t>(b)];
  const double at_high = surprise_at_edge_[static_cast<std::size_t>(b) + 1];
  return at_low + share * (at_high - at_low);
}

void TailSketch::save(StateWriter& writer) const {
  save_places(writer, kBuckets, [&](int b) { return counts_[static_cast<std::size_t>(b)] != 0; });
  for (const std::uint32_t n : counts_) {
    if (n != 0) writer.varint(n);
  }
  writer.varint(fresh_);
  writer.varint(published_);
  if (published_ == 0) return;
  // The logarithms themselves, not the counts they came from: another machine's library may round them otherwise.
  // They change only where a bucket has scores. The lowest is 0 whatever was seen.
  const auto at = [&](int edge) { return surprise_at_edge_[static_cast<std::size_t>(edge)]; };
  const auto changes = [&](int edge) {
    return std::bit_cast<std::uint32_t>(at(edge)) != std::bit_cast<std::uint32_t>(at(edge + 1));
  };
  save_places(writer, kBuckets, [&](int edge) { return edge > 0 && changes(edge); });
  writer.f32(at(kBuckets));
  for (int edge = kBuckets - 1; edge > 0; --edge) {
    if (changes(edge)) writer.f32(at(edge));
  }
  writer.varint(tail_index_ > 0 ? static_cast<std::uint64_t>(bucket_of(static_cast<float>(tail_from_))) : 0);
  if (tail_index_ > 0) writer.f64(tail_index_);
}

void TailSketch::load(StateReader& reader) {
  *this = TailSketch();
  const std::string_view places = load_places(reader, kBuckets);
  for (int b = 0; b < kBuckets && reader.ok(); ++b) {
    if (!is_set(places, b)) continue;
    const std::uint64_t n = reader.varint();
    if (reader.ok() && (n == 0 || n > UINT32_MAX)) reader.refuse(fmt::format("has a bucket of {} scores", n));
    counts_[static_cast<std::size_t>(b)] = static_cast<std::uint32_t>(n);
    count_ += n;
  }
  fresh_ = reader.varint();
  published_ = reader.varint();
  if (reader.ok() && published_ != 0) load_published(reader);
}

void TailSketch::load_published(StateReader& reader) {
  const std::string_view places = load_places(reader, kBuckets);
  if (!reader.ok()) return;
  if (is_set(places, 0)) return reader.refuse("has a surprise at a score of 0");
  surprise_at_edge_.assign(kBuckets + 1, 0);
  float surprise = reader.f32();
  if (!(surprise >= 0) || std::isinf(surprise))
    return reader.refuse("has a surprise that is no finite number from 0 on");
  surprise_at_edge_[kBuckets] = surprise;
  for (int edge = kBuckets - 1; edge > 0 && reader.ok(); --edge) {
    if (is_set(places, edge)) {
      const float lower = reader.f32();
      // -0 stands for "all scores are here": it differs from 0 in its bits only.
      if (!(lower >= 0) || lower > surprise ||
          std::bit_cast<std::uint32_t>(lower) == std::bit_cast<std::uint32_t>(surprise))
        return reader.refuse("has surprises that do not grow with the score");
      surprise = lower;
    }
    surprise_at_edge_[static_cast<std::size_t>(edge)] = surprise;
  }
  const std::uint64_t bucket = reader.varint();
  if (bucket >= kBuckets) return reader.refuse("has a tail that begins beyond the last bucket");
  if (bucket == 0) return;
  const double index = reader.f64();
  if (!(index > 0) || std::isinf(index)) return reader.refuse("has a tail whose index is no finite number above 0");
  tail_from_ = lower_edge(static_cast<int>(bucket));
  tail_surprise_ = surprise_at_edge_[static_cast<std::size_t>(bucket)];
  tail_index_ = index;
}

}  // namespace alcedo::decide

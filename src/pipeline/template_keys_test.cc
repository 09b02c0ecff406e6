// A template is one entity for good, in whatever batches its messages come and however many keys name it.
#include "pipeline/template_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "contract/fields/key_composer.h"
#include "core/state_damage.h"

namespace alcedo::pipeline {
namespace {

using contract::KeyPart;

contract::EventsSpec spec() {
  contract::EventsSpec events;
  const KeyPart part{KeyPart::Kind::kTemplate, "message"};
  events.keys = {{"both", {{KeyPart::Kind::kField, "component"}, part, {KeyPart::Kind::kConstant, "x"}}},
                 {"component", {{KeyPart::Kind::kField, "component"}}},
                 {"template", {part}},
                 {"other", {{KeyPart::Kind::kTemplate, "detail"}}}};
  return events;
}

struct Batch {
  EventBatch events{EventLayout{{}, {"both", "component", "template", "other"}}};
  explicit Batch(std::size_t rows) { events.reset(rows, 1); }
  // As a decoder leaves them; an empty component is missing.
  void set(std::uint32_t row, std::string_view component, std::string_view masked) {
    auto keys = events.keys(row);
    auto& arena = events.arena(0);
    const std::string both = contract::escape_key_part(component) + "|" + contract::escape_key_part(masked) + "|x";
    keys[0] = component.empty() ? Key{} : make_key(arena.copy(both));
    keys[1] = component.empty() ? Key{} : make_key(arena.copy(component));
    keys[2] = make_key(arena.copy(masked));
    keys[3] = Key{};
    events.order.push_back(row);
  }
  std::string key(std::uint32_t row, std::size_t slot) const { return std::string(events.key(row, slot).text); }
};

TEST(TemplateKeysTest, EveryKeyOfAMessageNamesItsTemplate) {
  TemplateKeys templates(spec());
  Batch batch(4);
  batch.set(0, "sshd|1", "session of root opened | <*>");
  batch.set(1, "sshd|1", "session of alice opened | <*>");
  batch.set(2, "", "session of bob opened | <*>");  // mined though its first key is missing
  batch.set(3, "cron", "job <*> started");
  templates.name_keys(batch.events);
  EXPECT_EQ(batch.key(0, 0), "sshd\\|1|T1: session of root opened \\| <*>|x");
  EXPECT_EQ(batch.key(0, 1), "sshd|1");
  EXPECT_EQ(batch.key(0, 2), "T1: session of root opened | <*>");
  EXPECT_EQ(batch.key(1, 0), batch.key(0, 0));
  EXPECT_EQ(batch.events.key(1, 2).hash, batch.events.key(0, 2).hash);
  EXPECT_EQ(batch.events.key(1, 2).group, key_group(batch.key(0, 2)));
  EXPECT_EQ(batch.events.key(2, 0).hash, 0U);
  EXPECT_EQ(batch.key(2, 2), batch.key(0, 2));
  EXPECT_EQ(batch.key(3, 2), "T2: job <*> started");
  EXPECT_EQ(batch.events.key(3, 3).hash, 0U);
  ASSERT_NE(templates.miner("message"), nullptr);
  EXPECT_EQ(templates.miner("message")->text(1), "session of <*> opened | <*>");
  EXPECT_EQ(templates.miner("message")->size(), 2U);
  EXPECT_EQ(templates.miner("detail")->size(), 0U);
  EXPECT_EQ(templates.miner("component"), nullptr);
}

TEST(TemplateKeysTest, WhatWasRefusedIsNotLearntFrom) {
  TemplateKeys templates(spec());
  Batch batch(2);
  batch.set(0, "a", "never accepted at all");
  batch.events.order.clear();
  batch.set(1, "a", "accepted");
  templates.name_keys(batch.events);
  EXPECT_EQ(batch.key(1, 2), "T1: accepted");
  EXPECT_EQ(batch.key(0, 2), "never accepted at all");
}

std::string saved(const TemplateKeys& templates) {
  std::string bytes;
  StateWriter writer(bytes);
  templates.save(writer);
  return bytes;
}

TEST(TemplateKeysTest, RestoredTheyNameWhatFollowsAsBefore) {
  TemplateKeys whole(spec());
  const auto empty = whole.version();
  Batch first(3);
  first.set(0, "sshd", "session of root opened");
  first.set(1, "sshd", "session of alice opened");
  first.set(2, "cron", "job <*> started");
  whole.name_keys(first.events);
  EXPECT_GT(whole.version(), empty);
  TemplateKeys restored(spec());
  const std::string bytes = saved(whole);
  StateReader reader(bytes);
  const auto loaded = restored.load(reader);
  ASSERT_TRUE(reader.complete()) << reader.mistake();
  EXPECT_EQ(loaded.kept, (std::vector<std::string>{"message", "detail"}));
  EXPECT_TRUE(loaded.anew.empty() && loaded.removed.empty());
  EXPECT_EQ(saved(restored), bytes);
  for (TemplateKeys* templates : {&whole, &restored}) {
    Batch next(3);
    next.set(0, "sshd", "session of bob opened");
    next.set(1, "cron", "job <*> started");
    next.set(2, "cron", "job <*> ended in some other way");
    const auto version = templates->version();
    templates->name_keys(next.events);
    EXPECT_EQ(next.key(0, 2), "T1: session of root opened");
    EXPECT_EQ(next.key(1, 0), "cron|T2: job <*> started|x");
    EXPECT_EQ(next.key(2, 2), "T3: job <*> ended in some other way");
    EXPECT_EQ(templates->version(), version + 1);  // only the third taught something
  }
  EXPECT_EQ(saved(restored), saved(whole));
}

TEST(TemplateKeysTest, FieldsAreKeptByName) {
  TemplateKeys before(spec());
  Batch batch(1);
  batch.set(0, "sshd", "session of root opened");
  before.name_keys(batch.events);
  contract::EventsSpec events;
  events.keys = {{"new", {{KeyPart::Kind::kTemplate, "reason"}}},
                 {"template", {{KeyPart::Kind::kTemplate, "message"}}}};
  TemplateKeys after(events);
  const std::string bytes = saved(before);
  StateReader reader(bytes);
  const auto loaded = after.load(reader);
  ASSERT_TRUE(reader.complete()) << reader.mistake();
  EXPECT_EQ(loaded.kept, std::vector<std::string>{"message"});
  EXPECT_EQ(loaded.anew, std::vector<std::string>{"reason"});
  EXPECT_EQ(loaded.removed, std::vector<std::string>{"detail"});
  EXPECT_EQ(after.miner("message")->text(1), "session of root opened");
  EXPECT_EQ(after.miner("reason")->size(), 0U);
}

TEST(TemplateKeysTest, DamagedBytesAreRefusedWithoutATraceOrHarmless) {
  TemplateKeys templates(spec());
  Batch batch(3);
  batch.set(0, "sshd", "session of root opened");
  batch.set(1, "sshd", "session of alice opened");
  batch.set(2, "cron", "job <*> started");
  templates.name_keys(batch.events);
  const std::string untouched = saved(TemplateKeys(spec()));
  std::size_t refused = 0;
  const auto load = [&](std::string_view bytes) {
    TemplateKeys other(spec());
    StateReader reader(bytes);
    other.load(reader);
    if (!reader.ok()) {
      ++refused;
      EXPECT_EQ(saved(other), untouched);
    }
    return reader.complete();
  };
  each_damage(
      saved(templates), 1, 10'000, 2000, [&](std::string_view cut) { EXPECT_FALSE(load(cut)) << cut.size(); },
      [&](std::string_view changed) { load(changed); });
  EXPECT_GT(refused, 300U);
  EXPECT_LT(refused, 2000U);
}

}  // namespace
}  // namespace alcedo::pipeline

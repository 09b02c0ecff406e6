// A template is one entity for good, in whatever batches its messages come and however many keys name it.
#include "pipeline/template_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "contract/fields/key_composer.h"

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

}  // namespace
}  // namespace alcedo::pipeline

// Opens the stores in the order in which they may refuse: the lock first, the deliveries last.
#include "pipeline/service.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "contract/fields/siphash.h"
#include "core/directory_sync.h"
#include "core/time.h"

namespace alcedo::pipeline {
namespace {

std::optional<std::array<std::uint8_t, 16>> parse_key(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  if (text.size() != 32) return std::nullopt;
  std::array<std::uint8_t, 16> key{};
  for (std::size_t i = 0; i < 32; ++i) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    key[i / 2] = static_cast<std::uint8_t>(key[i / 2] * 16 + digit);
  }
  return key;
}

Result<int> take_lock(const std::string& directory) {
  const std::string path = directory + "/lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return error(ErrorCode::kIo, fmt::format("{}: {}", path, std::strerror(errno)));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    char pid[32] = {};
    const ssize_t n = ::pread(fd, pid, sizeof pid - 1, 0);
    ::close(fd);
    return error(ErrorCode::kUnavailable,
                 fmt::format("{}: in use by process {}; stop it, or give this one another --data directory", directory,
                             n > 0 ? pid : "(unknown)"));
  }
  const std::string mine = std::to_string(::getpid());
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, mine.data(), mine.size(), 0) < 0) {
    ::close(fd);
    return error(ErrorCode::kIo, fmt::format("{}: {}", path, std::strerror(errno)));
  }
  return fd;
}

}  // namespace

Result<std::array<std::uint8_t, 16>> private_key(const std::string& directory) {
  if (directory.empty()) {
    const char* given = std::getenv("ALCEDO_PRIVATE_KEY");
    if (given == nullptr) return std::array<std::uint8_t, 16>{0x61, 0x6c, 0x63, 0x65, 0x64, 0x6f};
    if (auto key = parse_key(given)) return *key;
    return error(ErrorCode::kInvalidArgument, "ALCEDO_PRIVATE_KEY: expected 32 hex digits");
  }
  const std::string path = directory + "/private.key";
  if (std::ifstream file(path); file) {
    std::string text;
    std::getline(file, text);
    if (auto key = parse_key(text)) return *key;
    return error(
        ErrorCode::kCorrupt,
        fmt::format("{}: expected 32 hex digits; restore the file, or remove it to hash private fields anew", path));
  }
  std::array<std::uint8_t, 16> key{};
  if (::getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size())) {
    return error(ErrorCode::kIo, fmt::format("no random bytes for {}: {}", path, std::strerror(errno)));
  }
  std::string text;
  for (const auto byte : key) text += fmt::format("{:02x}", byte);
  text += '\n';
  // Under its name only once it is whole and synced: half a key would refuse every later start. And its name is durable
  // before anything is hashed with it, or a restart would draw another and know none of the incidents' keys again.
  const std::string draft = path + ".new";
  ::unlink(draft.c_str());  // left by a crash
  const int fd = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool good =
      fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  int why = errno;
  if (fd >= 0) ::close(fd);
  const bool named = good && ::rename(draft.c_str(), path.c_str()) == 0;
  if (good && !named) why = errno;
  if (!named) return error(ErrorCode::kIo, fmt::format("{}: cannot write: {}", path, std::strerror(why)));
  if (auto synced = sync_parent_directory(path); !synced) return std::unexpected(synced.error());
  return key;
}

Result<std::unique_ptr<ingest::Source>> open_sources(const std::vector<std::string>& uris,
                                                     const contract::EventsSpec& events, ingest::OpenOptions how) {
  how.format = events.format;
  how.delimiter = events.delimiter;
  how.columns = events.columns;
  std::vector<ingest::SourceUri> parsed;
  for (const auto& text : uris) {
    auto uri = ingest::SourceUri::parse(text);
    if (!uri) return std::unexpected(uri.error());
    parsed.push_back(std::move(*uri));
  }
  return parsed.size() == 1 ? ingest::open_source(parsed.front(), how) : ingest::open_files(parsed, how);
}

Result<std::unique_ptr<Service>> Service::open(const Pipeline& pipeline, Options options) {
  std::unique_ptr<Service> service(new Service(pipeline, std::move(options)));
  if (auto done = service->set_up(); !done) return std::unexpected(done.error());
  return service;
}

Result<> Service::set_up() {
  if (auto made = create_directories_durably(options_.data); !made) {
    return error(made.error().code, fmt::format("cannot make the data directory: {}", made.error().message));
  }
  ::chmod(options_.data.c_str(), 0700);
  auto lock = take_lock(options_.data);
  if (!lock) return std::unexpected(lock.error());
  lock_fd_ = *lock;

  auto secret = private_key(options_.data);
  if (!secret) return std::unexpected(secret.error());
  std::string identity =
      fmt::format("{}\n{}\n{}", pipeline_.name, fmt::join(options_.sources, " "), fmt::join(options_.warm_up, " "));
  if (reads_label_file(pipeline_)) identity += "\n" + pipeline_.labels.from;
  auto journal = Journal::open(options_.data + "/journal", identity, wall_clock_ms());
  if (!journal) return std::unexpected(journal.error());
  journal_ = std::move(*journal);
  auto dead_letters = ingest::DeadLetters::open(options_.data + "/dead_letters.ndjson", options_.dead_letter_bytes_max);
  if (!dead_letters) return std::unexpected(dead_letters.error());
  dead_letters_ = std::move(*dead_letters);

  for (auto& route : pipeline_.routes) {
    if (route.kind != alert::RouteSpec::Kind::kFile) continue;
    if (route.path.empty()) route.path = "alerts.ndjson";
    if (!std::filesystem::path(route.path).is_absolute()) route.path = options_.data + "/" + route.path;
  }
  auto ledger =
      alert::Ledger::open({options_.data + "/ledger.db", pipeline_.name, pipeline_.routes, options_.keep_due});
  if (!ledger) return std::unexpected(ledger.error());
  ledger_ = std::move(*ledger);
  alert::Deliverer::Options delivery;
  delivery.on_accepted = options_.on_accepted;
  auto deliverer = alert::Deliverer::start(*ledger_, pipeline_.routes, delivery);
  if (!deliverer) return std::unexpected(deliverer.error());
  deliverer_ = std::move(*deliverer);
  ingest::OpenOptions how;
  how.data_directory = options_.data;
  how.opened_ms = journal_->opened_ms();
  how.stopping = &stopping_;
  if (!options_.warm_up.empty()) {
    auto source = open_sources(options_.warm_up, pipeline_.events, how);
    if (!source) return std::unexpected(source.error());
    warm_up_ = std::move(*source);
  }
  how.follow = options_.follow;
  auto source = open_sources(options_.sources, pipeline_.events, how);
  if (!source) return std::unexpected(source.error());
  source_ = std::move(*source);
  auto labels = open_labels(pipeline_, options_.follow, journal_->opened_ms());
  if (!labels) return std::unexpected(labels.error());
  labels_ = std::move(*labels);
  Runner::Options run;
  run.labels = labels_.get();
  run.workers = options_.workers;
  run.speed = options_.speed;
  run.live = options_.live;
  secret_ = *secret;
  run.secret = secret_;
  run.served_entities_max = options_.served_entities_max;
  run.dead_letters = dead_letters_.get();
  run.journal = journal_.get();
  run.ledger = ledger_.get();
  run.on_commit = [this] { deliverer_->wake(); };
  run.on_batch = options_.on_batch;
  run.on_batch_time = options_.on_batch_time;
  run.on_problem = options_.on_problem;
  if (options_.checkpoint_every_ms > 0) {
    run.checkpoints = options_.data + "/checkpoints";
    run.checkpoint_every_ms = options_.checkpoint_every_ms;
    run.state_bytes_max = options_.state_bytes_max;
  }
  auto runner = Runner::create(pipeline_, std::move(run));
  if (!runner) return std::unexpected(runner.error());
  runner_ = std::move(*runner);
  if (auto restored = runner_->restore(); !restored) return restored;
  if (options_.on_notice) {
    for (const std::string& note : runner_->restore_notes()) options_.on_notice(note);
  }
  // Every store has its file or folder by now. Their names become durable before anything is read, so that what they
  // sync can be found.
  return sync_directory(options_.data);
}

void Service::start() {
  thread_ = std::thread([this] {
    outcome_ = warm_up_ && !runner_->warmed_up() ? runner_->warm_up(*warm_up_) : Result<>{};
    warmed_up_.store(true, std::memory_order_release);
    if (outcome_) outcome_ = runner_->run(*source_);
    if (auto synced = journal_->sync(); !synced && outcome_) outcome_ = synced;
    finished_.store(true, std::memory_order_release);
  });
}

std::string Service::private_text(std::string_view value) const {
  std::string text(contract::kPrivateTextBytes, '\0');
  contract::write_private_text(secret_, value, text.data());
  return text;
}

Result<> Service::wait() {
  if (thread_.joinable()) thread_.join();
  deliverer_->stop(options_.stop_patience_ms);
  return outcome_;
}

void Service::stop() {
  stopping_.store(true);
  runner_->stop();
}

Service::~Service() {
  if (thread_.joinable()) {
    stop();
    thread_.join();
  }
  runner_.reset();
  deliverer_.reset();
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

}  // namespace alcedo::pipeline

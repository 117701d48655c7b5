// The seeded world: real Engines over a MemoryRedis, real WorkerCores with a scripted runtime,
// producers, and a network between them, driven by one queue of events. Everything that may differ
// between two runs comes from the seed. README.md tells what may happen in it.
//
//   run()  =  a phase with faults, then a phase without in which everything accepted must end
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <queue>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/engine.h"
#include "broker/store/memory_store.h"
#include "common/time.h"
#include "tests/sim/coverage.h"
#include "tests/sim/ledger.h"
#include "tests/sim/pool.h"
#include "tests/sim/rng.h"
#include "worker/core/worker_core.h"

namespace sluice::sim {

// Whether Redis loses data and clocks jump.
enum class DataLoss : std::uint8_t {
  never,
  drawn,  // in about a quarter of the seeds
  always,
};

struct RunOptions {
  std::uint64_t seed = 1;
  std::uint64_t events = 5000;
  bool verbose = false;
  DataLoss data_loss = DataLoss::never;
  // In half of the seeds nodes have isolates, and in half of them task tables are read again; with
  // plain nodes in none, as it was when some of them failed.
  bool has_plain_nodes = false;
};

class World {
 public:
  World(RunOptions options, Coverage& coverage);
  // Throws Violation.
  void run();

  // The same seed gives the same value.
  [[nodiscard]] std::uint64_t hash() const { return hash_; }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  enum class What : std::uint8_t {
    deliver,         // a: parcel
    broker_turn,     // a: broker
    node_turn,       // a: node
    store_execute,   // a: broker, b: of which connection
    attempt_done,    // a: node, b: number of the run
    checkpoint,      // a: node, b: number of the run
    spawner_dies,    // a: node
    producer_acts,   // a: producer
    producer_again,  // a: producer, b: number of the ask: unanswered for so long
    conn_noticed,    // a: connection: its client sees that it is gone
    connect,         // a: client
    broker_starts,
    node_starts,       // a: machine
    node_reads_tasks,  // a: node
    fault,
    redis_back,
    redis_rolls_back,
    broker_dies,  // a: broker
    refusing_ends,
  };

  struct Event {
    std::int64_t at = 0;
    std::uint64_t sequence = 0;
    What what = What::fault;
    std::uint32_t a = 0;
    std::uint64_t b = 0;

    bool operator<(const Event& other) const {  // for a queue with the earliest on top
      return at != other.at ? at > other.at : sequence > other.sequence;
    }
  };

  struct Parcel {
    std::uint32_t conn = 0;
    bool is_to_broker = false;
    std::string bytes;
  };

  // A connection of a client (a node's life or a producer) to one broker process.
  struct Conn {
    std::uint32_t client = 0;
    std::uint32_t broker = 0;
    bool is_open = true;  // bytes still arrive
    std::int64_t last_to_broker_ms = 0;
    std::int64_t last_to_client_ms = 0;
    std::int64_t mute_to_broker_until_ms = 0;
    std::int64_t mute_to_client_until_ms = 0;
    std::int64_t slow_until_ms = 0;
  };

  struct BrokerProcess {
    std::string owner;
    std::unique_ptr<MemoryStore> store;
    std::unique_ptr<Engine> engine;
    std::optional<SlewedClock> clock;
    std::int64_t started_ms = 0;
    bool is_alive = true;
    bool is_stopping = false;
    bool dies_inside = false;  // in its next turn
    std::int64_t stopped_until_ms = 0;
    std::int64_t asleep_since_ms = kNever;  // when it should have turned and could not
    std::int64_t planned_ms = kNever;
    std::int64_t last_turn_ms = -1;
    std::int64_t clock_behind_ms = 0;  // the system's wall clock, which its own follows slowly
    std::int64_t store_free_ms = 0;    // when Redis is through with what was sent
    std::uint64_t connection = 0;      // counts connects to Redis
    std::vector<Parcel> inbox;
    std::uint64_t dispatched = 0;  // when priority_order was last looked at
    std::uint64_t replayed = 0;
    std::uint64_t confirmed = 0, epoch = 0;  // when memory_bounded was last looked at
  };

  struct Admission {
    std::uint64_t accepted = 0;
    std::uint64_t bytes = 0;
  };

  struct Attempt {
    AttemptKey key;
    std::string result_text;
    bool is_over = false;
    bool is_waiting = false;  // for an isolate
    std::size_t pool = 0;     // its node's, in which it is until its end
    std::int64_t begun_ms = 0;
    bool ends_isolate = false;  // which crashes, or leaves
    bool hangs = false;
    bool is_stubborn = false;  // ends as it wanted although it was stopped
    std::optional<StopReason> stopped;
    std::int64_t takes_ms = 0;
    std::uint64_t saved_n = 0;  // checkpoints told so far
    AttemptResult planned;
  };

  // What a status said of its node.
  struct Offer {
    std::vector<std::string> tasks;
    std::vector<IsolateFigures> isolates;
  };

  struct NodeLife {
    std::uint32_t machine = 0;
    std::string id;
    std::vector<std::string> tasks;  // as its table says now
    std::unique_ptr<WorkerCore> core;
    bool is_alive = true;
    std::uint32_t conn = kNone;
    std::int64_t stopped_until_ms = 0;
    std::int64_t planned_ms = kNever;
    std::vector<WorkerEvent> inbox;
    std::deque<Attempt> attempts;
    std::uint32_t process_count = 0;
    std::vector<Pool> pools;    // of each table that it read; the newest is the last
    std::vector<Offer> offers;  // by its statuses
  };

  struct Machine {
    std::string name;
    std::uint32_t concurrency = 1;
    std::vector<std::string> tasks;
    std::vector<std::string> queues;
    std::uint32_t node = kNone;  // its newest life
    std::uint32_t lives = 0;
  };

  // Something that a producer wants, asked until it is answered.
  struct Ask {
    RequestBody body;
    std::vector<std::uint64_t> reqs;
    bool is_done = false;
    std::int64_t again_ms = 0;  // when it is asked again
  };

  struct Producer {
    std::uint32_t conn = kNone;
    std::deque<Ask> asks;
    std::size_t first_open = 0;
  };

  struct Asked {
    std::uint32_t producer = 0;
    std::size_t ask = 0;
    std::uint32_t conn = 0;
    Request request;
    bool is_closed = false;
  };

  // world.cpp
  void setup();
  void at(std::int64_t at_ms, What what, std::uint32_t a = 0, std::uint64_t b = 0);
  void step();
  void handle(const Event& event);
  void fault_phase();
  void heal();
  void quiet_phase();
  [[nodiscard]] const char* unrest();
  [[nodiscard]] bool waits_beyond_the_run(const Ask& ask) const;
  void trace_stuck();
  void audit();
  void final_audit();
  void mix(std::string_view bytes);
  void print_trace(const std::string& line) const;

  // With --verbose: one line, put together from texts and numbers only then.
  template <typename... Parts>
  void trace(const Parts&... parts) const {
    if (!options_.verbose) return;
    std::ostringstream line;
    (line << ... << parts);
    print_trace(line.str());
  }

  [[nodiscard]] std::int64_t system_wall_ms() const { return wall_base_ms_ + now_ms_; }

  // By which jobs become due.
  [[nodiscard]] std::int64_t broker_wall_ms() const {
    const std::uint32_t newest = listening();
    return system_wall_ms() - (newest == kNone ? 0 : brokers_[newest].clock_behind_ms);
  }

  // world_network.cpp
  void connect(std::uint32_t client);
  void send(std::uint32_t conn, bool is_to_broker, std::string bytes);
  void deliver(std::uint32_t parcel);
  void close(std::uint32_t conn, std::int64_t noticed_after_ms);
  void noticed(std::uint32_t conn);
  [[nodiscard]] std::uint32_t& conn_of(std::uint32_t client);
  [[nodiscard]] bool is_client_alive(std::uint32_t client) const;

  [[nodiscard]] static bool is_node(std::uint32_t client) { return client >= kNodeClients; }

  // world_brokers.cpp
  void start_broker();
  void broker_turn(std::uint32_t index);
  void plan_broker(std::uint32_t index, std::int64_t at_ms);
  void kill_broker(std::uint32_t index, bool leaves_orphans);
  void ask_store(std::uint32_t index, StoreRequest request);
  void execute(std::uint32_t index, std::uint64_t connection);
  void see_commits(const StoreMeta& before, bool is_taker_alive);
  void see_owner(const StoreMeta& before, bool is_taker_alive);
  void disconnect_store(std::uint32_t index, std::int64_t back_after_ms);
  void connect_stores();
  void speak(std::uint32_t index, const Frame& frame);
  void check_dealt(BrokerProcess& broker, Now now);
  void see_facts(BrokerProcess& broker, std::uint32_t index);
  void check_recovery(const BrokerProcess& broker) const;
  void check_memory(const BrokerProcess& broker) const;
  void trace_batch(std::uint64_t n, const DecodedEntry& entry) const;
  void see_rewrite(const BrokerProcess& broker);
  void redis_lost_data(const Ledger::Truth& older, std::uint64_t older_last);
  [[nodiscard]] std::uint32_t listening() const;

  // world_bounds.cpp
  void draw_memory();
  [[nodiscard]] static Admission admission(const BrokerProcess& broker);
  void check_admission(const BrokerProcess& broker, const Admission& before) const;
  void check_bounds(BrokerProcess& broker, Now now) const;
  void check_rest_is_small() const;

  // world_nodes.cpp
  void start_node(std::uint32_t machine);
  void node_event(std::uint32_t node, WorkerEvent event);
  void plan_node(std::uint32_t node, std::int64_t at_ms);
  void node_turn(std::uint32_t node);
  void node_sends(NodeLife& life, WorkerMessage& message);
  void kill_node(std::uint32_t node);

  // world_tasks.cpp
  void plan_reading(std::uint32_t node);
  void node_reads_tasks(std::uint32_t node);
  [[nodiscard]] std::vector<std::string> draw_tasks(const NodeLife& life);
  void see_hand_backs(const NodeLife& life, const Results& results);
  void check_offered(const NodeLife& life, const RunJob& job) const;
  void add_figures(NodeLife& life, Status& status);
  void check_nodes(const BrokerProcess& broker) const;
  void said_workers(const WorkersInfo& said) const;

  // world_runtime.cpp
  [[nodiscard]] Pool draw_pool(const Machine& machine, Rng& rng) const;
  void start_attempt(std::uint32_t node, Assignment assignment);
  void begin_attempt(std::uint32_t node, std::uint64_t number);
  void stop_attempt(NodeLife& life, std::uint32_t node, const AttemptStop& stop);
  void attempt_done(std::uint32_t node, std::uint64_t number);
  void spawner_dies(std::uint32_t node);
  void checkpoint(std::uint32_t node, std::uint64_t number);
  void checkpoint_answered(std::uint32_t node, const CheckpointAnswer& answer);

  // world_producers.cpp
  void producer_acts(std::uint32_t producer);
  [[nodiscard]] RequestBody draw_request(std::uint32_t producer);
  [[nodiscard]] JobSpec draw_job();
  [[nodiscard]] JobId draw_id();
  void ask(std::uint32_t producer, std::size_t number);
  void plan_again(std::uint32_t producer, std::size_t number, std::int64_t delay_ms);
  void ask_again(std::uint32_t producer, std::uint64_t number);
  void answered(std::uint32_t producer, const std::string& bytes);
  void want(std::uint32_t producer, RequestBody body);

  // world_faults.cpp
  void draw_faults();
  void fault();
  void do_fault(Fault fault);
  void network_fault(Fault fault);
  void broker_fault(Fault fault);
  void worker_fault(Fault fault);
  void redis_fault(Fault fault);
  [[nodiscard]] std::uint32_t any_broker();
  [[nodiscard]] std::uint32_t any_node();
  [[nodiscard]] std::uint32_t any_conn();

  static constexpr std::uint32_t kNodeClients = 1000;  // clients below are producers

  RunOptions options_;
  Coverage& coverage_;
  Rng rng_;
  Rng script_rng_;  // of the runtimes alone: what they draw changes nothing else
  Rng tasks_rng_;   // of the task tables alone
  std::shared_ptr<MemoryRedis> redis_ = std::make_shared<MemoryRedis>();
  Ledger ledger_;
  std::int64_t now_ms_ = 1000;
  std::int64_t wall_base_ms_ = 1'800'000'000'000;
  bool has_clock_jumped_ = false;
  bool has_lost_data_ = false;
  bool is_healed_ = false;
  std::uint64_t events_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint64_t hash_ = 1469598103934665603ULL;
  std::priority_queue<Event> queue_;
  std::vector<Parcel> parcels_;
  std::vector<std::uint32_t> free_parcels_;

  bool is_redis_up_ = true;
  std::int64_t redis_slow_until_ms_ = 0;
  std::string refusing_;
  std::optional<MemoryRedis> older_redis_;  // taken when a roll-back was decided
  Ledger::Truth older_truth_;
  std::uint32_t risk_owner_ = kNone;  // who can put back what Redis lost

  std::deque<BrokerProcess> brokers_;
  bool is_start_planned_ = false;
  std::vector<Machine> machines_;
  std::deque<NodeLife> nodes_;
  std::unordered_map<std::string, std::uint32_t> node_of_;  // by its id
  std::vector<Producer> producers_;
  std::deque<Conn> conns_;
  std::unordered_map<std::uint64_t, Asked> asked_;  // by req
  std::uint64_t next_req_ = 1;
  std::vector<JobSpec> specs_;
  std::unordered_map<JobId, std::size_t> spec_of_;

  EngineConfig config_;
  std::vector<Fault> faults_;
  std::int64_t fault_every_ms_ = 1000;
  std::int64_t act_every_ms_ = 200;
  std::int64_t delay_ms_ = 3;
  double silent_loss_ = 0;
  double reply_loss_ = 0;
  bool deletes_ = false;
  bool loses_data_ = false;
  bool has_isolates_ = false;
  bool reads_tasks_ = false;    // more than once
  std::size_t live_max_ = 100;  // jobs that have not ended; then producers wait
};

}  // namespace sluice::sim

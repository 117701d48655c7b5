// The network: connections that keep the order of what they carry, take time, and end.
#include <algorithm>

#include "common/protocol/codec.h"
#include "tests/sim/world.h"

namespace sluice::sim {

std::uint32_t& World::conn_of(std::uint32_t client) {
  return is_node(client) ? nodes_[client - kNodeClients].conn : producers_[client].conn;
}

bool World::is_client_alive(std::uint32_t client) const {
  return !is_node(client) || nodes_[client - kNodeClients].is_alive;
}

void World::connect(std::uint32_t client) {
  if (!is_client_alive(client) || conn_of(client) != kNone) return;
  const std::uint32_t broker = listening();
  if (broker == kNone || brokers_[broker].stopped_until_ms > now_ms_)
    return at(now_ms_ + rng_.range(100, 2000), What::connect, client);
  const auto index = static_cast<std::uint32_t>(conns_.size());
  conns_.push_back({.client = client, .broker = broker});
  conn_of(client) = index;
  trace("connection ", index, " of client ", client, " to broker ", broker);
  if (is_node(client)) return node_event(client - kNodeClients, ConnectionUp{});
  Producer& producer = producers_[client];
  for (std::size_t i = producer.first_open; i < producer.asks.size(); ++i)
    if (!producer.asks[i].is_done) ask(client, i);
}

void World::send(std::uint32_t conn_index, bool is_to_broker, std::string bytes) {
  Conn& conn = conns_[conn_index];
  const std::int64_t mute_ms =
      is_to_broker ? conn.mute_to_broker_until_ms : conn.mute_to_client_until_ms;
  if (!conn.is_open || mute_ms > now_ms_) return;
  if (rng_.chance(silent_loss_)) return coverage_.hit(Fault::silent_loss);
  std::int64_t& last = is_to_broker ? conn.last_to_broker_ms : conn.last_to_client_ms;
  std::int64_t delay = rng_.range(0, delay_ms_);
  if (conn.slow_until_ms > now_ms_) delay += rng_.range(200, 5000);
  last = std::max(last, now_ms_ + delay);
  std::uint32_t slot = 0;
  if (free_parcels_.empty()) {
    slot = static_cast<std::uint32_t>(parcels_.size());
    parcels_.emplace_back();
  } else {
    slot = free_parcels_.back();
    free_parcels_.pop_back();
  }
  parcels_[slot] = {conn_index, is_to_broker, std::move(bytes)};
  at(last, What::deliver, slot);
}

void World::deliver(std::uint32_t slot) {
  Parcel parcel = std::move(parcels_[slot]);
  free_parcels_.push_back(slot);
  const Conn& conn = conns_[parcel.conn];
  if (!conn.is_open) return;
  ++events_;
  mix(parcel.bytes);
  if (parcel.is_to_broker) {
    BrokerProcess& broker = brokers_[conn.broker];
    if (!broker.is_alive) return;
    broker.inbox.push_back(std::move(parcel));
    return plan_broker(conn.broker, now_ms_);
  }
  if (!is_client_alive(conn.client) || conn_of(conn.client) != parcel.conn) return;
  if (!is_node(conn.client)) return answered(conn.client, parcel.bytes);
  auto message = decode_broker_message(parcel.bytes);
  REQUIRE(message.has_value(), "every_request_answered", "a message that does not decode");
  node_event(conn.client - kNodeClients, std::move(*message));
}

// Everything in flight is gone in both directions; the client sees it a little later.
void World::close(std::uint32_t index, std::int64_t noticed_after_ms) {
  Conn& conn = conns_[index];
  if (!conn.is_open) return;
  conn.is_open = false;
  if (is_client_alive(conn.client)) at(now_ms_ + noticed_after_ms, What::conn_noticed, index);
}

void World::noticed(std::uint32_t index) {
  const std::uint32_t client = conns_[index].client;
  if (!is_client_alive(client) || conn_of(client) != index) return;
  conn_of(client) = kNone;
  if (is_node(client)) node_event(client - kNodeClients, ConnectionDown{});
  at(now_ms_ + rng_.about(200), What::connect, client);
}

}  // namespace sluice::sim

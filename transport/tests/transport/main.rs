//! Nodes on loopback with real UDP, QUIC and TLS. Tests wait for events, never for a while.

mod cluster;

mod calls;
mod certificates;
mod frames;
mod hostile;
mod log;
mod refused;
mod silence;
mod wan;

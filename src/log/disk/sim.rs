//! The simulator's disk.

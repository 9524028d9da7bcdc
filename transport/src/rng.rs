//! A small random source whose seed is an argument: jitter and impairment, nothing secret.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::hash::{BuildHasher, Hash, Hasher};

/// Where seeds come from: the system, or, simulated, one seed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seed(Option<u64>);

impl Seed {
    pub(crate) fn of(seed: u64) -> Seed {
        Seed(Some(seed))
    }

    /// One that differs by what it is for.
    pub(crate) fn draw(self, what: impl Hash) -> u64 {
        match self.0 {
            None => RandomState::new().hash_one(what),
            Some(seed) => {
                let mut hasher = DefaultHasher::new();
                (seed, what).hash(&mut hasher);
                hasher.finish()
            }
        }
    }

    /// For what QUIC draws; `None`: by itself.
    pub(crate) fn of_endpoint(self) -> Option<[u8; 32]> {
        self.0?;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.draw("endpoint").to_le_bytes());
        Some(seed)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Near enough to a standard normal: the sum of twelve uniforms, less its mean.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

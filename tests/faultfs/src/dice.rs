//! What survives a power cut beyond what was synced, by a seed.

/// How much of what was not synced survives.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Nothing,
    /// Changes up to a random one: a device that writes back in order.
    Beginning,
    /// Any of them, so many in 8.
    Some(u64),
}

#[derive(Debug)]
pub struct Dice {
    state: u64,
    is_kind: bool,
    mode: Mode,
}

impl Dice {
    /// Seed 0 spares nothing that was not synced.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, is_kind: seed != 0, mode: Mode::Nothing }
    }

    /// For one file, or for the names: with a mode of its own.
    pub fn for_another(&mut self) -> &mut Self {
        if self.is_kind {
            self.mode = match self.below(3) {
                0 => Mode::Nothing,
                1 => Mode::Beginning,
                _ => Mode::Some(1 + self.below(7)),
            };
        }
        self
    }

    pub fn survives(&mut self) -> bool {
        match self.mode {
            Mode::Nothing => false,
            Mode::Beginning => {
                if self.below(4) == 0 {
                    self.mode = Mode::Nothing;
                }
                matches!(self.mode, Mode::Beginning)
            }
            Mode::Some(eighths) => self.below(8) < eighths,
        }
    }

    /// SplitMix64 (Steele, Lea, Flood, OOPSLA '14): repeats for a seed, and needs no crate.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

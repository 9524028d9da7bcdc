//! Where sampled messages take their values from: splitmix64, so that a seed is a message.

pub struct Source(pub u64);

impl Source {
    pub fn integer(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.integer() % end
    }

    /// Empty to two hundred bytes: compact lengths of one and of two bytes.
    pub fn string(&mut self) -> String {
        let length = [0, 3, 7, 200][self.below(4) as usize];
        (0..length).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

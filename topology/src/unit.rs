//! Durations, bandwidths and sizes as people write them: a whole number and a unit, nothing else.
//!
//! No fractions and no bare numbers: `"90"` would mean milliseconds to one reader and seconds to
//! another.

use std::fmt;
use std::time::Duration;

/// What the text should have been. The caller knows the key and the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?}: expected {expected}")]
pub struct Error {
    pub found: String,
    pub expected: &'static str,
}

pub const DURATION_EXPECTED: &str =
    "a whole number and one of us, ms, s, m, h, as in \"90ms\" (at most 365 days)";
pub const BANDWIDTH_EXPECTED: &str =
    "a whole number and one of kbit, Mbit, Gbit (a second, powers of 1000), as in \"1Gbit\"";
pub const BYTES_EXPECTED: &str = "a whole number and one of B, KiB, MiB, GiB, as in \"64MiB\"";

/// No setting of ours is meant to be longer; and sums of two cannot overflow.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Bits a second, as links are sold: powers of 1000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(into = "String")]
pub struct Bandwidth(u64);

impl Bandwidth {
    /// At least one bit a second: a link of none is a cut link, and not declared.
    pub fn from_bits_per_second(bits: u64) -> Option<Self> {
        (bits > 0).then_some(Self(bits))
    }

    pub fn bits_per_second(self) -> u64 {
        self.0
    }

    pub fn bytes_per_second(self) -> u64 {
        self.0 / 8
    }

    /// Bandwidth × round trip: the bytes in flight that keep the link busy.
    pub fn delay_product(self, rtt: Duration) -> u64 {
        let bytes = u128::from(self.bytes_per_second()) * rtt.as_micros() / 1_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl std::str::FromStr for Bandwidth {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const UNITS: &[(&str, u64)] =
            &[("kbit", 1_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)];
        let refused = || Error { found: text.to_owned(), expected: BANDWIDTH_EXPECTED };
        scaled(text, UNITS).and_then(Self::from_bits_per_second).ok_or_else(refused)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits % 1_000_000_000 == 0 => write!(f, "{}Gbit", bits / 1_000_000_000),
            bits if bits % 1_000_000 == 0 => write!(f, "{}Mbit", bits / 1_000_000),
            bits if bits % 1_000 == 0 => write!(f, "{}kbit", bits / 1_000),
            bits => write!(f, "{bits}bit"),
        }
    }
}

impl fmt::Debug for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Bandwidth> for String {
    fn from(bandwidth: Bandwidth) -> String {
        bandwidth.to_string()
    }
}

/// `"90ms"` → 90 milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, Error> {
    const UNITS: &[(&str, u64)] =
        &[("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
    scaled(text, UNITS)
        .map(Duration::from_micros)
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| Error { found: text.to_owned(), expected: DURATION_EXPECTED })
}

/// `"64MiB"` → 67108864.
pub fn parse_bytes(text: &str) -> Result<u64, Error> {
    const UNITS: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    scaled(text, UNITS).ok_or_else(|| Error { found: text.to_owned(), expected: BYTES_EXPECTED })
}

/// The shortest spelling that [`parse_duration`] reads back to the same value (to the microsecond).
pub fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    const UNITS: &[(&str, u128)] =
        &[("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)];
    for (unit, scale) in UNITS {
        if micros > 0 && micros.is_multiple_of(*scale) {
            return format!("{}{unit}", micros / scale);
        }
    }
    if micros == 0 { "0s".to_owned() } else { format!("{micros}us") }
}

/// The same for [`parse_bytes`].
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: &[(&str, u64)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fits = UNITS.iter().find(|(_, scale)| bytes > 0 && bytes.is_multiple_of(*scale));
    fits.map_or_else(|| format!("{bytes}B"), |(unit, scale)| format!("{}{unit}", bytes / scale))
}

/// As text, for people's JSON.
pub(crate) fn serialize_duration<S: serde::Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&show_duration(*duration))
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_and_a_unit_and_nothing_else() {
        assert_eq!(parse_duration("90ms").unwrap(), Duration::from_millis(90));
        assert_eq!(parse_duration("2h").unwrap(), Duration::from_secs(7200));
        assert_eq!("1Gbit".parse::<Bandwidth>().unwrap().bytes_per_second(), 125_000_000);
        assert_eq!(parse_bytes("64MiB").unwrap(), 64 << 20);
        for bad in
            ["", "90", "ms", "90 ms", "-1s", "1.5s", "90Ms", "90msx", "99999999999999999999s"]
        {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        assert!(parse_duration("8761h").is_err(), "longer than a year");
        for bad in ["1G", "0Gbit", "1gbit", "100 Mbit", "1Gbit/s", "99999999999999Gbit"] {
            assert!(bad.parse::<Bandwidth>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_gigabit_across_90_ms_holds_11_megabytes() {
        let gigabit: Bandwidth = "1Gbit".parse().unwrap();
        assert_eq!(gigabit.delay_product(Duration::from_millis(90)), 11_250_000);
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(micros in 0u64..=DURATION_MAX.as_micros() as u64) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse_duration(&show_duration(duration)).unwrap(), duration);
        }

        #[test]
        fn a_size_that_is_shown_reads_back(number in 0u64..1 << 20, shift in 0u32..40) {
            let bytes = number << shift;
            prop_assert_eq!(parse_bytes(&show_bytes(bytes)).unwrap(), bytes);
        }
    }
}

//! What the topology says about a path, as QUIC's settings.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{IdleTimeout, TransportConfig, VarInt};

use crate::congestion::PathBbrConfig;
use crate::limits::{CONTROL_KEEP_ALIVE, CONTROL_SILENCE_MAX, KEEP_ALIVE, SILENCE_MAX};
use crate::{Lane, LinkTuning};

/// quinn's default stream window: 100 ms at 12.5 MB/s. No path gets less.
const WINDOW_BYTES_MIN: u64 = 1_250_000;

/// A window is memory that a stalled peer can pin, per connection. 1 Gbit/s at 500 ms fits.
const WINDOW_BYTES_MAX: u64 = 96 << 20;

/// The least that quinn takes for the first round trip. A path inside a DC is faster, but a busy machine
/// answers late, and retransmitted handshakes make that worse.
const INITIAL_RTT_MIN: Duration = Duration::from_millis(20);

/// Of a connection that this node dials. It opens all streams, so it accepts none.
pub(crate) fn dialled(link: &LinkTuning, lane: Lane) -> TransportConfig {
    let (silence_max, keep_alive) = match lane {
        Lane::Control => (CONTROL_SILENCE_MAX, CONTROL_KEEP_ALIVE),
        Lane::Replication | Lane::Rpc | Lane::Bulk => (SILENCE_MAX, KEEP_ALIVE),
    };
    let mut config = of_link(link, silence_max);
    config.keep_alive_interval(Some(keep_alive));
    config.max_concurrent_bidi_streams(VarInt::from_u32(0));
    config.max_concurrent_uni_streams(VarInt::from_u32(0));
    config
}

/// Of a connection that a peer dials. The lane is not known yet: one stream for the hello, which then
/// allows more. The shorter of both ends' silence limits holds.
pub(crate) fn accepted(link: &LinkTuning) -> TransportConfig {
    let mut config = of_link(link, SILENCE_MAX);
    config.max_concurrent_bidi_streams(VarInt::from_u32(1));
    config.max_concurrent_uni_streams(VarInt::from_u32(0));
    config
}

fn of_link(link: &LinkTuning, silence_max: Duration) -> TransportConfig {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(silence_max).expect("a few seconds fit a varint");
    config.max_idle_timeout(Some(idle));
    config.initial_rtt(link.rtt.mul_f64(1.25).max(INITIAL_RTT_MIN));
    config.datagram_receive_buffer_size(None);
    if link.same_dc {
        config.congestion_controller_factory(Arc::new(CubicConfig::default()));
        return config;
    }
    config.congestion_controller_factory(Arc::new(PathBbrConfig::default()));
    let window = window_bytes(link);
    let varint = VarInt::from_u64(window).expect("the window's maximum fits a varint");
    config.send_window(window).receive_window(varint).stream_receive_window(varint);
    config
}

/// 1.5 × bandwidth × round trip. Measured at 100 ms and 30 MB/s: line rate without loss; larger windows
/// lost a third of all packets.
fn window_bytes(link: &LinkTuning) -> u64 {
    let bdp = link.bandwidth_bytes_per_second as f64 * link.rtt.as_secs_f64();
    ((bdp * 1.5) as u64).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
}

/// For an address that belongs to no known peer: what the most demanding path needs.
pub(crate) fn widest<'a>(links: impl Iterator<Item = &'a LinkTuning>) -> LinkTuning {
    let demand = |link: &LinkTuning| (!link.same_dc, window_bytes(link));
    links.max_by_key(|link| demand(link)).cloned().unwrap_or_else(LinkTuning::local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compression;

    #[test]
    fn windows_follow_bandwidth_and_round_trip_within_bounds() {
        let wan = |ms, bytes| {
            window_bytes(&LinkTuning::wan(Duration::from_millis(ms), bytes, Compression::None))
        };
        assert_eq!(wan(100, 30_000_000), 4_500_000);
        assert_eq!(wan(1, 1_000_000), WINDOW_BYTES_MIN);
        assert_eq!(wan(2000, 10_000_000_000), WINDOW_BYTES_MAX);
    }

    #[test]
    fn an_unknown_address_gets_the_widest_path() {
        let wan = LinkTuning::wan(Duration::from_millis(90), 125_000_000, Compression::Zstd);
        assert_eq!(widest([LinkTuning::local(), wan.clone()].iter()), wan);
        assert_eq!(widest([].iter()), LinkTuning::local());
    }
}

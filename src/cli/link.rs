//! `isobar link`: the paths between DCs, and the WAN of a dev cluster.

use std::fmt::Write as _;

use isobar_topology::unit;

use super::client::Target;
use super::cluster::show;
use super::output::{self, Table, or_dash};
use crate::admin::api::{self, LinkChange};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Every link: declared, measured and, in a dev cluster, as it is shaped
    Show(Target),
    /// Change what a dev cluster's link is like; what is not given stays
    Set(Set),
    /// Let nothing pass a dev cluster's link
    Cut(Cut),
    /// End a cut; delay, jitter, loss and rate stay
    Heal(Heal),
}

#[derive(Debug, clap::Args)]
#[group(id = "shape", required = true, multiple = true, args = ["rtt", "jitter", "loss", "rate"])]
pub struct Set {
    #[command(flatten)]
    ends: Ends,
    /// There and back, as in 90ms
    #[arg(long, value_parser = duration)]
    rtt: Option<f64>,
    /// Standard deviation of the delay each way, as in 5ms
    #[arg(long, value_parser = duration)]
    jitter: Option<f64>,
    /// Of packets each way, as in 1% or 0.5%
    #[arg(long, value_parser = percentage)]
    loss: Option<f64>,
    /// Each way, as in 100mbit; 0 lifts the limit
    #[arg(long, value_parser = rate)]
    rate: Option<u64>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub struct Cut {
    #[command(flatten)]
    ends: Ends,
    /// Only what goes from A to B
    #[arg(long)]
    one_way: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub struct Heal {
    #[command(flatten)]
    ends: Ends,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
struct Ends {
    /// A DC
    a: String,
    /// Another
    b: String,
}

/// In seconds.
fn duration(text: &str) -> Result<f64, unit::Error> {
    unit::parse_duration(text).map(|duration| duration.as_secs_f64())
}

/// `1%` → 0.01.
fn percentage(text: &str) -> Result<f64, String> {
    let expected = || format!("{text:?}: expected 0% to 100%, as in \"1%\" or \"0.5%\"");
    let number = text.strip_suffix('%').ok_or_else(expected)?;
    if !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(expected());
    }
    let percent: f64 = number.parse().map_err(|_| expected())?;
    if percent > 100.0 { Err(expected()) } else { Ok(percent / 100.0) }
}

/// Bits a second. In any case of letters, because `tc` writes `mbit` and the topology `Mbit`.
fn rate(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    let lower = text.to_ascii_lowercase();
    let spelled = lower.replace("mbit", "Mbit").replace("gbit", "Gbit");
    let expected = || format!("{text:?}: expected {}; or 0 for no limit", unit::BANDWIDTH_EXPECTED);
    spelled.parse::<unit::Bandwidth>().map(unit::Bandwidth::bits_per_second).map_err(|_| expected())
}

pub fn run(command: Command) -> anyhow::Result<()> {
    let (target, change) = match command {
        Command::Show(target) => return show(&target, &target.fetch("/v1/links")?, links),
        Command::Set(Set { ends: Ends { a, b }, rtt, jitter, loss, rate, target }) => {
            let change = LinkChange::Set {
                a,
                b,
                rtt_seconds: rtt,
                jitter_seconds: jitter,
                loss,
                rate_bits_per_second: rate,
            };
            (target, change)
        }
        Command::Cut(Cut { ends: Ends { a, b }, one_way, target }) => {
            (target, LinkChange::Cut { a, b, one_way })
        }
        Command::Heal(Heal { ends: Ends { a, b }, target }) => (target, LinkChange::Heal { a, b }),
    };
    show(&target, &target.change("/v1/links", &change)?, links)
}

fn links(links: &api::Links) -> String {
    let mut out = String::new();
    if links.wan {
        let mut table =
            Table::new(["LINK", "DECLARED", "MEASURED", "RTT", "JITTER", "LOSS", "RATE", "STATE"]);
        for link in &links.links {
            let [there, back] = link.shape.as_ref().expect("a dev cluster's link has a shape");
            table.row([
                format!("{} - {}", link.between.0, link.between.1),
                output::seconds(link.declared_rtt_seconds),
                or_dash(link.measured_rtt_seconds.map(output::seconds)),
                output::seconds(there.delay_seconds + back.delay_seconds),
                both(there, back, |way| output::seconds(way.jitter_seconds)),
                both(there, back, |way| format!("{}%", output::decimal(way.loss * 100.0, 3))),
                both(there, back, |way| bandwidth(way.rate_bits_per_second)),
                state(there, back),
            ]);
        }
        out.push_str(&table.render());
    } else {
        let mut table = Table::new(["LINK", "DECLARED", "MEASURED"]);
        for link in &links.links {
            table.row([
                format!("{} - {}", link.between.0, link.between.1),
                output::seconds(link.declared_rtt_seconds),
                or_dash(link.measured_rtt_seconds.map(output::seconds)),
            ]);
        }
        out.push_str(&table.render());
    }
    let mut table =
        Table::new(["TO NODE", "DC", "CONTROL", "RTT", "SENT", "RECEIVED", "LOST PACKETS"]);
    for peer in &links.peers {
        let control = match (peer.connected, peer.via) {
            (true, _) => "up".to_owned(),
            (false, Some(via)) => format!("through node {via}"),
            (false, None) => "down".to_owned(),
        };
        table.row([
            peer.node.to_string(),
            peer.dc.clone(),
            control,
            or_dash(peer.rtt_seconds.map(output::seconds)),
            output::bytes(peer.sent_bytes),
            output::bytes(peer.received_bytes),
            peer.lost_packets.to_string(),
        ]);
    }
    // Writing to a String cannot fail.
    let _ = write!(out, "\nconnections of node {}\n{}", links.asked, table.render());
    out
}

/// One value where both ways are alike.
fn both(
    there: &api::Direction,
    back: &api::Direction,
    show: impl Fn(&api::Direction) -> String,
) -> String {
    let (there, back) = (show(there), show(back));
    if there == back { there } else { format!("{there} / {back}") }
}

fn bandwidth(bits_per_second: Option<u64>) -> String {
    let known = bits_per_second.and_then(unit::Bandwidth::from_bits_per_second);
    known.map_or_else(|| "unlimited".to_owned(), |bandwidth| bandwidth.to_string())
}

fn state(there: &api::Direction, back: &api::Direction) -> String {
    match (there.cut, back.cut) {
        (false, false) => "open".to_owned(),
        (true, true) => "cut".to_owned(),
        (true, false) => format!("cut {} -> {}", there.from, there.to),
        (false, true) => format!("cut {} -> {}", back.from, back.to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_a_number_and_a_unit() {
        assert_eq!(duration("20ms").unwrap(), 0.02);
        for (text, loss) in [("0%", 0.0), ("1%", 0.01), ("0.5%", 0.005), ("100%", 1.0)] {
            assert_eq!(percentage(text).unwrap(), loss, "{text}");
        }
        for bad in ["1", "200%", "-1%", "%", "1e1%", "inf%", "NaN%", "1 %", "1.2.3%"] {
            assert!(percentage(bad).is_err(), "{bad}");
        }
        for (text, bits) in
            [("0", 0), ("100mbit", 100_000_000), ("50Mbit", 50_000_000), ("1GBIT", 1_000_000_000)]
        {
            assert_eq!(rate(text).unwrap(), bits, "{text}");
        }
        for bad in ["", "100", "fast", "100MB", "-1mbit"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    fn way(from: &str, to: &str) -> api::Direction {
        api::Direction {
            from: from.into(),
            to: to.into(),
            delay_seconds: 0.0615,
            jitter_seconds: 0.005,
            loss: 0.02,
            rate_bits_per_second: Some(50_000_000),
            cut: false,
            packets: 0,
            bytes: 0,
            lost_packets: 0,
            queue_dropped_packets: 0,
            cut_dropped_packets: 0,
        }
    }

    #[test]
    fn a_row_says_what_a_link_is_like_and_which_way_is_cut() {
        let mut link = api::Link {
            between: ("fra".into(), "iad".into()),
            declared_rtt_seconds: 0.09,
            measured_rtt_seconds: None,
            shape: Some([way("fra", "iad"), way("iad", "fra")]),
        };
        let shown = |link: &api::Link| {
            let all =
                api::Links { asked: 1, wan: true, links: vec![link.clone()], peers: Vec::new() };
            let text = links(&all);
            let row = text.lines().nth(1).unwrap();
            row.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>().join("|")
        };
        assert_eq!(shown(&link), "fra - iad|90 ms|-|123 ms|5 ms|2%|50Mbit|open");
        link.shape.as_mut().unwrap()[1].cut = true;
        assert!(shown(&link).ends_with("|cut iad -> fra"), "{}", shown(&link));
        link.shape.as_mut().unwrap()[0].cut = true;
        assert!(shown(&link).ends_with("|cut"));
    }
}

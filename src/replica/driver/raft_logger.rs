//! raft-rs speaks slog; this passes it on to tracing, under the target `raft`.
//!
//! A new RawNode alone says four lines at INFO, so everything below a warning is DEBUG here.

use isobar_topology::NodeId;

struct ToTracing {
    node: NodeId,
}

pub fn new(node: NodeId) -> slog::Logger {
    slog::Logger::root(ToTracing { node }, slog::o!())
}

impl slog::Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        let (node, said) = (self.node, record.msg());
        if record.level().is_at_least(slog::Level::Error) {
            tracing::error!(target: "raft", %node, "{said}");
        } else {
            tracing::debug!(target: "raft", %node, "{said}");
        }
        Ok(())
    }
}

//! What its node's lease is to a replica (R17).

use super::{Core, Now, Promise};

impl Core {
    /// The lease ran out, or is back; or the home was moved, and then it is none for this epoch.
    pub fn handle_lease(&mut self, now: Now, valid: bool) {
        self.lease_valid = valid;
        self.process(now);
    }

    pub fn has_lease(&self) -> bool {
        self.lease_valid
    }

    /// It has no lease, and the policy fences what `__meta` has as weaker than sync: also of a topic that is
    /// recovering, which may have shown before it enforced sync again what no other DC has.
    pub(super) fn is_fenced(&self) -> bool {
        !self.lease_valid && self.config.ack.fence && self.promise() != Some(Promise::Sync)
    }
}

//! What its node's lease is to a replica (R17).

use super::{Core, Now};

impl Core {
    /// The lease ran out, or is back; or the home was moved, and then it is none for this epoch.
    pub fn handle_lease(&mut self, now: Now, valid: bool) {
        self.lease_valid = valid;
        self.process(now);
    }

    pub fn has_lease(&self) -> bool {
        self.lease_valid
    }

    /// It has no lease and the policy fences.
    pub(super) fn is_fenced(&self) -> bool {
        !self.lease_valid && self.config.ack.fence && self.sync_to() == 0
    }
}

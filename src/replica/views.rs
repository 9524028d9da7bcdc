//! What this node shows of its replicas, one view a partition, and word of every change.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use tokio::sync::watch;

use super::View;
use crate::model::TopicPartition;

/// Shared between the loop, which shows and hides, and everybody else.
#[derive(Debug)]
pub(super) struct Views {
    shown: RwLock<HashMap<TopicPartition, Arc<View>>>,
    changed: watch::Sender<()>,
}

impl Default for Views {
    fn default() -> Self {
        Self { shown: RwLock::default(), changed: watch::Sender::new(()) }
    }
}

impl Views {
    pub fn of(&self, at: TopicPartition) -> Option<Arc<View>> {
        self.shown.read().expect("no panic while held").get(&at).cloned()
    }

    pub fn all(&self) -> Vec<Arc<View>> {
        self.shown.read().expect("no panic while held").values().cloned().collect()
    }

    /// In the place of what was shown of that partition. The same view may be shown again.
    pub fn show(&self, at: TopicPartition, view: Arc<View>) {
        let mut shown = self.shown.write().expect("no panic while held");
        let before = shown.insert(at, Arc::clone(&view));
        drop(shown);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &view)) {
            return;
        }
        self.replaced(before);
    }

    pub fn hide(&self, at: TopicPartition) {
        let before = self.shown.write().expect("no panic while held").remove(&at);
        if before.is_some() {
            self.replaced(before);
        }
    }

    fn replaced(&self, before: Option<Arc<View>>) {
        before.inspect(|before| before.close());
        self.changed.send_replace(());
    }

    /// Is told when another view is shown of a partition, or none any more.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

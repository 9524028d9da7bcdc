//! What a test's nodes log. For tests on the current thread, where all their tasks run too.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tracing::subscriber::DefaultGuard;

use crate::cluster::PATIENCE;

pub struct Log {
    lines: Lines,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines {
    text: Arc<Mutex<String>>,
    written: Arc<Notify>,
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        self.written.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub fn new() -> Log {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        Log { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Waits for a line with all of these in it.
    pub async fn until(&self, parts: &[&str]) {
        let has = |line: &str| parts.iter().all(|part| line.contains(part));
        let search = async {
            while !self.lines.text.lock().unwrap().lines().any(has) {
                self.lines.written.notified().await;
            }
        };
        if tokio::time::timeout(PATIENCE, search).await.is_err() {
            panic!("no line with {parts:?} in:\n{}", self.lines.text.lock().unwrap());
        }
    }
}

//! What the broker knows a writer as: the member of a group, in its present generation (KIP-447), or nobody's member.
//!
//! A transaction carries it, so that the broker refuses one whose partitions others have by now.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;

/// How it stands, by version.
struct Now {
    version: u64,
    metadata: Option<Arc<ConsumerGroupMetadata>>,
    /// The one there is was refused; whoever polls looks for a newer one.
    is_stale: bool,
}

pub(super) struct Standing {
    now: Mutex<Now>,
    changed: Condvar,
}

impl Standing {
    pub(super) fn new(metadata: Option<ConsumerGroupMetadata>) -> Self {
        let now = Now { version: 0, metadata: metadata.map(Arc::new), is_stale: false };
        Self { now: Mutex::new(now), changed: Condvar::new() }
    }

    pub(super) fn set(&self, metadata: Option<ConsumerGroupMetadata>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = Now { version: now.version + 1, metadata: metadata.map(Arc::new), is_stale: false };
        self.changed.notify_all();
    }

    /// What to show the broker; none where all is lost.
    pub(super) fn get(&self) -> Option<(u64, Arc<ConsumerGroupMetadata>)> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        Some((now.version, Arc::clone(now.metadata.as_ref()?)))
    }

    pub(super) fn is_stale(&self) -> bool {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).is_stale
    }

    /// Waits for another than `version`, which the broker has refused; tells whether it came.
    pub(super) fn renewed(&self, version: u64, patience: Duration) -> bool {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.version == version {
            now.is_stale = true;
        }
        let waited = self.changed.wait_timeout_while(now, patience, |now| now.version == version);
        waited.is_ok_and(|(now, _)| now.version != version)
    }
}

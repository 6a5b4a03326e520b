//! What the broker knows a writer as: the member of a group, in its present generation (KIP-447), or nobody's member.
//!
//! A transaction carries it, so that the broker refuses one whose partitions others have by now.

use std::ffi::CStr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::bindings;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

/// A member of a group, in a generation of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) generation: i32,
    pub(super) member: String,
}

impl Membership {
    /// Nobody's: the group takes its word as long as it has no members.
    pub(super) fn nobody() -> Self {
        Self { generation: -1, member: String::new() }
    }

    /// That of a consumer; none where it has none now.
    #[expect(unsafe_code, reason = "the client library tells it, but its wrapper keeps it to itself")]
    pub(super) fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the consumer lives for the call; what the library gives is looked at before it is given back, and not after.
        unsafe {
            let metadata = bindings::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
            if metadata.is_null() {
                return None;
            }
            let generation = bindings::rd_kafka_consumer_group_metadata_generation_id(metadata);
            let member = bindings::rd_kafka_consumer_group_metadata_member_id(metadata);
            let member = if member.is_null() { String::new() } else { CStr::from_ptr(member).to_string_lossy().into_owned() };
            bindings::rd_kafka_consumer_group_metadata_destroy(metadata);
            Some(Self { generation, member })
        }
    }
}

/// How it stands, by version.
struct Now {
    version: u64,
    metadata: Option<Arc<Membership>>,
    /// The one there is was refused; whoever polls looks for a newer one.
    is_stale: bool,
}

pub(super) struct Standing {
    now: Mutex<Now>,
    changed: Condvar,
}

impl Standing {
    pub(super) fn new(metadata: Option<Membership>) -> Self {
        let now = Now { version: 0, metadata: metadata.map(Arc::new), is_stale: false };
        Self { now: Mutex::new(now), changed: Condvar::new() }
    }

    pub(super) fn set(&self, metadata: Option<Membership>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = Now { version: now.version + 1, metadata: metadata.map(Arc::new), is_stale: false };
        self.changed.notify_all();
    }

    /// What to show the broker; none where all is lost.
    pub(super) fn get(&self) -> Option<(u64, Arc<Membership>)> {
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

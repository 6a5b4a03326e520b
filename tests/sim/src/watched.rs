//! What tasks wait for. As `tokio::sync::watch`, but whoever waits is woken in the order in which it began to: `watch` draws an order
//! anew in each process, and a seed would not be the same run again.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A value, and those who wait for it to change.
#[derive(Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Copy> Watched<T> {
    pub fn get(&self) -> T {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn update(&self, change: impl FnOnce(T) -> T) {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        *value = change(*value);
        drop(value);
        self.changed.notify_waiters();
    }

    /// Waits until the value is such a one.
    pub async fn wait_for(&self, is_such: impl Fn(T) -> bool) {
        loop {
            // Asked for before the value is looked at: no change is missed in between.
            let changed = self.changed.notified();
            if is_such(self.get()) {
                return;
            }
            changed.await;
        }
    }
}

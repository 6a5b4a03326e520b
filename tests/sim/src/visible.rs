//! What readers see of a partition: less than stands there, as long as the markers of transactions are outstanding that have ended.

use tokio::time::Instant;

/// When a record can be seen, and whose it is.
struct Mark {
    from: Instant,
    writer: u64,
}

/// By partition, in the order of what stands there.
pub struct Visible(Vec<Vec<Mark>>);

impl Visible {
    pub fn new(partitions: usize) -> Self {
        Self((0..partitions).map(|_| Vec::new()).collect())
    }

    /// What stands in `partition` next can be seen from `from` on, but not before what stands before it.
    pub fn add(&mut self, partition: usize, from: Instant, writer: u64) {
        let marks = &mut self.0[partition];
        let from = marks.last().map_or(from, |last| last.from.max(from));
        marks.push(Mark { from, writer });
    }

    /// How much of `partition` can be seen now: the last stable offset.
    pub fn end(&self, partition: usize) -> usize {
        let now = Instant::now();
        self.0[partition].iter().take_while(|mark| mark.from <= now).count()
    }

    /// Whether all that stands in `partition` can be seen: the last stable offset is the high watermark.
    pub fn is_decided(&self, partition: usize) -> bool {
        self.end(partition) == self.0[partition].len()
    }

    /// The markers of `writer` are written: whoever ends a producer waits for that.
    pub fn decide(&mut self, writer: u64) {
        let now = Instant::now();
        self.0.iter_mut().flatten().filter(|mark| mark.writer == writer).for_each(|mark| mark.from = mark.from.min(now));
    }
}

//! The group that shares the partitions, and its coordinator.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use event_log::{News, Partition};
use tokio::sync::{mpsc, oneshot};

use crate::world::{Inner, World};

/// One of those who share.
pub struct Member {
    pub node: usize,
    pub generation: u64,
    pub news: mpsc::UnboundedSender<News>,
    pub assigned: BTreeSet<Partition>,
    /// Those whose questions it is given: what was answered before is known when it has ended whoever had them.
    pub taken: BTreeSet<Partition>,
}

impl World {
    pub fn join(&self, node: usize) -> mpsc::UnboundedReceiver<News> {
        let (news, heard) = mpsc::unbounded_channel();
        {
            let mut inner = self.inner();
            inner.generation += 1;
            let generation = inner.generation;
            inner.members.retain(|member| member.node != node);
            inner.members.push(Member { node, generation, news, assigned: BTreeSet::new(), taken: BTreeSet::new() });
        }
        let _ = self.rebalance.send(());
        heard
    }

    /// Takes `node` out of the group; it hears of it at once, later or never.
    pub fn expel(self: &Arc<Self>, node: usize, tell_after: Option<Duration>) {
        let member = {
            let mut inner = self.inner();
            let i = inner.members.iter().position(|member| member.node == node);
            i.map(|i| inner.members.remove(i))
        };
        let _ = self.rebalance.send(());
        if let (Some(member), Some(after)) = (member, tell_after) {
            tokio::task::spawn_local(async move {
                tokio::time::sleep(after).await;
                let _ = member.news.send(News::Lost);
            });
        }
    }

    pub fn want_rebalance(&self) {
        let mut inner = self.inner();
        if inner.members.len() > 1 {
            // The next in turn has the most from now on.
            inner.members.rotate_left(1);
        }
        drop(inner);
        let _ = self.rebalance.send(());
    }
}

impl Inner {
    /// Which partitions each member is to have.
    fn target(&self) -> Vec<(u64, BTreeSet<Partition>)> {
        let mut target: Vec<(u64, BTreeSet<Partition>)> = self.members.iter().map(|member| (member.generation, BTreeSet::new())).collect();
        let n = target.len();
        for partition in 0..self.records.len() {
            if n > 0 {
                target[partition % n].1.insert(Partition::try_from(partition).unwrap_or(Partition::MAX));
            }
        }
        target
    }
}

/// The coordinator: takes from some, then gives to others.
pub async fn rebalances(world: Arc<World>, mut wanted: mpsc::UnboundedReceiver<()>) {
    while wanted.recv().await.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        while wanted.try_recv().is_ok() {}
        let target = world.inner().target();
        let mut released = Vec::new();
        {
            let mut inner = world.inner();
            for (generation, partitions) in &target {
                let Some(member) = inner.members.iter_mut().find(|member| member.generation == *generation) else { continue };
                let gone: Vec<Partition> = member.assigned.difference(partitions).copied().collect();
                if !gone.is_empty() {
                    member.assigned.retain(|partition| partitions.contains(partition));
                    member.taken.retain(|partition| partitions.contains(partition));
                    let (done, is_done) = oneshot::channel();
                    let _ = member.news.send(News::Revoked(gone, done));
                    released.push(is_done);
                }
            }
        }
        for is_done in released {
            // Whoever does not answer in time is passed over; its lease will be taken.
            let _ = tokio::time::timeout(Duration::from_secs(3), is_done).await;
        }
        let mut inner = world.inner();
        for (generation, partitions) in &target {
            let Some(member) = inner.members.iter_mut().find(|member| member.generation == *generation) else { continue };
            let new: Vec<Partition> = partitions.difference(&member.assigned).copied().collect();
            if new.is_empty() {
                continue;
            }
            member.assigned.extend(&new);
            let _ = member.news.send(News::Assigned(new));
        }
    }
}

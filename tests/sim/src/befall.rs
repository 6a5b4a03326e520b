//! What goes wrong, made to happen.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::run::Site;
use crate::world::Fate;

/// The time after which the group gives up on a silent member.
const SESSION: Duration = Duration::from_secs(6);

/// How long markers come late.
const MARKERS_LATE_FOR: Duration = Duration::from_secs(2);

impl Site {
    pub fn befall(self: &Arc<Self>, fault: Fault) {
        let inner = || self.world.inner();
        match fault {
            Fault::Crash { node } => self.crash(node, SESSION),
            Fault::Restart { node } => self.crash(node, Duration::from_millis(200)),
            Fault::Pause { node, ms } => self.pause(node, Duration::from_millis(ms)),
            Fault::Expel { node } => self.world.expel(node, Some(Duration::ZERO)),
            Fault::BothBelieve { node } => self.world.expel(node, Some(Duration::from_secs(3))),
            Fault::Rebalance => self.world.want_rebalance(),
            Fault::AppendFailsBefore { node } => inner().fates[node].push_back(Fate::FailsBefore),
            Fault::AppendFailsAfter { node } => inner().fates[node].push_back(Fate::FailsAfter),
            Fault::AppendLandsLate { node, ms } => inner().fates[node].push_back(Fate::LandsLate(ms)),
            Fault::AppendTorn { ms } => inner().torn = Some(ms),
            Fault::MarkersLate { ms } => inner().markers_late = (Instant::now() + MARKERS_LATE_FOR, ms),
            Fault::LogUnavailable { ms } => inner().unavailable_until = Instant::now() + Duration::from_millis(ms),
            Fault::ReadersBehind { ms } => inner().behind_until = Instant::now() + Duration::from_millis(ms),
            Fault::QuestionLost => inner().lose_question = true,
            Fault::QuestionRepeated => inner().repeat_question = true,
            Fault::QuestionLate { ms } => inner().late_question_ms = ms,
            Fault::ClockJump { node, us } => {
                self.with_node(node, |own| own.clock.skew_us.fetch_add(us, Ordering::Relaxed));
            }
            Fault::ProjectorSlow { ms } => {
                self.projector_pause.update(|_| true);
                let site = Arc::clone(self);
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    site.projector_pause.update(|_| false);
                });
            }
            Fault::ProjectorCrash => {
                if inner().rng.random() {
                    self.tables.fails.store(true, Ordering::Relaxed);
                } else {
                    self.kill_projector.store(true, Ordering::Relaxed);
                }
            }
            Fault::RecordUnreadable => self.want_unreadable.store(true, Ordering::Relaxed),
            Fault::StateDamaged { node } => self.with_node(node, |own| own.disk.is_damaged.store(true, Ordering::Relaxed)),
            Fault::IntakeCrash => {
                self.kill_intake.update(|n| n + 1);
            }
            Fault::IntakeTwice { ms } => {
                let second = tokio::task::spawn_local(Arc::clone(self).take_in());
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    second.abort();
                });
            }
            Fault::IntakeFails => self.topic.fail_once(),
            Fault::MessageUnreadable => {
                let place = self.topic.publish("loyalty.v1.Purchase", vec![0xff, 7, 7]);
                self.unreadable_messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(place);
            }
            Fault::StateFull { node } => self.with_node(node, |own| own.disk.is_full.store(true, Ordering::Relaxed)),
        }
    }

    /// Kills a node and starts it again after a while; the group notices after its session's time.
    fn crash(self: &Arc<Self>, node: usize, down: Duration) {
        self.kill(node);
        let site = Arc::clone(self);
        tokio::task::spawn_local(async move {
            if down >= SESSION {
                tokio::time::sleep(SESSION).await;
                site.world.expel(node, None);
            }
            tokio::time::sleep(down).await;
            let is_down = site.with_node(node, |own| own.task.is_none());
            if is_down {
                site.start(node);
            }
        });
    }

    /// Stops a node for a while; beyond its session it wakes as a zombie.
    fn pause(self: &Arc<Self>, node: usize, time: Duration) {
        self.with_node(node, |own| own.pause.update(|_| true));
        let site = Arc::clone(self);
        tokio::task::spawn_local(async move {
            if time > SESSION {
                tokio::time::sleep(SESSION).await;
                site.world.expel(node, Some(time - SESSION));
            }
            tokio::time::sleep(time).await;
            site.with_node(node, |own| own.pause.update(|_| false));
        });
    }
}

//! Two command services, three projectors and an API process under load, while one after the other is killed, frozen, cut off or refused its
//! disk. After each: every acknowledged command is in the book once, and whoever asks again gets the first answer.
//!
//! `LOYALTY_STORM_TIMES` says how often each (2 if not set; `just soak`: 30), `LOYALTY_STORM_SEED` which process and when,
//! `LOYALTY_STORM_ONLY` which fault.

#![allow(clippy::unwrap_used, clippy::panic, clippy::float_arithmetic, reason = "a test may")]

mod load;
mod proxy;
mod site;

use std::time::{Duration, Instant};

use comfy_table::{Table, presets};

use load::Load;
use site::{Lots, Site, signal};

/// How many commands are acknowledged after a fault before the next one.
const AFTER: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillService,
    KillProjector,
    KillBroker,
    KillPostgres,
    Zombie,
    LeaveAndJoin,
    NetworkCut,
    FullDisk,
}

impl Fault {
    const ALL: [Self; 8] =
        [Self::LeaveAndJoin, Self::KillService, Self::KillProjector, Self::Zombie, Self::NetworkCut, Self::FullDisk, Self::KillPostgres, Self::KillBroker];

    fn name(self) -> &'static str {
        match self {
            Self::KillService => "kill -9 of a command service",
            Self::KillProjector => "kill -9 of a projector",
            Self::KillBroker => "kill -9 of the broker",
            Self::KillPostgres => "kill -9 of Postgres",
            Self::Zombie => "a command service is stopped past its session, and wakes",
            Self::LeaveAndJoin => "a command service leaves and joins",
            Self::NetworkCut => "no packet between a command service and the broker",
            Self::FullDisk => "the state store can't write",
        }
    }

    async fn strike(self, site: &mut Site, load: &Load, lots: &mut Lots) {
        let one = lots.draw(2);
        match self {
            Self::KillService => {
                site.kill_service(one).await;
                load.some(AFTER).await;
                site.start_service(one).await;
            }
            Self::LeaveAndJoin => {
                site.stop_service(one).await;
                load.some(AFTER).await;
                site.start_service(one).await;
            }
            Self::KillProjector => site.restart_projector(lots.draw(3)).await,
            Self::KillBroker => site.restart_broker().await,
            Self::KillPostgres => site.restart_postgres().await,
            Self::Zombie => {
                let pid = site.service_pid(one);
                signal("STOP", pid).await;
                // The other one has all, and works.
                site.owns(1 - one, 8).await;
                load.some(AFTER).await;
                signal("CONT", pid).await;
            }
            Self::NetworkCut => {
                site.proxy.cut();
                site.owns(0, 8).await;
                load.some(AFTER).await;
                site.proxy.heal();
            }
            Self::FullDisk => {
                site.stop_service(one).await;
                site.fill_disk_of(one, load).await;
                site.start_service(one).await;
            }
        }
        site.shared().await;
        load.some(AFTER).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_nothing_is_lost_and_nothing_doubled() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (times, seed) = (number("LOYALTY_STORM_TIMES", 2), number("LOYALTY_STORM_SEED", 7));
    let only = std::env::var("LOYALTY_STORM_ONLY").unwrap_or_default();
    let (mut site, mut lots) = (Site::new().await, Lots(seed));
    let mut load = Load::start(&site.api_address()).await;
    load.some(AFTER).await;
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(vec!["fault", "times", "acknowledged", "lost", "doubled", "longest pause"]);
    let (mut lost_in_all, mut doubled_in_all, mut booked) = (0, 0, 0);
    for fault in Fault::ALL.into_iter().filter(|fault| fault.name().contains(&only)) {
        load.forget_pauses();
        let begin = Instant::now();
        for _ in 0..times {
            fault.strike(&mut site, &load, &mut lots).await;
        }
        let struck = begin.elapsed();
        let longest = load.longest_pause();
        let acknowledged = load.rest().await;
        let lost = load.lost(&acknowledged).await;
        booked += acknowledged.len();
        let doubled = site.verified_records().await.abs_diff(booked);
        (lost_in_all, doubled_in_all) = (lost_in_all + lost, doubled_in_all + doubled);
        let row = [times.to_string(), acknowledged.len().to_string(), lost.to_string(), doubled.to_string(), format!("{:.1} s", longest.as_secs_f64())];
        eprintln!("{}: {} in {:.0} s", fault.name(), row.join(", "), struck.as_secs_f64());
        table.add_row([fault.name().to_owned()].into_iter().chain(row));
        load = Load::start(&site.api_address()).await;
        load.some(1).await;
    }
    load.rest().await;
    println!("seed {seed}\n{table}");
    assert_eq!((lost_in_all, doubled_in_all), (0, 0));
    tokio::time::timeout(Duration::from_secs(60), site.stop()).await.unwrap();
}

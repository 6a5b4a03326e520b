//! A broker for a test process: one for all its tests, which use topics of their own. It ends with the process.

use tokio::sync::OnceCell;

use crate::Broker;

static BROKER: OnceCell<Broker> = OnceCell::const_new();

async fn start() -> Broker {
    let folder = embedded_postgres::testing::folder();
    Broker::start(&folder.join("kafka")).await.expect("a kafka broker: Java 17 (Debian: apt-get install openjdk-17-jre-headless), its jars are fetched")
}

/// Where the broker is, as `HOST:PORT`.
///
/// # Panics
/// When no broker can be had; the message says what to install.
pub async fn broker() -> String {
    BROKER.get_or_init(start).await.address()
}

//! Why a projector can't go on.

use event_log::{LogError, Partition, Position};

/// Whatever the engine said.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;

/// Why a projector can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its tables' engine.
    #[error("read model {name}: can't {action}")]
    Tables {
        /// Of which read model.
        name: String,
        /// What was being done.
        action: &'static str,
        /// Why not.
        #[source]
        source: EngineError,
    },
    /// The schema can't be brought up to date.
    #[error("read model {name}: its schema can't be brought up to date")]
    Migrate {
        /// Which.
        name: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody brings it up to date.
    #[error("read model {name} is behind the log and has stood still for {seconds} s: does its projector run? (`loyalty serve projector {name}`)")]
    Behind {
        /// Which.
        name: String,
        /// For how long.
        seconds: u64,
    },
    /// The log has lost records that were folded into it.
    #[error(
        "read model {name} is ahead of the log: it has folded {position} records of partition {partition}, the log has {end}. Records are missing, as after a \
         backup was restored; what comes now would never be seen. Restore a later backup, or fold it anew from the log as it is: loyalty rebuild {name}"
    )]
    Ahead {
        /// Which.
        name: String,
        /// Where.
        partition: Partition,
        /// How far it has folded.
        position: Position,
        /// How far the log goes.
        end: Position,
    },
    /// Another projector of the same read model has gone on from this checkpoint.
    #[error("read model {name}: another projector moved the checkpoint of partition {partition}")]
    Overtaken {
        /// Which.
        name: String,
        /// Where.
        partition: Partition,
    },
}

pub(crate) fn failed<E: Into<EngineError>>(name: &str, action: &'static str) -> impl FnOnce(E) -> ProjectorError {
    let name = name.to_owned();
    move |source| ProjectorError::Tables { name, action, source: source.into() }
}

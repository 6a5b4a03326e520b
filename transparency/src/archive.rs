//! An archive: a folder with the whole book, its seal and its schemas, that needs nothing else to be read.
//!
//! ```text
//! manifest.json              what is in it
//! records/PPP/NNNNNNN.zst    partition P's records from position N on, CHUNK a file
//! outcomes/PPP/NNNNNNN.zst   its refused commands
//! programs/000/0000000.zst   the program stream
//! schemas/                   the protobuf files that tell how to read them
//! seal/                      heads, tiles, signed checkpoint
//! ```

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use event_log::{Batch, Crash, Entry, EventLog, LogError, Partition, Position, Writer};
use ledger_schemas::{Archived, ArchivedRecords, v1};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::contents::{Files, MANIFEST, SCHEMAS, copy_seal};
use crate::tree::write;
use crate::{AuditError, file};

/// Records in a file.
pub(crate) const CHUNK: usize = 20_000;
const LEVEL: i32 = 3;
const ROOM_BYTES_MAX: u64 = 64 << 20;
/// Records are packed to a tenth; large ones that are all alike, to a thousandth.
const RATIO_MAX: u64 = 2000;
/// More than any chunk has: of 20,000 records, each of 200,000 bytes.
const CHUNK_BYTES_MAX: u64 = 4 << 30;

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    book: String,
    records: Vec<Position>,
    outcomes: Vec<u64>,
    programs: u64,
    /// Nothing vouches for them, so nothing reads them, and they are written empty: it is a field of the format. A book that is read from an archive has not
    /// moved, and reads other sources from their beginnings, where what it has already is answered by its id.
    offsets: BTreeMap<String, u64>,
}

fn chunk_name(stream: &str, partition: Partition, first: u64) -> String {
    format!("{stream}/{partition:03}/{first:010}.zst")
}

/// How many of `count` are in the chunk that begins at `first`.
pub(crate) fn chunk_len(count: u64, first: u64) -> u64 {
    count.saturating_sub(first).min(CHUNK as u64)
}

fn write_chunk(path: &Path, bytes: &[u8]) -> Result<(), AuditError> {
    let packed = zstd::bulk::compress(bytes, LEVEL).map_err(file("compress", path))?;
    write(path, &packed)
}

fn read_chunk(path: &Path) -> Result<Vec<u8>, AuditError> {
    let packed = std::fs::read(path).map_err(file("read", path))?;
    // It says how large it is, which is believed up to a point: into room for all of it, it is unpacked without a copy.
    let room = zstd::zstd_safe::get_frame_content_size(&packed).ok().flatten().filter(|bytes| *bytes <= ROOM_BYTES_MAX);
    match room.and_then(|bytes| usize::try_from(bytes).ok()) {
        Some(room) => zstd::bulk::decompress(&packed, room).map_err(file("unpack", path)),
        None => unpack(path, &packed),
    }
}

/// Unpacks what is large, or does not say how large it is: to as much as records can come to, so that a few bytes don't take all memory.
fn unpack(path: &Path, packed: &[u8]) -> Result<Vec<u8>, AuditError> {
    let bytes_max = (packed.len() as u64 * RATIO_MAX).clamp(ROOM_BYTES_MAX, CHUNK_BYTES_MAX);
    let mut bytes = Vec::new();
    let unpacked = zstd::stream::Decoder::new(packed).and_then(|decoder| decoder.take(bytes_max + 1).read_to_end(&mut bytes));
    if unpacked.map_err(file("unpack", path))? as u64 > bytes_max {
        let packed = packed.len();
        return Err(AuditError::Wrong(format!("{} has {packed} bytes and unpacks to more than {bytes_max}: no export writes that", path.display())));
    }
    Ok(bytes)
}

fn require_count(name: &str, found: usize, told: u64) -> Result<(), AuditError> {
    if found as u64 == told { Ok(()) } else { Err(AuditError::Wrong(format!("{name} has {found}, {MANIFEST} tells of {told}"))) }
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> AuditError {
    AuditError::Wrong(format!("{}: {error}", path.display()))
}

/// As it is archived.
pub(crate) fn archived(entry: &Entry) -> Archived<'_> {
    Archived { position: entry.position, account: &entry.account, account_seq: entry.account_seq, body: &entry.body }
}

/// Writes what `log` has into `folder`, which must be empty or not there, with the seal of `seal`, if there is one; tells how many records.
///
/// # Errors
/// [`AuditError`].
pub async fn export(log: &dyn EventLog, folder: &Path, seal: Option<&Path>, mut progress: impl FnMut(u64)) -> Result<u64, AuditError> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(AuditError::Wrong(format!("{} is not empty; name a new folder", folder.display())));
    }
    // The seal first: the book only grows, so it has all that was sealed.
    if let Some(seal) = seal {
        copy_seal(seal, &folder.join("seal"))?;
    }
    let ends = log.ends().await?;
    let mut manifest = Manifest {
        format: "loyalty archive v1".into(),
        book: log.book_id().into(),
        records: ends.clone(),
        outcomes: Vec::new(),
        programs: 0,
        offsets: BTreeMap::new(),
    };
    let mut count = 0;
    for (partition, end) in (0..).zip(ends) {
        let mut next = 0;
        while next < end {
            let entries = chunk(log, partition, next, end).await?;
            let path = folder.join(chunk_name("records", partition, next));
            next += entries.len() as u64;
            count += entries.len() as u64;
            let mut bytes = Vec::new();
            entries.iter().for_each(|entry| archived(entry).encode(&mut bytes));
            write_chunk(&path, &bytes)?;
            progress(count);
        }
        let mut next = 0;
        loop {
            let outcomes = log.read_outcomes(partition, next, CHUNK).await?;
            if outcomes.is_empty() {
                break;
            }
            let path = folder.join(chunk_name("outcomes", partition, next));
            next += outcomes.len() as u64;
            write_chunk(&path, &bodies(&outcomes))?;
        }
        manifest.outcomes.push(next);
    }
    let programs = log.read_programs(0).await?;
    manifest.programs = programs.len() as u64;
    write_chunk(&folder.join(chunk_name("programs", 0, 0)), &bodies(&programs))?;
    for (name, text) in SCHEMAS {
        write(&folder.join("schemas").join(name), text.as_bytes())?;
    }
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(|error| AuditError::Wrong(error.to_string()))?;
    write(&folder.join(MANIFEST), &manifest)?;
    Ok(count)
}

fn bodies(bodies: &[Vec<u8>]) -> Vec<u8> {
    bodies.iter().flat_map(|body| v1::ArchivedBody { body: body.clone() }.encode_length_delimited_to_vec()).collect()
}

/// A full chunk, or what there is up to `end`.
async fn chunk(log: &dyn EventLog, partition: Partition, from: Position, end: Position) -> Result<Vec<Entry>, AuditError> {
    let want = usize::try_from(end - from).unwrap_or(usize::MAX).min(CHUNK);
    let mut records = Vec::with_capacity(want);
    while records.len() < want {
        let entries = log.read(partition, from + records.len() as u64, want - records.len()).await?;
        if entries.is_empty() {
            return Err(AuditError::Wrong(format!("partition {partition} ends at {}, {end} was told", from + records.len() as u64)));
        }
        records.extend(entries);
    }
    Ok(records)
}

type Chunks = HashMap<Partition, (u64, Arc<Vec<Entry>>)>;

/// An archive read as a log; nothing is written to it.
pub struct ArchiveLog {
    folder: PathBuf,
    pub(crate) files: Files,
    manifest: Manifest,
    /// The chunk of each partition that was read last.
    chunks: Mutex<Chunks>,
}

impl ArchiveLog {
    /// Opens the archive in `folder`.
    ///
    /// # Errors
    /// [`AuditError`], where it is none.
    pub fn open(folder: &Path) -> Result<Self, AuditError> {
        let path = folder.join(MANIFEST);
        // Before all that is in a folder that is none is looked at.
        std::fs::metadata(&path).map_err(file("read", &path))?;
        let files = Files::of(folder)?;
        let bytes = std::fs::read(&path).map_err(file("read", &path))?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| AuditError::Wrong(format!("{}: {error}", path.display())))?;
        if manifest.format != "loyalty archive v1" || manifest.records.len() != manifest.outcomes.len() {
            return Err(AuditError::Wrong(format!("{}: {:?} is not an archive that this version reads", path.display(), manifest.format)));
        }
        let archive = Self { folder: folder.to_owned(), files, manifest, chunks: Mutex::default() };
        archive.require_counts()?;
        Ok(archive)
    }

    /// Refuses a manifest that tells of more, or less, than there are files for: all that follows goes by its numbers.
    fn require_counts(&self) -> Result<(), AuditError> {
        let streams = [("records", &self.manifest.records), ("outcomes", &self.manifest.outcomes)];
        for (stream, counts) in streams {
            for (partition, count) in (0..).zip(counts) {
                let folder = format!("{stream}/{partition:03}/");
                let files = self.files.under(&folder).filter(|name| name.ends_with(".zst")).count();
                let wanted = count.div_ceil(CHUNK as u64);
                if files as u64 != wanted {
                    return Err(AuditError::Wrong(format!("{folder} has {files} files, {MANIFEST} tells of {count} {stream}, which are {wanted}")));
                }
            }
        }
        require_count(&chunk_name("programs", 0, 0), self.programs()?.len(), self.manifest.programs)?;
        Ok(())
    }

    /// Its seal.
    pub(crate) fn seal(&self) -> PathBuf {
        self.folder.join("seal")
    }

    /// How many records of `partition` it says that it has.
    pub(crate) fn end(&self, partition: Partition) -> Position {
        self.manifest.records.get(usize::from(partition)).copied().unwrap_or(0)
    }

    /// The files of the book itself.
    pub(crate) fn chunk_names(&self) -> impl Iterator<Item = String> {
        let streams = [("records", &self.manifest.records), ("outcomes", &self.manifest.outcomes)];
        let partitions = streams.into_iter().flat_map(|(stream, counts)| (0..).zip(counts).map(move |(partition, count)| (stream, partition, *count)));
        let chunks = partitions.flat_map(|(stream, partition, count)| (0..count).step_by(CHUNK).map(move |first| chunk_name(stream, partition, first)));
        chunks.chain([chunk_name("programs", 0, 0)])
    }

    /// The records of the chunk that begins at `first`, one behind the other; and its name.
    pub(crate) fn chunk(&self, partition: Partition, first: u64) -> Result<(String, Vec<u8>), AuditError> {
        let name = chunk_name("records", partition, first);
        Ok((name.clone(), read_chunk(&self.folder.join(name))?))
    }

    fn records(&self, partition: Partition, first: u64) -> Result<Vec<Entry>, AuditError> {
        let (name, bytes) = self.chunk(partition, first)?;
        let (path, mut entries) = (self.folder.join(&name), Vec::with_capacity(CHUNK));
        for record in ArchivedRecords(&bytes) {
            let Archived { position, account, account_seq, body } = record.map_err(|error| damaged(&path, &error))?;
            entries.push(Entry { position, account: account.into(), account_seq, body: body.into() });
        }
        require_count(&name, entries.len(), chunk_len(self.end(partition), first))?;
        Ok(entries)
    }

    /// Where the chunks of `partition` begin.
    pub(crate) fn chunk_starts(&self, partition: Partition) -> impl Iterator<Item = u64> + use<> {
        (0..self.end(partition)).step_by(CHUNK)
    }

    /// All outcomes of `partition`.
    pub(crate) fn outcomes(&self, partition: Partition) -> Result<Vec<Vec<u8>>, AuditError> {
        let mut all = Vec::new();
        for first in (0..self.outcomes_end(partition)).step_by(CHUNK) {
            all.extend(self.outcomes_from(partition, first)?);
        }
        Ok(all)
    }

    /// Those of the chunk that begins at `first`.
    fn outcomes_from(&self, partition: Partition, first: u64) -> Result<Vec<Vec<u8>>, AuditError> {
        let bodies = self.bodies("outcomes", partition, first)?;
        require_count(&chunk_name("outcomes", partition, first), bodies.len(), chunk_len(self.outcomes_end(partition), first))?;
        Ok(bodies)
    }

    fn outcomes_end(&self, partition: Partition) -> u64 {
        self.manifest.outcomes.get(usize::from(partition)).copied().unwrap_or(0)
    }

    fn bodies(&self, stream: &str, partition: Partition, first: u64) -> Result<Vec<Vec<u8>>, AuditError> {
        let path = self.folder.join(chunk_name(stream, partition, first));
        let bytes = read_chunk(&path)?;
        let (mut rest, mut bodies) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            bodies.push(v1::ArchivedBody::decode_length_delimited(&mut rest).map_err(|error| damaged(&path, &error))?.body);
        }
        if self::bodies(&bodies) != bytes {
            return Err(AuditError::Wrong(format!("{} has more in it than its entries", path.display())));
        }
        Ok(bodies)
    }

    /// The program stream.
    pub(crate) fn programs(&self) -> Result<Vec<Vec<u8>>, AuditError> {
        self.bodies("programs", 0, 0)
    }
}

fn failed(error: AuditError) -> LogError {
    LogError::Unavailable { action: "read the archive", source: Box::new(error) }
}

fn checked(partition: Partition, from: Position, read: Vec<Entry>) -> Result<Vec<Entry>, LogError> {
    match read.first() {
        Some(entry) if entry.position != from => Err(LogError::Gap { partition, expected: from, found: entry.position }),
        _ => Ok(read),
    }
}

#[async_trait]
impl EventLog for ArchiveLog {
    fn book_id(&self) -> &str {
        &self.manifest.book
    }

    fn partitions(&self) -> u16 {
        u16::try_from(self.manifest.records.len()).unwrap_or(u16::MAX)
    }

    async fn acquire(&self, _owner: &str) -> Result<Box<dyn Writer>, LogError> {
        Ok(Box::new(Ends(self.manifest.records.clone())))
    }

    async fn read(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Entry>, LogError> {
        if from >= self.end(partition) {
            return Ok(Vec::new());
        }
        let first = from - from % CHUNK as u64;
        if from == first && max >= CHUNK {
            // Whoever takes it whole doesn't come back for the rest of it.
            return checked(partition, from, self.records(partition, first).map_err(failed)?);
        }
        let mut chunks = self.chunks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if chunks.get(&partition).is_none_or(|(start, _)| *start != first) {
            let entries = Arc::new(self.records(partition, first).map_err(failed)?);
            chunks.insert(partition, (first, entries));
        }
        let entries = chunks.get(&partition).map(|(_, entries)| Arc::clone(entries)).unwrap_or_default();
        drop(chunks);
        let start = usize::try_from(from - first).unwrap_or(usize::MAX);
        checked(partition, from, entries.iter().skip(start).take(max).cloned().collect())
    }

    async fn read_outcomes(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Vec<u8>>, LogError> {
        if from >= self.outcomes_end(partition) {
            return Ok(Vec::new());
        }
        let within = from % CHUNK as u64;
        let bodies = self.outcomes_from(partition, from - within).map_err(failed)?;
        Ok(bodies.into_iter().skip(usize::try_from(within).unwrap_or(usize::MAX)).take(max).collect())
    }

    async fn read_programs(&self, from: Position) -> Result<Vec<Vec<u8>>, LogError> {
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        Ok(self.programs().map_err(failed)?.into_iter().skip(start).collect())
    }

    async fn ends(&self) -> Result<Vec<Position>, LogError> {
        Ok(self.manifest.records.clone())
    }

    async fn offsets(&self) -> Result<BTreeMap<String, u64>, LogError> {
        Ok(BTreeMap::new())
    }

    async fn wait_beyond(&self, ends: &[Position], patience: Duration) -> Result<bool, LogError> {
        let is_beyond = self.manifest.records.iter().zip(ends).any(|(end, before)| end > before);
        if !is_beyond {
            tokio::time::sleep(patience).await;
        }
        Ok(is_beyond)
    }
}

/// Where an archive ends. It can't be written to, nor marked as moved: it is a copy for ever.
struct Ends(Vec<Position>);

#[async_trait]
impl Writer for Ends {
    fn next_position(&self, partition: Partition) -> Position {
        self.0.get(usize::from(partition)).copied().unwrap_or(0)
    }

    async fn append(&mut self, batch: Arc<Batch>) -> Result<(), LogError> {
        let is_written = !batch.records.is_empty() || !batch.outcomes.is_empty() || !batch.programs.is_empty();
        if is_written {
            return Err(LogError::Unavailable { action: "write to an archive", source: "an archive is never changed".into() });
        }
        Ok(())
    }

    fn crash_next(&mut self, _crash: Crash) {}
}

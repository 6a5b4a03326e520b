//! Sealing: the trees are brought up to date with the log, their head is entered, and the checkpoint over all heads is signed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use event_log::EventLog;
use ledger_core::time::Moment;
use ledger_schemas::hash;
use rand_core::OsRng;
use signed_note::{Note, Signer as _, StandardSigner, StandardVerifier, Verifier as _, VerifierList};
use tlog_tiles::{Checkpoint, Hash, record_hash};
use tokio::sync::watch;

use crate::head::{Head, Reached};
use crate::tree::{Tree, write};
use crate::{AuditError, file};

const READ_MAX: usize = 5000;
/// How many entries one bundle has.
const BUNDLE: usize = 256;

/// Makes a key named `name`: the secret one, and the one to give away.
#[must_use]
pub fn make_key(name: &str) -> (String, String) {
    signed_note::generate_key(&mut OsRng, name)
}

/// A public key to verify with (`NAME+ID+KEY`, as C2SP signed-note has it).
pub struct Key(String);

impl Key {
    /// Reads one.
    ///
    /// # Errors
    /// [`AuditError::Key`].
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        StandardVerifier::new(text.trim()).map_err(|error| AuditError::Key(error.to_string()))?;
        Ok(Self(text.trim().to_owned()))
    }

    /// The checkpoint that the note holds, if this key has signed it.
    pub(crate) fn open(&self, note: &[u8]) -> Result<Checkpoint, AuditError> {
        let wrong = |what: String| AuditError::Wrong(format!("the checkpoint {what}"));
        let verifier = StandardVerifier::new(&self.0).map_err(|error| AuditError::Key(error.to_string()))?;
        let name = verifier.name().to_owned();
        let note = Note::from_bytes(note).map_err(|error| wrong(format!("can't be read: {error}")))?;
        let signed = note.verify(&VerifierList::new(vec![Box::new(verifier)]));
        signed.map_err(|error| wrong(format!("is not signed by {name}: {error}")))?;
        let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|_| wrong("is malformed".into()))?;
        if checkpoint.origin() != name {
            return Err(wrong(format!("is of {:?}, the key is of {name:?}", checkpoint.origin())));
        }
        Ok(checkpoint)
    }
}

/// The heads of a folder.
pub(crate) fn heads(folder: &Path) -> Result<Vec<String>, AuditError> {
    let mut heads = Vec::new();
    for bundle in 0_u64.. {
        let full = bundle_path(folder, bundle, BUNDLE);
        let partial = (1..BUNDLE).rev().map(|width| bundle_path(folder, bundle, width));
        let Some(path) = std::iter::once(full).chain(partial).find(|path| path.exists()) else { break };
        let bytes = std::fs::read(&path).map_err(file("read", &path))?;
        let mut rest = bytes.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let Some((entry, after)) = after.split_at_checked(length) else { break };
            heads.push(String::from_utf8_lossy(entry).into_owned());
            rest = after;
        }
    }
    Ok(heads)
}

fn bundle_path(folder: &Path, bundle: u64, width: usize) -> PathBuf {
    let tile = tlog_tiles::Tile::new(8, 0, bundle, u32::try_from(width).unwrap_or(u32::MAX), false);
    folder.join(tile.path().replacen("tile/8/0/", "tile/entries/", 1))
}

/// Who seals: the secret key, and the folder of trees.
pub struct Sealer {
    folder: PathBuf,
    secret: String,
    name: String,
    _lock: std::fs::File,
}

impl Sealer {
    /// The only one at work in `folder`.
    ///
    /// # Errors
    /// [`AuditError::Key`], or where another is at work.
    pub fn open(folder: &Path, secret: &str) -> Result<Self, AuditError> {
        let signer = StandardSigner::new(secret.trim()).map_err(|error| AuditError::Key(error.to_string()))?;
        std::fs::create_dir_all(folder).map_err(file("make", folder))?;
        let path = folder.join("lock");
        let lock = std::fs::File::create(&path).map_err(file("make", &path))?;
        lock.try_lock().map_err(|_| AuditError::Wrong(format!("another process seals in {}", folder.display())))?;
        Ok(Self { folder: folder.to_owned(), secret: secret.trim().to_owned(), name: signer.name().to_owned(), _lock: lock })
    }

    /// The last head, if there is one.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn last(&self) -> Result<Option<Head>, AuditError> {
        heads(&self.folder)?.last().map(|text| Head::parse(text)).transpose()
    }

    /// Seals what the log has by now; tells the head, and whether it is new.
    ///
    /// # Errors
    /// [`AuditError`]; what was sealed before stays as it is.
    pub async fn seal(&self, log: &dyn EventLog, now: Moment) -> Result<(Head, bool), AuditError> {
        let mut all = heads(&self.folder)?;
        let last = all.last().map(|text| Head::parse(text)).transpose()?;
        if let Some(last) = last.as_ref().filter(|last| last.book != log.book_id()) {
            return Err(AuditError::Wrong(format!("{} seals book {}, this is {}", self.folder.display(), last.book, log.book_id())));
        }
        let partitions = log.partitions();
        let before = |streams: fn(&Head) -> &Vec<Reached>, partition: u16| {
            last.as_ref().and_then(|head| streams(head).get(usize::from(partition)).copied()).unwrap_or((0, tlog_tiles::EMPTY_HASH))
        };
        let mut head = Head { book: log.book_id().into(), at: now, records: Vec::new(), outcomes: Vec::new(), programs: (0, tlog_tiles::EMPTY_HASH) };
        // Rulebooks first: what is decided by one comes after it.
        let programs = last.as_ref().map_or((0, tlog_tiles::EMPTY_HASH), |head| head.programs);
        let leaves = log.read_programs(programs.0).await?.iter().map(|body| leaf(body)).collect();
        head.programs = self.grow("programs/000", programs, leaves)?;
        for partition in 0..partitions {
            let mut reached = before(|head| &head.records, partition);
            loop {
                let entries = log.read(partition, reached.0, READ_MAX).await?;
                if entries.is_empty() {
                    break;
                }
                reached = self.grow(&format!("records/{partition:03}"), reached, entries.iter().map(|entry| leaf(&entry.body)).collect())?;
            }
            head.records.push(reached);
            let mut reached = before(|head| &head.outcomes, partition);
            loop {
                let outcomes = log.read_outcomes(partition, reached.0, READ_MAX).await?;
                if outcomes.is_empty() {
                    break;
                }
                reached = self.grow(&format!("outcomes/{partition:03}"), reached, outcomes.iter().map(|body| leaf(body)).collect())?;
            }
            head.outcomes.push(reached);
        }
        if let Some(last) = last.filter(|last| (&last.records, &last.outcomes, last.programs) == (&head.records, &head.outcomes, head.programs)) {
            return Ok((last, false));
        }
        all.push(head.text());
        self.enter(&all)?;
        Ok((head, true))
    }

    /// Seals every so often until `stop` says so, and once more then.
    pub async fn run(self, log: Arc<dyn EventLog>, every: Duration, now: fn() -> Moment, mut stop: watch::Receiver<bool>) {
        loop {
            let is_last = *stop.borrow_and_update();
            match self.seal(&*log, now()).await {
                Ok((head, _)) => metrics::gauge!("loyalty_sealed_records").set(f64::from(u32::try_from(head.record_count()).unwrap_or(u32::MAX))),
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the book can't be sealed; trying again"),
            }
            if is_last {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = stop.changed() => {}
            }
        }
    }

    fn grow(&self, stream: &str, from: Reached, leaves: Vec<Hash>) -> Result<Reached, AuditError> {
        if leaves.is_empty() {
            return Ok(from);
        }
        let mut tree = Tree::open(&self.folder.join(stream), from.0);
        if tree.root()? != from.1 {
            return Err(AuditError::Wrong(format!("the tiles of {stream} are not those that were sealed")));
        }
        leaves.into_iter().try_for_each(|leaf| tree.push(leaf))?;
        let reached = (tree.size, tree.root()?);
        tree.write()?;
        Ok(reached)
    }

    /// Enters the last of `all` heads and signs the tree of them.
    fn enter(&self, all: &[String]) -> Result<(), AuditError> {
        let mut tree = Tree::open(&self.folder, all.len() as u64 - 1);
        let bytes = |text: &String| [&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes()[..], text.as_bytes()].concat();
        tree.push(record_hash(all[all.len() - 1].as_bytes()))?;
        let (size, root) = (tree.size, tree.root()?);
        tree.write()?;
        let bundle = (all.len() - 1) / BUNDLE;
        let entries: Vec<u8> = all[bundle * BUNDLE..].iter().flat_map(bytes).collect();
        let signer = StandardSigner::new(&self.secret).map_err(|error| AuditError::Key(error.to_string()))?;
        let checkpoint = Checkpoint::new(&self.name, size, root, "").map_err(|_| AuditError::Key("its name can't be an origin".into()))?;
        let mut note = Note::new(&checkpoint.to_bytes(), &[]).map_err(|error| AuditError::Wrong(error.to_string()))?;
        note.add_sigs(&[&signer]).map_err(|error| AuditError::Wrong(error.to_string()))?;
        write(&bundle_path(&self.folder, bundle as u64, all.len() - bundle * BUNDLE), &entries)?;
        write(&self.folder.join("checkpoint"), &note.to_bytes())
    }
}

/// The leaf of what stands on the log as `body`.
pub(crate) fn leaf(body: &[u8]) -> Hash {
    leaf_of_hash(&hash(body))
}

/// The same, of its BLAKE3 hash.
pub(crate) fn leaf_of_hash(hash: &[u8; 32]) -> Hash {
    record_hash(hash)
}

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
use crate::tree::{Tree, drop_superseded, write};
use crate::witness::Witnesses;
use crate::{AuditError, file};

const READ_MAX: usize = 5000;
/// How long the log may take to show what was sealed.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How many entries one bundle has.
const BUNDLE: u64 = 256;

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

/// How many heads the checkpoint in `folder` covers; the checkpoint's text beside it.
pub(crate) fn signed(folder: &Path) -> Result<(u64, String), AuditError> {
    let path = folder.join("checkpoint");
    let note = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((0, String::new())),
        read => read.map_err(file("read", &path))?,
    };
    let size = note.lines().nth(1).and_then(|size| size.parse().ok());
    Ok((size.ok_or_else(|| AuditError::Wrong(format!("{} names no size", path.display())))?, note))
}

/// The heads of the bundle that the last of `size` heads is in, up to that one.
pub(crate) fn last_bundle(folder: &Path, size: u64) -> Result<Vec<String>, AuditError> {
    let Some(bundle) = size.checked_sub(1).map(|last| last / BUNDLE) else { return Ok(Vec::new()) };
    let path = bundle_path(folder, bundle, size - bundle * BUNDLE);
    let bytes = std::fs::read(&path).map_err(file("read", &path))?;
    let mut rest = bytes.as_slice();
    let mut heads = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let Some((entry, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { break };
        heads.push(String::from_utf8_lossy(entry).into_owned());
        rest = after;
    }
    Ok(heads)
}

/// The first `size` heads.
pub(crate) fn heads(folder: &Path, size: u64) -> Result<Vec<String>, AuditError> {
    let mut heads = Vec::new();
    for end in (0..size).step_by(usize::try_from(BUNDLE).unwrap_or(256)).map(|first| (first + BUNDLE).min(size)) {
        heads.extend(last_bundle(folder, end)?);
    }
    Ok(heads)
}

fn bundle_path(folder: &Path, bundle: u64, width: u64) -> PathBuf {
    let tile = tlog_tiles::Tile::new(8, 0, bundle, u32::try_from(width).unwrap_or(u32::MAX), false);
    folder.join(tile.path().replacen("tile/8/0/", "tile/entries/", 1))
}

/// Who seals: the secret key, and the folder of trees.
pub struct Sealer {
    folder: PathBuf,
    signer: StandardSigner,
    _lock: std::fs::File,
}

impl Sealer {
    /// The only one at work in `folder`.
    ///
    /// # Errors
    /// [`AuditError::Key`]; [`AuditError::Taken`] where another is at work.
    pub fn open(folder: &Path, secret: &str) -> Result<Self, AuditError> {
        let signer = StandardSigner::new(secret.trim()).map_err(|error| AuditError::Key(error.to_string()))?;
        std::fs::create_dir_all(folder).map_err(file("make", folder))?;
        let path = folder.join("lock");
        let lock = std::fs::File::create(&path).map_err(file("make", &path))?;
        lock.try_lock().map_err(|_| AuditError::Taken { folder: folder.to_owned() })?;
        Ok(Self { folder: folder.to_owned(), signer, _lock: lock })
    }

    /// Seals what the log has by now; tells the head, and whether it is new.
    ///
    /// # Errors
    /// [`AuditError`]; what was sealed before stays as it is.
    pub async fn seal(&self, log: &dyn EventLog, now: Moment) -> Result<(Head, bool), AuditError> {
        let (size, note) = signed(&self.folder)?;
        self.require_own(&note)?;
        let mut bundle = last_bundle(&self.folder, size)?;
        let last = bundle.last().map(|text| Head::parse(text)).transpose()?;
        if let Some(last) = last.as_ref().filter(|last| last.book != log.book_id()) {
            return Err(AuditError::Wrong(format!("{} seals book {}, this is {}", self.folder.display(), last.book, log.book_id())));
        }
        if let Some(last) = &last {
            self.require_extended(log, last).await?;
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
        if let Some(last) = last.clone().filter(|last| (&last.records, &last.outcomes, last.programs) == (&head.records, &head.outcomes, head.programs)) {
            return Ok((last, false));
        }
        if size % BUNDLE == 0 {
            bundle.clear();
        }
        bundle.push(head.text());
        self.enter(size, &bundle)?;
        self.tidy(size, last.as_ref(), &head)?;
        Ok((head, true))
    }

    /// Refuses to go on from a checkpoint that this key has not signed, or from heads that are not those that it signed. The signature (Ed25519, RFC 8032) is
    /// a function of key and text, so it is made once more and compared.
    fn require_own(&self, note: &str) -> Result<(), AuditError> {
        if note.is_empty() {
            return Ok(());
        }
        let wrong = |what: &str| AuditError::Wrong(format!("the checkpoint in {} {what}", self.folder.display()));
        let kept = Note::from_bytes(note.as_bytes()).map_err(|error| wrong(&format!("can't be read: {error}")))?;
        let mut again = Note::new(kept.text(), &[]).map_err(|error| wrong(&format!("can't be read: {error}")))?;
        again.add_sigs(&[&self.signer]).map_err(|error| wrong(&format!("can't be signed: {error}")))?;
        if !note.as_bytes().starts_with(&again.to_bytes()) {
            return Err(wrong("was not signed by this key, or was changed since; seal into a new folder, or with the key that signed it"));
        }
        let checkpoint = Checkpoint::from_bytes(kept.text()).map_err(|_| wrong("is malformed"))?;
        if Tree::open(&self.folder, checkpoint.size()).root()? != *checkpoint.hash() {
            return Err(wrong("signs other heads than the tree in its folder has"));
        }
        Ok(())
    }

    /// Refuses a log that does not go on from where `last` sealed it: whatever was signed then would be denied by what is signed now. Of each stream
    /// its length is compared and its last record, which tells when it was decided and names the record before it.
    async fn require_extended(&self, log: &dyn EventLog, last: &Head) -> Result<(), AuditError> {
        // What was sealed by another process is on the log, but may take its time to be seen here.
        let deadline = tokio::time::Instant::now() + SEEN_WITHIN;
        while log.ends().await?.iter().zip(&last.records).any(|(end, (size, _))| end < size) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let diverged = |stream: String, what: String| AuditError::Diverged { folder: self.folder.clone(), stream, what };
        let ends = log.ends().await?;
        for (partition, (size, _)) in (0..).zip(&last.records).filter(|(_, (size, _))| *size > 0) {
            let (stream, position) = (format!("records/{partition:03}"), size - 1);
            if ends.get(usize::from(partition)).is_none_or(|end| end < size) {
                return Err(diverged(stream, format!("{size} records are sealed, the log has {}", ends.get(usize::from(partition)).unwrap_or(&0))));
            }
            let entries = log.read(partition, position, 1).await?;
            if entries.first().map(|entry| leaf(&entry.body)) != Some(Tree::open(&self.folder.join(&stream), *size).leaf(position)?) {
                return Err(diverged(stream, format!("record {position} is another than the one that is sealed")));
            }
        }
        for (partition, (size, _)) in (0..).zip(&last.outcomes).filter(|(_, (size, _))| *size > 0) {
            let (stream, position) = (format!("outcomes/{partition:03}"), size - 1);
            let outcomes = log.read_outcomes(partition, position, 1).await?;
            if outcomes.first().map(|body| leaf(body)) != Some(Tree::open(&self.folder.join(&stream), *size).leaf(position)?) {
                return Err(diverged(stream, format!("refused command {position} is missing or another than the one that is sealed")));
            }
        }
        if let Some(position) = last.programs.0.checked_sub(1) {
            let entries = log.read_programs(position).await?;
            if entries.first().map(|body| leaf(body)) != Some(Tree::open(&self.folder.join("programs/000"), last.programs.0).leaf(position)?) {
                return Err(diverged("programs/000".into(), format!("entry {position} is missing or another than the one that is sealed")));
            }
        }
        Ok(())
    }

    /// Refuses a log that is not the one that was sealed here, or has lost what was sealed.
    ///
    /// # Errors
    /// [`AuditError::Diverged`], or why it can't be told.
    pub async fn require_same(&self, log: &dyn EventLog) -> Result<(), AuditError> {
        let (size, _) = signed(&self.folder)?;
        match last_bundle(&self.folder, size)?.last() {
            Some(text) => self.require_extended(log, &Head::parse(text)?).await,
            None => Ok(()),
        }
    }

    /// Asks each of `witnesses` that did not cosign the last checkpoint to do so, and adds what they answer to it; tells how many have cosigned it. The checkpoint is
    /// kept before any of them sees it: one that was cosigned and then lost could not be signed again, and nothing else would extend it.
    ///
    /// # Errors
    /// [`AuditError`], where the checkpoint can't be read or written; a witness that fails is logged.
    pub async fn cosign(&self, witnesses: &mut Witnesses) -> Result<usize, AuditError> {
        let (size, note) = signed(&self.folder)?;
        if size == 0 || witnesses.count() == 0 {
            return Ok(0);
        }
        witnesses.cosign(&self.folder, size, &note).await
    }

    /// Seals every so often until `stop` says so, and once more then, each time with the cosignatures of `witnesses`. It ends sooner where the log is not the one
    /// that was sealed.
    pub async fn run(self, mut witnesses: Witnesses, log: Arc<dyn EventLog>, every: Duration, now: fn() -> Moment, mut stop: watch::Receiver<bool>) {
        loop {
            let is_last = *stop.borrow_and_update();
            match self.seal(&*log, now()).await {
                Ok((head, _)) => {
                    metrics::gauge!("loyalty_sealed_records").set(f64::from(u32::try_from(head.record_count()).unwrap_or(u32::MAX)));
                    if let Err(error) = self.cosign(&mut witnesses).await {
                        tracing::error!(error = &error as &dyn std::error::Error, "the checkpoint can't be cosigned; trying again");
                    }
                }
                Err(error @ AuditError::Diverged { .. }) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the book can't be sealed any more");
                    return;
                }
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

    /// Deletes tiles that neither the checkpoint signed just now nor the one before it needs.
    fn tidy(&self, heads_before: u64, last: Option<&Head>, head: &Head) -> Result<(), AuditError> {
        drop_superseded(&self.folder, [heads_before, heads_before + 1])?;
        let size = |of: &[Reached], partition: usize| of.get(partition).map_or(0, |(size, _)| *size);
        for (name, now, before) in [("records", &head.records, last.map(|last| &last.records)), ("outcomes", &head.outcomes, last.map(|last| &last.outcomes))] {
            for partition in 0..now.len() {
                let sizes = [before.map_or(0, |before| size(before, partition)), size(now, partition)];
                if sizes[0] != sizes[1] {
                    drop_superseded(&self.folder.join(format!("{name}/{partition:03}")), sizes)?;
                }
            }
        }
        drop_superseded(&self.folder.join("programs/000"), [last.map_or(0, |last| last.programs.0), head.programs.0])
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

    /// Enters the last head of `bundle` after `before` others and signs the tree of them.
    fn enter(&self, before: u64, bundle: &[String]) -> Result<(), AuditError> {
        let mut tree = Tree::open(&self.folder, before);
        tree.push(record_hash(bundle.last().map(String::as_bytes).unwrap_or_default()))?;
        let (size, root) = (tree.size, tree.root()?);
        tree.write()?;
        let entries: Vec<u8> = bundle.iter().flat_map(|text| entry(text)).collect();
        let checkpoint = Checkpoint::new(self.signer.name(), size, root, "").map_err(|_| AuditError::Key("its name can't be an origin".into()))?;
        let mut note = Note::new(&checkpoint.to_bytes(), &[]).map_err(|error| AuditError::Wrong(error.to_string()))?;
        note.add_sigs(&[&self.signer]).map_err(|error| AuditError::Wrong(error.to_string()))?;
        write(&bundle_path(&self.folder, before / BUNDLE, bundle.len() as u64), &entries)?;
        write(&self.folder.join("checkpoint"), &note.to_bytes())
    }
}

/// A head as it stands in a bundle: its length in two bytes, then its text.
pub(crate) fn entry(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes()[..], text.as_bytes()].concat()
}

/// The leaf of what stands on the log as `body`.
pub(crate) fn leaf(body: &[u8]) -> Hash {
    leaf_of_hash(&hash(body))
}

/// The same, of its BLAKE3 hash.
pub(crate) fn leaf_of_hash(hash: &[u8; 32]) -> Hash {
    record_hash(hash)
}

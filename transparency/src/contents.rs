//! Every file of an archive, and what vouches for it. An archive may come from anybody, so that a file which can be changed without notice is a hole.
//!
//! | file | what vouches for it |
//! |---|---|
//! | `manifest.json` | its book and partitions are those of the signed heads, its counts those of the files |
//! | `records/`, `outcomes/`, `programs/` | the leaves of the signed trees; after the last head, the chains |
//! | `schemas/` | the schemas in this program, and the digests of those of earlier releases |
//! | `seal/checkpoint` | the key |
//! | `seal/tile/entries/` | the checkpoint's root |
//! | `seal/tile/`, `seal/STREAM/PPP/tile/` | the checkpoint's root, the roots in the heads |
//!
//! Invariants: a file that none of these needs is named; so is one that is missing. What a seal's folder may have besides what its checkpoint needs are partial
//! tiles that were superseded: each begins a tile that was verified.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ledger_schemas::hash;
use tlog_tiles::{Hash, Tile};

use crate::head::Head;
use crate::seal::{entry, last_bundle, signed};
use crate::tree::{Frontier, HEIGHT, Tree, tiles, write};
use crate::{AuditError, file};

pub(crate) const MANIFEST: &str = "manifest.json";
/// What an archive is read by: in its folder `schemas`.
pub(crate) const SCHEMAS: [(&str, &str); 2] = [
    ("archive.proto", include_str!("../../schemas/proto/loyalty/v1/archive.proto")),
    ("book.proto", include_str!("../../schemas/proto/loyalty/v1/book.proto")),
];
/// The same of earlier releases where they were others, by their digests (BLAKE3). A release adds those of the one before it.
const EARLIER: [(&str, &str); 1] = [("book.proto", "643d298c342253c4f78cd1bde696034e66a7a6185b3a119252ba42d595a63ff0")];
/// More than a schema has.
const SCHEMA_BYTES_MAX: u64 = 1 << 20;

/// The files of an archive.
pub(crate) struct Files {
    folder: PathBuf,
    /// Their paths within it.
    names: BTreeSet<String>,
}

/// The trees of a seal of `heads` heads, of which `last` is the last: their folders within it, and their sizes. The heads' own is the first.
fn trees(heads: u64, last: &Head) -> Vec<(String, u64)> {
    let mut trees = vec![(String::new(), heads), ("programs/000/".into(), last.programs.0)];
    for (stream, reached) in [("records", &last.records), ("outcomes", &last.outcomes)] {
        trees.extend(reached.iter().enumerate().map(|(partition, (size, _))| (format!("{stream}/{partition:03}/"), *size)));
    }
    trees
}

/// The bundles of `heads` heads, within their seal.
fn bundles(heads: u64) -> impl Iterator<Item = String> {
    let lowest = tiles(heads).filter(|(name, _)| name.starts_with("tile/0/"));
    lowest.map(|(name, _)| name.replacen("tile/0/", "tile/entries/", 1))
}

/// Copies of the seal in `from` what its checkpoint needs.
///
/// # Errors
/// [`AuditError`].
pub(crate) fn copy_seal(from: &Path, to: &Path) -> Result<(), AuditError> {
    // While it is read, the sealer may write the next one and delete what that supersedes.
    copy_once(from, to).or_else(|_| copy_once(from, to))
}

fn copy_once(from: &Path, to: &Path) -> Result<(), AuditError> {
    let (heads, note) = signed(from)?;
    let last = last_bundle(from, heads)?.pop().ok_or_else(|| AuditError::Wrong(format!("the seal in {} has no heads", from.display())))?;
    for (tree, size) in trees(heads, &Head::parse(&last)?) {
        Tree::open(&from.join(&tree), size).copy(&to.join(&tree))?;
    }
    for name in bundles(heads) {
        let (source, target) = (from.join(&name), to.join(&name));
        let copy = || {
            target.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::copy(&source, &target)
        };
        copy().map_err(file("copy", &source))?;
    }
    write(&to.join("checkpoint"), note.as_bytes())
}

/// The tile at `name` within its tree's folder, and whether it is a bundle of entries.
fn parse(name: &str) -> Option<(Tile, bool)> {
    let (path, is_bundle) = match name.strip_prefix("tile/entries/") {
        Some(rest) => (format!("tile/{HEIGHT}/0/{rest}"), true),
        None => (format!("tile/{HEIGHT}/{}", name.strip_prefix("tile/")?), false),
    };
    Tile::from_path(&path).ok().filter(|tile| tile.width() > 0 && !tile.is_data()).map(|tile| (tile, is_bundle))
}

/// Whether a tree of `size` leaves had the partial tile at `name` when it was smaller.
fn is_superseded(name: &str, size: u64, is_of_heads: bool) -> bool {
    parse(name).is_some_and(|(tile, is_bundle)| {
        let nodes = size.checked_shr(u32::from(HEIGHT) * u32::from(tile.level())).unwrap_or(0);
        let end = tile.level_index().checked_mul(1 << HEIGHT).and_then(|first| first.checked_add(u64::from(tile.width())));
        (is_of_heads || !is_bundle) && end.is_some_and(|end| end <= nodes)
    })
}

impl Files {
    /// Those in `folder` and in its folders.
    ///
    /// # Errors
    /// [`AuditError::Wrong`] for a link, a pipe or a device: whoever reads it may be led elsewhere, or read for ever.
    pub(crate) fn of(folder: &Path) -> Result<Self, AuditError> {
        let mut names = BTreeSet::new();
        let mut folders = vec![String::new()];
        while let Some(prefix) = folders.pop() {
            let here = folder.join(&prefix);
            for entry in std::fs::read_dir(&here).map_err(file("read", &here))? {
                let entry = entry.map_err(file("read", &here))?;
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                let kind = entry.file_type().map_err(file("look at", &entry.path()))?;
                if kind.is_dir() {
                    folders.push(format!("{name}/"));
                } else if kind.is_file() {
                    names.insert(name);
                } else {
                    return Err(AuditError::Wrong(format!("{} is neither a file nor a folder: no export writes that", entry.path().display())));
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), names })
    }

    /// Those whose names begin with `prefix`.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a String> {
        self.names.range(prefix.to_owned()..).take_while(move |name| name.starts_with(prefix))
    }

    /// What is wrong with them by their names, and with the schemas: they are to be the `chunks` of the book, and the seal of `heads`. Where the seal could not be
    /// read there are no heads, and its files are let be.
    pub(crate) fn check(&self, chunks: impl Iterator<Item = String>, heads: &[Head]) -> Vec<String> {
        let mut expected: BTreeSet<String> = chunks.chain([MANIFEST.to_owned()]).collect();
        expected.extend(SCHEMAS.iter().map(|(name, _)| format!("schemas/{name}")));
        let count = heads.len() as u64;
        let trees = heads.last().map(|last| trees(count, last)).unwrap_or_default();
        if !heads.is_empty() {
            expected.insert("seal/checkpoint".into());
            expected.extend(bundles(count).map(|name| format!("seal/{name}")));
            expected.extend(trees.iter().flat_map(|(tree, size)| tiles(*size).map(move |(name, _)| format!("seal/{tree}{name}"))));
        }
        let is_allowed = |name: &str| {
            let Some(name) = name.strip_prefix("seal/") else { return false };
            let own = |(tree, size): &(String, u64)| name.strip_prefix(tree.as_str()).is_some_and(|name| is_superseded(name, *size, tree.is_empty()));
            heads.is_empty() || trees.iter().any(own)
        };
        let missing = expected.difference(&self.names).map(|name| format!("{name} is missing"));
        let unknown = self.names.difference(&expected).filter(|name| !is_allowed(name));
        let unknown = unknown.map(|name| format!("{name} is no file of this archive: nothing vouches for it, and nothing reads it"));
        let schemas = SCHEMAS.iter().filter_map(|(name, own)| self.schema(name, own));
        missing.chain(unknown).chain(schemas).collect()
    }

    /// What is wrong with the schema `name`, which is `own` in this release.
    fn schema(&self, name: &str, own: &str) -> Option<String> {
        let path = self.folder.join("schemas").join(name);
        let length = std::fs::metadata(&path).ok()?.len();
        let text = if length <= SCHEMA_BYTES_MAX { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let digest: String = hash(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        let is_known = text == own.as_bytes() || EARLIER.contains(&(name, digest.as_str()));
        (!is_known)
            .then(|| format!("schemas/{name} is neither this release's nor an earlier one's: it was changed, or is of a later release, which can verify it"))
    }

    /// What is wrong with the tiles of a tree: in the folder `tree` of the seal (or in the seal itself, where that is empty), with the verified `leaves` and
    /// what `grown` of them has above, and the heads' `texts` where it is theirs.
    pub(crate) fn altered_tiles(&self, tree: &str, leaves: &[Hash], grown: &Frontier, texts: &[String]) -> Vec<String> {
        let prefix = format!("seal/{tree}");
        let within = format!("{prefix}tile/");
        let wrong = self.under(&within).filter(|name| {
            // One that can't be of this tree is told by its name.
            let Some((tile, is_bundle)) = parse(&name[prefix.len()..]) else { return false };
            let first = usize::try_from(tile.level_index()).unwrap_or(usize::MAX).saturating_mul(1 << HEIGHT);
            let range = first..first.saturating_add(usize::try_from(tile.width()).unwrap_or(0));
            let sealed: Option<Vec<u8>> = if is_bundle {
                texts.get(range).map(|texts| texts.iter().flat_map(|text| entry(text)).collect())
            } else {
                grown.level(tile.level(), leaves).get(range).map(|nodes| nodes.iter().flat_map(|node| node.0).collect())
            };
            sealed.is_some_and(|sealed| !holds(&self.folder.join(name), &sealed))
        });
        wrong.map(|name| format!("{name} is not as it was sealed")).collect()
    }
}

/// Whether the file at `path` holds `bytes` and no more.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64) && std::fs::read(path).is_ok_and(|read| read == bytes)
}

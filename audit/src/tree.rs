//! A Merkle tree in tiles of 256 hashes, a file each.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use tlog_tiles::{Error, Hash, HashReader, Tile, node_hash, stored_hash_index, stored_hashes_for_record_hash, tree_hash};

use crate::{AuditError, file};

const HEIGHT: u8 = 8;

/// A tree whose tiles are in a folder.
pub(crate) struct Tree {
    folder: PathBuf,
    /// How many leaves it had when it was written last.
    written: u64,
    pub(crate) size: u64,
    /// Hashes of nodes that are in no file yet.
    new: BTreeMap<u64, Hash>,
    tiles: RefCell<HashMap<String, Vec<u8>>>,
}

impl Tree {
    pub(crate) fn open(folder: &Path, size: u64) -> Self {
        Self { folder: folder.to_owned(), written: size, size, new: BTreeMap::new(), tiles: RefCell::default() }
    }

    pub(crate) fn push(&mut self, leaf: Hash) -> Result<(), AuditError> {
        let hashes = stored_hashes_for_record_hash(self.size, leaf, self).map_err(wrong)?;
        let first = stored_hash_index(0, self.size);
        self.new.extend((first..).zip(hashes));
        self.size += 1;
        Ok(())
    }

    pub(crate) fn root(&self) -> Result<Hash, AuditError> {
        tree_hash(self.size, self).map_err(wrong)
    }

    /// The path of hashes from leaf `n` to the root.
    pub(crate) fn prove(&self, n: u64) -> Result<Vec<Hash>, AuditError> {
        tlog_tiles::prove_record(self.size, n, self).map_err(wrong)
    }

    /// Leaf `n`, as it stands in its tile.
    pub(crate) fn leaf(&self, n: u64) -> Result<Hash, AuditError> {
        self.tile(stored_hash_index(0, n)).map_err(wrong)
    }

    /// All leaves, as they stand in the tiles.
    pub(crate) fn leaves(&self) -> Result<Vec<Hash>, AuditError> {
        let mut leaves = Vec::with_capacity(usize::try_from(self.written).unwrap_or(0));
        for first in (0..self.written).step_by(1 << HEIGHT) {
            let width = (self.written - first).min(1 << HEIGHT);
            let tile = Tile::new(HEIGHT, 0, first >> HEIGHT, u32::try_from(width).unwrap_or(0), false);
            let path = self.folder.join(path(&tile));
            let data = std::fs::read(&path).map_err(file("read", &path))?;
            leaves.extend(data.as_chunks::<32>().0.iter().map(|hash| Hash(*hash)));
            if leaves.len() as u64 != first + width {
                return Err(AuditError::Wrong(format!("{} does not have {width} hashes", path.display())));
            }
        }
        Ok(leaves)
    }

    /// Writes the tiles that are new.
    pub(crate) fn write(&mut self) -> Result<(), AuditError> {
        for tile in Tile::new_tiles(HEIGHT, self.written, self.size) {
            let data = tile.read_data(self).map_err(wrong)?;
            let at = self.folder.join(path(&tile));
            write(&at, &data)?;
            drop_superseded(&at)?;
        }
        (self.written, self.new) = (self.size, BTreeMap::new());
        self.tiles.borrow_mut().clear();
        Ok(())
    }

    fn tile(&self, index: u64) -> Result<Hash, Error> {
        let least = Tile::from_index(HEIGHT, index);
        // As wide as it was when the tree was written.
        let nodes = self.written >> (u32::from(HEIGHT) * u32::from(least.level()));
        let width = (nodes - (least.level_index() << HEIGHT)).min(1 << HEIGHT);
        let tile = Tile::new(HEIGHT, least.level(), least.level_index(), u32::try_from(width).unwrap_or(0), false);
        let path = path(&tile);
        let mut tiles = self.tiles.borrow_mut();
        if !tiles.contains_key(&path) {
            if tiles.len() > 64 {
                tiles.clear();
            }
            let data = std::fs::read(self.folder.join(&path)).map_err(|_| Error::InvalidTile)?;
            tiles.insert(path.clone(), data);
        }
        tile.hash_at_index(&tiles[&path], index)
    }
}

impl HashReader for Tree {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        indexes.iter().map(|index| self.new.get(index).map_or_else(|| self.tile(*index), |hash| Ok(*hash))).collect()
    }
}

/// As C2SP tlog-tiles names it, where the height is always 8.
fn path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

fn wrong(error: Error) -> AuditError {
    AuditError::Wrong(format!("the tree's tiles don't fit together: {error}"))
}

/// How many partial tiles of one tile are kept: the last one, and the one that somebody may be reading.
const PARTIALS: usize = 2;

/// Writes a file whole or not at all, so that it outlives a power cut.
pub(crate) fn write(path: &Path, data: &[u8]) -> Result<(), AuditError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(file("make the folder of", path))?;
    let new = path.with_extension("new");
    let write = || {
        let mut written = std::fs::File::create(&new)?;
        written.write_all(data)?;
        written.sync_all()?;
        std::fs::rename(&new, path)?;
        // The name is in the folder once that is on disk, too.
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(file("write", path))
}

/// Deletes the partial tiles beside the one at `path` that narrower trees had: each is the beginning of the next (C2SP tlog-tiles, "partial tiles").
pub(crate) fn drop_superseded(path: &Path) -> Result<(), AuditError> {
    let Some(folder) = path.parent().filter(|folder| folder.extension().is_some_and(|end| end == "p")) else { return Ok(()) };
    let files = std::fs::read_dir(folder).map_err(file("read", folder))?.filter_map(Result::ok);
    let mut widths: Vec<u32> = files.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect();
    widths.sort_unstable_by(|one, other| other.cmp(one));
    for width in widths.into_iter().skip(PARTIALS) {
        let old = folder.join(width.to_string());
        std::fs::remove_file(&old).map_err(file("delete", &old))?;
    }
    Ok(())
}

/// The root of a tree that grows leaf by leaf, of which only the open subtrees are kept.
#[derive(Clone, Default)]
pub(crate) struct Frontier {
    size: u64,
    /// The roots of the full subtrees, the largest first.
    full: Vec<Hash>,
}

impl Frontier {
    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.full.pop().expect("a one bit of the size is a full subtree");
            hash = node_hash(left, hash);
        }
        self.full.push(hash);
        self.size += 1;
    }

    pub(crate) fn root(&self) -> Hash {
        let right_to_left = self.full.iter().rev().copied();
        right_to_left.reduce(|right, left| node_hash(left, right)).unwrap_or(tlog_tiles::EMPTY_HASH)
    }
}

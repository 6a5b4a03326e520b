//! A Merkle tree in tiles of 256 hashes, a file each.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use tlog_tiles::{Error, Hash, HashReader, Tile, node_hash, stored_hash_index, stored_hashes_for_record_hash, tree_hash};

use crate::{AuditError, file};

/// A tile has the hashes of 2^8 nodes.
pub(crate) const HEIGHT: u8 = 8;

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

    /// The proof that the tree begins with that of its first `old` leaves, of which there is one at least.
    pub(crate) fn prove_extends(&self, old: u64) -> Result<Vec<Hash>, AuditError> {
        tlog_tiles::prove_tree(self.size, old, self).map_err(wrong)
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
            let width = usize::try_from(width).unwrap_or(0);
            let data = read_tile(&path, width).ok_or_else(|| missing(&path, width))?;
            leaves.extend(data.as_chunks::<32>().0.iter().map(|hash| Hash(*hash)));
        }
        Ok(leaves)
    }

    /// Writes its tiles into `folder`, and no others.
    pub(crate) fn copy(&self, folder: &Path) -> Result<(), AuditError> {
        for (name, width) in tiles(self.written) {
            let (from, to) = (self.folder.join(&name), folder.join(&name));
            let data = read_tile(&from, width).ok_or_else(|| missing(&from, width))?;
            to.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&to, data)).map_err(file("write", &to))?;
        }
        Ok(())
    }

    /// Writes the tiles that are new.
    pub(crate) fn write(&mut self) -> Result<(), AuditError> {
        for tile in Tile::new_tiles(HEIGHT, self.written, self.size) {
            let data = tile.read_data(self).map_err(wrong)?;
            let at = self.folder.join(path(&tile));
            write(&at, &data)?;
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
            let width = usize::try_from(width).unwrap_or(0);
            let data = read_tile(&self.folder.join(&path), width).ok_or(Error::InvalidTile)?;
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

/// The tiles of a tree of `size` leaves: their paths within its folder, and how many hashes each has.
pub(crate) fn tiles(size: u64) -> impl Iterator<Item = (String, usize)> {
    Tile::new_tiles(HEIGHT, 0, size).into_iter().map(|tile| (path(&tile), usize::try_from(tile.width()).unwrap_or(0)))
}

fn missing(path: &Path, width: usize) -> AuditError {
    AuditError::Wrong(format!("{} is missing, or has not {width} hashes", path.display()))
}

/// As C2SP tlog-tiles names it, where the height is always 8.
fn path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

fn wrong(error: Error) -> AuditError {
    AuditError::Wrong(format!("the tree's tiles don't fit together: {error}"))
}

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

/// Deletes the partial tiles of the tree in `folder` but those that it had at one of `sizes`: each is the beginning of the next (C2SP tlog-tiles, "partial
/// tiles"). Only once what is signed has one of these sizes: whoever goes on from a checkpoint needs the tiles of its size.
pub(crate) fn drop_superseded(folder: &Path, sizes: [u64; 2]) -> Result<(), AuditError> {
    let mut kept: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for size in sizes {
        let tiles = (0..8).map(|level| (level, size >> (u32::from(HEIGHT) * u32::from(level)))).take_while(|(_, nodes)| *nodes > 0);
        for (level, nodes) in tiles {
            let (index, width) = (nodes >> HEIGHT, nodes % (1 << HEIGHT));
            let tile = Tile::new(HEIGHT, level, index, 1 << HEIGHT, false);
            let partials = folder.join(path(&tile)).with_extension("p");
            kept.entry(partials.clone()).or_default().push(width.to_string());
            if level == 0 {
                kept.entry(folder.join(path(&tile).replacen("tile/0/", "tile/entries/", 1)).with_extension("p")).or_default().push(width.to_string());
            }
        }
    }
    for (partials, widths) in kept {
        let Ok(files) = std::fs::read_dir(&partials) else { continue };
        for old in files.filter_map(Result::ok).filter(|file| !widths.iter().any(|width| file.file_name() == width.as_str())) {
            std::fs::remove_file(old.path()).map_err(file("delete", &old.path()))?;
        }
    }
    Ok(())
}

/// The bytes of the tile at `path`; of a partial one, the beginning of a wider one where it is gone, as a sealer that was interrupted leaves it.
fn read_tile(path: &Path, width: usize) -> Option<Vec<u8>> {
    if let Ok(data) = std::fs::read(path) {
        // Where a tile ends is not told elsewhere: one that was cut would leave what comes after it unsealed.
        return (data.len() == width * 32).then_some(data);
    }
    let partials = path.parent().filter(|folder| folder.extension().is_some_and(|end| end == "p"))?;
    let wider = std::fs::read_dir(partials).ok().into_iter().flatten().filter_map(Result::ok).map(|file| file.path());
    let whole = std::iter::once(partials.with_extension(""));
    whole.chain(wider).filter_map(|path| std::fs::read(path).ok()).find(|data| data.len() >= width * 32).map(|mut data| {
        data.truncate(width * 32);
        data
    })
}

/// The root of a tree that grows leaf by leaf, of which only the open subtrees are kept.
#[derive(Clone, Default)]
pub(crate) struct Frontier {
    size: u64,
    /// The roots of the full subtrees, the largest first.
    full: Vec<Hash>,
    /// The nodes that stand in tiles above the leaves: by their level, from 1.
    above: Vec<Vec<Hash>>,
}

impl Frontier {
    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for height in 1..=self.size.trailing_ones() {
            let left = self.full.pop().expect("a one bit of the size is a full subtree");
            hash = node_hash(left, hash);
            if height % u32::from(HEIGHT) == 0 {
                let level = usize::try_from(height / u32::from(HEIGHT)).unwrap_or(usize::MAX);
                self.above.resize_with(self.above.len().max(level), Vec::new);
                self.above[level - 1].push(hash);
            }
        }
        self.full.push(hash);
        self.size += 1;
    }

    /// The nodes of the tiles at `level`, where that of `leaves` is 0.
    pub(crate) fn level<'a>(&'a self, level: u8, leaves: &'a [Hash]) -> &'a [Hash] {
        match usize::from(level).checked_sub(1) {
            None => leaves,
            Some(above) => self.above.get(above).map(Vec::as_slice).unwrap_or_default(),
        }
    }

    pub(crate) fn root(&self) -> Hash {
        let right_to_left = self.full.iter().rev().copied();
        right_to_left.reduce(|right, left| node_hash(left, right)).unwrap_or(tlog_tiles::EMPTY_HASH)
    }
}

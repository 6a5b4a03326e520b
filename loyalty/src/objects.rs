//! Archives in an S3-compatible store, as `s3://BUCKET/PREFIX`. Keys, region and endpoint come from the usual `AWS_…` variables.
//!
//! Invariant: an archive is made and read in a folder; the store holds the same files, `manifest.json` last, so what has one is whole.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use futures_util::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

const MANIFEST: &str = "manifest.json";

/// A place in a store.
pub struct Place {
    url: String,
    store: Box<dyn ObjectStore>,
    root: object_store::path::Path,
}

impl Place {
    /// None where `archive` is a folder.
    pub fn of(archive: &Path) -> anyhow::Result<Option<Self>> {
        let Some(url) = archive.to_str().filter(|text| text.starts_with("s3://")) else { return Ok(None) };
        let settings = std::env::vars().filter(|(name, _)| name.starts_with("AWS_")).map(|(name, value)| (name.to_lowercase(), value));
        let parsed = reqwest::Url::parse(url).with_context(|| format!("{url:?} is not s3://BUCKET/PREFIX"))?;
        let (store, root) = object_store::parse_url_opts(&parsed, settings).with_context(|| format!("can't use {url}; AWS_… variables name its keys"))?;
        Ok(Some(Self { url: url.to_owned(), store, root }))
    }

    /// Puts what is in `folder` there, which must be empty.
    pub async fn upload(&self, folder: &Path) -> anyhow::Result<()> {
        let there = self.store.list(Some(&self.root)).try_next().await.with_context(|| format!("can't read {}", self.url))?;
        ensure!(there.is_none(), "{} is not empty; name a new prefix", self.url);
        let mut files = Vec::new();
        walk(folder, folder, &mut files)?;
        files.sort_by_key(|name| name == MANIFEST);
        for name in files {
            let bytes = std::fs::read(folder.join(&name)).with_context(|| format!("can't read {name}"))?;
            self.store.put(&self.at(&name), bytes.into()).await.with_context(|| format!("can't write {}/{name}", self.url))?;
        }
        Ok(())
    }

    fn at(&self, name: &str) -> object_store::path::Path {
        name.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }

    /// A copy of what is there.
    async fn download(&self) -> anyhow::Result<TempDir> {
        let folder = tempfile::tempdir()?;
        let mut files = self.store.list(Some(&self.root));
        while let Some(file) = files.try_next().await.with_context(|| format!("can't read {}", self.url))? {
            let parts: Vec<String> = file.location.prefix_match(&self.root).into_iter().flatten().map(|part| part.as_ref().to_owned()).collect();
            ensure!(parts.iter().all(|part| part != ".."), "{}: {} is no name of a file", self.url, file.location);
            let path = parts.iter().fold(folder.path().to_owned(), |path, part| path.join(part));
            let bytes = self.store.get(&file.location).await?.bytes().await.with_context(|| format!("can't read {}", file.location))?;
            std::fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
            std::fs::write(&path, bytes).with_context(|| format!("can't write {}", path.display()))?;
        }
        ensure!(folder.path().join(MANIFEST).exists(), "{} has no {MANIFEST}: it is no archive, or not a whole one", self.url);
        Ok(folder)
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            walk(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root)?.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
            files.push(name);
        }
    }
    Ok(())
}

/// An archive as a folder: its own, or a copy that is there as long as this is.
pub struct Here {
    pub folder: PathBuf,
    _copy: Option<TempDir>,
}

impl Here {
    pub async fn of(archive: &Path) -> anyhow::Result<Self> {
        match Place::of(archive)? {
            None => Ok(Self { folder: archive.to_owned(), _copy: None }),
            Some(place) => {
                let copy = place.download().await?;
                Ok(Self { folder: copy.path().to_owned(), _copy: Some(copy) })
            }
        }
    }
}

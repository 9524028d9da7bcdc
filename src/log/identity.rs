//! Whose data directory this is: `identity.toml`, written once, and the lock beside it.

use std::path::{Path, PathBuf};

use crate::model::NodeId;

use super::disk::{self, Disk};
use super::error::{Context, Error};

/// Version of the file's format.
const VERSION: u16 = 1;

pub const FILE: &str = "identity.toml";

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `None` until the node has joined one.
    pub cluster_id: Option<String>,
    pub node: NodeId,
    /// Random, made with the directory: a replica's identity is (node, disk uuid), so a disk that
    /// was wiped is another replica (R22).
    pub disk_uuid: [u8; 16],
    /// All data directories of the node, this one among them; the first is the one that the cluster
    /// knows the node by. Empty in a directory that is used alone.
    pub disks: Vec<[u8; 16]>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u16,
    node: u64,
    disk_uuid: String,
    cluster_id: Option<String>,
    disks: Option<Vec<String>>,
}

/// A TOML basic string: JSON's escapes are a part of TOML's.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Makes the data directory `dir` and those `inside`, names durable, also where whoever made them was
/// killed before that: otherwise a power cut could take the directory with all that was acknowledged.
/// With an identity inside, its own name is durable: the identity was written after that.
pub(super) fn make_dirs(disk: &dyn Disk, dir: &Path, inside: &[PathBuf]) -> Result<(), Error> {
    let file = dir.join(FILE);
    if !disk.exists(&file).context("look for", &file)? {
        disk::create_dir_all_durable(disk, dir).context("create", dir)?;
    }
    for dir in inside {
        disk.create_dir_all(dir).context("create", dir)?;
    }
    disk.sync_dir(dir).context("sync", dir)
}

impl Identity {
    pub fn disk_uuid_text(&self) -> String {
        uuid::Uuid::from_bytes(self.disk_uuid).to_string()
    }

    /// Reads the identity of `dir`; `None` if it has none yet.
    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        if !disk.exists(&path).context("look for", &path)? {
            return Ok(None);
        }
        let bytes = disk.open_read(&path).and_then(|file| disk::read_all(&*file));
        let bytes = bytes.context("read", &path)?;
        let malformed = |reason: String| Error::Malformed { path: path.clone(), reason };
        let text = std::str::from_utf8(&bytes).map_err(|e| malformed(e.to_string()))?;
        let file: File = toml::from_str(text).map_err(|e| malformed(e.to_string()))?;
        if file.version != VERSION {
            return Err(Error::Version { path, found: file.version, known: VERSION });
        }
        let uuid = |text: &String| {
            let parsed = uuid::Uuid::parse_str(text).map_err(|e| malformed(e.to_string()))?;
            Ok::<_, Error>(parsed.into_bytes())
        };
        let disks = file.disks.iter().flatten().map(uuid).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Self {
            cluster_id: file.cluster_id,
            node: NodeId::new(file.node).map_err(|e| malformed(e.to_string()))?,
            disk_uuid: uuid(&file.disk_uuid)?,
            disks,
        }))
    }

    pub(super) fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
        let mut text = String::from("# Written by isobar. Whose data this directory holds.\n");
        text += &format!("version = {VERSION}\nnode = {}\n", self.node);
        text += &format!("disk_uuid = {}\n", quoted(&self.disk_uuid_text()));
        if let Some(cluster_id) = &self.cluster_id {
            text += &format!("cluster_id = {}\n", quoted(cluster_id));
        }
        if !self.disks.is_empty() {
            let uuid = |disk: &[u8; 16]| quoted(&uuid::Uuid::from_bytes(*disk).to_string());
            let disks: Vec<String> = self.disks.iter().map(uuid).collect();
            text += &format!("disks = [{}]\n", disks.join(", "));
        }
        let path = dir.join(FILE);
        disk::replace(disk, &path, text.as_bytes()).context("write", &path)
    }
}

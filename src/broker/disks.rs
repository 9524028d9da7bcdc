//! A node's data directories, all or none.
//!
//! The cluster knows a node by (node, disk uuid) (R22): it is the uuid of its first directory. Each
//! directory names all of them, so that one that is missing, or was emptied, is noticed: what its
//! replicas voted and promised is forgotten then, and they must not begin anew under their old ids.
//! A directory that is added takes what is placed here next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::log::disk::{Disk, OsDisk};
use crate::log::{self, Options, Recovered, Store};
use crate::metadata::image::DiskId;
use crate::model::{NodeId, TopicPartition};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(
        "node {node} also had data directory {missing}, which is not among the {given} given: what its \
         replicas voted and promised is forgotten. Put it back; if its disk is lost, empty all data \
         directories of this node, and it joins again as a new one"
    )]
    Missing { node: NodeId, missing: uuid::Uuid, given: usize },
    #[error("{partition} is in two data directories, {one} and {other}")]
    Twice { partition: TopicPartition, one: PathBuf, other: PathBuf },
    #[error("data directory {0} is given twice")]
    Same(PathBuf),
    #[error("data directories belong to clusters {one} and {other}")]
    Clusters { one: String, other: String },
}

pub struct Opened {
    pub stores: Vec<(Store, Vec<Recovered>)>,
    /// What the cluster knows this node by.
    pub disk: DiskId,
    pub cluster_id: Option<String>,
}

pub fn open(dirs: &[PathBuf], node: NodeId) -> Result<Opened, Error> {
    open_on(Arc::new(OsDisk), dirs, node, || uuid::Uuid::new_v4().into_bytes())
}

pub(super) fn open_on(
    on: Arc<dyn Disk>,
    dirs: &[PathBuf],
    node: NodeId,
    fresh: impl Fn() -> DiskId,
) -> Result<Opened, Error> {
    let mut seen = BTreeSet::new();
    if let Some(dir) = dirs.iter().find(|dir| !seen.insert(dir.as_path())) {
        return Err(Error::Same(dir.clone()));
    }
    let mut stores = Vec::new();
    for dir in dirs {
        stores.push(Store::open(Arc::clone(&on), dir, node, fresh(), Options::default())?);
    }
    let identities: Vec<_> = stores.iter().map(|(store, _)| store.identity().clone()).collect();
    let given: Vec<DiskId> = identities.iter().map(|i| i.disk_uuid).collect();
    let lists: Vec<&[DiskId]> = identities.iter().map(|i| i.disks.as_slice()).collect();
    let all = whole(&given, &lists).map_err(|missing| Error::Missing {
        node,
        missing: uuid::Uuid::from_bytes(missing),
        given: dirs.len(),
    })?;
    check_partitions(dirs, &stores)?;
    let mut cluster_id: Option<String> = None;
    for found in identities.into_iter().filter_map(|i| i.cluster_id) {
        match &cluster_id {
            Some(one) if *one != found => {
                return Err(Error::Clusters { one: one.clone(), other: found });
            }
            _ => cluster_id = Some(found),
        }
    }
    if all.len() > 1 {
        for (store, _) in &mut stores {
            store.set_disks(&all)?;
        }
    }
    Ok(Opened { stores, disk: all[0], cluster_id })
}

/// All directories of a node in the order in which it came to have them, from those that are given and
/// the lists in them; or one that is missing.
///
/// A directory that was alone has no list, and those that are new have none either: what has a list, or
/// the first one, comes first.
fn whole(given: &[DiskId], lists: &[&[DiskId]]) -> Result<Vec<DiskId>, DiskId> {
    // A crash may have come between two lists being written: the longer one has it all.
    let longest = lists.iter().max_by_key(|list| list.len()).copied().unwrap_or_default();
    let mut all = longest.to_vec();
    for disk in lists.iter().flat_map(|list| list.iter()).chain(given) {
        if !all.contains(disk) {
            all.push(*disk);
        }
    }
    match all.iter().find(|disk| !given.contains(disk)) {
        Some(missing) => Err(*missing),
        None => Ok(all),
    }
}

fn check_partitions(dirs: &[PathBuf], stores: &[(Store, Vec<Recovered>)]) -> Result<(), Error> {
    let mut seen: BTreeMap<TopicPartition, &Path> = BTreeMap::new();
    for (dir, (_, recovered)) in dirs.iter().zip(stores) {
        for found in recovered {
            if let Some(one) = seen.insert(found.partition, dir) {
                let (one, other) = (one.to_owned(), dir.clone());
                return Err(Error::Twice { partition: found.partition, one, other });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::log::disk::sim::SimDisk;
    use crate::log::tests::{partition, state};

    fn id(n: u8) -> DiskId {
        [n; 16]
    }

    #[test]
    fn whoever_lacks_a_directory_that_any_other_names_is_refused() {
        let (a, b, c) = (id(1), id(2), id(3));
        assert_eq!(whole(&[a], &[&[]]), Ok(vec![a]), "alone");
        assert_eq!(whole(&[a, b], &[&[], &[]]), Ok(vec![a, b]), "both new, or the first was alone");
        assert_eq!(whole(&[b, a], &[&[a, b], &[a, b]]), Ok(vec![a, b]), "in another order");
        assert_eq!(whole(&[a, b, c], &[&[a, b], &[a, b], &[]]), Ok(vec![a, b, c]), "one more");
        assert_eq!(whole(&[a, b], &[&[a, b], &[]]), Ok(vec![a, b]), "a crash between two lists");
        assert_eq!(whole(&[a], &[&[a, b]]), Err(b), "one less");
        assert_eq!(whole(&[a, c], &[&[a, b], &[]]), Err(b), "one was emptied");
        assert_eq!(whole(&[c, b], &[&[], &[a, b]]), Err(a), "and if it was the first");
    }

    fn try_open(on: &SimDisk, dirs: &[&str]) -> Result<Opened, Error> {
        let fresh = Cell::new(on.counts().syncs as u8);
        let next = || {
            fresh.set(fresh.get() + 1);
            id(fresh.get())
        };
        let dirs: Vec<PathBuf> = dirs.iter().map(PathBuf::from).collect();
        open_on(Arc::new(on.clone()), &dirs, NodeId::new(1).unwrap(), next)
    }

    #[test]
    fn a_node_comes_back_with_all_its_directories_or_not_at_all() {
        let on = SimDisk::new(1);
        let mut opened = try_open(&on, &["/a", "/b"]).unwrap();
        let disk = opened.disk;
        let (second, _) = &mut opened.stores[1];
        second.create(partition(4), "orders", state(), log::Config::default()).unwrap();
        drop(opened);
        let opened = try_open(&on, &["/b", "/a"]).unwrap();
        assert_eq!(opened.disk, disk, "whatever their order");
        assert_eq!(opened.stores[0].1[0].partition, partition(4));
        drop(opened);
        assert!(matches!(try_open(&on, &["/a"]), Err(Error::Missing { .. })));
        assert!(matches!(try_open(&on, &["/a", "/c"]), Err(Error::Missing { .. })));
        assert!(matches!(try_open(&on, &["/a", "/a"]), Err(Error::Same(_))));
        let more = try_open(&on, &["/d", "/a", "/b"]).unwrap();
        assert_eq!(more.disk, disk);
        drop(more);
        assert!(matches!(try_open(&on, &["/a", "/b"]), Err(Error::Missing { .. })));
    }
}

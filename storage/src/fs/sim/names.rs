//! Changes of names that wait for a sync of their directory. Knows nothing of what the files hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link { path: PathBuf, node: u64 },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, node: u64 },
    RenameDir { from: PathBuf, to: PathBuf },
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>, dirs: &mut BTreeSet<PathBuf>) {
        match self {
            Self::Link { path, node } => {
                names.insert(path.clone(), *node);
            }
            Self::Unlink { path } => {
                names.remove(path);
            }
            Self::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
            Self::RenameDir { from, to } => {
                let moved = std::mem::take(names).into_iter();
                *names = moved.map(|(path, node)| (moved_path(path, from, to), node)).collect();
                *dirs = std::mem::take(dirs).into_iter().map(|path| moved_path(path, from, to)).collect();
            }
        }
    }

    /// The same change when its directory was moved before.
    pub(super) fn moved(self, old: &Path, new: &Path) -> Self {
        let path = |path| moved_path(path, old, new);
        match self {
            Self::Link { path: name, node } => Self::Link { path: path(name), node },
            Self::Unlink { path: name } => Self::Unlink { path: path(name) },
            Self::Rename { from, to, node } => Self::Rename { from: path(from), to: path(to), node },
            Self::RenameDir { from, to } => Self::RenameDir { from: path(from), to: path(to) },
        }
    }

    pub(super) fn is_in(&self, dir: &Path) -> bool {
        match self {
            Self::Link { path, .. } | Self::Unlink { path } => parent(path) == dir,
            // The directory that receives the name decides.
            Self::Rename { to, .. } | Self::RenameDir { to, .. } => parent(to) == dir,
        }
    }
}

/// Where a path is once directory `from` is called `to`.
fn moved_path(path: PathBuf, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path,
    }
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

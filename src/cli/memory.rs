//! How much memory there is: of the machine, and of the memory groups (cgroups, version 1 or 2) this process is in.
//!
//! Whatever cannot be read is taken as no bound. Knows nothing of what the memory is for.

use std::fs;
use std::path::{Path, PathBuf};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::{env, os::unix::process::CommandExt as _, process::Command, thread};

use crate::config::MEMORY_BYTES_MIN;

/// The most that is taken without being told to.
const DEFAULT_BYTES_MAX: u64 = 1 << 30;

/// What a server does with when nothing is said: a third of what there is, within bounds. Under more writes than it can
/// take it holds up to twice that (`tests/system/run overload`).
pub(super) fn default_bytes() -> u64 {
    let there = bytes_below(Path::new("/")).unwrap_or(u64::MAX);
    (there / 3).clamp(MEMORY_BYTES_MIN, DEFAULT_BYTES_MAX)
}

/// Runs this program anew with one arena of the allocator for each core; returns when that is so already, or cannot be.
///
/// glibc gives up to eight arenas a core to threads, and takes little back from one that was full once: bodies that are
/// decoded in many threads then hold memory that no limit knows. It reads the number before `main`, so the process
/// replaces itself, once; whoever sets `MALLOC_ARENA_MAX` decides.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn bound_arenas() {
    const ARENAS: &str = "MALLOC_ARENA_MAX";
    if env::var_os(ARENAS).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let arenas = thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let mut args = env::args_os();
    let mut anew = Command::new(program);
    if let Some(name) = args.next() {
        anew.arg0(name);
    }
    let error = anew.args(args).env(ARENAS, arenas.to_string()).exec();
    tracing::debug!(%error, "the allocator keeps its arenas");
}

/// Other allocators have bounds of their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn bound_arenas() {}

/// The least of the machine's memory and the bounds of all groups, by the files below `root`.
fn bytes_below(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let bounds = groups.lines().flat_map(|line| bound_files(root, line)).filter_map(|path| bound(&path));
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok();
    let machine = machine.as_deref().and_then(machine_bytes);
    bounds.chain(machine).min()
}

/// The files that bound the memory of the group in a line of `/proc/self/cgroup`, and of the groups around it.
fn bound_files(root: &Path, line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|one| one == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let group = Path::new(group.trim_start_matches('/'));
    group.ancestors().map(|group| root.join(mount).join(group).join(file)).collect()
}

/// The bound in a file; none for `max`.
fn bound(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `MemTotal` of `/proc/meminfo`, which counts in KiB.
fn machine_bytes(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        bytes_below(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       24684032 kB\nMemFree: 1 kB\n");

    #[test]
    fn machine_counts_where_no_group_bounds() {
        assert_eq!(bytes_of(&[]), None);
        assert_eq!(bytes_of(&[MEMINFO]), Some(24_684_032 * 1024));
        let unbound = [MEMINFO, ("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "max\n")];
        assert_eq!(bytes_of(&unbound), Some(24_684_032 * 1024));
    }

    #[test]
    fn group_of_version_2_bounds_and_so_do_those_around_it() {
        let groups = ("proc/self/cgroup", "0::/a/b\n");
        let inner = ("sys/fs/cgroup/a/b/memory.max", "2000000000\n");
        let outer = ("sys/fs/cgroup/a/memory.max", "1000000000\n");
        assert_eq!(bytes_of(&[MEMINFO, groups, inner]), Some(2_000_000_000));
        assert_eq!(bytes_of(&[MEMINFO, groups, inner, outer]), Some(1_000_000_000));
    }

    #[test]
    fn group_of_version_1_bounds() {
        let groups = ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/x\n0::/\n");
        let bound = ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "268435456\n");
        let whole = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(bytes_of(&[MEMINFO, groups, bound, whole]), Some(256 << 20));
    }
}

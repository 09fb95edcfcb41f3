//! eBPF programs at cgroups, which see what sockets of processes send before netfilter does.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::bpf::{AttachPoint, has_cgroup_programs};

/// Where programs may drop packets of processes, or replace the destination to which they connect or
/// send.
const POINTS: [AttachPoint; 6] = [
    AttachPoint::CgroupIngress,
    AttachPoint::CgroupEgress,
    AttachPoint::CgroupConnect4,
    AttachPoint::CgroupConnect6,
    AttachPoint::CgroupSend4,
    AttachPoint::CgroupSend6,
];

/// The cgroups whose programs see packets of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketPrograms {
    /// None that was asked.
    None,
    /// The root: they see the packets of all processes, as those of socket load balancers.
    OfAll,
    /// These cgroups of pods, at least one. Paths below the root.
    OfPods(Vec<String>),
}

/// Finds programs of the root cgroup and of the cgroups of pods, which have `kubepods` in their path.
/// In a cgroup namespace its root is asked, with the programs that are in force there.
///
/// # Errors
/// The caller may not ask (CAP_NET_ADMIN), or does not see the root cgroup or all cgroups of pods.
pub fn socket_programs() -> io::Result<SocketPrograms> {
    match fs::read_to_string("/proc/self/cgroup") {
        Ok(cgroups) if is_mounted(&cgroups) => {}
        Ok(_) => return Ok(SocketPrograms::None),
        // A kernel without cgroups.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SocketPrograms::None),
        Err(error) => return Err(error),
    }
    let (folder, root) = root().ok_or(io::ErrorKind::NotFound)?;
    if has_programs(&root)? {
        return Ok(SocketPrograms::OfAll);
    }
    let pods = of_pods(&folder)?;
    Ok(if pods.is_empty() { SocketPrograms::None } else { SocketPrograms::OfPods(pods) })
}

fn has_programs(cgroup: &File) -> io::Result<bool> {
    for point in POINTS {
        if has_cgroup_programs(cgroup.as_fd(), point)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The cgroups of pods that have programs in force. Those below one of them are not listed.
fn of_pods(root: &Path) -> io::Result<Vec<String>> {
    /// A node has up to some hundred pods, each with a few cgroups.
    const MOST: usize = 8192;
    let (mut found, mut waiting, mut asked) = (Vec::new(), vec![root.to_owned()], 0);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            let below = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if !entry.file_type()?.is_dir() || !may_have_pods(&below) {
                continue;
            }
            asked += 1;
            if asked > MOST {
                return Err(io::Error::other("too many cgroups"));
            }
            match has_programs_at(&path) {
                Ok(true) => found.push(below),
                Ok(false) => waiting.push(path),
                // The pod is gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn has_programs_at(cgroup: &Path) -> io::Result<bool> {
    has_programs(&File::open(cgroup)?)
}

/// Whether a cgroup is one of pods, or may be above one: kubelet puts them below the root or a cgroup
/// of its own (`--cgroup-root`).
fn may_have_pods(below: &str) -> bool {
    below.contains("kubepods") || below.contains("kubelet") && !below.ends_with(".service")
}

/// Whether the hierarchy of version 2 was mounted since the start of the kernel: each process then
/// has a line of it. There are no programs before.
fn is_mounted(cgroups: &str) -> bool {
    cgroups.lines().any(|line| line.starts_with("0::"))
}

/// The root of the hierarchy as this process sees it, else as one of the processes that started it
/// does: ip-netns(8) mounts another /sys.
fn root() -> Option<(PathBuf, File)> {
    const GENERATIONS: usize = 16;
    let of_process = std::iter::successors(Some("self".to_owned()), |process| {
        parent(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
    });
    of_process.take(GENERATIONS).find_map(|process| root_of(&process))
}

fn root_of(process: &str) -> Option<(PathBuf, File)> {
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).ok()?;
    let folder = PathBuf::from(format!("/proc/{process}/root"));
    mount_points(&mounts).into_iter().find_map(|point| {
        let path = folder.join(point.trim_start_matches('/'));
        let file = File::open(&path).ok()?;
        // Another file system may be mounted over it.
        has_cgroup_programs(file.as_fd(), AttachPoint::CgroupIngress).ok()?;
        Some((path, file))
    })
}

/// The parent of a process (proc_pid_status(5)).
fn parent(status: &str) -> Option<String> {
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Some(line.trim().to_owned()).filter(|parent| parent != "0")
}

/// Where the root of the hierarchy is mounted (proc_pid_mountinfo(5)).
fn mount_points(mounts: &str) -> Vec<&str> {
    mounts.lines().filter_map(mount_point).collect()
}

fn mount_point(line: &str) -> Option<&str> {
    let (fields, source) = line.split_once(" - ")?;
    let mut fields = fields.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    (source.starts_with("cgroup2 ") && root == "/").then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_root_is_found_in_mounts() {
        let mounts = "21 1 0:5 / /sys rw - sysfs sysfs rw\n\
            30 21 0:26 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n\
            31 21 0:26 /kubepods /mnt rw - cgroup2 cgroup2 rw\n\
            32 21 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n31 21";
        assert_eq!(mount_points(mounts), ["/sys/fs/cgroup/unified"]);
        assert_eq!(parent("Name:\tsh\nPid:\t20\nPPid:\t7\n"), Some("7".to_owned()));
        assert_eq!(parent("Pid:\t1\nPPid:\t0\n"), None);
        for (cgroup, is_of_pods) in [
            ("kubepods/burstable/pod1", true),
            ("kubepods.slice", true),
            ("kubelet", true),
            ("kubelet.slice/kubelet-kubepods.slice", true),
            ("system.slice/kubelet.service", false),
            ("user.slice", false),
        ] {
            assert_eq!(may_have_pods(cgroup), is_of_pods, "{cgroup}");
        }
        assert!(is_mounted("1:cpu:/\n0::/\n"));
        assert!(!is_mounted("1:cpu:/\n10::/x\n"));
    }
}

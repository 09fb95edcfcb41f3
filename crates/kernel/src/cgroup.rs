//! eBPF programs at cgroups, which see what sockets of processes send before netfilter does.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::bpf::{AttachPoint, has_cgroup_programs};

/// Whether programs of the root cgroup may drop packets of all processes, or replace the destination
/// to which they connect or send, as socket load balancers do. In a cgroup namespace its root is
/// asked, with the programs that are in force there.
///
/// # Errors
/// The caller may not ask (CAP_NET_ADMIN), or does not see the root cgroup.
pub fn has_socket_programs() -> io::Result<bool> {
    const POINTS: [AttachPoint; 6] = [
        AttachPoint::CgroupIngress,
        AttachPoint::CgroupEgress,
        AttachPoint::CgroupConnect4,
        AttachPoint::CgroupConnect6,
        AttachPoint::CgroupSend4,
        AttachPoint::CgroupSend6,
    ];
    match fs::read_to_string("/proc/self/cgroup") {
        Ok(cgroups) if is_mounted(&cgroups) => {}
        Ok(_) => return Ok(false),
        // A kernel without cgroups.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let root = root().ok_or(io::ErrorKind::NotFound)?;
    for point in POINTS {
        if has_cgroup_programs(root.as_fd(), point)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the hierarchy of version 2 was mounted since the start of the kernel: each process then
/// has a line of it. There are no programs before.
fn is_mounted(cgroups: &str) -> bool {
    cgroups.lines().any(|line| line.starts_with("0::"))
}

/// The root of the hierarchy as this process sees it, else as one of the processes that started it
/// does: ip-netns(8) mounts another /sys.
fn root() -> Option<File> {
    const GENERATIONS: usize = 16;
    let of_process = std::iter::successors(Some("self".to_owned()), |process| {
        parent(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
    });
    of_process.take(GENERATIONS).find_map(|process| root_of(&process))
}

fn root_of(process: &str) -> Option<File> {
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).ok()?;
    let folder = PathBuf::from(format!("/proc/{process}/root"));
    mount_points(&mounts).into_iter().find_map(|point| {
        let file = File::open(folder.join(point.trim_start_matches('/'))).ok()?;
        // Another file system may be mounted over it.
        has_cgroup_programs(file.as_fd(), AttachPoint::CgroupIngress).ok()?;
        Some(file)
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
        assert!(is_mounted("1:cpu:/\n0::/\n"));
        assert!(!is_mounted("1:cpu:/\n10::/x\n"));
    }
}

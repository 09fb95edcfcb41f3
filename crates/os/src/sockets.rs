//! Listening ports of this network namespace (proc(5): /proc/net/tcp and others).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rulegen_net::Protocol;

use crate::process::Process;

/// A socket that receives packets from any peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// TCP or UDP: the kernel does not list other protocols in this format.
    pub protocol: Protocol,
    /// Local address and port.
    pub address: SocketAddr,
    /// Process that holds it, if visible.
    pub holder: Option<Process>,
    inode: u64,
}

/// Listeners on these ports, for TCP and UDP.
///
/// # Errors
/// The kernel's list of sockets cannot be read.
pub fn listeners(ports: &BTreeSet<u16>) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for (file, protocol) in [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
    ] {
        // Of the thread's network namespace, which may differ from that of the process.
        let open = match File::open(format!("/proc/thread-self/net/{file}")) {
            // IPv6 may be missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with('6') => {
                continue;
            }
            open => open?,
        };
        listeners.extend(read_listeners(BufReader::new(open), protocol, ports)?);
    }
    if !listeners.is_empty() {
        name_holders(&mut listeners)?;
    }
    listeners.sort_unstable();
    Ok(listeners)
}

/// Maximum number of sockets read per file: a busy node may have a million.
const MOST_SOCKETS: usize = 100_000;

/// Maximum number of listeners kept per file: a process may open many sockets on one port.
const MOST_LISTENERS: usize = 1_000;

fn read_listeners(
    file: impl BufRead,
    protocol: Protocol,
    ports: &BTreeSet<u16>,
) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for line in file.lines().skip(1).take(MOST_SOCKETS) {
        let listener = listener(&line?, protocol);
        // Listening TCP sockets come first (proc_net_tcp.rst of the kernel).
        if protocol == Protocol::Tcp && listener.is_none() {
            break;
        }
        listeners.extend(listener.filter(|of| ports.contains(&of.address.port())));
        if listeners.len() == MOST_LISTENERS {
            break;
        }
    }
    Ok(listeners)
}

/// Searches the processes for the sockets, which takes a while if there are many.
fn name_holders(listeners: &mut [Listener]) -> io::Result<()> {
    let mut holders: HashMap<u64, Vec<Process>> = HashMap::new();
    let desired: HashSet<u64> = listeners.iter().map(|listener| listener.inode).collect();
    for process in Process::all()? {
        let inodes: HashSet<u64> = process.sockets().into_iter().collect();
        for inode in inodes.intersection(&desired) {
            holders.entry(*inode).or_default().push(process.clone());
        }
    }
    for listener in listeners {
        listener.holder = holders.remove(&listener.inode).and_then(first_holder);
    }
    Ok(())
}

/// The process that opened a socket. Its children inherit it: workers of a server, or any child until
/// it executes another program. Their IDs may be lower.
fn first_holder(mut holders: Vec<Process>) -> Option<Process> {
    let ids: HashSet<u32> = holders.iter().map(|holder| holder.pid).collect();
    let is_first = |holder: &Process| holder.parent().is_none_or(|parent| !ids.contains(&parent));
    let first = holders.iter().position(is_first)?;
    Some(holders.swap_remove(first))
}

/// `  0: 0100007F:7530 00000000:0000 0A …` with the inode in the tenth field.
fn listener(line: &str, protocol: Protocol) -> Option<Listener> {
    // TCP_LISTEN and TCP_CLOSE of net/tcp_states.h; a connected UDP socket has another state.
    let waits = match protocol {
        Protocol::Tcp => "0A",
        _ => "07",
    };
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
    let address = (*state == waits).then(|| address(local))??;
    Some(Listener { protocol, address, holder: None, inode: inode.parse().ok()? })
}

/// `0100007F:1F90`: 32-bit words in the machine's byte order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?.to_ne_bytes()).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in (0..).step_by(8).zip(bytes.chunks_exact_mut(4)) {
                four.copy_from_slice(&word(at)?.to_ne_bytes());
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENS: &str = "   0: 0100007F:7530 00000000:0000 0A 00000000:00000000 00:00000000 \
                           00000000     0        0 4711 1 0000000000000000 100 0 0 10 0";

    #[cfg(target_endian = "little")]
    #[test]
    fn listener_holder_is_the_parent_of_processes_that_inherited_the_socket() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = |pid| Process { pid, name: "server".to_owned() };
        let (own, worker) = (process(std::process::id()), process(child.id()));
        let first = first_holder(vec![worker.clone(), own.clone()]);
        let alone = first_holder(vec![worker.clone()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((first, alone, first_holder(Vec::new())), (Some(own), Some(worker), None));
    }

    #[test]
    fn listener_address_is_parsed_in_both_families() {
        let found = listener(LISTENS, Protocol::Tcp);
        let found = found.map(|found| (found.address.to_string(), found.inode));
        assert_eq!(found, Some(("127.0.0.1:30000".to_owned(), 4711)));
        let v6 = "B80D0120000000000000000001000000:0050";
        assert_eq!(address(v6).map(|a| a.to_string()).as_deref(), Some("[2001:db8::1]:80"));
    }

    /// A host with a million connections must not slow this down.
    #[test]
    fn listeners_are_bounded_and_connections_are_not_read() {
        let end = "   1: 0100007F:7530 0100007F:8000 01 0:0 0:0 0 0 0 4712 1";
        let ports = BTreeSet::from([30000]);
        let mut file = io::Cursor::new(["sl", LISTENS, end, "never read"].join("\n"));
        let found = read_listeners(&mut file, Protocol::Tcp, &ports).unwrap();
        assert_eq!(found.len(), 1);
        let mut rest = String::new();
        io::Read::read_to_string(&mut file, &mut rest).unwrap();
        assert_eq!(rest, "never read");
        let many = format!("sl\n{}", format!("{LISTENS}\n").repeat(2 * MOST_LISTENERS));
        let found = read_listeners(many.as_bytes(), Protocol::Tcp, &ports).unwrap();
        assert_eq!(found.len(), MOST_LISTENERS);
    }

    #[test]
    fn listener_lines_of_connections_and_invalid_lines_are_skipped() {
        assert_eq!(listener(&LISTENS.replace(" 0A ", " 01 "), Protocol::Tcp), None);
        assert_eq!(listener(LISTENS, Protocol::Udp), None);
        for text in ["", "0: x:y z 0A 0 0 0 0 0 0", "   0: 0100007F:7530 00000000:0000 0A"] {
            assert_eq!(listener(text, Protocol::Tcp), None, "{text}");
        }
        assert_eq!(address("é100007:0050"), None);
    }
}

//! Detects a kube-proxy in the same network namespace, which would write rules for the same
//! Services.
//!
//! It is only reported. During a node-by-node migration both may run for a while, and exiting would
//! be worse than duplicate rules.

mod detected;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rulegen_os::process::{NetworkNamespace, Process};

use crate::error::Result;
use crate::telemetry::Telemetry;
use crate::threads;
pub(crate) use detected::Detected;
use detected::METRICS;

/// The check interval.
const PERIOD: Duration = Duration::from_secs(60);

/// The timeout for `/proxyMode`, and the maximum length of its response in bytes.
const PATIENCE: Duration = Duration::from_millis(500);
const LONGEST: usize = 4096;

/// Checks once. Must be called by the only agent of the network namespace, before the agent opens
/// the port itself, and with the privileges to read other processes.
pub(crate) fn detect() -> Option<Detected> {
    let seen = process().or_else(|| mode(METRICS).ok().flatten().map(Detected::Mode));
    seen.iter().for_each(report);
    seen
}

/// Checks periodically, as far as the remaining privileges allow, and logs changes.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn watch(mut seen: Option<Detected>, telemetry: Telemetry) -> Result<()> {
    telemetry.kube_proxy(seen.as_ref());
    threads::start("kube-proxy", move || {
        loop {
            thread::sleep(PERIOD);
            let now = next(&seen, process());
            match (&seen, &now) {
                (None, Some(detected)) => report(detected),
                (Some(Detected::Process(before)), None) => {
                    tracing::info!(kube_proxy = %before, "kube-proxy exited");
                }
                _ => {}
            }
            telemetry.kube_proxy(now.as_ref());
            seen = now;
        }
    })
}

/// The result of another search of the processes. A kube-proxy that was detected by its port remains:
/// the agent uses that port now, so it cannot be asked again.
fn next(before: &Option<Detected>, process: Option<Detected>) -> Option<Detected> {
    process.or_else(|| before.clone().filter(|before| matches!(before, Detected::Mode(_))))
}

fn report(detected: &Detected) {
    tracing::warn!(
        kube_proxy = %detected,
        "kube-proxy is also running on this node and programs the same Services; remove it \
         (docs/replacing-kube-proxy.md)"
    );
}

fn process() -> Option<Detected> {
    let processes = Process::all().unwrap_or_default().into_iter();
    let mut named = processes.filter(|process| process.name == "kube-proxy");
    named
        .find(|process| process.network_namespace() == Some(NetworkNamespace::Ours))
        .map(Detected::Process)
}

/// The mode that kube-proxy reports.
fn mode(address: SocketAddr) -> io::Result<Option<&'static str>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /proxyMode HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let answer = read(&mut stream)?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim());
    Ok(["iptables", "ipvs", "nftables"].into_iter().find(|mode| Some(*mode) == body))
}

/// Reads to the end or to the timeout: any program may listen on that port.
fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    let (mut answer, mut piece) = (Vec::new(), [0; 512]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() > LONGEST {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => return Ok(answer),
            length => answer.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str) -> Option<&'static str> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /proxyMode "));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let mode = mode(address).unwrap();
        server.join().unwrap();
        mode
    }

    #[test]
    fn kube_proxy_found_by_port_is_remembered_without_process() {
        let process = || Detected::Process(Process { pid: 7, name: "kube-proxy".to_owned() });
        let by_port = Some(Detected::Mode("ipvs"));
        assert_eq!(next(&by_port, None), by_port);
        assert_eq!(next(&by_port, Some(process())), Some(process()));
        assert_eq!(next(&Some(process()), None), None);
        assert_eq!(next(&None, None), None);
    }

    #[test]
    fn kube_proxy_is_recognised_by_its_proxy_mode_response() {
        assert_eq!(answering("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nipvs"), Some("ipvs"));
        assert_eq!(answering("HTTP/1.0 200 OK\r\n\r\niptables\n"), Some("iptables"));
        assert_eq!(answering("HTTP/1.0 404 Not Found\r\n\r\nno iptables"), None);
        assert_eq!(answering("x"), None);
    }
}

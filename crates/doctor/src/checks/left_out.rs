//! Services that a running agent left out of the rules. Only the agent knows those that the kernel
//! refused: for the check `drift` their rules are just missing.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::FactResult;
use rulegen_config::BindAddress;
use serde::Deserialize;

use crate::code::FindingCode;
use crate::finding::{CheckResult, Finding};
use crate::node_facts::NodeFacts;

/// Each read and write may take this long.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest answer that is read, in bytes. The agent bounds its own to less.
const LONGEST: u64 = 16 << 20;

/// What the agent's status page says as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentStatus {
    left_out: Vec<LeftOut>,
    left_out_services: usize,
}

#[derive(Deserialize)]
struct LeftOut {
    service: String,
    message: String,
}

pub(crate) fn run(node: &NodeFacts) -> FactResult<CheckResult> {
    let Some(address) = address(node.metrics_address()) else {
        return Ok(CheckResult::NotChecked(
            "the agent's status page is off (metricsBindAddress)".to_owned(),
        ));
    };
    Ok(match ask(address) {
        Ok(answer) => check(&answer, address).map_or_else(
            || {
                CheckResult::NotChecked(format!(
                    "{address} does not answer as an agent of rulegen does"
                ))
            },
            CheckResult::Found,
        ),
        Err(error) => CheckResult::NotChecked(format!("no agent answers at {address}: {error}")),
    })
}

/// The address to ask: an agent that listens at all addresses answers at loopback too.
fn address(bind: BindAddress) -> Option<SocketAddr> {
    let BindAddress::At(mut address) = bind else { return None };
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Some(address)
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /?format=json HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    Ok(answer)
}

/// None if that is not the status of an agent.
fn check(answer: &str, address: SocketAddr) -> Option<Vec<Finding>> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let status: AgentStatus = serde_json::from_str(body).ok()?;
    let finding = |LeftOut { service, message }: &LeftOut| {
        Finding::error(
            FindingCode::ServiceLeftOut,
            format!("Service {service} {message}"),
            "change the Service; the agent then tries it again within seconds",
        )
    };
    let mut findings: Vec<Finding> = status.left_out.iter().map(finding).collect();
    let more = status.left_out_services.saturating_sub(findings.len());
    if more > 0 {
        findings.push(Finding::error(
            FindingCode::MoreServicesLeftOut,
            format!("{more} more Services are left out"),
            format!(
                "change the Services that are named; the agent's status page (http://{address}/) then \
                 names the next ones"
            ),
        ));
    }
    Some(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_out_asks_the_configured_address() {
        let asked = |text| {
            let bind = BindAddress::parse(text, BindAddress::METRICS_PORT).unwrap();
            address(bind).map(|address| address.to_string())
        };
        for (bind, expected) in [
            ("192.0.2.1:9", Some("192.0.2.1:9")),
            ("0.0.0.0", Some("127.0.0.1:10249")),
            ("[::]:9", Some("[::1]:9")),
            ("127.0.0.1:0", None),
        ] {
            assert_eq!(asked(bind).as_deref(), expected, "{bind}");
        }
    }

    #[test]
    fn left_out_services_of_the_agent_are_reported_by_name() {
        let answer = |body: &str| format!("HTTP/1.0 200 OK\r\n\r\n{body}");
        let of = |answer: &str| check(answer, "127.0.0.1:10249".parse().unwrap());
        let found = of(&answer(
            r#"{"leftOut": [{"service": "default/web", "reason": "refused", "message": "is left out"}],
                "leftOutServices": 3}"#,
        ));
        let found = found.unwrap();
        assert!(found[0].remedy.starts_with("change the Service; the agent then tries it again"));
        let what: Vec<String> = found.into_iter().map(|finding| finding.what).collect();
        assert_eq!(what, ["Service default/web is left out", "2 more Services are left out"]);
        assert_eq!(of(&answer(r#"{"leftOut": [], "leftOutServices": 0}"#)), Some(Vec::new()));
        for other in ["", "HTTP/1.0 404 Not Found\r\n\r\nnot found", &answer("{}")] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}

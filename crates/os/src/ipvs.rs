//! IPVS, the load balancer of the kernel, of this network namespace.

use std::{fs, io};

/// Whether IPVS has services. They take packets to their addresses before the host gets them.
///
/// # Errors
/// /proc cannot be read.
pub fn has_services() -> io::Result<bool> {
    match fs::read_to_string("/proc/thread-self/net/ip_vs") {
        Ok(table) => Ok(lists_services(&table)),
        // The module is not loaded.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the table has more than its heading.
fn lists_services(table: &str) -> bool {
    const HEADING: usize = 3;
    table.lines().nth(HEADING).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
        Prot LocalAddress:Port Scheduler Flags\n  \
        -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";

    #[test]
    fn ipvs_has_services_if_its_table_has_more_than_a_heading() {
        assert!(!lists_services(HEADING));
        let service =
            "TCP  0A600001:0050 rr\n  -> 0AF40105:1F90      Masq    1      0          0\n";
        assert!(lists_services(&format!("{HEADING}{service}")));
        assert!(!has_services().unwrap(), "no test makes one");
    }
}

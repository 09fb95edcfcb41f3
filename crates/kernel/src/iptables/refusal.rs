//! Classifies failures of iptables-restore.

/// Invalid rule: OTHER_PROBLEM and PARAMETER_PROBLEM of xtables.h.
const STATUSES: [i32; 2] = [1, 2];

/// RESOURCE_PROBLEM of xtables.h. iptables-nft also exits with it if the kernel refuses a rule.
pub(super) const RESOURCE_PROBLEM: i32 = 4;

/// Errors that concern the content of a rule, as in `rulegen_kernel::nftables`, in the words of
/// strerror(3) of glibc and musl.
const REASONS: [&str; 17] = [
    "Argument list too long",
    "Directory not empty",
    "File exists",
    "File name too long",
    "Filename too long",
    "Invalid argument",
    "Message too large",
    "Message too long",
    "No such file or directory",
    "No space left on device",
    "Not supported",
    "Numerical result out of range",
    "Operation not supported",
    "Result not representable",
    "Too many levels of symbolic links",
    "Too many links",
    "Value too large for defined data type",
];

/// True if a rule may be the cause, according to the exit status and the message.
///
/// iptables-nft names each refused operation and its error. iptables-legacy gives no reason if the
/// kernel refuses a table: lack of memory then looks like an invalid rule.
pub(super) fn is_about_content(status: i32, message: &str) -> bool {
    let is_reason_known = reasons(message).next().is_some();
    let has_status = STATUSES.contains(&status) || (is_reason_known && status == RESOURCE_PROBLEM);
    has_status && reasons(message).all(|reason| REASONS.contains(&reason))
}

/// The errors in lines such as `line 8: RULE_APPEND failed (Invalid argument): rule in chain FOO`.
fn reasons(message: &str) -> impl Iterator<Item = &str> {
    message.lines().filter_map(|line| {
        let (_, rest) = line.strip_prefix("line ")?.split_once(" failed (")?;
        rest.split_once(')').map(|(reason, _)| reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_an_invalid_rule_is_about_content() {
        let nft = "iptables-nft-restore v1.8.9 (nf_tables): \n\
                   line 8: RULE_APPEND failed (Invalid argument): rule in chain FOO";
        assert!(is_about_content(4, nft));
        assert!(is_about_content(
            2,
            "iptables-restore v1.8.9 (legacy): Couldn't load target `BAR'"
        ));
        assert!(is_about_content(1, "iptables-restore: line 9 failed"));
    }

    #[test]
    fn refusal_nftables_out_of_memory_or_not_permitted_is_not_about_content() {
        for (status, reason) in [
            (4, "Cannot allocate memory"),
            (1, "Cannot allocate memory"),
            (4, "Out of memory"),
            (4, "No buffer space available"),
            (4, "Operation not permitted"),
            (4, "Device or resource busy"),
        ] {
            let line = format!("line 8: RULE_APPEND failed ({reason}): rule in chain FOO");
            assert!(!is_about_content(status, &line), "{line}");
            let second = format!("line 7: RULE_APPEND failed (Invalid argument): x\n{line}");
            assert!(!is_about_content(status, &second), "{second}");
        }
        assert!(!is_about_content(4, "Another app is currently holding the xtables lock."));
        assert!(!is_about_content(4, "Could not fetch rule set generation id: Permission denied"));
        assert!(!is_about_content(3, ""));
    }
}

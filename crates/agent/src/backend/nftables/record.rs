//! A record of the tables that the kernel had when the agent stopped. A start with the same input
//! then need not read them.
//!
//! The record says which ruleset it is about (boot, network namespace, generation, handles of the
//! tables) and has a hash of the tables. It is never parsed: a start computes what the record would
//! be if nothing had changed, and compares. So a record that is missing, truncated, of another boot
//! or namespace, or changed in any way only costs the time of reading the tables.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rulegen_kernel::nftables::RulesetIdentity;
use rulegen_os::host;
use rulegen_ruleset::nftables::Table;
use sha2::{Digest, Sha256};

use crate::metrics::Build;

/// The file with the record.
#[derive(Debug, Clone)]
pub(crate) struct RecordFile {
    folder: PathBuf,
    /// The program: another version may write the same tables differently.
    program: String,
    /// The kernel's boot ID.
    boot: String,
}

/// Longest record, in bytes.
const LONGEST: u64 = 4096;

impl RecordFile {
    /// A record of this program and boot, in a folder that need not exist.
    ///
    /// # Errors
    /// The boot cannot be identified. A record could then be taken for one of this boot, if the
    /// folder survives a restart of the machine.
    pub(crate) fn new(folder: PathBuf, build: &Build) -> io::Result<Self> {
        let Build { version, commit, .. } = build;
        let program = format!("rulegen {version} {commit}{}", executable());
        Ok(Self { folder, program, boot: host::boot_id()? })
    }

    /// True if the record says that the kernel has exactly these tables.
    pub(super) fn matches(&self, ruleset: &RulesetIdentity, tables: &[&Table]) -> bool {
        match self.read() {
            Ok(record) => {
                let hash = record.strip_prefix(&self.ruleset(ruleset));
                // The hash takes 0.1 s for 50,000 Services.
                hash.is_some_and(|hash| hash == hash_line(tables))
            }
            Err(error) => {
                tracing::debug!(%error, folder = %self.folder.display(), "no record of the tables");
                false
            }
        }
    }

    /// Records that the kernel has exactly these tables.
    pub(super) fn write(&self, ruleset: &RulesetIdentity, tables: &[&Table]) -> io::Result<()> {
        let record = self.ruleset(ruleset) + &hash_line(tables);
        fs::create_dir_all(&self.folder)?;
        let (file, new) = (self.folder.join(NAME), self.folder.join(NEW));
        // Never through a link that another user made.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut made = OpenOptions::new().write(true).create_new(true).open(&new)?;
        made.write_all(record.as_bytes())?;
        fs::rename(new, file)
    }

    fn read(&self) -> io::Result<String> {
        let mut record = String::new();
        File::open(self.folder.join(NAME))?.take(LONGEST).read_to_string(&mut record)?;
        Ok(record)
    }

    /// The lines that identify the ruleset.
    fn ruleset(
        &self,
        RulesetIdentity { namespace, generation, tables }: &RulesetIdentity,
    ) -> String {
        let Self { program, boot, .. } = self;
        let tables: String = tables
            .iter()
            .map(|(family, name, handle)| format!("table {} {name} {handle}\n", family.nft_name()))
            .collect();
        format!(
            "{program}\nboot {boot}\nnamespace {namespace}\ngeneration {}\n{tables}",
            generation.0
        )
    }
}

/// Size and time of change of the program's file, because builds of a changed source tree have the
/// same version and commit. A container has them from its image.
fn executable() -> String {
    let file = fs::metadata("/proc/self/exe");
    file.map(|file| format!(" {} {}", file.size(), file.mtime())).unwrap_or_default()
}

const NAME: &str = "nftables";
const NEW: &str = "nftables.new";

fn hash_line(tables: &[&Table]) -> String {
    let mut hasher = Sha { sha: Sha256::new(), buffer: Vec::with_capacity(BUFFER) };
    tables.hash(&mut hasher);
    let bytes = hasher.finish_sha();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256 {hex}\n")
}

/// SHA-256 of what `Hash` writes. A tenant who chooses names of Services cannot find two tables with
/// the same hash, as is possible with the standard library's.
struct Sha {
    sha: Sha256,
    /// Bytes to hash together: `Hash` writes a few at a time.
    buffer: Vec<u8>,
}

/// Size of the buffer, in bytes.
const BUFFER: usize = 16 << 10;

impl Sha {
    fn finish_sha(mut self) -> sha2::digest::Output<Sha256> {
        self.sha.update(&self.buffer);
        self.sha.finalize()
    }
}

impl Hasher for Sha {
    fn write(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.sha.update(&self.buffer);
            self.buffer.clear();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Not used: the result is that of SHA-256.
    fn finish(&self) -> u64 {
        0
    }
}

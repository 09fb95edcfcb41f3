//! The folder with the files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::render::{HEADER, RulesFile};

/// The extensions of files with rules.
const EXTENSIONS: [&str; 3] = ["iptables-save", "ip6tables-save", "nft"];

/// The folder `rules`, with a folder for each configuration.
pub(super) struct RulesFolder(PathBuf);

impl RulesFolder {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let rules = folder.join("rules");
        if rules.is_symlink() {
            bail!("{}: is a symbolic link: make it a folder", rules.display());
        }
        Ok(Self(rules))
    }

    /// The path for people.
    pub(super) fn shown(&self, path: &str) -> String {
        self.0.join(path).display().to_string()
    }

    /// The content of a file; `None` if it does not exist.
    pub(super) fn read(&self, path: &str) -> Result<Option<String>> {
        match fs::read(self.0.join(path)) {
            Ok(content) => Ok(Some(String::from_utf8_lossy(&content).into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("{}: cannot read file", self.shown(path)))
            }
        }
    }

    /// Whether a file exists that `rulegen golden` did not write.
    pub(super) fn is_foreign(&self, path: &str) -> bool {
        // A file that cannot be read may be anything.
        let is_ours = match self.read(path) {
            Ok(text) => text.is_none_or(|text| text.starts_with(HEADER)),
            Err(_) => false,
        };
        let path = self.0.join(path);
        // Files behind a link are outside of this folder.
        let is_behind_link = path.is_symlink() || path.parent().is_some_and(Path::is_symlink);
        !is_ours || path.is_dir() || is_behind_link
    }

    /// Files that `rulegen golden` wrote and that are not wanted. Other files do not count.
    pub(super) fn stale(&self, desired: &BTreeMap<String, RulesFile>) -> Result<Vec<String>> {
        let mut stale = Vec::new();
        for configuration in names(&self.0)? {
            let folder = self.0.join(&configuration);
            if !folder.is_dir() || folder.is_symlink() {
                continue;
            }
            for name in names(&folder)? {
                let path = format!("{configuration}/{name}");
                let has_rules = EXTENSIONS.iter().any(|end| name.ends_with(&format!(".{end}")));
                let is_wanted = desired.contains_key(&path);
                if has_rules
                    && !is_wanted
                    && folder.join(&name).is_file()
                    && !self.is_foreign(&path)
                {
                    stale.push(path);
                }
            }
        }
        Ok(stale)
    }

    /// Replaces a file: others see the old or the new content, never a part.
    pub(super) fn write(&self, path: &str, text: &str) -> Result<()> {
        let to = self.0.join(path);
        let replace = || -> io::Result<()> {
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            let temporary = to.with_extension(format!("tmp-{}", std::process::id()));
            let done = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &to));
            if done.is_err() {
                let _ = fs::remove_file(&temporary);
            }
            done
        };
        replace().with_context(|| format!("{}: cannot write file", to.display()))
    }

    /// Removes a file, and its folder if that is empty then.
    pub(super) fn remove(&self, path: &str) -> Result<()> {
        let file = self.0.join(path);
        fs::remove_file(&file)
            .with_context(|| format!("{}: cannot remove file", file.display()))?;
        // Fails if there are other files.
        let _ = file.parent().map(fs::remove_dir);
        Ok(())
    }
}

/// The names in a folder, sorted; none if it does not exist.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("{}: cannot read folder", folder.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("{}: cannot read folder", folder.display()))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

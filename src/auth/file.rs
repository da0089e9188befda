//! The file of tokens, followed while others change it.

use super::Auth;
use super::line::{Entry, parse};
use crate::error::{Error, Result};
use crate::files;
use crate::follow::{Files, Followed, Look};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file, in bytes: some hundred thousand tokens.
const LARGEST: u64 = 32 << 20;

impl Auth {
    /// Reads the tokens of a file, and follows its changes until the last clone is dropped.
    pub fn of_file(path: PathBuf) -> Result<Auth> {
        let (followed, entries) = Followed::begin(AuthFile(path)).map_err(Error::invalid)?;
        tell(&followed.files.0, &entries);
        let auth = Auth::of(entries);
        followed
            .follow("servable-auth", Arc::downgrade(&auth.0), |authority, file, look| match look {
                Look::Same | Look::Unsettled => {}
                Look::Renewed(entries) => {
                    tell(&file.0, &entries);
                    authority.renew(entries);
                }
                Look::Failed(why) => tracing::error!("the tokens that were read before stay in force: {why}"),
            })
            .map_err(|why| Error::internal(format!("--auth_file cannot be followed: {why}")))?;
        Ok(auth)
    }
}

/// Says what is in force from now on, and who else may read or write it.
fn tell(path: &Path, entries: &[Entry]) {
    let shown = path.display();
    tracing::info!("tokens of {shown} in force: {}", entries.len());
    if entries.is_empty() {
        tracing::warn!("{shown} has no token: nobody may ask for anything but health");
    }
    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
    if let Some(how) = too_open(mode) {
        tracing::warn!("{shown} may be {how}: chmod 600 it, and let it belong to the server's user");
    }
}

/// Returns what is wrong with the mode of a file of tokens. A group may read it: that is how secrets are mounted.
fn too_open(mode: u32) -> Option<&'static str> {
    match () {
        () if mode & 0o022 != 0 => Some("written by others than its owner, who could give themselves tokens"),
        () if mode & 0o004 != 0 => Some("read by everyone on this machine"),
        () => None,
    }
}

struct AuthFile(PathBuf);

impl Files for AuthFile {
    type Content = String;
    type Made = Vec<Entry>;

    fn read(&self) -> std::result::Result<String, String> {
        let shown = self.0.display();
        let mut text = String::new();
        let read = files::open(&self.0).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
        read.map_err(|why| match () {
            () if why.kind() == ErrorKind::NotFound => {
                format!("--auth_file: there is no file {shown} ('servable token new NAME --auth_file FILE' makes it)")
            }
            () if why.kind() == ErrorKind::InvalidData => format!("--auth_file: {shown} is not UTF-8"),
            () => format!("--auth_file: {shown} cannot be read: {why}"),
        })?;
        if text.len() as u64 > LARGEST {
            return Err(format!("--auth_file: {shown} has more than {LARGEST} bytes"));
        }
        Ok(text)
    }

    fn make(&self, text: &String) -> std::result::Result<Vec<Entry>, String> {
        parse(text).map_err(|why| format!("--auth_file: {}: {why}", self.0.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tests::made;
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_read_or_it_is_said_why_not() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("tokens");
        let error = || Auth::of_file(path.clone()).unwrap_err().message.into_owned();
        assert!(error().starts_with("--auth_file: there is no file"));
        fs::write(&path, b"\xff").unwrap();
        assert!(error().ends_with("is not UTF-8"));
        fs::write(&path, "a\n").unwrap();
        assert!(error().contains("tokens: line 1: expected sha256:"));
        fs::write(&path, format!("a {} scopes=read models=*\n", made("a", 'x').1)).unwrap();
        assert_eq!(format!("{:?}", Auth::of_file(path.clone()).unwrap()), "Auth(1 tokens)");
        assert!(Auth::of_file(folder.path().to_owned()).unwrap_err().message.contains("a folder"));
    }

    #[test]
    fn others_should_neither_read_nor_write() {
        for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true), (0o660, true), (0o602, true)] {
            assert_eq!(too_open(mode | 0o100_000).is_some(), warned, "{mode:o}");
        }
    }
}

//! The names of files in shared memory that clients may register.

use crate::error::{Error, Kind, Result};
use crate::open_inference::refusal;

/// With these, the C library begins the names of semaphores, which are no data.
const SEMAPHORES: &str = "sem.";
/// Longest name of a file, in bytes.
const LONGEST: usize = 255;

/// Returns the name of the file that `key`, `/NAME` or `NAME`, stands for. It has to begin with `prefix`, which has no slash.
pub(super) fn file_name<'k>(key: &'k str, prefix: &str) -> Result<&'k str> {
    let name = key.strip_prefix('/').unwrap_or(key);
    let is_name = !matches!(name, "" | "." | "..") && name.len() <= LONGEST;
    if !is_name || name.contains(['/', '\0']) || name.starts_with(SEMAPHORES) {
        return Err(Error::invalid(format!(
            "Unable to open shared memory region: '{}': expected a name as shm_open takes it, /NAME without another \
             slash",
            refusal::shown(key)
        )));
    }
    if !name.starts_with(prefix) {
        return Err(Error::new(
            Kind::PermissionDenied,
            format!(
                "Unable to open shared memory region: '{}': this server was started with --shared_memory=/{prefix}, \
                 with which names have to begin",
                refusal::shown(key)
            ),
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_confined() {
        for (key, prefix, name) in [
            ("/input", "", "input"),
            ("input", "", "input"),
            ("/mine_1", "mine_", "mine_1"),
            ("/...", "", "..."),
            ("/a..b", "", "a..b"),
        ] {
            assert_eq!(file_name(key, prefix).as_deref(), Ok(name), "{key}");
        }
        let long = format!("/{}", "x".repeat(256));
        for key in [
            "",
            "/",
            "/.",
            "/..",
            "..",
            "//x",
            "/x/y",
            "x/",
            "/../etc/passwd",
            "/a\0b",
            "/sem.x",
            long.as_str(),
        ] {
            assert_eq!(file_name(key, "").unwrap_err().kind, Kind::InvalidArgument, "{key}");
        }
        for key in ["/other", "/min", "/Mine_1"] {
            assert_eq!(file_name(key, "mine_").unwrap_err().kind, Kind::PermissionDenied, "{key}");
        }
    }

    proptest! {
        /// Whatever is accepted is the name of one file of the folder.
        #[test]
        fn no_name_leads_elsewhere(key in "[/.a\0s]{0,8}|\\PC{0,20}") {
            if let Ok(name) = file_name(&key, "") {
                let path = std::path::Path::new("/dev/shm").join(name);
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("/dev/shm")));
                prop_assert_eq!(path.file_name(), Some(std::ffi::OsStr::new(name)));
                prop_assert_eq!(path.components().count(), 4);
            }
        }
    }
}

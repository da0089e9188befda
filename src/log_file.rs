//! Whether the file that a log writes to is still the one that its name means.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns whether `path` means `file`: false once it was renamed or removed.
pub(crate) fn is_at(path: &Path, file: &File) -> bool {
    let identity = |of: std::fs::Metadata| (of.dev(), of.ino());
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => identity(named) == identity(open),
        _ => false,
    }
}

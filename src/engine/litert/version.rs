//! Which release of LiteRT a library is of, by what the package leaves beside it: the library itself does not say.

use crate::error::{Error, Kind, Result};
use std::path::Path;

/// The release whose functions `ffi.rs` declares.
pub(super) const SUPPORTED: &str = "2.3.0";

/// Checks that `library` is of the supported release.
pub(super) fn check(library: &Path) -> Result<()> {
    let found = of(library);
    if found.as_deref() == Some(SUPPORTED) {
        return Ok(());
    }
    let found =
        found.map_or_else(|| "of no known release".to_owned(), |version| format!("release {version}"));
    Err(Error::new(
        Kind::FailedPrecondition,
        format!(
            "LiteRT's library {} is {found}, and release {SUPPORTED} is needed, since its functions differ between \
             releases: pip install ai-edge-litert=={SUPPORTED}",
            library.display()
        ),
    ))
}

/// Returns the release of `library`, by the Python package that it lies in.
fn of(library: &Path) -> Option<String> {
    let package = std::fs::read_to_string(library.parent()?.join("__init__.py")).ok()?;
    let line = package.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_supported_release_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libLiteRt.so");
        let with = |text: &str| {
            std::fs::write(folder.path().join("__init__.py"), text).unwrap();
            check(&library).map_err(|why| why.message.into_owned())
        };
        assert_eq!(with("import os\n__version__ = \"2.3.0\"\n"), Ok(()));
        let other = with("__version__ = '2.4.1'\n").unwrap_err();
        assert!(other.contains("is release 2.4.1") && other.contains("ai-edge-litert==2.3.0"), "{other}");
        assert!(with("").unwrap_err().contains("of no known release"));
    }
}

//! Certificates in files that others renew while the server runs.
//!
//! New connections get the new certificate; open ones go on with what they began with. What has changed is used once it
//! has stayed the same for two looks: a chain that is cut between two certificates reads as a whole one.

use super::Tls;
use super::identity::{Identity, Part, Pem, Problem};
use crate::error::{Error, Result};
use crate::follow::{Files, Followed, Look};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a server's identity. With `client_ca`, clients must present a certificate signed by an authority in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients.
    pub client_ca: Option<PathBuf>,
}

impl Tls {
    /// Reads `files`, and follows their changes until the last clone is dropped.
    pub fn of_files(files: TlsFiles) -> Result<Tls> {
        let (followed, identity) = Followed::begin(files).map_err(Error::invalid)?;
        let tls = Tls::of(identity);
        followed
            .follow("servable-tls", Arc::downgrade(&tls.0), |current, files, look| match look {
                Look::Same | Look::Unsettled => {}
                Look::Renewed(identity) => {
                    current.store(Arc::new(identity));
                    tracing::info!("TLS: new connections get the renewed {}", files.certificate.display());
                }
                Look::Failed(why) => tracing::warn!("TLS: what was read before stays in use: {why}"),
            })
            .map_err(|why| Error::internal(format!("The TLS files cannot be followed: {why}")))?;
        Ok(tls)
    }
}

impl TlsFiles {
    fn path(&self, part: Part) -> (&'static str, &Path) {
        match part {
            Part::Key | Part::Pair => ("--tls_key_file", &self.key),
            Part::Certificate => ("--tls_cert_file", &self.certificate),
            Part::ClientCa => ("--tls_client_ca_file", self.client_ca.as_deref().unwrap_or(Path::new(""))),
        }
    }

    fn said(&self, problem: &Problem) -> String {
        let (flag, path) = self.path(problem.part);
        match problem.part {
            Part::Pair => format!(
                "{flag}: {} is not the key of the certificate in {} (--tls_cert_file): {}",
                path.display(),
                self.certificate.display(),
                problem.got
            ),
            Part::Key | Part::Certificate | Part::ClientCa => {
                format!(
                    "{flag}: expected {} in PEM in {}, got {}",
                    problem.expected,
                    path.display(),
                    problem.got
                )
            }
        }
    }
}

impl Files for TlsFiles {
    type Content = Pem;
    type Made = Identity;

    fn read(&self) -> std::result::Result<Pem, String> {
        let read = |part| {
            let (flag, path) = self.path(part);
            std::fs::read(path).map_err(|why| {
                if why.kind() == ErrorKind::NotFound {
                    return format!("{flag}: there is no file {}", path.display());
                }
                format!("{flag}: {} cannot be read: {why}", path.display())
            })
        };
        Ok(Pem {
            certificate: read(Part::Certificate)?,
            key: read(Part::Key)?,
            client_ca: self.client_ca.is_some().then(|| read(Part::ClientCa)).transpose()?,
        })
    }

    fn make(&self, pem: &Pem) -> std::result::Result<Identity, String> {
        Identity::new(pem).map_err(|problem| self.said(&problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::{Authority, authority, signed_by};
    use std::fs;
    use tempfile::TempDir;

    struct Renewable {
        folder: TempDir,
        authority: Authority,
        followed: Followed<TlsFiles>,
    }

    impl Renewable {
        fn new() -> Renewable {
            let (folder, authority) = (TempDir::new().unwrap(), authority());
            let files = TlsFiles {
                certificate: folder.path().join("cert.pem"),
                key: folder.path().join("key.pem"),
                client_ca: None,
            };
            let (key, certificate) = signed_by(&authority);
            fs::write(&files.key, key).unwrap();
            fs::write(&files.certificate, certificate).unwrap();
            let (followed, _) = Followed::begin(files).unwrap();
            Renewable { folder, authority, followed }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.folder.path().join(name), text).unwrap();
        }

        /// Looks several times; returns what the looks came to.
        fn looks<const COUNT: usize>(&mut self) -> [&'static str; COUNT] {
            [(); COUNT].map(|()| match self.followed.look() {
                Look::Same | Look::Unsettled => "same",
                Look::Renewed(_) => "renewed",
                Look::Failed(_) => "failed",
            })
        }
    }

    #[test]
    fn a_renewed_pair_is_used_and_files_that_stay_are_not_read_again() {
        let mut one = Renewable::new();
        assert_eq!(one.looks(), ["same", "same"]);
        let (key, certificate) = signed_by(&one.authority);
        one.write("key.pem", &key);
        one.write("cert.pem", &certificate);
        assert_eq!(one.looks(), ["same", "renewed", "same"]);
    }

    #[test]
    fn of_a_new_certificate_and_an_old_key_neither_is_used() {
        let mut one = Renewable::new();
        let (key, certificate) = signed_by(&one.authority);
        let before = one.followed.used.clone();
        one.write("cert.pem", &certificate);
        assert_eq!(one.looks(), ["same", "failed", "same"]);
        assert!(one.followed.used == before);
        one.write("key.pem", &key);
        assert_eq!(one.looks(), ["same", "renewed"]);
    }

    #[test]
    fn a_chain_that_is_cut_between_two_certificates_is_waited_for() {
        let mut one = Renewable::new();
        let (key, certificate) = signed_by(&one.authority);
        one.write("key.pem", &key);
        one.write("cert.pem", &certificate);
        assert_eq!(one.looks(), ["same"], "this pair could be used");
        let chain = format!("{certificate}{}", one.authority.pem());
        one.write("cert.pem", &chain);
        assert_eq!(one.looks(), ["same", "renewed", "same"]);
        assert_eq!(one.followed.used.certificate, chain.as_bytes());
    }

    #[test]
    fn a_pair_between_two_writes_is_not_told_unless_it_stays() {
        let mut one = Renewable::new();
        let (key, certificate) = signed_by(&one.authority);
        one.write("key.pem", &key);
        assert_eq!(one.looks(), ["same"], "it may be about to be followed by its certificate");
        one.write("cert.pem", &certificate[..certificate.len() / 2]);
        assert_eq!(one.looks(), ["same", "failed", "same", "same"]);
        one.write("cert.pem", &certificate);
        assert_eq!(one.looks(), ["same", "renewed", "same"]);
    }

    #[test]
    fn a_missing_file_is_told_once_and_the_same_file_again_is_no_renewal() {
        let mut one = Renewable::new();
        let was = fs::read_to_string(&one.followed.files.certificate).unwrap();
        fs::remove_file(&one.followed.files.certificate).unwrap();
        assert_eq!(one.looks(), ["same", "failed", "same"]);
        one.write("cert.pem", &was);
        assert_eq!(one.looks(), ["same"]);
        fs::remove_file(&one.followed.files.certificate).unwrap();
        assert_eq!(one.looks(), ["same", "failed"]);
    }

    #[test]
    fn each_bad_file_is_named_with_what_is_wrong() {
        let one = Renewable::new();
        let (other_key, _) = signed_by(&one.authority);
        let files = &one.followed.files;
        let (key, certificate) = (fs::read(&files.key).unwrap(), fs::read(&files.certificate).unwrap());
        // As a variable or a template may leave it; nothing of it may be told.
        let on_one_line = std::str::from_utf8(&key).unwrap().replace('\n', "");
        let cut = on_one_line.replace("-----END PRIVATE KEY-----", "");
        let secret = &on_one_line[60..90];
        for (name, content, said) in [
            ("cert.pem", "", "--tls_cert_file: expected a certificate"),
            ("cert.pem", " \n", "got nothing"),
            ("cert.pem", "0\u{1}x", "got something else"),
            ("cert.pem", std::str::from_utf8(&key).unwrap(), "got none"),
            ("key.pem", "", "--tls_key_file: expected one private key in PEM"),
            ("key.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----", "got an encrypted one"),
            ("key.pem", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED", "got an encrypted one"),
            ("key.pem", &other_key, "is not the key of the certificate in"),
            ("key.pem", &on_one_line, "got no -----END line"),
            ("key.pem", &cut, "are line ends missing?"),
            ("cert.pem", &on_one_line, "got no -----END line"),
        ] {
            one.write("key.pem", std::str::from_utf8(&key).unwrap());
            one.write("cert.pem", std::str::from_utf8(&certificate).unwrap());
            one.write(name, content);
            let error = Tls::of_files(files.clone()).unwrap_err();
            assert!(error.message.contains(said), "{name} {content}: {error}");
            assert!(error.message.starts_with("--tls_") && !error.message.contains('\n'), "{error}");
            let bytes = secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
            assert!(!error.message.contains(secret) && !error.message.contains(&bytes), "{name}");
        }
        one.write("key.pem", std::str::from_utf8(&key).unwrap());
        one.write("cert.pem", std::str::from_utf8(&certificate).unwrap());
        let (missing, nobody) = (Some(one.folder.path().join("no")), Some(files.key.clone()));
        for (client_ca, said) in [
            (missing, "--tls_client_ca_file: there is no file"),
            (nobody, "--tls_client_ca_file: expected certificates of authorities in PEM"),
        ] {
            let error = Tls::of_files(TlsFiles { client_ca, ..files.clone() }).unwrap_err();
            assert!(error.message.starts_with(said), "{error}");
        }
        assert!(Tls::of_files(files.clone()).is_ok());
    }
}

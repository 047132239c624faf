//! A certificate, its key, and the authority that both ends trust.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::channel::Error;
use crate::files;
use crate::trust::LIFETIME;

/// Who an agent is to the master, all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) authority: String,
}

impl Identity {
    /// The identity kept in `dir`; `None` when there is none yet.
    pub fn load(dir: &Path) -> Result<Option<Self>, Error> {
        if !dir.join("certificate.pem").exists() {
            return Ok(None);
        }
        Ok(Some(Self {
            certificate: read(&dir.join("certificate.pem"))?,
            key: read(&dir.join("key.pem"))?,
            authority: read(&dir.join("authority.pem"))?,
        }))
    }

    /// Keeps it in `dir`. A renewed certificate is for the key that is there already, so that a
    /// crash between the files leaves a pair that fits.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        fs::create_dir_all(dir).map_err(|source| Error::File {
            doing: "create",
            path: dir.to_owned(),
            source,
        })?;
        write(&dir.join("key.pem"), &self.key)?;
        write(&dir.join("authority.pem"), &self.authority)?;
        write(&dir.join("certificate.pem"), &self.certificate)
    }

    /// Whether half of the certificate's life is over, by the age of its file.
    pub fn needs_renewal(dir: &Path) -> bool {
        fs::metadata(dir.join("certificate.pem"))
            .and_then(|file| file.modified())
            .is_ok_and(|made| {
                SystemTime::now()
                    .duration_since(made)
                    .is_ok_and(|age| age > LIFETIME / 2)
            })
    }

    pub(crate) fn roots(&self) -> Result<Arc<RootCertStore>, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(self.authority.as_bytes(), Path::new("authority.pem"))? {
            roots.add(certificate)?;
        }
        Ok(Arc::new(roots))
    }

    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let mut chain = certificates(self.certificate.as_bytes(), Path::new("certificate.pem"))?;
        chain.extend(certificates(
            self.authority.as_bytes(),
            Path::new("authority.pem"),
        )?);
        Ok(chain)
    }

    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| Error::Pem {
            path: "key.pem".into(),
        })
    }

    pub(crate) fn client_config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain()?, self.private_key()?)?)
    }

    /// Takes nobody who has no certificate of the same authority.
    pub(crate) fn server_config(&self) -> Result<ServerConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(self.roots()?, Arc::clone(&provider))
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(self.chain()?, self.private_key()?)?)
    }
}

pub(crate) fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(Error::Pem {
            path: path.to_owned(),
        }),
    }
}

pub(crate) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    files::put(path, text.as_bytes()).map_err(|source| Error::File {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

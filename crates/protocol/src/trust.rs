//! The cluster's certificate authority, which is the master, and join tokens.
//!
//! A token names the authority by the digest of its certificate, so that an agent which holds
//! nothing else can tell the right master from another. Only the token's digest is kept.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::channel::Error;
use crate::identity::{self, Identity};

/// How long an agent's certificate is good for; it is renewed at half that age.
pub const LIFETIME: Duration = Duration::from_secs(14 * 24 * 3600);
/// The authority itself, and the master's own certificate, which is made anew at every start.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// The clocks of two machines may differ by so much.
const SKEW: Duration = Duration::from_secs(24 * 3600);

/// Signs the certificates of one cluster.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The authority whose key lies in `dir`; founded there when there is none.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let (certificate, key) = (dir.join("authority.pem"), dir.join("authority.key"));
        if !certificate.exists() {
            fs::create_dir_all(dir).map_err(|source| Error::File {
                doing: "create",
                path: dir.to_owned(),
                source,
            })?;
            let (new_certificate, new_key) = found()?;
            // The certificate comes last: with it there is always its key.
            identity::write(&key, &new_key)?;
            identity::write(&certificate, &new_certificate)?;
        }
        let (certificate, key) = (identity::read(&certificate)?, identity::read(&key)?);
        let issuer = Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key)?)?;
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// Signs an agent's request: a certificate for this node's name and nothing else, whatever
    /// the request says.
    pub fn sign(&self, node: &str, request: &str) -> Result<String, Error> {
        let request = CertificateSigningRequestParams::from_pem(request)?;
        let params = certificate_params(node_name(node)?, LIFETIME)?;
        Ok(params.signed_by(&request.public_key, &self.issuer)?.pem())
    }

    /// The authority's own certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What the master shows to agents.
    pub(crate) fn master_identity(&self) -> Result<Identity, Error> {
        let key = KeyPair::generate()?;
        let params = certificate_params(MASTER_NAME.to_owned(), AUTHORITY_LIFETIME)?;
        Ok(Identity {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
            authority: self.certificate.clone(),
        })
    }

    /// A token that nobody else can guess.
    pub fn token(&self) -> Result<Token, Error> {
        let authority =
            identity::certificates(self.certificate.as_bytes(), Path::new("authority.pem"))?;
        let pin = authority.first().map(|der| digest(der)).unwrap_or_default();
        Ok(Token {
            secret: hex(&random()),
            pin,
        })
    }
}

/// The name in the master's certificate.
pub(crate) const MASTER_NAME: &str = "master.tandem";

/// The name in a node's certificate.
pub(crate) fn node_name(node: &str) -> Result<String, Error> {
    let valid = (1..=63).contains(&node.len())
        && node.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !node.starts_with('-')
        && !node.ends_with('-');
    match valid {
        true => Ok(format!("{}.node.tandem", node.to_ascii_lowercase())),
        false => Err(Error::Name(node.to_owned())),
    }
}

fn found() -> Result<(String, String), Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Tandem cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    (params.not_before, params.not_after) = validity(AUTHORITY_LIFETIME);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn certificate_params(name: String, lifetime: Duration) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(vec![name.clone()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Agents send volumes to one another, so a node is a server too.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    (params.not_before, params.not_after) = validity(lifetime);
    Ok(params)
}

fn validity(lifetime: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::from(SystemTime::now());
    (now - SKEW, now + lifetime)
}

/// What lets one node join, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    secret: String,
    /// SHA-256 of the authority's certificate, hexadecimal.
    pub(crate) pin: String,
}

impl Token {
    /// What the master remembers of it.
    pub fn digest(&self) -> String {
        digest(self.secret.as_bytes())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tandem-{}-{}", self.secret, self.pin)
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text
            .trim()
            .strip_prefix("tandem-")
            .and_then(|rest| rest.split_once('-'));
        let hexadecimal =
            |part: &str| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit());
        match parts {
            Some((secret, pin)) if hexadecimal(secret) && hexadecimal(pin) => Ok(Self {
                secret: secret.to_owned(),
                pin: pin.to_owned(),
            }),
            _ => Err(Error::Token(text.to_owned())),
        }
    }
}

/// SHA-256, hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the kernel gives random bytes");
    bytes
}

/// A number that no other cluster drew.
pub fn random_number() -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = random();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

//! The registry's client: manifests and blobs of one place, over plain http or
//! https. It verifies no layer (`layer` does, while unpacking) and keeps nothing
//! on disk (`store` does). Foreign registries that ask for an anonymous token
//! get it fetched; credentials are not known here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, RANGE, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::manifest::{ACCEPTED, Configuration, Descriptor, Document, Manifest, Platform};
use crate::reference::{Place, Version};

const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const CONNECT: Duration = Duration::from_secs(5);
/// The longest silence within an answer.
const SILENCE: Duration = Duration::from_secs(30);
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
const BLOB_ATTEMPTS: u32 = 5;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("registry {registry} cannot be reached: {words}")]
    Unreachable { registry: String, words: String },
    #[error("registry {registry} answered {status}: {words}")]
    Answered {
        registry: String,
        status: u16,
        words: String,
    },
    #[error("registry {registry} sent {what} that does not match its digest {digest}")]
    Digest {
        registry: String,
        what: &'static str,
        digest: Digest,
    },
    #[error("registry {registry} sent more than {limit} bytes as {what}")]
    TooLong {
        registry: String,
        what: String,
        limit: u64,
    },
    #[error("registry {registry} ended {blob} after {got} of {size} bytes")]
    Short {
        registry: String,
        blob: Digest,
        got: u64,
        size: u64,
    },
    #[error("registry {registry} sent {what} that cannot be read")]
    Malformed {
        registry: String,
        what: &'static str,
        source: serde_json::Error,
    },
    #[error("the image is not offered for {wanted}, only for {offered}")]
    Platform { wanted: Platform, offered: String },
    #[error("the image has {layers} layers but names {diff_ids} of them in its configuration")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("https cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether the same request may succeed later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Short { .. } => true,
            Error::Answered { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            _ => false,
        }
    }

    pub(crate) fn is_absence(&self) -> bool {
        matches!(
            self,
            Error::Answered {
                status: 401 | 403 | 404,
                ..
            }
        )
    }
}

/// An image as its registry describes it.
pub(crate) struct Description {
    /// Digest of the manifest that was chosen.
    pub manifest: Digest,
    /// Digest of the configuration: the image's identity.
    pub id: Digest,
    pub configuration: Configuration,
    /// Bottom first, in step with `configuration.rootfs.diff_ids`.
    pub layers: Vec<Descriptor>,
}

pub(crate) struct Client {
    /// For plain http: never through a proxy, which could not reach the cluster.
    direct: reqwest::Client,
    secure: reqwest::Client,
    /// Anonymous tokens, by registry and repository.
    tokens: Mutex<BTreeMap<Place, String>>,
}

impl Client {
    pub(crate) fn new() -> Result<Client, Error> {
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT)
                .read_timeout(SILENCE)
                .tls_backend_preconfigured(tls())
        };
        let direct = builder()
            .no_proxy()
            .build()
            .map_err(|source| Error::Tls(source.into()))?;
        let secure = builder()
            .build()
            .map_err(|source| Error::Tls(source.into()))?;
        Ok(Client {
            direct,
            secure,
            tokens: Mutex::default(),
        })
    }

    /// Follows a tag or digest to the image for `platform`.
    pub(crate) async fn describe(
        &self,
        place: &Place,
        version: &Version,
        platform: &Platform,
    ) -> Result<Description, Error> {
        let (mut digest, mut document) = match version {
            Version::Tag(tag) => self.document(place, tag, None).await?,
            Version::Digest(digest) => self.document(place, digest.as_str(), Some(digest)).await?,
        };
        if let Document::Index { manifests } = &document {
            let chosen = platform
                .choose(manifests)
                .ok_or_else(|| no_platform(platform, manifests))?
                .digest
                .clone();
            (digest, document) = self.document(place, chosen.as_str(), Some(&chosen)).await?;
        }
        let Document::Manifest(Manifest { config, layers }) = document else {
            return Err(Error::Platform {
                wanted: platform.clone(),
                offered: "an index within an index".into(),
            });
        };
        let configuration = self.configuration(place, &config).await?;
        let diff_ids = configuration.rootfs.diff_ids.len();
        if diff_ids != layers.len() {
            return Err(Error::LayerCount {
                layers: layers.len(),
                diff_ids,
            });
        }
        Ok(Description {
            manifest: digest,
            id: config.digest,
            configuration,
            layers,
        })
    }

    async fn document(
        &self,
        place: &Place,
        version: &str,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Document), Error> {
        let response = self
            .get(place, &format!("manifests/{version}"), |request| {
                request.header(ACCEPT, ACCEPTED)
            })
            .await?;
        let told = response
            .headers()
            .get("docker-content-digest")
            .and_then(|v| v.to_str().ok())
            .and_then(|v| Digest::parse(v).ok());
        let body = bounded(place, "a manifest", response, DOCUMENT_BYTES_MAX).await?;
        let digest = Digest::of(&body);
        if let Some(wanted) = expected
            .or(told.as_ref())
            .filter(|wanted| **wanted != digest)
        {
            return Err(Error::Digest {
                registry: place.registry().into(),
                what: "a manifest",
                digest: wanted.clone(),
            });
        }
        Ok((digest, read_json(place, "a manifest", &body)?))
    }

    async fn configuration(
        &self,
        place: &Place,
        config: &Descriptor,
    ) -> Result<Configuration, Error> {
        let response = self
            .get(place, &format!("blobs/{}", config.digest), |request| {
                request
            })
            .await?;
        let body = bounded(
            place,
            "an image configuration",
            response,
            DOCUMENT_BYTES_MAX,
        )
        .await?;
        if Digest::of(&body) != config.digest {
            return Err(Error::Digest {
                registry: place.registry().into(),
                what: "an image configuration",
                digest: config.digest.clone(),
            });
        }
        read_json(place, "an image configuration", &body)
    }

    /// Streams a blob's bytes, at most its size, into `sink`; goes on with a
    /// range where the connection broke. Ends quietly when nobody reads any more.
    pub(crate) async fn blob(
        &self,
        place: &Place,
        blob: &Descriptor,
        sink: mpsc::Sender<Vec<u8>>,
    ) -> Result<(), Error> {
        let mut done = 0;
        let mut attempt = 0;
        loop {
            let before = done;
            let error = match self.blob_from(place, blob, &mut done, &sink).await {
                Err(error) if error.is_transient() => error,
                other => return other,
            };
            attempt = if done > before { 0 } else { attempt + 1 };
            if attempt >= BLOB_ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(blob = %blob.digest, done, "Going on with a broken download: {error}");
            tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
        }
    }

    async fn blob_from(
        &self,
        place: &Place,
        blob: &Descriptor,
        done: &mut u64,
        sink: &mpsc::Sender<Vec<u8>>,
    ) -> Result<(), Error> {
        let from = *done;
        let range = |request: reqwest::RequestBuilder| {
            if from > 0 {
                request.header(RANGE, format!("bytes={from}-"))
            } else {
                request
            }
        };
        let mut response = self
            .get(place, &format!("blobs/{}", blob.digest), range)
            .await?;
        // A registry without ranges begins anew; what we have already passed on is skipped.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT {
            0
        } else {
            from
        };
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| unreachable(place, source))?
        {
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let fresh = &chunk[skipped as usize..];
            *done += fresh.len() as u64;
            if *done > blob.size {
                return Err(Error::TooLong {
                    registry: place.registry().into(),
                    what: blob.digest.to_string(),
                    limit: blob.size,
                });
            }
            if !fresh.is_empty() && sink.send(fresh.to_vec()).await.is_err() {
                return Ok(());
            }
        }
        if *done < blob.size {
            return Err(Error::Short {
                registry: place.registry().into(),
                blob: blob.digest.clone(),
                got: *done,
                size: blob.size,
            });
        }
        Ok(())
    }

    /// One GET below the repository; a refusal comes back in the registry's words.
    async fn get(
        &self,
        place: &Place,
        path: &str,
        with: impl Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<Response, Error> {
        let url = format!("{}/v2/{}/{path}", place.base, place.repository);
        let send = |token: Option<String>| {
            let request = with(self.http(&place.base).get(&url));
            let request = token.into_iter().fold(request, |request, token| {
                request.header(AUTHORIZATION, format!("Bearer {token}"))
            });
            async {
                request
                    .send()
                    .await
                    .map_err(|source| unreachable(place, source))
            }
        };
        let mut response = send(self.token(place)).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(token) = self.fetch_token(place, &response).await?
        {
            response = send(Some(token)).await?;
        }
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(answered(place, response).await)
        }
    }

    fn http(&self, base: &str) -> &reqwest::Client {
        if base.starts_with("http://") {
            &self.direct
        } else {
            &self.secure
        }
    }

    fn token(&self, place: &Place) -> Option<String> {
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(place)
            .cloned()
    }

    async fn fetch_token(
        &self,
        place: &Place,
        response: &Response,
    ) -> Result<Option<String>, Error> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(alias = "access_token")]
            token: String,
        }
        let Some(challenge) = response
            .headers()
            .get(WWW_AUTHENTICATE)
            .and_then(|v| v.to_str().ok())
            .and_then(Challenge::parse)
        else {
            return Ok(None);
        };
        let Ok(mut url) = Url::parse(&challenge.realm) else {
            return Ok(None);
        };
        let scope = challenge
            .scope
            .unwrap_or_else(|| format!("repository:{}:pull", place.repository));
        url.query_pairs_mut()
            .append_pair("scope", &scope)
            .extend_pairs(challenge.service.map(|service| ("service", service)));
        let request = self.http(&challenge.realm).get(url);
        let response = request
            .send()
            .await
            .map_err(|source| unreachable(place, source))?;
        if !response.status().is_success() {
            return Err(answered(place, response).await);
        }
        let body = bounded(place, "a token", response, DOCUMENT_BYTES_MAX).await?;
        let token = read_json::<Token>(place, "a token", &body)?.token;
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(place.clone(), token.clone());
        Ok(Some(token))
    }
}

fn no_platform(wanted: &Platform, offered: &[Descriptor]) -> Error {
    let offered: Vec<String> = offered
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .map(Platform::to_string)
        .collect();
    Error::Platform {
        wanted: wanted.clone(),
        offered: if offered.is_empty() {
            "no platform at all".into()
        } else {
            offered.join(", ")
        },
    }
}

/// reqwest's own sentences repeat the address; the innermost cause says what
/// happened, such as `Connection refused (os error 111)`.
fn unreachable(place: &Place, error: reqwest::Error) -> Error {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let words = if error.is_timeout() {
        format!("no answer in time ({cause})")
    } else {
        cause.to_string()
    };
    Error::Unreachable {
        registry: place.registry().into(),
        words,
    }
}

/// The registry's refusal, in its own words where it has any.
async fn answered(place: &Place, response: Response) -> Error {
    #[derive(Deserialize)]
    struct Refusal {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = response.status();
    let plain = status
        .canonical_reason()
        .unwrap_or("no words")
        .to_lowercase();
    let words = match bounded(place, "an error", response, 64 << 10).await {
        Ok(body) => serde_json::from_slice::<Refusal>(&body)
            .ok()
            .and_then(|refusal| refusal.errors.into_iter().next())
            .map(|reason| {
                if reason.message.is_empty() {
                    reason.code
                } else {
                    reason.message
                }
            })
            .filter(|words| !words.is_empty())
            .unwrap_or(plain),
        Err(_) => plain,
    };
    Error::Answered {
        registry: place.registry().into(),
        status: status.as_u16(),
        words,
    }
}

async fn bounded(
    place: &Place,
    what: &str,
    mut response: Response,
    limit: usize,
) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|source| unreachable(place, source))?
    {
        if body.len() + chunk.len() > limit {
            return Err(Error::TooLong {
                registry: place.registry().into(),
                what: what.to_owned(),
                limit: limit as u64,
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn read_json<T: for<'de> Deserialize<'de>>(
    place: &Place,
    what: &'static str,
    body: &[u8],
) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|source| Error::Malformed {
        registry: place.registry().into(),
        what,
        source,
    })
}

/// The machine's certificates if it has any; a node without them can still use
/// plain http, and https then fails with a sentence about the issuer.
fn tls() -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    if let Ok(certificates) = CertificateDer::pem_file_iter(SYSTEM_CERTIFICATES) {
        roots.add_parsable_certificates(certificates.flatten());
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// `Bearer realm="…",service="…",scope="…"`
#[derive(Debug, PartialEq)]
struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    fn parse(header: &str) -> Option<Challenge> {
        let mut rest = header.trim().strip_prefix("Bearer ")?;
        let mut challenge = Challenge {
            realm: String::new(),
            service: None,
            scope: None,
        };
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match key.trim_matches([' ', ',']) {
                "realm" => challenge.realm = value.to_owned(),
                "service" => challenge.service = Some(value.to_owned()),
                "scope" => challenge.scope = Some(value.to_owned()),
                _ => {}
            }
            rest = after;
        }
        (!challenge.realm.is_empty()).then_some(challenge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_with_commas_inside_quotes() {
        let challenge = Challenge::parse(
            r#"Bearer realm="https://auth.example/token",service=reg, scope="repository:a/b:pull,push""#,
        );
        let want = Challenge {
            realm: "https://auth.example/token".into(),
            service: Some("reg".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(challenge, Some(want));
        assert_eq!(Challenge::parse("Basic realm=\"x\""), None);
        assert_eq!(Challenge::parse("Bearer realm=\"x"), None);
    }
}

//! Answers of the API: values, lines, and refusals in the master's words.

use std::collections::VecDeque;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::fault::{Doing, Exit, Fault, Result};

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// `{"message": …}` with what Marathon adds: places of faults, deployments in the way.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    message: String,
    details: serde_json::Value,
    deployments: Vec<Deployment>,
}

#[derive(Deserialize)]
struct Deployment {
    id: String,
}

#[derive(Deserialize)]
struct Detail {
    path: String,
    errors: Vec<String>,
}

impl Answer {
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .doing(|| "understand the master's answer".into())
            .hint(|| "is the master of the same version? see `tandem status`".into())
    }

    /// What `tandem deploy` must tell: accepted, but without effect yet.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let values = self.headers.get_all("tandem-warning").into_iter();
        values.filter_map(|value| value.to_str().ok())
    }

    /// Itself, unless it is a refusal.
    pub fn accepted(self, method: &Method, path: &str) -> Result<Self> {
        match self.status {
            status if status.is_success() => Ok(self),
            status => Err(self.fault(status, method, path)),
        }
    }

    fn fault(&self, status: StatusCode, method: &Method, path: &str) -> Fault {
        let refusal: Refusal = serde_json::from_slice(&self.body).unwrap_or_default();
        let mut said = match refusal.message.as_str() {
            "" => format!("the master answered {status} to {method} {path}"),
            message => message.trim_end_matches('.').to_owned(),
        };
        for place in faults(&refusal.details) {
            said.push_str(&format!("\n  {place}"));
        }
        let exit = match status {
            StatusCode::NOT_FOUND => Exit::Absent,
            status if status.is_client_error() => Exit::Refused,
            _ => Exit::Failed,
        };
        let fault = Fault::new(exit, said);
        match refusal.deployments.first() {
            Some(Deployment { id }) => fault.hint(format!(
                "see `tandem deployments`; override with --force, or `tandem deployment cancel {id}`"
            )),
            None => fault,
        }
    }
}

/// `/mem: must be positive`, one for each fault; a plain text stands for itself.
fn faults(details: &serde_json::Value) -> Vec<String> {
    if let Some(text) = details.as_str() {
        return vec![text.to_owned()];
    }
    let details: Vec<Detail> = Deserialize::deserialize(details).unwrap_or_default();
    let line = |detail: Detail| format!("{}: {}", detail.path, detail.errors.join("; "));
    details.into_iter().map(line).collect()
}

/// A body of lines, read as they come.
pub struct Lines {
    body: Incoming,
    begun: Vec<u8>,
    whole: VecDeque<Vec<u8>>,
    ended: bool,
}

impl Lines {
    pub(super) fn new(body: Incoming) -> Self {
        Lines {
            body,
            begun: Vec::new(),
            whole: VecDeque::new(),
            ended: false,
        }
    }

    /// The next line without its end; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.whole.pop_front() {
                return Ok(Some(line));
            }
            if self.ended {
                let rest = std::mem::take(&mut self.begun);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(frame) => {
                    let frame = frame.doing(|| "read on from the master".into())?;
                    for &byte in frame.data_ref().into_iter().flatten() {
                        match byte {
                            b'\n' => self.whole.push_back(std::mem::take(&mut self.begun)),
                            byte => self.begun.push(byte),
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: StatusCode, body: &str) -> Fault {
        let answer = Answer {
            status,
            headers: HeaderMap::new(),
            body: Bytes::from(body.to_owned()),
        };
        answer.accepted(&Method::PUT, "/v2/apps/x").unwrap_err()
    }

    #[test]
    fn a_refusal_is_shown_in_the_masters_words() {
        let body =
            r#"{"message":"Object is not valid","details":[{"path":"/mem","errors":["a","b"]}]}"#;
        let fault = refused(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert_eq!(fault.text(), "error: Object is not valid\n  /mem: a; b");
        assert_eq!(fault.exit, Exit::Refused);
    }

    #[test]
    fn a_lock_says_how_to_go_on() {
        let body = r#"{"message":"App is locked.","deployments":[{"id":"d1"}]}"#;
        let text = refused(StatusCode::CONFLICT, body).text();
        assert!(text.contains("--force"), "{text}");
        assert!(text.contains("cancel d1"), "{text}");
    }

    #[test]
    fn an_answer_without_words_is_named_by_its_status() {
        let fault = refused(StatusCode::BAD_GATEWAY, "<html>");
        let expected = "error: the master answered 502 Bad Gateway to PUT /v2/apps/x";
        assert_eq!(
            (fault.text().as_str(), fault.exit),
            (expected, Exit::Failed)
        );
    }
}

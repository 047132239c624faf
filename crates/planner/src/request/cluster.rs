//! The cluster's founding, its leaderships, and the tokens that nodes join with.

use std::net::Ipv4Addr;

use model::ids::{ClusterId, Epoch};
use model::state::{Settings, Token};
use model::time::{Millis, Time};
use model::{Change, Draft, Presence};

use crate::request::Refusal;

/// The overlay cannot become another one: instances and nodes have addresses of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its network is {}/{} for its life, not {}/{}",
    have.0, have.1, wanted.0, wanted.1
)]
pub struct OtherSubnet {
    pub have: (Ipv4Addr, u8),
    pub wanted: (Ipv4Addr, u8),
}

/// Founds the cluster, once: a state that has one keeps it, and follows the settings of those who
/// lead it.
pub fn found(draft: &mut Draft, cluster: ClusterId, settings: Settings) -> Result<(), OtherSubnet> {
    let state = draft.state();
    if state.cluster == ClusterId::default() {
        draft.apply(Change::Founded { cluster, settings });
        return Ok(());
    }
    let (have, wanted) = (state.settings.subnet, settings.subnet);
    if have != wanted {
        return Err(OtherSubnet { have, wanted });
    }
    if state.settings != settings {
        draft.apply(Change::Configured { settings });
    }
    Ok(())
}

/// Begins a leadership and gives its number.
pub fn lead(draft: &mut Draft) -> Epoch {
    let epoch = Epoch(draft.state().epoch.0 + 1);
    draft.apply(Change::Led { epoch });
    epoch
}

/// Remembers a join token by its digest, for `life` from now. Gives when it expires.
pub fn make_token(draft: &mut Draft, digest: String, life: Millis) -> Time {
    let expires = draft.now() + life;
    let token = Token {
        digest,
        expires,
        used_by: None,
    };
    draft.apply(Change::TokenMade { token });
    expires
}

/// Spends a join token for the node called `by`. The same node may use it again, since the
/// answer may have been lost on the way; but a node of that name that is here is another. 403.
pub fn use_token(draft: &mut Draft, digest: &str, by: &str) -> Result<(), Refusal> {
    let token = draft.state().token(digest).ok_or(Refusal::NoToken)?;
    if token.expires <= draft.now() {
        return Err(Refusal::TokenExpired(token.expires));
    }
    let namesake = draft.state().node_named(by);
    if namesake.is_some_and(|node| node.presence == Presence::Here) {
        return Err(Refusal::NameTaken(by.to_owned()));
    }
    match token.used_by.as_deref() {
        Some(user) if user == by => Ok(()),
        Some(user) => Err(Refusal::TokenUsed(user.to_owned())),
        None => {
            draft.apply(Change::TokenUsed {
                digest: digest.to_owned(),
                by: by.to_owned(),
            });
            Ok(())
        }
    }
}

//! Where things go: which node an instance is put on, with which ports and address; and, when
//! somebody asks, why not.
//!
//! [`place`] looks for one node, [`explain`] judges every node by the same predicates
//! ([`fit`]). Nothing here changes anything or knows of deployments, backoff rules or the steps of a move.

mod explain;
mod fit;
mod place;
mod reason;
mod relocate;
mod tally;
mod wish;

pub use explain::{Verdict, Why, explain};
pub use fit::{hindrance, suits};
pub use place::{NoRoom, place};
pub use reason::{Hindrance, Kind, Reason};
pub use relocate::{destination, home_is_refused, place_heir, refusals};
pub use tally::Tally;
pub use wish::{ConstraintFault, FaultKind, Wish};

//! Definitions in, answers out: the whole crate by its public functions.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod common;
#[cfg(test)]
mod dialects;
#[cfg(test)]
mod events;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod wild;

//! What the system tests share: test hosts, clusters and their listings.

pub mod images;
pub mod roots;

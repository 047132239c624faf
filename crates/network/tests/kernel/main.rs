//! The data plane, published ports and names in real namespaces, as root.

mod data_plane;
mod lab;
mod published;
mod resolving;

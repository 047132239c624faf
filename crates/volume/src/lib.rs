//! Volume drivers: create, snapshot, send, receive, limit, mount

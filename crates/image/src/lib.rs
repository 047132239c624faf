//! Images: pull, verify, unpack, root filesystems, image configuration

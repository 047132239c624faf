//! Agent protocol: messages, channel, and the trust beneath it

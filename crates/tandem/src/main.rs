//! One binary, every role: `tandem master`, `tandem agent`, `tandem up` and the client commands.

fn main() {}

//! tandem up: node inits, the switch, supervision, checks before start and clean-up after

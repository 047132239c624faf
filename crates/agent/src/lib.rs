//! Runs the node's decisions: executes actions, checks health, remembers

//! The master's deciding: requests, rollout, upkeep, moves, assignments and the directory

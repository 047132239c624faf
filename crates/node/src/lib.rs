//! The agent's deciding: convergence, volume roles, the outbox of sightings

//! Runs the planner on the store and carries the agents' sessions

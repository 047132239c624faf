//! A cluster on paper: the real planner and node on a virtual clock, with seeded faults

//! The nouns: ids, specs, assignments, sightings; the state and the changes that make it

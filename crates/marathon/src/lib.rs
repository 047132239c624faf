//! Marathon v2 JSON, old and new dialect, to and from the model: parse, validate, normalise, render

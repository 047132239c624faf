//! HTTP: Marathon's API, /tandem/v1, health and metrics

//! The durable log of transactions, its snapshot and its watch

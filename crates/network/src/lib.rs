//! The network that spans the nodes: overlay, addresses, published ports, DNS

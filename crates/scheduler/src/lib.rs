//! Where things go: constraints, resources, ports, addresses; and why not

//! Containers: shim, start, stop, freeze, exec, logs, limits, exit

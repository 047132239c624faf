//! The two files by which a container finds names. Pure.

use std::net::Ipv4Addr;

use crate::DOMAIN;

/// `/etc/resolv.conf`: the same in every container on every node, so that it stays valid wherever
/// an instance goes. One server only, because musl asks all of them at once and believes the
/// first answer.
pub fn resolv_conf(gateway: Ipv4Addr) -> String {
    format!("nameserver {gateway}\nsearch {DOMAIN}\noptions ndots:1\n")
}

/// `/etc/hosts`: the container's own name leads to its address, so that `hostname -i` says it.
pub fn hosts(address: Ipv4Addr, hostname: &str) -> String {
    let own = match hostname.split_once('.') {
        Some((short, _)) => format!("{hostname} {short}"),
        None => hostname.to_owned(),
    };
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{own}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_asks_only_us_and_knows_itself() {
        assert_eq!(
            resolv_conf(Ipv4Addr::new(10, 32, 0, 1)),
            "nameserver 10.32.0.1\nsearch tandem.local\noptions ndots:1\n"
        );
        let address = Ipv4Addr::new(10, 32, 0, 7);
        assert!(hosts(address, "db.weave.local").ends_with("\n10.32.0.7\tdb.weave.local db\n"));
        assert!(hosts(address, "db").ends_with("\n10.32.0.7\tdb\n"));
    }
}

//! The little languages of `docker run` options: sizes, ports, volumes, limits, signals.

use model::spec::{DockerOptions, HostPort, Port, Protocols, Tmpfs, Ulimit};

use crate::fault::did_you_mean;

/// `512m`, `1g`, `1048576`; powers of 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let fault = || format!("'{text}' is no size like 512m or 1g");
    let lower = text.to_lowercase();
    let plain = lower
        .strip_suffix("ib")
        .or(lower.strip_suffix('b'))
        .unwrap_or(&lower);
    let (digits, shift) = match plain.char_indices().next_back() {
        Some((end, 'k')) => (&plain[..end], 10),
        Some((end, 'm')) => (&plain[..end], 20),
        Some((end, 'g')) => (&plain[..end], 30),
        Some((end, 't')) => (&plain[..end], 40),
        _ => (plain, 0),
    };
    let number: f64 = digits.parse().map_err(|_| fault())?;
    let bytes = number * f64::from(2_u32).powi(shift);
    (bytes.is_finite() && (1.0..9.0e18).contains(&bytes))
        .then_some(bytes as u64)
        .ok_or_else(fault)
}

/// An empty value is true, as in `--init`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "" | "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
    }
}

pub(super) fn seconds(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is no whole number of seconds"))
}

/// `-1` and `0` mean no limit.
pub(super) fn pids(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(-1 | 0) => Ok(DockerOptions::PIDS_MAX),
        Ok(number) => u32::try_from(number)
            .ok()
            .filter(|number| *number <= DockerOptions::PIDS_MAX)
            .ok_or_else(|| format!("'{text}' is not between 1 and {}", DockerOptions::PIDS_MAX)),
        Err(_) => Err(format!("'{text}' is no number of processes")),
    }
}

/// `9080:80`, `80`, `5353:53/udp`.
pub(super) fn publish(text: &str) -> Result<Port, String> {
    let (ports, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.split('/').next().unwrap_or_default(), Protocols::Tcp),
        Some((ports, "udp")) => (ports, Protocols::Udp),
        Some((_, other)) => return Err(format!("'{other}' is neither tcp nor udp")),
    };
    if ports.contains('-') {
        return Err(format!(
            "'{text}': ranges of ports are not supported yet: publish them one by one"
        ));
    }
    let parts: Vec<&str> = ports.split(':').collect();
    let (host, container) = match parts.as_slice() {
        [container] => ("", *container),
        [host, container] | ["0.0.0.0" | "", host, container] => (*host, *container),
        [address, _, _] => {
            return Err(format!(
                "'{text}': publishing on the address {address} alone is not supported"
            ));
        }
        _ => {
            return Err(format!(
                "'{text}' is no publish like 9080:80 or 5353:53/udp"
            ));
        }
    };
    let number = |part: &str| {
        let read = part.parse::<u16>().ok().filter(|number| *number > 0);
        read.ok_or_else(|| format!("'{part}' of '{text}' is no port between 1 and 65535"))
    };
    Ok(Port {
        name: None,
        protocol,
        container: number(container)?,
        host: match host {
            "" => HostPort::Dynamic,
            host => HostPort::Fixed(number(host)?),
        },
        service: 0,
        labels: Default::default(),
        published: true,
    })
}

/// `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("'{text}' is not of the form KEY=VALUE"))
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `nofile=1024:2048`; `-1` is unlimited.
pub(super) fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, values) = pair(text)?;
    if !ULIMITS.contains(&name.as_str()) {
        return Err(format!(
            "'{name}' is no limit{}",
            did_you_mean(&name, ULIMITS)
        ));
    }
    let value = |part: &str| match part {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ => part
            .parse::<u64>()
            .map_err(|_| format!("'{part}' of '{text}' is no number")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((&values, &values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    (soft <= hard)
        .then_some(Ulimit { name, soft, hard })
        .ok_or_else(|| format!("the soft limit of '{text}' is above the hard one"))
}

/// `/run`, `/run:size=64m`; the other options are what a tmpfs has anyway.
pub(super) fn tmpfs(text: &str) -> Result<Tmpfs, String> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    super::container::absolute(path)?;
    let mut size = None;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", amount)) => size = Some(bytes(amount)?),
            None if matches!(option, "rw" | "noexec" | "nosuid" | "nodev") => {}
            _ => {
                return Err(format!(
                    "option '{option}' of '{text}' is not supported; size=, rw, noexec, nosuid and nodev are"
                ));
            }
        }
    }
    Ok(Tmpfs {
        path: super::container::trimmed(path),
        size,
    })
}

const SIGNALS: [(&str, u8); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// `SIGTERM`, `TERM` or `15`; gives `SIGTERM`.
pub(super) fn signal(text: &str) -> Result<String, String> {
    let name = text.to_uppercase();
    let bare = name.strip_prefix("SIG").unwrap_or(&name);
    SIGNALS
        .iter()
        .find(|(known, number)| *known == bare || name == number.to_string())
        .map(|(known, _)| format!("SIG{known}"))
        .ok_or_else(|| {
            let hint = did_you_mean(bare, SIGNALS.iter().map(|(known, _)| *known));
            format!("'{text}' is no signal{hint}")
        })
}

const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// `CAP_NET_ADMIN`, `net_admin` or `ALL`; gives `NET_ADMIN`.
pub(super) fn capability(text: &str) -> Result<String, String> {
    let name = text.to_uppercase();
    let bare = name.strip_prefix("CAP_").unwrap_or(&name);
    if bare == "ALL" || CAPABILITIES.contains(&bare) {
        Ok(bare.to_owned())
    } else {
        let hint = did_you_mean(bare, CAPABILITIES);
        Err(format!("'{text}' is no capability{hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(bytes("512m"), Ok(512 << 20));
        assert_eq!(bytes("1.5G"), Ok(3 << 29));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("4096"), Ok(4096));
        for bad in ["", "m", "-1", "1x", "0", "nan", "inf", "1e300g", "ä"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn publish_knows_host_ports_and_protocols() {
        let port = publish("5353:53/udp").unwrap();
        assert_eq!(
            (port.container, port.host, port.protocol),
            (53, HostPort::Fixed(5353), Protocols::Udp)
        );
        assert_eq!(publish("80").unwrap().host, HostPort::Dynamic);
        assert_eq!(publish("0.0.0.0:81:80").unwrap().host, HostPort::Fixed(81));
        for bad in [
            "",
            "x",
            "0:80",
            "80:0",
            "1.2.3.4:80:80",
            "80-90:80-90",
            "80/sctp",
            "1:2:3:4",
            "70000:80",
        ] {
            assert!(publish(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_signals_and_capabilities_have_one_spelling() {
        let limit = ulimit("nofile=1024:-1").unwrap();
        assert_eq!((limit.soft, limit.hard), (1024, u64::MAX));
        assert!(ulimit("nofile=2:1").is_err());
        assert!(ulimit("nofiles=1").unwrap_err().contains("'nofile'"));
        assert_eq!(signal("int"), Ok("SIGINT".to_owned()));
        assert_eq!(signal("15"), Ok("SIGTERM".to_owned()));
        assert!(signal("SIGTRM").unwrap_err().contains("'TERM'"));
        assert_eq!(capability("CAP_NET_ADMIN"), Ok("NET_ADMIN".to_owned()));
        assert!(capability("net_admn").unwrap_err().contains("'NET_ADMIN'"));
        assert_eq!(pids("-1"), Ok(DockerOptions::PIDS_MAX));
        assert!(pids("99999999").is_err());
        assert_eq!(tmpfs("/run//x:size=1k,nodev").unwrap().size, Some(1024));
        assert!(tmpfs("run").is_err() && tmpfs("/run:uid=3").is_err());
    }
}

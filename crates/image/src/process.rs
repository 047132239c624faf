//! From an image's configuration and an app's wishes to the process that will
//! run: Docker's rules, in one place. Starts nothing; the one thing it creates is
//! the working directory, as Docker does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat2};
use rustix::io::Errno;

use crate::manifest::ImageConfig;
use crate::users;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SIGTERM: i32 = 15;

/// What the app says; `None` and empty leave the image's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Replaces the image's entry point, and drops its `Cmd`.
    pub entrypoint: Option<Vec<String>>,
    pub arguments: Option<Arguments>,
    /// What every instance gets (`HOST`, `PORT0`, `MARATHON_APP_ID`, …), before
    /// the app's own.
    pub given_env: Vec<(String, String)>,
    pub env: Vec<(String, String)>,
    pub user: Option<String>,
    pub cwd: Option<String>,
    pub stop_signal: Option<String>,
    pub hostname: String,
    pub tty: bool,
}

/// Marathon allows one of the two; either replaces the image's `Cmd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// `cmd`: a line for the shell.
    Shell(String),
    /// `args`
    List(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub args: Vec<String>,
    /// `KEY=value` each, no key twice.
    pub env: Vec<String>,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    pub cwd: String,
    /// The signal that asks the process to end.
    pub stop_signal: i32,
    /// Paths that get an anonymous directory, unless a volume of the app is there.
    pub volumes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no command: neither the app nor the image names one")]
    NoCommand,
    #[error("{what} holds a zero byte")]
    ZeroByte { what: String },
    #[error("environment variable `{0}` has no usable name")]
    EnvName(String),
    #[error(transparent)]
    User(#[from] users::Error),
    #[error("working directory {cwd} cannot be used")]
    Cwd { cwd: String, source: io::Error },
    #[error("stop signal `{0}` is unknown")]
    StopSignal(String),
    #[error("volume path `{0}` of the image is not absolute, or leads upward")]
    VolumePath(String),
    #[error("root filesystem {0} cannot be opened")]
    Rootfs(PathBuf, #[source] io::Error),
}

/// `rootfs` is the image's mounted root. Blocking.
pub fn process(
    image: &ImageConfig,
    overrides: &Overrides,
    rootfs: &Path,
) -> Result<Process, Error> {
    let root = open(
        rootfs,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| Error::Rootfs(rootfs.to_owned(), e.into()))?;
    let user = overrides
        .user
        .as_deref()
        .filter(|user| !user.is_empty())
        .unwrap_or(&image.user);
    let identity = users::resolve(user, root.as_fd())?;
    let args = arguments(image, overrides)?;
    let env = environment(image, overrides, identity.home.as_deref())?;
    let stop_signal = overrides
        .stop_signal
        .as_deref()
        .filter(|s| !s.is_empty())
        .unwrap_or(&image.stop_signal);
    let stop_signal =
        signal(stop_signal).ok_or_else(|| Error::StopSignal(stop_signal.to_owned()))?;
    let volumes = image
        .volumes
        .keys()
        .map(|path| volume_path(path))
        .collect::<Result<_, _>>()?;
    let cwd = overrides
        .cwd
        .as_deref()
        .filter(|cwd| !cwd.is_empty())
        .unwrap_or(&image.working_dir);
    let cwd = format!("/{}", cwd.trim_matches('/'));
    create_directory(root.as_fd(), &cwd).map_err(|source| Error::Cwd {
        cwd: cwd.clone(),
        source,
    })?;
    Ok(Process {
        args,
        env,
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        cwd,
        stop_signal,
        volumes,
    })
}

fn arguments(image: &ImageConfig, overrides: &Overrides) -> Result<Vec<String>, Error> {
    let entrypoint = overrides.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let rest = match &overrides.arguments {
        Some(Arguments::Shell(line)) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
        Some(Arguments::List(list)) => list.clone(),
        None if overrides.entrypoint.is_some() => Vec::new(),
        None => image.cmd.clone(),
    };
    let args: Vec<String> = entrypoint.iter().chain(&rest).cloned().collect();
    match args.first() {
        None => Err(Error::NoCommand),
        Some(first) if first.is_empty() => Err(Error::NoCommand),
        Some(_) if args.iter().any(|arg| arg.contains('\0')) => Err(Error::ZeroByte {
            what: "the command".into(),
        }),
        Some(_) => Ok(args),
    }
}

/// The image's, then what every instance gets, then the app's; later wins and
/// keeps the earlier one's place. What is still missing then has defaults.
fn environment(
    image: &ImageConfig,
    overrides: &Overrides,
    home: Option<&str>,
) -> Result<Vec<String>, Error> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str, only_if_missing: bool| {
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(Error::EnvName(key.to_owned()));
        }
        if value.contains('\0') {
            return Err(Error::ZeroByte {
                what: format!("environment variable {key}"),
            });
        }
        match env.iter_mut().find(|(known, _)| known == key) {
            Some(_) if only_if_missing => {}
            Some(known) => known.1 = value.to_owned(),
            None => env.push((key.to_owned(), value.to_owned())),
        }
        Ok(())
    };
    for entry in &image.env {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(key, value, false)?;
    }
    for (key, value) in overrides.given_env.iter().chain(&overrides.env) {
        set(key, value, false)?;
    }
    set("PATH", PATH, true)?;
    set("HOME", home.unwrap_or("/"), true)?;
    set("HOSTNAME", &overrides.hostname, true)?;
    if overrides.tty {
        set("TERM", "xterm", true)?;
    }
    Ok(env
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect())
}

/// `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`; empty means TERM. Numbers are those of
/// x86 and ARM.
fn signal(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    if name.is_empty() {
        return Some(SIGTERM);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text[1..].parse::<i32>().ok().filter(|n| *n >= 0)
        }
    };
    let number = if let Some(plus) = short
        .strip_prefix("RTMIN")
        .filter(|rest| rest.is_empty() || rest.starts_with('+'))
    {
        RTMIN + offset(plus)?
    } else if let Some(minus) = short
        .strip_prefix("RTMAX")
        .filter(|rest| rest.is_empty() || rest.starts_with('-'))
    {
        RTMAX - offset(minus)?
    } else if let Some(index) = NAMES.iter().position(|known| *known == short) {
        index as i32 + 1
    } else {
        short.parse().ok()?
    };
    (1..=RTMAX).contains(&number).then_some(number)
}

fn volume_path(path: &str) -> Result<String, Error> {
    let clean = path.trim_end_matches('/');
    if !clean.starts_with('/') || clean.split('/').any(|part| part == "..") || clean.contains('\0')
    {
        return Err(Error::VolumePath(path.to_owned()));
    }
    Ok(clean.to_owned())
}

/// Makes what is missing of `path`, root's and 0755, resolved within `root`.
fn create_directory(root: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    let open_within = |path: &str| -> rustix::io::Result<OwnedFd> {
        openat2(
            root,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    };
    let mut parent = open_within(".")?;
    let mut so_far = String::from(".");
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        so_far = format!("{so_far}/{name}");
        parent = match open_within(&so_far) {
            Err(Errno::NOENT) => {
                match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) => rustix::fs::chownat(
                        &parent,
                        name,
                        Some(rustix::fs::Uid::ROOT),
                        Some(rustix::fs::Gid::ROOT),
                        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
                    )?,
                    // A link to nowhere; making its target is not ours.
                    Err(error) => return Err(error.into()),
                }
                open_within(&so_far)?
            }
            other => other?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_follows_dockers_table() {
        let given = |words: Option<&str>| words.map(|words| Arguments::List(list(words)));
        // image entry point, image cmd, app's entry point, app's args, result
        for (entrypoint, cmd, own, args, want) in [
            ("", "sh", None, None, Some("sh")),
            ("e", "c", None, None, Some("e c")),
            ("e", "c", None, Some("x y"), Some("e x y")),
            ("e", "c", None, Some(""), Some("e")),
            ("e", "c", Some("o"), None, Some("o")),
            ("e", "c", Some("o"), Some("x"), Some("o x")),
            ("e", "c", Some(""), None, None),
            ("e", "c", Some(""), Some("x"), Some("x")),
            ("", "", None, None, None),
            ("", "c", None, Some(""), None),
        ] {
            let image = ImageConfig {
                entrypoint: list(entrypoint),
                cmd: list(cmd),
                ..ImageConfig::default()
            };
            let overrides = Overrides {
                entrypoint: own.map(list),
                arguments: given(args),
                ..Overrides::default()
            };
            assert_eq!(
                arguments(&image, &overrides).ok(),
                want.map(list),
                "{entrypoint} {cmd} {own:?} {args:?}"
            );
        }
        let image = ImageConfig {
            entrypoint: list("e"),
            cmd: list("c"),
            ..ImageConfig::default()
        };
        let overrides = Overrides {
            arguments: Some(Arguments::Shell("a && b".into())),
            ..Overrides::default()
        };
        assert_eq!(
            arguments(&image, &overrides).unwrap(),
            ["e", "/bin/sh", "-c", "a && b"]
        );
    }

    #[test]
    fn later_environment_wins_and_defaults_fill_in() {
        let image = ImageConfig {
            env: list("A=image B=image C=image FLAG X=a=b"),
            ..ImageConfig::default()
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut overrides = Overrides {
            given_env: vec![pair("B", "given"), pair("C", "given")],
            env: vec![pair("C", "app"), pair("HOME", "/own")],
            hostname: "h".into(),
            tty: true,
            ..Overrides::default()
        };
        let env = environment(&image, &overrides, Some("/home/x")).unwrap();
        assert_eq!(
            env,
            [
                "A=image",
                "B=given",
                "C=app",
                "FLAG=",
                "X=a=b",
                "HOME=/own",
                &format!("PATH={PATH}"),
                "HOSTNAME=h",
                "TERM=xterm"
            ]
        );
        overrides.env = vec![pair("A=B", "x")];
        assert!(environment(&image, &overrides, None).is_err());
        overrides.env = vec![pair("A", "x\0")];
        assert!(environment(&image, &overrides, None).is_err());
    }

    #[test]
    fn stop_signals_are_names_or_numbers() {
        for (name, want) in [
            ("", Some(15)),
            ("SIGQUIT", Some(3)),
            ("quit", Some(3)),
            ("3", Some(3)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGSYS", Some(31)),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("SIGRTMIN+99", None),
            ("SIGRTMIN-1", None),
            ("TERMINATE", None),
        ] {
            assert_eq!(signal(name), want, "{name}");
        }
    }

    #[test]
    fn a_working_directory_is_made_inside_the_root_only() {
        let room = tempfile::tempdir().unwrap();
        let rootfs = room.path().join("rootfs");
        fs::create_dir_all(rootfs.join("srv")).unwrap();
        std::os::unix::fs::symlink("/srv", rootfs.join("link")).unwrap();
        std::os::unix::fs::symlink("../../..", rootfs.join("up")).unwrap();
        fs::write(rootfs.join("file"), "").unwrap();
        let at = |cwd: &str| {
            let image = ImageConfig {
                cmd: list("x"),
                working_dir: cwd.into(),
                ..ImageConfig::default()
            };
            process(&image, &Overrides::default(), &rootfs)
        };
        assert_eq!(at("").unwrap().cwd, "/");
        assert_eq!(at("a/b/").unwrap().cwd, "/a/b");
        assert!(rootfs.join("a/b").is_dir());
        at("/link/new").unwrap();
        assert!(rootfs.join("srv/new").is_dir());
        at("/up/beside").unwrap();
        assert!(rootfs.join("beside").is_dir() && !room.path().join("beside").exists());
        assert!(matches!(at("/file/x"), Err(Error::Cwd { .. })));
    }
}

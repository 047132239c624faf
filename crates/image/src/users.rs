//! Users and groups of an image, by the `/etc/passwd` and `/etc/group` of its
//! mounted root. The node's own are never asked.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Larger files are not read on; no image has such.
const FILE_BYTES_MAX: u64 = 8 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, sorted; with the primary one unless it was given.
    pub groups: Vec<u32>,
    pub home: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("unable to find user {0}")]
    NoUser(String),
    #[error("unable to find group {0}")]
    NoGroup(String),
    #[error("{0} of the image cannot be read")]
    Read(&'static str, #[source] io::Error),
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

/// `spec` is `""`, `user` or `user:group`, each a name or a number.
pub(crate) fn resolve(spec: &str, rootfs: BorrowedFd<'_>) -> Result<Identity, Error> {
    let passwd = read(rootfs, "etc/passwd")?;
    let group = read(rootfs, "etc/group")?;
    resolve_in(spec, &passwd, &group)
}

fn resolve_in(spec: &str, passwd: &str, group: &str) -> Result<Identity, Error> {
    let (user, given_group) = spec.split_once(':').map_or((spec, None), |(user, group)| {
        (user, Some(group).filter(|g| !g.is_empty()))
    });
    let user = if user.is_empty() { "0" } else { user };
    // A name of digits wins over the number, as everywhere.
    let users = || passwd.lines().filter_map(parse_user);
    let number = parse_id(user);
    let known = users()
        .find(|u| u.name == user)
        .or_else(|| users().find(|u| Some(u.uid) == number));
    let uid = known
        .as_ref()
        .map(|u| u.uid)
        .or(number)
        .ok_or_else(|| Error::NoUser(user.to_owned()))?;
    let groups = || group.lines().filter_map(parse_group);
    let (gid, supplementary) = match given_group {
        Some(name) => {
            let found = groups()
                .find(|g| g.name == name)
                .map(|g| g.gid)
                .or_else(|| parse_id(name));
            (
                found.ok_or_else(|| Error::NoGroup(name.to_owned()))?,
                Vec::new(),
            )
        }
        None => {
            let gid = known.as_ref().map_or(0, |u| u.gid);
            let listed = known.iter().flat_map(|u| {
                groups()
                    .filter(|g| g.members.contains(&u.name))
                    .map(|g| g.gid)
            });
            let all: BTreeSet<u32> = listed.chain(known.as_ref().map(|u| u.gid)).collect();
            (gid, all.into_iter().collect())
        }
    };
    let home = known
        .map(|u| u.home.to_owned())
        .filter(|home| !home.is_empty());
    Ok(Identity {
        uid,
        gid,
        groups: supplementary,
        home,
    })
}

fn parse_user(line: &str) -> Option<User<'_>> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, ..] = fields[..] else {
        return None;
    };
    is_name(name).then_some(())?;
    Some(User {
        name,
        uid: parse_id(uid)?,
        gid: parse_id(gid)?,
        home,
    })
}

fn parse_group(line: &str) -> Option<Group<'_>> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, gid, members] = fields[..] else {
        return None;
    };
    is_name(name).then_some(())?;
    Some(Group {
        name,
        gid: parse_id(gid)?,
        members: members.split(',').map(str::trim).collect(),
    })
}

/// `+` and `-` lines belong to NIS.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['+', '-', '#'])
}

fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|id| digits && *id <= i32::MAX as u32)
}

/// The text of a file in the image; empty when there is none, lossy where it is
/// not UTF-8.
fn read(rootfs: BorrowedFd<'_>, path: &'static str) -> Result<String, Error> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat2(
        rootfs,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    ) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(Error::Read(path, error.into())),
    };
    let mut bytes = Vec::new();
    let regular = file.metadata().map_err(|e| Error::Read(path, e))?.is_file();
    if regular {
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::Read(path, e))?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n+nis::::::\nbroken:x\nbad:x:abc:1::/:\nweb:x:33:34:w:/var/www:/x\n1000:x:2000:2001::/digits:/x\n";
    const GROUP: &str = "root:x:0:root\nwww:x:34:\nlogs:x:40:web,other\n+::\nshort:x\naudio:x:29: web\nstaff:x:50:other\n";

    fn identity(uid: u32, gid: u32, groups: &[u32], home: Option<&str>) -> Identity {
        Identity {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.map(str::to_owned),
        }
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        for (spec, want) in [
            ("", identity(0, 0, &[0], Some("/root"))),
            ("root", identity(0, 0, &[0], Some("/root"))),
            ("web", identity(33, 34, &[29, 34, 40], Some("/var/www"))),
            ("33", identity(33, 34, &[29, 34, 40], Some("/var/www"))),
            ("web:", identity(33, 34, &[29, 34, 40], Some("/var/www"))),
            ("web:staff", identity(33, 50, &[], Some("/var/www"))),
            ("web:77", identity(33, 77, &[], Some("/var/www"))),
            ("4242", identity(4242, 0, &[], None)),
            ("4242:4243", identity(4242, 4243, &[], None)),
            ("1000", identity(2000, 2001, &[2001], Some("/digits"))),
            (":staff", identity(0, 50, &[], Some("/root"))),
        ] {
            assert_eq!(resolve_in(spec, PASSWD, GROUP).unwrap(), want, "{spec}");
        }
        assert_eq!(resolve_in("", "", "").unwrap(), identity(0, 0, &[], None));
    }

    #[test]
    fn an_unknown_name_is_refused_by_name() {
        let refused = |spec| resolve_in(spec, PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(refused("nobody"), "unable to find user nobody");
        assert_eq!(refused("web:nogroup"), "unable to find group nogroup");
        for spec in ["-1", "+5", "4294967295", "broken", "bad", "+nis", "web:-1"] {
            assert!(resolve_in(spec, PASSWD, GROUP).is_err(), "{spec}");
        }
    }
}

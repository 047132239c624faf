//! The words between agent and shim: JSON messages and descriptors over a socket pair that keeps
//! message boundaries. The end of the channel is a message too: it means that the other side is
//! gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::exec::ExecSpec;
use crate::sys;

const MESSAGE_BYTES_MAX: usize = 512 << 10;
const DESCRIPTORS_MAX: usize = 3;

/// What an agent asks of a shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    Create,
    /// After [`Reply::Created`]: run the command.
    Go,
    /// Go on where a dead shim stopped; its descriptor is a pidfd of the container's init,
    /// which may have ended.
    Adopt,
    /// Its descriptors are stdin, stdout and stderr, or none for a terminal.
    Exec(ExecSpec),
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Created {
        pid: i32,
    },
    /// The command runs. For an exec with a terminal its descriptor is the terminal's master.
    Started,
    Failed {
        message: String,
        code: Option<i32>,
    },
    /// An exec's end, as a wait status.
    Ended {
        how: crate::exit::How,
    },
}

/// A connected pair; both close on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    for end in [&pair.0, &pair.1] {
        rustix::net::sockopt::set_socket_send_buffer_size(end, MESSAGE_BYTES_MAX)?;
    }
    Ok(pair)
}

pub fn send<M: Serialize>(to: impl AsFd, message: &M, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(
        to,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// `None`: the other side closed.
pub fn receive<M: DeserializeOwned>(from: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let peek = RecvFlags::PEEK | RecvFlags::TRUNC;
    let waiting = rustix::io::retry_on_intr(|| recv(&from, &mut [0; 0][..], peek));
    // As large as the message: what a shim's heap was once, it stays.
    let mut bytes = match waiting {
        Ok((_, length)) if length > 0 => vec![0; length],
        // The other side died, maybe with something of ours unread.
        Ok(_) | Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        recvmsg(&from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(Some((serde_json::from_slice(&bytes)?, fds)))
}

/// The agent's end.
#[derive(Debug)]
pub struct Channel(AsyncFd<OwnedFd>);

impl Channel {
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(sys::watched(fd)?))
    }

    pub fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        // Never blocks: a conversation is a handful of small messages.
        send(self.0.get_ref(), request, fds)
    }

    pub async fn receive(&self) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|fd| receive(fd.get_ref())) {
                Ok(answer) => return answer,
                Err(_would_block) => {}
            }
        }
    }
}

/// A descriptor sent by somebody else's conventions: one message, whose bytes do not matter.
pub fn receive_fd(from: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let mut bytes = [0; 512];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    recvmsg(&from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    Ok(rights)
}

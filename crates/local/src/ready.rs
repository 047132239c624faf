//! Waiting until the parts of a cluster answer.

use crate::options::Ready;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const PAUSE: Duration = Duration::from_millis(25);
const ONE_TRY: Duration = Duration::from_secs(2);

/// Returns when the URL has answered 200 and all of `listening` accept.
pub(crate) async fn wait(ready: Option<Ready>, listening: Vec<SocketAddrV4>) {
    for address in listening {
        until(|| async move { TcpStream::connect(address).await.map(|_| true) }).await;
    }
    if let Some(Ready { address, path }) = ready {
        until(|| answers(address, &path)).await;
    }
}

async fn until<F: Future<Output = std::io::Result<bool>>>(attempt: impl Fn() -> F) {
    while !matches!(timeout(ONE_TRY, attempt()).await, Ok(Ok(true))) {
        sleep(PAUSE).await;
    }
}

async fn answers(address: SocketAddr, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
        .await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    Ok(head.starts_with(b"HTTP/1.") && head.ends_with(b" 200"))
}

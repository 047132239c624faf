//! Listening: TCP for everybody, a unix socket for root.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use master::Master;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::events::Hub;
use crate::metrics::Served;
use crate::{Config, Context, Door, router};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("listen on {path}")]
    Socket {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("serve HTTP")]
    Serve { source: std::io::Error },
    #[error("the HTTP server ended")]
    Ended,
}

/// Serves until something fails. Everything is bound before the first request is answered.
pub async fn serve(master: Master, config: Config) -> Result<(), Error> {
    let advertised = Arc::new(config.advertised);
    let events = Hub::default();
    let served = Arc::new(Served::begin());
    // Before anybody can listen, so that nobody misses what he did himself.
    let watch = master.store().watch();
    let context = |door| Context {
        master: master.clone(),
        advertised: Arc::clone(&advertised),
        events: events.clone(),
        served: Arc::clone(&served),
        door,
    };
    let socket = bind_socket(&config.socket)?;
    let mut servers = JoinSet::new();
    for address in config.listen {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen { address, source })?;
        let public = router(context(Door::Public));
        let public = public.into_make_service_with_connect_info::<SocketAddr>();
        servers.spawn(async move { axum::serve(listener, public).await });
        tracing::info!(%address, "API is served on http://{address}");
    }
    let root = router(context(Door::Root));
    servers.spawn(async move { axum::serve(socket, root).await });
    servers.spawn(async move {
        events.run(watch).await;
        Ok(())
    });
    match servers.join_next().await {
        Some(Ok(Err(source))) => Err(Error::Serve { source }),
        Some(Ok(Ok(())) | Err(_)) | None => Err(Error::Ended),
    }
}

/// The socket of a master that was killed is in the way of the next.
fn bind_socket(path: &PathBuf) -> Result<UnixListener, Error> {
    let fault = |source| Error::Socket {
        path: path.clone(),
        source,
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(fault)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(error)),
        Ok(()) | Err(_) => {}
    }
    // Bound under another name first: nobody connects before the mode is right.
    let staged = path.with_extension("new");
    let _ = fs::remove_file(&staged);
    let listener = UnixListener::bind(&staged).map_err(fault)?;
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o600)).map_err(fault)?;
    fs::rename(&staged, path).map_err(fault)?;
    Ok(listener)
}

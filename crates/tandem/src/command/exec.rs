//! `tandem exec`: a command in a running instance, with its input, output and exit code.

use std::io::{IsTerminal, Read, Write};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use model::session::{Input, Part};
use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::names;
use crate::client::path::encoded;
use crate::client::{Ask, Connection};
use crate::fault::{Doing, Exit, Fault, Result};

const PROTOCOL: &str = "tandem-exec";
/// No frame is larger; whoever sends one speaks something else.
const FRAME_MAX: u32 = 8 << 20;
/// Bytes read from the keyboard at once.
const CHUNK: usize = 16 << 10;

#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    /// Pass on standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// The instance's id from `tandem ps`, or an app with one running instance
    instance: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

pub async fn run(args: ExecArgs) -> Result<()> {
    let client = args.connection.open()?;
    let instance = names::instance(&client, &args.instance).await?;
    let terminal = match args.tty {
        true => Some(Terminal::size()?),
        false => None,
    };
    let words = serde_json::to_string(&args.command)?;
    let tty = terminal.map(|(rows, columns)| format!("&tty={rows}x{columns}"));
    let path = format!(
        "/tandem/v1/instances/{}/exec?args={}{}",
        encoded(&instance.id),
        encoded(&words),
        tty.unwrap_or_default()
    );
    let connection = client.upgrade(Ask::post(path).for_root(), PROTOCOL).await?;
    // Raw only from here on: refusals are printed on a sane terminal.
    let raw = match args.tty && std::io::stdin().is_terminal() {
        true => Some(Terminal::raw()?),
        false => None,
    };
    let code = talk(connection, args.interactive, args.tty).await;
    drop(raw);
    match code? {
        0 => Ok(()),
        code => Err(Fault::silent(Exit::Passed(
            u8::try_from(code).unwrap_or(u8::MAX),
        ))),
    }
}

/// Carries frames both ways until the command has ended; its exit code.
async fn talk(connection: TokioIo<Upgraded>, interactive: bool, tty: bool) -> Result<i32> {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let (tell, mut inputs) = mpsc::channel(8);
    if interactive {
        let tell = tell.clone();
        // A thread of its own: reading a terminal cannot be given up, and ends with the process.
        std::thread::spawn(move || read_input(std::io::stdin().lock(), &tell));
    } else {
        send(&mut writer, &Input::End).await?;
    }
    let mut resized = signal(SignalKind::window_change()).doing(|| "listen for signals".into())?;
    let (said, mut parts) = mpsc::channel(8);
    let hear = tokio::spawn(async move {
        loop {
            let part = receive(&mut reader).await;
            let failed = part.is_err();
            if said.send(part).await.is_err() || failed {
                return;
            }
        }
    });
    let ended = loop {
        tokio::select! {
            part = parts.recv() => match part {
                Some(part) => if let Some(code) = obey(part?)? {
                    break Ok(code);
                },
                None => break Err(Fault::new(Exit::Failed, "the connection to the instance ended")),
            },
            Some(input) = inputs.recv() => send(&mut writer, &input).await?,
            Some(()) = resized.recv(), if tty => {
                let (rows, columns) = Terminal::size()?;
                send(&mut writer, &Input::Resize { rows, columns }).await?;
            }
        }
    };
    hear.abort();
    ended
}

/// Writes what the command wrote; its exit code, if that was all.
fn obey(part: Part) -> Result<Option<i32>> {
    match part {
        Part::Stdout(bytes) => {
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes)?;
            out.flush()?;
        }
        Part::Stderr(bytes) => std::io::stderr().write_all(&bytes)?,
        Part::Exited(code) => return Ok(Some(code)),
        Part::Failed(why) => return Err(Fault::new(Exit::Failed, why)),
        Part::Log(_) | Part::Compared(_) | Part::Tables(_) | Part::End => {}
    }
    Ok(None)
}

fn read_input(mut source: impl Read, tell: &mpsc::Sender<Input>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let input = match source.read(&mut buffer) {
            Ok(0) | Err(_) => Input::End,
            Ok(count) => Input::Bytes(buffer[..count].to_vec()),
        };
        let last = input == Input::End;
        if tell.blocking_send(input).is_err() || last {
            return;
        }
    }
}

/// A frame: its length in four bytes, the higher first, then JSON.
async fn send(writer: &mut WriteHalf<TokioIo<Upgraded>>, input: &Input) -> Result<()> {
    let json = serde_json::to_vec(input)?;
    let length = u32::try_from(json.len())?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(json);
    let sent = async {
        writer.write_all(&frame).await?;
        writer.flush().await
    };
    sent.await.map_err(lost)
}

async fn receive(reader: &mut ReadHalf<TokioIo<Upgraded>>) -> Result<Part> {
    let length = reader.read_u32().await.map_err(lost)?;
    if length > FRAME_MAX {
        return Err(Fault::new(
            Exit::Failed,
            "the master speaks another protocol",
        ));
    }
    let mut json = vec![0; length as usize];
    reader.read_exact(&mut json).await.map_err(lost)?;
    Ok(serde_json::from_slice(&json)?)
}

fn lost(error: std::io::Error) -> Fault {
    Fault::new(
        Exit::Failed,
        format!("the connection to the instance ended: {error}"),
    )
}

/// The terminal in raw mode, for as long as this lives.
struct Terminal {
    before: Termios,
}

impl Terminal {
    fn raw() -> Result<Self> {
        let doing = || "prepare the terminal".into();
        let before = termios::tcgetattr(std::io::stdin()).doing(doing)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).doing(doing)?;
        Ok(Terminal { before })
    }

    /// Rows and columns; the usual ones where there is no terminal.
    fn size() -> Result<(u16, u16)> {
        match termios::tcgetwinsize(std::io::stdout()) {
            Ok(size) if size.ws_row > 0 => Ok((size.ws_row, size.ws_col)),
            Ok(_) | Err(rustix::io::Errno::NOTTY) => Ok((24, 80)),
            Err(error) => Err(error).doing(|| "measure the terminal".into()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal may be gone, which is then past caring.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_ends_with_its_source() {
        let (tell, mut told) = mpsc::channel(8);
        read_input(&b"ls\n"[..], &tell);
        assert_eq!(told.try_recv(), Ok(Input::Bytes(b"ls\n".to_vec())));
        assert_eq!(told.try_recv(), Ok(Input::End));
    }

    #[test]
    fn the_commands_exit_is_the_last_word() {
        assert_eq!(obey(Part::Exited(3)), Ok(Some(3)));
        assert_eq!(obey(Part::Stdout(Vec::new())), Ok(None));
        assert_eq!(
            obey(Part::Failed("no".into())).unwrap_err().text(),
            "error: no"
        );
    }
}

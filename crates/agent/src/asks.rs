//! Questions of clients, relayed by the master: an instance's log, a command inside it, the
//! node's network. One task each; what it says goes to the session's slower lane, so that a client
//! who does not read holds up nobody but himself.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use container::log::{From, Line, Reader, Stream};
use container::{Console, Dir, Exec, ExecSpec, How, Instance, Streams};
use model::Time;
use model::session::{FromAgent, Input, LogLine, LogStream, Part};
use network::Inspection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::words;
use crate::event::NetworkState;

/// Inputs that may wait for a command that does not read.
pub(crate) const INPUTS_WAITING: usize = 256;
const ROWS_AT_ONCE: usize = 512;
const CHUNK_BYTES: usize = 16 << 10;
/// A line of many pieces is told in parts of this size.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Where the answer goes.
#[derive(Clone)]
pub(crate) struct Answer {
    pub ask: u64,
    pub to: mpsc::Sender<FromAgent>,
}

/// The client, or the session, is gone.
struct Gone;

impl Answer {
    async fn say(&self, part: Part) -> Result<(), Gone> {
        let ask = self.ask;
        let message = FromAgent::Answer { ask, part };
        self.to.send(message).await.map_err(|_| Gone)
    }

    /// Says it, whoever is left to hear.
    pub async fn last(&self, part: Part) {
        let _ = self.say(part).await;
    }
}

/// What an ask is about, as far as it is there.
pub(crate) struct About {
    pub dir: Dir,
    /// Running now.
    pub instance: Option<Instance>,
    /// Cancelled when it has ended.
    pub over: CancellationToken,
}

/// An ask, with what it is about.
pub(crate) enum Question {
    Log {
        about: About,
        tail: Option<u32>,
        follow: bool,
    },
    Exec {
        about: About,
        args: Vec<String>,
        tty: Option<(u16, u16)>,
        input: mpsc::Receiver<Input>,
    },
    Network(NetworkState),
}

/// Answers, and returns when there is nothing more to say.
pub(crate) async fn answer(question: Question, answer: Answer) {
    // A client that has gone needs no last word.
    let _ = match question {
        Question::Log {
            about,
            tail,
            follow,
        } => log(about, tail, follow, &answer).await,
        Question::Exec {
            about,
            args,
            tty,
            input,
        } => exec(about, args, tty, &answer, input).await,
        Question::Network(state) => network(state, &answer).await,
    };
}

/// Tells what the node's network is beside what it should be.
async fn network(state: NetworkState, answer: &Answer) -> Result<(), Gone> {
    let inspected = match state {
        NetworkState::Up(network) => network.inspect().await.map_err(|error| words(&error)),
        NetworkState::Down(why) => Err(format!("the overlay is not up: {why}")),
    };
    match inspected {
        Ok(inspection) => compared(inspection, answer).await,
        Err(why) => answer.say(Part::Failed(why)).await,
    }
}

async fn compared(inspection: Inspection, answer: &Answer) -> Result<(), Gone> {
    for rows in inspection.compared.chunks(ROWS_AT_ONCE) {
        answer.say(Part::Compared(rows.to_vec())).await?;
    }
    answer.say(Part::Tables(inspection.tables)).await?;
    answer.say(Part::End).await
}

async fn log(about: About, tail: Option<u32>, follow: bool, answer: &Answer) -> Result<(), Gone> {
    match read(about, tail, follow, answer).await {
        Ok(told) => told?,
        Err(error) => return answer.say(Part::Failed(words(&error))).await,
    }
    answer.say(Part::End).await
}

async fn read(
    about: About,
    tail: Option<u32>,
    follow: bool,
    answer: &Answer,
) -> Result<Result<(), Gone>, container::Error> {
    let from = match tail {
        Some(tail) => From::Tail(usize::try_from(tail).unwrap_or(usize::MAX)),
        None => From::Start,
    };
    let mut reader = Reader::open(&about.dir, from)?;
    let mut joined = Joined::default();
    loop {
        // Looked at first: what it wrote before its end is then read for certain.
        let over = about.over.is_cancelled();
        let mut lines = Vec::new();
        loop {
            let more = reader.more()?;
            if more.is_empty() {
                break;
            }
            lines.extend(more.into_iter().filter_map(|line| joined.whole(line)));
            if lines.len() >= 512
                && answer
                    .say(Part::Log(std::mem::take(&mut lines)))
                    .await
                    .is_err()
            {
                return Ok(Err(Gone));
            }
        }
        if over || !follow {
            lines.extend(joined.rest());
        }
        if !lines.is_empty() && answer.say(Part::Log(lines)).await.is_err() {
            return Ok(Err(Gone));
        }
        if over || !follow {
            return Ok(Ok(()));
        }
        tokio::select! {
            changed = reader.changed() => changed?,
            () = about.over.cancelled() => {}
            () = answer.to.closed() => return Ok(Err(Gone)),
        }
    }
}

/// Puts the pieces of long lines together again.
#[derive(Default)]
struct Joined(BTreeMap<&'static str, LogLine>);

impl Joined {
    fn whole(&mut self, line: Line) -> Option<LogLine> {
        let (name, stream) = match line.stream {
            Stream::Stdout => ("stdout", LogStream::Stdout),
            Stream::Stderr => ("stderr", LogStream::Stderr),
            // The shim's remarks on lines that it had to drop.
            Stream::Tandem => ("tandem", LogStream::Stderr),
        };
        let so_far = match self.0.remove(name) {
            Some(mut begun) => {
                begun.text.push_str(&line.text);
                begun
            }
            None => LogLine {
                time: stamp(line.time),
                stream,
                text: line.text,
            },
        };
        if line.partial && so_far.text.len() < LINE_BYTES_MAX {
            self.0.insert(name, so_far);
            return None;
        }
        Some(so_far)
    }

    fn rest(&mut self) -> impl Iterator<Item = LogLine> {
        std::mem::take(&mut self.0).into_values()
    }
}

/// RFC 3339 with nanoseconds.
fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let whole = Time(since.as_secs().saturating_mul(1000)).to_string();
    let whole = whole.trim_end_matches(".000Z");
    format!("{whole}.{:09}Z", since.subsec_nanos())
}

async fn exec(
    about: About,
    args: Vec<String>,
    tty: Option<(u16, u16)>,
    answer: &Answer,
    input: mpsc::Receiver<Input>,
) -> Result<(), Gone> {
    let Some(instance) = &about.instance else {
        let id = about.dir.id();
        let why = format!("instance {id} does not run on this node");
        return answer.say(Part::Failed(why)).await;
    };
    if args.is_empty() {
        return answer
            .say(Part::Failed("no command was given".into()))
            .await;
    }
    let spec = ExecSpec {
        args,
        env: tty.map(|_| "TERM=xterm".to_owned()).into_iter().collect(),
        terminal: tty.is_some(),
        ..ExecSpec::default()
    };
    let exec = match instance.exec(&spec).await {
        Ok(exec) => exec,
        // As a shell tells it: the command is not there, or cannot be executed.
        Err(container::Error::Exec {
            message,
            code: Some(code),
        }) => {
            answer
                .say(Part::Stderr(format!("{message}\n").into()))
                .await?;
            return answer.say(Part::Exited(code)).await;
        }
        Err(error) => return answer.say(Part::Failed(words(&error))).await,
    };
    if let (Streams::Terminal(console), Some((rows, columns))) = (&exec.streams, tty)
        && let Err(error) = console.resize(columns, rows)
    {
        tracing::debug!("Could not set a terminal's size: {error}");
    }
    tokio::select! {
        said = relay(exec, answer, input) => said,
        () = answer.to.closed() => Err(Gone),
    }
}

/// Output until nobody can write any more, input meanwhile; then how it ended.
async fn relay(mut exec: Exec, answer: &Answer, input: mpsc::Receiver<Input>) -> Result<(), Gone> {
    match &mut exec.streams {
        Streams::Pipes {
            stdin,
            stdout,
            stderr,
        } => {
            let both = async {
                let (out, err) = tokio::join!(
                    pass(stdout, Part::Stdout, answer),
                    pass(stderr, Part::Stderr, answer)
                );
                out.and(err)
            };
            beside(both, feed(stdin, input)).await?;
        }
        Streams::Terminal(console) => {
            beside(show(console, answer), keyboard(console, input)).await?;
        }
    }
    let last = match exec.wait().await {
        Ok(How::Code(code)) => Part::Exited(code),
        // As a shell tells it.
        Ok(How::Signal(signal)) => Part::Exited(128 + signal),
        Ok(How::Unknown) => Part::Failed("how the command ended is not known".into()),
        Ok(How::CreateFailed { message, .. }) => Part::Failed(message),
        Err(error) => Part::Failed(words(&error)),
    };
    answer.say(last).await
}

/// Runs `helper` for as long as `work` takes.
async fn beside<T>(work: impl Future<Output = T>, helper: impl Future<Output = ()>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = helper => {}
    }
    work.await
}

async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    part: fn(Vec<u8>) -> Part,
    answer: &Answer,
) -> Result<(), Gone> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk).await {
            // A pipe that breaks has nothing more to say.
            Ok(0) | Err(_) => return Ok(()),
            Ok(got) => answer.say(part(chunk[..got].to_vec())).await?,
        }
    }
}

async fn show(console: &Console, answer: &Answer) -> Result<(), Gone> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match console.read(&mut chunk).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(got) => answer.say(Part::Stdout(chunk[..got].to_vec())).await?,
        }
    }
}

async fn feed(stdin: &mut pipe::Sender, mut input: mpsc::Receiver<Input>) {
    while let Some(input) = input.recv().await {
        match input {
            Input::Bytes(bytes) => {
                if stdin.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Input::End => break,
            Input::Resize { .. } => {}
        }
    }
    // The command sees the end of its input when the last writer is gone; another pipe's end in
    // its place lets this one go while the rest of the exec stays.
    match pipe::pipe() {
        Ok((other, _)) => *stdin = other,
        Err(error) => tracing::warn!("Could not end a command's input: {error}"),
    }
}

async fn keyboard(console: &Console, mut input: mpsc::Receiver<Input>) {
    while let Some(input) = input.recv().await {
        let done = match input {
            Input::Bytes(bytes) => console.write(&bytes).await,
            Input::Resize { rows, columns } => console.resize(columns, rows),
            // Ctrl-D, which is how a terminal says it.
            Input::End => console.write(&[4]).await,
        };
        if done.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(stream: Stream, text: &str, partial: bool) -> Line {
        Line {
            time: UNIX_EPOCH + Duration::new(1_709_164_800, 5),
            stream,
            text: text.to_owned(),
            partial,
        }
    }

    #[test]
    fn pieces_of_a_line_are_told_as_one_with_the_time_of_the_first() {
        let mut joined = Joined::default();
        assert_eq!(joined.whole(line(Stream::Stdout, "ab", true)), None);
        let other = joined.whole(line(Stream::Stderr, "x", false));
        assert_eq!(other.map(|line| line.text), Some("x".into()));
        let whole = joined.whole(line(Stream::Stdout, "cd", false));
        let expected = LogLine {
            time: "2024-02-29T00:00:00.000000005Z".into(),
            stream: LogStream::Stdout,
            text: "abcd".into(),
        };
        assert_eq!(whole, Some(expected));
        assert_eq!(joined.whole(line(Stream::Stdout, "tail", true)), None);
        let rest: Vec<String> = joined.rest().map(|line| line.text).collect();
        assert_eq!(rest, vec!["tail"]);
    }
}

//! Keeping one node running: its init, and its cable into the switch.

use crate::backoff::Backoff;
use crate::error::{Doing, Error, Result, chain};
use crate::keep::{ended, listen, spawn, with_last};
use crate::log::{Log, Voice};
use crate::node_init::{BORN, DOWN, GO, Plan, UP};
use crate::switch::Switch;
use crate::{cgroup, entry};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

/// A node is born within this time, or something is badly wrong with it.
const BIRTH: Duration = Duration::from_secs(30);

/// Returns when the node has ended after it was told to go `down`. `up` is told whenever the
/// node comes or goes.
pub(crate) async fn keep_node(
    plan: Plan,
    switch: &Switch,
    log: Log,
    voice: Voice,
    mut down: watch::Receiver<bool>,
    up: impl Fn(bool),
) {
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let how = match live(&plan, switch, &log, &mut down, &up).await {
            Ok(how) => how,
            Err(error) => chain(&error),
        };
        up(false);
        if *down.borrow() {
            return;
        }
        let pause = backoff.after(began.elapsed());
        voice.say(&format!(
            "{} ended ({}); starting it again in {} ms",
            plan.name,
            with_last(&how, &log),
            pause.as_millis()
        ));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = down.wait_for(|down| *down) => return,
        }
    }
}

/// One life of a node: from its birth to its end, and how it ended.
async fn live(
    plan: &Plan,
    switch: &Switch,
    log: &Log,
    down: &mut watch::Receiver<bool>,
    up: &impl Fn(bool),
) -> Result<String> {
    let mut init = Init::spawn(plan, log)?;
    let line = serde_json::to_string(plan).map_err(|source| Error::Json {
        what: "a node's plan".into(),
        source,
    })?;
    init.tell(&line, plan).await?;
    init.hear(BORN, plan, log).await?;
    switch.plug(&plan.name, plan.address.address, init.pid)?;
    init.tell(GO, plan).await?;
    init.hear(UP, plan, log).await?;
    up(true);
    // Its end of the pipe closes before the kernel begins to end the others in the
    // node. Those that a version 1 freezer holds would keep it from ever finishing.
    let told = tokio::select! {
        () = init.silence() => false,
        told = down.wait_for(|down| *down) => told.is_ok(),
    };
    if told {
        init.tell(DOWN, plan).await?;
        init.silence().await;
    }
    cgroup::thaw(&plan.group)?;
    Ok(ended(&mut init.child).await)
}

struct Init {
    child: Child,
    pid: u32,
    /// The lifeline: the node ends when this closes.
    lifeline: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Init {
    /// Starts the first process of a new pid namespace.
    fn spawn(plan: &Plan, log: &Log) -> Result<Init> {
        let mut command = Command::new(entry::THIS_BINARY);
        let (writer, _) = listen(log)?;
        command.args([
            entry::NODE_INIT,
            &plan.name,
            &plan.address.address.to_string(),
        ]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(writer);
        let mut child = first_of_new_pid_namespace(|| spawn(command, &plan.name))?;
        let gone = || Error::NodeSetUp {
            node: plan.name.clone(),
            said: "it ended at once".into(),
        };
        Ok(Init {
            pid: child.id().ok_or_else(gone)?,
            lifeline: child.stdin.take().ok_or_else(gone)?,
            said: BufReader::new(child.stdout.take().ok_or_else(gone)?),
            child,
        })
    }

    async fn tell(&mut self, line: &str, plan: &Plan) -> Result<()> {
        self.lifeline
            .write_all(format!("{line}\n").as_bytes())
            .await
            .doing(|| format!("tell {} what to do", plan.name))
    }

    /// Returns when it has nothing more to say.
    async fn silence(&mut self) {
        let mut rest = String::new();
        while matches!(self.said.read_line(&mut rest).await, Ok(count) if count > 0) {}
    }

    async fn hear(&mut self, word: &str, plan: &Plan, log: &Log) -> Result<()> {
        let mut line = String::new();
        match tokio::time::timeout(BIRTH, self.said.read_line(&mut line)).await {
            Ok(Ok(_)) if line.trim_end() == word => Ok(()),
            _ => {
                let _ = self.child.kill().await;
                Err(Error::NodeSetUp {
                    node: plan.name.clone(),
                    said: with_last(&format!("never said {word:?}"), log),
                })
            }
        }
    }
}

/// The next child of this thread becomes process 1; the thread itself stays where
/// it is, and so do all children after that one.
fn first_of_new_pid_namespace<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    let own =
        File::open("/proc/thread-self/ns/pid").doing(|| "open the own pid namespace".into())?;
    unshare(CloneFlags::CLONE_NEWPID).doing(|| "create a pid namespace".into())?;
    let started = start();
    setns(&own, CloneFlags::CLONE_NEWPID).doing(|| "return to the own pid namespace".into())?;
    started
}

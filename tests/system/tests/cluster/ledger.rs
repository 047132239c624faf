//! The ledger: clients that commit one row after the other and note, on disk, what was
//! acknowledged; and the audit of the database against their notes.
//!
//! *Flow.* A client commits (client, n + 1), appends n + 1 to its record when the database has
//! acknowledged it, and syncs the record. After any error it connects again by name, ends what is
//! left of its former session, so that nothing of that can still commit, and goes on from the
//! highest n that it reads. No index forbids a row to be there twice.
//!
//! *Assumptions.* psql prints a row of an INSERT only once the server has committed it.

use crate::cluster::{Cluster, wait_for};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
/// Debian's psql itself; the one in the search path is a slow wrapper.
const PSQL: &str = "/usr/lib/postgresql/15/bin/psql";
const AMCHECK: &str = "/usr/lib/postgresql/15/bin/pg_amcheck";
/// How that ends when it could not look, as without a connection; what is unsound is another end.
const UNCHECKED: i32 = 1;
const PORT: u16 = 5432;
/// Much shorter than an attempt that the kernel repeats, and than a session of psql takes to start.
const KNOCK: Duration = Duration::from_millis(250);
const AGAIN: Duration = Duration::from_millis(10);

/// Where the database is, and how a client speaks to it.
#[derive(Clone)]
pub struct Database {
    /// In the cluster's DNS.
    pub name: String,
    pub user: &'static str,
    pub password: String,
    /// More words of libpq's.
    pub options: &'static str,
}

/// Clients at work.
pub struct Ledger {
    database: Database,
    clients: Vec<(Arc<Client>, Option<JoinHandle<()>>)>,
    over: Arc<AtomicBool>,
}

/// What a client's thread shares with the case.
struct Client {
    number: usize,
    record: PathBuf,
    /// How many were acknowledged.
    noted: AtomicU64,
    silence: Mutex<Silence>,
    /// The client's end of the connection, to be ended when the case is over.
    psql: Mutex<Option<Child>>,
}

/// Between acknowledgements.
struct Silence {
    last: Instant,
    longest: Duration,
}

impl Ledger {
    /// Makes the table, where an earlier ledger did not, and sets the clients to work. Their records
    /// are the case's.
    pub fn start(cluster: &Cluster, database: Database) -> Self {
        wait_for("the database", || try_query(&database, "select 1"));
        for setting in ["synchronous_commit", "fsync", "data_checksums"] {
            let value = query(&database, &format!("show {setting}"));
            assert_eq!(value, "on\n", "{setting}");
        }
        query(
            &database,
            "create table if not exists ledger (client int, n bigint); \
             create index if not exists ledger_by_client on ledger (client, n); \
             create extension if not exists amcheck",
        );
        let over = Arc::new(AtomicBool::new(false));
        let clients = (1..=CLIENTS).map(|number| {
            let client = Arc::new(Client {
                number,
                record: cluster.path("work").join(format!("client-{number}")),
                noted: AtomicU64::new(0),
                silence: Mutex::new(Silence {
                    last: Instant::now(),
                    longest: Duration::ZERO,
                }),
                psql: Mutex::new(None),
            });
            let (own, database, over) = (client.clone(), database.clone(), over.clone());
            (
                client,
                Some(thread::spawn(move || own.work(&database, &over))),
            )
        });
        let ledger = Ledger {
            clients: clients.collect(),
            database,
            over,
        };
        ledger.goes_on();
        ledger
    }

    /// Waits until every client has got some more acknowledgements.
    pub fn goes_on(&self) {
        let before: Vec<u64> = self.noted().collect();
        wait_for("every client to commit", || {
            let now: Vec<u64> = self.noted().collect();
            let all = before
                .iter()
                .zip(&now)
                .all(|(before, now)| *now > before + 2);
            all.then_some(()).ok_or(format!("{before:?} {now:?}"))
        });
    }

    fn noted(&self) -> impl Iterator<Item = u64> {
        let clients = self.clients.iter();
        clients.map(|(client, _)| client.noted.load(Ordering::SeqCst))
    }

    /// Forgets what silence there was.
    pub fn listen(&self) {
        for (client, _) in &self.clients {
            client.silence().longest = Duration::ZERO;
        }
    }

    /// The longest that any client has waited for an acknowledgement since [`Ledger::listen`].
    pub fn silence(&self) -> Duration {
        let silences = self.clients.iter().map(|(client, _)| {
            let silence = client.silence();
            silence.longest.max(silence.last.elapsed())
        });
        silences.max().unwrap_or_default()
    }

    /// Ends the clients, and holds the database against their records: every recorded n is there,
    /// none twice, and heap and indexes are sound. How many rows were recorded.
    pub fn audit(mut self) -> usize {
        self.end();
        let recorded = self.clients.iter().map(|(client, _)| {
            let recorded = client.recorded();
            client.audit(&recorded, &self.database);
            recorded.len()
        });
        let recorded = recorded.sum();
        check_structure(&self.database);
        recorded
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for (client, thread) in &mut self.clients {
            if let Some(thread) = thread.take() {
                // Answers may be waited for that never come.
                let deadline = Instant::now() + Duration::from_secs(10);
                while !thread.is_finished() && Instant::now() < deadline {
                    thread::sleep(AGAIN);
                }
                client.hang_up();
                let ended = thread.join();
                assert!(ended.is_ok() || thread::panicking(), "a client panicked");
            }
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.end();
    }
}

impl Client {
    fn work(&self, database: &Database, over: &AtomicBool) {
        let mut record = File::create(&self.record).unwrap();
        while !over.load(Ordering::SeqCst) {
            match self.connect(database) {
                Some((mut session, highest)) => {
                    self.commit(&mut session, highest, &mut record, over)
                }
                None => thread::sleep(AGAIN),
            }
            self.hang_up();
        }
    }

    /// A session, when nothing is left of the former one, and the highest n in the table.
    fn connect(&self, database: &Database) -> Option<(Session, u64)> {
        let own = format!("client-{}", self.number);
        let (psql, mut session) = Session::start(database, &own)?;
        *self.psql() = Some(psql);
        let ended = session.ask(&format!(
            "select count(*) filter (where not pg_terminate_backend(pid, 10000)) \
             from pg_stat_activity where application_name = '{own}' and pid <> pg_backend_pid()"
        ))?;
        if ended != "0" {
            return None;
        }
        let highest = session.ask(&format!(
            "select coalesce(max(n), 0) from ledger where client = {}",
            self.number
        ))?;
        let highest = highest.parse().expect("psql prints a number");
        Some((session, highest))
    }

    fn commit(&self, session: &mut Session, highest: u64, record: &mut File, over: &AtomicBool) {
        for n in highest + 1.. {
            let insert = format!(
                "insert into ledger values ({}, {n}) returning n",
                self.number
            );
            let Some(answer) = session
                .ask(&insert)
                .filter(|_| !over.load(Ordering::SeqCst))
            else {
                return;
            };
            assert_eq!(answer, n.to_string());
            writeln!(record, "{n}").unwrap();
            record.sync_data().unwrap();
            self.noted.fetch_add(1, Ordering::SeqCst);
            let mut silence = self.silence();
            silence.longest = silence.longest.max(silence.last.elapsed());
            silence.last = Instant::now();
        }
    }

    fn recorded(&self) -> Vec<u64> {
        let text = fs::read_to_string(&self.record).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn audit(&self, recorded: &[u64], database: &Database) {
        // One that was lost is noted again.
        let again = recorded.windows(2).find(|pair| pair[1] <= pair[0]);
        assert_eq!(again, None, "client {}: committed again", self.number);
        let rows = query(
            database,
            &format!(
                "select n from ledger where client = {} order by n",
                self.number
            ),
        );
        let rows: Vec<u64> = rows.lines().map(|row| row.parse().unwrap()).collect();
        let there: BTreeSet<u64> = rows.iter().copied().collect();
        assert_eq!(
            rows.len(),
            there.len(),
            "client {}: rows twice",
            self.number
        );
        let missing: Vec<&u64> = recorded.iter().filter(|n| !there.contains(n)).collect();
        assert!(
            missing.is_empty(),
            "client {}: lost {missing:?}",
            self.number
        );
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap()
    }

    fn psql(&self) -> MutexGuard<'_, Option<Child>> {
        self.psql.lock().unwrap()
    }

    fn hang_up(&self) {
        if let Some(mut psql) = self.psql().take() {
            // It may have ended by itself.
            let _ = psql.kill();
            let _ = psql.wait();
        }
    }
}

/// A psql that is told statements line by line.
struct Session {
    statements: ChildStdin,
    rows: BufReader<ChildStdout>,
}

impl Session {
    /// Knocks first: psql costs more than an attempt that is refused, and waits longer for one that
    /// is not answered.
    fn start(database: &Database, own_name: &str) -> Option<(Child, Self)> {
        let addresses = (database.name.as_str(), PORT).to_socket_addrs().ok()?;
        let address = addresses.into_iter().next()?;
        TcpStream::connect_timeout(&address, KNOCK).ok()?;
        let mut psql = psql(database, own_name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgresql-15 is installed");
        let session = Session {
            statements: psql.stdin.take().expect("it is piped"),
            rows: BufReader::new(psql.stdout.take().expect("it is piped")),
        };
        Some((psql, session))
    }

    /// The one row that a statement answers with; `None` after any error.
    fn ask(&mut self, statement: &str) -> Option<String> {
        writeln!(self.statements, "{statement};").ok()?;
        let mut row = String::new();
        let read = self.rows.read_line(&mut row).ok()?;
        (read > 0).then(|| row.trim_end().to_owned())
    }
}

fn psql(database: &Database, own_name: &str) -> Command {
    let Database {
        name,
        user,
        password,
        options,
    } = database;
    let mut psql = Command::new(PSQL);
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet"])
        .arg("--set=ON_ERROR_STOP=1")
        .arg(format!(
            "--dbname=host={name} port={PORT} user={user} dbname={user} sslmode=disable \
             connect_timeout=3 application_name={own_name} {options}"
        ))
        .env("PGPASSWORD", password);
    psql
}

/// What a statement printed, which may be tried more than once: a name or a connection may take
/// longer than anybody waits for it.
pub fn query(database: &Database, statement: &str) -> String {
    wait_for(statement, || try_query(database, statement))
}

fn try_query(database: &Database, statement: &str) -> Result<String, String> {
    let output = psql(database, "audit")
        .args(["--command", statement])
        .output()
        .expect("postgresql-15 is installed");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Every tuple, and every index against its heap.
fn check_structure(database: &Database) {
    let (status, said) = wait_for("amcheck", || {
        let check = Command::new(AMCHECK)
            .args(["--heapallindexed", "--parent-check"])
            .args(["--username", database.user])
            .args(["--host", &database.name, database.user])
            .env("PGPASSWORD", &database.password)
            .output()
            .expect("postgresql-15 is installed");
        let found = String::from_utf8_lossy(&check.stdout);
        let complaint = String::from_utf8_lossy(&check.stderr);
        let said = format!("{found}{complaint}");
        match check.status.code() {
            Some(UNCHECKED) => Err(said),
            _ => Ok((check.status, said)),
        }
    });
    assert!(status.success(), "amcheck: {status}: {said}");
}

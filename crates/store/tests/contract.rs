//! What every log must do, and what the writer does with one: crashes, refusals, full disks.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use model::{AppId, AppSpec, Change, ClusterId, Draft, Epoch, Revision, State, Time, Transaction};
use store::{Log, LogError, RedbLog, Store};

fn transaction(revision: u64) -> Transaction {
    Transaction {
        revision: Revision(revision),
        at: Time(revision * 10),
        changes: vec![Change::Led {
            epoch: Epoch(revision),
        }],
    }
}

fn app(n: usize) -> AppId {
    AppId::parse(&format!("/app-{n:05}")).unwrap()
}

fn put(n: usize) -> Change {
    let spec = Arc::new(AppSpec::default());
    Change::AppPut {
        app: app(n),
        spec,
        version: Time(n as u64 + 1),
        config: true,
    }
}

/// Refuses what is there already; answers how many there are then.
fn add(n: usize) -> impl FnOnce(&mut Draft) -> Result<usize, String> + Send + 'static {
    move |draft| {
        if draft.state().app(&app(n)).is_some() {
            return Err(format!("app {n} is there"));
        }
        draft.apply(put(n));
        Ok(draft.state().app_count())
    }
}

fn records(state: &State) -> Vec<model::records::Record> {
    state.records().collect()
}

#[test]
fn what_was_appended_is_read_back_and_a_stale_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = RedbLog::open(dir.path()).unwrap();
        assert_eq!(log.read(Revision(0)).unwrap(), vec![]);
        log.append(Revision(0), &[transaction(1), transaction(2)])
            .unwrap();
        let stale = log.append(Revision(1), &[transaction(2)]).unwrap_err();
        assert!(
            matches!(
                stale,
                LogError::Stale {
                    newest: Revision(2),
                    ..
                }
            ),
            "{stale}"
        );
        log.append(Revision(2), &[transaction(3)]).unwrap();
        let second = RedbLog::open(dir.path()).err().unwrap();
        assert!(matches!(second, LogError::Locked { .. }), "{second}");
    }
    let log = RedbLog::open(dir.path()).unwrap();
    assert_eq!(
        log.read(Revision(1)).unwrap(),
        vec![transaction(2), transaction(3)]
    );
}

#[test]
fn a_checkpoint_stands_for_what_was_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let mut draft = Draft::new(State::default(), Time(77));
    draft.apply(Change::Founded {
        cluster: ClusterId(9),
        settings: Default::default(),
    });
    for n in 0..5_000 {
        draft.apply(put(n));
    }
    let (state, ..) = draft.into_parts();
    let state = state.numbered(Revision(2));
    {
        let log = RedbLog::open(dir.path()).unwrap();
        log.append(Revision(0), &[transaction(1), transaction(2)])
            .unwrap();
        log.checkpoint(&state).unwrap();
        log.truncate(Revision(2)).unwrap();
    }
    let log = RedbLog::open(dir.path()).unwrap();
    let read = log.latest_checkpoint().unwrap().unwrap();
    assert_eq!(read.revision, Revision(2));
    assert_eq!(records(&read), records(&state));
    assert_eq!(log.read(read.revision).unwrap(), vec![]);
    log.append(Revision(2), &[transaction(3)]).unwrap();
    assert_eq!(log.read(read.revision).unwrap(), vec![transaction(3)]);
    let gap = log.read(Revision(0)).unwrap_err();
    assert!(matches!(gap, LogError::Gap { .. }), "{gap}");
}

#[test]
fn what_was_left_of_an_earlier_checkpoint_goes_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let log = RedbLog::open(dir.path()).unwrap();
    for left in ["checkpoint-00000000000000000001.tmp", "notes.tmp"] {
        std::fs::write(dir.path().join(left), "x").unwrap();
    }
    for revision in [2, 3] {
        let state = State::default().numbered(Revision(revision));
        log.checkpoint(&state).unwrap();
    }
    let entries = std::fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let expected = ["checkpoint-00000000000000000003", "log.redb", "notes.tmp"];
    assert_eq!(names, expected);
}

#[test]
fn a_damaged_or_newer_file_stops_the_start_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let log = RedbLog::open(dir.path()).unwrap();
    log.checkpoint(&State::default().numbered(Revision(1)))
        .unwrap();
    let path = dir.path().join("checkpoint-00000000000000000001");
    let whole = std::fs::read(&path).unwrap();

    let mut flipped = whole.clone();
    flipped[40] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let error = log.latest_checkpoint().unwrap_err();
    assert!(matches!(error, LogError::Checkpoint { .. }), "{error}");

    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    assert!(log.latest_checkpoint().is_err());

    let newer = br#"{"format":3,"body":{"Surprise":{}}}"#;
    let error = store::codec::decode_transaction(newer).unwrap_err();
    assert!(error.to_string().contains("format 3"), "{error}");
    let unknown = br#"{"format":1,"body":{"revision":1,"at":1,"changes":[{"Surprise":{}}]}}"#;
    assert!(store::codec::decode_transaction(unknown).is_err());
}

#[tokio::test]
async fn an_acknowledged_write_is_there_after_a_restart_and_a_refusal_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, thread) = Store::open(RedbLog::open(dir.path()).unwrap()).unwrap();
        let (before, mut watch) = store.watch();
        assert_eq!(before.app_count(), 0);
        let writes = (0..300).map(|n| {
            tokio::spawn({
                let store = store.clone();
                async move { store.write(add(n)).await.unwrap().unwrap() }
            })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap();
        }
        assert_eq!(
            store.write(add(7)).await.unwrap(),
            Err("app 7 is there".into())
        );
        assert_eq!(store.state().app_count(), 300);
        while watch.next().await.unwrap().0.app_count() < 300 {}
        drop(store);
        thread.join().unwrap().unwrap();
        assert!(watch.next().await.is_none());
    }
    let (store, _) = Store::open(RedbLog::open(dir.path()).unwrap()).unwrap();
    assert_eq!(store.state().app_count(), 300);
    assert!(store.now() > Time(0));
}

/// A log on a disk that can fill up.
struct Full {
    appended: Mutex<Vec<Transaction>>,
    full: Arc<AtomicBool>,
}

impl Log for Full {
    fn append(&self, _: Revision, batch: &[Transaction]) -> Result<(), LogError> {
        if self.full.load(Ordering::SeqCst) {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(LogError::File {
                doing: "append to",
                path: "log".into(),
                source,
            });
        }
        self.appended.lock().unwrap().extend_from_slice(batch);
        Ok(())
    }
    fn read(&self, _: Revision) -> Result<Vec<Transaction>, LogError> {
        Ok(self.appended.lock().unwrap().clone())
    }
    fn checkpoint(&self, _: &State) -> Result<(), LogError> {
        Ok(())
    }
    fn latest_checkpoint(&self) -> Result<Option<State>, LogError> {
        Ok(None)
    }
    fn truncate(&self, _: Revision) -> Result<(), LogError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_write_and_leaves_no_trace_of_it() {
    let full = Arc::new(AtomicBool::new(false));
    let log = Full {
        appended: Mutex::default(),
        full: Arc::clone(&full),
    };
    let (store, _) = Store::open(log).unwrap();
    store.write(add(1)).await.unwrap().unwrap();
    full.store(true, Ordering::SeqCst);
    let error = store.write(add(2)).await.unwrap_err();
    assert!(matches!(error, store::Error::Append { .. }), "{error}");
    assert_eq!(store.state().app_count(), 1);
    full.store(false, Ordering::SeqCst);
    assert_eq!(store.write(add(2)).await.unwrap(), Ok(2));
}

/// Keeps nothing but up to where it was told to forget.
struct Forgetful(Arc<Mutex<Vec<u64>>>);

impl Log for Forgetful {
    fn append(&self, _: Revision, _: &[Transaction]) -> Result<(), LogError> {
        Ok(())
    }
    fn read(&self, _: Revision) -> Result<Vec<Transaction>, LogError> {
        Ok(Vec::new())
    }
    fn checkpoint(&self, _: &State) -> Result<(), LogError> {
        Ok(())
    }
    fn latest_checkpoint(&self) -> Result<Option<State>, LogError> {
        Ok(None)
    }
    fn truncate(&self, through: Revision) -> Result<(), LogError> {
        self.0.lock().unwrap().push(through.0);
        Ok(())
    }
}

#[tokio::test]
async fn what_a_checkpoint_stands_for_is_forgotten_in_portions() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (store, _) = Store::open(Forgetful(Arc::clone(&told))).unwrap();
    let all_told = || told.lock().unwrap().last() == Some(&10_000);
    let mut writes = 0;
    while !all_told() {
        writes += 1;
        assert!(
            writes < 20_000,
            "the first 10,000 are forgotten long before"
        );
        let write = store.write(|draft| {
            draft.apply(Change::Led { epoch: Epoch(1) });
            Ok::<_, ()>(())
        });
        write.await.unwrap().unwrap();
    }
    let mut before = 0;
    for through in told.lock().unwrap().iter() {
        assert!(
            (1..=256).contains(&(through - before)),
            "{before} {through}"
        );
        before = *through;
    }
}

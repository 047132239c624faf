//! The log of a single master: an embedded database with checkpoints in files beside it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{Revision, State, Transaction};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use crate::checkpoint;
use crate::codec;
use crate::log::{Log, LogError};

const TRANSACTIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("transactions");
/// One row: the revision that the log begins after. An empty log still knows where it is.
const BEGINNING: TableDefinition<(), u64> = TableDefinition::new("beginning");

pub struct RedbLog {
    dir: PathBuf,
    /// `None` after a failed write: the database refuses all work until it is opened again.
    database: Mutex<Option<Database>>,
}

impl RedbLog {
    /// Opens the log in `dir`, which is made when it is not there.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        std::fs::create_dir_all(dir).map_err(|source| LogError::File {
            doing: "create",
            path: dir.to_owned(),
            source,
        })?;
        let database = open_database(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            database: Mutex::new(Some(database)),
        })
    }

    /// Runs `work` on the database, opening it anew if an earlier failure closed it.
    fn with<R>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Database) -> Result<R, Fault>,
    ) -> Result<R, LogError> {
        let mut guard: MutexGuard<'_, Option<Database>> =
            self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match guard.take() {
            Some(database) => database,
            None => open_database(&self.dir)?,
        };
        match work(&database) {
            Ok(result) => {
                *guard = Some(database);
                Ok(result)
            }
            Err(Fault::Log(error)) => {
                *guard = Some(database);
                Err(error)
            }
            Err(Fault::Database(source)) => Err(LogError::Database { doing, source }),
        }
    }
}

/// Failures of the database, which closes it, and refusals, which do not.
enum Fault {
    Log(LogError),
    Database(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

fn open_database(dir: &Path) -> Result<Database, LogError> {
    let path = dir.join("log.redb");
    match Database::create(&path) {
        Ok(database) => Ok(database),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(LogError::Locked { path }),
        Err(error) => Err(LogError::Open {
            path,
            source: Box::new(error.into()),
        }),
    }
}

impl Log for RedbLog {
    fn append(&self, expected: Revision, batch: &[Transaction]) -> Result<(), LogError> {
        self.with("append to", |database| {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(TRANSACTIONS)?;
                let beginning = write.open_table(BEGINNING)?;
                let start = beginning.get(())?.map_or(0, |row| row.value());
                let newest = Revision(table.last()?.map_or(start, |(key, _)| key.value()));
                if newest != expected {
                    return Err(Fault::Log(LogError::Stale { expected, newest }));
                }
                for transaction in batch {
                    let bytes = codec::encode_transaction(transaction);
                    table.insert(transaction.revision.0, bytes.as_slice())?;
                }
            }
            Ok(write.commit()?)
        })
    }

    fn read(&self, after: Revision) -> Result<Vec<Transaction>, LogError> {
        self.with("read", |database| {
            let read = database.begin_read()?;
            let table = match read.open_table(TRANSACTIONS) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut wanted = Revision(after.0 + 1);
            let mut transactions = Vec::new();
            for row in table.range(wanted.0..)? {
                let (key, value) = row?;
                let revision = Revision(key.value());
                if revision != wanted {
                    return Err(Fault::Log(LogError::Gap {
                        wanted,
                        found: revision,
                    }));
                }
                let transaction = codec::decode_transaction(value.value())
                    .map_err(|source| Fault::Log(LogError::Transaction { revision, source }))?;
                transactions.push(transaction);
                wanted.0 += 1;
            }
            Ok(transactions)
        })
    }

    fn checkpoint(&self, state: &State) -> Result<(), LogError> {
        checkpoint::write(&self.dir, state)
    }

    fn latest_checkpoint(&self) -> Result<Option<State>, LogError> {
        checkpoint::read_latest(&self.dir)
    }

    fn truncate(&self, through: Revision) -> Result<(), LogError> {
        self.with("truncate", |database| {
            let write = database.begin_write()?;
            write
                .open_table(TRANSACTIONS)?
                .retain_in(..=through.0, |_, _| false)?;
            write.open_table(BEGINNING)?.insert((), through.0)?;
            Ok(write.commit()?)
        })
    }
}

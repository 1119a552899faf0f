//! What holds for PostgreSQL alone: somebody else's hands in the database, and a server that goes away.

use crate::{Backend, server::Server};
use std::{collections::HashSet, path::Path, sync::Mutex};
use store::Address;

/// A database of the shared server for each folder.
pub(crate) struct Postgres(&'static Server);

impl Postgres {
    pub(crate) fn shared() -> Option<Self> {
        Server::shared().map(Self)
    }
}

/// The name of a folder's database.
fn name(folder: &Path) -> String {
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Backend for Postgres {
    fn database(&self, folder: &Path) -> Address {
        static MADE: Mutex<Option<HashSet<String>>> = Mutex::new(None);
        let name = name(folder);
        if MADE.lock().unwrap().get_or_insert_default().insert(name.clone()) {
            self.0.create(&name);
        }
        self.0.address(&name).parse().unwrap()
    }
}

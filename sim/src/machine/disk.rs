//! A machine's disk: slow at times, failing at times, and after a crash without some of what was not synced.

use super::Machine;
use commonware_runtime::{
    Blob, BlobVersion, Clock as _, Error, Handle, IoBufs, IoBufsMut, ReadOptions, Storage, Supervisor as _,
    WriteOptions, deterministic::Context,
};
use rand::RngExt as _;
use std::{
    io,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

type Inner = <Context as Storage>::Blob;

/// What one life of a machine has open.
#[derive(Clone, Default)]
pub(crate) struct Files(Arc<Mutex<Vec<Weak<Inner>>>>);

impl Files {
    fn add(&self, file: &Arc<Inner>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|file| file.strong_count() > 0);
        open.push(Arc::downgrade(file));
    }

    /// All that are open now; a crash decides about each.
    pub(crate) fn open(&self) -> Vec<Arc<Inner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }
}

/// A file on a machine's disk.
pub(crate) struct File {
    inner: Arc<Inner>,
    machine: Machine,
}

fn failed() -> Error {
    Error::from(io::Error::other("the simulated disk failed"))
}

impl Machine {
    /// Lets the disk fail when its time has come. A dead machine waits for ever.
    async fn operate(&self) -> Result<(), Error> {
        self.live().await;
        let mut state = self.world.state();
        match &mut state.machines[self.member].disk.fails_after {
            Some(0) => Err(failed()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What a slow disk takes for an operation, half of it before and half in the midst of it.
    fn slowness(&self) -> Option<Duration> {
        let mut state = self.world.state();
        let slow_ms = state.machines[self.member].disk.slow_ms;
        if slow_ms == 0 {
            return None;
        }
        state.faults.slow_operations += 1;
        Some(Duration::from_millis(state.random.random_range(0..=slow_ms)))
    }

    async fn wait(&self) {
        if let Some(time) = self.slowness() {
            self.inner.sleep(time).await;
            self.live().await;
        }
    }
}

impl Storage for Machine {
    type Blob = File;

    async fn open_versioned(
        &self,
        partition: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> Result<(File, u64, BlobVersion), Error> {
        self.operate().await?;
        let (inner, size, version) = self.inner.open_versioned(partition, name, versions).await?;
        let inner = Arc::new(inner);
        self.files.add(&inner);
        Ok((File { inner, machine: self.child("file") }, size, version))
    }

    async fn remove(&self, partition: &str, name: Option<&[u8]>) -> Result<(), Error> {
        self.operate().await?;
        self.inner.remove(partition, name).await
    }

    async fn scan(&self, partition: &str) -> Result<Vec<Vec<u8>>, Error> {
        self.operate().await?;
        self.inner.scan(partition).await
    }
}

impl Blob for File {
    async fn read_at_buf(
        &self,
        offset: u64,
        len: usize,
        bufs: impl Into<IoBufsMut> + Send,
        options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        let bufs = bufs.into();
        self.machine.operate().await?;
        self.inner.read_at_buf(offset, len, bufs, options).await
    }

    async fn read_at(&self, offset: u64, len: usize, options: ReadOptions) -> Result<IoBufsMut, Error> {
        self.machine.operate().await?;
        self.inner.read_at(offset, len, options).await
    }

    async fn start_read_many(&self, ranges: &[(u64, usize)], options: ReadOptions) -> Handle<Vec<IoBufsMut>> {
        match self.machine.operate().await {
            Ok(()) => self.inner.start_read_many(ranges, options).await,
            Err(error) => Handle::ready(Err(error)),
        }
    }

    /// A slow write is done in two parts, so that a crash may fall between them.
    async fn write_at(&self, offset: u64, bufs: impl Into<IoBufs> + Send, options: WriteOptions) -> Result<(), Error> {
        let mut bufs: IoBufs = bufs.into();
        self.machine.operate().await?;
        let Some(time) = self.machine.slowness() else { return self.inner.write_at(offset, bufs, options).await };
        self.machine.inner.sleep(time / 2).await;
        self.machine.live().await;
        let half = bufs.len() / 2;
        let first = bufs.split_to(half);
        self.inner.write_at(offset, first, options.without(WriteOptions::SYNC)).await?;
        self.machine.inner.sleep(time / 2).await;
        self.machine.live().await;
        self.inner.write_at(offset + half as u64, bufs, options.without(WriteOptions::SYNC)).await?;
        if options.contains(WriteOptions::SYNC) { self.inner.sync().await } else { Ok(()) }
    }

    async fn resize(&self, len: u64) -> Result<(), Error> {
        self.machine.operate().await?;
        self.inner.resize(len).await
    }

    async fn sync(&self) -> Result<(), Error> {
        self.machine.operate().await?;
        self.machine.wait().await;
        self.inner.sync().await
    }

    async fn start_sync(&self) -> Handle<()> {
        match self.machine.operate().await {
            Ok(()) => {
                self.machine.wait().await;
                self.inner.start_sync().await
            }
            Err(error) => Handle::ready(Err(error)),
        }
    }
}

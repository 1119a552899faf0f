//! A device's file: its id, its secret key and how far it has counted; beside it what it signed and nobody has answered for yet.

use super::spool::Spool;
use crate::command::BadInput;
use anyhow::Context;
use record::{Digest, TimeMs};
use sensing::{DeviceId, Frame, NO_PREVIOUS, Sequence, Signal, SigningKey};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// What the device's file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// The FHIR id of the Device.
    pub(crate) device: String,
    /// The secret key's seed, hexadecimal.
    seed: String,
    /// The counter of a frame that was signed; those in the frames beside may go further.
    pub(crate) counter: u64,
    /// Its digest.
    pub(crate) previous: Digest,
    /// Frames up to this one were answered for.
    #[serde(default)]
    answered: u64,
    /// The last frame signed, hexadecimal, as earlier versions kept it until the gateway had answered.
    #[serde(default, skip_serializing)]
    unsent: Option<String>,
}

/// A reference device.
pub(crate) struct Device {
    path: PathBuf,
    pub(crate) kept: Kept,
    spool: Spool,
}

impl Device {
    /// Makes the file of a new device.
    pub(crate) fn make(path: &Path, id: &str) -> anyhow::Result<Self> {
        exchange::device_name(id).map_err(|_| BadInput(format!("`{id}` is no id of a FHIR resource")))?;
        if path.exists() {
            return Err(BadInput(format!("`{}` exists: a device's key is not overwritten", path.display())).into());
        }
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
        let kept = Kept {
            device: id.to_owned(),
            seed: hex::encode(seed),
            counter: 0,
            previous: NO_PREVIOUS,
            answered: 0,
            unsent: None,
        };
        let device = Self { path: path.to_owned(), kept, spool: Spool::open(&frames_of(path))?.0 };
        device.save()?;
        Ok(device)
    }

    /// Opens a device's file, with what it has not been answered for yet.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read(path).map_err(|e| {
            BadInput(format!("the device's file `{}` cannot be read: {e}; --new makes one", path.display()))
        })?;
        let mut kept: Kept = serde_json::from_slice(&text)
            .map_err(|e| BadInput(format!("the device's file `{}` is wrong: {e}", path.display())))?;
        let (mut spool, frames) = Spool::open(&frames_of(path))?;
        let unsent = kept.unsent.take();
        if let Some(unsent) = &unsent {
            let bytes = hex::decode(unsent).context("the unsent frame in the device's file is no hexadecimal text")?;
            spool.append(&[&bytes])?;
        }
        for frame in frames {
            if frame.counter() > kept.counter {
                (kept.counter, kept.previous) = (frame.counter(), frame.digest());
            }
        }
        spool.pass_over(kept.answered)?;
        let device = Self { path: path.to_owned(), kept, spool };
        if unsent.is_some() {
            device.save()?;
        }
        Ok(device)
    }

    /// The device's key.
    pub(crate) fn key(&self) -> anyhow::Result<SigningKey> {
        let seed = hex::decode(&self.kept.seed).ok().and_then(|seed| <[u8; 32]>::try_from(seed).ok());
        let seed = seed.ok_or_else(|| BadInput(format!("the key in `{}` is not 32 bytes", self.path.display())))?;
        Ok(SigningKey::from_bytes(&seed))
    }

    /// The name that it signs under.
    pub(crate) fn name(&self) -> anyhow::Result<DeviceId> {
        exchange::device_name(&self.kept.device).map_err(|_| {
            BadInput(format!("the device in `{}` has no id of a FHIR resource", self.path.display())).into()
        })
    }

    /// The sequence after the last frame that was signed.
    pub(crate) fn sequence(&self) -> anyhow::Result<Sequence> {
        Ok(Sequence::resume(self.name()?, self.key()?, self.kept.counter, self.kept.previous))
    }

    /// Signs frames and keeps them, on the disk before any is sent: no counter may ever stand for two frames, whatever happens on the way.
    pub(crate) fn sign(&mut self, moments: Vec<(TimeMs, Vec<Signal>)>) -> anyhow::Result<()> {
        let mut sequence = self.sequence()?;
        let mut frames = Vec::with_capacity(moments.len());
        for (at, signals) in moments {
            frames.push(sequence.next(at, signals).context("these signals do not fit a frame")?);
        }
        let bytes: Vec<&[u8]> = frames.iter().map(Frame::bytes).collect();
        self.spool.append(&bytes)?;
        (self.kept.counter, self.kept.previous) = (sequence.counter(), sequence.previous());
        Ok(())
    }

    /// Whether there is room for another frame of any size.
    pub(crate) fn has_room(&self) -> bool {
        self.spool.has_room()
    }

    /// The next frames that nobody has answered for, at most so many.
    pub(crate) fn waiting(&self, most: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        self.spool.next(most)
    }

    /// Whether all frames were answered for.
    pub(crate) fn is_done(&self) -> bool {
        self.spool.is_empty()
    }

    /// The next frames, so many, were answered for. On the disk this stands later: until then they would only be offered once more.
    pub(crate) fn answered(&mut self, count: usize) -> anyhow::Result<()> {
        if let Some(counter) = self.spool.skip(count)? {
            self.kept.answered = counter;
        }
        if self.spool.is_worth_clearing() { self.tidy() } else { Ok(()) }
    }

    /// Goes on after frames that were sent without being kept, as a device with a fault does.
    pub(crate) fn go_on_after(&mut self, counter: u64, digest: Digest) -> anyhow::Result<()> {
        (self.kept.counter, self.kept.previous, self.kept.answered) = (counter, digest, counter);
        self.save()
    }

    /// Goes on after counters that the device used elsewhere, by another key: up to this one. What waits was refused under its counters, and
    /// is signed anew under those that follow. Wherever it is interrupted, the same may be asked for again.
    pub(crate) fn go_on_from_elsewhere(&mut self, counted: u64) -> anyhow::Result<()> {
        let waiting = self.waiting(usize::MAX)?;
        let frames = waiting.iter().map(|bytes| Frame::decode(bytes));
        let frames: Vec<Frame> = frames.collect::<Result<_, _>>().context("a frame that was kept cannot be read")?;
        let was_refused = frames.first().is_some_and(|first| first.counter() <= counted);
        if !was_refused && counted < self.kept.counter {
            let (path, own) = (self.path.display(), self.kept.counter);
            return Err(
                BadInput(format!("the device in `{path}` has counted to {own} itself: it goes on from there")).into()
            );
        }
        // No counter of its own is used twice either.
        let mut sequence = Sequence::resume(self.name()?, self.key()?, counted.max(self.kept.counter), NO_PREVIOUS);
        let mut anew = Vec::with_capacity(frames.len());
        for frame in frames {
            let (at, signals) = (frame.device_time(), frame.into_pack().signals);
            anew.push(sequence.next(at, signals).context("these signals do not fit a frame")?);
        }
        // The frames first: a file that says less than they do is read with them.
        self.spool.replace(&anew.iter().map(Frame::bytes).collect::<Vec<_>>())?;
        (self.kept.counter, self.kept.previous) = (sequence.counter(), sequence.previous());
        self.save()
    }

    /// Writes down how far it is, and takes away the frames when all were answered for.
    pub(crate) fn tidy(&mut self) -> anyhow::Result<()> {
        self.save()?;
        if self.spool.is_empty() { self.spool.clear() } else { Ok(()) }
    }

    /// Durable, and the owner's alone.
    fn save(&self) -> anyhow::Result<()> {
        let new = self.path.with_extension("new");
        let failed = || format!("cannot write the device's file `{}`", self.path.display());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new).with_context(failed)?;
        file.write_all(&serde_json::to_vec_pretty(&self.kept)?).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        fs::rename(&new, &self.path).with_context(failed)?;
        sync_folder(&self.path).with_context(failed)
    }
}

/// What lies beside the device's file.
fn frames_of(path: &Path) -> PathBuf {
    path.with_extension("frames")
}

/// Makes durable that a file is in its folder.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_key_and_goes_on_counting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor.json");
        let made = Device::make(&path, "d1").unwrap();
        assert!(Device::make(&path, "d1").is_err(), "a key was overwritten");
        let opened = Device::open(&path).unwrap();
        assert_eq!(opened.key().unwrap().to_bytes(), made.key().unwrap().to_bytes());
        assert_eq!((opened.kept.counter, opened.kept.previous), (0, NO_PREVIOUS));
        assert!(Device::make(&dir.path().join("other.json"), "no/id").is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            for file in [&path, &frames_of(&path)] {
                assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
    }

    /// A device whose file was lost, and that was given a new key, was refused frame after frame: its counters had been used by the old one.
    #[test]
    fn a_device_with_a_new_key_goes_on_after_the_counters_that_it_used_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor.json");
        let mut device = Device::make(&path, "d1").unwrap();
        let moment = |n: u64| (TimeMs(1_795_255_200_000 + n * 1_000), Vec::new());
        device.sign((1..=3).map(moment).collect()).unwrap();
        device.answered(1).unwrap();
        device.go_on_from_elsewhere(57).unwrap();
        let mut again = Device::open(&path).unwrap();
        again.sign(vec![moment(4)]).unwrap();
        let waiting: Vec<Frame> = again.waiting(9).unwrap().iter().map(|bytes| Frame::decode(bytes).unwrap()).collect();
        let told: Vec<(u64, TimeMs)> = waiting.iter().map(|frame| (frame.counter(), frame.device_time())).collect();
        assert_eq!(told, [(58, moment(2).0), (59, moment(3).0), (60, moment(4).0)]);
        assert_eq!((waiting[0].previous(), waiting[1].previous()), (NO_PREVIOUS, waiting[0].digest()));
        assert!(again.go_on_from_elsewhere(57).is_err(), "a counter was used twice");
    }

    /// A device whose power went while it was told how far it had counted elsewhere could neither send nor be told again.
    #[test]
    fn a_device_that_loses_its_power_while_it_goes_on_from_elsewhere_may_be_told_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor.json");
        let mut device = Device::make(&path, "d1").unwrap();
        let moment = |n: u64| (TimeMs(1_795_255_200_000 + n * 1_000), Vec::new());
        device.sign((1..=3).map(moment).collect()).unwrap();
        device.save().unwrap();
        let (file, frames) = (fs::read(&path).unwrap(), fs::read(frames_of(&path)).unwrap());
        device.go_on_from_elsewhere(57).unwrap();
        let anew = fs::read(frames_of(&path)).unwrap();
        let counters = |device: &Device| -> Vec<u64> {
            device.waiting(9).unwrap().iter().map(|bytes| Frame::decode(bytes).unwrap().counter()).collect()
        };
        assert_eq!(counters(&device), [58, 59, 60]);
        // Half of the new frames were written: those from before are there.
        fs::write(&path, &file).unwrap();
        fs::write(frames_of(&path), &frames).unwrap();
        for end in [0, 3, 70, anew.len()] {
            fs::write(super::super::spool::new_of(&frames_of(&path)), &anew[..end.min(anew.len())]).unwrap();
            let mut again = Device::open(&path).unwrap();
            assert_eq!(counters(&again), [1, 2, 3]);
            again.go_on_from_elsewhere(57).unwrap();
            assert_eq!(counters(&again), [58, 59, 60]);
            fs::write(&path, &file).unwrap();
            fs::write(frames_of(&path), &frames).unwrap();
        }
        // The new frames are there, and the device's file says nothing of them: it goes on, told again or not.
        fs::write(frames_of(&path), &anew).unwrap();
        let mut again = Device::open(&path).unwrap();
        assert_eq!((counters(&again), again.kept.counter), (vec![58, 59, 60], 60));
        assert!(again.go_on_from_elsewhere(57).is_err(), "nothing of these was refused");
        again.go_on_from_elsewhere(58).unwrap();
        again.sign(vec![moment(4)]).unwrap();
        // The first was refused: all are signed anew, under counters that none of them had.
        assert_eq!(counters(&Device::open(&path).unwrap()), [61, 62, 63, 64]);
    }

    /// Whatever was written when the power went, every frame that may have been sent is there again, and no counter twice.
    #[test]
    fn a_device_that_loses_its_power_anywhere_neither_loses_nor_repeats_a_frame() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor.json");
        let mut device = Device::make(&path, "d1").unwrap();
        let moment = |n: u64| (TimeMs(1_795_255_200_000 + n * 1_000), Vec::new());
        device.sign((1..=2).map(moment).collect()).unwrap();
        device.answered(2).unwrap();
        device.tidy().unwrap();
        device.sign((3..=6).map(moment).collect()).unwrap();
        device.answered(1).unwrap();
        let counters = |frames: &[Vec<u8>]| -> Vec<u64> {
            frames.iter().map(|bytes| Frame::decode(bytes).unwrap().counter()).collect()
        };
        let whole = fs::read(frames_of(&path)).unwrap();
        for end in 0..=whole.len() {
            fs::write(frames_of(&path), &whole[..end]).unwrap();
            let mut again = Device::open(&path).unwrap();
            let left = counters(&again.waiting(100).unwrap());
            assert!((3..=6).collect::<Vec<u64>>().starts_with(&left), "{left:?} of {end} bytes");
            again.sign(vec![moment(9)]).unwrap();
            let waiting = again.waiting(100).unwrap();
            let last = Frame::decode(waiting.last().unwrap()).unwrap();
            // Only what is whole on the disk was ever sent.
            assert_eq!(last.counter(), left.last().map_or(3, |last| last + 1));
        }
        fs::write(frames_of(&path), &whole).unwrap();
        let mut again = Device::open(&path).unwrap();
        again.answered(4).unwrap();
        assert!(again.is_done());
        again.tidy().unwrap();
        assert_eq!(fs::metadata(frames_of(&path)).unwrap().len(), 0);
        let mut after = Device::open(&path).unwrap();
        after.sign(vec![moment(10)]).unwrap();
        assert_eq!(counters(&after.waiting(9).unwrap()), [7]);
    }

    #[test]
    fn a_file_of_an_earlier_version_is_read_with_its_unsent_frame() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor.json");
        let device = Device::make(&path, "d1").unwrap();
        let frame = device.sequence().unwrap().next(TimeMs(1_795_255_200_000), Vec::new()).unwrap();
        let text = serde_json::json!({
            "device": "d1", "seed": device.kept.seed, "counter": 1, "previous": frame.digest(), "unsent": hex::encode(frame.bytes())
        });
        fs::write(&path, text.to_string()).unwrap();
        let opened = Device::open(&path).unwrap();
        assert_eq!(opened.waiting(9).unwrap(), [frame.bytes()]);
        assert_eq!(opened.kept.counter, 1);
    }
}

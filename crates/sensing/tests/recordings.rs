//! Every shared recording goes the whole way, and every sample comes out as it went in: frames as bytes, admission, FHIR, EDF+, WFDB.
//!
//! With `VITALTRACE_EXPORT` the files are kept in that folder, for `clients/recordings/check.py`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "helpers of tests; what is skipped is said"
)]

#[path = "recordings/edf.rs"]
mod edf_reader;
#[path = "recordings/mat.rs"]
mod mat;
#[path = "recordings/text.rs"]
mod text;

use record::{Id16, TimeMs};
use sensing::{
    Binding, Decimal, Frame, Limits, Reading, Samples, Sequence, Signal, Signed, SigningKey, Value, Watch, Waveform,
    compact, edf,
    generated::{Story, Wearer},
    observation::{Context, observations},
    track::{NO_SAMPLE, Tracks},
    wfdb::{self, Header, Recording, annotations},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

const START: TimeMs = TimeMs(1_795_255_200_250);

/// One signal of a recording, whole.
#[derive(Clone)]
struct Recorded {
    name: String,
    unit: String,
    rate_hz: Decimal,
    origin: Decimal,
    scale: Decimal,
    samples: Samples,
}

impl Recorded {
    /// The samples from one to another.
    fn part(&self, from: usize, to: usize) -> Samples {
        match &self.samples {
            Samples::I16(all) => Samples::I16(all[from.min(all.len())..to.min(all.len())].to_vec()),
            Samples::I32(all) => Samples::I32(all[from.min(all.len())..to.min(all.len())].to_vec()),
        }
    }
    fn all(&self) -> Vec<Option<i32>> {
        self.samples.iter().collect()
    }
}

fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("VITALTRACE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), PathBuf::from);
    let signals = root.join("signals");
    if !signals.is_dir() {
        println!("SKIPPED: {} not found", signals.display());
    }
    signals.is_dir().then_some(signals)
}

fn take(watch: &mut Watch, signed: Signed, binding: &Binding, at: TimeMs) -> Reading {
    let (reading, next) = watch.admit(signed, binding, at).unwrap();
    watch.stored(next);
    reading
}

/// So many frames are packed together for storage.
const PACKED: usize = 60;

/// Frames of `frame_s` seconds each, as bytes, packed and unpacked, admitted one after another. Also the bytes that they took, and take.
fn admitted(recorded: &[Recorded], frame_s: u64) -> (Vec<Reading>, usize, usize) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let device: sensing::DeviceId = "urn:dev:ops:32473-monitor-1".parse().unwrap();
    let binding = Binding {
        device: device.clone(),
        key: key.verifying_key(),
        patient: "Patient/1".into(),
        binding: Id16([1; 16]),
        from: START,
        until: None,
    };
    let mut sequence = Sequence::new(device, key);
    let mut sent_bytes = Vec::new();
    for n in 0.. {
        let begins_s = n * frame_s;
        let signals = recorded.iter().filter_map(|signal| {
            let rate = signal.rate_hz.to_f64();
            // Times are whole milliseconds; what is a hair below a whole sample is that sample.
            let at = |s: u64| (s as f64 * rate - 1e-6).ceil().max(0.0) as usize;
            let samples = signal.part(at(begins_s), at(begins_s + frame_s));
            let offset_ms = (at(begins_s) as f64 / rate * 1e3 - begins_s as f64 * 1e3).round() as i64;
            let (unit, rate_hz) = (signal.unit.clone(), signal.rate_hz);
            let (origin, scale, limits) = (signal.origin, signal.scale, Limits::NONE);
            let value = Value::Waveform(Waveform { unit, rate_hz, origin, scale, limits, samples });
            let Value::Waveform(wave) = &value else { return None };
            (!wave.samples.is_empty()).then(|| Signal { name: signal.name.clone(), offset_ms, value: value.clone() })
        });
        let signals: Vec<Signal> = signals.collect();
        if signals.is_empty() {
            break;
        }
        let sent = sequence.next(START.plus_ms(begins_s * 1_000), signals).unwrap();
        sent_bytes.push(sent.bytes().to_vec());
    }
    let (mut frames, mut taken) = (Vec::new(), 0);
    for together in sent_bytes.chunks(PACKED) {
        let packed = compact::pack(&together.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        taken += packed.len();
        let stored = compact::unpack(&packed).unwrap();
        assert!(stored == together, "frames of the store differ from those that were sent");
        frames.extend(stored.iter().map(|bytes| (Frame::decode(bytes).unwrap(), binding.key)));
    }
    let mut watch = Watch::default();
    let signed = Signed::all(frames).into_iter().map(Result::unwrap);
    let readings = signed.map(|signed| {
        let at = signed.frame().device_time().plus_ms(40);
        take(&mut watch, signed, &binding, at)
    });
    (readings.collect(), sent_bytes.iter().map(Vec::len).sum(), taken)
}

/// The samples of one signal by the Observations of all readings.
fn shown(readings: &[Reading], name: &str) -> Vec<Option<i32>> {
    let mut out = Vec::new();
    for observation in readings.iter().flat_map(|reading| observations(reading, &Context::default())) {
        let parts = observation["component"].as_array().cloned().unwrap_or_else(|| vec![observation.clone()]);
        for part in parts {
            let codes = part["code"]["coding"].as_array().unwrap();
            if codes.iter().any(|code| code["code"] == name)
                && let Some(data) = part["valueSampledData"]["data"].as_str()
            {
                out.extend(data.split(' ').map(|sample| (sample != "E").then(|| sample.parse::<i32>().unwrap())));
            }
        }
    }
    out
}

/// What a record that was written in 32 bits holds, by the header alone.
fn read_32(written: &wfdb::Written) -> Vec<Vec<Option<i32>>> {
    let mut lines = written.header.lines().filter(|line| !line.starts_with('#'));
    let signals: usize = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let per_frame: Vec<usize> = lines
        .take(signals)
        .map(|line| line.split(' ').nth(1).unwrap().split_once('x').map_or(1, |(_, several)| several.parse().unwrap()))
        .collect();
    let mut out = vec![Vec::new(); signals];
    let mut samples = written.signals.chunks(4).map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap())).peekable();
    while samples.peek().is_some() {
        for (of_signal, per_frame) in out.iter_mut().zip(&per_frame) {
            of_signal.extend(samples.by_ref().take(*per_frame).map(|s| (s != i32::MIN).then_some(s)));
        }
    }
    out
}

/// What a record holds that was written.
fn read_wfdb(written: &wfdb::Written) -> Vec<Vec<Option<i32>>> {
    let Ok(header) = Header::parse(written.header.as_bytes()) else { return read_32(written) };
    let signals = header.signals.len();
    let recording = Recording::read(header, |_| Some(&written.signals)).unwrap();
    let samples = (0..signals).map(|at| recording.samples(at).unwrap());
    samples.map(|samples| samples.iter().map(|&s| (s != i16::MIN).then_some(s.into())).collect()).collect()
}

/// Keeps the files, and beside them what they should hold, where they are asked for.
fn keep(name: &str, recorded: &[Recorded], written: &wfdb::Written, edf: &[u8]) {
    let Some(folder) = std::env::var_os("VITALTRACE_EXPORT").map(PathBuf::from) else { return };
    fs::create_dir_all(&folder).unwrap();
    let put = |ending: &str, bytes: &[u8]| fs::write(folder.join(format!("{name}.{ending}")), bytes).unwrap();
    put("hea", written.header.as_bytes());
    put("dat", &written.signals);
    if !written.notes.is_empty() {
        put("note", &written.notes);
    }
    put(if edf[0] == 0xff { "bdf" } else { "edf" }, edf);
    for (at, signal) in recorded.iter().enumerate() {
        let samples = signal.samples.iter().flat_map(|s| s.unwrap_or(NO_SAMPLE).to_le_bytes());
        put(&format!("{at}.i32"), &samples.collect::<Vec<u8>>());
    }
}

/// The whole way of one recording.
fn check(name: &str, recorded: &[Recorded], frame_s: u64) {
    let (readings, bytes, taken) = admitted(recorded, frame_s);
    let tracks = Tracks::of(&readings);
    assert_eq!(tracks.tracks.len(), recorded.len(), "{name}");
    let about = edf::About { patient: None, equipment: Some("urn:dev:ops:32473-monitor-1") };
    let (edf, written) = (edf::write(&tracks, &about).unwrap(), wfdb::write(name, &tracks).unwrap());
    let (file, record) = (edf_reader::read(&edf), read_wfdb(&written));
    keep(name, recorded, &written, &edf);
    for (at, signal) in recorded.iter().enumerate() {
        let (sent, of) = (signal.all(), format!("{name}, {}", signal.name));
        assert!(sent == shown(&readings, &signal.name), "{of}: in FHIR");
        let [stretch] = &tracks.tracks[at].stretches[..] else { panic!("{of}: broken") };
        assert!(
            sent.iter().copied().eq(stretch.samples.iter().map(|&s| (s != NO_SAMPLE).then_some(s))),
            "{of}: in tracks"
        );
        let [(_, samples)] = &file.stretches(at, &signal.name)[..] else { panic!("{of}: broken in EDF+") };
        assert!(*samples == sent, "{of}: in EDF+");
        let (samples, filled) = record[at].split_at(sent.len());
        assert!(samples == sent && filled.iter().all(Option::is_none), "{of}: in WFDB");
    }
    let total: usize = recorded.iter().map(|signal| signal.samples.len()).sum();
    let format = written.header.lines().nth(1).and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let of_sample = |bytes: usize| bytes as f64 / total as f64;
    println!(
        "{name}: {} signals, {total} samples, {} frames; {}, format {format}; {:.2} bytes a sample, stored {:.2}, of it signatures {:.2}",
        recorded.len(),
        readings.len(),
        file.kind,
        of_sample(bytes),
        of_sample(taken),
        of_sample(64 * readings.len())
    );
}

fn wfdb_record(folder: &Path, header: &str, by_channel: bool) -> Vec<Recorded> {
    let header = Header::parse(&fs::read(folder.join(header)).unwrap()).unwrap();
    let files: Vec<(String, Vec<u8>)> =
        header.files().iter().map(|name| (name.to_string(), fs::read(folder.join(name)).unwrap())).collect();
    let find = |name: &str| files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.as_slice());
    let recording = Recording::read(header, find).unwrap();
    let signals = recording.header().signals.iter().enumerate().map(|(at, spec)| {
        let own = format!("signal-{at}");
        Recorded {
            name: recording.header().channel(at).filter(|_| by_channel).map_or(own, str::to_owned),
            unit: spec.unit.clone(),
            rate_hz: Decimal::from_f64(recording.rate_hz(at).unwrap()).unwrap(),
            origin: spec.origin(),
            scale: spec.scale(),
            samples: Samples::I16(recording.samples(at).unwrap().to_vec()),
        }
    });
    signals.collect()
}

#[test]
fn every_shared_ecg_survives_the_whole_way() {
    let Some(shared) = shared() else { return };
    for name in ["100", "103", "104", "105", "106", "116", "119", "208"] {
        check(name, &wfdb_record(&shared.join("mitdb"), &format!("{name}.hea"), true), 1);
    }
}

#[test]
fn shared_trends_survive_the_whole_way() {
    let Some(shared) = shared() else { return };
    let trends = wfdb_record(&shared.join("vitals"), "s00001-2896-10-10-00-31n.hea", true);
    check("s00001n", &trends, 60);
}

#[test]
fn a_shared_matrix_survives_the_whole_way() {
    let Some(shared) = shared() else { return };
    check("TestAFdata", &mat::read(&shared), 1);
}

#[test]
fn every_shared_text_survives_the_whole_way() {
    let Some(shared) = shared() else { return };
    for columns in &text::FILES {
        let name = columns.file.rsplit('/').next().unwrap().split('.').next().unwrap();
        check(name, &text::read(&shared, columns), 1);
    }
}

#[test]
fn generated_signals_survive_the_whole_way() {
    let mut wearer = Wearer::new(11, Story::Stable, 500);
    println!("seed 11");
    let mut recorded: Vec<Recorded> = Vec::new();
    for _ in 0..60 {
        for signal in wearer.next_second().signals {
            let Value::Waveform(wave) = signal.value else { continue };
            let Samples::I16(new) = wave.samples else { continue };
            match recorded.iter_mut().find(|recorded| recorded.name == signal.name) {
                Some(Recorded { samples: Samples::I16(samples), .. }) => samples.extend(new),
                _ => recorded.push(Recorded {
                    name: signal.name,
                    unit: wave.unit,
                    rate_hz: wave.rate_hz,
                    origin: wave.origin,
                    scale: wave.scale,
                    samples: Samples::I16(new),
                }),
            }
        }
    }
    check("generated", &recorded, 1);
}

#[test]
fn numbers_codes_and_gaps_are_notes_with_their_digits() {
    let mut wearer = Wearer::new(3, Story::Stable, 50);
    println!("seed 3");
    let key = SigningKey::from_bytes(&[7; 32]);
    let mut sequence = Sequence::new("urn:dev:ops:32473-monitor-1".parse().unwrap(), key.clone());
    let binding = Binding {
        device: sequence.device().clone(),
        key: key.verifying_key(),
        patient: "Patient/1".into(),
        binding: Id16([1; 16]),
        from: START,
        until: None,
    };
    let mut watch = Watch::default();
    let mut readings = Vec::new();
    for n in 0..30 {
        let frame = sequence.next(START.plus_ms(n * 1_000), wearer.next_second().signals).unwrap();
        // Frames 12 to 14 never come.
        if !(11..14).contains(&n) {
            let at = frame.device_time().plus_ms(40);
            readings.push(take(&mut watch, Signed::one(frame, &binding.key).unwrap(), &binding, at));
        }
    }
    let tracks = Tracks::of(&readings);
    let edf = edf::write(&tracks, &edf::About::default()).unwrap();
    let file = edf_reader::read(&edf);
    assert_eq!(file.kind, "EDF+D");
    for (at, track) in tracks.tracks.iter().enumerate() {
        let stretches = file.stretches(at, &track.name).into_iter().map(|(_, samples)| samples);
        let sent = track.stretches.iter().map(|s| s.samples.iter().map(|&s| (s != NO_SAMPLE).then_some(s)).collect());
        assert!(stretches.eq(sent.collect::<Vec<Vec<_>>>()), "{}", track.name);
    }
    let written = wfdb::write("gaps", &tracks).unwrap();
    let signals = tracks.tracks.iter().zip(read_wfdb(&written)).map(|(track, samples)| Recorded {
        name: track.name.clone(),
        unit: track.unit.clone(),
        rate_hz: track.rate_hz,
        origin: track.origin,
        scale: track.scale,
        samples: Samples::I32(samples.into_iter().map(|s| s.unwrap_or(NO_SAMPLE)).collect()),
    });
    keep("gaps", &signals.collect::<Vec<_>>(), &written, &edf);
    let labels = annotations(&written.notes).unwrap();
    assert_eq!(labels[0].aux, "## time resolution: 1000");
    let mut numbers = 0;
    for reading in &readings {
        for signal in &reading.signals {
            let Value::Number { unit, value } = &signal.value else { continue };
            let text = format!("{} {value} {unit}", signal.name);
            let at_ms = reading.measured_at.0 - START.0;
            assert!(labels.iter().any(|label| label.aux == text && label.sample == at_ms), "{text}");
            let at_s = 0.25 + at_ms as f64 / 1e3;
            assert!(file.said.iter().any(|(onset, _, said)| *said == text && (onset - at_s).abs() < 1e-6), "{text}");
            numbers += 1;
        }
    }
    assert!(numbers > 100);
    assert!(labels.iter().any(|label| label.aux == "frames 12-14 are missing"));
}

#[test]
fn labels_come_back_as_they_were_written() {
    let Some(shared) = shared() else { return };
    for file in ["mitdb/100.atr", "mitdb/104.atr", "mitdb/208.atr", "mitdb/116.rnv", "rr/nsr001.ecg"] {
        let labels = annotations(&fs::read(shared.join(file)).unwrap()).unwrap();
        assert_eq!(annotations(&wfdb::write_annotations(&labels).unwrap()).unwrap(), labels, "{file}");
    }
}

//! Real recordings with their checksums, and bytes that are none.

use super::*;
use proptest::prelude::*;
use std::{fs, path::PathBuf};

fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("VITALTRACE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), PathBuf::from);
    let signals = root.join("signals");
    if !signals.is_dir() {
        println!("SKIPPED: {} not found", signals.display());
    }
    signals.is_dir().then_some(signals)
}

fn read(folder: &std::path::Path, header: &str) -> Recording {
    let header = Header::parse(&fs::read(folder.join(header)).unwrap()).unwrap();
    let files: Vec<(String, Vec<u8>)> =
        header.files().iter().map(|name| (name.to_string(), fs::read(folder.join(name)).unwrap())).collect();
    Recording::read(header, |name| files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.as_slice()))
        .unwrap()
}

#[test]
fn every_shared_ecg_has_the_checksums_of_its_header() {
    let Some(shared) = shared() else { return };
    let mitdb = shared.join("mitdb");
    for record in ["100", "103", "104", "105", "106", "116", "119", "208"] {
        let recording = read(&mitdb, &format!("{record}.hea"));
        for (signal, spec) in recording.header().signals.iter().enumerate() {
            let samples = recording.samples(signal).unwrap();
            assert_eq!(samples.len(), 650_000);
            assert!(spec.checksum.is_some());
            assert_eq!(Some(i32::from(samples[0])), spec.first, "{record} {signal}");
        }
    }
    let first = read(&mitdb, "100.hea");
    let wave = first.waveform(0, 0..360, "mV").unwrap();
    assert_eq!((wave.origin.to_string(), wave.scale.to_string()), ("-5.12".into(), "0.005".into()));
    assert_eq!(first.header().signals[0].channel(), Some("ecg-ii"));
}

#[test]
fn trends_in_format_16_mark_what_is_missing() {
    let Some(shared) = shared() else { return };
    let trend = read(&shared.join("vitals"), "s00001-2896-10-10-00-31n.hea");
    assert_eq!(trend.header().signals.len(), 10);
    assert!(trend.header().rate_hz > 0.0166 && trend.header().rate_hz < 0.0167);
    assert_eq!(trend.samples(7).unwrap()[0], i16::MIN);
    let named: Vec<_> = trend.header().signals.iter().filter_map(SignalSpec::channel).collect();
    let expected = "heart-rate ibp-sys ibp-dia ibp-mean pulse resp-rate spo2 nibp-sys nibp-dia nibp-mean";
    assert_eq!(named.join(" "), expected);
}

#[test]
fn every_shared_annotation_file_is_read_to_its_end() {
    let Some(shared) = shared() else { return };
    let beats = [
        ("100.atr", 2273),
        ("103.atr", 2084),
        ("104.atr", 2229),
        ("105.atr", 2572),
        ("106.atr", 2027),
        ("116.rnv", 2412),
        ("119.rnv", 1987),
        ("208.atr", 2955),
    ];
    for (file, beats) in beats {
        let labels = annotations(&fs::read(shared.join("mitdb").join(file)).unwrap()).unwrap();
        assert_eq!(labels.iter().filter(|label| label.is_beat()).count(), beats, "{file}");
        assert!(labels.iter().all(|label| label.sample < 650_000));
    }
    let labels = annotations(&fs::read(shared.join("mitdb/100.atr")).unwrap()).unwrap();
    assert_eq!((labels[0].symbol(), labels[0].aux.as_str()), ('+', "(N"));
    let day = annotations(&fs::read(shared.join("rr/nsr001.ecg")).unwrap()).unwrap();
    assert!(day.len() > 100_000);
}

#[test]
fn a_changed_sample_is_noticed() {
    let header = Header::parse(b"r 1 100 2\nr.dat 16 200 12 0 1 3 0 II\n").unwrap();
    let good = [1, 0, 2, 0];
    assert!(Recording::read(header.clone(), |_| Some(&good[..])).is_ok());
    let bad = [1, 0, 3, 0];
    let checksum = BadRecord::Checksum { signal: 0, got: 4, expected: 3 };
    assert_eq!(Recording::read(header.clone(), |_| Some(&bad[..])), Err(checksum));
    let short = BadRecord::Short { file: "r.dat".into(), got: 3, expected: 4 };
    assert_eq!(Recording::read(header.clone(), |_| Some(&good[..3])), Err(short));
    assert_eq!(Recording::read(header, |_| None), Err(BadRecord::FileMissing("r.dat".into())));
}

#[test]
fn samples_of_twelve_bits_keep_their_sign() {
    let header = Header::parse(b"r 1 100 3\nr.dat 212 200 12 0 0 0 0 II\n").unwrap();
    // -1, 2047, -2048 (missing)
    let bytes = [0xff, 0x7f, 0xff, 0x00, 0x08];
    let mut header = header;
    header.signals[0].checksum = None;
    let recording = Recording::read(header, |_| Some(&bytes[..])).unwrap();
    assert_eq!(recording.samples(0).unwrap(), [-1, 2047, i16::MIN]);
}

#[test]
fn headers_that_cannot_be_read_say_why() {
    let said: Vec<String> = [
        "",
        "r",
        "r 65 100 1",
        "r 1 x 1",
        "r 1 0 1",
        "r 1 100 1",
        "r 1 100 1\nf 311 1",
        "r/3 1 100 1",
        "r 1 100 999999999\nf 16",
    ]
    .iter()
    .map(|text| Header::parse(text.as_bytes()).unwrap_err().to_string())
    .collect();
    expect_test::expect![[r#"
        line 1 of the header: no record line
        line 1 of the header: no number of signals
        a record has at most 64 signals
        line 1 of the header: the rate is no number
        line 1 of the header: the rate is above 0 and at most 1000000 Hz
        line 1 of the header: fewer signal lines than signals
        signal 0 is in format 311; formats 16, 80 and 212 are read
        line 1 of the header: records of several segments are not read
        a record has at most 2^28 samples"#]]
    .assert_eq(&said.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[ -~\n]{0,80}") {
        let _ = annotations(&bytes);
        let _ = Header::parse(&bytes);
        if let Ok(header) = Header::parse(format!("r 1 100\nr.dat {text}").as_bytes()) {
            let _ = Recording::read(header, |_| Some(&bytes));
        }
    }
}

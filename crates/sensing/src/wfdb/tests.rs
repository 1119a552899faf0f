//! Real recordings with their checksums, and bytes that are none.

use super::*;
use crate::{
    Decimal,
    track::{Stretch, Track, Tracks},
};
use proptest::prelude::*;
use record::TimeMs;
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
    assert_eq!(first.header().channel(0), Some("ecg-ii"));
}

#[test]
fn trends_in_format_16_mark_what_is_missing() {
    let Some(shared) = shared() else { return };
    let trend = read(&shared.join("vitals"), "s00001-2896-10-10-00-31n.hea");
    assert_eq!(trend.header().signals.len(), 10);
    assert!(trend.header().rate_hz > 0.0166 && trend.header().rate_hz < 0.0167);
    assert_eq!(trend.samples(7).unwrap()[0], i16::MIN);
    let named: Vec<_> = (0..10).filter_map(|signal| trend.header().channel(signal)).collect();
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
fn headers_of_bidmc_name_their_signals_with_a_comma() {
    // The story: the BIDMC headers of PhysioNet describe their signals as `RESP,`, `PLETH,`, `V,`, `AVR,` and `II,`, and none of them was known. The unit of
    // the impedance is `pm` there, as that of a respiration rate: by the unit the wave was read as one number a second.
    let named = |header: &str| {
        let header = Header::parse(header.as_bytes()).unwrap();
        (0..header.signals.len()).map(|at| header.channel(at).unwrap_or("-")).collect::<Vec<_>>().join(" ")
    };
    let waves = "bidmc01 5 125 60001\nbidmc01.dat 16 1.2(-3)/pm 16 0 0 0 0 RESP,\nbidmc01.dat 16 1/NU 16 0 0 0 0 PLETH,\n\
                 bidmc01.dat 16 1/mV 16 0 0 0 0 V,\nbidmc01.dat 16 1/mV 16 0 0 0 0 AVR,\nbidmc01.dat 16 1/mV 16 0 0 0 0 II,\n";
    assert_eq!(named(waves), "resp-impedance pleth ecg-v1 ecg-avr ecg-ii");
    let numerics = "bidmc01n 4 1 481\nbidmc01n.dat 16 1/bpm 16 0 0 0 0 HR,\nbidmc01n.dat 16 1/bpm 16 0 0 0 0 PULSE,\n\
                    bidmc01n.dat 16 1/pm 16 0 0 0 0 RESP,\nbidmc01n.dat 16 1/% 16 0 0 0 0 SpO2,\n";
    assert_eq!(named(numerics), "heart-rate pulse resp-rate spo2");
    assert_eq!(named("r 2 125 1\nr.dat 16 200 16 0 0 0 0 ,\nr.dat 16 200 16 0 0 0 0 CVP\n"), "- -");
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

#[test]
fn what_wfdb_cannot_say_is_refused() {
    let track = |name: &str, rate_hz: &str, at: u64, samples: Vec<i32>| Track {
        name: name.into(),
        unit: "mV".into(),
        rate_hz: Decimal::from_f64(rate_hz.parse().unwrap()).unwrap(),
        origin: Decimal::ZERO,
        scale: Decimal::ONE,
        stretches: vec![Stretch { start: TimeMs(at), samples }],
    };
    let said = |name: &str, tracks: Vec<Track>| match write(name, &Tracks { tracks, notes: vec![] }) {
        Ok(written) => written.header.lines().nth(1).unwrap_or_default().to_owned(),
        Err(refused) => refused.to_string(),
    };
    let at = 1_795_255_200_250;
    let said = [
        said("r", vec![track("ecg-ii", "360", at, vec![-2_047, 2_047])]),
        said("r", vec![track("ecg-ii", "360", at, vec![-2_048])]),
        said("r", vec![track("ecg-ii", "360", at, vec![-32_768])]),
        said("r/1", vec![track("ecg-ii", "360", at, vec![0])]),
        said("r", vec![]),
        said("r", vec![track("a", "360", at, vec![0]), track("b", "359.9", at, vec![0])]),
        said("r", vec![track("a", "360", at, vec![0]), track("b", "360", at + 900_000_000, vec![0])]),
        said("r", (0..65).map(|n| track(&format!("s{n}"), "1", at, vec![0])).collect()),
    ];
    expect_test::expect![[r#"
        r.dat 212 1(0)/mV 12 0 -2047 0 0 II
        r.dat 16 1(0)/mV 16 0 -2048 -2048 0 II
        r.dat 32 1(0)/mV 32 0 -32768 -32768 0 II
        a record's name has letters, digits, `_` and `-`
        there is neither sample nor note
        the rates of the signals have no common frame
        a record that is written has at most 2^26 samples, those that fill gaps among them
        a record has at most 64 signals"#]]
    .assert_eq(&said.join("\n"));
}

#[test]
fn labels_out_of_order_or_without_a_code_are_not_written() {
    let label = |sample, code| Annotation { sample, code, aux: String::new() };
    let bad = |at, what| Err(NotWritten::Annotation { at, what });
    assert_eq!(write_annotations(&[label(5, 1), label(4, 1)]), bad(1, "labels are in the order of their samples"));
    assert_eq!(write_annotations(&[label(5, 50)]), bad(0, "a code is 1 to 49"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_tracks_make_the_writer_panic(tracks in crate::track::any::tracks()) {
        let _ = write("r", &tracks);
    }
}

proptest! {
    #[test]
    fn any_labels_come_back(steps in proptest::collection::vec((0u64..5_000_000_000, 1u8..=49, "[ -~äß]{0,300}"), 0..20)) {
        let mut sample = 0;
        let labels: Vec<Annotation> = steps
            .into_iter()
            .map(|(step, code, mut aux)| {
                sample += step;
                while aux.len() > 255 {
                    aux.pop();
                }
                Annotation { sample, code, aux }
            })
            .collect();
        prop_assert_eq!(annotations(&write_annotations(&labels).unwrap()).unwrap(), labels);
    }
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

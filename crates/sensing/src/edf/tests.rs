//! What was written is read back by a reader that knows nothing of the writer, on made-up and on real recordings.

use super::*;
#[path = "../../tests/recordings/edf.rs"]
mod reader;

use crate::{
    Decimal,
    track::{NO_SAMPLE, Note, Stretch},
};
use expect_test::expect;
use proptest::prelude::*;
use reader::{File, read};

/// What comes back is what was written, and stands at its time to a sample.
fn check(tracks: &Tracks) -> File {
    let file = read(&write(tracks, &About::default()).unwrap());
    let start_s = (tracks.start().unwrap().0 / 1_000) as f64;
    let back = tracks.tracks.iter().enumerate().map(|(at, track)| file.stretches(at, &track.name));
    for (track, back) in tracks.tracks.iter().zip(back) {
        assert_eq!(track.stretches.len(), back.len(), "{}", track.name);
        for (stretch, (at_s, samples)) in track.stretches.iter().zip(back) {
            let sent = stretch.samples.iter().map(|&s| (s != NO_SAMPLE).then_some(s));
            assert!(sent.eq(samples), "{}", track.name);
            let off_ms = ((start_s + at_s) * 1_000.0 - stretch.start.0 as f64).abs();
            assert!(off_ms <= track.span_ms(1) + 2.0, "{}: {off_ms} ms", track.name);
        }
    }
    for note in &tracks.notes {
        assert!(file.said.iter().any(|(_, _, text)| *text == note.text), "{}", note.text);
    }
    for pair in file.record_starts.windows(2) {
        assert!(pair[1] - pair[0] >= file.record_s - 1e-6, "records overlap");
    }
    file
}

fn track(name: &str, rate_hz: Decimal, stretches: Vec<(u64, Vec<i32>)>) -> Track {
    Track {
        name: name.into(),
        unit: "mV".into(),
        rate_hz,
        origin: Decimal::new(-512, -2).unwrap(),
        scale: Decimal::new(5, -3).unwrap(),
        stretches: stretches.into_iter().map(|(at, samples)| Stretch { start: TimeMs(at), samples }).collect(),
    }
}

const START: u64 = 1_795_255_200_250;

#[test]
fn an_unbroken_recording_is_continuous() {
    let tracks = Tracks {
        tracks: vec![
            track("ecg-ii", Decimal::whole(360), vec![(START, (0..3_700).collect())]),
            track("pleth", Decimal::whole(125), vec![(START + 2, (0..1_250).map(|n| n % 7 - 3).collect())]),
        ],
        notes: vec![Note { at: TimeMs(START + 1_500), text: "spo2 97.50 %".into() }],
    };
    let file = check(&tracks);
    assert_eq!((file.kind.as_str(), file.record_s, file.record_starts[0]), ("EDF+C", 1.0, 0.25));
    let bytes =
        write(&tracks, &About { patient: Some("p 1"), equipment: Some("urn:dev:ops:32473-monitor-1") }).unwrap();
    let head: String = bytes[..1024].iter().map(|b| *b as char).collect();
    let head: Vec<&str> = head.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect();
    expect![[r#"
        0
        p_1 X X X
        Startdate 21-NOV-2026 X X urn:dev:ops:32473-monitor-1
        21.11.2610.00.001024
        EDF+C
        11
        1
        3
        ECG II
        pleth
        EDF Annotations ecg-ii = -5.12 + sample * 0.005 mV
        pleth = -5.12 + sample * 0.005 mV
        mV
        mV
        -168.96 -168.96 -1
        158.715 158.715 1
        -32768
        -32768
        -32768
        32767
        32767
        32767
        360
        125
        60"#]]
    .assert_eq(&head.join("\n"));
}

#[test]
fn gaps_make_a_discontinuous_recording() {
    let stretches = vec![(START, (0..360).collect()), (START + 60_000, (1_000..1_500).collect())];
    let file = check(&Tracks { tracks: vec![track("ecg-ii", Decimal::whole(360), stretches)], notes: vec![] });
    assert_eq!((file.kind.as_str(), file.record_starts), ("EDF+D", vec![0.25, 60.25, 61.25]));
}

#[test]
fn samples_of_more_than_16_bits_make_a_bdf() {
    let wide = |greatest: i32| Tracks {
        tracks: vec![track("gsr", Decimal::whole(4), vec![(START, vec![0, -greatest, NO_SAMPLE, greatest])])],
        notes: vec![],
    };
    assert_eq!(check(&wide(32_767)).kind, "EDF+C");
    assert_eq!(check(&wide(32_768)).kind, "BDF+C");
    assert_eq!(check(&wide(8_388_607)).kind, "BDF+C");
    assert_eq!(write(&wide(8_388_608), &About::default()), Err(NotWritten::TooWide("gsr".into())));
}

#[test]
fn notes_alone_are_a_file_of_one_record() {
    let notes = (0..40).map(|n| Note { at: TimeMs(START + n), text: format!("heart-rate {n}.5 /min") }).collect();
    check(&Tracks { tracks: vec![], notes });
    assert_eq!(write(&Tracks::default(), &About::default()), Err(NotWritten::Nothing));
}

#[test]
fn what_edf_cannot_say_is_refused() {
    let with = |rate, at| {
        let tracks = vec![track("a", rate, vec![(at, vec![1])]), track("b", Decimal::whole(125), vec![(at, vec![1])])];
        write(&Tracks { tracks, notes: vec![] }, &About::default()).map(|_| ())
    };
    assert_eq!(with(Decimal::new(31_415_926_535, -10).unwrap(), START), Err(NotWritten::Rates));
    assert_eq!(with(Decimal::whole(1), 1_000), Err(NotWritten::Date));
    assert_eq!(with(Decimal::whole(1), u64::MAX / 4), Err(NotWritten::Date));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_tracks_make_the_writer_panic(tracks in crate::track::any::tracks(), patient in ".{0,9}") {
        let _ = write(&tracks, &About { patient: Some(&patient), equipment: None });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_sample_comes_back_whatever_the_gaps(
        plan in proptest::collection::vec(
            (0usize..5, proptest::collection::vec((0u64..9_000, proptest::collection::vec(any::<i16>(), 1..900)), 0..6)),
            1..5,
        ),
    ) {
        let rates = [Decimal::whole(360), Decimal::whole(125), Decimal::whole(4), Decimal::new(1986, -1).unwrap(), Decimal::whole(1_000)];
        let mut tracks = Vec::new();
        for (at, (rate, stretches)) in plan.into_iter().enumerate() {
            let mut track = track(&format!("signal-{at}"), rates[rate], vec![]);
            let mut free = START;
            for (pause_ms, samples) in stretches {
                let samples = samples.into_iter().map(|s| if s == i16::MIN { NO_SAMPLE } else { s.into() }).collect();
                let stretch = Stretch { start: TimeMs(free + pause_ms), samples };
                free = track.end_ms(&stretch).ceil() as u64;
                track.stretches.push(stretch);
            }
            tracks.push(track);
        }
        if tracks.iter().any(|track| !track.stretches.is_empty()) {
            check(&Tracks { tracks, notes: vec![] });
        }
    }
}

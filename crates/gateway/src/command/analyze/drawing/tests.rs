//! Drawings as documents: well-formed, bounded, and saying what they show.

use super::*;
use crate::{
    command::analyze::{beats::Lead, findings},
    signal::Source,
};
use analytics::Person;
use sensing::{
    generated::{Story, Wearer},
    wfdb,
};
use std::path::PathBuf;

/// A recording of a made-up person on disk, whose name needs escaping.
fn recorded(folder: &std::path::Path, seconds: u64) -> PathBuf {
    let mut wearer = Wearer::new(5, Story::Haemorrhage { onset_s: 20.0, duration_s: 60.0 }, 250);
    let mut text = String::from("time_s,ecg-ii,pleth,resp-impedance\n");
    let mut n = 0;
    for _ in 0..seconds {
        let second = wearer.next_second();
        let of = |name: &str| {
            let signal = second.signals.iter().find(|signal| signal.name == name).unwrap();
            let sensing::Value::Waveform(wave) = &signal.value else { panic!("{name} is a waveform") };
            (wave.rate_hz.to_f64(), wave.physical())
        };
        let (ecg, pleth, resp) = (of("ecg-ii"), of("pleth"), of("resp-impedance"));
        for at in 0..250 {
            let other = |(rate_hz, values): &(f64, Vec<f64>)| {
                values.get((at as f64 * rate_hz / 250.0) as usize).copied().unwrap_or(0.0)
            };
            text += &format!("{},{:.4},{:.4},{:.4}\n", f64::from(n) / 250.0, ecg.1[at], other(&pleth), other(&resp));
            n += 1;
        }
    }
    let file = folder.join("a & \"b\" <c>.csv");
    std::fs::write(&file, text).unwrap();
    file
}

fn drawn(file: &std::path::Path, from_s: u64, seconds: u64) -> String {
    let mut source = Source::open(file.to_str().unwrap()).unwrap();
    let found = findings(&mut source, &Person::default());
    let recorded_s = source.seconds().unwrap() as f64;
    let lead = Lead::find(&source.waves()).unwrap().unwrap();
    let drawing = Drawing {
        name: file.file_stem().unwrap().to_string_lossy().into_owned(),
        recorded_s,
        stretch: Stretch { from_s, seconds },
        waves: source.waves(),
        lead: Some(lead.name),
        beats: &lead.beats,
        beats_hz: lead.rate_hz,
        findings: &found,
    };
    drawing.svg()
}

/// Whether a document is well-formed XML of the kind that is written here: one root, elements closed in their order, attributes quoted and each once, known
/// entities, no stray marks.
fn check_well_formed(document: &str) {
    let mut rest = document.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").unwrap();
    let (mut open, mut roots) = (Vec::new(), 0);
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == ':');
    let check_words = |words: &str| {
        for part in words.split('&').skip(1) {
            let entity = part.split_once(';').unwrap().0;
            assert!(["amp", "lt", "gt", "quot", "apos"].contains(&entity), "&{entity};");
        }
        assert!(!words.contains('<') && words.chars().all(|c| c == '\n' || !c.is_control()));
    };
    while !rest.is_empty() {
        let Some((words, tag)) = rest.split_once('<') else {
            assert!(rest.trim().is_empty(), "words after the root: {rest}");
            break;
        };
        check_words(words);
        assert!(!open.is_empty() || words.trim().is_empty(), "words outside of the root");
        let (tag, after) = tag.split_once('>').unwrap();
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(is_name(name), "{name}");
        let mut seen = Vec::new();
        while !attributes.trim().is_empty() {
            let (attribute, value) = attributes.split_once("=\"").unwrap();
            let (value, after) = value.split_once('"').unwrap();
            assert!(is_name(attribute.trim()) && !seen.contains(&attribute.trim()), "{tag}");
            seen.push(attribute.trim());
            check_words(value);
            attributes = after;
        }
        roots += usize::from(open.is_empty());
        if !closed {
            open.push(name);
        }
    }
    assert_eq!((open.len(), roots), (0, 1));
}

#[test]
fn a_drawing_is_a_document_with_waves_beats_bands_trends_and_words() {
    let folder = tempfile::tempdir().unwrap();
    let svg = drawn(&recorded(folder.path(), 130), 100, 20);
    check_well_formed(&svg);
    for part in [
        "<title id=\"title\">a &amp; &quot;b&quot; &lt;c&gt;, 20 s from 1:40</title>",
        "role=\"img\" aria-labelledby=\"title desc\"",
        "Waves: II, Pleth, Resp.",
        "10 mm/mV",
        ">25 mm/s<",
        "prefers-color-scheme:dark",
        "Heart rate /min",
        "Respiration /min",
        "class=\"here\"",
    ] {
        // What is said beside other words need not be alone in its element.
        assert!(svg.contains(part.trim_matches(['>', '<'])), "{part}");
    }
    let letters = svg.matches(">N</text>").count();
    let told: usize = svg.split_once("Beats in ecg-ii: ").unwrap().1.split_once(' ').unwrap().0.parse().unwrap();
    // One of them is the legend's.
    assert_eq!(letters, told + 1, "seed 5");
    assert!(told > 20, "seed 5: {told} beats in 20 s");
}

#[test]
fn the_paper_is_calibrated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("step.csv");
    // A step of 1 mV at half a second of ten, at 100 samples a second.
    let rows: String = (0..1_000).map(|n| format!("{},{}\n", f64::from(n) / 100.0, u8::from(n >= 50))).collect();
    std::fs::write(&file, format!("time_s,ecg-ii\n{rows}")).unwrap();
    let svg = drawn(&file, 0, 10);
    let path = svg.split("class=\"trace ecg\" d=\"").nth(1).unwrap().split('"').next().unwrap();
    let points: Vec<(f64, f64)> = path
        .split(['M', 'L'])
        .filter_map(|point| {
            let (x, y) = point.split_once(' ')?;
            Some((x.parse().ok()?, y.parse().ok()?))
        })
        .collect();
    let (before, after) = (points[49], points[50]);
    assert_eq!((points[0].0, before.0, after.0), (LEFT_MM, LEFT_MM + 12.25, LEFT_MM + 12.5), "25 mm are a second");
    assert!((before.1 - after.1 - 10.0).abs() < 1e-9, "10 mm are a millivolt, upwards");
    // The pulse before the lead is as high.
    assert!(svg.contains("h1.5v-10h5v10h1.5"));
}

#[test]
fn the_longest_drawing_of_the_fastest_waves_has_a_bound() {
    let steps: Vec<i16> = (0..480_000i64).map(|n| ((n * 7_919) % 2_001 - 1_000) as i16).collect();
    let header = (0..12).fold("r 12 4000 40000\n".to_owned(), |text, lead| {
        let names = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];
        text + &format!("r.dat 16 200(0)/mV 16 0 {} 0 0 {}\n", steps[lead], names[lead])
    });
    let mut header = wfdb::Header::parse(header.as_bytes()).unwrap();
    header.signals.iter_mut().for_each(|signal| signal.checksum = None);
    let bytes: Vec<u8> = steps.iter().flat_map(|step| step.to_le_bytes()).collect();
    let recording = wfdb::Recording::read(header, |_| Some(&bytes)).unwrap();
    let source = Source::Recorded(Box::new(recording), 0);
    let drawing = Drawing {
        name: "noise".to_owned(),
        recorded_s: 10.0,
        stretch: Stretch { from_s: 0, seconds: SECONDS_MAX },
        waves: source.waves(),
        lead: None,
        beats: &[],
        beats_hz: 1.0,
        findings: &[],
    };
    let svg = drawing.svg();
    check_well_formed(&svg);
    // A column of 0.2 mm has at most four points of some sixteen letters.
    let most = WAVES_MAX * (10.0 * MM_PER_S / 0.2) as usize * 4 * 16 + 20_000;
    assert!(svg.len() <= most, "{} bytes", svg.len());
    assert!(svg.contains("4 more waves are not drawn"));
}

#[test]
fn what_has_no_values_is_drawn_without_them() {
    let drawing = Drawing {
        name: String::new(),
        recorded_s: 3.0,
        stretch: Stretch { from_s: 1, seconds: 10 },
        waves: Vec::new(),
        lead: None,
        beats: &[],
        beats_hz: 1.0,
        findings: &[],
    };
    let svg = drawing.svg();
    check_well_formed(&svg);
    assert!(svg.contains("2 seconds from 0:01 of a recording of 0:03. Waves: none. Findings: none."));
}

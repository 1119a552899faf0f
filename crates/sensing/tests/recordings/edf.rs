//! A small reader of EDF+ and BDF+, written from edfplus.info alone: it knows nothing of the writer.

/// What a file holds.
pub(crate) struct File {
    /// `EDF+C` and its kin.
    pub(crate) kind: String,
    pub(crate) labels: Vec<String>,
    /// Physical and digital least and greatest of each signal.
    pub(crate) ranges: Vec<[f64; 4]>,
    pub(crate) per_record: Vec<usize>,
    pub(crate) record_s: f64,
    /// The digital samples of each signal.
    pub(crate) samples: Vec<Vec<i32>>,
    /// When each record begins, in seconds.
    pub(crate) record_starts: Vec<f64>,
    /// Onset, duration, text.
    pub(crate) said: Vec<(f64, f64, String)>,
}

impl File {
    /// The stretches that annotations name for a signal, each with the time of its first sample by the record that this is in.
    pub(crate) fn stretches(&self, at: usize, name: &str) -> Vec<(f64, Vec<Option<i32>>)> {
        let head = format!("{name}: samples ");
        let said = self.said.iter().filter_map(|(_, _, text)| {
            let (first, last) = text.strip_prefix(&head)?.split_once('-')?;
            Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
        });
        let (per_record, none) = (self.per_record[at], self.ranges[at][2] as i32);
        said.map(|(first, last)| {
            let into_s = (first % per_record) as f64 * self.record_s / per_record as f64;
            let samples = self.samples[at][first..=last].iter().map(|&s| (s != none).then_some(s));
            (self.record_starts[first / per_record] + into_s, samples.collect())
        })
        .collect()
    }
}

/// Reads a file whose form is right.
pub(crate) fn read(bytes: &[u8]) -> File {
    let text = |from: usize, length: usize| {
        bytes[from..from + length].iter().map(|b| *b as char).collect::<String>().trim_end().to_owned()
    };
    let number = |from, length| text(from, length).parse::<f64>().unwrap();
    let width = if bytes[0] == 0xff { 3 } else { 2 };
    let (records, signals) = (number(236, 8) as usize, number(252, 4) as usize);
    assert_eq!(number(184, 8) as usize, 256 * (signals + 1));
    let field = |before: usize, length: usize, at: usize| (256 + signals * before + length * at, length);
    let labels: Vec<String> = (0..signals).map(|at| text(field(0, 16, at).0, 16)).collect();
    let ranges = (0..signals).map(|at| [104, 112, 120, 128].map(|before| number(field(before, 8, at).0, 8)));
    let per_record: Vec<usize> = (0..signals).map(|at| number(field(216, 8, at).0, 8) as usize).collect();
    let mut file = File {
        kind: text(192, 44),
        ranges: ranges.collect(),
        record_s: number(244, 8),
        samples: vec![vec![]; signals],
        record_starts: vec![],
        said: vec![],
        labels,
        per_record,
    };
    let mut at = 256 * (signals + 1);
    for _ in 0..records {
        for signal in 0..signals {
            let length = file.per_record[signal] * width;
            let data = &bytes[at..at + length];
            at += length;
            if file.labels[signal].ends_with("Annotations") {
                for (nth, list) in data.split(|b| *b == 0).filter(|list| !list.is_empty()).enumerate() {
                    let mut parts = list.split(|b| *b == 0x14).map(|part| String::from_utf8(part.to_vec()).unwrap());
                    let times = parts.next().unwrap();
                    let (onset, lasts) = times.split_once('\x15').unwrap_or((&times, "0"));
                    let onset: f64 = onset.parse().unwrap();
                    if nth == 0 {
                        file.record_starts.push(onset);
                    }
                    let texts = parts.filter(|text| !text.is_empty());
                    file.said.extend(texts.map(|text| (onset, lasts.parse().unwrap(), text)));
                }
            } else {
                file.samples[signal].extend(data.chunks(width).map(|sample| match *sample {
                    [low, high] => i32::from(i16::from_le_bytes([low, high])),
                    [low, middle, high] => i32::from_le_bytes([0, low, middle, high]) >> 8,
                    _ => panic!("a sample of {width} bytes"),
                }));
            }
        }
    }
    assert_eq!((at, file.record_starts.len()), (bytes.len(), records));
    file
}

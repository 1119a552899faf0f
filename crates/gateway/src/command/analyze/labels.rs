//! What people marked in a recording: beats, rhythms and breaths.

use crate::{command::BadInput, signal};
use analytics::reference::{Label, LabelClass};
use sensing::wfdb;
use std::path::Path;

/// The marks of one file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Labels {
    /// Samples of the file in a second.
    pub(crate) rate_hz: f64,
    /// Beats, in the order of their samples.
    pub(crate) beats: Vec<Label>,
    /// From which sample on which rhythm, such as `AFIB`, in order. Empty where rhythms were not marked.
    pub(crate) rhythms: Vec<(u64, String)>,
    /// Breaths of each annotator by name, in seconds.
    pub(crate) breaths_s: Vec<(String, Vec<f64>)>,
}

impl Labels {
    /// Reads an annotation file of WFDB, or a `.csv` file of breaths with a column of sample numbers for each annotator, of a recording with `rate_hz` samples
    /// a second.
    pub(crate) fn read(path: &Path, rate_hz: f64) -> anyhow::Result<Self> {
        let bytes = signal::read(path)?;
        if path.extension().is_some_and(|ending| ending == "csv") {
            let text =
                String::from_utf8(bytes).map_err(|_| BadInput(format!("`{}` is not UTF-8 text", path.display())))?;
            let breaths_s = breaths(&text, rate_hz).map_err(|what| BadInput(format!("`{}` {what}", path.display())))?;
            return Ok(Self { rate_hz, breaths_s, ..Self::default() });
        }
        let annotations = wfdb::annotations(&bytes)
            .map_err(|e| BadInput(format!("`{}` is no annotation file: {e}", path.display())))?;
        Ok(Self::of(&annotations, rate_hz))
    }

    fn of(annotations: &[wfdb::Annotation], rate_hz: f64) -> Self {
        let mut labels = Self { rate_hz, ..Self::default() };
        for annotation in annotations {
            match annotation.symbol() {
                '+' => {
                    let rhythm = annotation.aux.trim_start_matches('(').to_owned();
                    labels.rhythms.push((annotation.sample, rhythm));
                }
                // Flutter of the ventricles begins and ends; the rhythm after it is marked or is that before.
                '[' => labels.rhythms.push((annotation.sample, "VFL".to_owned())),
                ']' => labels.rhythms.push((annotation.sample, "N".to_owned())),
                // Notes, as the breaths of the BIDMC recordings: their text is the annotator.
                '"' if !annotation.aux.is_empty() => labels.breath(&annotation.aux, annotation.sample),
                symbol => {
                    let class = LabelClass::of_symbol(symbol);
                    labels.beats.extend(class.map(|class| Label { sample: annotation.sample, class }));
                }
            }
        }
        labels.beats.sort_by_key(|label| label.sample);
        labels
    }

    fn breath(&mut self, annotator: &str, sample: u64) {
        let at_s = sample as f64 / self.rate_hz;
        match self.breaths_s.iter().position(|(name, _)| name == annotator) {
            Some(known) => self.breaths_s[known].1.push(at_s),
            None if self.breaths_s.len() < ANNOTATORS_MAX => self.breaths_s.push((annotator.to_owned(), vec![at_s])),
            None => {}
        }
    }

    /// The stretches of these rhythms, in seconds; the last lasts up to `end_s`.
    pub(crate) fn stretches_s(&self, is_meant: impl Fn(&str) -> bool, end_s: f64) -> Vec<(f64, f64)> {
        let mut out: Vec<(f64, f64)> = Vec::new();
        for (n, (from, rhythm)) in self.rhythms.iter().enumerate() {
            let until_s = self.rhythms.get(n + 1).map_or(end_s, |(next, _)| *next as f64 / self.rate_hz);
            if is_meant(rhythm) {
                out.push((*from as f64 / self.rate_hz, until_s));
            }
        }
        out
    }
}

/// The most annotators of one file.
const ANNOTATORS_MAX: usize = 8;

/// Breaths of each annotator: `breaths ann1 [signal sample no],breaths ann2 [signal sample no]`, as the BIDMC recordings are published.
fn breaths(text: &str, rate_hz: f64) -> Result<Vec<(String, Vec<f64>)>, String> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let (_, head) = lines.next().ok_or("is empty")?;
    if !head.contains("breaths") {
        return Err("has no column of `breaths`: a .csv file of annotations names them in its first line".to_owned());
    }
    let name = |cell: &str| cell.split_whitespace().find(|word| word.starts_with("ann")).unwrap_or("ann").to_owned();
    let mut out: Vec<(String, Vec<f64>)> = head.split(',').map(|cell| (name(cell), Vec::new())).collect();
    if out.len() > ANNOTATORS_MAX {
        return Err(format!("has more than {ANNOTATORS_MAX} annotators"));
    }
    for (line, row) in lines {
        // One annotator may have marked fewer breaths than another.
        for ((_, breaths_s), cell) in out.iter_mut().zip(row.split(',')).filter(|(_, cell)| !cell.trim().is_empty()) {
            let sample: f64 =
                cell.trim().parse().map_err(|_| format!("has a sample that is no number in line {line}"))?;
            breaths_s.push(sample / rate_hz);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wfdb::Annotation;

    fn annotation(sample: u64, code: u8, aux: &str) -> Annotation {
        Annotation { sample, code, aux: aux.to_owned() }
    }

    #[test]
    fn beats_rhythms_and_breaths_are_told_apart() {
        let labels = Labels::of(
            &[
                annotation(5, 28, "(N"),
                annotation(10, 1, ""),
                annotation(20, 5, ""),
                annotation(30, 28, "(AFIB"),
                annotation(35, 14, ""),
                annotation(50, 22, "ann1"),
                annotation(60, 22, "ann2"),
                annotation(70, 22, "ann1"),
                annotation(80, 32, ""),
                annotation(90, 33, ""),
            ],
            10.0,
        );
        let classes: Vec<LabelClass> = labels.beats.iter().map(|label| label.class).collect();
        assert_eq!(classes, [LabelClass::Normal, LabelClass::Ventricular]);
        assert_eq!(labels.breaths_s, [("ann1".to_owned(), vec![5.0, 7.0]), ("ann2".to_owned(), vec![6.0])]);
        assert_eq!(labels.stretches_s(|rhythm| rhythm == "AFIB", 20.0), [(3.0, 8.0)]);
        assert_eq!(labels.stretches_s(|rhythm| rhythm == "VFL", 20.0), [(8.0, 9.0)]);
        assert_eq!(labels.stretches_s(|rhythm| rhythm == "N", 20.0), [(0.5, 3.0), (9.0, 20.0)]);
    }

    #[test]
    fn breaths_of_a_csv_file_are_read_and_faults_are_named() {
        let text = "breaths ann1 [signal sample no], breaths ann2 [signal sample no]\n125,250\n375,\n";
        let expected = vec![("ann1".to_owned(), vec![1.0, 3.0]), ("ann2".to_owned(), vec![2.0])];
        assert_eq!(breaths(text, 125.0), Ok(expected));
        assert_eq!(breaths("breaths ann1\nx\n", 1.0), Err("has a sample that is no number in line 2".to_owned()));
        assert!(breaths("time_s,spo2\n0,97\n", 1.0).is_err() && breaths("", 1.0).is_err());
    }
}

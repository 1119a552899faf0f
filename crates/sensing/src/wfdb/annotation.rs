//! Annotations: labels of beats and events, each at a sample.

use super::{ANNOTATIONS_MAX, BadRecord};

/// One label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// The sample it stands at, counted from the record's beginning.
    pub sample: u64,
    /// Its code, 1 to 49, as in annot(5).
    pub code: u8,
    /// Auxiliary text, such as a rhythm's name `(AFIB`.
    pub aux: String,
}

impl Annotation {
    /// The label's character; a space for codes without one.
    #[rustfmt::skip]
    pub fn symbol(&self) -> char {
        match self.code {
            1 => 'N',
            2 => 'L',
            3 => 'R',
            4 => 'a',
            5 => 'V',
            6 => 'F',
            7 => 'J',
            8 => 'A',
            9 => 'S',
            10 => 'E',
            11 => 'j',
            12 => '/',
            13 => 'Q',
            14 => '~',
            16 => '|',
            18 => 's',
            19 => 'T',
            20 => '*',
            21 => 'D',
            22 => '"',
            23 => '=',
            24 => 'p',
            25 => 'B',
            26 => '^',
            27 => 't',
            28 => '+',
            29 => 'u',
            30 => '?',
            31 => '!',
            32 => '[',
            33 => ']',
            34 => 'e',
            35 => 'n',
            36 => '@',
            37 => 'x',
            38 => 'f',
            39 => '(',
            40 => ')',
            41 => 'r',
            _ => ' ',
        }
    }

    /// Whether the label marks a beat, as ANSI/AAMI EC57 scores beats.
    pub fn is_beat(&self) -> bool {
        "NLRBAaJSVrFejnE/fQ?".contains(self.symbol())
    }

    /// Whether the label marks a ventricular beat: class V of EC57.
    pub fn is_ventricular(&self) -> bool {
        matches!(self.symbol(), 'V' | 'E')
    }
}

const SKIP: u16 = 59;
const NUM: u16 = 60;
const SUB: u16 = 61;
const CHN: u16 = 62;
const AUX: u16 = 63;

/// Reads an annotation file in the MIT format (`.atr` and its kin).
pub fn annotations(bytes: &[u8]) -> Result<Vec<Annotation>, BadRecord> {
    let bad = |at, what| BadRecord::Annotation { at, what };
    let word = |at: usize| match bytes.get(at..at + 2) {
        Some(pair) => Ok(u16::from_le_bytes([pair[0], pair[1]])),
        None => Err(bad(at, "the file ends without its end mark")),
    };
    let mut out: Vec<Annotation> = Vec::new();
    let (mut at, mut sample) = (0, 0i64);
    loop {
        let here = word(at)?;
        let (code, low) = (here >> 10, here & 0x3ff);
        at += 2;
        match code {
            0 if low == 0 => return Ok(out),
            SKIP => {
                // A 32-bit distance, its high word first.
                let distance = (u32::from(word(at)?) << 16 | u32::from(word(at + 2)?)) as i32;
                sample += i64::from(distance);
                at += 4;
            }
            NUM | SUB | CHN => {}
            AUX => {
                let length = usize::from(low);
                let text = bytes.get(at..at + length).ok_or_else(|| bad(at, "the file ends within a text"))?;
                if let Some(last) = out.last_mut() {
                    let text = String::from_utf8_lossy(text);
                    last.aux = text.trim_end_matches('\0').to_owned();
                }
                at += length + length % 2;
            }
            1..=49 => {
                sample += i64::from(low);
                if out.len() >= ANNOTATIONS_MAX {
                    return Err(BadRecord::TooLarge("a file has at most 2^24 annotations"));
                }
                let sample = u64::try_from(sample).map_err(|_| bad(at, "a label before the record's beginning"))?;
                out.push(Annotation { sample, code: code as u8, aux: String::new() });
            }
            _ => return Err(bad(at - 2, "an unknown code")),
        }
    }
}

//! Frames as they rest in the database: packed, each by itself, and given back to the byte that was signed.

use crate::kinds::{EVERY_KIND, kind_of};
use record::sha256;
use sensing::{Frame, compact};
use store::Frame as Row;

/// How a frame rests. One that does not become shorter stays as it is: a frame begins with the tag of COSE_Sign1, packed ones do not.
pub(crate) fn packed(frame: &Frame) -> Vec<u8> {
    let packed = compact::pack_one(frame);
    if packed.len() < frame.bytes().len() { packed } else { frame.bytes().to_vec() }
}

/// The frame of a row, if the row holds what its digest says.
pub(crate) fn frame_of(row: &Row) -> Option<Frame> {
    let frame = unpacked(&row.bytes)?;
    if sha256(&[&frame]) != row.digest {
        return None;
    }
    Frame::decode(&frame).ok()
}

/// The frame that rests in these bytes, whatever stands beside them.
pub(crate) fn frame_in(bytes: &[u8]) -> Option<Frame> {
    Frame::decode(&unpacked(bytes)?).ok()
}

/// Earlier versions wrote frames as they came.
fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    match bytes.first() {
        Some(&COSE_SIGN1) | None => Some(bytes.to_vec()),
        Some(_) => compact::unpack(bytes).ok()?.into_iter().next(),
    }
}

/// Whether the columns by which a frame is found are its own. A frame from before there were kinds is of every one.
pub(crate) fn is_filed(row: &Row, frame: &Frame) -> bool {
    let kinds = [EVERY_KIND, kind_of(frame.signals())];
    row.device == frame.device().as_str()
        && row.counter == frame.counter()
        && row.measured_at == frame.device_time()
        && kinds.contains(&row.kind)
}

/// The first byte of every frame: tag 18.
const COSE_SIGN1: u8 = 0xd2;

#[cfg(test)]
mod tests {
    use super::*;
    use record::{Id16, TimeMs};
    use sensing::{
        Sequence, SigningKey,
        generated::{Story, Wearer},
    };

    fn row(frame: &Frame, bytes: Vec<u8>) -> Row {
        Row {
            device: frame.device().as_str().to_owned(),
            counter: frame.counter(),
            binding: Id16([1; 16]),
            patient: "p1".into(),
            received_at: frame.device_time(),
            measured_at: frame.device_time(),
            kind: crate::kinds::kind_of(frame.signals()),
            digest: frame.digest(),
            bytes,
        }
    }

    #[test]
    fn a_frame_rests_in_less_and_comes_back_to_the_byte() {
        let mut sequence = Sequence::new(crate::device_name("d1").unwrap(), SigningKey::from_bytes(&[7; 32]));
        let mut wearer = Wearer::new(1, Story::Stable, 500);
        let (mut whole, mut kept) = (0, 0);
        for n in 0..60 {
            let at = TimeMs(1_795_255_200_000 + n * 1_000);
            // A heartbeat now and then.
            let signals = if n % 10 == 0 { Vec::new() } else { wearer.next_second().signals };
            let frame = sequence.next(at, signals).unwrap();
            let resting = packed(&frame);
            assert!(
                compact::pack(&[frame.bytes()]).is_ok_and(|several| several == resting || resting == frame.bytes())
            );
            (whole, kept) = (whole + frame.bytes().len(), kept + resting.len());
            assert_eq!(frame_of(&row(&frame, resting.clone())).as_ref(), Some(&frame));
            assert_eq!(
                frame_of(&row(&frame, frame.bytes().to_vec())).as_ref(),
                Some(&frame),
                "as earlier versions kept it"
            );
            let mut damaged = resting;
            *damaged.last_mut().unwrap() ^= 1;
            damaged[20] ^= 1;
            assert_eq!(frame_of(&row(&frame, damaged)), None);
        }
        println!("{whole} bytes rest in {kept}");
        assert!(kept < whole * 3 / 4, "{whole} bytes rest in {kept}");
        let frame = sequence.next(TimeMs(1_795_255_300_000), Vec::new()).unwrap();
        for bytes in [Vec::new(), vec![1], vec![0xff; 40], compact::pack(&[b"no frame"]).unwrap()] {
            assert_eq!(frame_of(&row(&frame, bytes)), None);
        }
    }
}

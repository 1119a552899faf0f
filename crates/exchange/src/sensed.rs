//! Reading what sensors said: a frame as an Observation, once the device's signature and the ledger's batch root bear it out.

use crate::{
    bind::{BIND_BACK_MS_MAX, Bound, device_digest, device_id, sensed},
    caller::Caller,
    facts::Target,
    failure::Failure,
    ingest::Shown,
    kept::frame_of,
    made::parse,
    mirror::Batch,
    node::Node,
    row::PENDING_MS_MAX,
    write::Trail,
};
use contract::{AccessAction, Filed, merkle, state};
use policy::Action;
use record::{Commitment, Digest, Id16, OrgId, RecordTag, TimeMs, fhir::Interaction};
use sensing::{BATCH_FRAMES_MAX, Binding, DeviceState, Frame, Reading, Signed, admit_signed, observation};
use serde_json::{Value, json};
use store::Row;

/// What the ledger says of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is under the root of a final batch.
    Final,
    /// No final batch covers it yet.
    Pending,
    /// Its device signed it, and so many others of its batch are gone, so that nobody can tell whether it is under the root.
    Alone(u64),
    /// A final batch says that another frame, or none, has its counter.
    Contradicted,
    /// It was let go by policy: its row is on its way out.
    LetGo,
}

impl Standing {
    /// Whether it is shown as not verified.
    pub(crate) fn is_pending(self) -> bool {
        matches!(self, Self::Pending | Self::Alone(_))
    }
}

/// Who bound the device of a frame, with which key, and for how long.
pub(crate) struct Ties {
    pub(crate) org: OrgId,
    pub(crate) binding: Binding,
    pub(crate) is_final: bool,
}

impl Node {
    /// A frame as a FHIR Observation, in which several measurements are contained in the first; or one of its measurements, as searches
    /// find them.
    #[tracing::instrument(level = "debug", skip_all)]
    pub(crate) async fn read_frame(&self, caller: &Caller, named: Named) -> Result<Shown, Failure> {
        let digest = named.frame;
        let name = format!("Observation/{named}");
        let row = self.store.frame(digest).await.map_err(crate::find::search_failure)?;
        let Some(row) = row else { return Err(self.gone_or_unknown(caller, name, digest).await?) };
        let tampered = || Failure::Tampered(name.clone());
        let frame = frame_of(&row).filter(|frame| frame.digest() == digest).ok_or_else(tampered)?;
        let ties = self.ties(&frame, row.binding, &row.patient).await?.ok_or_else(tampered)?;
        let reading = read(frame, &ties.binding, row.received_at).ok_or_else(tampered)?;
        let ours = ties.org == self.org;
        let standing = match ties.is_final {
            true => self.standing(&reading, row.received_at, ours).await?,
            false => self.waiting(row.received_at, ours),
        };
        if standing == Standing::LetGo {
            let id = named.to_string();
            let target = sensed(&row.patient, Some(&id), &ties.org);
            return Err(self.was_let_go(caller, &target, name, row.binding, reading.counter).await?);
        }
        if standing == Standing::Contradicted {
            tracing::warn!(binding = %row.binding, "a frame does not agree with the ledger and is withheld");
            return Err(tampered());
        }
        let shown = match named.member {
            None => as_observation(&reading)
                .map(|whole| as_row(&whole, named, &reading, &row.patient, &ties.org))
                .transpose()?,
            Some(_) => {
                measurements(&reading, &row.patient, &ties.org)?.into_iter().find(|one| one.id == named.to_string())
            }
        };
        let Some(shown) = shown else {
            // Whoever may not see the frame does not learn what it does not say.
            self.allow(caller, Action::Read, &sensed(&row.patient, Some(&named.to_string()), &ties.org)).await?;
            return Err(Failure::NotFound(name));
        };
        let decided = self.allow(caller, Action::Read, &Target::of(&shown)).await?;
        let trail = Trail { under: decided.under, ..Trail::of(Interaction::Read, AccessAction::Frames) };
        self.leave_trail(caller, Some(&row.patient), &[Commitment(digest)], &[format!("{name}/_history/1")], &trail)
            .await?;
        let (written_at, pending) = (row.received_at, standing.is_pending());
        Ok(Shown { bytes: shown.bytes, version: 1, written_at, pending, repaired: false })
    }

    /// What ties a frame's device to the patient that the database names; none when nothing does.
    pub(crate) async fn ties(&self, frame: &Frame, binding: Id16, patient: &str) -> Result<Option<Ties>, Failure> {
        let device = device_digest(frame.device());
        let known: Option<state::Binding> = self.ledger_value(state::binding_key(&binding)).await?;
        let tie = |key: &[u8; 32], from: TimeMs, until: Option<TimeMs>| {
            let key = sensing::device_key(key).ok()?;
            let (device, patient) = (frame.device().clone(), format!("Patient/{patient}"));
            Some(Binding { device, key, patient, binding, from, until })
        };
        let Some(known) = known else {
            let here: Option<Bound> = self.bound_here(frame.device()).await;
            let bound = here.filter(|b| b.binding == binding && b.patient == patient);
            let binding = bound.and_then(|bound| tie(bound.key.as_bytes(), bound.from, bound.until));
            return Ok(binding.map(|binding| Ties { org: self.org.clone(), binding, is_final: false }));
        };
        // The patient's own key says which names the ledger knows the patient by. Who may not hold it learns it from a row.
        let same_patient = match self.patient_key(patient).await? {
            Some(key) => self.pseudonyms(&key).contains(&known.patient),
            None => matches!(self.subject(patient).await?.filed, Filed::Under(pseudonym) if pseudonym == known.patient),
        };
        if known.device != device || !same_patient {
            return Ok(None);
        }
        let from = TimeMs(known.from.0.saturating_sub(BIND_BACK_MS_MAX));
        let binding = tie(known.key.as_bytes(), from, known.until);
        Ok(binding.map(|binding| Ties { org: known.org, binding, is_final: true }))
    }

    /// Whether a frame stands under a final batch of its binding.
    async fn standing(&self, reading: &Reading, received_at: TimeMs, ours: bool) -> Result<Standing, Failure> {
        let batches = self.mirror.batches(reading.binding).await?;
        match batches.reaching(reading.counter) {
            _ if batches.let_go_with(reading.counter).is_some() => Ok(Standing::LetGo),
            Some(batch) if batch.first <= reading.counter => self.under_root(reading, batch).await,
            // Batches come in order of counters: one that went past without this frame says that it never came.
            Some(_) => Ok(Standing::Contradicted),
            None => Ok(self.waiting(received_at, ours)),
        }
    }

    /// A frame that no final batch covers: believed for a while, and our own for as long as the ledger stands still.
    pub(crate) fn waiting(&self, received_at: TimeMs, ours: bool) -> Standing {
        let young = self.now().0.saturating_sub(received_at.0) <= PENDING_MS_MAX;
        if young || (ours && self.in_lane() > 0) { Standing::Pending } else { Standing::Contradicted }
    }

    /// Whether a frame is one of those that a batch covers, and these are what the batch says.
    pub(crate) async fn under_root(&self, reading: &Reading, batch: &Batch) -> Result<Standing, Failure> {
        let count = batch.count as usize;
        if count <= BATCH_FRAMES_MAX {
            // One more than there should be tells as well that it is not this batch.
            let frames = self.store.frame_digests(reading.device.as_str(), batch.first, batch.last, count + 1).await;
            let frames = frames.map_err(crate::find::search_failure)?;
            if frames.len() == count {
                let same = merkle::root(frames.iter().map(|(_, digest)| merkle::leaf(digest.as_ref()))) == batch.root;
                let own = frames.contains(&(reading.counter, reading.digest));
                return Ok(if same && own { Standing::Final } else { Standing::Contradicted });
            }
            if frames.len() < count {
                // The device's signature holds. Which ones are gone is what an audit finds.
                tracing::warn!(binding = %reading.binding, "frames of a final batch are gone: the others are shown as not verified");
                return Ok(Standing::Alone((count - frames.len()) as u64));
            }
        }
        tracing::warn!(binding = %reading.binding, "more frames stand under a final batch than it has: they are shown as not verified");
        Ok(Standing::Pending)
    }
}

/// The frame as a reading, if the bound device signed it for the time of its binding. Its place in the sequence was judged when it came.
fn read(frame: Frame, binding: &Binding, received_at: TimeMs) -> Option<Reading> {
    read_signed(Signed::one(frame, &binding.key).ok()?, binding, received_at)
}

/// The same for a frame whose signature was checked.
pub(crate) fn read_signed(signed: Signed, binding: &Binding, received_at: TimeMs) -> Option<Reading> {
    let frame = signed.frame();
    let before = DeviceState {
        last_counter: frame.counter().checked_sub(1)?,
        last_digest: frame.previous(),
        last_device_time: frame.device_time(),
    };
    admit_signed(signed, binding, &before, received_at).ok().map(|(reading, _)| reading)
}

/// What an Observation that is made of a frame is called: by the frame's digest, and where a frame has several, by the number of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    frame: Digest,
    /// From 1; none for all of them together.
    member: Option<u16>,
}

impl Named {
    /// The digest of the frame.
    pub(crate) fn frame(&self) -> Digest {
        self.frame
    }
}

/// The characters of a digest whose number follows: RFC 4648's base 32 in small letters, as a FHIR id has room for 64 characters.
const BASE_32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters of a digest in base 32.
const BASE_32_LEN: usize = 52;

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(member) = self.member else { return write!(f, "{}", self.frame) };
        let bytes = self.frame.as_bytes();
        let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
        let digits = (0..BASE_32_LEN).map(|at| (0..5).fold(0, |digit, of| digit << 1 | bit(at * 5 + of)));
        let text: String = digits.filter_map(|digit| BASE_32.get(digit)).map(|byte| char::from(*byte)).collect();
        write!(f, "{text}.{member}")
    }
}

impl std::str::FromStr for Named {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let Some((digits, member)) = text.split_once('.') else {
            return Ok(Self { frame: text.parse().map_err(|_| ())?, member: None });
        };
        let mut bytes = [0u8; 32];
        for (at, digit) in digits.bytes().enumerate() {
            let value = BASE_32.iter().position(|byte| *byte == digit).ok_or(())?;
            for of in (0..5).filter(|of| value >> (4 - of) & 1 == 1) {
                let bit = at * 5 + of;
                *bytes.get_mut(bit / 8).ok_or(())? |= 0x80 >> (bit % 8);
            }
        }
        let named = Self { frame: Digest(bytes), member: Some(member.parse().map_err(|_| ())?) };
        // Each has one name.
        if named.to_string() == text && member != "0" { Ok(named) } else { Err(()) }
    }
}

/// The Observations of a frame as searches find them, each under an id of its own, in the order of the frame; none for a heartbeat.
pub(crate) fn measurements(reading: &Reading, patient: &str, author: &OrgId) -> Result<Vec<Row>, Failure> {
    let all = observations_of(reading);
    let single = all.len() == 1;
    let named = |number: u16| Named { frame: reading.digest, member: (!single).then_some(number) };
    (1..).zip(all).map(|(number, one)| as_row(&one, named(number), reading, patient, author)).collect()
}

/// What a frame says whose signature or batch does not hold: to judge who may hear of it, and for nothing else.
pub(crate) fn unverified(frame: Frame, row: &store::Frame, patient: &str, author: &OrgId) -> Result<Vec<Row>, Failure> {
    let (digest, signature) = (frame.digest(), *frame.signature());
    let pack = frame.into_pack();
    let reading = Reading {
        device: pack.device,
        patient: format!("Patient/{patient}"),
        binding: row.binding,
        counter: pack.counter,
        gap: None,
        measured_at: pack.device_time,
        received_at: row.received_at,
        clock_offset_ms: 0,
        clock_step_back_ms: 0,
        digest,
        previous: pack.previous,
        signature,
        signals: pack.signals,
        doubts: Vec::new(),
    };
    measurements(&reading, patient, author)
}

/// An Observation in the form of the records that are stored.
fn as_row(observation: &Value, named: Named, reading: &Reading, patient: &str, author: &OrgId) -> Result<Row, Failure> {
    let id = named.to_string();
    let bytes = parse(observation)?.stamped(&id, 1, reading.received_at);
    Ok(Row {
        rtype: "Observation".to_owned(),
        id,
        version: 1,
        bytes,
        // The ledger has the frame, and no record of it.
        salt: reading.digest,
        tag: RecordTag(reading.digest),
        pseudonym: None,
        patient: Some(patient.to_owned()),
        author: author.clone(),
        entry: reading.binding,
        written_at: reading.received_at,
        deleted: false,
        label: "N".to_owned(),
        gathered: None,
    })
}

fn observations_of(reading: &Reading) -> Vec<Value> {
    let device = device_id(&reading.device).map(|id| format!("Device/{id}"));
    let uri = format!("/fhir/Observation/{}", reading.digest);
    let context = observation::Context { frame_uri: &uri, patient_display: None, device_reference: device.as_deref() };
    observation::observations(reading, &context)
}

/// One Observation for a frame: the first measurement, with the others contained as its members. None for a heartbeat.
fn as_observation(reading: &Reading) -> Option<Value> {
    let mut all = observations_of(reading).into_iter();
    let mut first = all.next()?;
    let mut contained: Vec<Value> = all.collect();
    if !contained.is_empty() {
        let mut members = Vec::with_capacity(contained.len());
        for (number, member) in (1..).zip(&mut contained) {
            member["id"] = format!("m{number}").into();
            members.push(json!({"reference": format!("#m{number}")}));
        }
        first["contained"] = contained.into();
        first["hasMember"] = members.into();
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sensing::{
        Sequence, SigningKey,
        generated::{Story, Wearer},
    };

    fn binding(key: &SigningKey) -> Binding {
        Binding {
            device: crate::device_name("d1").unwrap(),
            key: key.verifying_key(),
            patient: "Patient/p1".into(),
            binding: Id16([3; 16]),
            from: TimeMs(0),
            until: None,
        }
    }

    #[test]
    fn a_frame_of_every_sensor_is_one_valid_observation() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let binding = binding(&key);
        let at = TimeMs::from_instant("2026-11-21T10:00:00.000Z").unwrap();
        let mut sequence = Sequence::new(binding.device.clone(), key);
        let signals = Wearer::new(1, Story::Stable, 250).next_second().signals;
        let frame = sequence.next(at, signals).unwrap();
        let reading = read(frame, &binding, at).unwrap();
        let shown = as_observation(&reading).unwrap();
        let resource = parse(&shown).unwrap();
        assert_eq!(resource.patient_reference().as_deref(), Some("Patient/p1"));
        assert_eq!(shown["device"]["reference"], "Device/d1");
        let members = shown["hasMember"].as_array().unwrap().len();
        assert_eq!(shown["contained"].as_array().unwrap().len(), members);
        assert!(members > 5, "{members}");
    }

    #[test]
    fn a_measurement_is_read_by_the_name_that_it_has_and_by_no_other() {
        for (frame, member) in [([0; 32], 1), ([0xff; 32], 65_535), (record::sha256(&[b"frame"]).0, 7)] {
            let whole = Named { frame: Digest(frame), member: None };
            let one = Named { member: Some(member), ..whole };
            for named in [whole, one] {
                let text = named.to_string();
                assert!(record::fhir::is_id(&text), "{text}");
                assert_eq!(text.parse(), Ok(named));
            }
            let text = one.to_string();
            let (digits, number) = text.split_once('.').unwrap();
            for wrong in [
                format!("{digits}.0{number}"),
                format!("{digits}.0"),
                format!("{digits}.65536"),
                format!("{digits}.+1"),
                format!("{digits}a.{number}"),
                format!("{}.{number}", &digits[1..]),
                format!("{}b.{number}", &digits[..51]),
                format!("{}.{number}", digits.to_uppercase()),
                digits.to_owned(),
                String::new(),
            ] {
                assert_eq!(wrong.parse::<Named>(), Err(()), "{wrong}");
            }
        }
        let key = SigningKey::from_bytes(&[7; 32]);
        let binding = binding(&key);
        let at = TimeMs::from_instant("2026-11-21T10:00:00.000Z").unwrap();
        let signals = Wearer::new(1, Story::Stable, 250).next_second().signals;
        let frame = Sequence::new(binding.device.clone(), key).next(at, signals).unwrap();
        let reading = read(frame, &binding, at).unwrap();
        let all = measurements(&reading, "p1", &"mercy".parse().unwrap()).unwrap();
        assert_eq!(all.len(), as_observation(&reading).unwrap()["contained"].as_array().unwrap().len() + 1);
        for (number, row) in (1..).zip(&all) {
            assert_eq!(row.id.parse(), Ok(Named { frame: reading.digest, member: Some(number) }));
        }
    }

    #[test]
    fn a_heartbeat_is_no_observation() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let binding = binding(&key);
        let at = TimeMs::from_instant("2026-11-21T10:00:00.000Z").unwrap();
        let frame = Sequence::new(binding.device.clone(), key).next(at, Vec::new()).unwrap();
        assert_eq!(as_observation(&read(frame, &binding, at).unwrap()), None);
    }

    #[test]
    fn a_frame_of_another_key_is_not_read() {
        let binding = binding(&SigningKey::from_bytes(&[7; 32]));
        let at = TimeMs::from_instant("2026-11-21T10:00:00.000Z").unwrap();
        let thief = SigningKey::from_bytes(&[8; 32]);
        let frame = Sequence::new(binding.device.clone(), thief).next(at, Vec::new()).unwrap();
        assert!(read(frame, &binding, at).is_none());
    }
}

//! Final blocks into the mirror's file.

use super::{FinalBlock, FinalEntry, FinalVersion, signed};
use contract::{Body, Entry};
use record::{Id16, RecordType};
use rusqlite::{Connection, params};

/// Adds a block, and its versions to `versions`.
pub(super) fn block(c: &Connection, block: &FinalBlock, versions: &mut Vec<FinalVersion>) -> rusqlite::Result<()> {
    c.prepare_cached("INSERT INTO block (height, time, digest, entries) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        signed(block.height),
        signed(block.time.0),
        block.digest.as_ref(),
        block.entries.len() as i64
    ])?;
    for (entry, place) in &block.entries {
        c.prepare_cached(
            "INSERT INTO entry (idx, height, time, digest, bytes, org, lane, seq, refused, kind, id, patient, about)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            signed(place.index),
            signed(place.height),
            signed(place.time.0),
            place.digest.as_ref(),
            place.bytes,
            entry.org.as_str(),
            place.lane,
            signed(place.seq),
            place.refused,
            entry.kind(),
            entry.id.as_ref(),
            entry.patient.as_ref().map(|p| p.0.as_ref().to_vec()),
            about(entry).map(|id| id.as_ref().to_vec()),
        ])?;
        if place.refused == 0 {
            if let Body::Accesses { count, .. } = entry.body {
                insert_gathered(c, entry, place, count)?;
            }
            versions.extend(insert_version(c, entry, place)?);
        }
    }
    Ok(())
}

/// Adds an entry of several accesses; one that has the id of an earlier one of its organisation is kept apart, as nobody could say whose the
/// rows are that name it.
fn insert_gathered(c: &Connection, entry: &Entry, place: &FinalEntry, count: u32) -> rusqlite::Result<()> {
    let named_before = "SELECT 1 FROM entry WHERE id = ?1 AND org = ?2 AND refused = 0 AND idx < ?3";
    let index = signed(place.index);
    if c.prepare_cached(named_before)?.exists(params![entry.id.as_ref(), entry.org.as_str(), index])? {
        c.prepare_cached("INSERT INTO repeated (idx) VALUES (?1)")?.execute([index])?;
        return Ok(());
    }
    let patient = entry.patient.as_ref().map(|p| p.0.as_ref().to_vec());
    c.prepare_cached("INSERT INTO gathered (idx, patient, count) VALUES (?1, ?2, ?3)")?
        .execute(params![index, patient, count])?;
    Ok(())
}

/// The id of what an entry is about, where that has one.
fn about(entry: &Entry) -> Option<Id16> {
    match &entry.body {
        Body::Grant { id, .. }
        | Body::Override { id, .. }
        | Body::Alarm { id, .. }
        | Body::Handoff { id, .. }
        | Body::Claim { id, .. }
        | Body::Investigation { id, .. }
        | Body::Custody { id, .. } => Some(*id),
        Body::Batch { binding, .. } | Body::Disposal { binding, .. } => Some(*binding),
        _ => None,
    }
}

/// Adds the version that an applied entry commits to, if it does.
fn insert_version(c: &Connection, entry: &Entry, place: &FinalEntry) -> rusqlite::Result<Option<FinalVersion>> {
    let (tag, version, commitment, record_type, deleted, fhir_type, attachments) = match &entry.body {
        Body::Record { tag, kind, version, commitment, deleted, codes, attachments, .. } => {
            let fhir_type = codes.iter().find(|code| code.system == "fhir-type").map(|code| code.code.as_str());
            (tag, *version, commitment, *kind, *deleted, fhir_type, attachments.as_slice())
        }
        Body::Access { audit, commitment, .. } => {
            (audit, 1, commitment, RecordType::Permission, false, Some("AuditEvent"), [].as_slice())
        }
        _ => return Ok(None),
    };
    let attached = |kind| attachments.iter().find(|a| a.kind == kind).map(|a| a.digest);
    let version = FinalVersion {
        tag: *tag,
        version,
        commitment: *commitment,
        org: entry.org.clone(),
        record_type,
        deleted,
        patient: entry.patient,
        time: place.time,
        entry: entry.id,
        fhir_type: fhir_type.map(str::to_owned),
        copy: attached(contract::AttachmentKind::EssentialCopy),
        wrapped_key: attached(contract::AttachmentKind::WrappedKey),
    };
    // The contract lets no version of a record in twice. Of accesses that name one audit event the first counts.
    let twice = if tag.is_audit() { "ON CONFLICT (tag, version) DO NOTHING" } else { "" };
    let new = c.prepare_cached(&format!(
        "INSERT INTO version (tag, version, commitment, org, idx, record_type, deleted, patient, time, entry_id, fhir_type, copy, wrapped_key)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) {twice}",
    ))?
    .execute(params![
        version.tag.0.as_ref(),
        signed(version.version),
        version.commitment.0.as_ref(),
        version.org.as_str(),
        signed(place.index),
        version.record_type as u8,
        version.deleted,
        version.patient.as_ref().map(|p| p.0.as_ref().to_vec()),
        signed(version.time.0),
        version.entry.as_ref(),
        version.fhir_type,
        version.copy.as_ref().map(|digest| digest.as_ref().to_vec()),
        version.wrapped_key.as_ref().map(|digest| digest.as_ref().to_vec()),
    ])?;
    if new == 0 {
        c.prepare_cached("INSERT INTO repeated (idx) VALUES (?1)")?.execute([signed(place.index)])?;
        return Ok(None);
    }
    Ok(Some(version))
}

#[cfg(test)]
mod tests {
    use super::super::Mirror;
    use super::*;
    use crate::sample;
    use record::{Commitment, OrgId, RecordTag, TimeMs, sha256};

    /// An access by that organisation, at that index of the log, that gives `audit` with these bytes for its audit event.
    fn access(org: &str, index: u64, audit: RecordTag, bytes: &[u8]) -> (Entry, FinalEntry) {
        let entry = sample::access(&org.parse().unwrap(), Id16(u128::from(index).to_be_bytes()), audit, bytes);
        let (digest, bytes) = (entry.digest(), entry.to_bytes());
        let place =
            FinalEntry { index, height: 1, time: TimeMs(2000), digest, bytes, lane: 0, seq: index + 1, refused: 0 };
        (entry, place)
    }

    #[tokio::test]
    async fn of_accesses_that_name_one_audit_event_the_first_counts_and_the_others_are_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirror::open(&folder.path().join("mirror.db")).unwrap();
        let [mercy, rescue] = ["mercy", "rescue"].map(|org| org.parse::<OrgId>().unwrap());
        let (one, other) =
            (RecordTag(sha256(&[b"one"])).of_audit(&mercy), RecordTag(sha256(&[b"one"])).of_audit(&rescue));
        let entries = vec![
            access("mercy", 0, one, b"first"),
            access("mercy", 1, one, b"second"),
            access("rescue", 2, other, b"its own"),
        ];
        let block = FinalBlock { height: 1, time: TimeMs(2000), digest: sha256(&[b"block"]), entries };
        mirror.inner.extend(&[block]).unwrap();
        let counts = mirror.version(one, 1).await.unwrap().unwrap();
        assert_eq!((counts.org.as_str(), counts.commitment), ("mercy", Commitment(sha256(&[b"first"]))));
        assert_eq!(mirror.version(other, 1).await.unwrap().unwrap().org.as_str(), "rescue");
        let repeated = mirror.repeated().await.unwrap();
        assert_eq!(repeated.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1]);
        let first = Id16(0u128.to_be_bytes());
        assert_eq!(mirror.entry(first, &mercy).await.unwrap().unwrap().index, 0);
        assert_eq!(mirror.entry(first, &rescue).await.unwrap(), None, "another organisation's entry of that id");
    }

    /// The entry of two accesses under that id, by that organisation, at that index of the log.
    fn accesses(org: &str, id: u8, index: u64) -> (Entry, FinalEntry) {
        let (alone, place) = access(org, index, RecordTag(sha256(&[b"any"])), b"any");
        let body = Body::Accesses { root: sha256(&[&index.to_be_bytes()]), count: 2, ms: 0 };
        let entry = Entry { id: Id16([id; 16]), body, ..alone };
        let (digest, bytes) = (entry.digest(), entry.to_bytes());
        (entry, FinalEntry { digest, bytes, ..place })
    }

    /// Rows name the entry that opens them by its id. Under the same id again an organisation could have an entry of accesses whose audit
    /// events it never wrote, and the rows of the first one would have counted for both.
    #[tokio::test]
    async fn an_entry_of_several_accesses_under_the_id_of_an_earlier_one_is_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirror::open(&folder.path().join("mirror.db")).unwrap();
        let entries = vec![accesses("mercy", 1, 0), accesses("mercy", 1, 1), accesses("rescue", 1, 2)];
        let block = FinalBlock { height: 1, time: TimeMs(2000), digest: sha256(&[b"block"]), entries };
        mirror.inner.extend(&[block]).unwrap();
        let counted = mirror.gathered(0, u64::MAX, 10).await.unwrap();
        let counted: Vec<_> = counted.iter().map(|one| (one.index, one.org.as_str(), one.count)).collect();
        assert_eq!(counted, [(0, "mercy", 2), (2, "rescue", 2)]);
        let repeated = mirror.repeated().await.unwrap();
        assert_eq!(repeated.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1]);
    }
}

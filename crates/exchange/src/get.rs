//! What a GET in a Bundle asks for: the reads, histories, searches and operations that the doors of FHIR offer by themselves.

use crate::{
    caller::Caller,
    etag::names_version,
    failure::Failure,
    find::{Handling, Within},
    ingest::Shown,
    node::Node,
};
use record::fhir::{self, EntryAnswer, IssueType};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of what one Bundle reads after which no further entry of it is answered.
const SHOWN_BYTES_MAX: usize = 64 << 20;

/// The path of a relative URL in its parts, and its query.
fn parts(url: &str) -> (Vec<&str>, &str) {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    (path.split('/').filter(|part| !part.is_empty()).collect(), query)
}

impl Node {
    /// Answers a GET of a batch, or of a transaction that only reads, as the door of the same address would. `shown` counts the bytes of
    /// all answers of the Bundle.
    pub(crate) async fn got(
        &self,
        caller: &Caller,
        entry: &fhir::Entry,
        shown: &AtomicUsize,
    ) -> Result<EntryAnswer, Failure> {
        if shown.load(Ordering::Relaxed) >= SHOWN_BYTES_MAX {
            let text = format!(
                "what this Bundle reads has more than {SHOWN_BYTES_MAX} bytes: ask for the entries from here on in another"
            );
            return Err(Failure::TooLarge(text));
        }
        let answer = self.got_one(caller, entry).await?;
        shown.fetch_add(answer.resource.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
        Ok(answer)
    }

    async fn got_one(&self, caller: &Caller, entry: &fhir::Entry) -> Result<EntryAnswer, Failure> {
        let (path, query) = parts(&entry.url);
        let found = match path.as_slice() {
            [] => self.search_all(caller, query, Handling::Strict).await?,
            ["_history"] => self.history_of(caller, None, query).await?,
            [rtype] if is_type(rtype) => self.search(caller, rtype, query, Handling::Strict).await?,
            [rtype, "_history"] => self.history_of(caller, Some(rtype), query).await?,
            ["Observation", "$lastn"] => self.lastn(caller, query, Handling::Strict).await?,
            [rtype, id] if is_type(rtype) && !id.starts_with('$') => {
                return Ok(read(self.read(caller, rtype, id, None).await?, entry));
            }
            ["Patient", id, "$everything"] => self.everything(caller, id, query).await?,
            ["Patient", id, "$summary"] => self.summary(caller, id).await?,
            [rtype, id, "_history"] => self.history(caller, rtype, id, query).await?,
            [rtype, id, "_history", version] => {
                let none = || Failure::NotFound(format!("{rtype}/{id}/_history/{version}"));
                let version = version.parse().map_err(|_| none())?;
                return Ok(read(self.read(caller, rtype, id, Some(version)).await?, entry));
            }
            [rtype, id, sought] if is_type(rtype) && !sought.starts_with('$') => {
                let within = Within { rtype: (*rtype).to_owned(), id: (*id).to_owned() };
                self.search_of(caller, &within, sought, query, Handling::Strict).await?
            }
            _ => {
                let text = "nothing is read at this address in a Bundle: read a record, a version, a history, a search, `$everything`, \
                            `$summary` or `$lastn`, or ask for it by itself";
                let place = format!("{}.request.url", entry.expression());
                return Err(Failure::invalid(IssueType::NotSupported, &place, text));
            }
        };
        Ok(EntryAnswer { status: 200, resource: Some(found), ..EntryAnswer::default() })
    }
}

fn is_type(name: &str) -> bool {
    name.parse::<fhir::ResourceType>().is_ok()
}

/// A record, or that the caller has this version of it.
fn read(shown: Shown, entry: &fhir::Entry) -> EntryAnswer {
    let has_it = entry.if_none_match.as_deref().is_some_and(|known| names_version(known, shown.version));
    EntryAnswer {
        status: if has_it { 304 } else { 200 },
        version: Some(shown.version),
        last_modified: Some(shown.written_at),
        resource: (!has_it).then_some(shown.bytes),
        ..EntryAnswer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_parts_and_its_query() {
        assert_eq!(parts("?_type=Condition"), (vec![], "_type=Condition"));
        assert_eq!(parts("/Patient/a/_history/2"), (vec!["Patient", "a", "_history", "2"], ""));
        assert_eq!(parts("Patient/a/*?_count=2"), (vec!["Patient", "a", "*"], "_count=2"));
    }
}

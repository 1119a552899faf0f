//! `Patient/$summary`: an International Patient Summary, made so that what is missing never reads as «none».
//!
//! Source: HL7 International Patient Summary 2.0, `Bundle-uv-ips` and `Composition-uv-ips`. What goes in is chosen, verified and
//! ordered by the caller; here it is arranged into sections and written out. The same input always gives the same bytes.

use super::{
    Resource,
    answer::{Document, Writer},
    audit_event::{Party, concept},
    codes::{self, Code},
    json::Node,
    narrative::push_escaped,
};
use crate::TimeMs;
use std::{borrow::Cow, collections::HashSet};

/// A section of the summary, in the order in which they stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Alerts: Flags.
    Alerts,
    /// Allergies and intolerances. Always there.
    Allergies,
    /// Medications in use. Always there.
    Medications,
    /// Current problems. Always there.
    Problems,
    /// Immunizations.
    Immunizations,
    /// Procedures.
    Procedures,
    /// Results of diagnostic tests.
    Results,
    /// Vital signs.
    VitalSigns,
    /// Problems of the past.
    PastProblems,
}

impl Section {
    /// Every section, in order.
    pub const ALL: [Self; 9] = [
        Self::Alerts,
        Self::Allergies,
        Self::Medications,
        Self::Problems,
        Self::Immunizations,
        Self::Procedures,
        Self::Results,
        Self::VitalSigns,
        Self::PastProblems,
    ];

    /// Its code.
    pub fn code(self) -> Code {
        match self {
            Self::Alerts => codes::ALERTS,
            Self::Allergies => codes::ALLERGIES,
            Self::Medications => codes::MEDICATIONS,
            Self::Problems => codes::PROBLEMS,
            Self::Immunizations => codes::IMMUNIZATIONS,
            Self::Procedures => codes::PROCEDURES,
            Self::Results => codes::RESULTS,
            Self::VitalSigns => codes::VITAL_SIGNS,
            Self::PastProblems => codes::PAST_PROBLEMS,
        }
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Alerts => "Alerts",
            Self::Allergies => "Allergies and Intolerances",
            Self::Medications => "Medications",
            Self::Problems => "Problems",
            Self::Immunizations => "Immunizations",
            Self::Procedures => "Procedures",
            Self::Results => "Results",
            Self::VitalSigns => "Vital Signs",
            Self::PastProblems => "Past Problems",
        }
    }

    /// Whether a summary has it even when it is empty.
    pub fn is_required(self) -> bool {
        matches!(self, Self::Allergies | Self::Medications | Self::Problems)
    }

    /// The section that a record belongs in; none for what is not listed: records entered in error, medications no longer
    /// taken, and types such as Medication or Organization, which only support others.
    pub fn of(resource: &Resource) -> Option<Self> {
        let root = resource.root();
        let status = text_at(root, &["status"]);
        let verification = code_at(root, "verificationStatus");
        if status.as_deref() == Some("entered-in-error") || verification.as_deref() == Some("entered-in-error") {
            return None;
        }
        match resource.rtype().as_str() {
            "Flag" if status.as_deref() == Some("active") => Some(Self::Alerts),
            // Also those that are over: an allergy may come back.
            "AllergyIntolerance" => Some(Self::Allergies),
            "MedicationRequest" | "MedicationStatement" => match status.as_deref() {
                Some("stopped" | "completed" | "cancelled" | "not-taken" | "draft") => None,
                _ => Some(Self::Medications),
            },
            "Condition" if verification.as_deref() == Some("refuted") => None,
            "Condition" => match code_at(root, "clinicalStatus").as_deref() {
                Some("inactive" | "remission" | "resolved") => Some(Self::PastProblems),
                _ => Some(Self::Problems),
            },
            "Immunization" if status.as_deref() == Some("not-done") => None,
            "Immunization" => Some(Self::Immunizations),
            "Procedure" => match status.as_deref() {
                Some("not-done" | "preparation") => None,
                _ => Some(Self::Procedures),
            },
            "DiagnosticReport" => Some(Self::Results),
            "Observation" if has_category(root, "vital-signs") => Some(Self::VitalSigns),
            "Observation" if has_category(root, "laboratory") || has_category(root, "imaging") => Some(Self::Results),
            _ => None,
        }
    }
}

/// How much is known of a section. Without a word about it, a section is [`Completeness::Unavailable`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Completeness {
    /// All there is: an empty section means that nothing is known to exist.
    Complete,
    /// Something is left out that the reader may not see.
    Withheld,
    /// Something that should be there could not be had.
    #[default]
    Unavailable,
}

impl Completeness {
    /// Why the section is empty.
    fn empty_reason(self) -> Code {
        let reason = |code, display| Code { system: codes::LIST_EMPTY_REASON, code, display };
        match self {
            Self::Complete => reason("nilknown", "Nil Known"),
            Self::Withheld => reason("withheld", "Information Withheld"),
            Self::Unavailable => reason("unavailable", "Unavailable"),
        }
    }

    /// What to tell the reader of a section.
    fn note(self, empty: bool) -> Option<&'static str> {
        match (self, empty) {
            (Self::Complete, true) => Some("None known."),
            (Self::Complete, false) => None,
            (Self::Withheld, true) => Some("Withheld: there may be entries that you may not see."),
            (Self::Withheld, false) => Some("Not complete: some entries are withheld."),
            (Self::Unavailable, true) => Some("Unavailable: this does not mean that there is none."),
            (Self::Unavailable, false) => Some("Not complete: some entries could not be had."),
        }
    }
}

/// How far a record was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is what the ledger says.
    Verified,
    /// Signed by a member, not yet on the ledger.
    Pending,
    /// It could not be verified.
    Unverified,
}

impl Standing {
    fn note(self) -> Option<&'static str> {
        match self {
            Self::Verified => None,
            Self::Pending => Some("not yet confirmed"),
            Self::Unverified => Some("NOT VERIFIED"),
        }
    }
}

/// A record of the summary.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The record as stored, with its id.
    pub resource: &'a Resource,
    /// How far it was verified.
    pub standing: Standing,
}

/// What a summary is made of.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a> {
    /// Id of the Composition, and with `urn:uuid:` before it the document's identifier: a UUID, lower case.
    pub id: &'a str,
    /// When it was made.
    pub made_at: TimeMs,
    /// Where the records are: the URL before `/Patient/1`.
    pub base_url: &'a str,
    /// The Patient, with its id.
    pub patient: Listed<'a>,
    /// Who made it. Given by reference, its record belongs into `records`.
    pub author: Party<'a>,
    /// Who keeps the records.
    pub custodian: Option<Party<'a>>,
    /// The records, in the order in which each section lists them.
    pub records: &'a [Listed<'a>],
    /// How much is known of each section.
    pub completeness: &'a [(Section, Completeness)],
    /// What the reader must know first, such as «the ledger cannot be reached».
    pub warnings: &'a [&'a str],
}

/// Why no summary can be made. Ours: a stored record has an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SummaryError {
    /// A record that cannot be referred to.
    #[error("a {rtype} without an id cannot be in a summary")]
    NoId {
        /// Its type.
        rtype: &'static str,
    },
    /// Another type of record where the Patient belongs.
    #[error("a summary is of a Patient, not of a {rtype}")]
    NotAPatient {
        /// Its type.
        rtype: &'static str,
    },
}

impl Summary<'_> {
    /// The document Bundle.
    pub fn to_json(&self) -> Result<Vec<u8>, SummaryError> {
        let rtype = self.patient.resource.rtype();
        if rtype != "Patient" {
            return Err(SummaryError::NotAPatient { rtype: rtype.as_str() });
        }
        let mut entries = vec![(format!("{}/Composition/{}", self.base_url, self.id), self.composition()?)];
        let mut listed_urls = HashSet::new();
        for listed in std::iter::once(&self.patient).chain(self.records) {
            let full_url = format!("{}/{}", self.base_url, name(listed.resource)?);
            // A record may be given twice, as the author and as a supporting record; a document has it once.
            if listed_urls.insert(full_url.clone()) {
                entries.push((full_url, listed.resource.text().trim().as_bytes().to_vec()));
            }
        }
        let identifier = ("urn:ietf:rfc:3986".to_owned(), format!("urn:uuid:{}", self.id));
        let document = Document { identifier, timestamp: self.made_at, entries };
        Ok(document.to_json(Some(self.id), Some("http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips")))
    }

    fn completeness(&self, section: Section) -> Completeness {
        let said = self.completeness.iter().find(|(of, _)| *of == section);
        said.map_or_else(Completeness::default, |(_, completeness)| *completeness)
    }

    fn composition(&self) -> Result<Vec<u8>, SummaryError> {
        let subject = name(self.patient.resource)?;
        let mut sections: Vec<(Section, Vec<(String, &Listed<'_>)>)> = Vec::new();
        for section in Section::ALL {
            let mut entries = Vec::new();
            for listed in self.records.iter().filter(|listed| Section::of(listed.resource) == Some(section)) {
                entries.push((name(listed.resource)?, listed));
            }
            // An optional section that is known to be empty says nothing; one that only seems empty has to be shown.
            let told = self.completeness.iter().any(|(of, how)| *of == section && *how != Completeness::Complete);
            if section.is_required() || told || !entries.is_empty() {
                sections.push((section, entries));
            }
        }
        let mut out = Writer::with_capacity(4096);
        out.item(|out| {
            out.string("resourceType", "Composition");
            out.string("id", self.id);
            out.object("meta", |out| {
                out.strings("profile", ["http://hl7.org/fhir/uv/ips/StructureDefinition/Composition-uv-ips"]);
            });
            narrative(out, &self.head());
            out.string("status", "final");
            concept(out, "type", codes::PATIENT_SUMMARY);
            out.object("subject", |out| out.string("reference", &subject));
            out.string("date", &self.made_at.to_instant());
            out.array("author", [self.author], |out, author| author.write_item(out));
            out.string("title", "Patient Summary");
            let strictest = self.records.iter().map(|listed| listed.resource.confidentiality()).max();
            out.string("confidentiality", strictest.unwrap_or(super::Confidentiality::Normal).code());
            if let Some(custodian) = self.custodian {
                custodian.write(out, "custodian");
            }
            out.array("section", &sections, |out, (section, entries)| {
                out.item(|out| self.section(out, *section, entries));
            });
        });
        Ok(out.finish())
    }

    fn section(&self, out: &mut Writer, section: Section, entries: &[(String, &Listed<'_>)]) {
        let completeness = self.completeness(section);
        out.string("title", section.title());
        concept(out, "code", section.code());
        let mut text = String::new();
        if let Some(note) = completeness.note(entries.is_empty()) {
            paragraph(&mut text, note);
        }
        if !entries.is_empty() {
            text.push_str("<ul>");
            for (_, listed) in entries {
                text.push_str("<li>");
                push_escaped(&mut text, &line(listed));
                text.push_str("</li>");
            }
            text.push_str("</ul>");
        }
        narrative(out, &text);
        out.array("entry", entries, |out, (name, _)| out.item(|out| out.string("reference", name)));
        if entries.is_empty() {
            concept(out, "emptyReason", completeness.empty_reason());
        }
    }

    /// The narrative of the whole: warnings first, then who it is about.
    fn head(&self) -> String {
        let mut text = String::new();
        for warning in self.warnings {
            paragraph(&mut text, &format!("WARNING: {warning}"));
        }
        let root = self.patient.resource.root();
        let mut who = vec![person_name(root).unwrap_or_else(|| "Name unknown".to_owned())];
        who.extend(text_at(root, &["gender"]).map(Cow::into_owned));
        who.extend(text_at(root, &["birthDate"]).map(|born| format!("born {born}")));
        who.extend(text_at(root, &["deceasedDateTime"]).map(|died| format!("died {died}")));
        who.extend(self.patient.standing.note().map(str::to_owned));
        paragraph(&mut text, &who.join(", "));
        text
    }
}

fn paragraph(text: &mut String, inner: &str) {
    text.push_str("<p>");
    push_escaped(text, inner);
    text.push_str("</p>");
}

fn narrative(out: &mut Writer, inner: &str) {
    out.object("text", |out| {
        out.string("status", "generated");
        out.string("div", &format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div>"));
    });
}

/// `Type/id`.
fn name(resource: &Resource) -> Result<String, SummaryError> {
    let rtype = resource.rtype().as_str();
    resource.id().map(|id| format!("{rtype}/{id}")).ok_or(SummaryError::NoId { rtype })
}

/// One record in one line: what, how much, how bad, since when, and how sure.
fn line(listed: &Listed<'_>) -> String {
    let root = listed.resource.root();
    let what = ["code", "vaccineCode", "medicationCodeableConcept"].iter().find_map(|key| concept_text(root.get(key)?));
    let what =
        what.or_else(|| root.path(&["medicationReference", "display"]).and_then(Node::as_str).map(Cow::into_owned));
    let mut parts = vec![what.unwrap_or_else(|| "no description".to_owned())];
    parts.extend(value_text(root));
    parts.extend(root.get("dosageInstruction").or(root.get("dosage")).and_then(dosage_text));
    parts.extend(text_at(root, &["criticality"]).map(|criticality| format!("criticality {criticality}")));
    for reaction in root.get("reaction").into_iter().flat_map(Node::items) {
        let shown = reaction.get("manifestation").into_iter().flat_map(Node::items).filter_map(concept_text);
        parts.extend(shown.map(|manifestation| format!("reaction: {manifestation}")));
    }
    parts.extend(code_at(root, "clinicalStatus").or_else(|| text_at(root, &["status"]).map(Cow::into_owned)));
    parts.extend(code_at(root, "verificationStatus").filter(|code| code != "confirmed"));
    parts.extend(when(root).map(Cow::into_owned));
    parts.extend(listed.standing.note().map(str::to_owned));
    parts.join(", ")
}

/// The first of the times that say when it was, or began.
fn when(root: Node<'_>) -> Option<Cow<'_, str>> {
    let direct = [
        "onsetDateTime",
        "effectiveDateTime",
        "performedDateTime",
        "occurrenceDateTime",
        "occurrenceString",
        "authoredOn",
        "recordedDate",
    ];
    let periods = ["onsetPeriod", "effectivePeriod", "performedPeriod", "period"];
    direct
        .iter()
        .find_map(|key| text_at(root, &[key]))
        .or_else(|| periods.iter().find_map(|key| text_at(root, &[key, "start"])))
}

/// The value of an Observation, and of its components, digits as they are stored.
fn value_text(root: Node<'_>) -> Option<String> {
    let own = root.get("valueQuantity").and_then(quantity_text).or_else(|| {
        let text = root.get("valueString").and_then(Node::as_str).map(Cow::into_owned);
        text.or_else(|| root.get("valueCodeableConcept").and_then(concept_text))
    });
    let components = root.get("component").into_iter().flat_map(Node::items).filter_map(|component| {
        let what = component.get("code").and_then(concept_text)?;
        Some(format!("{what} {}", component.get("valueQuantity").and_then(quantity_text)?))
    });
    let all: Vec<String> = own.into_iter().chain(components).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn quantity_text(quantity: Node<'_>) -> Option<String> {
    let comparator = text_at(quantity, &["comparator"]).unwrap_or_default();
    let unit = text_at(quantity, &["unit"]).or_else(|| text_at(quantity, &["code"])).unwrap_or_default();
    let number = quantity.get("value")?.raw();
    Some(format!("{comparator}{number} {unit}").trim_end().to_owned())
}

fn dosage_text(dosages: Node<'_>) -> Option<String> {
    let texts: Vec<_> = dosages.items().filter_map(|dosage| text_at(dosage, &["text"])).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// The text of a CodeableConcept, else what its first codings are called, else a code.
fn concept_text(concept: Node<'_>) -> Option<String> {
    let codings = || concept.get("coding").into_iter().flat_map(Node::items);
    let text = text_at(concept, &["text"]);
    let text = text.or_else(|| codings().find_map(|coding| text_at(coding, &["display"])));
    text.or_else(|| codings().find_map(|coding| text_at(coding, &["code"]))).map(Cow::into_owned)
}

fn person_name(patient: Node<'_>) -> Option<String> {
    let name = patient.get("name")?.items().next()?;
    if let Some(text) = text_at(name, &["text"]) {
        return Some(text.into_owned());
    }
    let given = name.get("given").into_iter().flat_map(Node::items).filter_map(Node::as_str);
    let parts: Vec<_> = given.chain(text_at(name, &["family"])).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn text_at<'a>(node: Node<'a>, keys: &[&str]) -> Option<Cow<'a, str>> {
    node.path(keys).and_then(Node::as_str)
}

/// The first code of a CodeableConcept.
fn code_at(node: Node<'_>, key: &str) -> Option<String> {
    let codings = node.path(&[key, "coding"])?;
    codings.items().find_map(|coding| text_at(coding, &["code"])).map(Cow::into_owned)
}

fn has_category(root: Node<'_>, code: &str) -> bool {
    let categories = root.get("category").into_iter().flat_map(Node::each);
    let mut codings = categories.filter_map(|category| category.get("coding")).flat_map(Node::items);
    codings.any(|coding| text_at(coding, &["code"]).is_some_and(|found| found == code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::{Limits, check};
    use expect_test::{Expect, expect};

    fn resource(text: &str) -> Resource {
        let resource = Resource::parse(text.as_bytes(), Limits::RESOURCE).unwrap();
        assert_eq!(check(&resource), Ok(()), "{text}");
        resource
    }

    /// What a summary of these records says: one line per section.
    fn said(records: &[(&str, Standing)], completeness: &[(Section, Completeness)], warnings: &[&str]) -> String {
        let patient = resource(
            r#"{"resourceType":"Patient","id":"p","name":[{"given":["A<b>"],"family":"C"}],"gender":"female"}"#,
        );
        let resources: Vec<_> = records.iter().map(|(text, standing)| (resource(text), *standing)).collect();
        let listed: Vec<_> =
            resources.iter().map(|(resource, standing)| Listed { resource, standing: *standing }).collect();
        let summary = Summary {
            id: "28b95815-76ce-457b-b7ae-a972e527db40",
            made_at: TimeMs(1_795_255_530_123),
            base_url: "https://ems.example/fhir",
            patient: Listed { resource: &patient, standing: Standing::Verified },
            author: Party { display: Some("EMS"), ..Party::default() },
            custodian: None,
            records: &listed,
            completeness,
            warnings,
        };
        let bytes = summary.to_json().unwrap();
        assert_eq!(bytes, summary.to_json().unwrap(), "the same bytes every time");
        let bundle = Resource::parse(&bytes, Limits::BUNDLE).unwrap();
        assert_eq!(check(&bundle), Ok(()));
        let entries = bundle.root().get("entry").unwrap();
        let urls: Vec<_> = entries.items().map(|entry| entry.get("fullUrl").unwrap().as_str().unwrap()).collect();
        let composition = entries.items().next().unwrap().get("resource").unwrap();
        for entry in
            composition.get("section").unwrap().items().filter_map(|section| section.get("entry")).flat_map(Node::items)
        {
            let url = format!("https://ems.example/fhir/{}", entry.get("reference").unwrap().as_str().unwrap());
            assert!(urls.contains(&url.as_str().into()), "{url} is in the document");
        }
        let plain = |of: Node<'_>| {
            let div = of.path(&["text", "div"]).unwrap().as_str().unwrap().into_owned();
            div.replace("<div xmlns=\"http://www.w3.org/1999/xhtml\">", "").replace("</div>", "")
        };
        let mut out = format!("{}\n", plain(composition));
        for section in composition.get("section").unwrap().items() {
            let reason = section
                .get("emptyReason")
                .and_then(|reason| reason.get("coding")?.items().next()?.get("code")?.as_str());
            let reason = reason.map(|reason| format!(" [{reason}]")).unwrap_or_default();
            out.push_str(&format!("{}{reason}: {}\n", section.get("title").unwrap().as_str().unwrap(), plain(section)));
        }
        out
    }

    fn check_summary(
        records: &[(&str, Standing)],
        completeness: &[(Section, Completeness)],
        warnings: &[&str],
        expected: Expect,
    ) {
        expected.assert_eq(&said(records, completeness, warnings));
    }

    const LATEX: &str = r#"{"resourceType":"AllergyIntolerance","id":"a","clinicalStatus":{"coding":[{"code":"active"}]},"criticality":"high","code":{"text":"Latex & <rubber>"},"patient":{"reference":"Patient/p"},"reaction":[{"manifestation":[{"text":"anaphylaxis"}]}]}"#;
    const PRESSURE: &str = r#"{"resourceType":"Observation","id":"o","status":"final","category":[{"coding":[{"code":"vital-signs"}]}],"code":{"text":"Blood pressure"},"subject":{"reference":"Patient/p"},"effectiveDateTime":"2026-11-21T10:15:30Z","component":[{"code":{"text":"systolic"},"valueQuantity":{"value":131.10,"unit":"mm[Hg]"}}]}"#;

    #[test]
    fn nothing_known_withheld_and_unavailable_are_told_apart() {
        let completeness =
            [(Section::Medications, Completeness::Complete), (Section::Problems, Completeness::Withheld)];
        check_summary(
            &[],
            &completeness,
            &[],
            expect![[r#"
            <p>A&lt;b&gt; C, female</p>
            Allergies and Intolerances [unavailable]: <p>Unavailable: this does not mean that there is none.</p>
            Medications [nilknown]: <p>None known.</p>
            Problems [withheld]: <p>Withheld: there may be entries that you may not see.</p>
        "#]],
        );
    }

    #[test]
    fn records_are_listed_with_how_sure_they_are() {
        let complete = Section::ALL.map(|section| (section, Completeness::Complete));
        check_summary(
            &[(LATEX, Standing::Pending), (PRESSURE, Standing::Unverified)],
            &complete,
            &["the ledger cannot be reached"],
            expect![[r#"
                <p>WARNING: the ledger cannot be reached</p><p>A&lt;b&gt; C, female</p>
                Allergies and Intolerances: <ul><li>Latex &amp; &lt;rubber&gt;, criticality high, reaction: anaphylaxis, active, not yet confirmed</li></ul>
                Medications [nilknown]: <p>None known.</p>
                Problems [nilknown]: <p>None known.</p>
                Vital Signs: <ul><li>Blood pressure, systolic 131.10 mm[Hg], final, 2026-11-21T10:15:30Z, NOT VERIFIED</li></ul>
            "#]],
        );
    }

    #[test]
    fn a_section_with_entries_says_when_others_are_missing() {
        let completeness =
            [(Section::Allergies, Completeness::Withheld), (Section::Immunizations, Completeness::Unavailable)];
        check_summary(
            &[(LATEX, Standing::Verified)],
            &completeness,
            &[],
            expect![[r#"
            <p>A&lt;b&gt; C, female</p>
            Allergies and Intolerances: <p>Not complete: some entries are withheld.</p><ul><li>Latex &amp; &lt;rubber&gt;, criticality high, reaction: anaphylaxis, active</li></ul>
            Medications [unavailable]: <p>Unavailable: this does not mean that there is none.</p>
            Problems [unavailable]: <p>Unavailable: this does not mean that there is none.</p>
            Immunizations [unavailable]: <p>Unavailable: this does not mean that there is none.</p>
        "#]],
        );
    }

    #[test]
    fn what_is_over_or_wrong_is_not_listed_as_current() {
        let cases = [
            (
                r#"{"resourceType":"MedicationRequest","status":"stopped","intent":"order","subject":{"reference":"Patient/p"},"medicationCodeableConcept":{"text":"a"}}"#,
                None,
            ),
            (
                r#"{"resourceType":"MedicationRequest","status":"active","intent":"order","subject":{"reference":"Patient/p"},"medicationCodeableConcept":{"text":"a"}}"#,
                Some(Section::Medications),
            ),
            (
                r#"{"resourceType":"Condition","clinicalStatus":{"coding":[{"code":"resolved"}]},"subject":{"reference":"Patient/p"}}"#,
                Some(Section::PastProblems),
            ),
            (
                r#"{"resourceType":"Condition","verificationStatus":{"coding":[{"code":"entered-in-error"}]},"subject":{"reference":"Patient/p"}}"#,
                None,
            ),
            (r#"{"resourceType":"Condition","subject":{"reference":"Patient/p"}}"#, Some(Section::Problems)),
            (
                r#"{"resourceType":"AllergyIntolerance","clinicalStatus":{"coding":[{"code":"resolved"}]},"patient":{"reference":"Patient/p"}}"#,
                Some(Section::Allergies),
            ),
            (r#"{"resourceType":"Organization","name":"o"}"#, None),
        ];
        for (text, section) in cases {
            assert_eq!(Section::of(&resource(text)), section, "{text}");
        }
    }

    #[test]
    fn a_summary_needs_a_patient_and_ids() {
        let organization = resource(r#"{"resourceType":"Organization","id":"o","name":"o"}"#);
        let nameless = resource(r#"{"resourceType":"Patient","active":true}"#);
        let of = |resource| Summary {
            id: "28b95815-76ce-457b-b7ae-a972e527db40",
            made_at: TimeMs(0),
            base_url: "",
            patient: Listed { resource, standing: Standing::Verified },
            author: Party::default(),
            custodian: None,
            records: &[],
            completeness: &[],
            warnings: &[],
        };
        assert_eq!(of(&organization).to_json(), Err(SummaryError::NotAPatient { rtype: "Organization" }));
        assert_eq!(of(&nameless).to_json(), Err(SummaryError::NoId { rtype: "Patient" }));
    }
}

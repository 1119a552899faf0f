//! The order of an answer: the keys that it is sorted by, and where a page of it ended.

use crate::{
    extract::{INDEX_TEXT_BYTES_MAX, Kind, Number, kind},
    search::{BadSearch, Search},
};
use std::{fmt, str::FromStr};

/// The most keys of one order.
pub const SORT_KEYS_MAX: usize = 3;
/// The longest text of a place in an order, in bytes: a reference with its type.
const KEY_BYTES_MAX: usize = 2 * INDEX_TEXT_BYTES_MAX;

/// One key of an order.
///
/// Records without a value come last, whichever way it goes. Of several values the least counts, or the greatest where the greatest come
/// first. Strings are compared without case and accents, tokens by their codes, references by type and id, amounts by their numbers
/// whatever their units, and times by their beginnings. Source: FHIR R4 `search.html#sort`, which leaves the rest to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// The parameter, such as `date`; also `_id` and `_lastUpdated`. No composite.
    pub param: String,
    /// Greatest first.
    pub descending: bool,
}

impl Sort {
    /// The least first.
    pub fn ascending(param: impl Into<String>) -> Self {
        Self { param: param.into(), descending: false }
    }

    /// The greatest first.
    pub fn descending(param: impl Into<String>) -> Self {
        Self { param: param.into(), descending: true }
    }

    /// Whether every record has a value.
    pub(crate) fn is_always_there(&self) -> bool {
        matches!(self.param.as_str(), "_id" | "_lastUpdated")
    }

    /// What form its values have on records of a type.
    pub(crate) fn form(&self, rtype: &str) -> Result<Form, BadSearch> {
        let param = &self.param;
        let unknown = || BadSearch::UnknownParameter { rtype: rtype.to_owned(), param: param.clone() };
        match kind(rtype, param).ok_or_else(unknown)? {
            Kind::Date => Ok(Form::Int),
            Kind::Number | Kind::Quantity => Ok(Form::Real),
            Kind::Token | Kind::Text | Kind::Reference | Kind::Uri => Ok(Form::Text),
            Kind::Composite => Err(not_offered(param, "a composite has no values of its own; sort by its parts")),
        }
    }
}

fn not_offered(param: &str, why: &'static str) -> BadSearch {
    BadSearch::NotOffered { what: format!("_sort={param}"), why }
}

/// What form the values of a key have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Int,
    Real,
    Text,
}

/// The forms of the keys that a search is sorted by, if it can be, and the page before ended in such an order.
pub(crate) fn forms(search: &Search) -> Result<Vec<Form>, BadSearch> {
    if search.sort.len() > SORT_KEYS_MAX {
        return Err(BadSearch::TooMuch);
    }
    let mut forms = Vec::with_capacity(search.sort.len());
    for key in &search.sort {
        let form = key.form(&search.rtype)?;
        for other in &search.also {
            if key.form(other)? != form {
                return Err(not_offered(&key.param, "its values are of another form for each type"));
            }
        }
        forms.push(form);
    }
    match &search.after {
        Some(cursor) if !cursor.fits(&search.sort, &forms) => Err(BadSearch::Cursor),
        _ => Ok(forms),
    }
}

/// What the answer is sorted by at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Int(i64),
    Real(Number),
    Text(String),
}

impl Key {
    /// A text as the database gives it: whoever can write there may have made it longer than any that is filed.
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text[..text.floor_char_boundary(KEY_BYTES_MAX)].to_owned())
    }

    fn is_of(&self, form: Form) -> bool {
        matches!((self, form), (Self::Int(_), Form::Int) | (Self::Real(_), Form::Real) | (Self::Text(_), Form::Text))
    }
}

/// Where a page ended: what the record there is sorted by, none where it has no value, and its own place. Its text form may be given to
/// outside callers who see the record, and read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) keys: Vec<Option<Key>>,
    pub(crate) vid: i64,
}

impl Cursor {
    /// The time that the answer is sorted by first at this place, in milliseconds since 1970; none where the record has none, or it is
    /// sorted by something else.
    pub fn time(&self) -> Option<i64> {
        match self.keys.first() {
            Some(Some(Key::Int(time))) => Some(*time),
            _ => None,
        }
    }

    fn fits(&self, sort: &[Sort], forms: &[Form]) -> bool {
        let fit = |((key, sort), form): ((&Option<Key>, &Sort), &Form)| match key {
            Some(key) => key.is_of(*form),
            None => !sort.is_always_there(),
        };
        self.keys.len() == forms.len() && self.keys.iter().zip(sort).zip(forms).all(fit)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in &self.keys {
            match key {
                None => f.write_str("n_")?,
                Some(Key::Int(number)) => write!(f, "{number}_")?,
                Some(Key::Real(number)) => write!(f, "r{:016x}_", number.value().to_bits())?,
                Some(Key::Text(text)) => {
                    f.write_str("t")?;
                    text.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                    f.write_str("_")?;
                }
            }
        }
        write!(f, "{}", self.vid)
    }
}

impl FromStr for Cursor {
    type Err = BadSearch;
    fn from_str(text: &str) -> Result<Self, BadSearch> {
        let (keys, vid) = text.rsplit_once('_').map_or((None, text), |(keys, vid)| (Some(keys), vid));
        let vid = vid.parse().map_err(|_| BadSearch::Cursor)?;
        let keys = keys.map(|keys| keys.split('_').take(SORT_KEYS_MAX + 1).map(read).collect::<Option<Vec<_>>>());
        Ok(Self { keys: keys.unwrap_or_else(|| Some(Vec::new())).ok_or(BadSearch::Cursor)?, vid })
    }
}

/// A key as [`Cursor`] writes it; the inner none is a record without a value.
fn read(text: &str) -> Option<Option<Key>> {
    if text == "n" {
        return Some(None);
    }
    let key = if let Some(hex) = text.strip_prefix('t') {
        let digits = hex.as_bytes();
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit) && digits.len().is_multiple_of(2);
        let bounded = is_hex && digits.len() <= 2 * KEY_BYTES_MAX;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes = bounded.then(|| digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>())??;
        Key::Text(String::from_utf8(bytes).ok()?)
    } else if let Some(bits) = text.strip_prefix('r') {
        Key::Real(Number::new(f64::from_bits(u64::from_str_radix(bits, 16).ok()?))?)
    } else {
        Key::Int(text.parse().ok()?)
    };
    Some(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_any_order_is_read_back_from_its_text() {
        let keys = [
            None,
            Some(Key::Int(i64::MIN)),
            Some(Key::Int(7)),
            Some(Key::Real(Number::LEAST)),
            Some(Key::Real(Number::new(0.1).unwrap())),
            Some(Key::text("")),
            Some(Key::text("Müller_~&-|\0\u{10ffff}")),
        ];
        for first in &keys {
            for second in &keys {
                for keys in [vec![], vec![first.clone()], vec![first.clone(), second.clone()]] {
                    let cursor = Cursor { keys, vid: 5 };
                    let text = cursor.to_string();
                    assert_eq!(text.parse(), Ok(cursor), "{text}");
                    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)), "{text}");
                }
            }
        }
        let long = "a".repeat(KEY_BYTES_MAX + 1);
        assert_eq!(Key::text(&long), Key::text(&long[1..]));
        let too_long = format!("t{}_1", "61".repeat(KEY_BYTES_MAX + 1));
        for wrong in ["", "_", "1_", "x_1", "t6_1", "tzz_1", "tff_1", "r7ff8000000000000_1", "1__1", "tä_1", &too_long]
        {
            assert_eq!(wrong.parse::<Cursor>(), Err(BadSearch::Cursor), "{wrong}");
        }
    }

    #[test]
    fn a_page_goes_on_in_the_order_that_it_began_in() {
        let sorted = |sort: &[Sort], after: &str| {
            forms(&Search { sort: sort.to_vec(), after: Some(after.parse().unwrap()), ..Search::of("Observation") })
        };
        let (date, code) = (Sort::descending("date"), Sort::ascending("code"));
        assert_eq!(sorted(&[date.clone(), code.clone()], "5_t61_1"), Ok(vec![Form::Int, Form::Text]));
        assert_eq!(sorted(&[date.clone(), code.clone()], "n_n_1"), Ok(vec![Form::Int, Form::Text]));
        for (sort, after) in [
            (&[date.clone(), code.clone()][..], "5_1"),
            (std::slice::from_ref(&date), "5_t61_1"),
            (&[code], "5_1"),
            (std::slice::from_ref(&date), "t61_1"),
            (&[Sort::ascending("_id")], "n_1"),
        ] {
            assert_eq!(sorted(sort, after), Err(BadSearch::Cursor), "{after}");
        }
    }

    #[test]
    fn what_nothing_is_sorted_by_is_refused() {
        let sorted = |sort: Vec<Sort>, also: &[&str]| {
            let also = also.iter().map(|rtype| (*rtype).to_owned()).collect();
            forms(&Search { sort, also, ..Search::of("Observation") }).map_err(|bad| bad.to_string())
        };
        let one = |param: &str| vec![Sort::ascending(param)];
        assert_eq!(sorted(one("value-quantity"), &[]), Ok(vec![Form::Real]));
        assert_eq!(sorted(one("date"), &["Encounter", "Procedure"]), Ok(vec![Form::Int]));
        let refused = |sort, also: &[&str], why: &str| assert_eq!(sorted(sort, also), Err(why.to_owned()));
        refused(one("colour"), &[], "`Observation` has no search parameter `colour`");
        refused(one("date"), &["Patient"], "`Patient` has no search parameter `date`");
        let composite =
            "`_sort=code-value-quantity` is not offered: a composite has no values of its own; sort by its parts";
        refused(one("code-value-quantity"), &[], composite);
        let another = "`_sort=start` is not offered: its values are of another form for each type";
        let start = Search { sort: one("start"), also: vec!["Slot".into()], ..Search::of("GraphDefinition") };
        assert_eq!(forms(&start).map_err(|bad| bad.to_string()), Err(another.to_owned()));
        refused(vec![Sort::ascending("_id"); SORT_KEYS_MAX + 1], &[], &BadSearch::TooMuch.to_string());
    }
}

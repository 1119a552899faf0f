//! Parameters of OAuth requests: each once, within bounds.

use std::collections::BTreeMap;

/// The most parameters of a request.
const FIELDS_MAX: usize = 32;

/// The parameters of a request, by name.
#[derive(Default)]
pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Reads them from a query or a form. None when one stands there twice (RFC 6749 section 3.1) or when there are too many.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut fields = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            let is_new = fields.insert(name.into_owned(), value.into_owned()).is_none();
            if !is_new || fields.len() > FIELDS_MAX {
                return None;
            }
        }
        Some(Self(fields))
    }

    /// The value of a parameter; one that is empty counts as none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_stands_once() {
        let fields = Fields::read(b"a=1&b=%C3%BC+x&c=").unwrap();
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("c")), (Some("1"), Some("\u{fc} x"), None));
        assert!(Fields::read(b"a=1&a=1").is_none());
        let many: Vec<String> = (0..=FIELDS_MAX).map(|n| format!("p{n}=1")).collect();
        assert!(Fields::read(many.join("&").as_bytes()).is_none());
    }
}

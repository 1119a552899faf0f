//! Which version of a record whoever asks has already, by the `ETag` that came with it.
//!
//! Source: RFC 9110, section 13.1.2 (`If-None-Match`); FHIR R4 `http.html#versioning`.

/// Whether the text of an `If-None-Match` names this version: in a list, in the weak form or the strong one, or by `*`, which is any.
pub fn names_version(text: &str, version: u64) -> bool {
    let wanted = format!("\"{version}\"");
    let mut etags = text.split(',').map(str::trim);
    text.trim() == "*" || etags.any(|etag| etag.strip_prefix("W/").unwrap_or(etag) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_alone_in_a_list_or_by_an_asterisk() {
        for named in ["W/\"2\"", "\"2\"", " W/\"2\" ", "W/\"1\", W/\"2\"", "W/\"1\",\"2\"", "*", " * "] {
            assert!(names_version(named, 2), "{named}");
        }
        for other in ["", "2", "W/2", "W/\"1\"", "W/\"22\"", "w/\"2\"", "\"2", "W/\"1\", *", "W/\"x\""] {
            assert!(!names_version(other, 2), "{other}");
        }
    }
}

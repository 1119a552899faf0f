//! Narratives: the piece of XHTML that people read, checked so that it can be shown, and written so that it can be read.
//!
//! Source: FHIR R4 `narrative.html` (rules txt-1 and txt-2) and XML 1.0. A narrative that runs code or reaches out is an attack.

/// What is wrong with a narrative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NarrativeFault {
    /// Not one `div` element.
    #[error("a narrative is one <div xmlns=\"http://www.w3.org/1999/xhtml\">")]
    NotADiv,
    /// Not well-formed XML.
    #[error("not well-formed XHTML: every element is closed in order and every attribute quoted")]
    Malformed,
    /// An entity that XML does not have.
    #[error("only &amp; &lt; &gt; &quot; &apos; and numbers such as &#160; are entities here")]
    UnknownEntity,
    /// An element that a narrative must not have.
    #[error("only formatting, links, images and tables are allowed: no scripts, forms, frames or objects")]
    ForbiddenElement,
    /// An attribute that runs code.
    #[error("no event handlers and no script URLs are allowed")]
    ActiveContent,
    /// Nothing to read.
    #[error("there is no text in it")]
    Blank,
}

/// The elements a narrative may have: HTML 4.0 chapters 7 to 11 and 15, links and images.
const ELEMENTS: &[&str] = &[
    "a",
    "abbr",
    "acronym",
    "address",
    "area",
    "b",
    "bdo",
    "big",
    "blockquote",
    "br",
    "caption",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "del",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "ins",
    "kbd",
    "li",
    "map",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "samp",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
];

/// Checks the `div` of a narrative.
pub fn check_narrative(div: &str) -> Result<(), NarrativeFault> {
    let mut rest = div.trim();
    if !rest.starts_with("<div") {
        return Err(NarrativeFault::NotADiv);
    }
    let mut open: Vec<&str> = Vec::new();
    let mut readable = false;
    while !rest.is_empty() {
        let Some(at) = rest.find('<') else { return Err(NarrativeFault::NotADiv) };
        readable |= !rest[..at].trim().is_empty();
        check_entities(&rest[..at])?;
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.split_once("-->").ok_or(NarrativeFault::Malformed)?.1;
            continue;
        }
        let (tag, after) = tag(rest)?;
        rest = after;
        if tag.closes {
            if open.pop() != Some(tag.name) {
                return Err(NarrativeFault::Malformed);
            }
        } else {
            readable |= tag.name == "img";
            check_tag(&tag)?;
            if !tag.alone {
                open.push(tag.name);
            }
        }
        if open.is_empty() && !rest.is_empty() {
            return Err(NarrativeFault::NotADiv);
        }
    }
    match (open.is_empty(), readable) {
        (false, _) => Err(NarrativeFault::Malformed),
        (true, false) => Err(NarrativeFault::Blank),
        (true, true) => Ok(()),
    }
}

struct Tag<'a> {
    name: &'a str,
    attributes: &'a str,
    closes: bool,
    alone: bool,
}

/// The tag that `text` begins with, and what follows.
fn tag(text: &str) -> Result<(Tag<'_>, &str), NarrativeFault> {
    let mut quote = None;
    let end = text.bytes().position(|byte| {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
        byte == b'>' && quote.is_none()
    });
    let end = end.ok_or(NarrativeFault::Malformed)?;
    let inner = &text[1..end];
    let closes = inner.starts_with('/');
    let alone = inner.ends_with('/');
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let (name, attributes) = inner.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((inner, ""));
    Ok((Tag { name, attributes, closes, alone }, &text[end + 1..]))
}

fn check_tag(tag: &Tag<'_>) -> Result<(), NarrativeFault> {
    if ELEMENTS.binary_search(&tag.name).is_err() {
        return Err(NarrativeFault::ForbiddenElement);
    }
    let mut rest = tag.attributes.trim();
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=').ok_or(NarrativeFault::Malformed)?;
        let name = name.trim_end();
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or(NarrativeFault::Malformed)?;
        let (value, after) = value[1..].split_once(quote).ok_or(NarrativeFault::Malformed)?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '<') || value.contains('<') {
            return Err(NarrativeFault::Malformed);
        }
        check_entities(value)?;
        let name = name.to_ascii_lowercase();
        if name.starts_with("on") || name == "srcdoc" || is_script(value) {
            return Err(NarrativeFault::ActiveContent);
        }
        rest = after.trim_start();
    }
    Ok(())
}

/// Whether an attribute is a URL that runs code, however it is spaced, cased or escaped.
fn is_script(value: &str) -> bool {
    let plain = unescaped(value);
    let letters = plain.chars().filter(|c| !c.is_whitespace() && !c.is_control());
    let start: String = letters.take(16).collect::<String>().to_ascii_lowercase();
    ["javascript:", "vbscript:", "data:text/html"]
        .iter()
        .any(|scheme| start.starts_with(&scheme[..scheme.len().min(16)]))
}

/// The text that escaped text stands for.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let Some((entity, after)) = after.split_once(';') else { break };
        out.extend(entity_char(entity));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn check_entities(text: &str) -> Result<(), NarrativeFault> {
    for after in text.split('&').skip(1) {
        let entity = after.split_once(';').map(|(entity, _)| entity);
        entity.and_then(entity_char).ok_or(NarrativeFault::UnknownEntity)?;
    }
    Ok(())
}

fn entity_char(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            code.ok().and_then(char::from_u32)
        }
    }
}

/// Appends `text` as XHTML text. Characters that XML cannot have become a space.
pub fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(c),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => out.push(' '),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narratives_are_read_only_when_they_can_be_shown() {
        use NarrativeFault::*;
        let long = "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p class='a'>a &amp; &#160;b<br/></p><!-- > --></div>";
        let cases = [
            (long, Ok(())),
            ("<div><table><tr><td>1</td></tr></table></div>", Ok(())),
            ("<div><img src=\"#a\" alt=\"a>b\"/></div>", Ok(())),
            ("<div>&reg;</div>", Err(UnknownEntity)),
            ("<div>a & b</div>", Err(UnknownEntity)),
            ("<div><p>a</div></p>", Err(Malformed)),
            ("<div>a", Err(NotADiv)),
            ("<div>a<p>", Err(Malformed)),
            ("<p>a</p>", Err(NotADiv)),
            ("<div>a</div><div>b</div>", Err(NotADiv)),
            ("<div>  </div>", Err(Blank)),
            ("<div><script>1</script></div>", Err(ForbiddenElement)),
            ("<div><DIV>1</DIV></div>", Err(ForbiddenElement)),
            ("<div><p onclick=\"x()\">a</p></div>", Err(ActiveContent)),
            ("<div><a href=\" java&#115;cript:x()\">a</a></div>", Err(ActiveContent)),
            ("<div><p title=x>a</p></div>", Err(Malformed)),
            ("<div><p title>a</p></div>", Err(Malformed)),
        ];
        for (div, expected) in cases {
            assert_eq!(check_narrative(div), expected, "{div}");
        }
    }

    #[test]
    fn escaped_text_is_always_a_good_narrative() {
        assert!(ELEMENTS.is_sorted());
        proptest::proptest!(|(text in ".*")| {
            let mut div = String::from("<div>.");
            push_escaped(&mut div, &text);
            div.push_str("</div>");
            proptest::prop_assert_eq!(check_narrative(&div), Ok(()));
        });
    }
}

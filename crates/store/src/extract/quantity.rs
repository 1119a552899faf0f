//! What is a quantity: numbers, amounts with a unit or a currency, and all between two of them.

use super::{IndexValue, Number};
use serde_json::{Map, Value};

/// The system of currencies. Source: FHIR R4 `search.html#quantity`.
const CURRENCIES: &str = "urn:iso:std:iso:4217";

/// A number, Quantity, Money or Range; nothing when it has no number.
///
/// A quantity that is said to be less or more than its number is all that it may be; a range without one end is open there.
pub(super) fn quantity(element: &Value) -> Option<IndexValue> {
    let (lo, hi, named) = match element {
        Value::Object(fields) if fields.contains_key("low") || fields.contains_key("high") => {
            let end = |name| fields.get(name).and_then(Value::as_object);
            let number = |name| end(name).and_then(|of| of.get("value")).and_then(number);
            let (low, high) = (number("low"), number("high"));
            low.or(high)?;
            (low.unwrap_or(Number::LEAST), high.unwrap_or(Number::MOST), end("low").or(end("high")))
        }
        Value::Object(fields) => {
            let exact = fields.get("value").and_then(number)?;
            let (lo, hi) = match fields.get("comparator").and_then(Value::as_str) {
                Some("<") => (Number::LEAST, exact.below()),
                Some("<=") => (Number::LEAST, exact),
                Some(">=") => (exact, Number::MOST),
                Some(">") => (exact.above(), Number::MOST),
                _ => (exact, exact),
            };
            (lo, hi, Some(fields))
        }
        _ => {
            let exact = number(element)?;
            (exact, exact, None)
        }
    };
    let text =
        |name| named.and_then(|of: &Map<String, Value>| of.get(name)).and_then(Value::as_str).unwrap_or_default();
    let (system, code, unit) = match text("currency") {
        "" => (text("system"), text("code"), text("unit")),
        currency => (CURRENCIES, currency, ""),
    };
    let unit = if unit == code { "" } else { unit };
    Some(IndexValue::Quantity { lo, hi, system: system.to_owned(), code: code.to_owned(), unit: unit.to_owned() })
}

fn number(value: &Value) -> Option<Number> {
    value.as_f64().and_then(Number::new)
}

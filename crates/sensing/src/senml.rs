//! The payload of a frame: a SenML pack in CBOR (RFC 8428), laid out as `spec/frame.md` says.

use crate::{
    Absence, Decimal, DeviceId, Limits, Samples, Signal, Value, Waveform,
    decimal::DECIMAL_DIGITS_MAX,
    signal::{OFFSET_MS_MAX, RATE_HZ_MAX, TEXT_BYTES_MAX, is_signal_name},
};
use minicbor::{
    Decoder, Encoder,
    data::{Tag, Type},
};
use record::{Digest, TimeMs};

/// The most signals in one frame.
pub const SIGNALS_MAX: usize = 64;
/// The most samples in one frame, all waveforms together.
pub const SAMPLES_MAX: usize = 32_000;
/// The most SenML records in one pack: two of the frame's own, and seven for a waveform.
const RECORDS_MAX: u64 = 2 + 7 * SIGNALS_MAX as u64;
/// The least absolute time of RFC 8428, 2^28 seconds; smaller ones count from «now», which no signature can mean.
const ABSOLUTE_MS_MIN: i64 = (1 << 28) * 1000;
/// The greatest device time: a four-digit year.
const ABSOLUTE_MS_MAX: i64 = 253_402_207_200_999;
/// CBOR tag of a decimal fraction.
const DECIMAL_FRACTION: Tag = Tag::new(4);

/// UCUM unit of a limit, which counts samples.
const STEPS: &str = "1";

/// What a device signs: who, which frame of its sequence, when, and what it measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// The device.
    pub device: DeviceId,
    /// The frame's place in the device's sequence, from 1, never used twice.
    pub counter: u64,
    /// SHA-256 of the frame before this one as sent; 32 zero bytes before the first.
    pub previous: Digest,
    /// The device's clock at the beginning of the frame.
    pub device_time: TimeMs,
    /// What was measured, in the device's order. At most [`SIGNALS_MAX`]; none is a heartbeat.
    pub signals: Vec<Signal>,
}

/// Labels of RFC 8428, table 4.
mod label {
    pub(super) const BASE_NAME: i64 = -2;
    pub(super) const BASE_TIME: i64 = -3;
    pub(super) const NAME: i64 = 0;
    pub(super) const UNIT: i64 = 1;
    pub(super) const VALUE: i64 = 2;
    pub(super) const STRING: i64 = 3;
    pub(super) const TIME: i64 = 6;
    pub(super) const DATA: i64 = 8;
}

/// What is wrong with a pack: plain words, no values.
pub(crate) type Wrong = &'static str;

impl Pack {
    /// The bytes to sign. Fails when the pack breaks a rule that [`Pack::decode`] would refuse it for.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Wrong> {
        self.check()?;
        let records = 2 + self.signals.iter().map(records_of).sum::<u64>();
        let mut e = Encoder::new(Vec::with_capacity(256));
        write_pack(&mut e, self, records).map_err(|_| "the pack cannot be written")?;
        Ok(e.into_writer())
    }

    /// Reads the bytes that a device signed.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Wrong> {
        let mut d = Decoder::new(bytes);
        let records = d.array().map_err(cbor)?.ok_or("a pack has a definite length")?;
        if !(2..=RECORDS_MAX).contains(&records) {
            return Err("a pack has 2 to 450 records");
        }
        let head = Record::decode(&mut d)?;
        let device = head
            .base_name
            .and_then(|name| name.strip_suffix(':'))
            .ok_or("the first record has a base name ending in `:`")?;
        let device: DeviceId = device.parse().map_err(|_| "the base name is no device's name")?;
        let device_time = head.base_time.ok_or("the first record has a base time")?;
        if !(ABSOLUTE_MS_MIN..=ABSOLUTE_MS_MAX).contains(&device_time) {
            return Err("the base time is an absolute time");
        }
        let counter = match (head.name, head.value, head.string, head.data) {
            (Some("counter"), Some(Number::Whole(counter)), None, None) => counter,
            _ => return Err("the first record is the counter"),
        };
        let second = Record::decode(&mut d)?.without_base()?;
        let previous = match (second.name, second.value, second.string, second.data) {
            (Some("previous"), None, None, Some(data)) => {
                <[u8; 32]>::try_from(data).map_err(|_| "a digest has 32 bytes")?
            }
            _ => return Err("the second record is the previous frame's digest"),
        };
        let signals = Signals::decode(&mut d, records - 2)?;
        if d.position() != bytes.len() {
            return Err("nothing follows the pack");
        }
        let device_time = TimeMs(device_time.unsigned_abs());
        let pack = Self { device, counter, previous: Digest(previous), device_time, signals };
        pack.check()?;
        Ok(pack)
    }

    fn check(&self) -> Result<(), Wrong> {
        if self.counter == 0 {
            return Err("counters start at 1");
        }
        if !(ABSOLUTE_MS_MIN.unsigned_abs()..=ABSOLUTE_MS_MAX.unsigned_abs()).contains(&self.device_time.0) {
            return Err("the device time is an absolute time");
        }
        if self.signals.len() > SIGNALS_MAX {
            return Err("a frame has at most 64 signals");
        }
        let mut samples = 0;
        for signal in &self.signals {
            check_signal(signal)?;
            if let Value::Waveform(wave) = &signal.value {
                samples += wave.samples.len();
            }
        }
        if samples > SAMPLES_MAX { Err("a frame has at most 32000 samples") } else { Ok(()) }
    }
}

fn check_signal(signal: &Signal) -> Result<(), Wrong> {
    if !is_signal_name(&signal.name) || matches!(signal.name.as_str(), "counter" | "previous") {
        return Err("a signal's name has 1 to 48 of `a-z 0-9 - .` and is not the frame's own");
    }
    if signal.offset_ms.abs() > OFFSET_MS_MAX {
        return Err("a signal's time is within ten minutes of its frame's");
    }
    let text = match &signal.value {
        Value::Number { unit, .. } => unit,
        Value::Code(code) => code,
        Value::Absent(_) => return Ok(()),
        Value::Waveform(wave) => {
            if wave.samples.is_empty() {
                return Err("a waveform has samples");
            }
            if wave.rate_hz <= Decimal::ZERO || wave.rate_hz > Decimal::whole(RATE_HZ_MAX) {
                return Err("a waveform has a rate above 0 and at most 100000 Hz");
            }
            if wave.scale == Decimal::ZERO {
                return Err("a waveform's scale is not zero");
            }
            check_limits(wave)?;
            &wave.unit
        }
    };
    let fits = (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(()) } else { Err("a unit or code has 1 to 64 visible ASCII characters") }
}

fn check_limits(wave: &Waveform) -> Result<(), Wrong> {
    let Limits { low, high } = wave.limits;
    if low.is_none() && high.is_none() {
        return Ok(());
    }
    let within = |sample: i32| low.is_none_or(|low| sample >= low) && high.is_none_or(|high| sample <= high);
    let ordered = low.zip(high).is_none_or(|(low, high)| low < high);
    let all = wave.samples.range().is_none_or(|(least, greatest)| within(least) && within(greatest));
    if ordered && all { Ok(()) } else { Err("a waveform's samples lie within its limits, low before high") }
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn records_of(signal: &Signal) -> u64 {
    match &signal.value {
        Value::Waveform(wave) => {
            let bits = matches!(wave.samples, Samples::I32(_));
            let limits = u64::from(wave.limits.low.is_some()) + u64::from(wave.limits.high.is_some());
            3 + u64::from(wave.origin != Decimal::ZERO) + limits + u64::from(bits)
        }
        _ => 1,
    }
}

fn write_pack(e: &mut Encoder<Vec<u8>>, pack: &Pack, records: u64) -> Written {
    e.array(records)?.map(4)?;
    e.i64(label::BASE_NAME)?.str(&format!("{}:", pack.device))?;
    e.i64(label::BASE_TIME)?;
    write_ms(e, i64::try_from(pack.device_time.0).unwrap_or(i64::MAX))?;
    e.i64(label::NAME)?.str("counter")?.i64(label::VALUE)?.u64(pack.counter)?;
    e.map(2)?.i64(label::NAME)?.str("previous")?.i64(label::DATA)?.bytes(pack.previous.as_ref())?;
    for signal in &pack.signals {
        write_signal(e, signal)?;
    }
    Ok(())
}

fn write_signal(e: &mut Encoder<Vec<u8>>, signal: &Signal) -> Written {
    let (name, timed) = (signal.name.as_str(), signal.offset_ms != 0);
    match &signal.value {
        Value::Number { unit, value } => {
            e.map(3 + u64::from(timed))?.i64(label::NAME)?.str(name)?.i64(label::UNIT)?.str(unit)?.i64(label::VALUE)?;
            write_decimal(e, *value)?;
        }
        Value::Code(code) => {
            e.map(2 + u64::from(timed))?.i64(label::NAME)?.str(name)?.i64(label::STRING)?.str(code)?;
        }
        Value::Absent(why) => {
            e.map(2 + u64::from(timed))?.i64(label::NAME)?.str(&format!("{name}/absent"))?;
            e.i64(label::STRING)?.str(why.code())?;
        }
        Value::Waveform(wave) => {
            write_parameter(e, &format!("{name}/rate"), "Hz", wave.rate_hz)?;
            write_parameter(e, &format!("{name}/scale"), &wave.unit, wave.scale)?;
            if wave.origin != Decimal::ZERO {
                write_parameter(e, &format!("{name}/origin"), &wave.unit, wave.origin)?;
            }
            for (which, limit) in [("low", wave.limits.low), ("high", wave.limits.high)] {
                if let Some(limit) = limit {
                    write_parameter(e, &format!("{name}/{which}"), STEPS, Decimal::whole(limit))?;
                }
            }
            let data: Vec<u8> = match &wave.samples {
                Samples::I16(samples) => samples.iter().flat_map(|s| s.to_le_bytes()).collect(),
                Samples::I32(samples) => {
                    write_parameter(e, &format!("{name}/width"), "bit", Decimal::whole(32))?;
                    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
                }
            };
            e.map(2 + u64::from(timed))?.i64(label::NAME)?.str(name)?.i64(label::DATA)?.bytes(&data)?;
        }
    }
    if timed {
        e.i64(label::TIME)?;
        write_ms(e, signal.offset_ms)?;
    }
    Ok(())
}

fn write_parameter(e: &mut Encoder<Vec<u8>>, name: &str, unit: &str, value: Decimal) -> Written {
    e.map(3)?.i64(label::NAME)?.str(name)?.i64(label::UNIT)?.str(unit)?.i64(label::VALUE)?;
    write_decimal(e, value)
}

fn write_decimal(e: &mut Encoder<Vec<u8>>, value: Decimal) -> Written {
    if value.mantissa().unsigned_abs() >= 10u64.pow(DECIMAL_DIGITS_MAX) {
        e.f64(value.to_f64())?;
    } else if value.exponent() == 0 {
        e.i64(value.mantissa())?;
    } else {
        e.tag(DECIMAL_FRACTION)?.array(2)?.i64(value.exponent().into())?.i64(value.mantissa())?;
    }
    Ok(())
}

/// Seconds of RFC 8428, written as a decimal fraction of milliseconds.
fn write_ms(e: &mut Encoder<Vec<u8>>, ms: i64) -> Written {
    e.tag(DECIMAL_FRACTION)?.array(2)?.i64(-3)?.i64(ms)?;
    Ok(())
}

fn cbor(_: minicbor::decode::Error) -> Wrong {
    "the payload is no CBOR of a SenML pack"
}

/// A number as it stands in the pack.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    /// A whole number from 0.
    Whole(u64),
    /// A whole number below 0.
    Below(i64),
    /// A binary float.
    Float(f64),
    /// Tag 4: mantissa and exponent.
    Fraction(i64, i8),
}

impl Number {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Wrong> {
        match d.datatype().map_err(cbor)? {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => d.u64().map(Self::Whole).map_err(cbor),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => d.i64().map(Self::Below).map_err(cbor),
            Type::F16 => d.f16().map(|v| Self::Float(v.into())).map_err(cbor),
            Type::F32 => d.f32().map(|v| Self::Float(v.into())).map_err(cbor),
            Type::F64 => d.f64().map(Self::Float).map_err(cbor),
            Type::Tag => {
                if d.tag().map_err(cbor)? != DECIMAL_FRACTION || d.array().map_err(cbor)? != Some(2) {
                    return Err("a tagged number is a decimal fraction");
                }
                let exponent = d.i8().map_err(cbor)?;
                let mantissa = d.i64().map_err(cbor)?;
                Ok(Self::Fraction(mantissa, exponent))
            }
            _ => Err("a number is whole, a float or a decimal fraction"),
        }
    }

    fn decimal(self) -> Result<Decimal, Wrong> {
        match self {
            Self::Whole(value) => i64::try_from(value).ok().and_then(|value| Decimal::new(value, 0)),
            Self::Below(value) => Decimal::new(value, 0),
            Self::Float(value) => Decimal::from_f64(value),
            Self::Fraction(mantissa, exponent) => Decimal::new(mantissa, exponent),
        }
        .ok_or("a number has at most 15 digits and an exponent of -18 to 9")
    }

    /// Seconds as milliseconds; finer digits are refused, except in floats, which are rounded.
    fn ms(self) -> Result<i64, Wrong> {
        match self {
            Self::Whole(value) => i64::try_from(value).ok().and_then(|s| s.checked_mul(1000)),
            Self::Below(value) => value.checked_mul(1000),
            Self::Float(value) => {
                let ms = (value * 1000.0).round();
                (ms.abs() <= ABSOLUTE_MS_MAX as f64).then_some(ms as i64)
            }
            Self::Fraction(mantissa, exponent) => match exponent {
                -3..=3 => mantissa.checked_mul(10i64.pow(u32::from((exponent + 3).unsigned_abs()))),
                _ => None,
            },
        }
        .ok_or("a time is in seconds with at most three decimals")
    }
}

/// One SenML record with the fields that frames use.
#[derive(Debug, Default)]
struct Record<'b> {
    base_name: Option<&'b str>,
    base_time: Option<i64>,
    name: Option<&'b str>,
    unit: Option<&'b str>,
    value: Option<Number>,
    string: Option<&'b str>,
    time_ms: Option<i64>,
    data: Option<&'b [u8]>,
}

impl<'b> Record<'b> {
    fn decode(d: &mut Decoder<'b>) -> Result<Self, Wrong> {
        fn once<T>(field: &mut Option<T>, value: T) -> Result<(), Wrong> {
            if field.replace(value).is_some() { Err("a record has each field once") } else { Ok(()) }
        }
        let fields = d.map().map_err(cbor)?.ok_or("a record has a definite length")?;
        let mut record = Self::default();
        for _ in 0..fields {
            match d.i64().map_err(|_| "a record's labels are numbers")? {
                label::BASE_NAME => once(&mut record.base_name, d.str().map_err(cbor)?)?,
                label::BASE_TIME => once(&mut record.base_time, Number::decode(d)?.ms()?)?,
                label::NAME => once(&mut record.name, d.str().map_err(cbor)?)?,
                label::UNIT => once(&mut record.unit, d.str().map_err(cbor)?)?,
                label::VALUE => once(&mut record.value, Number::decode(d)?)?,
                label::STRING => once(&mut record.string, d.str().map_err(cbor)?)?,
                label::TIME => once(&mut record.time_ms, Number::decode(d)?.ms()?)?,
                label::DATA => once(&mut record.data, d.bytes().map_err(cbor)?)?,
                _ => return Err("a record has a field that frames do not use"),
            }
        }
        Ok(record)
    }

    fn without_base(self) -> Result<Self, Wrong> {
        match (self.base_name, self.base_time) {
            (None, None) => Ok(self),
            _ => Err("only the first record has a base name and a base time"),
        }
    }
}

/// The parameters of a waveform seen so far, before its data.
#[derive(Debug, Default)]
struct Parameters<'b> {
    of: &'b str,
    rate_hz: Option<Decimal>,
    scale: Option<Decimal>,
    origin: Option<Decimal>,
    width: Option<Decimal>,
    low: Option<Decimal>,
    high: Option<Decimal>,
    unit: Option<&'b str>,
}

impl<'b> Parameters<'b> {
    /// Takes the parameter `which`, which must be of the same signal and in the same unit as those before, and new.
    fn take(&mut self, signal: &'b str, which: &str, record: &Record<'b>) -> Result<(), Wrong> {
        if record.string.is_some() || record.data.is_some() || record.time_ms.is_some() {
            return Err("a waveform's parameter is a number without a time");
        }
        let value = record.value.ok_or("a waveform's parameter is a number")?.decimal()?;
        if self.of.is_empty() {
            self.of = signal;
        }
        if self.of != signal {
            return Err("a waveform's parameters stand before its data");
        }
        let (field, unit) = match which {
            "rate" => (&mut self.rate_hz, Some("Hz")),
            "width" => (&mut self.width, Some("bit")),
            "low" => (&mut self.low, Some(STEPS)),
            "high" => (&mut self.high, Some(STEPS)),
            "scale" => (&mut self.scale, None),
            "origin" => (&mut self.origin, None),
            _ => return Err("a waveform's parameters are rate, scale, origin, width, low and high"),
        };
        let given = record.unit.ok_or("a waveform's parameter has a unit")?;
        if unit.or(self.unit).is_some_and(|unit| unit != given) {
            return Err(
                "a waveform's rate is in Hz, its width in bit, its limits in 1, its scale and origin in one unit",
            );
        }
        if unit.is_none() {
            self.unit = Some(given);
        }
        if field.replace(value).is_some() { Err("a waveform has each parameter once") } else { Ok(()) }
    }

    fn waveform(self, data: &[u8]) -> Result<Waveform, Wrong> {
        let limit = |limit: Option<Decimal>| match limit.map(whole_sample) {
            Some(None) => Err("a waveform's limits are whole samples"),
            Some(sample) => Ok(sample),
            None => Ok(None),
        };
        let limits = Limits { low: limit(self.low)?, high: limit(self.high)? };
        let samples = match self.width.map(Decimal::to_f64) {
            None | Some(16.0) => {
                let (whole, rest) = data.as_chunks::<2>();
                rest.is_empty().then(|| Samples::I16(whole.iter().map(|b| i16::from_le_bytes(*b)).collect()))
            }
            Some(32.0) => {
                let (whole, rest) = data.as_chunks::<4>();
                rest.is_empty().then(|| Samples::I32(whole.iter().map(|b| i32::from_le_bytes(*b)).collect()))
            }
            Some(_) => return Err("a waveform's width is 16 or 32"),
        };
        Ok(Waveform {
            unit: self.unit.ok_or("a waveform has a unit")?.to_owned(),
            rate_hz: self.rate_hz.ok_or("a waveform has a rate")?,
            origin: self.origin.unwrap_or(Decimal::ZERO),
            scale: self.scale.ok_or("a waveform has a scale")?,
            limits,
            samples: samples.ok_or("a waveform's data is a whole number of samples")?,
        })
    }
}

fn whole_sample(value: Decimal) -> Option<i32> {
    let sample = value.to_f64();
    // Every i32 is a float; what is not whole is not the float of one.
    (sample == f64::from(sample as i32)).then_some(sample as i32)
}

/// Builds signals from the records after the frame's own.
struct Signals;

impl Signals {
    fn decode(d: &mut Decoder<'_>, records: u64) -> Result<Vec<Signal>, Wrong> {
        let mut signals = Vec::new();
        let mut parameters = Parameters::default();
        for _ in 0..records {
            let record = Record::decode(d)?.without_base()?;
            let full = record.name.ok_or("a record has a name")?;
            let (name, part) = full.split_once('/').map_or((full, None), |(name, part)| (name, Some(part)));
            let value = match (part, record.value, record.string, record.data) {
                (Some("absent"), None, Some(why), None) if record.unit.is_none() => {
                    Value::Absent(Absence::from_code(why).ok_or("an absence has a reason that FHIR knows")?)
                }
                (Some(part), ..) => {
                    parameters.take(name, part, &record)?;
                    continue;
                }
                (None, Some(number), None, None) => {
                    let unit = record.unit.ok_or("a number has a unit")?.to_owned();
                    Value::Number { unit, value: number.decimal()? }
                }
                (None, None, Some(code), None) if record.unit.is_none() => Value::Code(code.to_owned()),
                (None, None, None, Some(data)) if record.unit.is_none() => {
                    if parameters.of != name {
                        return Err("a waveform's parameters stand before its data");
                    }
                    Value::Waveform(std::mem::take(&mut parameters).waveform(data)?)
                }
                _ => return Err("a record has one value, and a unit where it is a number"),
            };
            if !parameters.of.is_empty() {
                return Err("a waveform's data follows its parameters");
            }
            signals.push(Signal { name: name.to_owned(), offset_ms: record.time_ms.unwrap_or(0), value });
        }
        if parameters.of.is_empty() { Ok(signals) } else { Err("a waveform's data follows its parameters") }
    }
}

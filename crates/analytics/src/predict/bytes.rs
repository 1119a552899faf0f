//! The bytes of a model file: deterministic CBOR in which lists of numbers are byte strings, little-endian.

use minicbor::Decoder;

/// The longest model file, in bytes.
pub const MODEL_BYTES_MAX: usize = 2 * 1024 * 1024;
/// No weight, spread or end of an interval is larger: every score is finite.
const NUMBER_MAX: f64 = 1e12;

/// Why bytes are no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadModel {
    /// There are too many of them.
    #[error("a model of {got} bytes is longer than {MODEL_BYTES_MAX}")]
    TooLong {
        /// How many.
        got: usize,
    },
    /// They are not the CBOR of a model, or end too early.
    #[error("the bytes are no model: {0}")]
    Malformed(String),
    /// They are in another form than the deterministic one, or something stands behind the end.
    #[error("the bytes are not the deterministic encoding of the model")]
    NotDeterministic,
    /// The format is another one.
    #[error("the format is `{0}`, not `{format}`", format = super::model::FORMAT)]
    Format(String),
    /// It is another model than the caller asked for.
    #[error("the model is `{got}`, not `{expected}`")]
    Other {
        /// What it is.
        got: String,
        /// What was asked for.
        expected: &'static str,
    },
    /// Its outputs are not those of such a model.
    #[error("the outputs are not those of `{0}`")]
    Outputs(&'static str),
    /// It was trained on other features than this program computes.
    #[error("feature {place} of `{output}` is not the one that this program computes")]
    Features {
        /// Name of the output.
        output: String,
        /// Number of the first that differs, from 0.
        place: usize,
    },
    /// A list of numbers is not whole, or has one that cannot be.
    #[error("a list of numbers is {0}")]
    Numbers(&'static str),
    /// A tree is not one.
    #[error("a tree is damaged: {0}")]
    Tree(&'static str),
    /// The linear part is not one.
    #[error("the linear part is damaged: {0}")]
    Linear(&'static str),
    /// The bands of the intervals are not some.
    #[error("the bands are damaged: {0}")]
    Bands(&'static str),
}

impl From<minicbor::decode::Error> for BadModel {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// A list of numbers as it lies in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a>(pub(super) &'a [u8]);

impl Packed<'_> {
    pub(super) fn numbers<const N: usize, T>(self, of: impl Fn([u8; N]) -> T) -> Result<Vec<T>, BadModel> {
        let (numbers, rest) = self.0.as_chunks::<N>();
        if rest.is_empty() { Ok(numbers.iter().map(|one| of(*one)).collect()) } else { Err(BadModel::Numbers("cut")) }
    }
    pub(super) fn finite(self) -> Result<Vec<f64>, BadModel> {
        let numbers = self.numbers(f64::from_le_bytes)?;
        // Not a number is not in the range either.
        let fit = numbers.iter().all(|one| (-NUMBER_MAX..=NUMBER_MAX).contains(one));
        if fit { Ok(numbers) } else { Err(BadModel::Numbers("not of numbers up to a million million")) }
    }
}

/// Reads items and notes how long each would be in its shortest form.
#[derive(Debug)]
pub(super) struct Items<'a> {
    decoder: Decoder<'a>,
    shortest: usize,
}

impl<'a> Items<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, BadModel> {
        if bytes.len() > MODEL_BYTES_MAX {
            return Err(BadModel::TooLong { got: bytes.len() });
        }
        Ok(Self { decoder: Decoder::new(bytes), shortest: 0 })
    }

    fn note(&mut self, head: u64, body: usize) {
        let head = match head {
            0..24 => 1,
            24..0x100 => 2,
            0x100..0x1_0000 => 3,
            0x1_0000..0x1_0000_0000 => 5,
            _ => 9,
        };
        self.shortest += head + body;
    }
    /// The length of an array, which is at most `max`.
    pub(super) fn array(&mut self, max: usize) -> Result<usize, BadModel> {
        let length = self.decoder.array()?.ok_or(BadModel::NotDeterministic)?;
        self.note(length, 0);
        let fits = usize::try_from(length).ok().filter(|length| *length <= max);
        fits.ok_or_else(|| BadModel::Malformed(format!("an array of {length}, where at most {max} may be")))
    }
    /// An array of exactly this length.
    pub(super) fn array_of(&mut self, length: usize) -> Result<(), BadModel> {
        match self.array(length)? {
            got if got == length => Ok(()),
            got => Err(BadModel::Malformed(format!("an array of {got} instead of {length}"))),
        }
    }
    pub(super) fn text(&mut self) -> Result<&'a str, BadModel> {
        let text = self.decoder.str()?;
        self.note(text.len() as u64, text.len());
        Ok(text)
    }
    pub(super) fn number(&mut self) -> Result<u32, BadModel> {
        let number = self.decoder.u32()?;
        self.note(number.into(), 0);
        Ok(number)
    }
    /// An array of lists of numbers.
    pub(super) fn lists<const N: usize>(&mut self) -> Result<[Packed<'a>; N], BadModel> {
        self.array_of(N)?;
        let mut lists = [Packed(&[]); N];
        for list in &mut lists {
            *list = self.list()?;
        }
        Ok(lists)
    }
    pub(super) fn list(&mut self) -> Result<Packed<'a>, BadModel> {
        let bytes = self.decoder.bytes()?;
        self.note(bytes.len() as u64, bytes.len());
        Ok(Packed(bytes))
    }
    /// Nothing stands behind, and every item was in its shortest form: the file could not have been written otherwise.
    pub(super) fn end(self) -> Result<(), BadModel> {
        let whole = self.decoder.position() == self.decoder.input().len();
        if whole && self.shortest == self.decoder.position() { Ok(()) } else { Err(BadModel::NotDeterministic) }
    }
}

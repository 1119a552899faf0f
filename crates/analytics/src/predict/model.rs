//! A model file: its outputs, and the hash of its bytes.

use super::{
    bands::Bands,
    bytes::{BadModel, Items},
    linear::Linear,
    trees::{TREES_MAX, Tree},
};
use record::{Digest, sha256};

/// Name and version of the format, the first item of a file.
pub(super) const FORMAT: &str = "vitaltrace/model/1";
/// The most outputs of a model.
const OUTPUTS_MAX: usize = 16;
/// The most features of an output.
const FEATURES_MAX: usize = 4_096;

/// A model that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Model {
    pub(super) hash: Digest,
    pub(super) outputs: Vec<Output>,
}

/// One number that a model gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Output {
    pub(super) name: String,
    /// Hours of observation that it was trained on; 0 where that does not matter.
    pub(super) hours: u32,
    features: usize,
    share: f64,
    trees: Vec<Tree>,
    linear: Linear,
    bands: Bands,
}

impl Model {
    /// Reads the model `id` from its bytes. `features` are the features that this program computes for an output of a name.
    pub(super) fn read(
        bytes: &[u8],
        id: &'static str,
        features: impl Fn(&str) -> Option<Vec<String>>,
    ) -> Result<Self, BadModel> {
        let mut items = Items::of(bytes)?;
        items.array_of(3)?;
        let format = items.text()?;
        if format != FORMAT {
            return Err(BadModel::Format(format.chars().take(64).collect()));
        }
        let got = items.text()?;
        if got != id {
            return Err(BadModel::Other { got: got.chars().take(64).collect(), expected: id });
        }
        let mut outputs = Vec::new();
        for _ in 0..items.array(OUTPUTS_MAX)? {
            outputs.push(Output::read(&mut items, id, &features)?);
        }
        items.end()?;
        Ok(Self { hash: sha256(&[bytes]), outputs })
    }
}

impl Output {
    fn read(
        items: &mut Items<'_>,
        id: &'static str,
        features: &impl Fn(&str) -> Option<Vec<String>>,
    ) -> Result<Self, BadModel> {
        items.array_of(7)?;
        let name = items.text()?;
        let expected = features(name).ok_or(BadModel::Outputs(id))?;
        let (name, hours) = (name.to_owned(), items.number()?);
        let count = items.array(FEATURES_MAX)?;
        for place in 0..count.max(expected.len()) {
            let same = place < count && expected.get(place).map(String::as_str) == Some(items.text()?);
            if !same {
                return Err(BadModel::Features { output: name, place });
            }
        }
        let share = match items.list()?.finite()?[..] {
            [share] if (0.0..=1.0).contains(&share) => share,
            _ => return Err(BadModel::Numbers("not one share from 0 to 1")),
        };
        let mut trees = Vec::new();
        for _ in 0..items.array(TREES_MAX)? {
            trees.push(Tree::read(items.lists()?, count)?);
        }
        let linear = Linear::read(items.lists()?, count)?;
        let bands = Bands::read(items.lists()?)?;
        Ok(Self { name, hours, features: count, share, trees, linear, bands })
    }

    /// The score of a row of features: trees in their order, then the linear part.
    pub(super) fn score(&self, row: &[f64]) -> f64 {
        debug_assert_eq!(row.len(), self.features);
        let mut total = 0.0;
        for tree in &self.trees {
            total += tree.value(row);
        }
        self.share * total + (1.0 - self.share) * self.linear.value(row)
    }

    /// The interval that belongs to `value`.
    pub(super) fn interval(&self, value: f64) -> (f64, f64) {
        self.bands.of(value)
    }
}

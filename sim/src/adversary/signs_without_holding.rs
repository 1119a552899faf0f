//! Signs for everything that it hears of, and keeps nothing. Nobody can prevent that; who asks it for the bytes finds out.

use super::Adversary;

/// Whether the member's vault says that it has what it was never given, and throws away what it is given.
pub(super) fn lies(adversary: Adversary) -> bool {
    adversary == Adversary::SignsWithoutHolding
}

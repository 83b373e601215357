//! Chance, all of it from one seed.

/// SplitMix64: a fixed algorithm, so that a seed means the same world everywhere and for ever.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        // Neighbouring seeds are to give worlds that have nothing in common.
        let mut dice = Dice(seed ^ 0x5851_F42D_4C95_7F2D);
        dice.roll();
        Dice(dice.roll())
    }

    /// Any 64 bits.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0, below `sides`; 0 when there are none.
    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        match sides {
            0 => 0,
            _ => self.roll() % sides,
        }
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn one_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    /// An index into something with `len` entries; 0 when it has none.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    /// One of them. There has to be one.
    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.index(among.len())]
    }

    /// Short ones are frequent, long ones happen: from 1 to about `most` milliseconds.
    pub(crate) fn span(&mut self, most: u64) -> u64 {
        let magnitude = self.below(u64::from(u64::BITS - most.max(1).leading_zeros()) + 1);
        self.between(1, most.min(1 << magnitude).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_rolls_for_ever() {
        let mut dice = Dice::new(1);
        let rolls: Vec<u64> = (0..4).map(|_| dice.below(1000)).collect();
        let mut again = Dice::new(1);
        assert_eq!(rolls, (0..4).map(|_| again.below(1000)).collect::<Vec<_>>());
        let mut other = Dice::new(2);
        assert_ne!(rolls, (0..4).map(|_| other.below(1000)).collect::<Vec<_>>());
    }

    #[test]
    fn spans_stay_in_their_bounds() {
        let mut dice = Dice::new(7);
        assert!((0..10_000).all(|_| (1..=600_000).contains(&dice.span(600_000))));
        assert!((0..100).all(|_| (3..=5).contains(&dice.between(3, 5))));
        assert_eq!(dice.below(0), 0);
    }
}
